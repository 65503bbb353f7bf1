"""Hours and cost of a run for some numbers of workers, from what a probe has measured."""

from __future__ import annotations

from math import ceil

from blockwise_predict.config.price import Price
from blockwise_predict.engine.predictor import describe_device
from blockwise_predict.plan.estimate import Estimate
from blockwise_predict.run.overview.collect import Subject
from blockwise_predict.run.overview.document import Duration, Limit, Measured
from blockwise_predict.worker.probe import Probe

WORKERS = (1, 8, 64)


def measured_for(subject: Subject, probe: Probe, price: Price | None = None) -> Measured:
    """What a probe means for all blocks of a planned run that are computed, at a `price`."""
    cost, counted = subject.costs, subject.counts_flops
    seconds = probe.job_seconds(cost.flops, subject.plan.config.planned_workers)
    selection = subject.selection
    blocks = subject.plan.num_blocks if selection is None else int(selection.computed.sum())
    return Measured(
        precision=str(probe.precision),
        device=describe_device(probe.device),
        flops_per_second=probe.flops_per_second if counted else None,
        input_voxels_per_second=None if counted else probe.flops_per_second,
        output_voxels_per_second=cost.bytes_out / subject.plan.output.voxel_bytes / seconds,
        read_bytes_per_second=probe.read_bytes_per_second,
        memory_bytes=probe.memory_bytes,
        seconds=seconds,
        durations=tuple(
            duration(cost, probe, workers, blocks=blocks, price=price) for workers in WORKERS
        ),
        price_per_worker_hour=None if price is None else price.amount,
        currency=(price.currency or None) if price is not None else None,
    )


def duration(
    cost: Estimate, probe: Probe, workers: int, *, blocks: int, price: Price | None
) -> Duration:
    """How long `workers` take for some blocks of about the same cost.

    Each reads while it computes, so it takes as long as the slower of both. No more workers than
    blocks have anything to do, and the last round of blocks may leave some without.
    """
    computing = cost.flops / probe.flops_per_second
    reading = cost.bytes_in / probe.read_bytes_per_second
    rounds = ceil(blocks / workers) / blocks
    seconds = max(computing, reading) * rounds
    shared = max(seconds, reading)
    limit: Limit = "computing" if computing >= reading else "reading"
    if rounds * workers > 1.5:
        limit = "number of blocks"
    hours, shared_hours = seconds * workers / 3600, shared * workers / 3600
    return Duration(
        workers=workers,
        seconds=seconds,
        seconds_shared_reading=shared,
        worker_hours=hours,
        worker_hours_shared_reading=shared_hours,
        cost=None if price is None else price.amount * hours,
        cost_shared_reading=None if price is None else price.amount * shared_hours,
        limited_by=limit,
    )
