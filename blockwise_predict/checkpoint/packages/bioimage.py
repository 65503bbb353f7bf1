"""bioimage.io packages: `rdf.yaml` or `bioimageio.yaml` of spec 0.4 or 0.5 beside its files.

The description is read as plain data. Its URLs are not followed: a package has its files with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from blockwise_predict.checkpoint.documents import read_document
from blockwise_predict.checkpoint.packages.dacapo import DESCRIPTIONS, is_dacapos
from blockwise_predict.checkpoint.packages.package import Package, TestTensors
from blockwise_predict.checkpoint.packages.processing import (
    NotARuleError,
    activation_rule,
    normalization_rule,
    scale_and_shift,
)
from blockwise_predict.errors import CheckpointError, shown

# The preferred ones first.
_WEIGHTS = ("torchscript", "onnx")
_VERSIONS = ("0.4", "0.5")
_NM = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "angstrom": 0.1, "picometer": 1e-3}
_SPACE = ("zyx", "yx")

_T = TypeVar("_T")


def description_in(folder: Path) -> Path | None:
    """The description in a package's folder, if there is one."""
    return next((folder / name for name in DESCRIPTIONS if (folder / name).is_file()), None)


def read_bioimage(folder: Path, path: Path) -> Package:
    """The package that is unpacked in a folder; `path` is how it was named.

    Raises CheckpointError for a description that is invalid, of another version, of a network with
    several inputs or outputs, or without weights that can be read here.
    """
    file = description_in(folder)
    assert file is not None
    description = read_document(file)
    if is_dacapos(description):
        return Package(path=path, programs=(), export=folder)
    try:
        return _package(description, folder, path)
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {path}: {file.name} is not a valid description of a model ({error!r})."
        ) from None


def _package(description: Mapping[str, Any], folder: Path, path: Path) -> Package:
    version = ".".join(str(description["format_version"]).split(".")[:2])
    if description.get("type") != "model" or version not in _VERSIONS:
        raise CheckpointError(
            f"checkpoint {path}: a bioimage.io {shown(description.get('type'))} of format version "
            f"{shown(description['format_version'])}; models of 0.4 and 0.5 are read."
        )
    source, result = (_only(description, key, path) for key in ("inputs", "outputs"))
    _check_axes(source, path)
    _check_axes(result, path)
    record = {
        "package": f"bioimage.io, format version {description['format_version']}",
        "model name": str(description.get("name")),
        "authors": ", ".join(str(author["name"]) for author in description.get("authors") or ()),
        "license": str(description.get("license")),
    }
    scaling = _stated(scale_and_shift, source.get("preprocessing"), "normalization", record)
    activation = _stated(activation_rule, result.get("postprocessing"), "activation", record)
    given = _test_tensor(description, source, "test_inputs", folder, path)
    expected = _test_tensor(description, result, "test_outputs", folder, path)
    return Package(
        path=path,
        programs=_programs(description, folder, path),
        in_channels=_channels(source),
        channel_names=_channel_names(result),
        normalization=None if scaling is None else normalization_rule(*scaling),
        activation=activation,
        voxel_size=_voxel_size(source),
        voxel_size_source=f"the axes of its input in {path}",
        record=record,
        test_tensors=TestTensors(given, expected, *scaling) if scaling and activation else None,
    )


def _stated(
    rule: Callable[[Any], _T], steps: Any, option: str, record: dict[str, str]
) -> _T | None:
    """What a rule makes of processing steps; if it is no rule, why not is recorded."""
    try:
        return rule(steps or [])
    except NotARuleError as error:
        record[f"undeclared {option}"] = f"its package {error}"
        return None


def _only(description: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    tensors = description[key]
    if len(tensors) != 1:
        raise CheckpointError(f"checkpoint {path}: it has {len(tensors)} {key}; one is supported.")
    tensor: Mapping[str, Any] = tensors[0]
    return tensor


def _check_axes(tensor: Mapping[str, Any], path: Path) -> None:
    axes = tensor["axes"]
    names = axes if isinstance(axes, str) else "".join(_axis_letter(axis) for axis in axes)
    if names not in [f"bc{space}" for space in _SPACE]:
        raise CheckpointError(
            f"checkpoint {path}: its axes {names} are not supported, only bczyx and bcyx."
        )


def _axis_letter(axis: Mapping[str, Any]) -> str:
    letters = {"batch": "b", "channel": "c", "time": "t", "index": "i"}
    return letters.get(axis["type"]) or str(axis.get("id", "x"))


def _axes_of(tensor: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Axes of a kind, which only version 0.5 describes."""
    axes = tensor["axes"]
    return [] if isinstance(axes, str) else [axis for axis in axes if axis["type"] == kind]


def _channels(tensor: Mapping[str, Any]) -> int | None:
    return next((len(axis["channel_names"]) for axis in _axes_of(tensor, "channel")), None)


def _channel_names(tensor: Mapping[str, Any]) -> tuple[str, ...] | None:
    axes = _axes_of(tensor, "channel")
    return tuple(map(str, axes[0]["channel_names"])) if axes else None


def _voxel_size(tensor: Mapping[str, Any]) -> tuple[float, ...] | None:
    axes = _axes_of(tensor, "space")
    # A scale that is not stated is 1 by the format's default, which no one meant as a voxel size.
    if not axes or any(axis.get("unit") not in _NM or "scale" not in axis for axis in axes):
        return None
    return tuple(float(axis["scale"]) * _NM[axis["unit"]] for axis in axes)


def _programs(description: Mapping[str, Any], folder: Path, path: Path) -> tuple[Path, ...]:
    weights = description["weights"]
    found = [_member(folder, weights[kind]["source"], path) for kind in _WEIGHTS if kind in weights]
    if not found:
        raise CheckpointError(
            f"checkpoint {path}: its weights are {', '.join(map(str, weights))}; of these only "
            f"{' and '.join(_WEIGHTS)} can be opened without running the package's own code."
        )
    return tuple(found)


def _test_tensor(
    description: Mapping[str, Any], tensor: Mapping[str, Any], key: str, folder: Path, path: Path
) -> Path:
    described = tensor.get("test_tensor")
    source = described["source"] if described else description[key][0]
    return _member(folder, source, path)


def _member(folder: Path, source: Any, path: Path) -> Path:
    """A file of the package."""
    file = folder / str(source)
    if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
        raise CheckpointError(
            f"checkpoint {path}: its description refers to {shown(source)}, which is not in it."
        )
    return file
