"""Predicting a part of a run, to measure the speed of this device and the memory it needs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import prod

import torch
from funlib.geometry import Coordinate, Roi

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.memory import PeakMemory
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.plan.costs import estimate_all
from blockwise_predict.plan.estimate import estimate, pass_flops
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.parts import Tiling
from blockwise_predict.worker.setup import decide_precision, make_predictor


@dataclass(frozen=True)
class Probe:
    """The measurements.

    `memory_bytes` is the peak of a stream's data, not counting the blocks in the slots; `device` is
    the one that computed. `read_bytes_per_second` are of decoded chunks.
    """

    precision: PrecisionChoice
    flops_per_second: float
    read_bytes_per_second: float
    memory_bytes: int
    device: torch.device

    def job_seconds(self, flops: float, workers: int) -> float:
        """Seconds that `workers` need for `flops`; workers on a CPU share it."""
        devices = min(workers, torch.cuda.device_count()) if self.device.type == "cuda" else 1
        return flops / self.flops_per_second / devices


def run_probe(plan: Plan, opened: Opened, device: torch.device) -> Probe:
    """Read and predict a part of a block in the middle of the ROI, on a device of this machine.

    `opened` is what the plan was made from. Nothing is written.
    """
    opened = replace(opened, device=device)
    choice = decide_precision(plan, opened)
    tiling = plan.tiling_for(choice.precision)
    lattice = tiling.lattice
    predictor = make_predictor(plan, opened, choice.precision)
    part = _part(plan, tiling)
    read = predictor.lattice.read_roi(part)
    begin = time.perf_counter()
    raw = read_padded(opened.array, read, plan.border)
    reading = time.perf_counter() - begin
    peak = PeakMemory(device)
    # Twice: the first time includes choosing algorithms and compiling kernels.
    for _ in range(2):
        begin = time.perf_counter()
        for _ in predictor.predict(raw, read, part, predictor.lattice):
            pass
        computing = time.perf_counter() - begin
    flops = sum(pass_flops(opened.model, tuple(tile.read.shape)) for tile in lattice.cover(part))
    total = estimate_all(plan, opened.models).flops
    flops = round(flops * plan.copies * total / estimate(plan, opened.model).flops)
    rate = _decoded_bytes(plan, read) / reading
    return Probe(choice, flops / computing, rate, peak.bytes(), device)


def _decoded_bytes(plan: Plan, read: Roi) -> int:
    """Decoded bytes of the input's chunks with voxels of `read`, a ROI of the input."""
    ranges = [
        range(max(0, begin) // chunk, -(-min(end, size) // chunk))
        for begin, end, size, chunk in zip(
            read.begin, read.end, plan.input.shape, plan.input.chunk_shape, strict=True
        )
    ]
    return prod(map(len, ranges)) * plan.input.chunk_bytes


def _part(plan: Plan, tiling: Tiling) -> Roi:
    """A part of one tile of a block in the middle of the ROI, in output voxels.

    One chunk or shard along the streamed axis, or one slice for a 2-D network over a volume; one
    frame.
    """
    roi = plan.output.roi
    middle = Coordinate(
        begin + count // 2 * size
        for begin, count, size in zip(
            roi.begin, plan.blocks_per_axis, plan.block_shape, strict=True
        )
    )
    kept = next(tiling.lattice.cover(plan.block(middle))).keep
    shape = list(kept.shape)
    slices = len(shape) - plan.network.dims
    shape[:slices] = [1] * slices
    if tiling.streaming is not None and not (slices and plan.network.dims == 2):
        along = slices + tiling.streaming.axes[0]
        shape[along] = min(shape[along], plan.output.write_shape[along])
    return Roi(kept.begin, shape)
