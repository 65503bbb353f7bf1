"""Shaders of neuroglancer's image layers: how raw data and channels are drawn.

Each has its controls in the layer's panel: the range of values, the colour, a threshold.
https://github.com/google/neuroglancer/blob/master/src/sliceview/image_layer_rendering.md
"""

from __future__ import annotations

from collections.abc import Sequence

# Of values between the ends of their range, which are 0 and 1.
_THRESHOLD = "#uicontrol float threshold slider(min=0, max=1, step=0.01, default={})"


def grayscale(low: float, high: float) -> str:
    """Raw data between black and white."""
    return f"{_range('raw', low, high)}\nvoid main() {{ emitGrayscale(raw()); }}"


def overlay(low: float, high: float, *, channel: int | None, color: str) -> str:
    """One channel in a colour (`#rrggbb`), the more opaque the higher it is.

    Below the threshold nothing is drawn.
    """
    return "\n".join(
        [
            _THRESHOLD.format(0.5),
            f'#uicontrol vec3 color color(default="{color}")',
            _range("value", low, high, channel),
            "void main() {",
            "  float v = value();",
            "  emitRGBA(vec4(color, v < threshold ? 0.0 : v));",
            "}",
        ]
    )


def chosen_channel(low: float, high: float) -> str:
    """One channel of many; which one is chosen in the panel, beside its range."""
    return "\n".join(
        [
            _THRESHOLD.format(0),
            _range("value", low, high, 0),
            "void main() {",
            "  float v = value();",
            "  emitRGBA(vec4(colormapJet(v), v < threshold ? 0.0 : 1.0));",
            "}",
        ]
    )


def rgb(low: float, high: float, channels: Sequence[int] = (0, 1, 2)) -> str:
    """Three affinities as red, green and blue; values below the threshold as 0.

    Where all are high, which is within objects, what is below is seen.
    """
    names = ("red", "green", "blue")
    return "\n".join(
        [
            _THRESHOLD.format(0),
            *(_range(name, low, high, c) for name, c in zip(names, channels, strict=True)),
            "void main() {",
            "  vec3 v = vec3(red(), green(), blue());",
            "  v *= step(vec3(threshold), v);",
            "  emitRGBA(vec4(v, 1.0 - min(v.r, min(v.g, v.b))));",
            "}",
        ]
    )


def _range(name: str, low: float, high: float, channel: int | None = None) -> str:
    which = "" if channel is None else f", channel={channel}"
    # Of integer types neuroglancer takes no other numbers.
    ends = ", ".join(f"{end:d}" if isinstance(end, int) else f"{end:.9g}" for end in (low, high))
    return f"#uicontrol invlerp {name}(range=[{ends}]{which})"
