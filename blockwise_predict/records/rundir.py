"""The run directory: what a run has decided and done, beside the output's container.

identity.json   what must stay the same for a resumed run, its hash, and the run's own id
plan.json       the resolved configuration and the plan, which workers read
config.yaml     the configuration, to run again
blocks-*.npy    the ledger: what has become of each block
failures.jsonl  the last error of each block that used up its attempts
precision.json  what the workers compute in, once one has tried
extension.json  while the ROI is being extended: to which plan
events.jsonl    what happened: workers that came and went, errors with their tracebacks
predict-run.json marks the folder as a run's
lock            who holds the run, and since when
server.json     where the running scheduler listens, and the key to join it
jobs.json       while jobs of the run may be in a cluster's queue: which
scale.json      after `predict scale`: how many workers are wanted
logs/           one log per worker

All but the logs, the events and the ledger are written in one piece.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from blockwise_predict.config.consent import with_consent
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.errors import RunStateError, shortened, shown
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.address import Address as Address
from blockwise_predict.records.atomic import damaged, read_record, write_atomically
from blockwise_predict.records.events import EventLog
from blockwise_predict.records.failures import FailureRecord
from blockwise_predict.records.files import make_folder, open_record
from blockwise_predict.records.ledger import Ledger, create_ledger, open_ledger
from blockwise_predict.records.marker import check_marked, ledgers, mark, remove_records

_ADDRESS = TypeAdapter(Address)
_PRECISION = TypeAdapter(PrecisionChoice)


class RunDir:
    """One run's records. Nothing here is written without the lock, but for workers' own files.

    Unless they are `trusted`, records that others own or can write to are refused: whatever reads
    or appends to them raises RunStateError then.
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
        """Whether a run is recorded here. Raises RunStateError if that cannot be seen."""
        with self.usable():
            try:
                os.lstat(self.path / "plan.json")
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Turn what the system says into RunStateError: which path, why, and the way out."""
        try:
            yield
        except OSError as error:
            raise RunStateError(
                f"the run directory {self.path} cannot be used: {error.strerror} "
                f"({error.filename or self.path}). Its records need a folder that you can write "
                "to, with some MB of room: make it so, or name another one with --run-dir."
            ) from None

    def make(self) -> None:
        """Make the folder, or take an empty one, and mark it as a run's.

        Raises RunStateError if it holds other things, others can write to it, or it cannot be made.
        """
        with self.usable():
            make_folder(self.path)
            mark(self.path, trusted=self.trusted)

    def read(self, name: str) -> dict[str, Any]:
        """A record that is a JSON object. Raises FileNotFoundError and RunStateError."""
        return read_record(self.path / name, trusted=self.trusted)

    def plan(self, *, unsafe_load_pickle: bool = False) -> Plan:
        """The recorded plan. Raises RunStateError if it is missing or damaged.

        No file can consent to what it would execute: whether a checkpoint may run code is what the
        caller says, whatever is recorded.
        """
        file = self.path / "plan.json"
        with self.usable():
            try:
                check_marked(self.path, trusted=self.trusted)
                record = self.read("plan.json")
                config = with_consent(record.get("config"), unsafe_load_pickle=unsafe_load_pickle)
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
        """Write down a new run, or the options of one that goes on.

        `plan.json` last, since it marks the run as begun.
        """
        self.make()
        make_folder(self.logs)
        identity = plan.identity()
        known = (self.path / "identity.json").exists()
        run = self.run_id() if known else uuid.uuid4().hex
        if not self.begun:
            create_ledger(self.ledger_file(plan), plan.blocks_per_axis)
        given = plan.config.model_dump(mode="json", exclude_none=True, exclude={"overwrite"})
        yaml_text = f"# {command}\n" + yaml.safe_dump(given, sort_keys=False)
        write_atomically(self.path / "config.yaml", yaml_text)
        record = {"run": run, "hash": identity_hash(identity), "identity": identity}
        write_atomically(self.path / "identity.json", json.dumps(record, indent=2))
        write_atomically(self.path / "plan.json", plan.model_dump_json(indent=2))

    def run_id(self) -> str:
        """The run's own id, which its workers show to the scheduler."""
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
            raise damaged(file, "its hash is not that of its content")
        return record

    def ledger_file(self, plan: Plan) -> Path:
        """Where the ledger of a plan's blocks stands; each block grid has its own."""
        grid = json.dumps([plan.output.roi_begin, plan.output.shape, plan.block_shape])
        return self.path / f"blocks-{hashlib.sha256(grid.encode()).hexdigest()[:8]}.npy"

    def ledger(self, plan: Plan) -> Ledger:
        """The open ledger. Raises LedgerDamagedError."""
        file = self.ledger_file(plan)
        return open_ledger(file, plan.blocks_per_axis, trusted=self.trusted)

    def replace_ledger(self, plan: Plan, records: NDArray[np.void]) -> None:
        """Write the ledger of a plan anew."""
        create_ledger(self.ledger_file(plan), plan.blocks_per_axis, records)

    def drop_other_ledgers(self, plan: Plan) -> None:
        """Remove the ledgers of other grids of blocks than the plan's."""
        own = self.ledger_file(plan).name
        for name in ledgers(self.path):
            if name != own:
                (self.path / name).unlink()

    def clear(self) -> list[str]:
        """Forget the recorded run; the lock stays. The caller has told the user.

        Only what runs write is removed; returns the names of what else is there.
        """
        with self.usable():
            check_marked(self.path, trusted=self.trusted)
            return remove_records(self.path)

    def check(self) -> None:
        """Raise RunStateError if the folder is there and holds other things than a run, or if
        others own it or can write to it."""
        with self.usable(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            check_marked(self.path, trusted=self.trusted)

    def precision(self) -> PrecisionChoice | None:
        """What the run's workers compute in; None if none has settled it yet."""
        file = self.path / "precision.json"
        try:
            return _PRECISION.validate_python(self.read("precision.json"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise damaged(file, str(error.errors()[0]["msg"])) from None

    def settle_precision(self, choice: PrecisionChoice) -> PrecisionChoice:
        """Record a worker's choice, unless another worker's was first; returns the first one."""
        file = self.path / "precision.json"
        own = file.with_name(f".precision.{socket.gethostname()}.{os.getpid()}")
        write_atomically(own, json.dumps(choice.as_dict(), indent=2))
        # A link is made whole or not at all, also on network file systems.
        with contextlib.suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
        return _PRECISION.validate_python(self.read("precision.json"))

    def write_address(self, address: Address) -> None:
        """Publish where workers of this run join, for this user only.

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
        """The scheduler at an address has ended; another one's stays."""
        with contextlib.suppress(RunStateError, OSError):
            if self.address() == address:
                (self.path / "server.json").unlink(missing_ok=True)

    def address(self) -> Address:
        """Where the running scheduler listens; RunStateError if none runs."""
        file = self.path / "server.json"
        try:
            return _ADDRESS.validate_python(self.read("server.json"))
        except FileNotFoundError:
            raise RunStateError(
                f"no scheduler runs in {self.path}. Start it with predict run."
            ) from None
        except PermissionError:
            raise RunStateError(
                f"{file} holds the run's key, for the user alone who runs predict run."
            ) from None
        except ValidationError as error:
            raise damaged(file, str(error.errors()[0]["msg"])) from None

    def want_workers(self, count: int) -> None:
        """Ask the running scheduler for another number of workers."""
        write_atomically(self.path / "scale.json", json.dumps({"workers": count}))

    def wanted_workers(self) -> int | None:
        """The number of workers that was asked for since the scheduler began, if any was.

        A file that cannot be read, now or ever, asks for nothing.
        """
        try:
            return int(self.read("scale.json")["workers"])
        except (OSError, RunStateError, KeyError, OverflowError, TypeError, ValueError):
            return None

    def forget_wanted_workers(self) -> None:
        """A scheduler begins, with the number of workers that it was started with."""
        (self.path / "scale.json").unlink(missing_ok=True)

    def log_file(self, worker: int) -> Path:
        """A worker's log; the worker that replaces it goes on in it."""
        return self.logs / f"worker-{worker:04d}.log"

    def open_log(self, worker: int) -> int:
        """The descriptor of a worker's log, to append to. Raises OSError and RunStateError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return open_record(self.log_file(worker), flags, trusted=True, linked_folder=False)


def identity_hash(identity: dict[str, Any]) -> str:
    """sha256 of an identity, independent of key order."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
