"""A prediction on disk: its array, place and provenance, and the states of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.errors import RunStateError
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import OutputArray, read_attributes
from blockwise_predict.io import open_output as open_array
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.find import find_run
from blockwise_predict.records.ledger import State
from blockwise_predict.records.provenance import ATTRIBUTE

if TYPE_CHECKING:
    import zarr
    from funlib.persistence import Array


@dataclass(frozen=True)
class Block:
    """A block of a run.

    voxels: its ROI in output voxels, from where the input array begins.
    roi_nm: the same ROI in nm, as text; along time in the unit of the data.
    state: `todo`, `done`, `filled` (done, with the fill value for unreadable input), `skipped`
        (left out, since its input could not be read), `masked` (left out by the mask),
        `outside` (left out, since no ROI touches it), `empty` (left out, since its input is nothing
        but the fill value) or `failed`.
    error: why it failed, if it did.
    """

    number: int
    voxels: Roi
    roi_nm: str
    state: str
    error: str = ""


class Blocks(Sequence[Block]):
    """The blocks of a run in C order, with their recorded states at the time of `Output.blocks`."""

    def __init__(self, plan: Plan, states: NDArray[np.uint8], errors: dict[int, str]) -> None:
        self._plan = plan
        self._states = states.reshape(-1)
        self._errors = errors

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self._block(number) for number in range(*index.indices(len(self)))]
        return self._block(range(len(self))[index])

    def _block(self, number: int) -> Block:
        voxels = self._plan.numbered_block(number)
        state = State(self._states[number])
        error = self._errors.get(number, "") if state == State.FAILED else ""
        bounds = self._plan.output_grid.world_bounds(voxels)
        return Block(number, voxels, bounds, state.name.lower(), error)

    @property
    def counts(self) -> dict[str, int]:
        """Number of blocks in each state."""
        return {state.name.lower(): int((self._states == state).sum()) for state in State}

    @property
    def grid(self) -> NDArray[np.str_]:
        """The state of each block, on the grid of blocks `[z, y, x]`."""
        names = np.array([state.name.lower() for state in State])
        return names[self._states].reshape(self._plan.blocks_per_axis)

    def in_state(self, state: str) -> Iterator[Block]:
        """The blocks in a state, for example `failed`."""
        for number in np.flatnonzero(self._states == State[state.upper()]):
            yield self._block(int(number))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"<{len(self)} blocks: {counts}>"


class Output:
    """The output of a run."""

    def __init__(self, array: OutputArray, run_dir: str | None, *, trust_run_dir: bool) -> None:
        self._array = array
        self._run_dir = run_dir
        self._trust_run_dir = trust_run_dir

    @property
    def path(self) -> str:
        """Path or URL of the array."""
        return self._array.path

    @property
    def array(self) -> Array:
        """The values as a funlib.persistence.Array, `[c, z, y, x]`."""
        return self._array.array

    @property
    def zarr(self) -> zarr.Array:
        """The values as zarr-python opens them, read-only. Raises ArrayError for N5."""
        return self._array.zarr

    @property
    def roi(self) -> Roi:
        """The ROI in nm, along time in the unit of the data. Raises ArrayError if it does not begin
        and end at whole numbers.
        """
        return self._array.roi

    @property
    def voxel_size(self) -> Lengths:
        """Voxel size in nm, exact."""
        return self._array.voxel_size

    @property
    def offset(self) -> Lengths:
        """Begin corner in nm, exact."""
        return self._array.offset

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self._array.channel_names

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was made: checkpoint, input, options, versions, and whether it is `complete`."""
        provenance: dict[str, Any] = read_attributes(self._array.path)[ATTRIBUTE]
        return provenance

    @cached_property
    def _run(self) -> tuple[RunDir, Plan]:
        return find_run(self._array.path, self._run_dir, trust_run_dir=self._trust_run_dir)

    @property
    def blocks(self) -> Blocks:
        """The blocks and their states now. Raises RunStateError if the records are missing."""
        run_dir, plan = self._run
        states = run_dir.block_states(plan)
        errors = {block: failure.error for block, failure in run_dir.failures.read().items()}
        return Blocks(plan, states, errors)

    def __repr__(self) -> str:
        return f"{self._array!r}\n  made by      {self.provenance.get('command')}"


def open_output(
    path: str | Path, *, run_dir: str | None = None, trust_run_dir: bool = False
) -> Output:
    """Open the output of a run, also while the run is still going on.

    run_dir: the run's records, if they are not beside the container; only `blocks` needs them.

    Raises ArrayError if there is no array, and RunStateError if no run made it.
    """
    if not isinstance(read_attributes(path).get(ATTRIBUTE), dict):
        raise RunStateError(
            f"{path} was not made by predict run: its attributes have no {ATTRIBUTE!r}."
        )
    array = open_array(str(path))
    return Output(array, run_dir, trust_run_dir=trust_run_dir)
