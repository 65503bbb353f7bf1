"""The rows of an overview's page: labels and values, in human units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blockwise_predict.config.quantities import (
    format_bytes,
    format_hours,
    format_rate,
    format_seconds,
)
from blockwise_predict.run.overview.document import (
    Blocks,
    Cost,
    Duration,
    Input,
    Measured,
    Network,
    Output,
    OutputArray,
    Overview,
    Workers,
)


def network_rows(network: Network) -> Iterator[tuple[str, str]]:
    for checkpoint in network.checkpoints:
        yield "checkpoint", f"{checkpoint.path} (sha256 {checkpoint.sha256[:12]}...)"
    if network.channels != network.trained_channels:
        yield "selected", f"{network.channels} of {network.trained_channels} channels"
    yield "normalization", f"{network.normalization} ({network.normalize})"
    if network.activation:
        yield "activation", network.activation
    yield "border", network.border
    several, copies = len(network.checkpoints), network.copies_per_tile
    means = [f"{several} checkpoints"] if several > 1 else []
    means += [f"{copies} copies of each tile ({network.augment})"] if copies > 1 else []
    if means:
        yield "mean of", ", ".join(means)
    open_for_several = network.precision == "auto" and several > 1
    each = ": one that is accurate enough for each checkpoint" if open_for_several else ""
    yield "precision", network.precision + each


def input_rows(array: Input) -> Iterator[tuple[str, str]]:
    yield "input", f"{array.path}: {times(array.shape_voxels)} {array.dtype}"
    time = "" if array.frame_interval is None else f"t {_number(array.frame_interval)} "
    time += f"{array.time_unit}, " if array.time_unit else ", " if time else ""
    size = f"{time}{_lengths(array.voxel_size_nm)} nm"
    yield "voxel size", f"{size} ({array.voxel_size_source})"
    first = [] if array.first_frame is None else [array.first_frame]
    offset = ", ".join(map(_number, (*first, *array.offset_nm)))
    units = [array.time_unit or "no unit", *["nm"] * len(array.offset_nm)]
    unit = "nm" if array.first_frame is None else f"({', '.join(units)})"
    yield "offset", f"{offset} {unit} ({array.offset_source})"
    if (stored := array.resampled_from) is not None:
        sizes = f"{time}{_lengths(stored.voxel_size_nm)} nm"
        yield "resampled from", f"{times(stored.shape_voxels)} {stored.dtype} of {sizes}"
        yield "filter", stored.filter


def output_rows(output: Output) -> Iterator[tuple[str, str]]:
    for array in output.arrays:
        yield "output", f"{array.path}: {output.format}, {len(array.channels)} channels"
        yield "channels", ", ".join(array.channels)
        yield "output values", _values(array)
    yield "ROI", f"{output.roi} {output.units} = {times(output.shape_voxels)} voxels"
    yield "chunks", times(output.chunk_shape_voxels)
    if output.shard_shape_voxels is None or output.shard_bytes is None:
        yield "shards", "none: each chunk is a file"
    else:
        size = format_bytes(output.shard_bytes)
        yield "shards", f"{times(output.shard_shape_voxels)}, {size} before compression"
    if output.levels:
        smallest = times(output.levels[-1].shape_voxels)
        yield "pyramid", f"{len(output.levels)} levels, down to {smallest} voxels"
    mean = format_bytes(output.bytes / max(1, output.files))
    levels = " with all levels" if output.levels else ""
    yield (
        "files",
        f"up to {output.files:,}{levels}: {format_bytes(output.bytes)} before compression, "
        f"{mean} each on average",
    )
    if (disk := output.disk) is not None:
        free = f"{format_bytes(disk.free_bytes)} free at {disk.path}"
        yield "disk", f"{free} (quotas are not looked at)"
    ledger = format_bytes(output.ledger_bytes)
    yield "run directory", f"{output.run_directory}; the ledger takes {ledger}"


def _values(array: OutputArray) -> str:
    if array.classes:
        classes = ", ".join(f"{label} {name}" for label, name in enumerate(array.classes))
        return f"{array.dtype}, the channel with the largest value: {classes}"
    if array.threshold is not None:
        return f"{array.dtype}, 1 where the value is at least {array.threshold:g}, else 0"
    if array.value_range is None:
        return array.dtype
    return f"{array.dtype} spanning {array.value_range[0]:g}..{array.value_range[1]:g}"


def block_rows(blocks: Blocks, workers: Workers) -> Iterator[tuple[str, str]]:
    shape, grid = times(blocks.shape_voxels), times(blocks.per_axis)
    yield "blocks", f"{blocks.count:,} of {shape} ({grid})"
    if blocks.rois is not None or blocks.mask is not None:
        parts = [f"{blocks.computed:,} blocks"]
        if blocks.rois is not None:
            parts.append(f"{blocks.outside_rois:,} are outside the {blocks.rois} ROIs")
        if blocks.mask is not None:
            parts.append(f"{blocks.masked_out:,} are masked out ({blocks.mask})")
        yield "to compute", "; ".join(parts)
    yield "each reads", f"{times(blocks.read_shape_voxels)} input voxels, context included"
    yield "tile", f"{times(blocks.tile_shape_voxels)} input voxels, {_streaming(blocks)}"
    yield (
        "memory",
        f"about {format_bytes(workers.memory_bytes)} of data per worker, and "
        f"{format_bytes(workers.weights_bytes)} of weights",
    )
    yield "workers", workers.started


def _streaming(blocks: Blocks) -> str:
    if blocks.stride_voxels is not None:
        return f"one every {times(blocks.stride_voxels)} output voxels, blended"
    if blocks.streamed_axis is None:
        return "each one pass"
    slabs = "one slab" if blocks.slab_voxels is None else f"slabs of {blocks.slab_voxels}"
    return f"streamed along {blocks.streamed_axis} in {slabs}"


def cost_rows(cost: Cost) -> Iterator[tuple[str, str]]:
    note = "" if cost.exact else " (from a sample of the blocks)"
    yield "forward passes", f"{cost.passes:,}" if cost.exact else f"{cost.passes:.4g}{note}"
    if cost.flops is not None:
        yield "arithmetic", f"{cost.flops / 1e12:.4g} TFLOP{note}"
        of = "arithmetic"
    else:
        yield (
            "input of passes",
            f"{cost.input_voxels:.4g} voxels{note}; their arithmetic is unknown",
        )
        of = "voxels"
    yield "halo overhead", f"{cost.halo_overhead:.2f}x the {of} without a halo{note}"
    yield "bytes in", f"{format_bytes(cost.bytes_in)} decoded{note}"
    yield "read amplification", f"{cost.read_amplification:.2f}x{note}"
    yield "bytes out", f"{format_bytes(cost.bytes_out)} before compression"


def measured_rows(overview: Overview) -> Iterator[tuple[str, str]]:
    measured = overview.measured
    if measured is None:
        return
    yield "measured precision", measured.precision
    speed = f"{format_rate(measured.input_voxels_per_second or 0)} of input"
    if measured.flops_per_second is not None:
        speed = f"{measured.flops_per_second / 1e9:.4g} GFLOP/s"
    yield "measured rate", f"{speed} on {measured.device}"
    yield "measured reading", f"{format_bytes(measured.read_bytes_per_second)}/s, decoded"
    yield "measured memory", f"{format_bytes(measured.memory_bytes)} at the peak of a stream"
    rate = format_rate(measured.output_voxels_per_second)
    yield (
        "whole job",
        f"{format_seconds(measured.seconds)} of computing with --workers "
        f"{overview.workers.count}, {rate} of output",
    )
    yield (
        "elsewhere",
        "as below, if each worker has such a device to itself. Of two times, the longer one is for "
        "storage that gives all workers together no more than was measured for one",
    )


def duration_lines(measured: Measured) -> Iterator[tuple[str, ...]]:
    """The head and the lines of the table of workers, hours and cost."""
    priced = measured.price_per_worker_hour is not None
    cost = (f"cost ({measured.currency})" if measured.currency else "cost",) if priced else ()
    yield "workers", "time", "worker-hours", *cost, "limited by"
    for row in measured.durations:
        yield (
            f"{row.workers:,}",
            format_hours(row.seconds, row.seconds_shared_reading),
            _range(row.worker_hours, row.worker_hours_shared_reading),
            *((_costs(row),) if priced else ()),
            _limit(row),
        )


def _limit(row: Duration) -> str:
    shared = row.seconds_shared_reading > row.seconds
    return f"{row.limited_by}, or shared storage" if shared else row.limited_by


def _range(low: float, high: float) -> str:
    """One number, or two, to three digits."""
    return " to ".join(dict.fromkeys(map(_three_digits, (low, high))))


def _three_digits(number: float) -> str:
    if number < 0.001:
        return "< 0.001"
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def _costs(row: Duration) -> str:
    """One amount, or two."""
    amounts = (row.cost or 0.0, row.cost_shared_reading or 0.0)
    return " to ".join(dict.fromkeys(f"{amount:,.2f}" for amount in amounts))


def times(shape: Sequence[int]) -> str:
    """`64 x 64 x 64`."""
    return " x ".join(map(str, shape))


def _lengths(lengths: Sequence[float]) -> str:
    return " x ".join(map(_number, lengths))


def _number(value: float) -> str:
    return f"{value:.12g}"
