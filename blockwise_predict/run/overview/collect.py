"""Making the document of what a run will do and cost, from the plan and what it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from blockwise_predict.config.version import __version__
from blockwise_predict.fleet import describe_fleet
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.plan.costs import estimate_all
from blockwise_predict.plan.estimate import Estimate
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.plan.selection import Selection
from blockwise_predict.records import RunDir
from blockwise_predict.records.room import ledger_bytes
from blockwise_predict.run.overview.document import (
    Blocks,
    Checkpoint,
    Cost,
    Input,
    Measured,
    Network,
    Output,
    OutputArray,
    Overview,
    Resampled,
    Workers,
)
from blockwise_predict.run.overview.geometry import read_shape
from blockwise_predict.run.overview.writing import Writing


@dataclass(frozen=True)
class Subject:
    """A planned run, of which an overview is made: see `PlannedRun`."""

    plan: Plan
    opened: Opened
    run_dir: RunDir
    selection: Selection | None
    writing: Writing

    @property
    def costs(self) -> Estimate:
        """The costs of the blocks that are computed."""
        computed = None if self.selection is None else self.selection.computed
        return estimate_all(self.plan, self.opened.models, computed)

    @property
    def counts_flops(self) -> bool:
        """Whether the arithmetic of all networks is known."""
        return all(model.counts_flops for model in self.opened.models)


def make_overview(
    subject: Subject,
    *,
    notes: Iterable[str],
    warnings: Iterable[str],
    measured: Measured | None = None,
) -> Overview:
    """The overview of a planned run, with what a probe has `measured`."""
    return Overview(
        version=__version__,
        network=_network(subject.plan, subject.opened),
        input=_input(subject.plan),
        output=_output(subject),
        blocks=_blocks(subject.plan, subject.selection),
        workers=_workers(subject),
        cost=_cost(subject),
        measured=measured,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _network(plan: Plan, opened: Opened) -> Network:
    networks = [each.network for each in plan.each]
    return Network(
        checkpoints=tuple(
            Checkpoint(path=network.checkpoint, sha256=network.weights_sha256)
            for network in networks
        ),
        channels=len(opened.model.channel_names),
        trained_channels=len(opened.model.trained_channels),
        normalize=str(plan.normalize),
        normalization=str(plan.normalization),
        activation=plan.network.activation,
        border=plan.border,
        precision=plan.precision,
        augment=plan.config.augment,
        copies_per_tile=plan.copies,
    )


def _input(plan: Plan) -> Input:
    source, grid = plan.input, plan.input.grid
    frames = int(grid.has_time)
    resampled = None
    if (stored := source.resampled_from) is not None:
        resampled = Resampled(
            shape_voxels=stored.shape,
            dtype=stored.dtype,
            voxel_size_nm=_numbers(source.stored_voxel_size[frames:]),
            filter=stored.filter,
        )
    return Input(
        path=source.path,
        format=source.format,
        dtype=source.dtype,
        shape_voxels=source.shape,
        axes=source.axis_names,
        voxel_size_nm=_numbers(grid.voxel_size[frames:]),
        voxel_size_source=source.voxel_size_source,
        offset_nm=_numbers(grid.offset[frames:]),
        offset_source=source.offset_source,
        frame_interval=float(grid.voxel_size[0]) if frames else None,
        first_frame=float(grid.offset[0]) if frames else None,
        time_unit=grid.time_unit,
        resampled_from=resampled,
    )


def _numbers(lengths: Lengths) -> tuple[float, ...]:
    return tuple(float(length) for length in lengths)


def _output(subject: Subject) -> Output:
    plan, writing = subject.plan, subject.writing
    output, grid = plan.output, plan.output_grid
    shard = output.shard_shape
    return Output(
        path=output.path,
        format=output.format,
        arrays=tuple(map(_array, output.arrays)),
        roi=grid.world_bounds(output.roi),
        units=grid.units,
        shape_voxels=output.shape,
        chunk_shape_voxels=output.chunk_shape,
        shard_shape_voxels=shard,
        shard_bytes=None if shard is None else prod(shard) * output.largest_voxel_bytes,
        levels=writing.levels,
        files=writing.files,
        bytes=writing.bytes,
        disk=writing.disk,
        run_directory=str(subject.run_dir),
        ledger_bytes=ledger_bytes(plan),
    )


def _array(array: ArrayPlan) -> OutputArray:
    decision = array.decision
    return OutputArray(
        path=array.path,
        name=array.name,
        dtype=array.dtype,
        channels=array.stored_names,
        value_range=array.value_range,
        threshold=None if decision is None or array.classes else decision.threshold,
        classes=array.classes,
    )


def _blocks(plan: Plan, selection: Selection | None) -> Blocks:
    axis = _streamed_axis(plan)
    count, rois = plan.num_blocks, plan.config.rois
    return Blocks(
        count=count,
        per_axis=plan.blocks_per_axis,
        shape_voxels=plan.block_shape,
        read_shape_voxels=read_shape(plan),
        computed=count if selection is None else int(selection.computed.sum()),
        outside_rois=0 if selection is None else int(selection.outside.sum()),
        masked_out=0 if selection is None else int(selection.masked_out.sum()),
        rois=None if rois is None else len(rois),
        mask=plan.config.mask,
        tile_shape_voxels=plan.lattice.tile_shape,
        streamed_axis=None if axis is None else plan.input.axis_names[axis],
        slab_voxels=_slab(plan, axis),
        stride_voxels=plan.lattice.stride if plan.config.blend else None,
    )


def _streamed_axis(plan: Plan) -> int | None:
    """The axis of the volume along which tiles are streamed."""
    streaming = plan.tiling.streaming
    if streaming is None or plan.config.blend:
        return None
    return len(plan.block_shape) - plan.network.dims + streaming.axes[0]


def _slab(plan: Plan, axis: int | None) -> int | None:
    """The slabs in which tiles are streamed along an axis; None if each is one slab."""
    streaming = plan.tiling.streaming
    if streaming is None or axis is None or streaming.slab >= plan.lattice.tile_shape[axis]:
        return None
    return streaming.slab


def _workers(subject: Subject) -> Workers:
    config = subject.plan.config
    return Workers(
        count=config.workers,
        started=describe_fleet(config, subject.run_dir),
        # The networks of an ensemble predict one after another.
        memory_bytes=max(each.tiling.memory_bytes for each in subject.plan.each),
        weights_bytes=subject.opened.weight_bytes,
    )


def _cost(subject: Subject) -> Cost:
    cost, counted = subject.costs, subject.counts_flops
    return Cost(
        passes=cost.passes,
        flops=cost.flops if counted else None,
        input_voxels=None if counted else cost.flops,
        halo_overhead=cost.halo_overhead,
        bytes_in=cost.bytes_in,
        bytes_out=cost.bytes_out,
        read_amplification=cost.read_amplification,
        exact=cost.exact,
    )
