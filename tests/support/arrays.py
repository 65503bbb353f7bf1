"""Small arrays in every format, for the tests of reading and writing."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import zarr

from blockwise_predict.io import OutputSpec

FORMATS = ("zarr2", "zarr3", "zarr3-sharded", "zarr2-fortran", "n5")
# Without metadata of their own axes, of which the format has x, y, z and channels.
PRECOMPUTED = ("precomputed", "precomputed-sharded")
OUTPUT_FORMATS = ("zarr2", "zarr3", "n5")
SIZE = (Fraction("4.24"), Fraction(4), Fraction(4))


def lengths(*values: object) -> tuple[Fraction, ...]:
    return tuple(Fraction(str(value)) for value in values)


def write_array(
    folder: Path, kind: str, data: np.ndarray, attributes: dict[str, Any] | None = None
) -> Path:
    """Write `data` (C order) by zarr-python, N5 by tensorstore; chunks of 4, shards of 8."""
    chunks = (4,) * data.ndim
    if kind == "n5":
        path = folder / "volume.n5" / "raw"
        _write_n5(path, data, chunks, attributes or {})
        return path
    path = folder / "volume.zarr" / "raw"
    zarr.create_array(
        path,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=(8,) * data.ndim if kind == "zarr3-sharded" else None,
        order="F" if kind == "zarr2-fortran" else None,
        zarr_format=2 if kind.startswith("zarr2") else 3,
        attributes=attributes or {},
    )[...] = data
    return path


def _write_n5(path: Path, data: np.ndarray, chunks: tuple[int, ...], extra: dict[str, Any]) -> None:
    metadata = {
        "dimensions": data.shape[::-1],
        "blockSize": chunks[::-1],
        "dataType": data.dtype.name,
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    ts.open(spec, create=True).result().T[...] = data
    write_json(path / "attributes.json", extra)


def write_precomputed(
    folder: Path,
    kind: str,
    data: np.ndarray,
    encoding: str = "raw",
    *,
    written: slice = slice(None),
    **scale: Any,
) -> Path:
    """Write `data` [(c), z, y, x] by tensorstore, in chunks of 4; the path of the scale.

    Only the x in `written` are written.
    """
    size = data.shape[::-1]
    metadata = {
        "size": size[:3],
        "encoding": encoding,
        "chunk_size": [4, 4, 4],
        "resolution": [4, 4, 4.24],
        **scale,
    }
    if kind == "precomputed-sharded":
        metadata["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1",
            **{"preshift_bits": 1, "minishard_bits": 1, "shard_bits": 1, "hash": "identity"},
            **{"minishard_index_encoding": "gzip", "data_encoding": "gzip"},
        }
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/volume/"},
        "multiscale_metadata": {
            "type": "image",
            "data_type": data.dtype.name,
            "num_channels": size[3] if data.ndim == 4 else 1,
        },
        "scale_metadata": metadata,
    }
    store = ts.open(spec, create=True, open=True).result()
    store = store[ts.d[:3].translate_to[0]]
    store[written] = (data.T if data.ndim == 4 else data.T[..., None])[written]
    return folder / "volume" / "_".join(f"{length:g}" for length in metadata["resolution"])


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Merge values into a JSON file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **values}))


def ramp(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    """Values that tell every voxel and axis apart."""
    return (np.arange(np.prod(shape)).reshape(shape) % 127).astype(dtype)


def output_spec(path: Path | str, kind: str = "zarr3", **changes: Any) -> OutputSpec:
    """A 3-D spec whose every axis is different: 2 channels, ROI off 0, fractional voxels."""
    values: dict[str, Any] = {
        "path": str(path),
        "format": kind,
        "shape": (5, 9, 14),
        "channels": 2,
        "dtype": "uint8",
        "chunk_shape": (4, 4, 8),
        "voxel_size": SIZE,
        "offset": lengths("42.4", -8, 120),
        "input_voxel_size": SIZE,
        "axis_names": ("z", "y", "x"),
        "channel_names": ("aff_z", "aff_y"),
        "attributes": {"made_by": {"run": "a"}},
    }
    return OutputSpec(**{**values, **changes})


def output_path(folder: Path, kind: str) -> Path:
    return folder / ("out.n5" if kind == "n5" else "out.zarr") / "group" / "prediction"
