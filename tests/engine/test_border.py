"""Border fill, declared value ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given
from hypothesis import strategies as st

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.encode import encode
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.engine.values import Encoding, Normalization
from blockwise_predict.errors import ConfigError, PredictError


class Held:
    """An array in memory that refuses to be read outside its bounds."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.shape = data.shape[1:]

    def read(self, begin: tuple[int, ...], end: tuple[int, ...]) -> np.ndarray:
        assert all(0 <= b < e <= n for b, e, n in zip(begin, end, self.shape, strict=True))
        return self.data[(slice(None), *map(slice, begin, end))]


MODES = {"reflect": {}, "edge": {}, "constant": {"constant_values": 0}}


@pytest.mark.parametrize("border", MODES)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    begin=st.tuples(st.integers(-15, 8), st.integers(-15, 8)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_padding_equals_numpys(
    border: str, shape: tuple[int, int], begin: tuple[int, int], size: tuple[int, int]
) -> None:
    data = np.arange(1, 1 + 2 * np.prod(shape)).reshape(2, *shape)
    padded = np.pad(data, ((0, 0), (40, 40), (40, 40)), mode=border, **MODES[border])
    roi = Roi(begin, size)
    expected = padded[(slice(None), *(roi + Coordinate(40, 40)).to_slices())]
    np.testing.assert_array_equal(read_padded(Held(data), roi, border), expected)


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 1 / 255), ("uint16", 1 / 65535), ("float32", 1), ("bool", 1)]
)
def test_auto_normalization_goes_by_dtype(dtype: str, scale: float) -> None:
    assert Normalization.parse("auto", dtype) == Normalization(scale)


def test_auto_normalization_does_not_guess() -> None:
    with pytest.raises(ConfigError, match="int32 has no usual range"):
        Normalization.parse("auto", "int32")


def test_declared_normalizations() -> None:
    raw = np.array([100, 200], np.int16)
    assert Normalization.parse("range:100,200", "int16").apply(raw).tolist() == [0, 1]
    assert Normalization.parse("zscore:150,25", "int16").apply(raw).tolist() == [-2, 2]
    assert Normalization.parse("none", "int16").apply(raw).tolist() == [100, 200]


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "float64"])
def test_a_narrow_range_of_large_values_keeps_its_steps(dtype: str) -> None:
    """float32 has steps of 128 there."""
    raw = (2_000_000_000 + np.arange(0, 256, 51)).astype(dtype)
    normalization = Normalization.parse("range:2000000000,2000000255", dtype)
    np.testing.assert_allclose(normalization.apply(raw), np.arange(6) / 5, atol=1e-5)
    assert normalization.largest(raw) == pytest.approx(1)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@given(values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_integers_decode_to_within_half_a_step(dtype: str, values: list[float]) -> None:
    encoding = Encoding(dtype, (-1.0, 1.0))
    stored = encode(torch.tensor(values), encoding)
    assert stored.clipped == 0
    assert encoding.step is not None
    error = np.abs(encoding.decode(stored.data.numpy()) - np.array(values, np.float32)).max()
    assert error <= encoding.step / 2 + 1e-6


def test_range_ends_are_the_dtypes_ends_and_what_is_outside_is_counted() -> None:
    encoded = encode(torch.tensor([0, 1, -0.5, 1.5, 0.5]), Encoding("uint8", (0.0, 1.0)))
    assert encoded.data.tolist() == [0, 255, 0, 255, 128]
    assert encoded.clipped == 2


def test_nan_is_stored_by_floats_and_counted_and_refused_by_integers() -> None:
    values = torch.tensor([np.nan, np.inf, 1])
    assert encode(values, Encoding("float32")).nonfinite == 2
    with pytest.raises(PredictError, match="2 of 3 output values are NaN or infinite"):
        encode(values, Encoding("uint8", (0.0, 1.0)))


def test_what_float16_cannot_hold_is_clipped_and_counted() -> None:
    values = torch.tensor([1e6, -1e6, 65504, 0.5, np.nan, np.inf, -np.inf])
    encoded = encode(values, Encoding("float16"))
    assert (encoded.clipped, encoded.nonfinite) == (2, 3)
    stored = [65504, -65504, 65504, 0.5, np.nan, np.inf, -np.inf]
    np.testing.assert_array_equal(encoded.data.numpy(), np.array(stored, np.float16))


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="--device cuda:99: this machine has"):
        choose_device("cuda:99")
