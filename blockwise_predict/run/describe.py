"""What a run will do and cost, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from blockwise_predict.config.quantities import format_bytes, format_rate, format_seconds
from blockwise_predict.fleet import describe_fleet
from blockwise_predict.geometry.grid import format_sizes
from blockwise_predict.plan.costs import estimate_all
from blockwise_predict.plan.estimate import Estimate
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.parts import ArrayPlan, OutputPlan
from blockwise_predict.plan.selection import Selection
from blockwise_predict.records import RunDir
from blockwise_predict.records.room import ledger_bytes
from blockwise_predict.worker.probe import Probe

Rows = list[tuple[str, str]]


def describe_run(plan: Plan, opened: Opened, run_dir: RunDir, selection: Selection | None) -> Rows:
    """Labels and values of what a run will do and cost, with the blocks that are selected."""
    cost = estimate_all(plan, opened.models, selection.computed if selection else None)
    return [
        *_plan_rows(plan, opened),
        *_channel_rows(opened),
        *_selection_rows(plan, selection),
        *_cost_rows(cost, all(each.counts_flops for each in opened.models)),
        ("run directory", f"{run_dir}; the ledger takes {format_bytes(ledger_bytes(plan))}"),
        ("workers", describe_fleet(plan.config, run_dir)),
    ]


def _channel_rows(opened: Opened) -> Rows:
    """Of how many channels some are predicted."""
    model = opened.model
    if model.selected is None:
        return []
    return [("selected", f"{len(model.channel_names)} of {len(model.trained_channels)} channels")]


def describe_probe(probe: Probe, plan: Plan, opened: Opened, selection: Selection | None) -> Rows:
    """Labels and values of a probe's measurements, and what they mean for all selected blocks."""
    workers = plan.config.planned_workers
    cost = estimate_all(plan, opened.models, selection.computed if selection else None)
    seconds = probe.job_seconds(cost.flops, workers)
    rate = format_rate(cost.bytes_out / plan.output.voxel_bytes / seconds)
    speed = f"{probe.flops_per_second / 1e9:.4g} GFLOP/s"
    if not opened.model.counts_flops:
        speed = f"{format_rate(probe.flops_per_second)} of input"
    return [
        ("measured precision", str(probe.precision)),
        (
            "measured rate",
            f"{speed} on {probe.device}; {rate} of output with --workers {workers}",
        ),
        ("measured reading", f"{format_bytes(probe.read_bytes_per_second)}/s"),
        ("measured memory", f"{format_bytes(probe.memory_bytes)} at the peak of a stream"),
        ("whole job", f"{format_seconds(seconds)} of computing"),
    ]


def _cost_rows(cost: Estimate, counts_flops: bool) -> Rows:
    """Labels and values of what a plan costs."""
    note = "" if cost.exact else " (from a sample of the blocks)"
    return [
        ("forward passes", f"{cost.passes:,}" if cost.exact else f"{cost.passes:.4g}{note}"),
        *_arithmetic(cost, counts_flops, note),
        ("bytes in", f"{format_bytes(cost.bytes_in)} decoded{note}"),
        ("read amplification", f"{cost.read_amplification:.2f}x{note}"),
        ("bytes out", f"{format_bytes(cost.bytes_out)} before compression"),
    ]


def _arithmetic(cost: Estimate, counts_flops: bool, note: str) -> Rows:
    if not counts_flops:
        return [
            ("input of passes", f"{cost.flops:.4g} voxels{note}; their arithmetic is unknown"),
            ("halo overhead", f"{cost.halo_overhead:.2f}x the voxels without a halo{note}"),
        ]
    return [
        ("arithmetic", f"{cost.flops / 1e12:.4g} TFLOP{note}"),
        ("halo overhead", f"{cost.halo_overhead:.2f}x the arithmetic without a halo{note}"),
    ]


def _plan_rows(plan: Plan, opened: Opened) -> Rows:
    """Labels and values of what a plan decides."""
    grid, output = plan.output_grid, plan.output
    # The networks of an ensemble predict one after another.
    memory = max(each.tiling.memory_bytes for each in plan.each)
    return [
        *(
            (
                "checkpoint",
                f"{each.network.checkpoint} (sha256 {each.network.weights_sha256[:12]}...)",
            )
            for each in plan.each
        ),
        ("input", f"{plan.input.path}: {_shape(plan.input.shape)} {plan.input.dtype}"),
        ("voxel size", f"{_voxel_size(plan)} ({plan.input.voxel_size_source})"),
        ("offset", f"{', '.join(plan.input.offset)} {grid.units} ({plan.input.offset_source})"),
        *_resampled_rows(plan),
        ("normalization", f"{plan.normalization} ({plan.normalize})"),
        *([("activation", plan.network.activation)] if plan.network.activation else []),
        ("border", plan.border),
        *_array_rows(output),
        ("ROI", f"{grid.world_bounds(output.roi)} {grid.units} = {_shape(output.shape)} voxels"),
        ("chunks", _shape(output.chunk_shape)),
        ("shards", _shards(output)),
        (
            "blocks",
            f"{plan.num_blocks:,} of {_shape(plan.block_shape)} ({_shape(plan.blocks_per_axis)})",
        ),
        ("tile", f"{_shape(plan.lattice.tile_shape)} input voxels, {_streaming(plan)}"),
        *_mean_rows(plan),
        ("precision", _precision(plan)),
        (
            "memory",
            f"about {format_bytes(memory)} of data per worker, and "
            f"{format_bytes(opened.weight_bytes)} of weights",
        ),
    ]


def _resampled_rows(plan: Plan) -> Rows:
    """What the input is resampled from, and how."""
    stored = plan.input.resampled_from
    if stored is None:
        return []
    size = format_sizes(plan.input.stored_voxel_size, plan.input.time_unit)
    return [
        ("resampled from", f"{_shape(stored.shape)} {stored.dtype} of {size}"),
        ("filter", stored.filter),
    ]


def _selection_rows(plan: Plan, selection: Selection | None) -> Rows:
    """How many blocks are computed, if not all are."""
    if selection is None:
        return []
    parts = [f"{selection.computed.sum():,} blocks"]
    if plan.config.rois is not None:
        parts.append(f"{selection.outside.sum():,} are outside the {len(plan.config.rois)} ROIs")
    if plan.config.mask is not None:
        parts.append(f"{selection.masked_out.sum():,} are masked out ({plan.config.mask})")
    return [("to compute", "; ".join(parts))]


def _mean_rows(plan: Plan) -> Rows:
    """Of what predictions the values are means, if they are."""
    parts = []
    if plan.ensemble:
        parts.append(f"{1 + len(plan.ensemble)} checkpoints")
    if plan.copies > 1:
        parts.append(f"{plan.copies} copies of each tile ({plan.config.augment})")
    return [("mean of", ", ".join(parts))] if parts else []


def _precision(plan: Plan) -> str:
    """The precision, and how it will be chosen for several checkpoints."""
    if plan.precision == "auto" and plan.ensemble:
        return "auto: one that is accurate enough for each checkpoint"
    return plan.precision


def _voxel_size(plan: Plan) -> str:
    """The input's voxel size, and the interval of its frames."""
    grid = plan.input.grid
    return format_sizes(grid.voxel_size, grid.time_unit)


def _streaming(plan: Plan) -> str:
    streaming = plan.tiling.streaming
    if plan.config.blend:
        return f"one every {_shape(plan.lattice.stride)} output voxels, blended"
    if streaming is None:
        return "each one pass"
    axis = plan.input.axis_names[-plan.network.dims :][streaming.axes[0]]
    length = plan.lattice.tile_shape[-plan.network.dims :][streaming.axes[0]]
    slabs = "one slab" if streaming.slab >= length else f"slabs of {streaming.slab}"
    return f"streamed along {axis} in {slabs}"


def _array_rows(output: OutputPlan) -> Iterator[tuple[str, str]]:
    """Labels and values of the output's arrays."""
    for array in output.arrays:
        yield "output", f"{array.path}: {output.format}, {len(array.stored_names)} channels"
        yield "channels", ", ".join(array.stored_names)
        yield "output values", _values(array)


def _shards(output: OutputPlan) -> str:
    """The shards, with the bytes of the largest array's."""
    if output.shard_shape is None:
        return "none: each chunk is a file"
    size = format_bytes(prod(output.shard_shape) * output.largest_voxel_bytes)
    return f"{_shape(output.shard_shape)}, {size} before compression"


def _values(array: ArrayPlan) -> str:
    if array.classes:
        classes = ", ".join(f"{label} {name}" for label, name in enumerate(array.classes))
        return f"{array.dtype}, the channel with the largest value: {classes}"
    if array.decision is not None:
        return f"{array.dtype}, 1 where the value is at least {array.decision.threshold:g}, else 0"
    if array.value_range is None:
        return array.dtype
    return f"{array.dtype} spanning {array.value_range[0]:g}..{array.value_range[1]:g}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
