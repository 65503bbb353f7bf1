"""Every dtype of an input goes into the network as the values that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
from funlib.geometry import Roi

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import ArrayError, ConfigError
from blockwise_predict.io import InputArray, open_input
from tests.support.arrays import lengths, write_array
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import VOXEL_SIZE, predict, read_output

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]
# What `auto` makes of them; it refuses the others.
USUAL = {
    "bool": 1,
    "uint8": 1 / 255,
    "uint16": 1 / 65535,
    "bfloat16": 1,
    **dict.fromkeys(FLOATS, 1),
}
SHAPE = (30, 28, 26)


def values_of(dtype: str) -> np.ndarray:
    """Values from all over a dtype, as float64."""
    if dtype == "bool":
        return (np.arange(np.prod(SHAPE)) % 3 == 0).reshape(SHAPE).astype(np.float64)
    low, high = (-8, 7) if dtype == "int4" else (-3, 3)
    if dtype in INTEGERS:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    values = np.random.default_rng(0).uniform(low, high, SHAPE)
    if dtype in FLOATS:
        return values.astype(dtype).astype(np.float64)
    return np.round(values * 4) / 4 if dtype == "bfloat16" else np.trunc(values * 0.999)


def write_tensorstore(path: Path, dtype: str, values: np.ndarray | None = None) -> Path:
    """A zarr 3 array of a dtype that numpy does not have."""
    metadata = {"shape": list(SHAPE), "data_type": dtype}
    kvstore = {"driver": "file", "path": f"{path}/raw/"}
    spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
    store = ts.open(spec, create=True).result()
    if values is not None:
        store[...] = values.astype(store.dtype.numpy_dtype)
    return path / "raw"


def opened(folder: Path, dtype: str, values: np.ndarray) -> InputArray:
    sizes = lengths(*VOXEL_SIZE)
    if dtype in ("bfloat16", "int4"):
        return open_input(write_tensorstore(folder / "a.zarr", dtype, values), voxel_size=sizes)
    return open_input(write_array(folder, "zarr2", values.astype(dtype)), voxel_size=sizes)


ALL = [
    "bool",
    "int4",
    *INTEGERS,
    *FLOATS,
    "bfloat16",
    ">i2",
    ">u2",
    ">i4",
    ">u8",
    ">f2",
    ">f4",
    ">f8",
]


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize(
    "normalize", ["auto", "none", "range:-2,5", "range:-2,5,1,-1", "zscore:3,7"]
)
def test_what_the_network_sees(dtype: str, normalize: str, tmp_path: Path) -> None:
    name = np.dtype(dtype).name if dtype.startswith(">") else dtype
    values = values_of(name)
    array = opened(tmp_path, dtype, values)
    assert array.storage.dtype == name
    if normalize == "auto" and name not in USUAL:
        with pytest.raises(ConfigError, match=f"dtype {name} has no usual range"):
            Normalization.parse(normalize, array.storage.dtype)
        return
    scale, shift = {
        "auto": (USUAL.get(name, 1), 0),
        "none": (1, 0),
        "range:-2,5": (1 / 7, 2 / 7),
        "range:-2,5,1,-1": (-2 / 7, 3 / 7),
        "zscore:3,7": (1 / 7, -3 / 7),
    }[normalize]
    found = Normalization.parse(normalize, array.storage.dtype).apply(
        array.read((0,) * 3, array.shape)
    )
    expected = values * scale + shift
    np.testing.assert_allclose(found[0], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fn", "int2", "complex64"])
def test_other_dtypes_are_refused_by_name(dtype: str, tmp_path: Path) -> None:
    path = write_tensorstore(tmp_path / "a.zarr", dtype)
    with pytest.raises(ArrayError, match=f"holds {dtype}; .*bfloat16, bool, float16"):
        open_input(path, voxel_size=lengths(*VOXEL_SIZE))


@pytest.mark.parametrize(
    ("dtype", "options", "scale", "shift"),
    [
        ("bool", (), 1, 0),
        ("bfloat16", (), 1, 0),
        (">i4", ("--normalize", f"range:{-(2**31)},{2**31 - 1}"), 2**-32, 0.5),
    ],
)
def test_a_run_gives_what_one_pass_over_the_values_gives(
    dtype: str, options: tuple[Any, ...], scale: float, shift: float, tmp_path: Path
) -> None:
    values = values_of(np.dtype(dtype).name if dtype.startswith(">") else dtype)
    array = opened(tmp_path, dtype, values)
    weights, architecture = save_network(tmp_path)
    output = tmp_path / "out.zarr" / "out"
    predict(
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", array.path),
        *("--voxel-size", ",".join(map(str, VOXEL_SIZE)), "--output", output, "--device", "cpu"),
        *("--precision", "float32", *options),
    )
    trained = open_checkpoint(weights, architecture=architecture)
    network_input = (values * scale + shift).astype(np.float32)[None]
    expected = one_pass(trained.build(), trained.shapes, Held(network_input), Roi((0, 0, 0), SHAPE))
    np.testing.assert_allclose(
        read_output(str(output)), expected, atol=1e-5 * np.abs(expected).max()
    )


def test_a_run_says_what_float16_could_not_hold(tmp_path: Path) -> None:
    array = opened(tmp_path, "uint8", values_of("uint8"))
    weights, architecture = save_network(tmp_path)
    output = tmp_path / "out.zarr" / "out"
    text = predict(
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", array.path),
        *("--voxel-size", ",".join(map(str, VOXEL_SIZE)), "--output", output, "--device", "cpu"),
        *("--normalize", "range:0,0.000001", "--output-dtype", "float16"),
    )
    stored = read_output(str(output))
    clipped = np.mean(np.abs(stored) == 65504)
    assert clipped > 0
    assert np.isfinite(stored).all()
    assert f"{clipped:.2%} of the values were too large for float16 and were clipped" in text
