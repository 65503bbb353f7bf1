"""How an output was made: tables from the plan, and from the attributes of its arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blockwise_predict.geometry.grid import format_lengths, format_sizes
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan, NetworkPlan
from blockwise_predict.report.record import RunRecord

Row = tuple[str, str]
# Channels that are named; of more, the number is told.
MAX_NAMES = 40


@dataclass(frozen=True)
class Table:
    """Rows of a label and a value, under a title."""

    title: str
    rows: list[Row]


def provenance_tables(record: RunRecord) -> list[Table]:
    """What a run was made of and how, as it is recorded."""
    plan = record.plan
    networks = [
        Table("Network" if not plan.ensemble else f"Network {number}", list(_network(each.network)))
        for number, each in enumerate(plan.each, 1)
    ]
    arrays = [
        Table(f"Output {array.name}".strip(), list(_array(array))) for array in plan.output.arrays
    ]
    return [
        *networks,
        Table("Input", list(_input(plan))),
        *arrays,
        Table("Geometry", list(_geometry(plan))),
        Table("Computing", list(_computing(record))),
    ]


def commands(record: RunRecord) -> list[str]:
    """The commands that started the run, the last one last; the same one only once."""
    named = [event.get("command") for event in record.events if event["event"] == "begin"]
    named += [made.get("command") for made in record.made]
    return list(dict.fromkeys(command for command in named if isinstance(command, str)))


def _network(network: NetworkPlan) -> Iterator[Row]:
    yield "checkpoint", network.checkpoint
    if network.requested:
        yield "requested as", network.requested
    if network.run:
        yield "run", network.run
    if network.iteration is not None:
        yield "iteration", f"{network.iteration:,}"
    yield "sha256 of the weights", network.weights_sha256
    yield from sorted(network.record.items())
    yield "channels", _names(network.channel_names)
    if network.activation:
        yield "activation", network.activation
    yield "architecture", json.dumps(network.architecture)
    if network.head:
        yield "head", json.dumps(network.head)


def _input(plan: Plan) -> Iterator[Row]:
    source = plan.input
    channels = f", {source.channels} channels" if source.channels else ""
    yield "array", source.path
    yield "format", f"{source.format}, {source.dtype}{channels}"
    yield "shape", f"{_shape(source.shape)} ({', '.join(source.axis_names)})"
    size = format_sizes(source.grid.voxel_size, source.time_unit)
    yield "voxel size", f"{size} ({source.voxel_size_source})"
    offset = f"{', '.join(source.offset)} {plan.output_grid.units}"
    yield "offset", f"{offset} ({source.offset_source})"
    if source.level is not None:
        yield "level", f"{source.level.path} of {source.level.group}: {source.level.reason}"
    if (stored := source.resampled_from) is not None:
        yield (
            "resampled from",
            f"{_shape(stored.shape)} of {format_lengths(source.stored_voxel_size)} nm, "
            f"{stored.filter}",
        )
    yield "normalisation", f"{plan.normalization} ({plan.normalize or 'rule not recorded'})"
    yield "border", plan.border
    if plan.config.mask is not None:
        yield "mask", plan.config.mask
    yield "sha256 of the metadata", source.metadata_sha256


def _array(array: ArrayPlan) -> Iterator[Row]:
    yield "array", array.path
    yield "channels", _names(array.stored_names)
    if array.classes:
        classes = ", ".join(f"{label} {name}" for label, name in enumerate(array.classes))
        yield "values", f"{array.dtype}, the channel with the largest value: {classes}"
    elif array.decision is not None:
        yield "values", f"{array.dtype}, 1 where the value is at least {array.decision.threshold:g}"
    elif array.value_range is None:
        yield "values", array.dtype
    else:
        low, high = array.value_range
        yield "values", f"{array.dtype} spanning {low:g} to {high:g}"


def _geometry(plan: Plan) -> Iterator[Row]:
    grid, output = plan.output_grid, plan.output
    yield "ROI", f"{grid.world_bounds(output.roi)} {grid.units}"
    yield (
        "shape",
        f"{_shape(output.shape)} voxels of {format_sizes(grid.voxel_size, grid.time_unit)}",
    )
    yield "format", output.format
    shards = f", in shards of {_shape(output.shard_shape)}" if output.shard_shape else ""
    yield "chunks", _shape(output.chunk_shape) + shards
    count, grid_shape = f"{plan.num_blocks:,}", _shape(plan.blocks_per_axis)
    yield "blocks", f"{count} of {_shape(plan.block_shape)} ({grid_shape})"
    yield "tile", f"{_shape(plan.lattice.tile_shape)} input voxels"
    if plan.config.blend:
        yield "overlap", f"{plan.config.overlap:g}, blended: not exact at tile borders"
    if plan.copies > 1:
        yield "augmentation", f"mean of {plan.copies} copies ({plan.config.augment})"


def _computing(record: RunRecord) -> Iterator[Row]:
    precision = record.precision
    yield "precision", "not chosen yet" if precision is None else str(precision)
    stays = [stay for worker in record.workers for stay in worker.stays]
    devices = sorted({stay.device for stay in stays if stay.device})
    if devices:
        yield "devices", "; ".join(devices)
    hosts = sorted({stay.host for stay in stays if stay.host})
    if hosts:
        more = f" and {len(hosts) - MAX_NAMES} more" if len(hosts) > MAX_NAMES else ""
        yield "hosts", ", ".join(hosts[:MAX_NAMES]) + more
    versions: Any = next((made["versions"] for made in record.made if "versions" in made), None)
    if isinstance(versions, dict):
        yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items())
    else:
        yield "versions", f"blockwise-predict {record.plan.version}"
    yield "run directory", str(record.run_dir)


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)}: {', '.join(names[:MAX_NAMES])}{more}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
