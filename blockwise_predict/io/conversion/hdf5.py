"""Datasets in HDF5 files, and the attributes that place them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.io.adapters import BOX, Adapted
from blockwise_predict.io.conversion.stack import Stack, named_axes, reading
from blockwise_predict.io.foreign import hdf5_parts
from blockwise_predict.io.statement import Axes, Statement, axes_from_names, spatial_lengths
from blockwise_predict.io.units import exact_numbers

if TYPE_CHECKING:
    import h5py

LOOKED_FOR = "the attributes element_size_um, voxel_size, resolution and offset of the dataset"
_LISTED = 12
# The sizes' keys, and the unit where no attribute `units` gives one.
_SIZES = {"element_size_um": "um", "voxel_size": "nm", "resolution": "nm"}


def open_hdf5(path: str, axes: Sequence[str] | None) -> Stack:
    """The dataset of `file.h5/dataset` or `file.h5:dataset`, or the only one of `file.h5`.

    `axes` override the attributes. Raises ArrayError if h5py is not installed, or if there is no
    such dataset.
    """
    try:
        import h5py
    except ImportError:
        raise ArrayError(
            f"{path}: HDF5 files need h5py. Install blockwise-predict[convert]."
        ) from None
    file, name = hdf5_parts(path) or (path, "")
    with reading(path):
        dataset = _dataset(h5py.File(file, "r"), file, name)
        where = f"{file}:{dataset.name}"
        shape = tuple(map(int, dataset.shape))
        attributes = {str(key): _plain(value) for key, value in dataset.attrs.items()}
        own = named_axes(path, axes, shape) if axes else _axes(dataset, attributes)
        return Stack(
            Adapted(
                name=where,
                library="HDF5",
                shape=shape,
                dtype=dataset.dtype,
                chunk_shape=dataset.chunks or tuple(min(BOX, length) for length in shape),
                read=lambda window: np.asarray(dataset[window]),
                statements=[*_lengths(attributes, own, where), Statement(where, axes=own)],
            ),
            (file,),
            LOOKED_FOR,
        )


def _dataset(file: h5py.File, path: str, name: str) -> h5py.Dataset:
    import h5py

    found = file.get(name) if name else None
    if isinstance(found, h5py.Dataset) and found.shape:
        return found
    names: list[str] = []

    def note(key: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2:
            names.append(key)

    file.visititems(note)
    if not name and len(names) == 1:
        return file[names[0]]
    listed = ", ".join(f"{path}/{key}" for key in names[:_LISTED])
    problem = f"there is no dataset {name} with axes" if name else f"it has {len(names)} datasets"
    raise ArrayError(f"{path}: {problem}. Name one: {listed or 'none was found'}.")


def _plain(value: Any) -> Any:
    """A value of an attribute as JSON would hold it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _axes(dataset: h5py.Dataset, attributes: dict[str, Any]) -> Axes | None:
    """By funlib's `axis_names`, vigra's and ilastik's `axistags`, or HDF5's dimension labels."""
    names = attributes.get("axis_names")
    if isinstance(tags := attributes.get("axistags"), str):
        try:
            names = [tag["key"] for tag in json.loads(tags)["axes"]]
        except (KeyError, TypeError, ValueError):
            names = None
    labels = [dimension.label for dimension in dataset.dims]
    return axes_from_names(names, dataset.ndim) or axes_from_names(labels, dataset.ndim)


def _lengths(attributes: dict[str, Any], axes: Axes | None, where: str) -> list[Statement]:
    """The voxel sizes that attributes state, and the offset, which is nm as `resolution` is."""
    units = attributes.get("units")
    found = []
    for key, unit in _SIZES.items():
        if key in attributes:
            what = f"attribute '{key}' of {where}"
            numbers = exact_numbers(_listed(attributes[key]), what)
            own = unit if key == "element_size_um" or units is None else units
            size, notes = spatial_lengths(numbers, own, axes, what)
            found.append(Statement(where, size, voxel_size_source=what, notes=tuple(notes)))
    if "offset" in attributes:
        what = f"attribute 'offset' of {where}"
        numbers = exact_numbers(_listed(attributes["offset"]), what)
        offset, notes = spatial_lengths(numbers, units or "nm", axes, what)
        found.append(Statement(where, offset=offset, offset_source=what, notes=tuple(notes)))
    return found


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ArrayError(f"{shown(value)} is not one number for each axis.")
    return value
