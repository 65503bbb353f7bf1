"""Compares the engine with the reference implementation.

    python benchmarks/engine.py                      all networks, as a table
    python benchmarks/engine.py --network lsd        one network

The reference runs the same architecture as DaCapo does: eager PyTorch, float32, contiguous memory,
one forward pass at `input_shape + eval_shape_increase`. The engine gets as much memory as the
reference took. Each measurement runs in a process of its own; its peak memory is the peak resident
size less the resident size before. A stream that is not done after `--seconds` is stopped, and the
time of its block is extrapolated (marked ~): the time to its first row of chunks, and the rest at
the pace of the rows after that.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from funlib.geometry import Roi

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig
from blockwise_predict.architectures.trace import flops, halo_overhead
from blockwise_predict.checkpoint import UNetModel, open_checkpoint
from blockwise_predict.engine.memory import PeakMemory
from blockwise_predict.engine.passes import StreamedPass
from blockwise_predict.engine.precision import DTYPES
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.engine.values import Encoding, Normalization, Part
from blockwise_predict.engine.volume_passes import predict_tile
from blockwise_predict.geometry.tiling import build_lattice, smallest_tile
from blockwise_predict.plan.sizing import Limits, Sizing

NORMALIZATION = Normalization(1 / 255)
RESULTS = Path(__file__).parent / "results"
SHARED = Path(os.environ.get("BLOCKWISE_PREDICT_SHARED", Path(__file__).parents[2] / "shared"))
VOLUME = (4000, 4000, 4000)
CHUNK = (64, 64, 64)
COMMON: dict[str, Any] = {"fmaps_in": 1, "num_fmaps": 12, "eval_shape_increase": (72,) * 3}
NETWORKS: dict[str, dict[str, Any] | None] = {
    "flyem_affs": None,
    "lsd": {
        "input_shape": (140,) * 3,
        "fmaps_out": 12,
        "fmap_inc_factor": 5,
        "downsample_factors": [(2,) * 3] * 3,
    },
    "cosem": {
        "input_shape": (216,) * 3,
        "fmaps_out": 14,
        "fmap_inc_factor": 6,
        "downsample_factors": [(2,) * 3, (3,) * 3, (3,) * 3],
        "upsample_factors": [(2,) * 3],
    },
}

NOTES = """GFLOP/s counts the arithmetic of the layers as defined. The engine does less where it
fuses upsampling and convolution, so it can exceed the rate of a matrix product (2048 cubed, in the
same dtype and process). ~: extrapolated from the pace of the rows of chunks after the first. Worst
error: relative to the largest value.
"""


@dataclass
class Measured:
    """One row of the table: the time of a block of `voxels` output voxels, and its costs."""

    network: str
    mode: str
    seconds: float
    extrapolated: bool
    voxels: int
    flops: float
    halo: float
    peak_bytes: int
    error: float
    matmul_gflops: float
    tile: str

    @property
    def rate(self) -> float:
        """Output voxels per second."""
        return self.voxels / self.seconds


def load(name: str) -> UNetModel:
    """A network with real weights, or with random ones that preserve the scale of activations."""
    settings = NETWORKS[name]
    if settings is None:
        model = open_checkpoint(SHARED / "data" / "dacapo" / name)
        assert isinstance(model, UNetModel)
        return model
    config = CNNectomeUNetConfig(name=name, **COMMON, **settings)
    torch.manual_seed(0)
    network = CNNectomeUNet(config)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv3d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    weights = {f"architecture.{key}": value for key, value in network.state_dict().items()}
    channels = tuple(str(number) for number in range(config.fmaps_out))
    return UNetModel(
        path=name, architecture=config, head=None, channel_names=channels, weights=weights
    )


def raw_block(shape: tuple[int, ...]) -> np.ndarray:
    """Random grey values, uint8 as on disk."""
    return np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)


def with_peak(work: Callable[[], Any]) -> tuple[Any, int]:
    """The result of `work`, and its peak resident bytes beyond those before."""
    peak = PeakMemory(torch.device("cpu"))
    return work(), peak.bytes()


def matmul_gflops(dtype: torch.dtype) -> float:
    """The machine's rate of a 2048 cubed matrix product, best of five."""
    a = torch.ones(2048, 2048, dtype=dtype)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 2 * 2048**3 / min(times) / 1e9


def reference(name: str) -> Measured:
    """The reference: eager float32 at DaCapo's evaluation shape."""
    model = load(name)
    shapes, shape = model.shapes, model.usual_input_shape
    module = model.build()
    x = torch.from_numpy(NORMALIZATION.apply(raw_block(shape)))[None]

    def run() -> float:
        begin = time.perf_counter()
        module(x)
        return time.perf_counter() - begin

    with torch.inference_mode():
        smallest = tuple(slice(0, size) for size in shapes.min_input_shape)
        module(x[(slice(None), slice(None), *smallest)])
        seconds, peak = with_peak(run)
        if seconds < 30:
            seconds = min(seconds, run())
    return Measured(
        name,
        "reference",
        seconds,
        False,
        prod(shapes.output_shape(shape)),
        flops(shapes, shape),
        halo_overhead(shapes, shape),
        peak,
        0.0,
        matmul_gflops(torch.float32),
        "x".join(map(str, shape)),
    )


def ours(name: str, precision: str, memory: int, seconds: float) -> Measured:
    """The engine: a block streamed within `memory` bytes, as in `predict run`."""
    model = load(name)
    shapes = model.shapes
    sizing = Sizing(
        model,
        raw_bytes=1,
        output_bytes=len(model.channel_names),
        dtype=DTYPES[precision],
        limits=Limits(memory, 1, 1, "cpu"),
    )
    edge = sizing.block(VOLUME, CHUNK)
    lattice = build_lattice(shapes, smallest_tile(shapes))
    lattice = build_lattice(shapes, sizing.tile(lattice, Roi((0, 0, 0), edge), edge, CHUNK))
    tile = lattice.tile_shape
    streaming = sizing.streaming(edge, tile, CHUNK)
    network = StreamedPass(
        model.build(),
        shapes,
        streaming,
        precision=precision,
        normalization=NORMALIZATION,
        device=torch.device("cpu"),
    )
    error = worst_error(model, network)
    channels = len(model.channel_names)
    encoding = Encoding("uint8", model.output_range or (-1.0, 1.0))
    parts = [Part(channels, encoding)]
    predictor = Predictor(network, lattice, parts=parts, row_shape=CHUNK)
    block = Roi((0, 0, 0), edge)
    read = lattice.read_roi(block)

    def run() -> tuple[float, bool]:
        raw = raw_block(tuple(read.shape))
        times = [time.perf_counter()]
        done = first = 0
        for row in predictor.predict(raw, read, block, lattice):
            times.append(time.perf_counter())
            done += row.roi.size
            if times[-1] - times[0] > seconds and len(times) > 3 and done < block.size:
                pace = (times[-1] - times[1]) / (done - first)
                return times[1] - times[0] + pace * (block.size - first), True
            first = done if len(times) == 2 else first
        return times[-1] - times[0], False

    (taken, extrapolated), peak = with_peak(run)
    return Measured(
        name,
        precision,
        taken,
        extrapolated,
        block.size,
        flops(shapes, tile),
        halo_overhead(shapes, tile),
        peak,
        error,
        matmul_gflops(DTYPES[precision]),
        f"{'x'.join(map(str, tile))} by {streaming.slab}",
    )


def worst_error(model: UNetModel, network: StreamedPass) -> float:
    """Largest difference from the reference on a small tile, relative to its largest value."""
    shape = tuple(
        m + 2 * p for m, p in zip(model.shapes.min_input_shape, model.shapes.period, strict=True)
    )
    raw = raw_block(shape)
    with torch.inference_mode():
        expected = model.build()(torch.from_numpy(NORMALIZATION.apply(raw))[None])[0]
    found = torch.from_numpy(predict_tile(network, raw)).movedim(-1, 0)
    return float((found - expected).abs().max() / expected.abs().max())


def in_process(*arguments: object) -> Measured:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(**json.loads(result.stdout.splitlines()[-1]))


def table(rows: list[Measured]) -> str:
    """All rows as Markdown."""
    lines = [
        "| network | | Mvoxel/s | ratio | halo | GFLOP/s | of matmul | peak | worst error | tile |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        base = next(r for r in rows if r.network == row.network and r.mode == "reference")
        gflops = row.flops / row.seconds / 1e9
        lines.append(
            f"| {row.network} | {row.mode} | {'~' * row.extrapolated}{row.rate / 1e6:.3g} "
            f"| {row.rate / base.rate:.2f} | {row.halo:.2f} | {gflops:.0f} "
            f"| {gflops / row.matmul_gflops:.0%} | {row.peak_bytes / 2**30:.2f} GiB "
            f"| {row.error:.1e} | {row.tile} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Date, CPU, threads and torch version."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    cpu = model[1] if model else platform.machine()
    return f"{date.today()}, {cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}"


@click.command()
@click.option("--network", type=click.Choice(list(NETWORKS)), help="Measure only this network.")
@click.option("--seconds", default=30.0, show_default=True, help="Time limit of a stream.")
@click.option("--one", hidden=True, help="Measure one row: reference, float32, bfloat16.")
@click.option("--memory", type=int, hidden=True)
def main(network: str | None, seconds: float, one: str | None, memory: int | None) -> None:
    """Measure, print a table, and write it to benchmarks/results/engine.md."""
    if one is not None:
        assert network is not None
        exact = one == "reference"
        row = reference(network) if exact else ours(network, one, memory or 0, seconds)
        click.echo(json.dumps(asdict(row)))
        return
    rows: list[Measured] = []
    for name in [network] if network else list(NETWORKS):
        if NETWORKS[name] is None and not SHARED.exists():
            click.echo(f"{name}: skipped, its weights are missing")
            continue
        base = in_process("--network", name, "--one", "reference")
        rows.append(base)
        for precision in ("float32", "bfloat16"):
            arguments = ("--one", precision, "--memory", base.peak_bytes, "--seconds", seconds)
            rows.append(in_process("--network", name, *arguments))
        click.echo(table(rows[-3:]))
    command = f"python benchmarks/engine.py --seconds {seconds:g}"
    text = f"{machine()}; `{command}`\n\n{table(rows)}\n\n{NOTES}"
    if network is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "engine.md").write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
