"""Absurd values in files and on the command line are refused."""

from __future__ import annotations

import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.errors import ConfigError
from tests.support.refusals import refused
from tests.support.runs import predict

pytestmark = pytest.mark.usefixtures("bounded")

NEEDED = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/out"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("roi", "[1/0:100,:,:]", "'1/0:100' is not BEGIN:END in nm (1/0 divides by zero)"),
        ("roi", "[0:1e999999999,:,:]", "has too many digits"),
        ("roi", "[" + "9" * 4000 + ":,:,:]", "has too many digits"),
        ("voxel_size", "1e99999999,4,4", "one length in nm"),
        ("normalize", "range:nan,1", "all numbers must be finite"),
        ("normalize", "range:nan,nan", "all numbers must be finite"),
        ("normalize", "range:-inf,1", "all numbers must be finite"),
        ("normalize", "range:0,1e-320", "HIGH - LOW must be between 1e-30 and 1e+30"),
        ("normalize", "range:-1e308,1e308", "HIGH - LOW must be between"),
        ("normalize", "zscore:0,inf", "all numbers must be finite"),
        ("normalize", "zscore:0,1e-320", "STD must be between 1e-30 and 1e+30"),
        ("normalize", "zscore:1e40,1", "no number may be beyond 1e+30"),
        ("output_range", "0,1e-320", "HIGH - LOW must be between"),
        ("output_range", [0, 10**400], "write LOW,HIGH"),
        ("memory", "9" * 400, "at most"),
        ("wall_time", "9" * 400 + "h", "write hours:minutes:seconds"),
        ("block_shape", [10**30, 1, 1], "every size must be at most"),
        ("block_timeout", float("inf"), "finite"),
        ("input", "a\0b", "control characters"),
        ("output", "x" * 300 + ".zarr/a", "each name in it 255"),
        ("architecture", "x/" * 3000, "at most 4000 bytes"),
    ],
)
def test_absurd_values_are_refused(key: str, value: object, message: str) -> None:
    given = {**NEEDED, "output_dtype": "uint8", key: value}
    text = refused(ConfigError, lambda: load_config(given))
    assert message in text
    assert f"--{key.replace('_', '-')}" in text


def test_the_command_line_names_a_division_by_zero() -> None:
    output = predict("plan", "--roi", "[1/0:100,:,:]", code=2)
    assert "--roi '[1/0:100,:,:]'" in output
    assert "1/0 divides by zero" in output
