"""The run directory: a run's decisions and progress, beside the output's container.

identity.json   what must stay the same when the run is resumed, its hash, and the run's id
plan.json       the resolved configuration and the plan, which workers read
config.yaml     the configuration, to run again
blocks-*.npy    the ledger: what has become of each block
failures.jsonl  the last error of each block that used up its attempts
precision.json  the precision that the workers compute in, once a worker has chosen it
extension.json  while the ROI is being extended: the new plan
status.json     the blocks and workers of a running scheduler, every few seconds
events.jsonl    what happened: workers that joined and left, errors with their tracebacks
predict-run.json marks the folder as a run's
lock            who holds the run, and since when
server.json     where the running scheduler listens, and the key to join it
jobs.json       jobs of the run that may be in a cluster's queue
scale.json      after `predict scale`: the requested number of workers
logs/           one log per worker

All but the logs, the events, the failures and the ledger are written atomically.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from blockwise_predict.config.consent import with_consent
from blockwise_predict.config.model import as_file
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.errors import RunStateError, shortened, shown
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.address import Address
from blockwise_predict.records.atomic import damaged, read_record, write_atomically
from blockwise_predict.records.events import EventLog
from blockwise_predict.records.failures import FailureRecord
from blockwise_predict.records.files import make_folder, open_record
from blockwise_predict.records.ledger import Ledger, create_ledger, open_ledger, read_states
from blockwise_predict.records.marker import check_marked, ledgers, mark, remove_records

_ADDRESS = TypeAdapter(Address)
_PRECISION = TypeAdapter(PrecisionChoice)


class RunDir:
    """One run's records. Whoever writes them holds the lock, except for the workers' own files.

    Unless it is `trusted`, methods that read or append to records raise RunStateError for those
    that others own or can write to.
    """

    def __init__(self, path: Path, *, trusted: bool = False) -> None:
        self.path = path
        self.logs = path / "logs"
        self.trusted = trusted
        self.events = EventLog(path, trusted=trusted)
        self.failures = FailureRecord(path / "failures.jsonl", trusted=trusted)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def begun(self) -> bool:
        """Whether a run is recorded here. Raises RunStateError if that cannot be determined."""
        with self.usable():
            try:
                os.lstat(self.path / "plan.json")
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    @contextlib.contextmanager
    def usable(self) -> Iterator[None]:
        """Turn OSErrors into RunStateError, with the path, the reason and the remedy."""
        try:
            yield
        except OSError as error:
            raise RunStateError(
                f"the run directory {self.path} cannot be used: {error.strerror} "
                f"({error.filename or self.path}). Its records need a folder that you can write "
                "to, with some MB of free space: make room, or name another one with --run-dir."
            ) from None

    def make(self) -> None:
        """Make the folder unless it exists, and mark it as a run's.

        Raises RunStateError if it cannot be made, holds other files, or others can write to it.
        """
        with self.usable():
            make_folder(self.path)
            mark(self.path, trusted=self.trusted)

    def read(self, name: str) -> dict[str, Any]:
        """Read a record that is a JSON object. Raises FileNotFoundError and RunStateError."""
        return read_record(self.path / name, trusted=self.trusted)

    def plan(self, *, unsafe_load_pickle: bool = False, factory: str | None = None) -> Plan:
        """The recorded plan. Raises RunStateError if it is missing or damaged.

        No file can consent to what it would execute: only the caller decides whether a checkpoint
        may run code, whatever is recorded.
        """
        file = self.path / "plan.json"
        with self.usable():
            try:
                check_marked(self.path, trusted=self.trusted)
                record = self.read("plan.json")
                old = record.get("config")
                config = with_consent(old, unsafe_load_pickle=unsafe_load_pickle, factory=factory)
                return Plan.model_validate({**record, "config": config})
            except (FileNotFoundError, NotADirectoryError):
                raise RunStateError(f"{self.path} holds no run: {file} is missing.") from None
            except ValidationError as error:
                first = error.errors()[0]
                place = shown(".".join(map(str, first["loc"])) or "plan")[1:-1]
                raise RunStateError(
                    f"{file} cannot be read by this version ({error.error_count()} problems, "
                    f"first: {place}: {shortened(first['msg'])}). Start afresh with --overwrite."
                ) from None

    def record(self, plan: Plan, command: str) -> None:
        """Record a new run, or the options of a resumed one.

        `plan.json` is written last, since it marks the run as begun.
        """
        self.make()
        make_folder(self.logs)
        identity = plan.identity()
        known = (self.path / "identity.json").exists()
        run = self.run_id() if known else uuid.uuid4().hex
        if not self.begun:
            arrays = len(plan.output.arrays)
            create_ledger(self.ledger_file(plan), plan.blocks_per_axis, arrays=arrays)
        write_atomically(self.path / "config.yaml", as_file(plan.config, command))
        record = {"run": run, "hash": identity_hash(identity), "identity": identity}
        write_atomically(self.path / "identity.json", json.dumps(record, indent=2))
        write_atomically(self.path / "plan.json", plan.model_dump_json(indent=2))

    def run_id(self) -> str:
        """The run's id, which its workers present to the scheduler."""
        return str(self._identity_record()["run"])

    def identity(self) -> dict[str, Any]:
        """The recorded identity. Raises RunStateError if it is damaged."""
        return dict(self._identity_record()["identity"])

    def _identity_record(self) -> dict[str, Any]:
        file = self.path / "identity.json"
        try:
            record = self.read("identity.json")
        except FileNotFoundError:
            raise damaged(file, "missing") from None
        if not {"run", "hash", "identity"} <= set(record) or type(record["identity"]) is not dict:
            raise damaged(file, "entries are missing")
        if record["hash"] != identity_hash(record["identity"]):
            raise damaged(file, "its hash does not match its content")
        return record

    def ledger_file(self, plan: Plan) -> Path:
        """The path of the ledger of a plan's blocks; each block grid has its own."""
        grid = json.dumps([plan.output.roi_begin, plan.output.shape, plan.block_shape])
        return self.path / f"blocks-{hashlib.sha256(grid.encode()).hexdigest()[:8]}.npy"

    def ledger(self, plan: Plan) -> Ledger:
        """The open ledger. Raises LedgerDamagedError."""
        file, arrays = self.ledger_file(plan), len(plan.output.arrays)
        return open_ledger(file, plan.blocks_per_axis, arrays=arrays, trusted=self.trusted)

    def block_states(self, plan: Plan) -> NDArray[np.uint8]:
        """The recorded state of each block. Raises LedgerDamagedError."""
        return read_states(self.ledger_file(plan), plan.blocks_per_axis, trusted=self.trusted)

    def replace_ledger(self, plan: Plan, records: NDArray[np.void]) -> None:
        """Replace the ledger of a plan."""
        create_ledger(self.ledger_file(plan), plan.blocks_per_axis, records)

    def drop_other_ledgers(self, plan: Plan) -> None:
        """Remove the ledgers of block grids other than the plan's."""
        own = self.ledger_file(plan).name
        for name in ledgers(self.path):
            if name != own:
                (self.path / name).unlink()

    def clear(self) -> list[str]:
        """Delete the recorded run but for its lock and jobs; the caller has informed the user.

        Deletes only what runs write; returns the names of everything else.
        """
        with self.usable():
            check_marked(self.path, trusted=self.trusted)
            return remove_records(self.path)

    def check(self) -> None:
        """Raise RunStateError if the folder exists and holds anything but a run, or if others own
        it or can write to it."""
        with self.usable(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            check_marked(self.path, trusted=self.trusted)

    def precision(self) -> PrecisionChoice | None:
        """The precision that the run's workers compute in; None if none has chosen it yet."""
        file = self.path / "precision.json"
        try:
            return _PRECISION.validate_python(self.read("precision.json"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise damaged(file, str(error.errors()[0]["msg"])) from None

    def settle_precision(self, choice: PrecisionChoice) -> PrecisionChoice:
        """Record a worker's choice unless another worker was first; returns the first choice."""
        file = self.path / "precision.json"
        own = file.with_name(f".precision.{socket.gethostname()}.{os.getpid()}")
        write_atomically(own, json.dumps(choice.as_dict(), indent=2))
        # Linking is atomic, also on network file systems.
        with contextlib.suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
        return _PRECISION.validate_python(self.read("precision.json"))

    def write_address(self, address: Address) -> None:
        """Publish where the scheduler listens, readable by this user only.

        Raises RunStateError on a file system that lets others read it.
        """
        file = self.path / "server.json"
        with self.usable():
            write_atomically(file, json.dumps(asdict(address), indent=2), mode=0o600)
        if address.hosts and file.stat().st_mode & 0o077:
            file.unlink()
            raise RunStateError(
                f"{file} holds the run's key, and this file system lets others read it. Put the "
                "run directory elsewhere with --run-dir."
            )

    def forget_address(self, address: Address) -> None:
        """Remove the address of a scheduler that has ended, unless another one has replaced it."""
        with contextlib.suppress(RunStateError, OSError):
            if self.address() == address:
                (self.path / "server.json").unlink(missing_ok=True)

    def address(self) -> Address:
        """Where the running scheduler listens. Raises RunStateError if none runs."""
        file = self.path / "server.json"
        try:
            return _ADDRESS.validate_python(self.read("server.json"))
        except FileNotFoundError:
            raise RunStateError(
                f"no scheduler runs in {self.path}. Start it with predict run."
            ) from None
        except PermissionError:
            raise RunStateError(
                f"{file} holds the run's key, which only the user of predict run may read."
            ) from None
        except ValidationError as error:
            raise damaged(file, str(error.errors()[0]["msg"])) from None

    def request_workers(self, count: int) -> None:
        """Ask the running scheduler for a different number of workers."""
        write_atomically(self.path / "scale.json", json.dumps({"workers": count}))

    def requested_workers(self) -> int | None:
        """The number of workers requested since the scheduler started; None if there is none.

        A file that cannot be read does not count as a request.
        """
        try:
            return int(self.read("scale.json")["workers"])
        except (OSError, RunStateError, KeyError, OverflowError, TypeError, ValueError):
            return None

    def clear_worker_request(self) -> None:
        """Forget requests made before the scheduler started."""
        (self.path / "scale.json").unlink(missing_ok=True)

    def log_file(self, worker: int) -> Path:
        """The path of a worker's log, which its replacements append to."""
        return self.logs / f"worker-{worker:04d}.log"

    def open_log(self, worker: int) -> int:
        """Open a worker's log to append to it. Raises OSError and RunStateError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return open_record(self.log_file(worker), flags, trusted=True, linked_folder=False)


def identity_hash(identity: dict[str, Any]) -> str:
    """sha256 of an identity, independent of key order."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
