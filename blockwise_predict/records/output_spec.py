"""The output arrays that a plan needs, with the record of how they are made."""

from __future__ import annotations

from blockwise_predict.io import OutputSpec
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records.provenance import ATTRIBUTE, provenance


def output_specs(plan: Plan, command: str) -> list[OutputSpec]:
    """The specification of each array of a plan's output; `command` is recorded in attributes."""
    return [array_spec(plan, array, command) for array in plan.output.arrays]


def array_spec(plan: Plan, array: ArrayPlan, command: str) -> OutputSpec:
    """The specification of one of the arrays."""
    output, grid = plan.output, plan.output_grid
    return OutputSpec(
        path=array.path,
        format=output.format,
        shape=output.shape,
        channels=len(array.stored_names),
        dtype=array.dtype,
        chunk_shape=output.chunk_shape,
        shard_shape=output.shard_shape,
        voxel_size=grid.voxel_size,
        offset=grid.world(output.roi_begin),
        input_voxel_size=plan.input.stored_voxel_size,
        axis_names=plan.input.axis_names,
        channel_names=array.stored_names,
        window=array.window,
        time_unit=grid.time_unit,
        attributes={
            ATTRIBUTE: provenance(plan, array, command),
            **({"classes": list(array.classes)} if array.classes else {}),
        },
    )
