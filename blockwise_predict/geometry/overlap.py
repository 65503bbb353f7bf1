"""Overlapping passes of one fixed shape, whose outputs are blended.

Along one axis the passes lie at multiples of a step, counted from the input array's own origin,
whatever the ROI and the blocks are. So a voxel is always a mean over the same passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockwise_predict.geometry.axis_tile import AxisTile


@dataclass(frozen=True)
class OverlappingAxis:
    """The overlapping passes along one axis.

    scale: output voxels per input voxel.
    low, high: output voxels lost on either side of a pass.
    step: distance between passes (output voxels).
    input_size: input of every pass (input voxels).
    first: first input voxel of pass 0.
    last: first input voxel of the last pass, where passes must lie inside the volume; it may be
        less than a step after the pass before it.
    """

    scale: int
    low: int
    high: int
    step: int
    input_size: int
    first: int
    last: int | None = None

    @property
    def stride(self) -> int:
        """Output voxels from one pass to the next."""
        return self.step

    @property
    def kept(self) -> int:
        """Output voxels of a pass, all of which are used."""
        return self.output_size(self.input_size)

    def output_size(self, input_size: int) -> int:
        """Output voxels of a pass over `input_size` input voxels."""
        return input_size * self.scale - self.low - self.high

    def halved(self) -> None:
        """None: all passes have one size."""

    def reversed(self) -> OverlappingAxis:
        """The passes of a network that sees this axis reversed."""
        return OverlappingAxis(
            self.scale, self.high, self.low, self.step, self.input_size, self.first, self.last
        )

    def _input_begins(self, begin: int, end: int) -> list[int]:
        """First input voxels of the passes that give some of the output voxels `begin .. end`."""
        zero, advance = self.first * self.scale + self.low, self.step // self.scale
        lowest = (begin - zero - self.kept) // self.step + 1
        highest = -(-(end - zero) // self.step) - 1
        if self.last is None:
            return [self.first + n * advance for n in range(lowest, highest + 1)]
        highest = min(highest, (self.last - self.first) // advance)
        begins = [self.first + n * advance for n in range(max(0, lowest), highest + 1)]
        output = self.last * self.scale + self.low
        if self.last not in begins and begin < output + self.kept and output < end:
            begins.append(self.last)
        return begins

    def num_passes(self, begin: int, end: int) -> int:
        """Number of passes that give some of the output voxels `begin .. end`."""
        return len(self._input_begins(begin, end))

    def nth_pass(self, begin: int, end: int, number: int) -> AxisTile:
        """One of the passes that give some of the output voxels `begin .. end`, from 0."""
        return self._tile(self._input_begins(begin, end)[number], begin, end)

    def cover(self, begin: int, end: int) -> list[AxisTile]:
        """The passes that give some of the output voxels `begin .. end`, in ascending order."""
        return [self._tile(at, begin, end) for at in self._input_begins(begin, end)]

    def _tile(self, input_begin: int, begin: int, end: int) -> AxisTile:
        output = input_begin * self.scale + self.low
        return AxisTile(
            input_begin=input_begin,
            input_size=self.input_size,
            output_begin=output,
            keep_begin=max(begin, output),
            keep_end=min(end, output + self.kept),
        )

    def input_range(self, begin: int, end: int) -> tuple[int, int]:
        """Input voxels (half-open) that the passes over the output voxels `begin .. end` read."""
        begins = self._input_begins(begin, end)
        return begins[0], begins[-1] + self.input_size

    def whole_passes(self, volume: int) -> tuple[int, int]:
        """The output voxels of the passes inside `volume` input voxels, as (begin, end)."""
        last = volume - self.input_size if self.last is None else self.last
        return self.first * self.scale + self.low, (last + self.input_size) * self.scale - self.high
