"""The run directory: what a run has decided and done, beside the output's container.

identity.json   what must stay the same for a resumed run, its hash, and the run's own id
plan.json       the resolved configuration and the plan, which workers read
config.yaml     the configuration, to run again
blocks-*.npy    the ledger: what has become of each block
failures.jsonl  the last error of each block that used up its attempts
precision.json  what the workers compute in, once one has tried
extension.json  while the ROI is being extended: to which plan
events.jsonl    what happened: workers that came and went, errors with their tracebacks
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
import shutil
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.plan import Plan
from blockwise_predict.records.atomic import damaged, read_record, write_atomically
from blockwise_predict.records.events import EventLog
from blockwise_predict.records.failures import FailureRecord
from blockwise_predict.records.ledger import Ledger, create_ledger, open_ledger

_RECORDS = (
    *("plan.json", "identity.json", "config.yaml", "precision.json", "server.json"),
    "scale.json",
    *("extension.json", "failures.jsonl", "events.jsonl", "events.1.jsonl"),
)


def default_run_dir(output: str) -> Path:
    """The run directory of an output `container/name`, beside its container.

    Raises RunStateError for an output on an object store, which has no "beside" that can be locked.
    """
    if "://" in output:
        raise RunStateError(
            f"{output} is not on a file system: say with --run-dir where the run's records go."
        )
    path = Path(output).absolute()
    containers = [p for p in (path, *path.parents) if p.suffix in (".zarr", ".n5")]
    container = containers[-1] if containers else path.parent
    name = ".".join(path.relative_to(container).parts) or "root"
    return container.with_name(container.name + ".predict-run") / name


@dataclass(frozen=True)
class Address:
    """Where a run's scheduler listens, and the key that admits workers.

    `host` is the name of its machine, `here` the address at which that reaches it, `hosts` those at
    which others do (none if it listens on its own machine only), `key` the PEM of its key.
    """

    host: str
    here: str
    hosts: tuple[str, ...]
    port: int
    key: str

    def reachable_at(self, host: str) -> tuple[str, ...]:
        """What to try from the machine named `host`, in this order."""
        if not self.hosts:
            # Whatever that machine is called now.
            return (self.here,)
        return (self.here, *self.hosts) if host == self.host else self.hosts


class RunDir:
    """One run's records. Nothing here is written without the lock, but for workers' own files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.events = EventLog(path)
        self.failures = FailureRecord(path / "failures.jsonl")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def begun(self) -> bool:
        """Whether a run is recorded here."""
        return (self.path / "plan.json").exists()

    def plan(self) -> Plan:
        """The recorded plan. Raises RunStateError if it is missing or damaged."""
        file = self.path / "plan.json"
        try:
            return Plan.model_validate(read_record(file))
        except FileNotFoundError:
            raise RunStateError(f"{self.path} holds no run: {file} is missing.") from None
        except ValidationError as error:
            raise RunStateError(
                f"{file} cannot be read by this version ({error.error_count()} problems, first: "
                f"{error.errors()[0]['msg']}). Start afresh with --overwrite."
            ) from None

    def record(self, plan: Plan, command: str) -> None:
        """Write down a new run, or the options of one that goes on.

        `plan.json` last, since it marks the run as begun.
        """
        for folder in (self.path, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
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
            record = read_record(file)
        except FileNotFoundError:
            raise damaged(file, "missing") from None
        if not {"run", "hash", "identity"} <= set(record):
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
        return open_ledger(self.ledger_file(plan), plan.blocks_per_axis)

    def replace_ledger(self, plan: Plan, records: NDArray[np.void]) -> None:
        """Write the ledger of a plan anew."""
        create_ledger(self.ledger_file(plan), plan.blocks_per_axis, records)

    def clear(self) -> None:
        """Forget the recorded run; the lock stays. The caller has told the user."""
        for name in _RECORDS:
            (self.path / name).unlink(missing_ok=True)
        for file in self.path.glob("blocks-*.npy"):
            file.unlink()
        shutil.rmtree(self.logs, ignore_errors=True)

    def refuse_foreign_folder(self) -> None:
        """Raise RunStateError for a folder that holds other things than a run."""
        if not self.path.exists() or self.begun or (self.path / "lock").exists():
            return
        if any(self.path.iterdir()):
            raise RunStateError(f"--run-dir {self.path} holds other files. Give an empty folder.")

    def precision(self) -> PrecisionChoice | None:
        """What the run's workers compute in; None if none has settled it yet."""
        file = self.path / "precision.json"
        try:
            return PrecisionChoice(**read_record(file))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise damaged(file, str(error)) from None

    def settle_precision(self, choice: PrecisionChoice) -> PrecisionChoice:
        """Record a worker's choice, unless another worker's was first; returns the first one."""
        file = self.path / "precision.json"
        own = file.with_name(f".precision.{socket.gethostname()}.{os.getpid()}")
        write_atomically(own, json.dumps(choice.as_dict(), indent=2))
        # A link is made whole or not at all, also on network file systems.
        with contextlib.suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
        return PrecisionChoice(**read_record(file))

    def write_address(self, address: Address) -> None:
        """Publish where workers of this run join, for this user only.

        Raises RunStateError on a file system that lets others read it.
        """
        file = self.path / "server.json"
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
            record = read_record(file)
            return Address(**{**record, "hosts": tuple(record["hosts"])})
        except FileNotFoundError:
            raise RunStateError(
                f"no scheduler runs in {self.path}. Start it with predict run."
            ) from None
        except PermissionError:
            raise RunStateError(
                f"{file} holds the run's key, for the user alone who runs predict run."
            ) from None
        except (KeyError, TypeError) as error:
            raise damaged(file, f"{type(error).__name__}: {error}") from None

    def want_workers(self, count: int) -> None:
        """Ask the running scheduler for another number of workers."""
        write_atomically(self.path / "scale.json", json.dumps({"workers": count}))

    def wanted_workers(self) -> int | None:
        """The number of workers that was asked for since the scheduler began, if any was.

        A file that cannot be read, now or ever, asks for nothing.
        """
        try:
            return int(read_record(self.path / "scale.json")["workers"])
        except (OSError, RunStateError, KeyError, TypeError, ValueError):
            return None

    def forget_wanted_workers(self) -> None:
        """A scheduler begins, with the number of workers that it was started with."""
        (self.path / "scale.json").unlink(missing_ok=True)

    def log_file(self, worker: int) -> Path:
        """A worker's log; the worker that replaces it goes on in it."""
        return self.logs / f"worker-{worker:04d}.log"


def identity_hash(identity: dict[str, Any]) -> str:
    """sha256 of an identity, independent of key order."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
