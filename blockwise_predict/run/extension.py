"""Extending the ROI of a run, and keeping the blocks that are done.

That is possible because the lattice, and with it the value of every voxel, does not depend on the
ROI.

An extension may be interrupted at any point and is then repeated: `extension.json` exists in the
run directory until all steps are complete.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from blockwise_predict.errors import GeometryError, RunStateError
from blockwise_predict.geometry.grid import format_length
from blockwise_predict.io import open_output, output_exists, update_attributes
from blockwise_predict.io.create import create_output
from blockwise_predict.io.extend import aside, check_movable, grow_output, move_chunks
from blockwise_predict.io.kvstore import storage_errors
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records import RunDir
from blockwise_predict.records.atomic import damaged, write_atomically
from blockwise_predict.records.ledger import PREDICTED
from blockwise_predict.records.output_spec import array_spec
from blockwise_predict.records.provenance import ATTRIBUTE, provenance
from blockwise_predict.run.pyramid.discard import discard_levels


def extends(new: Plan, old: Plan) -> bool:
    """Whether the ROI of `new` is larger than that of `old` and contains it."""
    return new.output.roi != old.output.roi and bool(new.output.roi.contains(old.output.roi))


def extend_run(
    old: Plan, new: Plan, run_dir: RunDir, *, command: str, tell: Callable[[str], None]
) -> None:
    """Extend a run and its output to a larger ROI. Raises an InputError if that is not possible."""
    shift = block_shift(old, new)
    with closing(run_dir.ledger(old)) as ledger:
        records = carried_records(old, new, ledger.records())
    bounds = [plan.output_grid.world_bounds(plan.output.roi) for plan in (old, new)]
    kept = int(np.isin(records["state"], PREDICTED).sum())
    units = new.output_grid.units
    tell(f"Extending {bounds[0]} to {bounds[1]} {units}; {kept} finished blocks are kept.")
    discard_levels(old, tell)
    marker = run_dir.path / "extension.json"
    write_atomically(marker, new.model_dump_json())
    for array in new.output.arrays:
        if any(shift):
            _move(new, array, shift, command)
        else:
            grow_output(array.path, new.output.shape)
        update_attributes(array.path, {ATTRIBUTE: provenance(new, array, command)})
    run_dir.replace_ledger(new, records)
    run_dir.failures.keep(())
    run_dir.record(new, command)
    conclude_extension(new, run_dir)


def conclude_extension(plan: Plan, run_dir: RunDir) -> None:
    """Remove what an extension needs until its plan is recorded."""
    run_dir.drop_other_ledgers(plan)
    (run_dir.path / "extension.json").unlink(missing_ok=True)


def unfinished_extension(run_dir: RunDir) -> Plan | None:
    """The plan of an extension that was interrupted; None if there is none."""
    try:
        return Plan.model_validate(run_dir.read("extension.json"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        file, why = run_dir.path / "extension.json", str(error.errors()[0]["msg"])
        raise damaged(file, why) from None


def check_extension(new: Plan, run_dir: RunDir) -> None:
    """Raise RunStateError if an extension to another ROI than this one was interrupted."""
    begun = unfinished_extension(run_dir)
    if begun is not None and begun.output != new.output:
        roi = begun.output_grid.world_bounds(begun.output.roi)
        raise RunStateError(
            f"an extension of {new.output.path} to {roi} {new.output_grid.units} was interrupted. "
            f'Complete it first, with --roi "{roi}"; or start afresh with --overwrite.'
        )


def _move(new: Plan, array: ArrayPlan, shift: tuple[int, ...], command: str) -> None:
    path = array.path
    old_array = aside(path)
    if not old_array.exists():
        if open_output(path).shape == new.output.shape:
            return
        with storage_errors(path, "extend"):
            Path(path).rename(old_array)
    if not output_exists(path):
        create_output(array_spec(new, array, command))
    per_block = zip(shift, new.block_shape, new.output.write_shape, strict=True)
    move_chunks(path, tuple(blocks * block // file for blocks, block, file in per_block))


def block_shift(old: Plan, new: Plan) -> tuple[int, ...]:
    """Number of blocks, per axis, by which the new ROI begins before the old one.

    Raises GeometryError if that is not a whole number, and another InputError if the chunks of the
    output cannot be moved.
    """
    begins = list(zip(old.output.roi_begin, new.output.roi_begin, new.block_shape, strict=True))
    if any((before - begin) % block for before, begin, block in begins):
        nearest = [
            before - -(-(before - begin) // block) * block for before, begin, block in begins
        ]
        world = ", ".join(format_length(x) for x in new.output_grid.world(nearest))
        raise GeometryError(
            f"{new.output.path} can be extended at its begin by whole blocks of "
            f"{new.block_shape} voxels only. Nearest begin of --roi: {world} "
            f"{new.output_grid.units}."
        )
    shift = tuple((before - begin) // block for before, begin, block in begins)
    if any(shift):
        for array in new.output.arrays:
            check_movable(array.path)
    return shift


def carried_records(old: Plan, new: Plan, records: NDArray[np.void]) -> NDArray[np.void]:
    """The ledger's records for the new plan's blocks, from those of the old plan.

    A predicted block is kept unless it has more voxels in the new plan.
    """
    keep = np.isin(records["state"], PREDICTED)
    for axis, (size, block) in enumerate(zip(old.output.shape, old.block_shape, strict=True)):
        if size % block and new.output.roi.end[axis] != old.output.roi.end[axis]:
            keep[(slice(None),) * axis + (-1,)] = False
    carried = np.zeros(new.blocks_per_axis, records.dtype)
    place = tuple(
        slice(s, s + count)
        for s, count in zip(block_shift(old, new), old.blocks_per_axis, strict=True)
    )
    carried[place][keep] = records[keep]
    return carried
