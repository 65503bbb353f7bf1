"""Opening the network of a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blockwise_predict.checkpoint.packages.package import Package
from blockwise_predict.checkpoint.recognition import Recognised, recognise_file
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.errors import CheckpointError, shown


def open_package(package: Package, options: dict[str, Any]) -> TrainedModel:
    """The network of a package, with what the package says about it.

    options: of a run that opens it in the same way. Raises CheckpointError if none of its programs
    can be opened, or if the network contradicts the package.
    """
    file, recognised = _recognise(package)
    channels = recognised.head.channels if recognised.head else recognised.architecture.fmaps_out
    has_activation = recognised.head is not None and recognised.head.activation is not None
    stated = {
        "activation": has_activation or package.activation is not None,
        "normalization": package.normalization is not None,
    }
    model = UNetModel(
        path=str(file),
        iteration=package.iteration,
        architecture=recognised.architecture,
        head=recognised.head,
        channel_names=package.channel_names or tuple(f"channel_{i}" for i in range(channels)),
        weights=recognised.weights,
        options=options,
        activation=package.activation,
        normalization=package.normalization,
        undeclared=tuple(name for name, known in stated.items() if not known),
        voxel_size=package.voxel_size,
        record={**package.record, "family": f"CNNectomeUNet: {recognised.evidence}"},
    )
    _check(package, model, channels)
    model.build()
    return model


def _recognise(package: Package) -> tuple[Path, Recognised]:
    """The first program of a package that is recognised."""
    reasons = []
    for file in package.programs:
        found = (
            recognise_file(file, package.input_shape)
            if file.suffix != ".onnx"
            else "ONNX files are not read"
        )
        if isinstance(found, Recognised):
            return file, found
        reasons.append(f"{file.name}: {found}")
    raise CheckpointError(
        f"checkpoint {package.path} is not recognised as a U-Net. {'; '.join(reasons)}."
    )


def _check(package: Package, model: TrainedModel, channels: int) -> None:
    """Raise CheckpointError if a package contradicts its network."""
    if package.in_channels not in (None, model.in_channels):
        raise CheckpointError(
            f"checkpoint {package.path}: its metadata states {package.in_channels} input channels, "
            f"but the network in {model.path} has {model.in_channels}."
        )
    if len(model.channel_names) != channels:
        raise CheckpointError(
            f"checkpoint {package.path}: its metadata name {len(model.channel_names)} channels "
            f"({shown(list(model.channel_names))}), but the network in {model.path} has {channels}."
        )
