"""What a run will do and cost, as rows of a table."""

from __future__ import annotations

from blockwise_predict.config.quantities import format_bytes, format_rate, format_seconds
from blockwise_predict.fleet import describe_fleet
from blockwise_predict.plan.estimate import Estimate, estimate
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened
from blockwise_predict.records import RunDir
from blockwise_predict.records.room import ledger_bytes
from blockwise_predict.worker.probe import Probe

Rows = list[tuple[str, str]]


def describe_run(plan: Plan, opened: Opened, run_dir: RunDir) -> Rows:
    """Labels and values of what a run will do and cost."""
    return [
        *_plan_rows(plan),
        *_cost_rows(estimate(plan, opened.model), opened.model.counts_flops),
        ("run directory", f"{run_dir}; the ledger takes {format_bytes(ledger_bytes(plan))}"),
        ("workers", describe_fleet(plan.config, run_dir)),
    ]


def describe_probe(probe: Probe, plan: Plan, opened: Opened) -> Rows:
    """Labels and values of a probe's measurements, and what they mean for the whole run."""
    workers = plan.config.planned_workers
    seconds = probe.job_seconds(estimate(plan, opened.model).flops, workers)
    rate = format_rate(plan.output.roi.size / seconds)
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


def _plan_rows(plan: Plan) -> Rows:
    """Labels and values of what a plan decides."""
    grid, output = plan.output_grid, plan.output
    sha = plan.network.weights_sha256[:12]
    return [
        ("checkpoint", f"{plan.network.checkpoint} (sha256 {sha}...)"),
        ("input", f"{plan.input.path}: {_shape(plan.input.shape)} {plan.input.dtype}"),
        ("voxel size", f"{' x '.join(plan.input.voxel_size)} nm ({plan.input.voxel_size_source})"),
        ("offset", f"{', '.join(plan.input.offset)} nm ({plan.input.offset_source})"),
        ("normalization", str(plan.normalization)),
        ("border", plan.border),
        ("output", f"{output.path}: {output.format}, {len(plan.network.channel_names)} channels"),
        ("channels", ", ".join(plan.network.channel_names)),
        ("output values", _values(plan)),
        ("ROI", f"{grid.world_bounds(output.roi)} nm = {_shape(output.shape)} voxels"),
        ("chunks", _shape(output.chunk_shape)),
        (
            "blocks",
            f"{plan.num_blocks:,} of {_shape(plan.block_shape)} ({_shape(plan.blocks_per_axis)})",
        ),
        ("tile", f"{_shape(plan.lattice.tile_shape)} input voxels, {_streaming(plan)}"),
        ("precision", plan.precision),
        ("memory", f"about {format_bytes(plan.tiling.memory_bytes)} of data per worker"),
    ]


def _streaming(plan: Plan) -> str:
    streaming = plan.tiling.streaming
    if streaming is None:
        return "each one pass"
    axis = plan.input.axis_names[-plan.network.dims :][streaming.axes[0]]
    return f"streamed along {axis} in slabs of {streaming.slab}"


def _values(plan: Plan) -> str:
    value_range = plan.output.value_range
    if value_range is None:
        return plan.output.dtype
    return f"{plan.output.dtype} spanning {value_range[0]:g}..{value_range[1]:g}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
