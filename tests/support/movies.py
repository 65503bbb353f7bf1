"""Small volumes with a time axis, as OME-NGFF and N5 have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from tests.support.arrays import write_array

INTERVAL, BEGIN, VOXEL_SIZE = 0.5, 10, (8, 4, 4)
"""Of the frames in seconds, and of the voxels in nm."""


def ome(axes: str, name: str = "raw", unit: str | None = "second") -> list[dict[str, Any]]:
    """The multiscales of an array whose axes are among t, c, z, y and x."""
    sizes = {"t": INTERVAL, "c": 1, **dict(zip("zyx", VOXEL_SIZE, strict=True))}
    shift = {"t": BEGIN, "c": 0, "z": 40, "y": 0, "x": 0}
    kinds = {"t": "time", "c": "channel"}
    units = {"t": unit, "c": None}
    described = []
    for axis in axes:
        named = {"name": axis, "type": kinds.get(axis, "space")}
        found = units.get(axis, "nanometer")
        described.append(named if found is None else {**named, "unit": found})
    transforms = [
        {"type": "scale", "scale": [sizes[axis] for axis in axes]},
        {"type": "translation", "translation": [shift[axis] for axis in axes]},
    ]
    dataset = {"path": name, "coordinateTransformations": transforms}
    return [{"version": "0.4", "axes": described, "datasets": [dataset]}]


def write_movie(
    folder: Path, kind: str, data: np.ndarray, axes: str, unit: str | None = "second"
) -> str:
    """Write `data`, whose axes are named, as zarr 2 or 3 with OME-NGFF, or as N5; returns its path.

    Frames are 0.5 s apart from 10 s on, voxels 8 x 4 x 4 nm from z = 40 nm on.
    """
    if kind == "n5":
        sizes = {"t": INTERVAL, "c": 1, **dict(zip("zyx", VOXEL_SIZE, strict=True))}
        begin = {"t": BEGIN, "z": 40}
        units = {"t": "s", "c": ""}
        attributes = {
            "axes": list(axes[::-1]),
            "resolution": [sizes[axis] for axis in axes[::-1]],
            "offset": [begin.get(axis, 0) for axis in axes[::-1]],
            "units": [units.get(axis, "nm") for axis in axes[::-1]],
        }
        return str(write_array(folder, "n5", data, attributes))
    path = write_array(folder, kind, data)
    attributes = {"multiscales": ome(axes, unit=unit)}
    zarr.create_group(
        path.parent,
        zarr_format=2 if kind == "zarr2" else 3,
        attributes=attributes if kind == "zarr2" else {"ome": {"version": "0.5", **attributes}},
    )
    return str(path)
