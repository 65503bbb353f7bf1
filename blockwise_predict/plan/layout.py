"""Third phase of planning: block and tile shapes, configured or chosen for the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod

import torch
from funlib.geometry import Roi

from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.quantities import format_bytes
from blockwise_predict.config.shard_fields import NO_SHARDS
from blockwise_predict.engine.memory import available_bytes
from blockwise_predict.engine.precision import likely_dtype
from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_shape
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import build_lattice
from blockwise_predict.plan.augmentation import (
    Copy,
    augmented_copies,
    check_turned_tiles,
    largest_reach,
)
from blockwise_predict.plan.blending import blended_block, block_bytes
from blockwise_predict.plan.blocks import crop_block
from blockwise_predict.plan.caching import with_larger_cache
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.parts import Tiling
from blockwise_predict.plan.region import Region, check_axes, nearest_multiple
from blockwise_predict.plan.shards import row_axes, shard_shapes, shards_are_open
from blockwise_predict.plan.sizing import BLOCKS_PER_WORKER, SUM_BYTES, Limits, Sizing
from blockwise_predict.plan.whole import WholePasses

# Share of the memory that is free at planning time which the data of all workers may take.
MEMORY_SHARE = 0.5
# Memory for the data of a worker on an unknown machine (bytes): most GPUs have as much.
MEMORY_ELSEWHERE = 8 << 30


@dataclass(frozen=True)
class Layout:
    """The shapes of blocks and shards (output voxels), and the tilings.

    `tiling` is for the likely precision; `exact_tiling` is for float32, if a run may need that and
    it takes more memory. `warnings` are for the user.
    """

    block_shape: tuple[int, ...]
    tiling: Tiling
    exact_tiling: Tiling | None
    warnings: tuple[str, ...] = ()
    shard_shape: tuple[int, ...] | None = None


def choose_layout(opened: Opened, region: Region) -> Layout:
    """Choose block shape and tilings. Raises GeometryError or ConfigError if sizes do not fit."""
    choice = _LayoutChoice(opened, region)
    layout = choice.with_larger_cache(_choose(choice))
    tile = layout.tiling.lattice.tile_shape[-opened.model.shapes.dims :]
    check_turned_tiles(opened, choice.copies, tile)
    return layout


def _choose(choice: _LayoutChoice) -> Layout:
    opened, region = choice.opened, choice.region
    given = _given_block(opened.config, region)
    if opened.config.blend:
        return choice.blended(given)
    if opened.model.streamed_shapes is None:
        block = given or _even_blocks(opened.config, region)
        tiling = choice.whole_passes(block)
        warnings = _memory_warnings(tiling, choice.limits, opened)
        return Layout(block, tiling, None, tuple(warnings), choice.shards(block, tiling))
    precision = opened.config.precision
    likely = likely_dtype(precision, opened.device)
    sizing = choice.sizing(likely)
    block = given or sizing.block(tuple(region.roi.shape), region.write_shape)
    shards = choice.streamed_shards(block, sizing)
    written = shards or region.chunk_shape
    exact = None
    if precision == "auto" and likely != torch.float32:
        exact = choice.streamed(block, choice.sizing(torch.float32), written)
    tiling = choice.streamed(block, sizing, written)
    warnings = _memory_warnings(tiling, choice.limits, opened)
    return Layout(block, tiling, exact, tuple(warnings), shards)


@dataclass(frozen=True)
class _LayoutChoice:
    """Tilings of a region's blocks within a worker's limits."""

    opened: Opened
    region: Region

    @cached_property
    def limits(self) -> Limits:
        """The limits of a worker."""
        config, device = self.opened.config, self.opened.device
        memory = config.memory
        if memory is None and config.is_elsewhere:
            memory = _memory_elsewhere(config, device)
        elif memory is None:
            sharing = config.planned_workers
            if device.type == "cuda":
                sharing = ceil(config.planned_workers / torch.cuda.device_count())
            memory = int(available_bytes(device) * MEMORY_SHARE / sharing)
        data = max(0, memory - self.opened.weight_bytes)
        return Limits(data, config.planned_workers, config.slots, device.type)

    @cached_property
    def copies(self) -> list[Copy]:
        """The transformed copies of each tile."""
        return augmented_copies(self.opened)

    def sizing(self, dtype: torch.dtype) -> Sizing:
        """The choice of sizes, if the network computes in `dtype`."""
        opened, given = self.opened, self.opened.config.tile_shape
        return Sizing(
            opened.model,
            raw_bytes=opened.raw_bytes,
            output_bytes=opened.output_bytes,
            dtype=dtype,
            limits=self.limits,
            frames=None if given is None else given[0],
            is_mean=opened.config.is_mean,
            reach=largest_reach(opened, self.copies),
        )

    def whole_passes(self, block: tuple[int, ...]) -> Tiling:
        """The tiling for one whole pass per tile, in float32.

        The tile is the configured or fixed one, or chosen for the block if any valid one will do.
        """
        opened, lattice = self.opened, self.region.lattice
        passes = WholePasses(opened, self.limits, self.region.roi, block)
        sums = prod(crop_block(block, tuple(self.region.roi.shape))) * self._sum_bytes
        if opened.model.shapes.equivariant and opened.config.tile_shape is None:
            lattice = passes.lattice(lattice)
        return Tiling(
            lattice=lattice,
            streaming=None,
            memory_bytes=passes.bytes(lattice) + sums,
            cache_bytes=self._cache_bytes(lattice, block),
        )

    def blended(self, given: tuple[int, ...] | None) -> Layout:
        """The layout of overlapping tiles, with the block that is `given`, or chosen."""
        opened, region, lattice = self.opened, self.region, self.region.lattice
        roi, memory = tuple(region.roi.shape), self.limits.memory
        passes = 4 * opened.model.peak_elements(lattice.tile_shape[-opened.model.shapes.dims :])
        block = given or blended_block(opened, lattice, roi, region.write_shape, memory - passes)
        tiling = Tiling(
            lattice=lattice,
            streaming=None,
            memory_bytes=passes + block_bytes(opened, lattice, crop_block(block, roi)),
            cache_bytes=self._cache_bytes(lattice, block),
        )
        warnings = _memory_warnings(tiling, self.limits, opened)
        return Layout(block, tiling, None, tuple(warnings), self.shards(block, tiling))

    def streamed(self, block: tuple[int, ...], sizing: Sizing, written: tuple[int, ...]) -> Tiling:
        """The tiling with streamed passes; the tile is the configured one, or chosen.

        `written` is the shape of a shard or chunk, of which rows consist.
        """
        region, shapes = self.region, self.opened.model.shapes
        roi, lattice = region.roi, region.lattice
        if self.opened.config.tile_shape is None:
            tile = sizing.tile(lattice, roi, block, written)
            lattice = build_lattice(shapes, tile)
        tile = lattice.tile_shape[-shapes.dims :]
        cropped = crop_block(block, tuple(roi.shape))
        return Tiling(
            lattice=lattice,
            streaming=sizing.streaming(cropped, tile, written),
            memory_bytes=sizing.bytes(cropped, tile, written),
            cache_bytes=self._cache_bytes(lattice, block),
        )

    def shards(self, block: tuple[int, ...], tiling: Tiling) -> tuple[int, ...] | None:
        """The shards of an output whose whole blocks are in memory, with all their values."""
        return self._shards(block, tiling, lambda _: True)

    def streamed_shards(self, block: tuple[int, ...], sizing: Sizing) -> tuple[int, ...] | None:
        """The shards of an output with streamed passes, whose rows the memory has to hold."""
        tiling = self.streamed(block, sizing, self.region.write_shape)
        along = row_axes(self.opened, tiling.streaming)[-1]
        plane = prod(block) // block[along] * self.opened.output_bytes

        def fit(shape: tuple[int, ...]) -> bool:
            found = self.streamed(block, sizing, shape)
            same = (found.lattice, found.streaming) == (tiling.lattice, tiling.streaming)
            # A row is compressed as a whole, in the worst case to about its own size.
            return same and found.memory_bytes + shape[along] * plane <= self.limits.memory

        return self._shards(block, tiling, fit)

    def _shards(
        self, block: tuple[int, ...], tiling: Tiling, fit: Callable[[tuple[int, ...]], bool]
    ) -> tuple[int, ...] | None:
        """The shards that are given, or else the largest that `fit`; None for plain chunks."""
        opened, region = self.opened, self.region
        if not shards_are_open(opened.config, region):
            return region.shard_shape
        *thicker, thin = shard_shapes(opened, region, block, row_axes(opened, tiling.streaming))
        shape = next(filter(fit, thicker), thin)
        return None if shape == region.chunk_shape else shape

    @property
    def _sum_bytes(self) -> int:
        """Bytes of a voxel's sums, if passes are averaged."""
        channels = len(self.opened.model.channel_names)
        return SUM_BYTES * channels if self.opened.config.is_mean else 0

    def with_larger_cache(self, layout: Layout) -> Layout:
        """The same with all decoded chunks kept for which the passes leave memory."""
        read = self._read_bytes(layout.tiling.lattice, layout.block_shape)
        found = [tiling for tiling in (layout.tiling, layout.exact_tiling) if tiling is not None]
        first, *exact = with_larger_cache(found, self.limits.memory, read)
        return replace(layout, tiling=first, exact_tiling=exact[0] if exact else None)

    def _read_bytes(self, lattice: Lattice, block: tuple[int, ...]) -> int:
        """Bytes of the input that a block reads."""
        read = lattice.read_roi(Roi(self.region.roi.begin, block)).size
        return int(read) * self.opened.raw_bytes

    def _cache_bytes(self, lattice: Lattice, block: tuple[int, ...]) -> int:
        """Bytes of decoded input chunks to keep for later blocks, at least."""
        return self.limits.cache_bytes(self._read_bytes(lattice, block))


def memory_notes(opened: Opened) -> Iterator[str]:
    """Note the memory that was assumed for workers on machines that are not known here."""
    config = opened.config
    if config.memory is None and config.is_elsewhere:
        size = _memory_elsewhere(config, opened.device) / 2**30
        yield (
            f"Each worker's data may take {size:.3g} GiB: the memory of the workers' machines is "
            "not known here. Set it with --memory."
        )


def _memory_elsewhere(config: RunConfig, device: torch.device) -> int:
    """Bytes that the data of a worker on an unknown machine may take."""
    if config.job_memory is None:
        return MEMORY_ELSEWHERE
    share = int(config.job_memory * MEMORY_SHARE)
    return share if device.type == "cpu" else min(share, MEMORY_ELSEWHERE)


def _memory_warnings(tiling: Tiling, limits: Limits, opened: Opened) -> Iterator[str]:
    """Warn that a worker will take more memory than it may."""
    config = opened.config
    if tiling.memory_bytes <= limits.memory:
        return
    sizes = (tiling.memory_bytes, limits.memory, opened.weight_bytes)
    needed, allowed, weights = map(format_bytes, sizes)
    limit = f"--memory allows {allowed} beside the weights ({weights})"
    if config.memory is None:
        limit = f"only {allowed} of the free memory are available beside the weights ({weights})"
    if config.tile_shape or config.block_shape or config.shard_shape not in (None, NO_SHARDS):
        advice = "with the sizes that are given. Give smaller ones, or more memory."
    else:
        advice = "even in the smallest tiles, which are slow. Use more memory, or fewer --workers."
    yield f"a worker's data take about {needed}, but {limit}, {advice}"


def _given_block(config: RunConfig, region: Region) -> tuple[int, ...] | None:
    """The configured block shape. Raises GeometryError unless it is a multiple of the files'."""
    block, unit = config.block_shape, region.write_shape
    if block is None:
        return None
    check_axes("--block-shape", block, len(unit))
    # Along an axis that one block covers, no other one can write the same file.
    sizes = zip(block, unit, region.roi.shape, strict=True)
    block = tuple(ceil(n / u) * u if b >= n and b % u else b for b, u, n in sizes)
    if any(b % u for b, u in zip(block, unit, strict=True)):
        kind = "chunk" if region.shard_shape is None else "shard"
        raise GeometryError(
            f"--block-shape {format_shape(block)} is not a multiple of the output's {kind}s "
            f"{format_shape(unit)}, so two workers would write the same file. "
            f"Nearest: {format_shape(nearest_multiple(block, unit))}, or set --{kind}-shape."
        )
    return block


def _even_blocks(config: RunConfig, region: Region) -> tuple[int, ...]:
    """The block shape for fixed tiles: up to three chunks per axis, several blocks per worker."""
    axes = list(zip(region.roi.shape, region.write_shape, strict=True))
    chunks = [ceil(n / c) for n, c in axes]
    counts = [ceil(n / (3 * c)) for n, c in axes]
    while prod(counts) < BLOCKS_PER_WORKER * config.planned_workers and counts != chunks:
        axis = max(range(len(counts)), key=lambda a: chunks[a] / counts[a])
        counts[axis] += 1
    sizes = zip(chunks, counts, region.write_shape, strict=True)
    return tuple(ceil(n / k) * c for n, k, c in sizes)
