"""OME-NGFF groups with several levels, as public data sets have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

SPACE = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]


def downsampled(data: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 x 2 voxels."""
    z, y, x = (length // 2 for length in data.shape)
    blocks = data[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    return blocks.mean(axis=(1, 3, 5)).astype(data.dtype)


def scaled(
    voxel_nm: Sequence[float], offset_nm: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """The transformations of a level of 0.4 or 0.5, in micrometers."""
    found: list[dict[str, Any]] = [{"type": "scale", "scale": [v / 1000 for v in voxel_nm]}]
    if offset_nm is not None:
        found.append({"type": "translation", "translation": [v / 1000 for v in offset_nm]})
    return found


def multiscale(levels: dict[str, list[dict[str, Any]]], **more: Any) -> dict[str, Any]:
    """The metadata of an image with these levels."""
    datasets = [
        {"path": path, "coordinateTransformations": found} for path, found in levels.items()
    ]
    return {"name": "image", "axes": SPACE, "datasets": datasets, **more}


def write_group(
    path: Path,
    arrays: dict[str, np.ndarray],
    entries: list[dict[str, Any]],
    version: str,
    **more: Any,
) -> Path:
    """Arrays in a group with `multiscales` of a version: 0.4 in zarr 2, later ones in zarr 3.

    `more` stands beside `multiscales`.
    """
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, data in arrays.items():
        # Zarr 2 separates chunk numbers by "." unless told otherwise; OME-NGFF asks for "/".
        array = group.create_array(
            name,
            shape=data.shape,
            chunks=(16,) * data.ndim,
            dtype=data.dtype,
            chunk_key_encoding={
                "name": "v2" if zarr_format == 2 else "default",
                "separator": "/",
            },
        )
        array[...] = data
    if version == "0.4":
        versioned = [{"version": version, **entry} for entry in entries]
        group.attrs.update({"multiscales": versioned, **more})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": entries, **more}
    return path


def write_pyramid(path: Path, data: np.ndarray, version: str = "0.4", **more: Any) -> Path:
    """Levels s0, s1 and s2 of 4, 8 and 16 nm, which the group moves by 1 micrometer along z.

    Each level's voxels begin where those of s0 do, so their centres are translated.
    """
    arrays = {"s0": data, "s1": downsampled(data), "s2": downsampled(downsampled(data))}
    levels = {
        name: scaled((voxel,) * 3, ((voxel - 4) / 2 + 40, (voxel - 4) / 2, (voxel - 4) / 2))
        for name, voxel in zip(arrays, (4, 8, 16), strict=True)
    }
    above = [{"type": "translation", "translation": [1, 0, 0]}]
    entry = multiscale(levels, coordinateTransformations=above)
    return write_group(path, arrays, [entry], version, **more)
