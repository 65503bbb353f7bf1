"""Along one axis: the shift under which a network is equivariant, and how far its edges reach.

Two passes over tiles that overlap are compared voxel by voxel: where they agree, the output depends
neither on the tile's position nor on what lies outside of it. Then the input is replaced at both
ends of a tile, by other values and by NaN, which passes through layers that a value may not pass
through (ReLUs that are off, maxima of others): what changes is within reach of the tile's edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.checkpoint.probing.content import random_content
from blockwise_predict.checkpoint.probing.sizes import AxisSizes, aligned
from blockwise_predict.checkpoint.probing.subject import Subject

# Shifts to try, in steps of the valid sizes, and the largest one in voxels.
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_MAX_SHIFT = 64
# Smallest extent across the axis, and the extents along it that are tried one after the other, in
# addition to the smallest valid size.
_ACROSS = 8
_LENGTHS = (192, 384, 768)
# Share of the output in the middle that must be the same; and of tiles that cannot be made longer.
_MIDDLE, _MIDDLE_OF_FIXED = 1 / 2, 1 / 8
# Two contents, since a voxel of one of them may leave everything off that would tell.
_SEEDS = (0, 1)


@dataclass(frozen=True)
class Influence:
    """What was found out along one axis.

    period: smallest shift, in input voxels, under which the network is equivariant.
    low, high: output voxels of a pass, at either end, that depend on the tile's edge.
    inexact: evidence that there is no such shift, or that the edges reach everywhere.
    """

    period: int
    low: int = 0
    high: int = 0
    inexact: str | None = None


def find_influence(subject: Subject, sizes: tuple[AxisSizes, ...], axis: int) -> Influence:
    """Period and margins of a network along one axis."""
    found = Influence(1, inexact="no pass was possible")
    for more in _LENGTHS:
        strip = _Strip(subject, sizes, axis, sizes[axis].smallest + more)
        if not subject.affordable(strip.shape):
            break
        found = strip.influence()
        if found.inexact is None or sizes[axis].fixed:
            break
    return found


class _Strip:
    """Tiles of one shape, long along the axis and small across it."""

    def __init__(
        self, subject: Subject, sizes: tuple[AxisSizes, ...], axis: int, wanted: int
    ) -> None:
        self._subject, self._axis, self._sizes = subject, axis, sizes[axis]
        self._all_sizes = sizes
        shape = [valid_size(along, _ACROSS) for along in sizes]
        shape[axis] = valid_size(sizes[axis], wanted)
        self.shape: Shape = tuple(shape)
        self._length = shape[axis]
        self._scale = sizes[axis].scale
        self._contents: dict[int, torch.Tensor] = {}
        self._outputs: dict[tuple[int, int], torch.Tensor] = {}
        self._out = self._length * self._scale - sizes[axis].context

    def influence(self) -> Influence:
        """The influence as far as tiles of this length show it."""
        if (far := self._far_change()) is not None:
            return Influence(1, inexact=far)
        shift = next((k for k in self._shifts() if self._is_period(k)), None)
        if shift is None:
            return Influence(1, inexact=self._difference_after(next(self._shifts(), 1)))
        smaller = (k for k in range(1, shift) if shift % k == 0)
        period = next((k for k in smaller if self._is_period(k)), shift)
        sizes = aligned(self._sizes, period)
        strip = self if sizes == self._sizes else self._of_sizes(sizes)
        return strip.margins(period)

    def margins(self, period: int) -> Influence:
        """What depends on the edges of a network with a known period."""
        margins = [self._edge_margins(period * n, seed) for n, seed in ((1, 0), (2, 1))]
        margins += [self._reach(period, seed, nan=nan) for seed, nan in ((0, False), (1, True))]
        known = [pair for pair in margins if pair is not None]
        low, high = (max(side) for side in zip(*known, strict=True))
        return Influence(period, low, high)

    def _of_sizes(self, sizes: AxisSizes) -> _Strip:
        """A strip of about this length with other sizes along the axis."""
        every = (*self._all_sizes[: self._axis], sizes, *self._all_sizes[self._axis + 1 :])
        return _Strip(self._subject, every, self._axis, self._length)

    def _shifts(self) -> Iterator[int]:
        step = self._sizes.step
        for number in _STEPS:
            shift = number * step
            if shift <= max(_MAX_SHIFT, step) and 3 * shift * self._scale <= self._out:
                yield shift

    def _after_shift(self, shift: int, seed: int) -> torch.Tensor:
        """Differences between two tiles, the second one `shift` input voxels further on, along
        the part of the output that they share."""
        first, second = self._tile(seed, 0), self._tile(seed, shift)
        skipped = shift * self._scale
        common = self._out - skipped
        return self._largest(
            first.narrow(self._line, skipped, common) - second.narrow(self._line, 0, common)
        )

    def _is_period(self, shift: int) -> bool:
        """Whether the middle of the output stays the same after a shift."""
        return all(self._agreeing(shift, seed) is not None for seed in _SEEDS)

    def _agreeing(self, shift: int, seed: int = 0) -> tuple[int, int] | None:
        """The range of outputs in which two tiles agree; None if they disagree in the middle."""
        skipped = shift * self._scale
        agree = self._after_shift(shift, seed) <= self._subject.tolerance(self._tile(seed, 0))
        found = _run_around(agree, len(agree) // 2)
        middle = _MIDDLE_OF_FIXED if self._sizes.fixed else _MIDDLE
        if found is None or found[1] - found[0] < len(agree) * middle:
            return None
        return found[0] + skipped, found[1] + skipped

    def _edge_margins(self, shift: int, seed: int) -> tuple[int, int] | None:
        """Outputs at either end of a tile that differ from those of a tile further on."""
        if shift * self._scale * 3 > self._out:
            return None
        found = self._agreeing(shift, seed)
        if found is None:
            return None
        return found[0] - shift * self._scale, self._out - found[1]

    def _reach(self, period: int, seed: int, *, nan: bool) -> tuple[int, int] | None:
        """Outputs at either end that what lies beyond the tile's edges would affect.

        They follow from those that a change just inside of the edges affects, since the network is
        equivariant. None if all are affected: then this kind of change proves nothing.
        """
        band = self._band(period)
        if band is None:
            return None
        change = self._after_change(band, seed, nan=nan)
        # A comparison with NaN is false.
        same = change <= self._subject.tolerance(self._tile(seed, 0))
        unaffected = _run_around(same, self._out // 2)
        if unaffected is None:
            return None
        begin, end = unaffected
        inside = band * self._scale
        return max(0, begin - inside), max(0, self._out - end - inside)

    def _band(self, period: int) -> int | None:
        """Input voxels to change at either end: whole periods, and a fifth of the tile at most."""
        fitting = self._out // (5 * self._scale * period)
        return None if fitting == 0 else fitting * period

    def _after_change(self, band: int, seed: int, *, nan: bool) -> torch.Tensor:
        """Differences along the output after the input is replaced at both ends."""
        content = self._content(seed).narrow(self._line, 0, self._length)
        other = torch.full_like(content, torch.nan) if nan else 3 * content.flip(self._line) - 1
        changed = content.clone()
        for begin in (0, self._length - band):
            changed.narrow(self._line, begin, band).copy_(other.narrow(self._line, begin, band))
        return self._largest(self._subject.run(changed) - self._tile(seed, 0))

    def _far_change(self) -> str | None:
        """Evidence that a change at the tile's ends changes the middle of the output."""
        band = max(1, self._length // 8)
        middle = self._out // 2
        change = float(self._after_change(band, 0, nan=False)[middle])
        if change <= self._subject.tolerance(self._tile(0, 0)):
            return None
        distance = max(1, (middle + self._sizes.context // 2) // self._scale - band)
        return (
            f"a change of the input at a tile's edge changes the output {distance} voxels away "
            f"along axis {self._axis} by {change:.2g}: normalisation, pooling or attention over "
            "the whole tile?"
        )

    def _difference_after(self, shift: int) -> str:
        apart = self._after_shift(shift, 0)
        return (
            f"the same input, {shift} voxels further on in the tile along axis {self._axis}, gives "
            f"values that differ by {float(apart[len(apart) // 2]):.2g}: does the network depend "
            "on the position in the tile?"
        )

    @property
    def _line(self) -> int:
        """The axis in tensors, which have channels first."""
        return 1 + self._axis

    def _content(self, seed: int) -> torch.Tensor:
        if seed not in self._contents:
            shape = list(self.shape)
            shape[self._axis] += max([*self._shifts(), 1]) * 2
            self._contents[seed] = random_content(self._subject.channels, tuple(shape), seed)
        return self._contents[seed]

    def _tile(self, seed: int, begin: int) -> torch.Tensor:
        """The output of a tile that begins at a voxel of the content."""
        key = (seed, begin)
        if key not in self._outputs:
            tile = self._content(seed).narrow(self._line, begin, self._length)
            self._outputs[key] = self._subject.run(tile)
        return self._outputs[key]

    def _largest(self, difference: torch.Tensor) -> torch.Tensor:
        """The largest absolute value at each position along the axis."""
        across = [axis for axis in range(difference.dim()) if axis != self._line]
        return difference.abs().amax(across)


def valid_size(sizes: AxisSizes, wanted: int) -> int:
    """The smallest valid size of at least so many voxels, or the only one."""
    if sizes.fixed:
        return sizes.smallest
    return sizes.smallest + max(0, -(-(wanted - sizes.smallest) // sizes.step)) * sizes.step


def _run_around(mask: torch.Tensor, middle: int) -> tuple[int, int] | None:
    """The half-open range of true values around an index; None if it is false."""
    if not bool(mask[middle]):
        return None
    wrong = (~mask).nonzero()[:, 0]
    before, after = wrong[wrong < middle], wrong[wrong > middle]
    begin = int(before[-1]) + 1 if len(before) else 0
    return begin, int(after[0]) if len(after) else len(mask)
