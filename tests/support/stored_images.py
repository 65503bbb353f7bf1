"""One image in every format that is read, and labels of it, in a folder and in stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile

from blockwise_predict.io.kvstore import open_store
from tests.support.arrays import write_array, write_json, write_precomputed
from tests.support.gcs import TOKEN, gcs_server
from tests.support.pyramids import SPACE, downsampled, write_group, write_pyramid
from tests.support.s3 import s3_bucket
from tests.support.webserver import ranges

VOXEL_NM = (8, 8, 8)
"""Of the level that networks are to read, the second of each pyramid."""
FINEST = np.random.default_rng(0).integers(0, 256, (24, 20, 18), np.uint8)
IMAGE = downsampled(FINEST)
LABELS = np.zeros(IMAGE.shape, np.uint64)
LABELS[2:5, 7:8, 2:4] = 1 << 40

# Where each is, by format and by what it is.
PATHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("zarr 2", "array"): ("v04.zarr/s1",),
    ("zarr 2", "pyramid"): ("v04.zarr",),
    ("zarr 2", "labels"): ("labels-zarr2/volume.zarr/raw",),
    ("zarr 3", "array"): ("v05.zarr/s1",),
    ("zarr 3", "pyramid"): ("v05.zarr", "v06.zarr"),
    ("zarr 3", "shards"): ("sharded/volume.zarr/raw",),
    ("zarr 3", "labels"): ("labels-zarr3-sharded/volume.zarr/raw",),
    ("N5", "array"): ("cosem.n5/s1",),
    ("N5", "pyramid"): ("cosem.n5",),
    ("N5", "labels"): ("labels-n5/volume.n5/raw",),
    ("precomputed", "array"): ("precomputed/volume/8_8_8",),
    ("precomputed", "pyramid"): ("precomputed/volume",),
    ("precomputed", "shards"): ("precomputed-sharded/volume/8_8_8",),
    ("precomputed", "labels"): ("segmentation/volume/8_8_8",),
    ("TIFF", "array"): ("image.tif",),
    ("TIFF", "labels"): ("labels.tif",),
    ("HDF5", "array"): ("volume.h5/image",),
    ("HDF5", "labels"): ("volume.h5/labels",),
}


def write_images(folder: Path) -> None:
    """Write all of `PATHS`."""
    for version in ("0.4", "0.5"):
        write_pyramid(folder / f"v{version.replace('.', '')}.zarr", FINEST, version)
    _write_0_6(folder / "v06.zarr")
    _write_cosem(folder / "cosem.n5")
    place = {"voxel_size": VOXEL_NM, "axis_names": ["z", "y", "x"]}
    write_array(folder / "sharded", "zarr3-sharded", IMAGE, place)
    for kind in ("zarr2", "zarr3-sharded"):
        write_array(folder / f"labels-{kind}", kind, LABELS, place)
    write_array(
        folder / "labels-n5", "n5", LABELS, {"resolution": VOXEL_NM, "axes": ["x", "y", "z"]}
    )
    size = {"resolution": VOXEL_NM}
    for kind in ("precomputed", "precomputed-sharded"):
        write_precomputed(folder / kind, kind, IMAGE, **size)
    write_precomputed(folder / "precomputed", "precomputed", FINEST, resolution=[4, 4, 4])
    blocks = {"compressed_segmentation_block_size": [4, 4, 4]}
    encoding = "compressed_segmentation"
    write_precomputed(folder / "segmentation", "precomputed", LABELS, encoding, **size, **blocks)
    tifffile.imwrite(folder / "image.tif", IMAGE, compression="zlib")
    tifffile.imwrite(folder / "labels.tif", LABELS)
    with h5py.File(folder / "volume.h5", "w") as file:
        for name, data in {"image": IMAGE, "labels": LABELS}.items():
            file.create_dataset(name, data=data, chunks=(8, 8, 8)).attrs["resolution"] = VOXEL_NM


def _write_0_6(path: Path) -> None:
    """Two levels whose transformations lead to a named system of coordinates."""
    levels = {"s0": (FINEST, 4), "s1": (IMAGE, 8)}
    datasets: list[dict[str, Any]] = [
        {
            "path": name,
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [voxel / 1000] * 3,
                    "input": {"path": name},
                    "output": {"name": "intrinsic"},
                }
            ],
        }
        for name, (_, voxel) in levels.items()
    ]
    systems = [{"name": "intrinsic", "axes": SPACE}]
    entry = {"name": "image", "coordinateSystems": systems, "datasets": datasets}
    write_group(path, {name: data for name, (data, _) in levels.items()}, [entry], "0.6")


def _write_cosem(path: Path) -> None:
    """A group as COSEM published them: `transform` of each level, repeated in `multiscales`."""
    datasets = []
    for name, data, voxel in (("s0", FINEST, 4), ("s1", IMAGE, 8)):
        write_array(path / name, "n5", data)
        (path / name / "volume.n5" / "raw").rename(path / "level")
        (path / name / "volume.n5").rmdir()
        (path / name).rmdir()
        (path / "level").rename(path / name)
        transform = {
            "axes": ["z", "y", "x"],
            "scale": [voxel] * 3,
            "translate": [(voxel - 4) / 2] * 3,
            "units": ["nm"] * 3,
        }
        write_json(path / name / "attributes.json", {"transform": transform})
        datasets.append({"path": name, "transform": transform})
    write_json(path / "attributes.json", {"multiscales": [{"name": "em", "datasets": datasets}]})


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    """The root of each store, with the images in it: a folder, S3, GCS and a web server."""
    write_images(folder)
    with (
        pytest.MonkeyPatch.context() as environment,
        s3_bucket(environment) as bucket,
        gcs_server("bucket") as gcs,
        ranges(folder) as site,
    ):
        environment.setenv("TENSORSTORE_GCS_HTTP_URL", gcs)
        environment.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", TOKEN)
        roots = {"file": str(folder), "s3": bucket, "gs": "gs://bucket", "http": site}
        for store in ("s3", "gs"):
            _upload(folder, roots[store])
        yield roots


def _upload(folder: Path, location: str) -> None:
    store: ts.KvStore = open_store(location)
    files = [file for file in folder.rglob("*") if file.is_file()]
    sent = [store.write(str(file.relative_to(folder)), file.read_bytes()) for file in files]
    for each in sent:
        each.result()
