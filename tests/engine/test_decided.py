"""Decisions on values: thresholds and the largest channel."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blockwise_predict.config.postprocess import parse_postprocess
from blockwise_predict.engine.encode import Encoded, encode
from blockwise_predict.engine.values import Encoding

# Few values, so that channels often tie.
VALUES = st.sampled_from([-inf, -1.5, 0.0, 0.1, 2.0, inf, nan])


def decided(values: np.ndarray, rule: str) -> Encoded:
    postprocess = parse_postprocess(rule)
    dtype = postprocess.dtype(values.shape[-1])
    return encode(torch.from_numpy(values.copy()), Encoding(dtype, postprocess=postprocess))


@given(arrays(np.float32, (7, 4), elements=VALUES))
def test_labels_are_the_first_of_the_largest_channels(values: np.ndarray) -> None:
    found = decided(values, "argmax")
    expected = np.where(np.isnan(values), -inf, values).argmax(axis=-1)
    np.testing.assert_array_equal(found.data, expected[:, None])
    assert found.data.dtype == torch.uint8
    assert found.nonfinite == (~np.isfinite(values)).any(axis=-1).sum()


@given(arrays(np.float32, (7, 3), elements=VALUES))
def test_masks_are_1_from_the_threshold_on(values: np.ndarray) -> None:
    # 0.1 is compared as a float32.
    found = decided(values, "threshold:0.1")
    np.testing.assert_array_equal(found.data, values >= np.float32(0.1))
    assert (found.clipped, found.nonfinite) == (0, (~np.isfinite(values)).sum())


@pytest.mark.parametrize(("channels", "dtype"), [(256, torch.uint8), (257, torch.uint16)])
def test_labels_of_many_channels(channels: int, dtype: torch.dtype) -> None:
    found = decided(np.eye(channels, dtype=np.float32), "argmax").data
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.numpy()[:, 0], np.arange(channels))
