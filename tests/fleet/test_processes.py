"""Fleets whose workers are processes, or which processes pass on to something else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet import processes
from blockwise_predict.fleet.processes import ProcessFleet
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Membership
from tests.support.jobs import Job
from tests.support.runs import events, predict
from tests.support.sabotage import at_startup


def patient() -> bool:
    """Nobody is in a hurry."""
    return False


class Fleet:
    """A fleet of a command, and what it has started and said."""

    def __init__(self, folder: Path, size: int, script: str) -> None:
        run_dir = RunDir(folder / "run")
        run_dir.logs.mkdir(parents=True)
        self._started = folder / "started"
        self.script = folder / "start.sh"
        self.script.write_text(f"#!/bin/bash\necho $1 >>{self._started}\n{script}\n")
        self.script.chmod(0o755)
        self.warnings: list[str] = []
        self.membership = Membership()
        self.fleet = ProcessFleet(
            run_dir, size, self._words, environment={}, warn=self.warnings.append, remote=True
        )
        self.fleet.start(patient)

    def _words(self, number: int) -> list[str]:
        return [str(self.script), str(number)]

    @property
    def started(self) -> list[int]:
        """The numbers that were started."""
        text = self._started.read_text() if self._started.exists() else ""
        return [int(line) for line in text.split()]

    def join(self, *numbers: int) -> None:
        for number in numbers:
            self.membership = self.membership.with_worker(number, "", time.monotonic())

    def leave(self, number: int) -> None:
        self.membership = self.membership.without_worker(number)

    def check_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.check()

    def check(self, times: int = 1) -> None:
        for _ in range(times):
            self.fleet.check(self.membership)
            time.sleep(0.02)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], Fleet]]:
    """Makes a fleet of a size; a script starts a worker, and knows its number as $1."""
    monkeypatch.setattr(processes, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(processes, "LONGEST_DELAY_S", 0.05)
    monkeypatch.setattr(processes, "KILL_S", 1.0)
    made: list[Fleet] = []

    def make(size: int, script: str) -> Fleet:
        made.append(Fleet(tmp_path, size, script))
        return made[-1]

    yield make
    for one in made:
        one.fleet.kill(patient)


def test_one_bad_host_does_not_stop_those_that_work(fleet: Callable[[int, str], Fleet]) -> None:
    some = fleet(3, "[ $1 = 1 ] && { echo no route to host; exit 255; }; exec sleep 100")
    some.join(0, 2)
    some.check_until(lambda: some.started.count(1) > 8)
    assert len(some.warnings) == 2
    assert "worker 1 exited with code 255 before its first block. " in some.warnings[0]
    assert "before its first block, 3 times in a row, while others work. " in some.warnings[1]
    assert all("no route to host" in warning for warning in some.warnings)
    assert some.started.count(0) == some.started.count(2) == 1


def test_hosts_that_are_all_bad_stop_the_run(fleet: Callable[[int, str], Fleet]) -> None:
    some = fleet(2, "echo no route to host; exit 255")
    with pytest.raises(RunFailedError, match="3 workers in a row died before their first block"):
        some.check_until(lambda: False)
    assert len(some.started) <= 5


def test_what_was_passed_on_is_waited_for_and_passed_on_again_when_it_has_ended(
    fleet: Callable[[int, str], Fleet],
) -> None:
    """As with qsub: the command returns at once, and its worker comes some time."""
    some = fleet(2, "exit 0")
    some.check_until(lambda: sorted(some.started) == [0, 1])
    some.check(times=20)
    assert sorted(some.started) == [0, 1]
    some.join(0)
    some.check(times=5)
    some.leave(0)
    some.check_until(lambda: some.started.count(0) == 2)
    # Lost: its connection ended, and it is ended once more to be sure. One other comes for it.
    some.join(0)
    some.check(times=5)
    some.leave(0)
    some.fleet.end_workers([0], some.membership)
    some.check_until(lambda: some.started.count(0) == 3)
    some.check(times=20)
    assert some.started.count(0) == 3
    assert not some.warnings


def test_a_command_that_ends_when_its_worker_has_come_has_passed_it_on(
    fleet: Callable[[int, str], Fleet], tmp_path: Path
) -> None:
    some = fleet(1, f"while [ ! -e {tmp_path}/come ]; do sleep 0.02; done")
    some.check_until(lambda: some.started == [0])
    some.join(0)
    (tmp_path / "come").touch()
    some.check(times=30)
    assert some.started == [0]
    some.leave(0)
    some.check_until(lambda: some.started == [0, 0])


def test_a_command_that_can_be_run_no_more_is_told_as_such(
    fleet: Callable[[int, str], Fleet],
) -> None:
    some = fleet(1, "sleep 0.2")
    some.join(0)
    some.script.unlink()
    some.leave(0)
    with pytest.raises(RunFailedError, match=r"cannot be started: .*No such file or directory"):
        some.check_until(lambda: False)


def test_a_command_that_cannot_be_run_at_all_is_the_users_mistake(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.logs.mkdir()
    words = [str(tmp_path / "nowhere")]
    fleet = ProcessFleet(run_dir, 1, lambda _: words, environment={}, warn=print, remote=True)
    with pytest.raises(ConfigError, match=r"workers cannot be started: .*nowhere"):
        fleet.start(patient)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"workers": "many"}', '{"workers": 3}'])
def test_a_wanted_number_that_cannot_be_read_asks_for_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text(text)
    assert RunDir(tmp_path).requested_workers() == (3 if text.endswith("3}") else None)


def test_processes_that_hear_no_signal_end_together(
    fleet: Callable[[int, str], Fleet],
) -> None:
    some = fleet(10, "trap '' TERM; sleep 1000")
    some.check_until(lambda: len(some.started) == 10)
    begun = time.monotonic()
    some.fleet.kill(patient)
    # One after the other, each would have its second.
    assert 1.0 <= time.monotonic() - begun < 4.0


def test_what_the_main_loop_asks_for_does_not_wait_for_processes(
    fleet: Callable[[int, str], Fleet],
) -> None:
    some = fleet(3, "trap '' TERM; sleep 1000")
    some.check_until(lambda: len(some.started) == 3)
    some.join(0)
    begun = time.monotonic()
    some.fleet.scale(1, some.membership)
    some.fleet.end_workers([0], some.membership)
    some.fleet.drain(some.membership)
    assert time.monotonic() - begun < 0.5
    # Those that were told to end and have not are killed all the same.
    some.check_until(lambda: not any(seat.running for seat in some.fleet._processes))


def test_a_worker_that_does_not_join_is_told_as_such(
    fleet: Callable[[int, str], Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = fleet(1, "exec sleep 1000")
    some.check_until(lambda: some.started == [0])
    monkeypatch.setattr(some.fleet, "_join_timeout", 0.1)
    some.check_until(lambda: bool(some.warnings))
    assert "worker 0 did not join within 0.1 s before its first block. " in some.warnings[0]


def test_a_worker_whose_process_has_ended_is_gone_though_its_connection_lingers(
    fleet: Callable[[int, str], Fleet], tmp_path: Path
) -> None:
    some = fleet(
        2, f"while [ ! -e {tmp_path}/die ]; do sleep 0.02; done; rm {tmp_path}/die; exit 1"
    )
    some.check_until(lambda: len(some.started) == 2)
    some.join(0, 1)
    (tmp_path / "die").touch()
    gone: list[int] = []

    def replaced() -> bool:
        gone.extend(some.fleet.check(some.membership).gone)
        return len(some.started) == 3

    some.check_until(replaced)
    # The other one, which has not joined, may have ended at the same time.
    assert set(some.started[2:]) <= set(gone) <= {0, 1}


LINGERS = """
import sys
if "worker" in sys.orig_argv:
    import os, signal, threading, time
    from pathlib import Path
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    died, replaced = Path({folder!r}, "died"), Path({folder!r}, "replaced")
    lock = threading.Lock()
    def dies(self, roi, turn):
        with lock:
            if not died.exists():
                died.touch()
                if os.fork() == 0:
                    # Holds the connection open, and says nothing, until another worker has a block.
                    deadline = time.monotonic() + 60
                    while not replaced.exists() and time.monotonic() < deadline:
                        time.sleep(0.05)
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            replaced.touch()
        return process(self, roi, turn)
    block.BlockProcessor.process = dies
"""


@pytest.mark.slow
def test_a_replacement_has_the_number_of_a_worker_whose_connection_lingers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path)
    at_startup(monkeypatch, tmp_path, LINGERS.format(folder=str(tmp_path)))
    output = predict(*job.arguments("l", "--workers", "1"))
    assert "worker 0 was killed by SIGKILL" in output
    assert [event["worker"] for event in events(job.run_dir("l"), "join")] == [0, 0]
