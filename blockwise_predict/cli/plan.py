"""`predict plan`."""

from __future__ import annotations

import click

from blockwise_predict.cli.options import run_options
from blockwise_predict.cli.tables import print_rows
from blockwise_predict.cli.terminal import format_bytes
from blockwise_predict.config import RunConfig
from blockwise_predict.estimate import estimate
from blockwise_predict.plan import Plan, make_plan
from blockwise_predict.run import recorded_plan, run_dir_of


@click.command(short_help="Show what a run would do and cost; writes nothing.")
@run_options
def plan(config: RunConfig) -> None:
    """Show what `predict run` with the same options would do and cost; writes nothing.

    \b
    predict plan --checkpoint dacapo/my_run --input volume.zarr/raw --output out.zarr/affs
    predict plan config.yaml --block-shape 256,256,256
    """
    made, model = make_plan(config, recorded_plan(config))
    for note in made.notes:
        click.echo(note)
    for warning in made.warnings:
        click.echo(f"Warning: {warning}")
    cost = estimate(made, model.shapes)
    about = "" if cost.exact else " (from a sample of the blocks)"
    print_rows(
        [
            *plan_rows(made),
            ("forward passes", f"{cost.passes:,}{about}"),
            ("arithmetic", f"{cost.flops / 1e12:.4g} TFLOP{about}"),
            ("halo overhead", f"{cost.halo_overhead:.2f}x the arithmetic without a halo{about}"),
            ("memory", f"about {format_bytes(cost.memory_per_worker)} of data per worker"),
            ("bytes in", f"{format_bytes(cost.bytes_in)} decoded{about}"),
            ("read amplification", f"{cost.read_amplification:.2f}x{about}"),
            ("bytes out", f"{format_bytes(cost.bytes_out)} before compression"),
            ("run directory", str(run_dir_of(config))),
        ]
    )


def plan_rows(made: Plan) -> list[tuple[str, str]]:
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
        ("tile", f"{_shape(made.lattice.tile_shape)} input voxels, {made.precision}"),
    ]


def _values(made: Plan) -> str:
    value_range = made.output.value_range
    if value_range is None:
        return made.output.dtype
    return f"{made.output.dtype} spanning {value_range[0]:g}..{value_range[1]:g}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
