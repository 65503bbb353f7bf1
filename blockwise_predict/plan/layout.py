"""The block, and how it is tiled: as configured, or chosen for the memory that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import torch
from funlib.geometry import Roi

from blockwise_predict.architectures.trace import peak_elements
from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.memory import available_bytes
from blockwise_predict.engine.precision import likely_dtype
from blockwise_predict.errors import ConfigError, GeometryError
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import build_lattice
from blockwise_predict.io import InputArray
from blockwise_predict.plan.model import Tiling
from blockwise_predict.plan.sizing import BLOCKS_PER_WORKER, Limits, Sizing, within

# The workers' data may take this part of the memory that is free when the plan is made.
MEMORY_SHARE = 0.5
# What they may take on machines of which nothing is known: what most GPUs have to spare.
MEMORY_ELSEWHERE = 8 << 30


@dataclass(frozen=True)
class Layout:
    """The block (output voxels), its tiling for the likely precision, and for float32 if that
    may be needed and takes more memory; `warnings` for the user.
    """

    block_shape: tuple[int, ...]
    tiling: Tiling
    exact_tiling: Tiling | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volumes:
    """What is laid out: a network's passes over an array, for an output ROI in chunks.

    `lattice` is of the tile that is given, or of any if it is to be chosen.
    """

    config: RunConfig
    model: TrainedModel
    array: InputArray
    lattice: Lattice
    roi: Roi
    chunk: tuple[int, ...]


def choose_layout(volumes: Volumes, device: torch.device) -> Layout:
    """The layout of a run whose workers compute on `device`. Raises GeometryError, ConfigError."""
    config, model = volumes.config, volumes.model
    limits = _limits(config, device)
    block = _given_block(config, volumes.chunk)
    if not model.shapes.equivariant:
        memory = _whole_pass_bytes(model, volumes.lattice)
        block = block or _even_blocks(config, volumes.roi, volumes.chunk)
        cache = _cache_bytes(volumes, volumes.lattice, block, limits)
        tiling = Tiling(
            lattice=volumes.lattice, streaming=None, memory_bytes=memory, cache_bytes=cache
        )
        return Layout(block, tiling, None)
    likely = likely_dtype(config.precision, device)
    sizing = Sizing(model, *_bytes(config, volumes.array), likely, limits)
    block = block or sizing.block(tuple(volumes.roi.shape), volumes.chunk)
    exact = None
    if config.precision == "auto" and likely != torch.float32:
        in_float32 = Sizing(model, *_bytes(config, volumes.array), torch.float32, limits)
        exact = _tiling(volumes, in_float32, block, limits)
    tiling = _tiling(volumes, sizing, block, limits)
    return Layout(block, tiling, exact, tuple(_memory_warnings(tiling, limits, config)))


def _memory_warnings(tiling: Tiling, limits: Limits, config: RunConfig) -> Iterator[str]:
    """That a worker will take more memory than it may."""
    if tiling.memory_bytes <= limits.memory:
        return
    needed, allowed = (f"{size / 2**20:.0f} MiB" for size in (tiling.memory_bytes, limits.memory))
    limit = f"--memory allows {allowed}"
    if config.memory is None:
        limit = f"only {allowed} may be taken of what is free"
    if config.tile_shape or config.block_shape:
        why = "with the sizes that are given. Give smaller ones, or more memory."
    else:
        why = "even in the smallest tiles, which are slow. Give it more memory, or fewer --workers."
    yield f"a worker's data take about {needed}, but {limit}, {why}"


def _tiling(volumes: Volumes, sizing: Sizing, block: tuple[int, ...], limits: Limits) -> Tiling:
    """The tile, given or chosen, and how it is streamed."""
    roi, chunk, lattice = volumes.roi, volumes.chunk, volumes.lattice
    if volumes.config.tile_shape is None:
        tile = sizing.tile(lattice, tuple(roi.begin), tuple(roi.shape), block, chunk)
        lattice = build_lattice(volumes.model.shapes, tile)
    tile = lattice.tile_shape[-volumes.model.shapes.dims :]
    held = within(block, tuple(roi.shape))
    return Tiling(
        lattice=lattice,
        streaming=sizing.streaming(held, tile, chunk),
        memory_bytes=sizing.bytes(held, tile, chunk),
        cache_bytes=_cache_bytes(volumes, lattice, block, limits),
    )


def _cache_bytes(volumes: Volumes, lattice: Lattice, block: tuple[int, ...], limits: Limits) -> int:
    """Bytes of decoded chunks that are kept for the next block."""
    read = lattice.read_roi(Roi(volumes.roi.begin, block)).size
    return limits.cache_bytes(int(read) * _bytes(volumes.config, volumes.array)[0])


def _limits(config: RunConfig, device: torch.device) -> Limits:
    """What a worker may use."""
    memory = config.memory
    if memory is None and config.is_elsewhere:
        memory = _memory_elsewhere(config, device)
    elif memory is None:
        sharing = config.planned_workers
        if device.type == "cuda":
            sharing = ceil(config.planned_workers / torch.cuda.device_count())
        memory = int(available_bytes(device) * MEMORY_SHARE / sharing)
    return Limits(memory, config.planned_workers, config.slots, device.type)


def _memory_elsewhere(config: RunConfig, device: torch.device) -> int:
    """What a worker on a machine that is not known here may use."""
    if config.job_memory is None:
        return MEMORY_ELSEWHERE
    part = int(config.job_memory * MEMORY_SHARE)
    return part if device.type == "cpu" else min(part, MEMORY_ELSEWHERE)


def memory_notes(config: RunConfig, device: torch.device) -> Iterator[str]:
    """How much memory was counted on, where nothing could be asked."""
    if config.memory is None and config.is_elsewhere:
        size = _memory_elsewhere(config, device) / 2**30
        yield (
            f"Each worker's data may take {size:.3g} GiB: what the workers' machines have is not "
            "known here. --memory says otherwise."
        )


def _whole_pass_bytes(model: TrainedModel, lattice: Lattice) -> int:
    """Peak of one whole pass in float32."""
    return 4 * peak_elements(model.shapes, lattice.tile_shape[-model.shapes.dims :])


def _bytes(config: RunConfig, array: InputArray) -> tuple[int, int]:
    """Bytes of an input voxel, all channels, and of an output value."""
    raw = np.dtype(array.dtype).itemsize * (array.channels or 1)
    return raw, np.dtype(config.output_dtype).itemsize


def _given_block(config: RunConfig, chunk: tuple[int, ...]) -> tuple[int, ...] | None:
    if config.block_shape is None:
        return None
    check_axes("--block-shape", config.block_shape, len(chunk))
    if any(b % c for b, c in zip(config.block_shape, chunk, strict=True)):
        nearest = [max(1, round(b / c)) * c for b, c in zip(config.block_shape, chunk, strict=True)]
        raise GeometryError(
            f"--block-shape {format_shape(config.block_shape)} is not a multiple of the output's "
            f"chunks {format_shape(chunk)}, so two workers would write one file. "
            f"Nearest: {format_shape(nearest)}, or set --chunk-shape."
        )
    return config.block_shape


def _even_blocks(config: RunConfig, roi: Roi, chunk: tuple[int, ...]) -> tuple[int, ...]:
    """For fixed tiles: blocks of at most three chunks an axis, some for each worker."""
    counts = [ceil(n / (3 * c)) for n, c in zip(roi.shape, chunk, strict=True)]
    chunks = [ceil(n / c) for n, c in zip(roi.shape, chunk, strict=True)]
    while prod(counts) < BLOCKS_PER_WORKER * config.planned_workers and counts != chunks:
        axis = max(range(len(counts)), key=lambda a: chunks[a] / counts[a])
        counts[axis] += 1
    return tuple(ceil(n / k) * c for n, k, c in zip(chunks, counts, chunk, strict=True))


def check_axes(option: str, shape: tuple[int, ...], dims: int) -> None:
    """Raise ConfigError if an option has not one number for each axis."""
    if len(shape) != dims:
        given = f"{option} {format_shape(shape)} has {len(shape)} axes"
        raise ConfigError(f"{given}, the volume has {dims}.")


def format_shape(shape: Sequence[int]) -> str:
    """As options are written: `64,64,64`."""
    return ",".join(str(size) for size in shape)
