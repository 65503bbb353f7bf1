"""The notation of `--normalize`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.config.normalize import Rule, parse_rule
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("auto", Rule("auto")),
        ("range:0,255", Rule("range", (0.0, 255.0))),
        ("range:-3.5,0.1,-1,1", Rule("range", (-3.5, 0.1), (-1.0, 1.0))),
        ("range:0,255,1,0:clip", Rule("range", (0.0, 255.0), (1.0, 0.0), clip=True)),
        ("zscore:120,40.25", Rule("zscore", (120.0, 40.25))),
        ("zscore:auto", Rule("zscore")),
        ("percentiles:0.5,99", Rule("percentiles", (0.5, 99.0))),
        ("percentiles:1,99:clip", Rule("percentiles", (1.0, 99.0), clip=True)),
        ("omero", Rule("omero")),
        ("omero:-1,1:clip", Rule("omero", None, (-1.0, 1.0), clip=True)),
        ("omero:clip", Rule("omero", clip=True)),
    ],
)
def test_rules_are_read_and_written(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert str(rule) == text
    assert rule.depends_on_data == (rule.kind in ("percentiles", "omero") or text == "zscore:auto")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("percentiles", "percentiles: and two numbers, for example percentiles:1,99, or four"),
        ("percentiles:1,101", "between 0 and 100"),
        ("percentiles:99,1", "let TO_HIGH be below TO_LOW: percentiles:1,99,1,0"),
        ("range:255,0", "to invert the contrast, let TO_HIGH be below TO_LOW: range:0,255,1,0"),
        ("zscore:1,2:clip", "two numbers"),
        ("zscore:1,2,3,4", "two numbers"),
        ("range:0,255:cut", "two numbers"),
        ("range:0:255", "two numbers"),
        ("auto:clip", "auto has no numbers"),
        ("omero:5", "omero:-1,1"),
        ("clip", "write auto, none, range"),
    ],
)
def test_other_texts_are_explained(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_rule(text)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_values_are_inverted_and_clipped(dtype: str) -> None:
    raw = np.array([0, 50, 100, 200, 255], dtype)
    inverted = Normalization.parse("range:50,200,1,0", dtype).apply(raw)
    np.testing.assert_allclose(inverted, 1 - (raw.astype(float) - 50) / 150, atol=1e-6)
    clipped = Normalization.parse("range:50,200,1,-1:clip", dtype)
    found = clipped.apply(raw)
    np.testing.assert_allclose(found, (2 * inverted - 1).clip(-1, 1), atol=1e-6)
    assert found.dtype == np.float32
    assert str(clipped).endswith(", clipped to -1..1")
    assert clipped.largest(raw) == 1


def test_a_file_can_have_a_rule_for_each_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(
        "checkpoint: weights.pt\noutput: out.zarr/out\nnormalize:\n"
        f"  {tmp_path}/a.zarr/raw/: range:0,100\n  s3://data/b.zarr/raw: zscore:auto\n"
        "  c.zarr/raw: rnage:1,2\n"
    )
    assert load_config({"input": "a.zarr/raw"}, file).normalize == "range:0,100"
    assert load_config({"input": "s3://data/b.zarr/raw/"}, file).normalize == "zscore:auto"
    assert load_config({"input": "d.zarr/raw", "normalize": "none"}, file).normalize == "none"
    with pytest.raises(ConfigError, match=r"no rule for the input 'd.zarr/raw'. .*'s3://data/b"):
        load_config({"input": "d.zarr/raw"}, file)
    with pytest.raises(ConfigError, match="normalize 'rnage:1,2': write auto"):
        load_config({"input": "c.zarr/raw"}, file)
