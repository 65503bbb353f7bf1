"""When the command of --notify is run, and what it is told."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockwise_predict.records.status import Counts
from blockwise_predict.run.observation import notify
from blockwise_predict.run.observation.notify import ExpectedPace, Notice, Notifier, run_command
from blockwise_predict.run.stop import StopRequest
from tests.support.runs import until

PLAN: Any = None
NEVER = StopRequest()
WORKER: Any = "a worker"


class Watch:
    """Gives counts to a notifier at some times; `told` is what its command was told by then."""

    def __init__(self, file: Path) -> None:
        file.touch()
        self._file = file
        self.now, self.median, self.wanted = 0.0, 1.0, 2
        self.notifier = Notifier(
            f'echo "$PREDICT_EVENT: $PREDICT_MESSAGE" >> {file}',
            {},
            pace=ExpectedPace(lambda: self.median, 3600, lambda: self.wanted),
            stop=StopRequest(),
            warn=pytest.fail,
            clock=lambda: self.now,
        )

    def __call__(self, at: float, counts: Counts, workers: int = 1) -> list[str]:
        # As often as a run does, or nearly so.
        while self.now < at:
            self.now = min(at, self.now + 10)
            self.notifier.workers((WORKER,) * workers)
            self.notifier.progress(counts if self.now == at else self.last)
        self.last = counts
        return self._file.read_text().splitlines()

    last = Counts(0, 0, 0, 0)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(notify.threading, "Thread", _AtOnce)
    monkeypatch.setattr(notify, "CHECK_S", 10)
    return Watch(tmp_path / "told")


class _AtOnce:
    """A thread that has ended when it is started."""

    def __init__(self, target: Callable[..., None], args: tuple[object, ...], daemon: bool) -> None:
        assert daemon
        self._run = lambda: target(*args)

    def start(self) -> None:
        self._run()


def test_a_stall_is_told_once(watch: Watch) -> None:
    held, more = Counts(9, 1, 0, 2), Counts(9, 2, 0, 2)
    assert watch(10, held) == []
    assert watch(600, held) == []
    assert watch(610, more) == []
    assert watch(1200, more) == []
    stall = "stalled: No block was finished for 10 min 00 s: 1 worker holds 2 blocks."
    assert watch(1210, more) == [stall]
    assert watch(5000, more) == [stall]
    assert watch(5010, Counts(9, 3, 0, 1), workers=3) == [stall]
    again = "stalled: No block was finished for 10 min 00 s: 3 workers hold 1 block."
    assert watch(5700, Counts(9, 3, 0, 1), workers=3) == [stall, again]
    # What is finished does not stall.
    assert len(watch(5800, Counts(9, 9, 0, 0))) == 2
    assert len(watch(99999, Counts(9, 9, 0, 0))) == 2


def test_long_blocks_are_given_their_time(watch: Watch) -> None:
    held = Counts(9, 1, 0, 2)
    watch.median = 120
    assert watch(10, held) == []
    assert watch(1200, held) == []
    assert len(watch(1210, held)) == 1


def test_the_first_block_has_the_time_that_a_block_may_take(watch: Watch) -> None:
    held = Counts(9, 0, 0, 2)
    watch.median = 0
    assert watch(10, held) == []
    assert watch(3600, held) == []
    assert len(watch(3610, held)) == 1


def test_a_queue_may_take_an_hour_to_start_workers(watch: Watch) -> None:
    waiting = Counts(9, 0, 0, 0)
    assert watch(10, waiting, workers=0) == []
    assert watch(3600, waiting, workers=0) == []
    missing = "stalled: No worker has joined for 1 h 00 min: 2 are wanted."
    assert watch(9999, waiting, workers=0) == [missing]
    # The time in the queue does not count against the first block.
    watch.median = 0
    assert watch(10030, Counts(9, 0, 0, 2)) == [missing]
    assert watch(13000, Counts(9, 0, 0, 2)) == [missing]


def test_a_run_that_wants_no_workers_does_not_stall(watch: Watch) -> None:
    watch.wanted = 0
    assert watch(10, Counts(9, 0, 0, 0), workers=0) == []
    assert watch(99999, Counts(9, 0, 0, 0), workers=0) == []
    watch.wanted = 1
    assert watch(101000, Counts(9, 0, 0, 0), workers=0) == []


def test_a_command_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 0.2)
    assert run_command("sleep 60", {}, NEVER) == "had not ended after 0.2 s, and was killed."
    # What it leaves in the background is its own affair.
    assert run_command("sleep 1 & exit 0", {"PREDICT_MESSAGE": "a\0b" * 9999}, NEVER) == ""


def test_a_request_to_stop_ends_the_waiting_not_the_command(tmp_path: Path) -> None:
    stop, ended = StopRequest(), tmp_path / "ended"
    stop.request()
    threading.Timer(0.2, stop.request).start()
    problem = run_command(f"sleep 0.5; touch {ended}", {}, stop)
    assert problem == "had not ended when the run was asked to stop; it was left to itself."
    until(ended.exists)


def test_what_cannot_be_passed_on_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    command = f'printf %s "$PREDICT_MESSAGE" > {told}'
    # Half of a pair of UTF-16, as JSON can hold it, and a path that is not UTF-8.
    assert run_command(command, {"PREDICT_MESSAGE": "a \ud800 b"}, NEVER) == ""
    assert told.read_bytes() == rb"a \ud800 b"
    assert run_command(command, {"PREDICT_MESSAGE": "a\udcff"}, NEVER) == ""
    assert told.read_bytes() == b"a\xff"
    assert run_command("echo a\0b", {}, NEVER).startswith("cannot be run (embedded null byte")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "No such file or directory" in run_command("true", {}, NEVER)


def test_a_run_that_has_nothing_to_do_tells_its_blocks_in_one_line(tmp_path: Path) -> None:
    told = tmp_path / "told"
    made = Notifier(
        f'echo "$PREDICT_BLOCKS_DONE of $PREDICT_BLOCKS_TOTAL: $PREDICT_MESSAGE" > {told}',
        {},
        pace=ExpectedPace(lambda: 0.0, 3600, lambda: 1),
        stop=StopRequest(),
        warn=pytest.fail,
    )
    assert made.interruption == "Interrupted before the first block was begun."
    made.begin(PLAN, Counts(8, 5, 0, 0, skipped=2, empty=1))
    assert made.interruption == "Interrupted: 5 of 8 blocks are predicted."
    made.tell(Notice.FINISHED, "one\n\tline")
    assert told.read_text() == "5 of 8: one line\n"
