"""The run directory: what a run has decided and done, beside the output's container.

identity.json   what must stay the same for a resumed run, and its hash
plan.json       the resolved configuration and the plan, which workers read
config.yaml     the configuration, to run again
lock            held by the scheduler; who and since when
precision.json  what the workers compute in, once one has tried
server.json     where the running scheduler listens
tracking/       daisy's record of finished blocks
events/         one JSON-lines file per worker: a line per block or error
logs/           one log per worker
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
import zarr
from pydantic import ValidationError

from blockwise_predict.engine.precision import PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.plan import Plan


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


class RunDir:
    """One run's records. Nothing here is written without the lock, but for workers' own files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.events = path / "events"
        self.tracking = path / "tracking"

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
            return Plan.model_validate_json(file.read_text())
        except FileNotFoundError:
            raise RunStateError(f"{self.path} holds no run: {file} is missing.") from None
        except ValidationError as error:
            raise RunStateError(
                f"{file} cannot be read by this version ({error.error_count()} problems, first: "
                f"{error.errors()[0]['msg']}). Start afresh with --overwrite."
            ) from None

    def record(self, plan: Plan, command: str) -> None:
        """Write down a new run; `plan.json` last, since it marks the run as begun."""
        for folder in (self.path, self.logs, self.events):
            folder.mkdir(parents=True, exist_ok=True)
        given = plan.config.model_dump(mode="json", exclude_none=True)
        _write(
            self.path / "config.yaml",
            f"# {command}\n" + yaml.safe_dump(given, sort_keys=False),
        )
        identity = plan.identity()
        _write(
            self.path / "identity.json",
            json.dumps({"hash": identity_hash(identity), "identity": identity}, indent=2),
        )
        _write(self.path / "plan.json", plan.model_dump_json(indent=2))

    def check_identity(self, plan: Plan) -> None:
        """Raise RunStateError that shows both values of everything in which a plan differs."""
        recorded = json.loads((self.path / "identity.json").read_text())["identity"]
        now = json.loads(json.dumps(plan.identity()))
        changed = [key for key in now | recorded if now.get(key) != recorded.get(key)]
        if not changed:
            return
        lines = [f"  {key}: was {recorded.get(key)}, is now {now.get(key)}" for key in changed]
        raise RunStateError(
            f"{plan.output.path} was begun by a run that differs:\n"
            + "\n".join(lines)
            + f"\nResume with what it was begun with ({self.path / 'config.yaml'}), give another "
            "--output, or start afresh with --overwrite."
        )

    def clear(self) -> None:
        """Forget the recorded run; the lock stays. The caller has told the user."""
        for name in ("plan.json", "identity.json", "config.yaml", "precision.json", "server.json"):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.tracking, self.events, self.logs):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; RunStateError names the holder if there is one."""
        self._refuse_foreign_folder()
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise RunStateError(
                    f"{self.path} is in use by {file.read().strip() or 'another run'}. "
                    "Wait for it to end, or stop it."
                ) from None
            file.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
            file.flush()
            try:
                yield
            finally:
                (self.path / "server.json").unlink(missing_ok=True)
                file.truncate(0)

    def _refuse_foreign_folder(self) -> None:
        if not self.path.exists() or self.begun or (self.path / "lock").exists():
            return
        if any(self.path.iterdir()):
            raise RunStateError(f"--run-dir {self.path} holds other files. Give an empty folder.")

    def precision(self) -> PrecisionChoice | None:
        """What the run's workers compute in; None if none has settled it yet."""
        file = self.path / "precision.json"
        return PrecisionChoice(**json.loads(file.read_text())) if file.exists() else None

    def settle_precision(self, choice: PrecisionChoice) -> PrecisionChoice:
        """Record a worker's choice, unless another worker's was first; returns the first one."""
        file = self.path / "precision.json"
        own = file.with_name(f".precision.{socket.gethostname()}.{os.getpid()}")
        own.write_text(json.dumps(choice.as_dict(), indent=2))
        # A link is made whole or not at all, also on network file systems.
        with contextlib.suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
        return PrecisionChoice(**json.loads(file.read_text()))

    def write_port(self, port: int) -> None:
        """Publish the loopback port at which workers of this run join."""
        _write(self.path / "server.json", json.dumps({"port": port}))

    def port(self) -> int:
        """Port of the running scheduler; RunStateError if none runs."""
        try:
            return int(json.loads((self.path / "server.json").read_text())["port"])
        except FileNotFoundError:
            raise RunStateError(
                f"no scheduler runs in {self.path}. Start it with predict run."
            ) from None

    def done_blocks(self) -> int:
        """Number of blocks that the tracking records as finished."""
        if not (self.tracking / "done" / "zarr.json").exists():
            return 0
        done = zarr.open_array(self.tracking / "done", mode="r")
        return int((done[...] != 0).sum())

    def next_worker(self) -> int:
        """A worker number that no worker of this run had before."""
        numbers = [int(file.stem.split("-")[1]) for file in self.events.glob("worker-*.jsonl")]
        return max(numbers, default=-1) + 1

    def log_file(self, worker: int) -> Path:
        """A worker's log."""
        return self.logs / f"worker-{worker:04d}.log"

    def event_file(self, worker: int) -> Path:
        """A worker's events."""
        return self.events / f"worker-{worker:04d}.jsonl"

    def read_events(self) -> Iterator[dict[str, Any]]:
        """All workers' events, each with its `worker`. A line cut short by a kill is left out."""
        for file in sorted(self.events.glob("worker-*.jsonl")):
            worker = int(file.stem.split("-")[1])
            for line in file.read_text().splitlines():
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:
                    continue
                yield {"worker": worker, **event}


def identity_hash(identity: dict[str, Any]) -> str:
    """sha256 of an identity, independent of key order."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _write(file: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never half of it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with open(temporary, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)
