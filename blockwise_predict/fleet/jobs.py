"""The record of a run's jobs in a cluster's queue, by which a later run finds what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from blockwise_predict.errors import RunFailedError, RunStateError
from blockwise_predict.fleet.lsf import LSF
from blockwise_predict.fleet.queue import Queue, cancel_and_wait
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.slurm import Slurm
from blockwise_predict.fleet.waiting import Hurry
from blockwise_predict.records import RunDir
from blockwise_predict.records.atomic import read_record, write_atomically

QUEUES: dict[str, Callable[[CommandRunner], Queue]] = {"slurm": Slurm, "lsf": LSF}


class JobRecord:
    """`jobs.json` of a run directory: queue, name and ids of the jobs, and how they were asked for.

    It is written before the first job is submitted, so that none is ever forgotten.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._file = run_dir.path / "jobs.json"

    def read(self) -> dict[str, Any] | None:
        """The record, or None if no job is left. Raises RunStateError if it is damaged."""
        try:
            record = read_record(self._file)
        except FileNotFoundError:
            return None
        except RunStateError:
            record = {}
        if str(record.get("queue")) in QUEUES and {"name", "terms"} <= set(record):
            return record
        raise RunStateError(
            f"{self._file} is damaged: jobs of the last run may still be in a cluster's queue. "
            "Cancel those whose names begin with predict- and that are of this run, remove the "
            "file, and run this again."
        )

    def begin(self, kind: str, name: str, terms: dict[str, Any]) -> None:
        """Jobs of a name are about to be submitted to a kind of queue; earlier ids are kept."""
        before = self.read() or {}
        ids = before.get("ids", []) if before.get("name") == name else []
        self._write({"queue": kind, "name": name, "terms": terms, "ids": ids})

    def add(self, job: str) -> None:
        """A job array was submitted."""
        record = self.read() or {}
        self._write({**record, "ids": [*record.get("ids", []), job]})

    def clear(self) -> None:
        """No job is left."""
        self._file.unlink(missing_ok=True)

    def _write(self, record: dict[str, Any]) -> None:
        try:
            write_atomically(self._file, json.dumps(record, indent=2))
        except OSError as error:
            raise RunFailedError(
                f"{self._file} cannot be written: {error.strerror}. Nothing that was finished is "
                "lost. Mend that, then run the same command again."
            ) from None


def cancel_leftovers(
    run_dir: RunDir,
    wanted: dict[str, Any] | None,
    tell: Callable[[str], None],
    hurry: Hurry,
    *,
    keep: bool,
) -> None:
    """Cancel what the last run left in a queue; or `keep` it, if it is what this run `wanted`.

    Raises RunStateError if it cannot be cancelled, and this run submits other jobs. When there is a
    `hurry`, it is not waited for.
    """
    record = JobRecord(run_dir)
    left = record.read()
    if left is None or (keep and left["terms"] == wanted):
        return
    name, queue = left["name"], QUEUES[left["queue"]](CommandRunner(hurry))
    try:
        still = cancel_and_wait(queue, name)
    except QueueError as error:
        text = (
            f"jobs of the last run may still be in {queue.name}'s queue, by the name {name}, and "
            f"cannot be cancelled from here: {error}"
        )
        if wanted is not None:
            raise RunStateError(
                f"{text}\nCancel them, remove {run_dir.path / 'jobs.json'}, and run this again."
            ) from None
        tell(text)
        return
    if still:
        tell(f"{still} jobs of the last run, named {name}, are cancelled and still in the queue.")
    else:
        tell(f"jobs of the last run, named {name}, are cancelled.")
    record.clear()
