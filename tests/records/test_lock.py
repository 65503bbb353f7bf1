"""The lock of a run, on file systems that know locks and on those that do not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from blockwise_predict.errors import LockLostError, RunStateError
from blockwise_predict.records import lock as module
from blockwise_predict.records.lock import RunLock, hold_lock, is_held


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    monkeypatch.setattr(module, "WATCH_S", 1.0)


@contextmanager
def taken_by_another_host(file: Path) -> Iterator[None]:
    """Another host writes its name over ours, and keeps on, where locks are not known to us."""
    other = json.loads(file.read_text()) | {"host": "other-host", "key": "other"}
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.05):
            other["beat"] += 1
            # In place, as a lock is written: a file that is empty for a moment says "released".
            with open(file, "r+") as written:
                written.write(json.dumps(other).ljust(1000))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def lost(lock: RunLock) -> str:
    """How a lock is lost, within a while."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            lock.check()
        except LockLostError as error:
            return str(error)
        time.sleep(0.01)
    pytest.fail("it is not lost")


def test_two_hosts_share_a_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    told: list[str] = []
    with hold_lock(file, told.append) as first, taken_by_another_host(file):
        assert "was taken by process" in lost(first)
        assert "on other-host" in lost(first)
        with pytest.raises(RunStateError, match=r"is in use by process \d+ on other-host since"):
            RunLock(file).acquire(told.append)
    assert told[-1].startswith(f"{tmp_path} was last used by process")


def test_a_file_system_without_locks_is_guarded_by_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    file = tmp_path / "lock"
    told: list[str] = []
    with hold_lock(file, told.append), pytest.raises(RunStateError, match="is in use by process"):
        RunLock(file).acquire(told.append)
    with hold_lock(file, told.append) as again:
        again.check()


def test_a_file_server_that_fails_now_and_then_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError(errno.EIO, "Input/output error")] * 3)
    read, failed = module._read, threading.Event()

    def now_and_then(file: Path) -> module.Holder | None:
        for error in failures:
            raise error
        failed.set()
        return read(file)

    with hold_lock(tmp_path / "lock", print) as lock:
        monkeypatch.setattr(module, "_read", now_and_then)
        assert failed.wait(20)
        time.sleep(0.3)
        lock.check()


def test_a_lock_that_cannot_be_kept_for_long_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with hold_lock(tmp_path / "lock", print) as lock, monkeypatch.context() as patch:
        patch.setattr(module, "_read", never)
        assert "cannot be kept: [Errno 5] Input/output error" in lost(lock)


def test_a_released_lock_writes_nothing_into_what_has_its_descriptor_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server may keep a heartbeat waiting until long after the release."""
    begun, go_on = threading.Event(), threading.Event()
    real = RunLock._write

    def stuck(self: RunLock, holder: module.Holder) -> None:
        if holder.beat:
            begun.set()
            assert go_on.wait(20)
        real(self, holder)

    monkeypatch.setattr(RunLock, "_write", stuck)
    monkeypatch.setattr(module, "JOIN_S", 0.2)
    other = tmp_path / "other"
    with hold_lock(tmp_path / "lock", print) as lock:
        assert begun.wait(20)
    with ExitStack() as opened:
        # One of these gets the number that the lock has given up, if it has.
        for _ in range(64):
            opened.enter_context(open(other, "ab"))
        go_on.set()
        lock._heart.join(20)
        assert not lock._heart.is_alive()
    assert other.read_bytes() == b""


def test_a_heartbeat_ends_before_its_descriptor_is_closed(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock", print) as lock:
        pass
    assert not lock._heart.is_alive()
    assert (tmp_path / "lock").read_text() == ""


def signed(file: Path, **changes: object) -> str:
    """What a holder writes into its file."""
    with hold_lock(file, print):
        holder = json.loads(file.read_text()) | changes
    return json.dumps(holder).ljust(1000)


def test_the_second_to_resume_on_another_host_is_told_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    dead = signed(file, host="dead-host", key="dead", pid=4711)
    first = signed(file, host="first-host", key="first", pid=4712)
    file.write_text(dead)
    told: list[str] = []

    def tell(text: str) -> None:
        # While the dead one is watched, the other host takes over.
        told.append(text)
        file.write_text(first)

    with pytest.raises(RunStateError, match="is in use by process 4712 on first-host since"):
        RunLock(file).acquire(tell)
    assert "was last used by process 4711 on dead-host" in told[0]


def test_the_second_to_resume_on_this_host_is_told_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    ended = subprocess.Popen(["true"])
    ended.wait()
    file.write_text(signed(file, pid=ended.pid))
    with open(file, "r+b") as lock:
        # The first has the kernel's lock, and has not yet written its name.
        fcntl.flock(lock, fcntl.LOCK_EX)
        living = signed(tmp_path / "another", key="first")
        signing = threading.Timer(0.3, lambda: file.write_text(living))
        signing.start()
        with pytest.raises(RunStateError, match=f"is in use by process {os.getpid()} on"):
            RunLock(file).acquire(print)
        signing.join()


def test_a_lock_is_held_while_its_holder_lives(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_held(file)
    with hold_lock(file, print):
        assert is_held(file)
        text = file.read_text()
    assert not is_held(file)
    # What a holder leaves behind that could not release it.
    file.write_text(text)
    assert not is_held(file)
