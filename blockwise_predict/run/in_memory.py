"""Predicting in memory: takes an array, returns an array, writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.config.model import PREDICTION_KEYS, RunConfig, load_config
from blockwise_predict.config.shard_fields import NO_SHARDS
from blockwise_predict.errors import ConfigError
from blockwise_predict.io import BlockSource, InputArray, Placement, open_in_memory, path_of
from blockwise_predict.io.statement import CHANNEL, SPACE, TIME, Axes
from blockwise_predict.io.storage import Storage
from blockwise_predict.io.volume import Volume
from blockwise_predict.plan.make import Planned, make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records.status import Counts
from blockwise_predict.run.models import Models, given_models
from blockwise_predict.run.progress import ProgressBar
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import what_filled_blocks_hold
from blockwise_predict.worker.block import BlockProcessor
from blockwise_predict.worker.setup import decide_precision, make_predictor


def predict(
    model: Models,
    array: Any,
    *,
    roi: str | Roi | None = None,
    voxel_size: str | Sequence[object] | None = None,
    offset: str | Sequence[object] | None = None,
    axis_names: Sequence[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> Prediction:
    """Predict an array, or a ROI of it, in this process.

    Values equal those of a run up to rounding in the network's precision, and bit for bit with the
    same block and tile shapes.

    model: a checkpoint's path, or the result of `open_checkpoint`; a list of them for the mean of
        their predictions.
    array: a path, the result of `open_array`, or an array of numpy, zarr, tensorstore, dask,
        funlib.persistence or xarray, `[z, y, x]` or `[c, z, y, x]` (2-D without z); of frames too,
        if its axes are named. Of a multiscale group (a path, or a zarr Group) the level with the
        voxel size that the network was trained at.
    roi: the output ROI in nm, in the notation of `--roi` or as a Roi; the whole array by default.
    voxel_size, offset: in nm, instead of those in the array's metadata. Without either, voxels are
        1 nm large and the offset is 0. With frames a value for time precedes those for space.
    axis_names: for each axis of an array in memory, a channel's ending in `^`, for example
        `["t", "c^", "z", "y", "x"]`; needed where the shape does not tell.
    progress: whether to show a progress bar.
    options: those of a configuration file that concern the prediction: border, normalize,
        bad_input, model_voxel_size, allow_voxel_size_mismatch, resample, precision, device, memory,
        channels (a list of names or numbers), output_dtype, output_range, postprocess, tile_shape,
        block_shape, blend, overlap, augment, augment_channels; for a model given as a path also
        iteration, architecture, activation, unsafe_load_pickle and factory.

    Raises an InputError for anything that does not fit, also for a network with several outputs
    (see `predict_outputs`), and StageError for a block whose input cannot be read.
    """
    made = _plan(
        model,
        array,
        roi,
        voxel_size=voxel_size,
        offset=offset,
        axis_names=axis_names,
        options=options,
    )
    if len(made.plan.output.arrays) > 1:
        names = ", ".join(array.name for array in made.plan.output.arrays)
        raise ConfigError(
            f"{made.plan.network.checkpoint} has the outputs {names}: use predict_outputs, which "
            "returns all of them."
        )
    (prediction,) = _predict(made, progress)
    return prediction


def predict_outputs(
    model: Models,
    array: Any,
    *,
    roi: str | Roi | None = None,
    voxel_size: str | Sequence[object] | None = None,
    offset: str | Sequence[object] | None = None,
    axis_names: Sequence[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, Prediction]:
    """Predict all outputs of a network in one pass; returns the prediction of each by its name.

    Arguments and errors are as for `predict`. `output_dtype`, `output_range` and `postprocess` may
    be mappings: `output_dtype={"affs": "uint8", "lsds": "float32"}`. With `split` the outputs are
    those that it names: `split="each"`, or `split={"mito": [0], "er": [1, 2]}`.
    """
    made = _plan(
        model,
        array,
        roi,
        voxel_size=voxel_size,
        offset=offset,
        axis_names=axis_names,
        options=options,
    )
    predictions = _predict(made, progress)
    arrays = made.plan.output.arrays
    return {each.name: found for each, found in zip(arrays, predictions, strict=True)}


def _plan(
    model: Models,
    array: Any,
    roi: str | Roi | None,
    *,
    voxel_size: str | Sequence[object] | None,
    offset: str | Sequence[object] | None,
    axis_names: Sequence[str] | None,
    options: dict[str, Any],
) -> Planned:
    source = _source(array, voxel_size, offset, axis_names)
    checkpoint, models = given_models(model)
    if isinstance(source, dict):
        config = _config({**checkpoint, **source}, roi, options)
        return make_plan(config, models=models)
    config = _config({**checkpoint, "input": source.path}, roi, options)
    return make_plan(config, models=models, array=source)


def _predict(made: Planned, progress: bool) -> list[Prediction]:
    """Predict all blocks; returns a prediction for each of the plan's arrays."""
    plan, opened = made.plan, made.opened
    precision = decide_precision(plan, opened).precision
    predictions = [Prediction(plan, array, precision) for array in plan.output.arrays]
    targets = [_Target(each) for each in predictions]
    predictor = make_predictor(plan, opened, precision)
    processor = BlockProcessor(plan, opened.array, targets, predictor)
    with ExitStack() as context:
        report = context.enter_context(ProgressBar("Predicting")) if progress else Reporter()
        for warning in plan.warnings:
            report.warn(warning)
        report.begin(plan, Counts(plan.num_blocks, 0, 0, 0))
        filled = skipped = 0
        for number, block in enumerate(plan.blocks()):
            done = processor.process(block)
            filled += done.filled > 0
            skipped += done.skipped
            report.progress(Counts(plan.num_blocks, number + 1, 0, 0))
        if filled:
            told = what_filled_blocks_hold(plan)
            report.warn(f"{filled} of {plan.num_blocks} blocks {told}.")
        if skipped:
            report.warn(
                f"{skipped} of {plan.num_blocks} blocks are left out, since their input could not "
                "be read, and hold zeros."
            )
    return predictions


class Prediction(Volume):
    """A prediction in memory: `data` is `[channel, z, y, x]` (2-D without z), of frames
    `[channel, t, z, y, x]`.

    `channel_names` are the names of its channels; of labels (`postprocess="argmax"`) `classes` are
    the names of the network's channels that they stand for, from 0 on. `precision` is what the
    network computed in. As every volume, it has a place (`roi`, `voxel_size`, `offset`) and
    conversions (`array`, ...).
    """

    def __init__(self, plan: Plan, array: ArrayPlan, precision: str) -> None:
        names = array.stored_names
        grid, shape = plan.output_grid, plan.output.shape
        axes = plan.input.axis_names
        self.data = np.zeros((len(names), *shape), array.dtype)
        self.precision = precision
        self.classes = array.classes
        self.path, self.format = "<prediction>", "numpy"
        self.shape, self.chunk_shape, self.dtype = shape, plan.output.chunk_shape, self.data.dtype
        self.channels, self.channel_names = len(names), names
        self.placement = Placement(
            axis_names=axes,
            voxel_size=grid.voxel_size,
            offset=grid.world(plan.output.roi_begin),
            voxel_size_source=plan.input.voxel_size_source,
            offset_source=plan.input.offset_source,
            time_unit=grid.time_unit,
        )
        frames = (TIME,) * grid.has_time
        self.storage = Storage(
            axes=Axes(("c", *axes), (CHANNEL, *frames, *[SPACE] * (len(axes) - len(frames)))),
            shape=self.data.shape,
            dtype=self.dtype.name,
            chunk_shape=(len(names), *self.chunk_shape),
            shard_shape=None,
            compression="none",
        )

    def read(self, begin: Sequence[int], end: Sequence[int]) -> NDArray[Any]:
        """Voxels `begin` to `end` as `[C, *spatial]`."""
        window = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
        return self.data[(slice(None), *window)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=bool(copy))


class _Target:
    """Takes the values of blocks, as an output on disk does."""

    def __init__(self, prediction: Prediction) -> None:
        self._data = prediction.data

    def start_write(self, begin: Sequence[int], data: NDArray[Any]) -> _Written:
        """Keep `data`, `[channels, *spatial]`, at voxel `begin`."""
        window = tuple(slice(b, b + n) for b, n in zip(begin, data.shape[1:], strict=True))
        self._data[(slice(None), *window)] = data
        return _Written()


class _Written:
    """A write that is complete."""

    def result(self) -> None:
        """Return at once."""


def _source(
    array: Any,
    voxel_size: str | Sequence[object] | None,
    offset: str | Sequence[object] | None,
    axis_names: Sequence[str] | None,
) -> BlockSource | dict[str, Any]:
    """The array that is given, or the options that name one in storage."""
    in_storage = isinstance(array, (InputArray, str, Path)) or _is_group(array)
    if axis_names is not None and in_storage:
        raise ConfigError(
            "axis_names are for an array in memory: one in storage has them in its metadata."
        )
    if isinstance(array, InputArray) and voxel_size is None and offset is None:
        return array
    if not in_storage:
        return open_in_memory(array, voxel_size=voxel_size, offset=offset, axis_names=axis_names)
    path = array.path if isinstance(array, InputArray) else path_of(array)
    place = {"voxel_size": voxel_size, "offset": offset}
    return {"input": str(path), **{key: value for key, value in place.items() if value is not None}}


def _is_group(array: object) -> bool:
    """Whether it is a zarr.Group, told without importing zarr."""
    kind = type(array)
    return (kind.__module__.split(".")[0], kind.__name__) == ("zarr", "Group")


def _config(named: dict[str, Any], roi: str | Roi | None, options: dict[str, Any]) -> RunConfig:
    """The configuration of a prediction of the checkpoint and the input that are `named`."""
    unknown = [key for key in options if key not in PREDICTION_KEYS]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)}: not an option of a prediction in memory. The options are "
            f"{', '.join(PREDICTION_KEYS)}."
        )
    given = {**named, **options, "output": "memory.zarr/prediction"}
    # In memory there are no chunks: a block is its own chunk.
    stored = {"chunk_shape": options.get("block_shape"), "shard_shape": NO_SHARDS}
    return load_config({**given, **stored, "roi": roi}, command_line=False)
