"""When the command of --notify is run, and what it is told."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockwise_predict.records.status import Counts
from blockwise_predict.run.observation import notify
from blockwise_predict.run.observation.notify import Notice, Notifier, run_command

PLAN: Any = None


@pytest.fixture
def notifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Gives the counts to a notifier at some times; what its command was told by then."""
    told = tmp_path / "told"
    told.touch()
    clock, took = [0.0], [1.0]
    made = Notifier(
        f'echo "$PREDICT_EVENT: $PREDICT_MESSAGE" >> {told}',
        {},
        median=lambda: took[0],
        warn=pytest.fail,
        clock=lambda: clock[0],
    )
    monkeypatch.setattr(notify.threading, "Thread", _AtOnce)

    def observe(at: float, counts: Counts, median: float = 1.0) -> list[str]:
        clock[0], took[0] = at, median
        made.progress(counts)
        return told.read_text().splitlines()

    return observe


class _AtOnce:
    """A thread that has ended when it is started."""

    def __init__(self, target: Callable[..., None], args: tuple[object, ...], daemon: bool) -> None:
        assert daemon
        self._run = lambda: target(*args)

    def start(self) -> None:
        self._run()


def test_a_stall_is_told_once(notifier: Callable[..., list[str]]) -> None:
    held, more = Counts(9, 0, 0, 2), Counts(9, 1, 0, 2)
    assert notifier(0, held) == []
    assert notifier(590, held) == []
    assert notifier(600, more) == []
    assert notifier(1190, more) == []
    stall = "stalled: No block was finished for 10 min 00 s: no worker is there."
    assert notifier(1200, more) == [stall]
    assert notifier(5000, more) == [stall]
    assert notifier(5010, Counts(9, 2, 0, 2)) == [stall]
    assert len(notifier(5700, Counts(9, 2, 0, 2))) == 2
    # What is finished does not stall.
    assert len(notifier(5800, Counts(9, 9, 0, 0))) == 2
    assert len(notifier(9999, Counts(9, 9, 0, 0))) == 2


def test_long_blocks_are_given_their_time(notifier: Callable[..., list[str]]) -> None:
    held = Counts(9, 1, 0, 2)
    assert notifier(0, held, 120) == []
    assert notifier(700, held, 120) == []
    assert notifier(1199, held, 120) == []
    assert len(notifier(1261, held, 120)) == 1


def test_a_command_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 0.2)
    assert run_command("sleep 60", {}) == "had not ended after 0.2 s, and was killed."
    # What it leaves in the background is its own affair.
    assert run_command("sleep 1 & exit 0", {"PREDICT_MESSAGE": "a\0b" * 9999}) == ""


def test_what_cannot_be_passed_on_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    command = f'printf %s "$PREDICT_MESSAGE" > {told}'
    # Half of a pair of UTF-16, as JSON can hold it, and a path that is not UTF-8.
    assert run_command(command, {"PREDICT_MESSAGE": "a \ud800 b"}) == ""
    assert told.read_bytes() == rb"a \ud800 b"
    assert run_command(command, {"PREDICT_MESSAGE": "a\udcff"}) == ""
    assert told.read_bytes() == b"a\xff"
    assert run_command("echo a\0b", {}).startswith("cannot be run (embedded null byte")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "No such file or directory" in run_command("true", {})


def test_a_run_that_has_nothing_to_do_tells_its_blocks(tmp_path: Path) -> None:
    told = tmp_path / "told"
    made = Notifier(
        f"echo $PREDICT_BLOCKS_DONE of $PREDICT_BLOCKS_TOTAL > {told}",
        {},
        median=lambda: 0.0,
        warn=pytest.fail,
    )
    made.begin(PLAN, Counts(8, 5, 0, 0, skipped=2, empty=1))
    made.tell(Notice.FINISHED, "done")
    assert told.read_text() == "5 of 8\n"
