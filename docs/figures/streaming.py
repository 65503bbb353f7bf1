"""Draws docs/images/streaming.svg: which planes of a streamed U-Net are in memory at one moment.

    python docs/figures/streaming.py

The figure follows from the network's shape arithmetic (docs/engine.md), which
tests/engine/test_streaming.py compares with what the engine carried_over in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blockwise_predict.architectures.sizes import AxisSizes, context_of

# The network of the figure: three levels, factors of 2, two convolutions of 3 per level.
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
COLOURS = {"done": "#e4e4e4", "carried": "#3a6ea5", "waits": "#e08a1e", "pending": "#ffffff"}
LEGEND = {
    "done": "computed, used and freed",
    "carried": "carried over for the next convolution (k - 1 planes)",
    "waits": "skip connection, waiting for the upsampled planes",
    "pending": "not computed yet",
}


@dataclass(frozen=True)
class Map:
    """A feature map.

    Plane i is at input plane `begin + i * stride`, and is available after
    `reach + i // repeat * repeat * stride` input planes. The last `carried_over` are kept.
    """

    name: str
    begin: float
    stride: int
    reach: int
    repeat: int = 1
    carried_over: int = 0

    def available(self, pushed: int) -> int:
        """Number of planes that can be computed from `pushed` input planes."""
        whole = (pushed - self.reach) // (self.stride * self.repeat) + 1
        return max(0, whole) * self.repeat

    def convolved(self, name: str, kernels: Sequence[int]) -> Map:
        """After valid convolutions."""
        lost = context_of(kernels)
        return _moved(self, name, lost, lost / 2 * self.stride)

    def cropped(self, name: str, planes: int) -> Map:
        """Without the first `planes` planes."""
        return _moved(self, name, planes, planes * self.stride)


def _moved(source: Map, name: str, planes: int, begin: float) -> Map:
    """A map whose plane i needs plane i + planes of `source`."""
    if planes % source.repeat:
        # The result's groups of repeated planes would begin inside a group of the source.
        raise ValueError(f"{planes} planes are not whole groups of {source.repeat} repeated ones")
    reach = source.reach + planes * source.stride
    return Map(name, source.begin + begin, source.stride, reach, source.repeat)


def feature_maps(sizes: AxisSizes, level: int = 0, below: Map | None = None) -> list[Map]:
    """Feature maps along the streamed axis, in the order of computation."""
    source = below or Map("input", 0, 1, 1, carried_over=sizes.down[0][0] - 1)
    down = source.convolved(f"level {level}, down", sizes.down[level])
    if level == len(sizes.factors):
        return [*([] if below else [source]), down]
    factor = sizes.factors[level]
    pooled = Map(
        f"level {level + 1}, pooled",
        down.begin,
        down.stride * factor,
        down.reach + (factor - 1) * down.stride,
        carried_over=sizes.down[level + 1][0] - 1,
    )
    deeper = feature_maps(sizes, level + 1, pooled)
    bottom = deeper[-1]
    up = Map(
        f"level {level}, upsampled",
        bottom.begin,
        down.stride,
        bottom.reach,
        factor * bottom.repeat,
        carried_over=sizes.up[level][0] - 1,
    )
    crops = sizes.crops(level)
    output = up.cropped("", crops.up_begin).convolved(f"level {level}, up", sizes.up[level])
    return [*([] if below else [source]), down, pooled, *deeper, up, output]


def waiting(sizes: AxisSizes, level: int, pushed: int) -> int:
    """Planes of a level's skip connection in memory after `pushed` input planes."""
    maps = {each.name: each for each in feature_maps(sizes)}
    crops = sizes.crops(level)
    skip = maps[f"level {level}, down"].available(pushed) - crops.skip_begin
    upsampled = maps[f"level {level}, upsampled"].available(pushed) - crops.up_begin
    used = max(0, upsampled - (sizes.up[level][0] - 1))
    return max(0, skip - min(used, skip))


def draw(sizes: AxisSizes, pushed: int) -> str:
    """The figure as SVG."""
    maps = feature_maps(sizes)
    width, bottom = LEFT + SHOWN * PIXEL + 20, TOP + len(maps) * ROW
    parts = [_text(LEFT, 18, f"planes along the streamed axis, after {pushed} input planes")]
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
    """The state of each plane of a map."""
    available = each.available(pushed)
    kinds = ["done"] * available + ["pending"] * (SHOWN // each.stride)
    level = int(each.name[6]) if each.name.startswith("level") else 0
    if each.name.endswith("down") and level < len(sizes.factors):
        for plane in range(available - waiting(sizes, level, pushed), available):
            kinds[plane] = "waits"
    for plane in range(max(0, available - each.carried_over), available):
        kinds[plane] = "carried"
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
