"""Predicting in memory: an array in, an array out, and nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.grid import Lengths, VoxelGrid, format_lengths
from blockwise_predict.io import InputArray, as_input
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.run.progress import ProgressBar
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.scheduling.members import Counts
from blockwise_predict.worker.block import BlockProcessor
from blockwise_predict.worker.setup import decide_precision, make_predictor

# Options that say how to predict; all others are about files, workers and records.
OPTIONS = (
    *("iteration", "architecture", "unsafe_load_pickle", "voxel_size", "offset", "border"),
    *("normalize", "bad_input", "output_dtype", "output_range", "tile_shape", "block_shape"),
    *("precision", "memory", "device"),
)


def predict(
    model: str | Path | TrainedModel,
    array: Any,
    *,
    roi: str | Roi | None = None,
    channels: Sequence[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> Prediction:
    """Predict an array, or a ROI of it, in this process; the values are those of a run.

    model: a checkpoint's path, or what `open_checkpoint` gave.
    array: a path, what `open_array` gave, or an array of numpy, zarr, tensorstore, dask,
        funlib.persistence or xarray, `[z, y, x]` or `[c, z, y, x]` (2-D without z). Where it does
        not know its voxel size and offset, `voxel_size` and `offset` (nm) say them.
    roi: the output ROI in nm, as `--roi` or as a Roi; the whole array by default.
    channels: names of the output channels to return; all by default.
    progress: whether to show a progress bar.
    options: how to predict, as in a configuration file: border, normalize, bad_input, precision,
        device, memory, output_dtype, output_range, tile_shape, block_shape, voxel_size, offset;
        iteration, architecture and unsafe_load_pickle for a model that is given as a path.

    Raises an InputError for anything that does not fit, and BadInputError for input that cannot be
    read.
    """
    opened_model = model if isinstance(model, TrainedModel) else None
    place = {key: options.pop(key) for key in ("voxel_size", "offset") if key in options}
    source = as_input(array, **place)
    config = _config(model, source, roi, options)
    made = make_plan(config, model=opened_model, array=source)
    plan, opened = made.plan, made.opened
    kept = _channel_numbers(plan, channels)
    precision = decide_precision(plan, opened).precision
    target = _Memory(plan, kept)
    predictor = make_predictor(plan, opened, precision)
    processor = BlockProcessor(plan, source, target, predictor)
    with ExitStack() as shown:
        report = shown.enter_context(ProgressBar("Predicting")) if progress else Reporter()
        for warning in plan.warnings:
            report.warn(warning)
        report.begin(plan, 0)
        for number, block in enumerate(plan.blocks()):
            processor.process(block)
            report.progress(Counts(plan.num_blocks, number + 1, 0, 0))
    grid = plan.output_grid
    return Prediction(
        data=target.data,
        voxel_size=grid.voxel_size,
        offset=grid.world(plan.output.roi_begin),
        axis_names=plan.input.axis_names,
        channels=tuple(plan.network.channel_names[number] for number in kept),
        precision=precision,
    )


@dataclass(frozen=True)
class Prediction:
    """A prediction in memory: `data` is `[channel, z, y, x]` (2-D without z).

    `voxel_size` and `offset` are exact, in nm; `precision` is what the network computed in.
    """

    data: NDArray[np.generic]
    voxel_size: Lengths
    offset: Lengths
    axis_names: tuple[str, ...]
    channels: tuple[str, ...]
    precision: str

    @property
    def bounds(self) -> str:
        """The ROI in nm, as `--roi` takes it."""
        return self._grid.world_bounds(Roi((0,) * self._grid.dims, self.data.shape[1:]))

    @property
    def _grid(self) -> VoxelGrid:
        return VoxelGrid(self.voxel_size, self.offset)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return (
            f"<Prediction {' x '.join(map(str, self.data.shape))} {self.data.dtype} "
            f"({', '.join(self.channels)}), {self.bounds} nm, "
            f"voxels of {format_lengths(self.voxel_size)} nm>"
        )


class _Memory:
    """Takes blocks' values like an output on disk; keeps the channels that are wanted."""

    def __init__(self, plan: Plan, kept: list[int]) -> None:
        self.data = np.empty((len(kept), *plan.output.shape), plan.output.dtype)
        self._kept = kept

    def start_write(self, begin: Sequence[int], data: NDArray[Any]) -> _Written:
        """Keep `data`, `[channels, *spatial]`, at voxel `begin`."""
        window = tuple(slice(b, b + n) for b, n in zip(begin, data.shape[1:], strict=True))
        self.data[(slice(None), *window)] = data[self._kept]
        return _Written()


class _Written:
    """A write that is complete."""

    def result(self) -> None:
        """Return at once."""


def _config(
    model: str | Path | TrainedModel, source: InputArray, roi: str | Roi | None, options: Any
) -> RunConfig:
    unknown = [key for key in options if key not in OPTIONS]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)}: not an option of predict in memory. Possible: "
            f"{', '.join(OPTIONS)}."
        )
    if isinstance(roi, Roi):
        roi = f"[{','.join(f'{b}:{e}' for b, e in zip(roi.begin, roi.end, strict=True))}]"
    checkpoint = model.options if isinstance(model, TrainedModel) else {"checkpoint": str(model)}
    given = {**checkpoint, **options, "input": source.path, "output": "memory.zarr/prediction"}
    return load_config({**given, "roi": roi}, command_line=False)


def _channel_numbers(plan: Plan, wanted: Sequence[str] | None) -> list[int]:
    names = plan.network.channel_names
    if wanted is None:
        return list(range(len(names)))
    if missing := [name for name in wanted if name not in names]:
        raise ConfigError(f"channels {', '.join(missing)}: the network gives {', '.join(names)}.")
    return [names.index(name) for name in wanted]
