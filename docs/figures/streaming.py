"""Draws docs/images/streaming.svg: which planes of a streamed U-Net are in memory at one moment.

    python docs/figures/streaming.py

Everything in it follows from the network's shape arithmetic (docs/engine.md), and
tests/engine/test_streaming.py holds that to what the engine really keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blockwise_predict.architectures.sizes import AxisSizes, context_of

# The network of the figure: two levels below the first, factors 2, two convolutions of 3 each.
EXAMPLE = AxisSizes(
    factors=(2, 2),
    down=((3, 3),) * 3,
    up=((3, 3),) * 2,
    same=False,
    upsample_factors=(),
    upsample_kernels=(3, 3),
    head_kernel=1,
)
PUSHED, SHOWN = 76, 84
PIXEL, ROW, LEFT, TOP = 8, 26, 178, 34
COLOURS = {"gone": "#e4e4e4", "kept": "#3a6ea5", "waits": "#e08a1e", "absent": "#ffffff"}
LEGEND = {
    "gone": "computed, used, forgotten",
    "kept": "kept for the next convolution (k - 1 planes)",
    "waits": "skip connection, waits for the longer way",
    "absent": "not there yet",
}


@dataclass(frozen=True)
class Map:
    """A feature map: plane i stands for the input from `begin + i * stride`, and is there after
    `reach + i // repeat * repeat * stride` input planes."""

    name: str
    begin: float
    stride: int
    reach: int
    repeat: int = 1
    keeps: int = 0

    def there(self, pushed: int) -> int:
        """Planes that can have been computed when so many input planes have come."""
        whole = (pushed - self.reach) // (self.stride * self.repeat) + 1
        return max(0, whole) * self.repeat

    def convolved(self, name: str, kernels: Sequence[int]) -> Map:
        """After valid convolutions; of repeated planes, those at hand decide."""
        lost = context_of(kernels)
        return _moved(self, name, lost, lost / 2 * self.stride)

    def cropped(self, name: str, planes: int) -> Map:
        """Without the first planes."""
        return _moved(self, name, planes, planes * self.stride)


def _moved(source: Map, name: str, planes: int, begin: float) -> Map:
    """A map whose plane i needs plane i + planes of `source`."""
    if planes % source.repeat:
        # Its planes come in groups that begin within a group of the source.
        raise ValueError("only for whole groups of repeated planes")
    reach = source.reach + planes * source.stride
    return Map(name, source.begin + begin, source.stride, reach, source.repeat)


def feature_maps(sizes: AxisSizes, level: int = 0, below: Map | None = None) -> list[Map]:
    """Feature maps along the streamed axis in the order in which they are computed."""
    source = below or Map("input", 0, 1, 1, keeps=sizes.down[0][0] - 1)
    left = source.convolved(f"level {level}, left", sizes.down[level])
    if level == len(sizes.factors):
        return [*([] if below else [source]), left]
    factor = sizes.factors[level]
    pooled = Map(
        f"level {level + 1}, pooled",
        left.begin,
        left.stride * factor,
        left.reach + (factor - 1) * left.stride,
        keeps=sizes.down[level + 1][0] - 1,
    )
    deeper = feature_maps(sizes, level + 1, pooled)
    bottom = deeper[-1]
    up = Map(
        f"level {level}, upsampled",
        bottom.begin,
        left.stride,
        bottom.reach,
        factor * bottom.repeat,
        keeps=sizes.up[level][0] - 1,
    )
    crops = sizes.crops(level)
    right = up.cropped("", crops.up_begin).convolved(f"level {level}, right", sizes.up[level])
    return [*([] if below else [source]), left, pooled, *deeper, up, right]


def waiting(sizes: AxisSizes, level: int, pushed: int) -> int:
    """Planes of a level's skip connection in memory when so many input planes have come."""
    maps = {each.name: each for each in feature_maps(sizes)}
    crops = sizes.crops(level)
    left = maps[f"level {level}, left"].there(pushed) - crops.skip_begin
    joined = maps[f"level {level}, upsampled"].there(pushed) - crops.up_begin
    used = max(0, joined - (sizes.up[level][0] - 1))
    return max(0, left - min(used, left))


def draw(sizes: AxisSizes, pushed: int) -> str:
    """The figure as SVG."""
    maps = feature_maps(sizes)
    width, bottom = LEFT + SHOWN * PIXEL + 20, TOP + len(maps) * ROW
    parts = [_text(LEFT, 18, f"planes along the streamed axis; {pushed} of the input have come")]
    for number, each in enumerate(maps):
        y = TOP + number * ROW
        parts.append(_text(LEFT - 10, y + 14, each.name, "end"))
        for plane, kind in enumerate(_kinds(sizes, each, pushed)):
            x = each.begin + plane * each.stride
            if x + each.stride <= SHOWN:
                parts.append(_box(LEFT + x * PIXEL, y, each.stride * PIXEL, kind))
    front = LEFT + pushed * PIXEL
    parts.append(
        f'<line x1="{front}" x2="{front}" y1="{TOP - 8}" y2="{bottom}" stroke="#b00" '
        'stroke-dasharray="4 3"/>'
    )
    for number, (kind, text) in enumerate(LEGEND.items()):
        y = bottom + 14 + number * 22
        parts += [_box(LEFT, y, 18, kind), _text(LEFT + 28, y + 14, text)]
    height = bottom + 14 + len(LEGEND) * 22 + 8
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _kinds(sizes: AxisSizes, each: Map, pushed: int) -> list[str]:
    """What has become of each plane of a map."""
    there = each.there(pushed)
    kinds = ["gone"] * there + ["absent"] * (SHOWN // each.stride)
    level = int(each.name[6]) if each.name.startswith("level") else 0
    if each.name.endswith("left") and level < len(sizes.factors):
        for plane in range(there - waiting(sizes, level, pushed), there):
            kinds[plane] = "waits"
    for plane in range(max(0, there - each.keeps), there):
        kinds[plane] = "kept"
    return kinds


def _box(x: float, y: float, width: float, kind: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="18" fill="{COLOURS[kind]}" '
        'stroke="#999" stroke-width="0.5"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="#222">{text}</text>'


if __name__ == "__main__":
    target = Path(__file__).parents[1] / "images" / "streaming.svg"
    target.write_text(draw(EXAMPLE, PUSHED))
    print(f"wrote {target}")
