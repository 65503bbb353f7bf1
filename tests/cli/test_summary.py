"""What the summary of a run is made of."""

from __future__ import annotations

import pytest

from blockwise_predict.cli.running import _busy_text
from blockwise_predict.scheduling.members import Utilization


def test_the_share_counts_from_the_first_block_to_the_last() -> None:
    busy = Utilization()
    # Computed up to 109, 119 and 129: 9 + 8 of the 20 seconds after the first block.
    for end, compute, write in [(110.0, 5.0, 1.0), (120.0, 9.0, 1.0), (130.0, 8.0, 1.0)]:
        assert busy.share is None or busy.share <= 1
        busy.count(end, compute, write)
    assert busy.share == pytest.approx(17 / 20)


def test_one_block_has_no_share() -> None:
    busy = Utilization()
    busy.count(5.0, 1.0, 1.0)
    assert busy.share is None


def test_each_worker_is_named_and_of_many_the_least_busy() -> None:
    assert _busy_text({0: 0.95, 1: 1.0}) == "Devices computed: worker 0 95%, worker 1 100%"
    many = dict.fromkeys(range(20), 0.9) | {7: 0.5}
    text = _busy_text(many)
    assert text.startswith("Devices computed: 88% on average, lowest worker 0 90%")
    assert "worker 7 50%" in text
    assert text.count("worker") == 8
