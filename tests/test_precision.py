"""The choice of precision, and that runs keep and record it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from blockwise_predict.engine.precision import (
    check_precision,
    choose_precision,
    tolerance_of,
)
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import ConfigError
from blockwise_predict.io import read_attributes
from blockwise_predict.records import RunDir, default_run_dir
from tests.networks import save_network
from tests.runs import forget_blocks, predict, read_output, write_volume

CPU = torch.device("cpu")
UINT8 = Encoding("uint8", (0.0, 1.0))


def tried(monkeypatch: pytest.MonkeyPatch, error: float, seconds: float) -> PrecisionChoice:
    """The choice when bfloat16 is off by `error` and takes `seconds` to float32's one."""
    clock = iter([0.0, 1.0, 2.0, 2.0 + seconds])
    monkeypatch.setattr("blockwise_predict.engine.precision.time.perf_counter", lambda: next(clock))
    exact = np.linspace(0, 1, 1000, dtype=np.float32)
    return choose_precision(lambda p: exact + (error if p == "bfloat16" else 0), UINT8, CPU)


def test_the_faster_one_is_taken_if_it_is_exact_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = tried(monkeypatch, error=0.0015, seconds=0.5)
    assert choice.precision == "bfloat16"
    assert choice.error == pytest.approx(0.0015, rel=1e-3)
    assert choice.tolerance == pytest.approx(1 / 510)
    assert choice.speedup == pytest.approx(2)


def test_an_error_of_more_than_half_a_step_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, error=0.0021, seconds=0.5).precision == "float32"


def test_what_is_hardly_faster_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, error=0.0, seconds=0.95).precision == "float32"


def test_floats_have_a_tolerance_of_their_span() -> None:
    assert tolerance_of(Encoding("float32"), np.array([-2, 3], np.float32)) == pytest.approx(0.01)


@pytest.mark.parametrize("precision", ["tfloat32", "float16"])
def test_what_a_cpu_does_not_do_fast_is_refused(precision: str) -> None:
    with pytest.raises(ConfigError, match=f"--precision {precision} is not for cpu"):
        check_precision(precision, CPU)


def test_the_first_worker_settles_it(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    first = PrecisionChoice("bfloat16", 0.001, 0.01, 0.002, 2.0)
    assert run_dir.precision() is None
    assert run_dir.settle_precision(first) == first
    assert run_dir.settle_precision(PrecisionChoice("float32")) == first
    assert [file.name for file in tmp_path.iterdir()] == ["precision.json"]


def test_a_run_keeps_what_was_chosen_and_records_it(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    data = np.random.default_rng(0).integers(0, 256, (40, 40, 40), np.uint8)
    volume = write_volume(tmp_path / "volume.zarr", data)
    output = tmp_path / "out.zarr" / "out"
    options = [
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", output, "--device", "cpu"),
    ]
    # As if an earlier worker of this run had chosen: what this machine would choose plays no part.
    predict(*options, "--roi", "[:200,:,:]")
    run_dir = default_run_dir(str(output))
    chosen = PrecisionChoice("bfloat16", 0.001, 0.01, 0.002, 2.0)
    (run_dir / "precision.json").write_text(json.dumps(chosen.as_dict()))
    forget_blocks(run_dir)
    text = predict(*options, "--roi", "[:200,:,:]")
    assert "Precision bfloat16: 2.0x as fast as float32, rms error 0.001" in text
    record = read_attributes(output)["blockwise_predict"]["precision"]
    assert record == chosen.as_dict()
    low = read_output(str(output))
    exact = tmp_path / "exact.zarr" / "out"
    predict(*options, "--roi", "[:200,:,:]", "--output", exact, "--precision", "float32")
    difference = np.abs(low - read_output(str(exact))).max()
    assert 0 < difference < 0.05 * np.abs(low).max()
