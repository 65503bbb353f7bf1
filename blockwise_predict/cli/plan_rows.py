"""A plan and its costs as rows of a table."""

from __future__ import annotations

from blockwise_predict.cli.terminal import format_bytes, format_rate, format_seconds
from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.fleet import describe_fleet
from blockwise_predict.plan.estimate import Estimate, estimate
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.room import ledger_bytes, room_problem
from blockwise_predict.run.planned import plan_run
from blockwise_predict.worker.probe import Probe, run_probe

Rows = list[tuple[str, str]]


def show_plan(config: RunConfig, *, probe: bool) -> tuple[Rows, Plan]:
    """Make the plan of a configuration, and the rows that tell it; with what a probe measures."""
    run = plan_run(config)
    made, run_dir = run.plan, run.run_dir
    cost = estimate(made, run.opened.model.shapes)
    if problem := room_problem(made, run_dir):
        made = made.model_copy(update={"warnings": (*made.warnings, problem)})
    rows = [*plan_rows(made), *cost_rows(cost)]
    rows.append(
        ("run directory", f"{run_dir}; the ledger takes {format_bytes(ledger_bytes(made))}")
    )
    rows.append(("workers", describe_fleet(made.config, run_dir)))
    if probe:
        rows += probe_rows(run_probe(made, run.opened, choose_device(config.device)), made, cost)
    return rows, made


def probe_rows(probe: Probe, made: Plan, cost: Estimate) -> Rows:
    """Labels and values of what was measured."""
    workers = made.config.planned_workers
    seconds = probe.job_seconds(cost.flops, workers)
    rate = format_rate(made.output.roi.size / seconds)
    return [
        ("measured precision", str(probe.precision)),
        (
            "measured rate",
            f"{probe.flops_per_second / 1e9:.4g} GFLOP/s on {probe.device}; "
            f"{rate} of output with --workers {workers}",
        ),
        ("measured reading", f"{format_bytes(probe.read_bytes_per_second)}/s"),
        ("measured memory", f"{format_bytes(probe.memory_bytes)} at the peak of a stream"),
        ("whole job", f"{format_seconds(seconds)} of computing"),
    ]


def cost_rows(cost: Estimate) -> Rows:
    """Labels and values of what a plan costs."""
    about = "" if cost.exact else " (from a sample of the blocks)"
    return [
        ("forward passes", f"{cost.passes:,}" if cost.exact else f"{cost.passes:.4g}{about}"),
        ("arithmetic", f"{cost.flops / 1e12:.4g} TFLOP{about}"),
        ("halo overhead", f"{cost.halo_overhead:.2f}x the arithmetic without a halo{about}"),
        ("bytes in", f"{format_bytes(cost.bytes_in)} decoded{about}"),
        ("read amplification", f"{cost.read_amplification:.2f}x{about}"),
        ("bytes out", f"{format_bytes(cost.bytes_out)} before compression"),
    ]


def plan_rows(made: Plan) -> Rows:
    """Labels and values of what a plan decides."""
    grid, output = made.output_grid, made.output
    sha = made.network.weights_sha256[:12]
    return [
        ("checkpoint", f"{made.network.checkpoint} (sha256 {sha}...)"),
        ("input", f"{made.input.path}: {_shape(made.input.shape)} {made.input.dtype}"),
        ("voxel size", f"{' x '.join(made.input.voxel_size)} nm ({made.input.voxel_size_source})"),
        ("offset", f"{', '.join(made.input.offset)} nm ({made.input.offset_source})"),
        ("normalization", str(made.normalization)),
        ("border", made.border),
        ("output", f"{output.path}: {output.format}, {len(made.network.channel_names)} channels"),
        ("channels", ", ".join(made.network.channel_names)),
        ("output values", _values(made)),
        ("ROI", f"{grid.world_bounds(output.roi)} nm = {_shape(output.shape)} voxels"),
        ("chunks", _shape(output.chunk_shape)),
        (
            "blocks",
            f"{made.num_blocks:,} of {_shape(made.block_shape)} ({_shape(made.blocks_per_axis)})",
        ),
        ("tile", f"{_shape(made.lattice.tile_shape)} input voxels, {_streaming(made)}"),
        ("precision", made.precision),
        ("memory", f"about {format_bytes(made.tiling.memory_bytes)} of data per worker"),
    ]


def _streaming(made: Plan) -> str:
    streaming = made.tiling.streaming
    if streaming is None:
        return "each one pass"
    axis = made.input.axis_names[-made.network.dims :][streaming.axes[0]]
    return f"streamed along {axis} in slabs of {streaming.slab}"


def _values(made: Plan) -> str:
    value_range = made.output.value_range
    if value_range is None:
        return made.output.dtype
    return f"{made.output.dtype} spanning {value_range[0]:g}..{value_range[1]:g}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
