"""DaCapo's export to a bioimage.io package: a state dictionary, its run's configuration, and tests.

`save_bioimage_io_model` of DaCapo writes `rdf.yaml`. It names a function that would build the
network from a configuration, which is in the same file. The configuration is read as data here and
the function is not called. In its place, the package's test tensors tell whether the network is
right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockwise_predict.checkpoint.described import described
from blockwise_predict.checkpoint.documents import read_document
from blockwise_predict.checkpoint.keys import normalise_keys
from blockwise_predict.checkpoint.packages.package import TestTensors
from blockwise_predict.checkpoint.packages.testing import check_test_tensors
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.checkpoint.voxel_size import TRAINED_AT, document_voxel_size, size_record
from blockwise_predict.checkpoint.weights import read_weights
from blockwise_predict.errors import CheckpointError, shown

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")


def is_dacapos(description: Mapping[str, Any]) -> bool:
    """Whether a package's description has DaCapo's configuration of the network."""
    return _configuration(description) is not None


def open_export(
    folder: Path, path: Path, options: Mapping[str, Any], *, reproduce: bool = True
) -> UNetModel:
    """The network of an export in a folder; `path` is the package's, which may be an archive.

    options: of a run that opens it in the same way. Raises CheckpointError for a package that is
    damaged, and for a network that does not reproduce the package's test tensors, if it has to
    `reproduce` them.
    """
    file = next(folder / name for name in DESCRIPTIONS if (folder / name).is_file())
    description = read_document(file)
    configuration = _configuration(description)
    assert configuration is not None
    weights = _member(folder, description["weights"]["pytorch_state_dict"], path)
    state = read_weights(weights)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    network = described(configuration, path / file.name, shapes)
    size, size_source = document_voxel_size(configuration, path / file.name)
    model = UNetModel(
        path=str(path / weights.relative_to(folder)),
        architecture=network.config,
        head=network.head,
        channel_names=_channel_names(description) or network.channel_names,
        weights=normalise_keys(state, path),
        voxel_size=size,
        voxel_size_source=size_source,
        options=options,
    )
    channels = network.head.channels if network.head else network.config.fmaps_out
    if len(model.channel_names) != channels:
        raise CheckpointError(
            f"{path}: it names {len(model.channel_names)} channels, but the network has {channels}."
        )
    if not reproduce:
        return model
    difference = check_test_tensors(model, _test_tensors(description, folder, path))
    family = f"DaCapo's bioimage.io export: {network.reason}; reproduces its test tensors"
    record = {"family": f"{family} to {difference:.1g}", **size_record(TRAINED_AT, size)}
    return replace(model, record=record)


def _configuration(description: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run's configuration: of DaCapo's `from_yaml`, or of dacapo-toolbox's."""
    value: Any = description
    for key in ("weights", "pytorch_state_dict", "architecture", "kwargs"):
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("config_yaml"), dict):
        return dict(value["config_yaml"])
    if isinstance(value.get("architecture_dict"), dict):
        return {"architecture": value["architecture_dict"], "task": value.get("task_dict")}
    return None


def _channel_names(description: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the only output's channels, if it names them."""
    outputs = description.get("outputs")
    if not (isinstance(outputs, list) and len(outputs) == 1 and isinstance(outputs[0], dict)):
        return None
    for axis in outputs[0].get("axes") or ():
        if isinstance(axis, dict) and axis.get("type") == "channel":
            names = axis.get("channel_names")
            return tuple(map(str, names)) if isinstance(names, list) else None
    return None


def _test_tensors(description: Mapping[str, Any], folder: Path, path: Path) -> TestTensors:
    """The test tensors of the only input and output."""
    files = []
    for key in ("inputs", "outputs"):
        tensors = description.get(key)
        if not (isinstance(tensors, list) and len(tensors) == 1 and isinstance(tensors[0], dict)):
            raise CheckpointError(f"{path}: {key} must list one tensor, not {shown(tensors)}.")
        files.append(_member(folder, tensors[0].get("test_tensor"), path))
    given, expected = files
    return TestTensors(given, expected, scale=1.0, shift=0.0)


def _member(folder: Path, reference: Any, path: Path) -> Path:
    """The file that `{"source": NAME}` refers to, inside the package."""
    source = reference.get("source") if isinstance(reference, dict) else None
    if isinstance(source, str):
        file = folder / source
        if file.resolve().is_relative_to(folder.resolve()) and file.is_file():
            return file
    raise CheckpointError(f"{path}: its description refers to {shown(source)}, which is not in it.")
