"""The record of a run's jobs in a cluster's queue, by which a later run finds those left over."""

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
from blockwise_predict.fleet.waiting import StopNow
from blockwise_predict.records import RunDir
from blockwise_predict.records.atomic import DamagedRecordError, write_atomically

QUEUES: dict[str, Callable[[CommandRunner], Queue]] = {"slurm": Slurm, "lsf": LSF}


class JobRecord:
    """`jobs.json` of a run directory: queue, name, ids and settings of the jobs.

    It is written before the first job is submitted, so that no job is ever lost track of.
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
            raise self._damaged("it is not a JSON object") from None
        if not isinstance(record.get("ids"), list):
            raise self._damaged("it lists no jobs")
        return record

    def leftovers(self) -> tuple[Callable[[CommandRunner], Queue], str, dict[str, Any]] | None:
        """What makes the queue, and the name and settings of jobs that may be left; or None.

        Raises RunStateError if the record is damaged.
        """
        record = self.read()
        if record is None:
            return None
        queue, name, settings = (record.get(key) for key in ("queue", "name", "terms"))
        if not isinstance(queue, str) or queue not in QUEUES or not isinstance(settings, dict):
            raise self._damaged("it names no known queue, or no terms")
        # Jobs are cancelled by their name, in which LSF allows wildcards.
        if not re.fullmatch(r"predict-\w+", str(name)):
            raise self._damaged(f"{name!r} is not the name of a run's jobs")
        return QUEUES[queue], str(name), settings

    def _damaged(self, why: str) -> RunStateError:
        return RunStateError(
            f"{self._file} is damaged ({why}): jobs of the last run may still be in a cluster's "
            "queue. Cancel this run's jobs (their names begin with predict-), remove the file, and "
            "run this again."
        )

    def begin(self, kind: str, name: str, settings: dict[str, Any]) -> None:
        """Record that jobs of a name will be submitted to a kind of queue; keeps earlier ids."""
        before = self.read() or {}
        ids = before["ids"] if before.get("name") == name else []
        self._write({"queue": kind, "name": name, "terms": settings, "ids": ids})

    def add(self, job: str) -> None:
        """Record a submitted job array. Raises RecordsError if that fails."""
        record = self.read() or {}
        self._write({**record, "ids": [*record.get("ids", []), job]})

    def clear(self) -> None:
        """Remove the record: no job is left."""
        self._file.unlink(missing_ok=True)

    def _write(self, record: dict[str, Any]) -> None:
        try:
            write_atomically(self._file, json.dumps(record, indent=2))
        except OSError as error:
            raise RecordsError(error) from None


def cancel_leftovers(
    run_dir: RunDir,
    wanted: dict[str, Any] | None,
    notify: Callable[[str], None],
    stop_now: StopNow,
    *,
    keep: bool,
) -> None:
    """Cancel jobs that the last run left in a queue; or `keep` those with the `wanted` settings.

    Raises RunStateError if they cannot be cancelled and this run would submit jobs of its own.
    Does not wait for the queue after `stop_now`.
    """
    record = JobRecord(run_dir)
    left = record.leftovers()
    if left is None:
        return
    make_queue, name, settings = left
    if keep and settings == wanted:
        return
    queue = make_queue(CommandRunner(stop_now))
    try:
        remaining = cancel_and_wait(queue, name)
    except QueueError as error:
        text = (
            f"jobs of the last run may still be in {queue.name}'s queue, under the name {name}, "
            f"and cannot be cancelled from here: {error}"
        )
        if wanted is not None:
            raise RunStateError(
                f"{text}\nCancel them, remove {run_dir.path / 'jobs.json'}, and run this again."
            ) from None
        notify(text)
        return
    if remaining:
        notify(
            f"{remaining} jobs of the last run, named {name}, are cancelled, but still in the "
            "queue."
        )
    else:
        notify(f"jobs of the last run, named {name}, are cancelled.")
    record.clear()
