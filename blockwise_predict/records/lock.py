"""The lock of a run: one scheduler at a time, also on file systems shared by several hosts.

Two mechanisms guard it. One is flock, which the kernel releases however its holder ends; many
network file systems propagate it to other hosts, but not all. The other is the holder's heartbeat,
a counter in the file. A holder on another host is watched for a while on this host's own clock, so
no clocks are compared. A holder that finds another one's entry in its file has lost the lock, and
stops.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from blockwise_predict.errors import LockLostError, RunStateError
from blockwise_predict.records.files import open_record

# Interval between heartbeats (seconds).
BEAT_S = 2.0
# A holder whose heartbeat does not change for this long is dead (seconds).
WATCH_S = 15.0
# Time within which a new holder writes its entry after taking the lock (seconds).
SIGN_S = 2.0
# Time for a heartbeat that is being written to finish when the lock is released (seconds).
JOIN_S = 2.0
MAX_BYTES = 1 << 16
_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: `key` is a random id, `boot` its host's boot id, `beat` its heartbeat."""

    host: str
    boot: str
    pid: int
    since: str
    key: str
    beat: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it is or was a process of this host since its last boot."""
        return (self.host, self.boot) == (socket.gethostname(), _boot())

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have ended; known only of processes of this host."""
        return self.is_here and not Path(f"/proc/{self.pid}").exists()


class RunLock:
    """A held lock. `check` raises LockLostError once it is lost."""

    def __init__(self, file: Path, *, trusted: bool = False) -> None:
        self._file = file
        self._trusted = trusted
        self._me = Holder(
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            key=uuid.uuid4().hex,
            beat=0,
        )
        self._released = threading.Event()
        # How it was lost; empty while it is held.
        self._lost = ""
        self._descriptor = -1
        self._heart = threading.Thread(target=self._beat, daemon=True, name="lock")

    def acquire(self, notify: Callable[[str], None]) -> None:
        """Take the lock. Raises RunStateError, which names the holder, if another run holds it.

        `notify` is called when a holder must be watched first, and when one turns out to be dead.
        Raises OSError if the file cannot be written, and as `open_record` does.
        """
        descriptor = open_record(self._file, os.O_RDWR | os.O_CREAT, trusted=self._trusted)
        free = _flock(descriptor)
        holder = _read(self._file)
        alive = self._is_alive(holder, free, notify) if holder else free is False
        if alive:
            os.close(descriptor)
            raise RunStateError(
                f"{self._file.parent} is in use by {self._new_holder(holder) or 'another run'}. "
                "Wait for it to end, or stop it."
            )
        if holder is not None:
            notify(f"the lock of {holder} is stale: it is no longer running.")
        if free is False:
            # The file server still keeps a dead host's flock, which is tied to the old file.
            os.close(descriptor)
            descriptor = self._replaced()
        self._descriptor = descriptor
        try:
            self._write(self._me)
        except OSError:
            os.close(descriptor)
            raise
        self._heart.start()

    def _is_alive(self, holder: Holder, free: bool | None, notify: Callable[[str], None]) -> bool:
        """Whether a holder is alive, as far as can be known from here."""
        if holder.is_here and free is not None:
            return not free
        notify(
            f"{self._file.parent} was last used by {holder}; waiting up to {WATCH_S:g} s to see "
            "whether that is alive."
        )
        return _beats(self._file, holder, WATCH_S)

    def _new_holder(self, seen: Holder | None) -> Holder | None:
        """Who holds the lock now. The file may still name a dead holder if somebody else has just
        taken the lock and not written its entry yet."""
        deadline = time.monotonic() + SIGN_S
        now = _read(self._file) or seen
        while now is not None and now.is_dead and time.monotonic() < deadline:
            time.sleep(SIGN_S / 20)
            now = _read(self._file) or seen
        return now

    def _replaced(self) -> int:
        """Replace the lock by a new file; returns its locked descriptor."""
        own = self._file.with_name(f".lock.{self._me.key}")
        descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        _flock(descriptor)
        os.replace(own, self._file)
        return descriptor

    def check(self) -> None:
        """Raise LockLostError if somebody else has taken the lock."""
        if self._lost:
            raise LockLostError(
                f"the lock {self._file} {self._lost}. This run stops; what it finished is recorded."
            )

    def release(self) -> None:
        """Release the lock."""
        self._released.set()
        self._heart.join(JOIN_S)
        if self._heart.is_alive():
            # The heartbeat hangs in the file server and may still write, so the descriptor must
            # stay open: its number must not come to mean another file.
            return
        holder = _read(self._file)
        if holder is not None and holder.key == self._me.key:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _beat(self) -> None:
        beat, beaten = 0, time.monotonic()
        while not self._released.wait(BEAT_S):
            try:
                holder = _read(self._file)
                if holder is None or holder.key != self._me.key:
                    by = holder or "somebody who removed its file"
                    self._lost = f"was taken by {by}, who took this run for dead"
                    return
                beat += 1
                self._write(Holder(**{**asdict(self._me), "beat": beat}))
                beaten = time.monotonic()
            except OSError as error:
                # The file server may be restarting. If it takes longer, others take this run for
                # dead.
                if time.monotonic() - beaten > WATCH_S:
                    self._lost = f"cannot be kept: {error}"
                    return

    def _write(self, holder: Holder) -> None:
        # Padded to a fixed length, so that a reader never sees the end of an older entry.
        text = json.dumps(asdict(holder)).ljust(1000).encode()
        os.pwrite(self._descriptor, text, 0)


@contextmanager
def hold_lock(
    file: Path, notify: Callable[[str], None], *, trusted: bool = False
) -> Iterator[RunLock]:
    """Hold a run's lock. Raises as `RunLock.acquire`."""
    lock = RunLock(file, trusted=trusted)
    lock.acquire(notify)
    try:
        yield lock
    finally:
        lock.release()


def read_holder(file: Path) -> Holder | None:
    """Who holds a lock, or died while holding it; None if nobody."""
    return _read(file)


def is_held(file: Path) -> bool:
    """Whether a lock is held; watches its heartbeat for some seconds."""
    holder = _read(file)
    return holder is not None and _beats(file, holder, 3 * BEAT_S)


def _beats(file: Path, holder: Holder, seconds: float) -> bool:
    """Whether this holder or a new one shows a heartbeat within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(0.5, seconds / 10))
        now = _read(file)
        if now is None:
            return False
        if (now.key, now.beat) != (holder.key, holder.beat):
            return True
    return False


def _flock(descriptor: int) -> bool | None:
    """Lock a file; returns whether that succeeded, or None if its file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    return True


def _read(file: Path) -> Holder | None:
    try:
        with open(open_record(file, os.O_RDONLY, trusted=True), "rb") as handle:
            return Holder(**json.loads(handle.read(MAX_BYTES)))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        # Nobody holds it, or its entry was truncated while it was written.
        return None


def _boot() -> str:
    """The id of this host's boot: a process id means nothing after a reboot."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""
