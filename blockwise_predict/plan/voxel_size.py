"""Whether the input has the voxel size that the networks were trained at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import ArrayError, ConfigError
from blockwise_predict.geometry.grid import exact_lengths, format_lengths
from blockwise_predict.geometry.voxel_size import same_size
from blockwise_predict.io import BlockSource, ChosenLevel, ResampledArray, TrainedSize
from blockwise_predict.io.placement import ASSUMED_VOXELS
from blockwise_predict.io.units import LARGEST, SMALLEST
from blockwise_predict.plan.model import Plan

_OPTION = "--model-voxel-size"


def trained_size(config: RunConfig, model: TrainedModel) -> TrainedSize | None:
    """The voxel size that a network was trained at: as configured, else as its checkpoint states.

    None if it is not known. Raises ConfigError if the option does not have the network's axes.
    """
    given, dims = config.model_voxel_size, _spatial_dims(model)
    if given is None:
        return _stated_size(model)
    if len(given) != dims or any(size <= 0 for size in given):
        raise ConfigError(
            f"{_OPTION} {format_lengths(given)}: {model.path} is a {dims}-D network; give {dims} "
            "positive lengths in nm."
        )
    return TrainedSize(given, _OPTION)


def first_trained_size(config: RunConfig, models: Sequence[TrainedModel]) -> TrainedSize | None:
    """`trained_size` of the first network that has one."""
    sizes = (trained_size(config, model) for model in models)
    return next((size for size in sizes if size is not None), None)


def recorded_level(config: RunConfig, recorded: Plan | None) -> ChosenLevel | None:
    """The level that an earlier run of the same input has read."""
    if recorded is None:
        return None
    now, then = (
        (each.input, each.model_voxel_size, each.voxel_size) for each in (config, recorded.config)
    )
    return recorded.input.level if now == then else None


def check_voxel_size(config: RunConfig, model: TrainedModel, array: BlockSource) -> None:
    """Raise ArrayError if the input has other voxels than a network was trained at, unless that is
    allowed."""
    problem = _mismatch(config, model, array)
    if problem is not None and not config.allow_voxel_size_mismatch:
        # With it, they have the voxel size of another network of the ensemble.
        resample = "" if config.resample else "resample these with --resample; "
        raise ArrayError(
            f"{problem} Choose data of that voxel size, such as another level of a pyramid; "
            f"{resample}correct what is wrong by --voxel-size or {_OPTION}; or predict all the "
            "same with --allow-voxel-size-mismatch."
        )


def resampled(array: BlockSource, trained: TrainedSize | None) -> BlockSource:
    """The input with the voxel size that its networks were trained at; itself if it has that.

    Raises ArrayError if either is not known.
    """
    if isinstance(array, ResampledArray):
        return array
    placement = array.placement
    if trained is None:
        raise ArrayError(
            "--resample: the checkpoint does not state the voxel size that its network was trained "
            f"at. Give it by {_OPTION}."
        )
    if placement.voxel_size_source == ASSUMED_VOXELS:
        raise ArrayError(f"--resample: {array.path} states no voxel size. Give it by voxel_size.")
    if same_size(placement.spatial_voxel_size, trained.size):
        return array
    # Slices and frames of a network with fewer axes stay as they are.
    axes = min(len(placement.spatial_voxel_size), len(trained.size))
    return ResampledArray(array, placement.voxel_size[:-axes] + trained.size[-axes:])


def resampling_notes(config: RunConfig, array: BlockSource) -> Iterator[str]:
    """That there is nothing to resample."""
    if config.resample and not isinstance(array, ResampledArray):
        yield (
            f"--resample has no effect: {array.path} has the voxel size that the network was "
            "trained at."
        )


def voxel_size_warnings(
    config: RunConfig, models: Sequence[TrainedModel], array: BlockSource
) -> Iterator[str]:
    """What the user has allowed, or has said against a checkpoint."""
    for model in models:
        stated = _stated_size(model)
        given = config.model_voxel_size
        if given is not None and stated is not None and not same_size(given, stated.size):
            yield (
                f"{_OPTION} {format_lengths(given)} nm is used, although {model.path} was trained "
                f"at {stated}."
            )
        if problem := _mismatch(config, model, array):
            yield problem


def _mismatch(config: RunConfig, model: TrainedModel, array: BlockSource) -> str | None:
    trained, placement = trained_size(config, model), array.placement
    if trained is None or placement.voxel_size_source == ASSUMED_VOXELS:
        return None
    size = placement.spatial_voxel_size
    if same_size(size, trained.size):
        return None
    return (
        f"{array.path} has voxels of {format_lengths(size)} nm ({placement.voxel_size_source}), "
        f"but {model.path} was trained at {trained}."
    )


def _stated_size(model: TrainedModel) -> TrainedSize | None:
    stated, dims = model.voxel_size or (), _spatial_dims(model)
    if len(stated) < dims or not all(SMALLEST <= size <= LARGEST for size in stated):
        return None
    return TrainedSize(exact_lengths(stated)[-dims:], model.voxel_size_source)


def _spatial_dims(model: TrainedModel) -> int:
    return min(3, model.shapes.dims)
