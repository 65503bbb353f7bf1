"""Third phase of planning: block and tile, as configured or chosen for the memory that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

import torch
from funlib.geometry import Roi

from blockwise_predict.architectures.trace import peak_elements
from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.memory import available_bytes
from blockwise_predict.engine.precision import likely_dtype
from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_shape
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import build_lattice
from blockwise_predict.plan.model import Tiling
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.region import Region, check_axes
from blockwise_predict.plan.sizing import BLOCKS_PER_WORKER, Limits, Sizing, within

# Share of the memory that is free when the plan is made which the workers' data may take.
MEMORY_SHARE = 0.5
# Memory for a worker on a machine that is not known here: what most GPUs have to spare.
MEMORY_ELSEWHERE = 8 << 30


@dataclass(frozen=True)
class Layout:
    """Block (output voxels) and tilings.

    `tiling` is for the likely precision, `exact_tiling` for float32 where that may be needed and
    takes more memory. `warnings` are for the user.
    """

    block_shape: tuple[int, ...]
    tiling: Tiling
    exact_tiling: Tiling | None
    warnings: tuple[str, ...] = ()


def choose_layout(opened: Opened, region: Region) -> Layout:
    """The sizes of a run. Raises GeometryError and ConfigError for sizes that do not fit."""
    choice = _LayoutChoice(opened, region)
    given = _given_block(opened.config, region.chunk_shape)
    if not opened.model.shapes.equivariant:
        block = given or _even_blocks(opened.config, region)
        return Layout(block, choice.whole_passes(block), None)
    precision = opened.config.precision
    likely = likely_dtype(precision, opened.device)
    sizing = choice.sizing(likely)
    block = given or sizing.block(tuple(region.roi.shape), region.chunk_shape)
    exact = None
    if precision == "auto" and likely != torch.float32:
        exact = choice.streamed(block, choice.sizing(torch.float32))
    tiling = choice.streamed(block, sizing)
    warnings = _memory_warnings(tiling, choice.limits, opened.config)
    return Layout(block, tiling, exact, tuple(warnings))


@dataclass(frozen=True)
class _LayoutChoice:
    """How a region's blocks can be tiled within a worker's limits."""

    opened: Opened
    region: Region

    @cached_property
    def limits(self) -> Limits:
        """What a worker may use."""
        config, device = self.opened.config, self.opened.device
        memory = config.memory
        if memory is None and config.is_elsewhere:
            memory = _memory_elsewhere(config, device)
        elif memory is None:
            sharing = config.planned_workers
            if device.type == "cuda":
                sharing = ceil(config.planned_workers / torch.cuda.device_count())
            memory = int(available_bytes(device) * MEMORY_SHARE / sharing)
        return Limits(memory, config.planned_workers, config.slots, device.type)

    def sizing(self, dtype: torch.dtype) -> Sizing:
        """The choice of sizes for a dtype that the network computes in."""
        opened = self.opened
        return Sizing(opened.model, opened.raw_bytes, opened.value_bytes, dtype, self.limits)

    def whole_passes(self, block: tuple[int, ...]) -> Tiling:
        """One whole pass over each tile of the region's lattice, in float32."""
        lattice, shapes = self.region.lattice, self.opened.model.shapes
        return Tiling(
            lattice=lattice,
            streaming=None,
            memory_bytes=4 * peak_elements(shapes, lattice.tile_shape[-shapes.dims :]),
            cache_bytes=self._cache_bytes(lattice, block),
        )

    def streamed(self, block: tuple[int, ...], sizing: Sizing) -> Tiling:
        """The tile, given or chosen, and how it is streamed."""
        region, shapes = self.region, self.opened.model.shapes
        roi, chunk, lattice = region.roi, region.chunk_shape, region.lattice
        if self.opened.config.tile_shape is None:
            tile = sizing.tile(lattice, tuple(roi.begin), tuple(roi.shape), block, chunk)
            lattice = build_lattice(shapes, tile)
        tile = lattice.tile_shape[-shapes.dims :]
        held = within(block, tuple(roi.shape))
        return Tiling(
            lattice=lattice,
            streaming=sizing.streaming(held, tile, chunk),
            memory_bytes=sizing.bytes(held, tile, chunk),
            cache_bytes=self._cache_bytes(lattice, block),
        )

    def _cache_bytes(self, lattice: Lattice, block: tuple[int, ...]) -> int:
        """Bytes of decoded chunks that are kept for the next block."""
        read = lattice.read_roi(Roi(self.region.roi.begin, block)).size
        return self.limits.cache_bytes(int(read) * self.opened.raw_bytes)


def memory_notes(opened: Opened) -> Iterator[str]:
    """How much memory was counted on, for workers whose machines cannot be asked from here."""
    config = opened.config
    if config.memory is None and config.is_elsewhere:
        size = _memory_elsewhere(config, opened.device) / 2**30
        yield (
            f"Each worker's data may take {size:.3g} GiB: what the workers' machines have is not "
            "known here. --memory says otherwise."
        )


def _memory_elsewhere(config: RunConfig, device: torch.device) -> int:
    """Bytes that a worker on a machine that is not known here may use."""
    if config.job_memory is None:
        return MEMORY_ELSEWHERE
    share = int(config.job_memory * MEMORY_SHARE)
    return share if device.type == "cpu" else min(share, MEMORY_ELSEWHERE)


def _memory_warnings(tiling: Tiling, limits: Limits, config: RunConfig) -> Iterator[str]:
    """Warn that a worker will take more memory than it may."""
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


def _given_block(config: RunConfig, chunk: tuple[int, ...]) -> tuple[int, ...] | None:
    """The block that is given. Raises GeometryError unless it is a multiple of the chunk."""
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


def _even_blocks(config: RunConfig, region: Region) -> tuple[int, ...]:
    """For fixed tiles: blocks of at most three chunks an axis, several for each worker."""
    axes = list(zip(region.roi.shape, region.chunk_shape, strict=True))
    chunks = [ceil(n / c) for n, c in axes]
    counts = [ceil(n / (3 * c)) for n, c in axes]
    while prod(counts) < BLOCKS_PER_WORKER * config.planned_workers and counts != chunks:
        axis = max(range(len(counts)), key=lambda a: chunks[a] / counts[a])
        counts[axis] += 1
    return tuple(
        ceil(n / k) * c for n, k, c in zip(chunks, counts, region.chunk_shape, strict=True)
    )
