"""Folders of cellmap-models: `metadata.json` beside `model.ts`, `model.pt2`, `model.onnx`, ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockwise_predict.checkpoint.packages.package import Package
from blockwise_predict.checkpoint.voxel_size import TRAINED_AT, size_record
from blockwise_predict.config.untrusted import (
    MAX_JSON_BYTES,
    MalformedError,
    parse_json,
    read_bounded,
)
from blockwise_predict.errors import CheckpointError, shown

METADATA = "metadata.json"
# The preferred ones first: a trace can be read whichever version of torch wrote it.
PROGRAMS = ("model.ts", "model.pt2", "model.onnx")
_FORMAT_VERSION = "1"
_RECORDED = ("model_name", "model_type", "framework", "author", "version")

Size = Annotated[int, Field(ge=1, le=1 << 20)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=6)]
Text = Annotated[str, Field(max_length=10_000)]


class _Metadata(BaseModel):
    """The keys of cellmap-models' ModelMetadata that are used here; all are optional there."""

    model_config = ConfigDict(extra="ignore")

    model_name: Text | None = None
    model_type: Text | None = None
    framework: Text | None = None
    author: Text | None = None
    version: Text | None = None
    in_channels: Size | None = None
    out_channels: Size | None = None
    iteration: Annotated[int, Field(ge=0)] | None = None
    channels_names: Annotated[tuple[Text, ...], Field(max_length=4096)] | None = None
    spatial_dims: Annotated[int, Field(ge=1, le=4)] | None = None
    input_shape: Sizes | None = None
    input_voxel_size: Annotated[tuple[float, ...], Field(max_length=4)] | None = None
    output_voxel_size: Annotated[tuple[float, ...], Field(max_length=4)] | None = None
    format_version: Text | None = _FORMAT_VERSION


def read_cellmap(folder: Path) -> Package:
    """The package in a folder of cellmap-models.

    It states neither normalisation nor activation. Raises CheckpointError if its metadata cannot be
    read, or if it has no program.
    """
    metadata = _read(folder / METADATA)
    programs = tuple(folder / name for name in PROGRAMS if (folder / name).is_file())
    if not programs:
        raise CheckpointError(
            f"checkpoint {folder} has {METADATA} of cellmap-models, but none of "
            f"{', '.join(PROGRAMS)}. A pickled model.pt needs the code that it was made with: "
            "export it with cellmap_models.model_export."
        )
    return Package(
        path=folder,
        programs=programs,
        in_channels=metadata.in_channels,
        channel_names=metadata.channels_names or None,
        iteration=metadata.iteration,
        # It may begin with batch and channels.
        input_shape=metadata.input_shape and metadata.input_shape[-(metadata.spatial_dims or 3) :],
        voxel_size=metadata.input_voxel_size,
        voxel_size_source=f"input_voxel_size of {folder / METADATA}",
        record={
            "package": "cellmap-models folder",
            **{
                key.replace("_", " "): value
                for key in _RECORDED
                if (value := getattr(metadata, key)) is not None
            },
            **size_record(TRAINED_AT, metadata.input_voxel_size),
            **size_record("predicts at", metadata.output_voxel_size),
        },
    )


def _read(file: Path) -> _Metadata:
    try:
        content: Any = parse_json(read_bounded(file, MAX_JSON_BYTES))
        metadata = _Metadata.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "its content"
        raise CheckpointError(
            f"{file}: {where} is {shown(problem['input'])}: {problem['msg']}."
        ) from None
    except (OSError, MalformedError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from None
    if metadata.format_version not in (None, _FORMAT_VERSION):
        raise CheckpointError(
            f"{file}: format_version {shown(metadata.format_version)} of cellmap-models is not "
            f"supported, only {_FORMAT_VERSION}."
        )
    return metadata
