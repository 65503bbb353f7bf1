"""The levels of an array that are to be made, and their arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from blockwise_predict.geometry.grid import format_sizes
from blockwise_predict.io import OutputArray, open_output
from blockwise_predict.io.downsampled import (
    Level,
    Method,
    check_levels,
    create_level,
    delete_levels,
    level_path,
    levels_of,
    list_level,
    listed_levels,
)
from blockwise_predict.io.kvstore import name_of
from blockwise_predict.plan.pyramid import PlannedLevel
from blockwise_predict.run.pyramid.scheme import Base, LevelPlan, plan_levels

# Blocks are single chunks or shards, or several of them, with at least this size (bytes): handing
# one out takes as long as computing some 10,000 voxels.
BLOCK_BYTES = 2 << 20


@dataclass(frozen=True)
class Step:
    """A level of an output to make. `listed`: it is complete, and viewers see it."""

    output: OutputArray
    level: Level
    scheme: LevelPlan
    listed: bool

    @property
    def path(self) -> str:
        """Where the level is."""
        return level_path(self.output.path, self.level.number)

    def list(self) -> None:
        """Let viewers see the level, which is complete."""
        list_level(self.output, self.level, self.scheme.total_factors)

    @property
    def description(self) -> str:
        """The level in words."""
        shape = " x ".join(map(str, self.scheme.shape))
        sizes = format_sizes(self.scheme.voxel_size, self.output.axes.time_unit)
        return f"Level {self.path}: {shape} voxels of {sizes}."


def steps_of(
    path: str, method: Method, count: int | None, tell: Callable[[str], None]
) -> list[Step]:
    """The levels of an array that are to be there; `count` of them, by default until one fits into
    a chunk.

    Levels made by another method are deleted. Raises ArrayError if levels cannot be made there.
    """
    output = open_output(path)
    check_levels(output.path, output.format)
    frames = output.axes.channel
    base = Base(output.shape, output.voxel_size, output.chunk_shape, frames)
    schemes = plan_levels(base, count)
    levels = [
        Level(name_of(output.path), number, method, scheme.factors)
        for number, scheme in enumerate(schemes, 1)
    ]
    found = [level for _, level in levels_of(output.path)]
    if any(old != new for old, new in zip(found, levels, strict=False)):
        tell(f"The levels of {output.path} are replaced: they were made by {found[0].method}")
        delete_levels(output.path)
    listed = [level for _, level in listed_levels(output.path)]
    return [
        Step(output, level, scheme, level in listed)
        for level, scheme in zip(levels, schemes, strict=True)
    ]


def prepare_steps(steps: Sequence[Step]) -> list[PlannedLevel]:
    """The plans of levels, whose arrays are created where there are none."""
    there = _arrays_of(steps)
    for step in steps:
        if step.path not in there:
            scheme = step.scheme
            create_level(step.output, step.level, shape=scheme.shape, voxel_size=scheme.voxel_size)
    created = _arrays_of(steps)
    return [_planned(step, created) for step in steps]


def _arrays_of(steps: Sequence[Step]) -> dict[str, Level]:
    """The arrays of levels that exist, complete or not, by their paths."""
    outputs = {step.output.path for step in steps}
    return {path: level for output in outputs for path, level in levels_of(output)}


def _planned(step: Step, arrays: Mapping[str, Level]) -> PlannedLevel:
    array, output, number = open_output(step.path), step.output.path, step.level.number
    return PlannedLevel(
        path=array.path,
        below=output if number == 1 else level_path(output, number - 1),
        build=arrays[array.path].build,
        method=step.level.method,
        factors=step.level.factors,
        shape=array.shape,
        block_shape=block_shape(array),
    )


def block_shape(array: OutputArray) -> tuple[int, ...]:
    """The shape of a level's blocks: whole chunks or shards, so that no two blocks share one."""
    block = list(array.write_shape)
    voxel_bytes = array.channels * array.dtype.itemsize
    while prod(block) * voxel_bytes < BLOCK_BYTES:
        growing = [a for a, n in enumerate(array.shape) if block[a] < n]
        if not growing:
            break
        block[min(growing, key=lambda axis: block[axis])] *= 2
    return tuple(block)
