"""Volumes with a time axis: frames are predicted like slices, each as if it were alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from funlib.geometry import Roi
from ome_zarr_models import v04, v05

import blockwise_predict as bp
from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.config.model import load_config
from blockwise_predict.io import open_input
from blockwise_predict.plan.make import make_plan
from blockwise_predict.records import default_run_dir
from blockwise_predict.run.pipelines.grid import task_grid, task_rois
from tests.support.arrays import lengths
from tests.support.movies import write_movie
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import blocks_done, command, predict, read_output, until

FLAT = {"input_shape": [20, 20], "downsample_factors": [[2, 2]]}
MOVIE = np.random.default_rng(0).integers(0, 256, (6, 14, 20, 18), np.uint8)
"""Of 6 frames, 0.5 s apart from 10 s on; voxels of 8 x 4 x 4 nm from z = 40 nm on."""


class MovieJob:
    """A tiny network's run over a movie."""

    def __init__(self, folder: Path, kind: str, axes: str = "tzyx") -> None:
        self.weights, self.architecture = save_network(folder)
        # A channel axis, if there is one, has a single channel.
        place = {"tzyx": None, "tczyx": 1, "ctzyx": 0}[axes]
        data = MOVIE if place is None else np.expand_dims(MOVIE, place)
        self.input = write_movie(folder, kind, data, axes)
        self.output = str(folder / ("out.n5" if kind == "n5" else "out.zarr") / "affs")
        self._format = kind

    def arguments(self, roi: str, *more: object) -> list[object]:
        given = ("--checkpoint", self.weights, "--architecture", self.architecture)
        options = ("--format", self._format, "--device", "cpu", "--precision", "float32")
        return [
            *given,
            "--input",
            self.input,
            "--output",
            self.output,
            *options,
            "--roi",
            roi,
            *more,
        ]

    def expected(self, frames: slice, roi: Roi) -> np.ndarray:
        """`[K, t, z, y, x]`: each frame by one forward pass."""
        trained = open_checkpoint(self.weights, architecture=self.architecture)
        model = trained.build()
        passes = [
            one_pass(model, trained.shapes, Held(frame[None] / np.float32(255)), roi)
            for frame in MOVIE[frames]
        ]
        return np.stack(passes, axis=1)


@pytest.mark.parametrize(("kind", "axes"), [("zarr2", "tczyx"), ("zarr3", "tzyx"), ("n5", "ctzyx")])
def test_a_run_over_frames_equals_a_pass_over_each(kind: str, axes: str, tmp_path: Path) -> None:
    job = MovieJob(tmp_path, kind, axes)
    shown = predict("inspect", job.input)
    assert "6 x 14 x 20 x 18 voxels (t, z, y, x)" in shown
    assert "[10:13,40:152,0:80,0:72] (second, nm, nm, nm)" in shown
    # Off the voxel grid in time and in space.
    arguments = job.arguments("[10.6:12,60:140,7:70,9:65]", "--chunk-shape", "1,8,8,8")
    planned = " ".join(predict("plan", *arguments).split())
    assert "[10.5:12,56:144,4:72,8:68] (second, nm, nm, nm) = 3 x 11 x 17 x 15 voxels" in planned
    assert "t 0.5 second, 8 x 4 x 4 nm" in planned
    predict("run", *arguments)
    found = read_output(job.output)
    expected = job.expected(slice(1, 4), Roi((2, 1, 2), (11, 17, 15)))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    _check_metadata(job.output, kind)
    assert "computed again" in predict("verify", job.output, "--sample", "2")
    next(path for path in Path(job.output).rglob("*0/0") if path.is_file()).unlink()
    report = predict("verify", job.output, code=1)
    assert re.search(r"damaged \[1[01].*\] \(second, nm, nm, nm\) \(1 block\)", report)


def _check_metadata(path: str, kind: str) -> None:
    """Each reader finds the output where it is, and its axes in the order of OME-NGFF."""
    opened = open_input(path)
    assert opened.placement.voxel_size == lengths("0.5", 8, 4, 4)
    assert opened.placement.offset == lengths("10.5", 56, 4, 8)
    assert opened.placement.time_unit == "second"
    assert opened.storage.axes.kinds == ("time", "channel", "space", "space", "space")
    array = opened.array
    assert array.voxel_size == (500, 8, 4, 4)
    assert array.units == ["millisecond", "nm", "nm", "nm"]
    assert array.axis_names == ["c^", "t", "z", "y", "x"]
    np.testing.assert_array_equal(array[0, 1], opened.read((1, 0, 0, 0), (2, 11, 17, 15))[0, 0])
    if kind != "n5":
        group = zarr.open_group(Path(path).parent, mode="r")
        model = (v04 if kind == "zarr2" else v05).Image.from_zarr(group)
        (multiscale,) = (
            model.attributes.multiscales if kind == "zarr2" else model.ome_attributes.multiscales
        )
        assert [axis.name for axis in multiscale.axes] == list("tczyx")
        assert [axis.unit for axis in multiscale.axes] == ["second", None, *["nanometer"] * 3]
        scale, translation = multiscale.datasets[0].coordinateTransformations
        assert scale.scale == [0.5, 1, 8, 4, 4]
        assert translation.translation == [10.5, 0, 56, 4, 8]


@pytest.mark.parametrize("kind", ["zarr3", "n5"])
def test_a_run_is_extended_to_earlier_and_later_frames(kind: str, tmp_path: Path) -> None:
    job = MovieJob(tmp_path, kind)
    predict("run", *job.arguments("[10.5:11,40:120,:,:]"))
    output = predict("run", *job.arguments("[10:12.5,40:120,:,:]"))
    assert "to [10:12.5,40:120,0:80,0:72] (second, nm, nm, nm); 1 finished blocks are" in output
    expected = job.expected(slice(0, 5), Roi((0, 0, 0), (10, 20, 18)))
    found = read_output(job.output)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    job = MovieJob(tmp_path, "zarr2")
    arguments = job.arguments("[:,:,:,:]", "--chunk-shape", "1,4,4,4", "--block-shape", "1,4,4,4")
    run_dir = default_run_dir(job.output)
    killed = subprocess.Popen(
        command("run", *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: blocks_done(run_dir) >= 2)
    killed.kill()
    killed.wait()
    done = blocks_done(run_dir)
    assert done < 6 * 4 * 5 * 5
    assert "Resuming" in predict("run", *arguments)
    expected = job.expected(slice(None), Roi((0, 0, 0), (14, 20, 18)))
    found = read_output(job.output)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (
            "[20:30,:,:,:]",
            "misses the volume in time, which spans [10:13,40:152,0:80,0:72] (second, nm, nm, nm)",
        ),
        ("[:,500:600,:,:]", "misses the volume in space"),
        ("[12:11,:,:,:]", "'12:11' is empty, its end is not after its begin. A ROI is half-open: "),
        ("[1s:2s,:,:,:]", "'1s:2s' is not BEGIN:END in the unit of the data's time axis"),
        ("[:,a:b,:,:]", "'a:b' is not BEGIN:END in nm"),
        ("[40:80,:,:]", "the ROI has 3 axes, the volume has 4"),
        ("[40:80,:,:]", "for example [10:13,40:152,0:80,0:72] (second, nm, nm, nm)"),
    ],
)
def test_mistakes_in_a_roi_are_named_with_the_unit(roi: str, message: str, tmp_path: Path) -> None:
    job = MovieJob(tmp_path, "zarr3")
    output = " ".join(predict("plan", *job.arguments(roi), code=2).split())
    assert message in output


@pytest.mark.parametrize("dims", [("t", "z", "y", "x"), ("t", "y", "x")])
def test_a_2d_network_sees_each_slice_of_each_frame(dims: tuple[str, ...], tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **FLAT)
    data = np.random.default_rng(1).random((*(3, 5)[: len(dims) - 2], 30, 27), np.float32)
    coords: dict[str, Any] = {"t": ("t", np.arange(3) * 0.25, {"units": "min"})}
    movie = xarray.DataArray(data, dims=dims, coords=coords)
    found = bp.predict(
        str(weights), movie, architecture=str(architecture), progress=False, precision="float32"
    )
    assert found.voxel_size == lengths("0.25", *[1] * (len(dims) - 1))
    assert found.placement.time_unit == "minute"
    assert found.storage.axes.kinds == ("channel", "time", *["space"] * (len(dims) - 1))
    trained = open_checkpoint(weights, architecture=architecture)
    model = trained.build()
    for place in np.ndindex(data.shape[:-2]):
        expected = one_pass(model, trained.shapes, Held(data[place][None]), Roi((0, 0), (30, 27)))
        np.testing.assert_allclose(found.data[(slice(None), *place)], expected, atol=1e-5)


def test_axes_of_an_array_in_memory_are_named(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **FLAT)
    options: dict[str, Any] = {"architecture": str(architecture), "progress": False}
    data = np.zeros((2, 1, 3, 8, 9), np.float32)
    with pytest.raises(bp.ArrayError, match="Name them by axis_names"):
        bp.predict(str(weights), data, **options)
    names = ["t", "c^", "z", "y", "x"]
    found = bp.predict(
        str(weights),
        data,
        axis_names=names,
        voxel_size=("0.5", 8, 4, 4),
        roi="[0:0.5,:,:,:]",
        **options,
    )
    assert found.shape == (1, 3, 8, 9)
    assert found.voxel_size == lengths("0.5", 8, 4, 4)
    with pytest.raises(bp.ConfigError, match="axis_names are for an array in memory"):
        bp.predict(str(weights), "volume.zarr/raw", axis_names=names, **options)


def test_other_schedulers_count_frames_and_voxels(tmp_path: Path) -> None:
    job = MovieJob(tmp_path, "zarr2")
    options = {"architecture": str(job.architecture), "input": job.input, "output": job.output}
    config = load_config({"checkpoint": str(job.weights), **options, "roi": "[10.5:12,:,:,:]"})
    plan = make_plan(config).plan
    with pytest.raises(bp.GeometryError, match="a time axis, which has no place in nm"):
        task_grid(plan, "nm")
    rois = task_rois(plan, task_grid(plan, "voxel"))
    assert (rois.write.shape[0], rois.read.shape[0]) == (1, 1)
    assert (rois.total.begin[0], rois.total.end[0]) == (1, 4)
