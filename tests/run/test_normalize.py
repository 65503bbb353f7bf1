"""Rules for the input's values whose numbers are computed once, from the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from funlib.geometry import Coordinate, Roi

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.errors import ArrayError, ConfigError
from blockwise_predict.plan.make import make_plan
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output, tiny_config, write_volume

SHAPE = (26, 24, 23)


def test_percentiles_are_computed_once_and_recorded(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    rng = np.random.default_rng(0)
    data = rng.normal(9000, 2000, SHAPE).clip(0, 65535).astype(np.uint16)
    # Outside the ROI of the first run: it must not count, then or later.
    data[16:] += 20000
    volume, output = write_volume(tmp_path / "raw.zarr", data), f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", output, "--device", "cpu", "--precision", "float32"),
        *("--chunk-shape", "8,16,16", "--block-shape", "16,16,16"),
        *("--normalize", "percentiles:2,98,-1,1:clip"),
    ]
    low, high = np.percentile(data[:16], (2, 98))
    rule = f"range:{low:.10g},{high:.10g},-1,1:clip"
    told = " ".join(predict("run", *options, "--roi", "[:160,:,:]").split())
    assert f"--normalize percentiles:2,98,-1,1:clip: {rule}, from 8,832 values in 4 chunks" in told
    said = predict("run", *options)
    assert f"{rule}, as recorded when the run began" in " ".join(said.split())
    record = zarr.open_array(output, mode="r").attrs["blockwise_predict"]
    assert record["normalization"]["rule"] == rule
    assert record["normalization"]["clip"] == [-1, 1]
    assert record["config"]["normalize"] == "percentiles:2,98,-1,1:clip"
    network = open_checkpoint(weights, architecture=architecture)
    scaled = ((data - low) / (high - low) * 2 - 1).clip(-1, 1).astype(np.float32)
    roi = Roi((0, 0, 0), Coordinate(SHAPE))
    expected = one_pass(network.build(), network.shapes, Held(scaled[None]), roi)
    assert expected.std() > 0.01
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)


def test_a_z_score_of_the_sample(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, SHAPE, normalize="zscore:auto")
    raw = zarr.open_array(config.input, mode="r")[...].astype(float)
    plan = make_plan(config).plan
    normalized = plan.normalization.apply(raw)
    assert (normalized.mean(), normalized.std()) == pytest.approx((0, 1), abs=1e-5)
    assert plan.normalize == f"zscore:{raw.mean():.10g},{raw.std():.10g}"


def test_a_sample_without_spread_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, SHAPE, normalize="percentiles:1,99")
    zarr.open_array(config.input)[...] = 7
    with pytest.raises(ConfigError, match=r"percentiles:1,99: the values .* have no spread .* 7"):
        make_plan(config)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_window_of_omero_metadata(version: str, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, SHAPE, normalize="omero:-1,1")
    with pytest.raises(ArrayError, match="is not in an OME-NGFF group"):
        make_plan(config)
    group = zarr.open_group(tmp_path / "raw.zarr", zarr_format=2)
    window = {"min": 0, "max": 255, "start": 20, "end": 220.5}
    image = {
        "multiscales": [{"datasets": [{"path": "raw"}]}],
        "omero": {"channels": [{"color": "FFFFFF", "window": window}]},
    }
    group.attrs.update(image if version == "0.4" else {"ome": {"version": "0.5", **image}})
    plan = make_plan(config).plan
    assert plan.normalize == "range:20,220.5,-1,1"
    assert plan.normalization.apply(np.array([20, 220.5])) == pytest.approx([-1, 1])
    assert "from the omero window in its metadata" in plan.notes[-1]
    image["omero"]["channels"].append({"window": {**window, "start": 5}})
    group.attrs.update(image if version == "0.4" else {"ome": {"version": "0.5", **image}})
    with pytest.raises(ConfigError, match=r"windows of their own \(20..220.5, 5..220.5\)"):
        make_plan(config)
    image["omero"]["channels"] = [{"window": {"start": 5, "end": "much"}}]
    group.attrs.update(image if version == "0.4" else {"ome": {"version": "0.5", **image}})
    with pytest.raises(ArrayError, match=r"omero.channels of .*\[0\].window .* no start below"):
        make_plan(config)
