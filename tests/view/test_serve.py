"""`predict serve`: whatever is stored is zarr for zarr-python, tensorstore and ourselves."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr

from blockwise_predict.io import create_output, open_input, open_output
from blockwise_predict.io.images import open_image
from tests.support.arrays import output_path, output_spec, ramp
from tests.support.pyramids import write_pyramid
from tests.support.runs import command


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arrays by the names under which they are served."""
    folder = tmp_path_factory.mktemp("arrays")
    spec = output_spec(output_path(folder, "n5"), "n5")
    create_output(spec)
    output = open_output(spec.path)
    generator = np.random.default_rng(0)
    # The last chunks are not written.
    first = generator.integers(1, 200, (output.channels, *output.write_shape)).astype(output.dtype)
    output.write((0,) * output.dims, first)
    pyramid = write_pyramid(folder / "image.zarr", ramp((20, 24, 28), "uint16"))
    return {Path(spec.path).name: spec.path, "image.zarr": str(pyramid)}


@pytest.fixture(scope="module")
def urls(arrays: dict[str, str]) -> Iterator[dict[str, str]]:
    """The URLs that `predict serve` prints, by names."""
    with subprocess.Popen(
        command("serve", *arrays.values()), stdout=subprocess.PIPE, text=True
    ) as server:
        found: dict[str, str] = {}
        for line in server.stdout or ():
            if match := re.search(r"http://\S+/data/([^/]+)/s0", line):
                found[match[1]] = match[0]
            if len(found) == len(arrays):
                break
        yield found
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def read(array: Any) -> np.ndarray:
    return array.read((0,) * array.dims, array.shape)


@pytest.mark.parametrize("number", [0, 1])
def test_values_and_places_are_those_of_the_stored_array(
    arrays: dict[str, str], urls: dict[str, str], number: int
) -> None:
    name, path = [*arrays.items()][number]
    stored = open_image(path)
    whole = read(stored.finest)
    expected = whole if stored.finest.channels else whole[0]
    spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{urls[name]}/"}}
    assert np.array_equal(ts.open(spec, read=True).result().read().result(), expected)
    assert np.array_equal(zarr.open_array(urls[name], mode="r")[...], expected)
    assert expected.any()
    found = open_input(urls[name])
    assert np.array_equal(read(found), whole)
    assert (found.voxel_size, found.offset) == (stored.finest.voxel_size, stored.offset)
    assert found.dtype == stored.finest.dtype
    assert found.channel_names == stored.finest.channel_names


def test_all_levels_begin_at_the_same_corner(arrays: dict[str, str], urls: dict[str, str]) -> None:
    stored = open_image(arrays["image.zarr"])
    assert len(stored.levels) == 3
    group = urls["image.zarr"].removesuffix("/s0")
    served = open_image(group)
    for ours, theirs in zip(served.levels, stored.levels, strict=True):
        assert np.array_equal(read(ours), read(theirs))
        assert (ours.voxel_size, ours.offset) == (theirs.voxel_size, stored.offset)
    attributes = zarr.open_group(group, mode="r").attrs["ome"]
    datasets = attributes["multiscales"][0]["datasets"]
    steps = [dataset["coordinateTransformations"] for dataset in datasets]
    for scale, translation in steps:
        # For viewers, which take a translation for the centre of a voxel.
        corner = np.subtract(translation["translation"], np.divide(scale["scale"], 2))
        first = np.subtract(steps[0][1]["translation"], np.divide(steps[0][0]["scale"], 2))
        assert np.allclose(corner, first)
