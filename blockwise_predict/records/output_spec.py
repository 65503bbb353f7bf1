"""The output array that a plan needs, with the record of how it is made."""

from __future__ import annotations

from blockwise_predict.io import OutputSpec
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.provenance import ATTRIBUTE, provenance


def output_spec(plan: Plan, command: str) -> OutputSpec:
    """The specification of a plan's output array; `command` is recorded in its attributes."""
    output, grid = plan.output, plan.output_grid
    return OutputSpec(
        path=output.path,
        format=output.format,
        shape=output.shape,
        channels=len(plan.network.channel_names),
        dtype=output.dtype,
        chunk_shape=output.chunk_shape,
        voxel_size=grid.voxel_size,
        offset=grid.world(output.roi_begin),
        input_voxel_size=plan.input.grid.voxel_size,
        axis_names=plan.input.axis_names,
        channel_names=plan.network.channel_names,
        time_unit=grid.time_unit,
        attributes={ATTRIBUTE: provenance(plan, command)},
    )
