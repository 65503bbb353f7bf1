"""Entries of OME-NGFF's `multiscales` to write, and lists with and without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import ngff
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.io.statement import SPACE, TIME
from blockwise_predict.io.units import json_numbers


def multiscale_entry(
    name: str,
    version: Literal["0.4", "0.5"],
    *,
    axes: OutputAxes,
    voxel_size: Lengths,
    shift: Lengths,
) -> Json:
    """A multiscale of one array called `name` with the axes of an output; lengths in nm."""
    # Imported here, since that takes a second and the workers do not need it.
    from ome_zarr_models import v04, v05

    models = v04 if version == "0.4" else v05
    units = {SPACE: "nanometer", TIME: axes.time_unit or None}
    described = [
        models.axes.Axis(name=axis, type=kind, unit=units.get(kind))
        for axis, kind in zip(axes.stored_names, axes.stored_kinds, strict=True)
    ]
    dataset = models.multiscales.Dataset.build(
        path=name,
        scale=axes.stored(1, json_numbers(voxel_size)),
        translation=axes.stored(0, json_numbers(shift)),
    )
    # From 0.5 on the version stands beside the list of multiscales.
    own_version = {"version": version} if version == "0.4" else {}
    multiscale = models.multiscales.Multiscale(
        name=name, axes=described, datasets=[dataset], **own_version
    )
    entry: Json = multiscale.model_dump(mode="json", exclude_none=True)
    return entry


def level_dataset(first: Json, path: str, factors: Sequence[int], version: str) -> Json:
    """The dataset of a level whose voxels are `factors` of those of the multiscale's first dataset.

    A translation keeps the begin corner: the centre of a voxel that is larger by a length is half
    of it further.
    """
    from ome_zarr_models import v04, v05

    place = f"the multiscale of {path}"
    scale, shift = ngff.scale_and_shift(first, place, len(factors))
    dataset = (v04 if version == "0.4" else v05).multiscales.Dataset.build(
        path=path,
        scale=json_numbers([s * f for s, f in zip(scale, factors, strict=True)]),
        translation=json_numbers(
            [t + s * (f - 1) / 2 for t, s, f in zip(shift, scale, factors, strict=True)]
        ),
    )
    level: Json = dataset.model_dump(mode="json", exclude_none=True)
    return level


def with_entry(multiscales: list[Any], entry: Json) -> list[Any]:
    """The multiscales with `entry` replacing the one of the same array alone, or appended.

    Viewers take the first of the list, so what was first stays first.
    """
    path = entry["datasets"][0]["path"]
    places = [index for index, old in enumerate(multiscales) if dataset_paths(old) == [path]]
    if not places:
        return [*without_dataset(multiscales, path), entry]
    return [*multiscales[: places[0]], entry, *without_dataset(multiscales[places[0] :], path)]


def without_dataset(multiscales: list[Any], path: str) -> list[Any]:
    """The multiscales without the dataset at `path`; those left with no dataset are dropped."""
    kept = []
    for multiscale in multiscales:
        paths = dataset_paths(multiscale)
        if path not in paths:
            kept.append(multiscale)
        elif any(other != path for other in paths):
            others = [d for d in multiscale["datasets"] if d.get("path") != path]
            kept.append({**multiscale, "datasets": others})
    return kept


def dataset_paths(multiscale: object) -> list[object]:
    """The paths of a multiscale's datasets; empty if it is malformed."""
    datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
    if not isinstance(datasets, list) or not all(isinstance(d, dict) for d in datasets):
        return []
    return [dataset.get("path") for dataset in datasets]
