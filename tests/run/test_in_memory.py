"""Prediction in memory: the values of a run, for every kind of array, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import tensorstore as ts
import xarray
import zarr
from funlib.geometry import Roi
from funlib.persistence import Array

import blockwise_predict as bp
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.runs import predict, read_output

EXACT = {"device": "cpu", "precision": "float32", "progress": False}
VOXEL_SIZE = (10, 10, 10)


def model_of(job: Job) -> bp.TrainedModel:
    weights, architecture = save_network(job.folder)
    return bp.open_checkpoint(weights, architecture=architecture)


def as_xarray(raw: np.ndarray) -> xarray.DataArray:
    coordinates = {axis: np.arange(n) * 10.0 for axis, n in zip("zyx", raw.shape, strict=True)}
    return xarray.DataArray(raw, dims=tuple("zyx"), coords=coordinates, attrs={"units": "nm"})


def as_funlib(raw: np.ndarray) -> Array:
    return Array(raw, offset=(0, 0, 0), voxel_size=VOXEL_SIZE, axis_names=["z", "y", "x"])


KINDS: dict[str, tuple[Callable[[np.ndarray], Any], dict[str, Any]]] = {
    "numpy": (lambda raw: raw, {"voxel_size": VOXEL_SIZE}),
    "zarr": (lambda raw: zarr.array(raw), {"voxel_size": VOXEL_SIZE}),
    "tensorstore": (lambda raw: ts.array(raw), {"voxel_size": VOXEL_SIZE}),
    "dask": (lambda raw: dask.array.from_array(raw, 16), {"voxel_size": VOXEL_SIZE}),
    "funlib": (as_funlib, {}),
    "xarray": (as_xarray, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_values_of_a_run(kind: str, job: Job) -> None:
    raw = zarr.open_array(job.input, mode="r")[:]
    make, place = KINDS[kind]
    before = sorted(job.folder.rglob("*"))
    prediction = bp.predict(
        model_of(job), make(raw), roi="[80:300,:,35:200]", block_shape="16,16,16", **place, **EXACT
    )
    assert sorted(job.folder.rglob("*")) == before
    predict(*job.arguments("r", "--roi", "[80:300,:,35:200]"))
    np.testing.assert_array_equal(prediction.data, read_output(job.output("r")))
    assert prediction.voxel_size == (10, 10, 10)
    assert prediction.roi == Roi((80, 0, 30), (220, 360, 170))


def test_a_path_an_opened_array_and_a_roi_in_world_units(job: Job) -> None:
    weights, architecture = save_network(job.folder)
    roi = Roi((80, 0, 30), (220, 360, 170))
    by_path = bp.predict(weights, job.input, roi=roi, architecture=architecture, **EXACT)
    opened = bp.predict(model_of(job), bp.open_array(job.input), roi=roi, **EXACT)
    np.testing.assert_array_equal(by_path.data, opened.data)
    assert by_path.roi == opened.roi == roi
    np.testing.assert_array_equal(by_path.array[roi], by_path.data)


def test_channels_are_chosen_by_name(job: Job) -> None:
    model = model_of(job)
    everything = bp.predict(model, job.input, **EXACT)
    last = model.channel_names[-1]
    chosen = bp.predict(model, job.input, channels=[last], **EXACT)
    assert chosen.channel_names == (last,)
    np.testing.assert_array_equal(chosen.data, everything.data[-1:])
    with pytest.raises(bp.ConfigError, match=f"channels mito: .* its channels are .*{last}"):
        bp.predict(model, job.input, channels=["mito"], **EXACT)


def test_many_small_blocks_and_one_large_one_are_alike(job: Job) -> None:
    model = model_of(job)
    whole = bp.predict(model, job.input, **EXACT)
    small = bp.predict(model, job.input, block_shape="16,16,16", **EXACT)
    np.testing.assert_allclose(small.data, whole.data, atol=1e-5)


def test_fractions_of_nanometres_stay_exact(job: Job) -> None:
    raw = zarr.open_array(job.input, mode="r")[:]
    size = ("4.24", 4, 4)
    prediction = bp.predict(model_of(job), raw, voxel_size=size, offset=(0, 0, "1/3"), **EXACT)
    assert prediction.voxel_size == (Fraction("4.24"), 4, 4)
    assert prediction.offset == (0, 0, Fraction(1, 3))
    assert "4.24 x 4 x 4 nm" in repr(prediction)
    np.testing.assert_array_equal(np.asarray(prediction), prediction.data)


def test_what_is_about_files_and_workers_is_refused(job: Job) -> None:
    with pytest.raises(bp.ConfigError, match=r"workers: not an option of a prediction in memory"):
        bp.predict(model_of(job), job.input, workers=2, **EXACT)


def test_an_array_that_does_not_fit_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(bp.ArrayError, match="channels"):
        bp.predict(model_of(job), np.zeros((3, 40, 40, 40), np.uint8), **EXACT)
    with pytest.raises(bp.ArrayError):
        bp.predict(model_of(job), np.zeros((40, 40, 40), complex), **EXACT)
    with pytest.raises(bp.ArrayError):
        bp.predict(model_of(job), tmp_path / "nowhere.zarr" / "raw", **EXACT)
