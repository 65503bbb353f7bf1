"""What a run shows of its progress."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from blockwise_predict.cli.terminal import RunDisplay
from blockwise_predict.records.status import Counts
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, write_volume

BEGUN = Counts(total=10, done=0, failed=0, processing=2)
SKIPPED = Counts(total=10, done=0, failed=0, processing=2, skipped=1)
ENDED = Counts(total=10, done=5, failed=1, processing=0, skipped=3, empty=1)
LAST = "9/10 blocks, 1 failed, 3 skipped, 1 empty"


@pytest.mark.parametrize(
    ("interval", "lines"),
    [
        (0.0, ["0/10 blocks", "1/10 blocks, 1 skipped", LAST]),
        # The last one does not wait for its time.
        (float("inf"), [LAST]),
    ],
)
def test_lines_count_skipped_blocks(
    interval: float,
    lines: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("blockwise_predict.cli.terminal.LINE_INTERVAL_S", interval)
    display = RunDisplay()
    for counts in (BEGUN, BEGUN, SKIPPED, ENDED, ENDED):
        display.progress(counts)
    shown = re.sub(r", [\d.]+ \S*voxel/s", "", capfd.readouterr().err)
    assert shown.splitlines() == lines


def test_plan_and_run_agree_on_the_home_folder(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    volume = np.random.default_rng(0).integers(0, 256, (20, 20, 20), np.uint8)
    write_volume(tmp_path / "volume.zarr", volume)
    file = tmp_path / "run.yaml"
    given = {
        "checkpoint": f"~/{weights.name}",
        "architecture": f"~/{architecture.name}",
        "input": "~/volume.zarr/raw",
        "output": "~/out.zarr/affs",
        "device": "cpu",
    }
    file.write_text(yaml.safe_dump(given))
    shown = predict("plan", file, HOME=str(tmp_path))
    output = f"{tmp_path}/out.zarr/affs"
    page = " ".join(shown.split())
    assert f" output {output}: zarr3" in page
    assert f" run directory {tmp_path}/out.zarr.predict-run/affs;" in page
    assert "~" not in shown
    assert f"Done: {output} holds" in predict("run", file, HOME=str(tmp_path))
    assert read_output(output).shape == (2, 20, 20, 20)
    assert not (Path.cwd() / "~").exists()
