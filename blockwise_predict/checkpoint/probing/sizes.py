"""Which input sizes a network takes, and how its output sizes follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import lcm
from typing import NamedTuple

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.checkpoint.probing.subject import Subject
from blockwise_predict.errors import CheckpointError

# Sizes to try: from each of these upwards, so many consecutive ones.
_STARTS = {2: (64, 128, 192, 256, 512), 3: (32, 64, 128, 192, 256)}
_CONSECUTIVE = 32
# Largest distance between valid sizes.
_MAX_STEP = 64
# Number of further sizes that must be valid too.
_MORE = 3
# Output size for an input size along an axis; None if it is not valid.
_Sizes = Callable[[int], int | None]


class Candidate(NamedTuple):
    """What a network's input may be: number of axes, and of channels."""

    dims: int
    channels: int


@dataclass(frozen=True)
class AxisSizes:
    """Valid sizes `smallest + n * step`; each input voxel more gives `scale` output voxels."""

    smallest: int
    step: int
    scale: int
    context: int
    fixed: bool


def find_valid_shape(subject: Subject, hint: Shape | None) -> Shape | None:
    """An input shape that the network takes: the hint, a cube, or a flat box; None if none is."""
    shapes = _shapes_to_try(subject.dims, subject.takes_symbols)
    for shape in [*([hint] if hint else []), *shapes]:
        if subject.shape_of(shape) is not None:
            return shape
    return None


def _shapes_to_try(dims: int, many: bool) -> Iterator[Shape]:
    # Unless shapes are symbolic, values are computed for each of these.
    for start in _STARTS[dims][: None if many else 3]:
        for size in range(start, start + _CONSECUTIVE):
            yield (size,) * dims
    if dims == 3 and many:
        # A network for thick sections: sizes along z of their own.
        for depth, edge in product(range(16, 48), range(128, 128 + _CONSECUTIVE)):
            yield (depth, edge, edge)


def sizes_along(subject: Subject, base: Shape, axis: int, *, fixed: bool) -> AxisSizes:
    """The sizes along one axis, from a valid shape; `fixed` if the file names that size alone.

    Raises CheckpointError for a network whose output does not grow with its input voxel by voxel.
    """

    def out(size: int) -> int | None:
        if size < 1:
            return None
        return subject.output_size((*base[:axis], size, *base[axis + 1 :]), axis)

    first = base[axis]
    outputs: dict[int, int | None] = {first: out(first)}
    for step in range(1, 1 if fixed else _MAX_STEP + 1):
        for number in range(1, _MORE + 1):
            outputs[first + number * step] = out(first + number * step)
            if outputs[first + number * step] is None:
                break
        else:
            grown_by = [outputs[first + number * step] for number in range(_MORE + 1)]
            if (scale := _scale(grown_by, step)) is not None:
                return _smallest(out, _best_class(out, first, step, scale), step, scale)
    grown = {size: found for size, found in outputs.items() if found is not None}
    if len(grown) > _MORE:
        _refuse(axis, grown)
    size = grown[first]
    scale = max(1, round(size / first))
    if size > first * scale or size * 2 < first:
        _refuse(axis, grown)
    return AxisSizes(first, 1, scale, first * scale - size, fixed=True)


def aligned(sizes: AxisSizes, period: int) -> AxisSizes:
    """The valid sizes at which whole pooling windows fit, where others are valid as well."""
    step = lcm(sizes.step, period)
    if step == sizes.step or sizes.fixed:
        return sizes
    smallest = sizes.smallest
    if sizes.context == 0:
        smallest = -(-smallest // step) * step
    return replace(sizes, smallest=smallest, step=step)


def _scale(outputs: Sequence[int | None], step: int) -> int | None:
    """Output voxels per input voxel, for sizes at equal distances; None if there is no ratio."""
    known = [size for size in outputs if size is not None]
    if len(known) < len(outputs):
        return None
    differences = {b - a for a, b in pairwise(known)}
    difference = differences.pop()
    if differences or difference < step or difference % step:
        return None
    return difference // step


def _best_class(out: _Sizes, first: int, step: int, scale: int) -> int:
    """The size, among the next `step`, with the largest output for its input.

    Pooling that rounds down drops voxels for all others.
    """
    found = [(scale * size - m, size) for size in range(first, first + step) if (m := out(size))]
    return min(found)[1]


def _smallest(out: _Sizes, first: int, step: int, scale: int) -> AxisSizes:
    size = out(first)
    assert size is not None
    context = scale * first - size

    def fits(number: int) -> bool:
        """Whether a size so many steps below the first one is valid, as those above it are."""
        smaller = first - number * step
        return out(smaller) == scale * smaller - context

    below, beyond = 0, (first - 1) // step + 1
    while beyond - below > 1:
        middle = (below + beyond) // 2
        below, beyond = (middle, beyond) if fits(middle) else (below, middle)
    return AxisSizes(first - below * step, step, scale, context, fixed=False)


def _refuse(axis: int, grown: dict[int, int]) -> None:
    listed = ", ".join(f"{size} to {grown[size]}" for size in sorted(grown)[:8])
    if len(set(grown.values())) == 1:
        raise CheckpointError(
            f"the network's output has the same size for every input size along axis {axis} "
            f"({listed}): it gives one answer for a whole image, not one per voxel."
        )
    raise CheckpointError(
        f"the network's output size does not follow its input size voxel by voxel along axis "
        f"{axis} (input to output: {listed}). Networks whose output has fewer voxels than their "
        "input are not supported: add the upsampling to the network."
    )
