"""Predictions that are computed when they are looked at, by the same code as a run's blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.config.shard_fields import NO_SHARDS
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.plan.ensemble import open_models
from blockwise_predict.plan.make import Planned, make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.planned_input import open_planned
from blockwise_predict.view.demand import Abandon, Demand, Key, Values
from blockwise_predict.view.names import unique_names
from blockwise_predict.view.served import ServedImage, ServedLevel, Voxels
from blockwise_predict.worker.block import BlockProcessor
from blockwise_predict.worker.setup import decide_precision, make_predictor

# Voxels of a chunk along each axis, for networks of two and three dimensions. The context makes
# smaller ones not much faster, and larger ones keep those who look waiting for a first picture.
EDGES = {2: (256, 256), 3: (64, 64, 64)}
# A chunk is computed in so many rows; in between it can be abandoned.
ROWS = 4
CACHE_BYTES = 1 << 30
INPUT_CACHE_BYTES = 512 << 20


def plan_on_demand(given: Mapping[str, Any]) -> Planned:
    """The plan of predictions on demand, from options of a run without an output.

    A block is a chunk: of the network's fixed tile if it has one, else of a size that is computed
    soon. Raises an InputError for anything that does not fit.
    """
    config = _config(given, None)
    models = open_models(config)
    made = make_plan(config, models=models)
    if config.block_shape is not None:
        return made
    block = _block(made.plan)
    return make_plan(_config(given, block), models=models)


def _config(given: Mapping[str, Any], block: Sequence[int] | None) -> RunConfig:
    # Nothing is written; a plan has a place for its output.
    options = {**given, "output": "memory.zarr/prediction", "shard_shape": NO_SHARDS}
    if block is not None:
        rows = [size // ROWS if size % ROWS == 0 else size for size in block]
        options |= {"block_shape": tuple(block), "chunk_shape": tuple(rows)}
    elif given.get("block_shape") is not None:
        options["chunk_shape"] = given["block_shape"]
    return load_config(options).absolute()


def _block(plan: Plan) -> tuple[int, ...]:
    dims = plan.network.dims - plan.output_grid.has_time
    axes = plan.lattice.axes
    edges = EDGES[max(2, min(dims, 3))]
    usual = (1,) * (len(axes) - len(edges)) + edges
    return tuple(
        axis.step if getattr(axis, "fixed", False) else edge
        for axis, edge in zip(axes, usual, strict=True)
    )


def open_on_demand(given: Mapping[str, Any]) -> OnDemand:
    """Predictions on demand, from options of a run without an output; see `plan_on_demand`.

    All that computes is on one thread from here on: see `engine.compute_queue`.
    """
    thread = ThreadPoolExecutor(1, "compute")
    return thread.submit(lambda: OnDemand(plan_on_demand(given), thread)).result()


class OnDemand:
    """The predictions of a plan, computed block by block in this process.

    `demand` has the values of all arrays of the output, by the block's place in the grid.
    """

    def __init__(self, made: Planned, thread: ThreadPoolExecutor) -> None:
        self.plan, self._opened = made.plan, made.opened
        # Neighbouring chunks share their context.
        self._array = open_planned(self.plan, cache_bytes=INPUT_CACHE_BYTES)
        self.precision: PrecisionChoice = decide_precision(self.plan, self._opened)
        self._predictor = make_predictor(self.plan, self._opened, self.precision.precision)
        self.demand = Demand(self.compute, CACHE_BYTES, thread)

    @property
    def device(self) -> str:
        """The device that computes."""
        return str(self._opened.device)

    def images(self, taken: Sequence[str]) -> list[ServedImage]:
        """An image for each array of the output, with names that are not yet taken."""
        names = [array.name or "prediction" for array in self.plan.output.arrays]
        return [self._image(n, name) for n, name in enumerate(unique_names(names, taken))]

    def _image(self, number: int, name: str) -> ServedImage:
        plan = self.plan
        array, grid = plan.output.arrays[number], plan.output_grid

        async def read(begin: Sequence[int], _: Sequence[int]) -> Voxels:
            place = tuple(b // size for b, size in zip(begin, plan.block_shape, strict=True))
            return (await self.demand.get(place))[number]

        level = ServedLevel(plan.output.shape, plan.block_shape, grid.voxel_size, read)
        return ServedImage(
            name=name,
            levels=(level,),
            offset=grid.world(plan.output.roi_begin),
            channels=len(array.stored_names),
            dtype=np.dtype(array.dtype),
            axis_names=plan.input.axis_names,
            channel_names=array.stored_names,
            time_unit=grid.time_unit,
        )

    def compute(self, place: Key, abandon: Abandon) -> Values:
        plan = self.plan
        begin = plan.output.roi.begin + Coordinate(place) * Coordinate(plan.block_shape)
        block = plan.block(begin)
        abandon()
        targets = [
            _Target(block, plan.output.roi, array.stored_names, array.dtype, abandon)
            for array in plan.output.arrays
        ]
        BlockProcessor(plan, self._array, targets, self._predictor).process(block)
        return tuple(target.data for target in targets)


class _Target:
    """Takes the rows of one block, and abandons it if nobody waits for it any more."""

    def __init__(
        self, block: Roi, roi: Roi, channels: Sequence[str], dtype: str, abandon: Abandon
    ) -> None:
        self.data: NDArray[Any] = np.zeros((len(channels), *block.shape), dtype)
        self._begin = block.begin - roi.begin
        self._abandon = abandon

    def start_write(self, begin: Sequence[int], data: NDArray[Any]) -> _Written:
        """Keep `data`, `[channels, *spatial]`, at voxel `begin` of the output."""
        self._abandon()
        window = Roi(Coordinate(begin) - self._begin, data.shape[1:]).to_slices()
        self.data[(slice(None), *window)] = data
        return _Written()


class _Written:
    """A write that is complete."""

    def result(self) -> None:
        """Return at once."""
