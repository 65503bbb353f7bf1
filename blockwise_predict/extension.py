"""Extending the ROI of a run that was begun: what is done stays done.

It can, since the lattice, and with it every voxel's value, does not depend on the ROI.

The steps can be cut off anywhere and done again: `extension.json` in the run directory stands for
as long as they are not complete.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import GeometryError, RunStateError
from blockwise_predict.io import open_output, output_exists, update_attributes
from blockwise_predict.io.create import create_output
from blockwise_predict.io.extend import aside, check_movable, grow_output, move_chunks
from blockwise_predict.output_spec import output_spec
from blockwise_predict.plan import Plan
from blockwise_predict.provenance import ATTRIBUTE, provenance
from blockwise_predict.records import RunDir
from blockwise_predict.records.atomic import write_atomically
from blockwise_predict.records.ledger import State


def extends(new: Plan, old: Plan) -> bool:
    """Whether a plan is of a larger ROI that holds all of another's."""
    return new.output.roi != old.output.roi and bool(new.output.roi.contains(old.output.roi))


def extend_run(
    old: Plan, new: Plan, run_dir: RunDir, command: str, tell: Callable[[str], None]
) -> None:
    """Extend a run and its output from one ROI to another. Raises an InputError if it cannot be."""
    shift = chunk_shift(old, new)
    with closing(run_dir.ledger(old)) as ledger:
        states = carried_states(old, new, ledger.states)
    bounds = [plan.output_grid.world_bounds(plan.output.roi) for plan in (old, new)]
    kept = int(np.isin(states, (State.DONE, State.FILLED)).sum())
    tell(f"Extending {bounds[0]} to {bounds[1]} nm; {kept} blocks of it are done.")
    marker = run_dir.path / "extension.json"
    write_atomically(marker, new.model_dump_json())
    path = new.output.path
    if any(shift):
        _move(new, path, shift, command)
    else:
        grow_output(path, new.output.shape)
    update_attributes(path, {ATTRIBUTE: provenance(new, command)})
    run_dir.replace_ledger(new, states)
    run_dir.failures.keep(())
    run_dir.record(new, command)
    conclude_extension(new, run_dir)


def conclude_extension(plan: Plan, run_dir: RunDir) -> None:
    """Clean up after an extension to a plan that is recorded."""
    for file in run_dir.path.glob("blocks-*.npy"):
        if file != run_dir.ledger_file(plan):
            file.unlink()
    (run_dir.path / "extension.json").unlink(missing_ok=True)


def unfinished_extension(run_dir: RunDir) -> Plan | None:
    """The plan of an extension that was cut off, if there is one."""
    marker = run_dir.path / "extension.json"
    return Plan.model_validate_json(marker.read_text()) if marker.exists() else None


def check_extension(new: Plan, run_dir: RunDir) -> None:
    """Raise RunStateError if another extension than this one was cut off."""
    begun = unfinished_extension(run_dir)
    if begun is not None and begun.output != new.output:
        roi = begun.output_grid.world_bounds(begun.output.roi)
        raise RunStateError(
            f"an extension of {new.output.path} to {roi} nm was cut off. Complete it first, with "
            f'--roi "{roi}"; or start afresh with --overwrite.'
        )


def _move(new: Plan, path: str, shift: tuple[int, ...], command: str) -> None:
    old_array = aside(path)
    if not old_array.exists():
        if open_output(path).shape == new.output.shape:
            return
        Path(path).rename(old_array)
    if not output_exists(path):
        create_output(output_spec(new, command))
    move_chunks(path, shift)


def chunk_shift(old: Plan, new: Plan) -> tuple[int, ...]:
    """Chunks by which the new array begins before the old one. Raises GeometryError."""
    chunk = new.output.chunk_shape
    before = [o - n for o, n in zip(old.output.roi_begin, new.output.roi_begin, strict=True)]
    if any(voxels % size for voxels, size in zip(before, chunk, strict=True)):
        nearest = [
            o - -(-voxels // size) * size
            for o, voxels, size in zip(old.output.roi_begin, before, chunk, strict=True)
        ]
        begin = [float(x) for x in new.output_grid.world(nearest)]
        raise GeometryError(
            f"{new.output.path} can be extended before its begin by whole chunks of {chunk} voxels "
            f"only. Nearest begin of --roi (nm): {begin}."
        )
    if any(before):
        check_movable(new.output.path)
    return tuple(voxels // size for voxels, size in zip(before, chunk, strict=True))


def carried_states(old: Plan, new: Plan, states: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The states (u1, the block grid's shape) of a new plan's blocks, from those of an old plan's.

    A block is done if all its chunks are, each with all the voxels that it has now.
    """
    done = np.isin(states, (State.DONE, State.FILLED)).reshape(old.blocks_per_axis)
    filled = (states == State.FILLED).reshape(old.blocks_per_axis)
    shift = chunk_shift(old, new)
    carried = _by_new_block(done, old, new, shift, outside=False, combine=np.logical_and)
    with_fill = _by_new_block(filled, old, new, shift, outside=False, combine=np.logical_or)
    result = np.where(carried, np.where(with_fill, State.FILLED, State.DONE), State.TODO)
    return result.astype(np.uint8)


def _by_new_block(
    flags: NDArray[np.bool_],
    old: Plan,
    new: Plan,
    shift: tuple[int, ...],
    *,
    outside: bool,
    combine: np.ufunc,
) -> NDArray[np.bool_]:
    """Flags of the old plan's blocks, combined for each of the new plan's blocks, axis by axis."""
    for axis, before in enumerate(shift):
        chunk = new.output.chunk_shape[axis]
        old_size, new_size = old.output.shape[axis], new.output.shape[axis]
        chunks = np.arange(-(-new_size // chunk))
        in_old = chunks - before
        # A chunk that the old end cut, and that has more voxels now, is not the same one.
        whole = np.minimum(chunk, old_size - in_old * chunk) == np.minimum(
            chunk, new_size - chunks * chunk
        )
        there = (in_old >= 0) & (in_old * chunk < old_size) & whole
        block = np.clip(in_old * chunk // old.block_shape[axis], 0, flags.shape[axis] - 1)
        spread = flags.take(block, axis=axis)
        spread[(slice(None),) * axis + (~there,)] = outside
        begins = np.arange(0, len(chunks), new.block_shape[axis] // chunk)
        flags = combine.reduceat(spread, begins, axis=axis)
    return flags
