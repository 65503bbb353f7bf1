"""The record of a run's jobs in a cluster's queue, by which a later run finds what is left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from blockwise_predict.errors import RecordsError, RunStateError
from blockwise_predict.fleet.lsf import LSF
from blockwise_predict.fleet.queue import Queue, cancel_and_wait
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.slurm import Slurm
from blockwise_predict.fleet.waiting import Hurry
from blockwise_predict.records import RunDir
from blockwise_predict.records.atomic import DamagedRecordError, write_atomically

QUEUES: dict[str, Callable[[CommandRunner], Queue]] = {"slurm": Slurm, "lsf": LSF}


class JobRecord:
    """`jobs.json` of a run directory: queue, name and ids of the jobs, and how they were asked for.

    It is written before the first job is submitted, so that none is ever forgotten.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._file = run_dir.path / "jobs.json"

    def read(self) -> dict[str, Any] | None:
        """The record, or None if no job is left. Raises RunStateError if it is damaged."""
        try:
            record = self._run_dir.read(self._file.name)
        except FileNotFoundError:
            return None
        except DamagedRecordError:
            raise self._damaged("it is no JSON object") from None
        if not isinstance(record.get("ids"), list):
            raise self._damaged("it lists no jobs")
        return record

    def leftovers(self) -> tuple[Callable[[CommandRunner], Queue], str, dict[str, Any]] | None:
        """What makes the queue, the name and the terms of jobs that may be left, or None.

        Raises RunStateError if the record is damaged.
        """
        record = self.read()
        if record is None:
            return None
        queue, name, terms = (record.get(key) for key in ("queue", "name", "terms"))
        if not isinstance(queue, str) or queue not in QUEUES or not isinstance(terms, dict):
            raise self._damaged("it names no queue that is known, or no terms")
        # Jobs are cancelled by their name, and LSF's may hold wildcards.
        if not re.fullmatch(r"predict-\w+", str(name)):
            raise self._damaged(f"{name!r} is no name of a run's jobs")
        return QUEUES[queue], str(name), terms

    def _damaged(self, why: str) -> RunStateError:
        return RunStateError(
            f"{self._file} is damaged ({why}): jobs of the last run may still be in a cluster's "
            "queue. Cancel those whose names begin with predict- and that are of this run, remove "
            "the file, and run this again."
        )

    def begin(self, kind: str, name: str, terms: dict[str, Any]) -> None:
        """Jobs of a name are about to be submitted to a kind of queue; earlier ids are kept."""
        before = self.read() or {}
        ids = before["ids"] if before.get("name") == name else []
        self._write({"queue": kind, "name": name, "terms": terms, "ids": ids})

    def add(self, job: str) -> None:
        """A job array was submitted. Raises RecordsError if that cannot be written down."""
        record = self.read() or {}
        self._write({**record, "ids": [*record.get("ids", []), job]})

    def clear(self) -> None:
        """No job is left."""
        self._file.unlink(missing_ok=True)

    def _write(self, record: dict[str, Any]) -> None:
        try:
            write_atomically(self._file, json.dumps(record, indent=2))
        except OSError as error:
            raise RecordsError(error) from None


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
    left = record.leftovers()
    if left is None:
        return
    make_queue, name, terms = left
    if keep and terms == wanted:
        return
    queue = make_queue(CommandRunner(hurry))
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
