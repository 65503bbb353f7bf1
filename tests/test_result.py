"""What the summary of a run is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blockwise_predict.cli.running import _busy_text
from blockwise_predict.result import busy_shares
from blockwise_predict.rundir import RunDir


def recorded(run_dir: RunDir, worker: int, blocks: list[tuple[float, float, float]]) -> None:
    """A worker's events: for each block its end, and the seconds it computed and then wrote."""
    file = run_dir.event_file(worker)
    file.parent.mkdir(parents=True, exist_ok=True)
    events = [
        {"event": "block", "time": end, "compute": compute, "write": write}
        for end, compute, write in blocks
    ]
    file.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_the_share_counts_from_the_first_block_to_the_last(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    # Computed up to 109 and up to 119 and 129: 9 + 8 of the 20 seconds after the first block.
    recorded(run_dir, 0, [(110.0, 5.0, 1.0), (120.0, 9.0, 1.0), (130.0, 8.0, 1.0)])
    recorded(run_dir, 1, [(90.0, 1.0, 0.0), (112.0, 3.0, 0.0)])
    shares = busy_shares(run_dir.read_events(), began=100.0)
    assert shares == {0: pytest.approx(17 / 20)}


def test_each_worker_is_named_and_of_many_the_least_busy() -> None:
    assert _busy_text({0: 0.95, 1: 1.0}) == "Devices computed: worker 0 95%, worker 1 100%"
    many = dict.fromkeys(range(20), 0.9) | {7: 0.5}
    text = _busy_text(many)
    assert text.startswith("Devices computed: 88% on average, least worker 0 90%")
    assert "worker 7 50%" in text
    assert text.count("worker") == 8
