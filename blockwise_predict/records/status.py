"""What a running scheduler knows of its blocks and workers, as it publishes it every few seconds.

`status.json` is for those who look at a run. Nothing depends on it: the ledger says what is done.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from blockwise_predict.records.atomic import DamagedRecordError, read_record, write_atomically

FILE = "status.json"
WORKER_STATES = ("starting", "working", "waiting", "away", "leaving")


@dataclass(frozen=True)
class Counts:
    """Numbers of blocks of a run: all that its options select, done (in this run or before), failed
    for good in this run, being processed; left out because of input that could not be read, or that
    is empty."""

    total: int
    done: int
    failed: int
    processing: int
    skipped: int = 0
    empty: int = 0

    @property
    def final(self) -> int:
        """Blocks that this run will not try again."""
        return self.done + self.failed + self.skipped + self.empty


@dataclass(frozen=True)
class WorkerStatus:
    """A worker that is present.

    number, name: as in logs; the name holds its host, process and job.
    host, job, device: the last two are "" if there is none, or it is unknown.
    joined: seconds since 1970.
    done: number of blocks that it has done.
    rate: blocks per second lately; None before it has done two.
    busy: share of the time that its device computed, from 0 to 1; None before it has done two.
    held: number of blocks that it holds.
    away: whether its connection is lost, and it may reconnect.
    leaving: whether it takes no more blocks.
    last_error: the last error of one of its blocks; "" if there was none.
    """

    number: int
    name: str
    host: str
    job: str
    device: str
    joined: float
    done: int
    rate: float | None
    busy: float | None
    held: int
    away: bool
    leaving: bool
    last_error: str

    @property
    def state(self) -> str:
        """What it does, as one of `WORKER_STATES`."""
        if self.away:
            return "away"
        if self.leaving:
            return "leaving"
        if self.held:
            return "working"
        return "waiting" if self.done else "starting"


@dataclass(frozen=True)
class Published:
    """What `status.json` holds: the state at `time` of a run that began at `began` (both in seconds
    since 1970), and the number of workers that it wants."""

    time: float
    began: float
    counts: Counts
    wanted: int
    workers: tuple[WorkerStatus, ...]


_PUBLISHED = TypeAdapter(Published)


def publish(folder: Path, published: Published) -> None:
    """Write the status into a run directory. Raises OSError."""
    # Not synced: after a power cut nobody needs it, and a slow disk must not hold up the run.
    write_atomically(folder / FILE, json.dumps(asdict(published)), durable=False)


def published_status(folder: Path, *, trusted: bool = False) -> Published | None:
    """The status that a run published last; None if it has published none, or another version of
    this program has.

    Raises RunStateError for a file that others own or can write to.
    """
    try:
        return _PUBLISHED.validate_python(read_record(folder / FILE, trusted=trusted))
    except (FileNotFoundError, DamagedRecordError, ValidationError):
        return None
