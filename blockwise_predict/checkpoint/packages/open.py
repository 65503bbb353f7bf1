"""Opening the network of a package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from blockwise_predict.checkpoint.families import numbered_channels
from blockwise_predict.checkpoint.packages.dacapo import open_export
from blockwise_predict.checkpoint.packages.package import Package
from blockwise_predict.checkpoint.packages.testing import check_test_tensors
from blockwise_predict.checkpoint.programs import find_program, open_program
from blockwise_predict.checkpoint.recognition import Recognised, recognise_file
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.errors import CheckpointError, shown
from blockwise_predict.geometry.probed import Probed

M = TypeVar("M", bound=TrainedModel)


def open_package(
    package: Package,
    options: dict[str, Any],
    *,
    input_shape: Sequence[int] | None = None,
    probed: Probed | None = None,
    reproduce: bool = True,
) -> TrainedModel:
    """The network of a package, with what the package says about it.

    A program that is not recognised as a U-Net is run to find out what it does with an input
    (of `input_shape`, if that is given), unless that is known already (`probed`).
    options: of a run that opens it in the same way. reproduce: whether the network has to reproduce
    the package's test tensors. Raises CheckpointError if none of its programs can be opened, or if
    the network contradicts the package.
    """
    if not reproduce:
        package = replace(package, test_tensors=None)
    if package.export is not None:
        return open_export(package.export, package.path, options, reproduce=reproduce)
    found = _recognise(package)
    if isinstance(found, str):
        shape = input_shape or package.input_shape
        return _open_opaque(package, options, found, input_shape=shape, probed=probed)
    file, recognised = found
    channels = recognised.head.channels if recognised.head else recognised.architecture.fmaps_out
    has_activation = recognised.head is not None and recognised.head.activation is not None
    if has_activation and package.activation not in (None, "none"):
        raise CheckpointError(
            f"checkpoint {package.path}: its description asks for a {package.activation} after a "
            "network that ends with one."
        )
    model = UNetModel(
        path=_lasting(file, package),
        iteration=package.iteration,
        architecture=recognised.architecture,
        head=recognised.head,
        channel_names=package.channel_names or numbered_channels(channels),
        weights=recognised.weights,
        options=options,
        activation=package.activation,
        normalization=package.normalization,
        undeclared=_undeclared(package, has_activation),
        voxel_size=package.voxel_size,
        voxel_size_source=package.voxel_size_source,
        record={**package.record, "family": f"CNNectomeUNet: {recognised.evidence}"},
    )
    _check(package, model, channels)
    model.build()
    return _tested(package, model)


def _tested(package: Package, model: M) -> M:
    """The model, if it gives the output that its package expects for its test input."""
    if package.test_tensors is None:
        return model
    difference = check_test_tensors(model, package.test_tensors)
    tested = f"reproduced to {difference:.1g} of the largest value"
    return replace(model, record={**model.record, "test tensors": tested})


def _open_opaque(
    package: Package,
    options: dict[str, Any],
    reason: str,
    *,
    input_shape: Sequence[int] | None,
    probed: Probed | None,
) -> TrainedModel:
    """The first program of a package as a network that is known by what it does alone.

    reason: why it was not recognised as a U-Net.
    """
    file = package.programs[0]
    load = find_program(file, factory=None)
    if load is None:
        raise CheckpointError(f"checkpoint {package.path} cannot be opened. {reason}.")
    model = open_program(load, file, input_shape=input_shape, probed=probed, options=options)
    channels = len(model.channel_names)
    model = replace(
        model,
        path=_lasting(file, package),
        iteration=package.iteration,
        channel_names=package.channel_names or model.channel_names,
        activation=package.activation,
        normalization=package.normalization,
        undeclared=_undeclared(package, has_activation=False),
        voxel_size=package.voxel_size,
        voxel_size_source=package.voxel_size_source,
        record={**package.record, "family": f"unknown, so that it runs in whole passes. {reason}"},
    )
    _check(package, model, channels)
    return _tested(package, model)


def _lasting(file: Path, package: Package) -> str:
    """A file's name in its package: that of an archive is unpacked, and soon gone."""
    return str(file if file.is_relative_to(package.path) else package.path / file.name)


def _undeclared(package: Package, has_activation: bool) -> tuple[str, ...]:
    stated = {
        "activation": has_activation or package.activation is not None,
        "normalization": package.normalization is not None,
    }
    return tuple(name for name, known in stated.items() if not known)


def _recognise(package: Package) -> tuple[Path, Recognised] | str:
    """The first program of a package that is recognised as a U-Net, or why none is."""
    reasons = []
    for file in package.programs:
        if file.suffix == ".onnx":
            reasons.append(f"{file.name}: U-Nets in ONNX files are not recognised")
            continue
        found = recognise_file(file, package.input_shape)
        if isinstance(found, Recognised):
            return file, found
        reasons.append(f"{file.name}: {found}")
    return "; ".join(reasons)


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
