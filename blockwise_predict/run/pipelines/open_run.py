"""Beginning or resuming a run whose blocks another scheduler hands out: daisy's server, or volara.

Records are those of `predict run`, so either can finish what the other began. The process that
opens the run holds its lock until it ends. There is no scheduler of ours to keep the ledger:
workers record their own blocks, in place and after the chunks are committed, and only while that
process holds the lock. A lost record, after a crash of the machine or on a file system without
coherent caches, means that a block is done again.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ConfigError, RunStateError
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import State
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.records.room import room_problem
from blockwise_predict.run.planned import PlannedRun
from blockwise_predict.run.prepare import apply_options, blocks_to_skip, prepare_run
from blockwise_predict.run.pyramid.discard import discard_levels
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.result import collect_result

_REPORT = Reporter()
# Locks that this process holds until it ends, and their keys.
_locks = ExitStack()
_held_keys: dict[Path, str] = {}
atexit.register(_locks.close)


@dataclass(frozen=True)
class WorkerPass:
    """What a worker needs to work on an open run.

    `trusted`, `unsafe_load_pickle` and `factory` are the user's consent, `workers` is the number of
    workers that share the machine, `lock_key` identifies the lock that the opening process holds.
    """

    run_dir: str
    trusted: bool
    unsafe_load_pickle: bool
    factory: str | None
    workers: int
    lock_key: str


def open_run(run: PlannedRun, command: str) -> tuple[WorkerPass, NDArray[np.uint8]]:
    """Begin or resume a run; returns the pass for its workers, and the mask of the blocks to skip
    (u1, on the block grid).

    From now on, this process holds the run's lock until it ends. Raises an InputError before
    anything is written if something does not fit.
    """
    plan, run_dir = run.plan, run.run_dir
    if plan.config.is_elsewhere:
        raise ConfigError(
            f"fleet {plan.config.fleet}: the pipeline starts its workers itself. Leave fleet out, "
            "and set the number of workers with workers."
        )
    if problem := room_problem(plan, run_dir):
        raise RunStateError(problem)
    run_dir.make()
    with run_dir.usable():
        key = _hold_lock(run_dir)
        prepare_run(run, command, _REPORT)
        with closing(run_dir.ledger(plan)) as ledger:
            apply_options(run, ledger)
            skip_mask = blocks_to_skip(ledger, only_failed=False)
            run_dir.failures.keep(set(ledger.blocks(State.FAILED)))
            run_dir.events.write("begin", command=command, version=plan.version)
            if skip_mask.all():
                collect_result(plan, run_dir, ledger)
            else:
                discard_levels(plan, _REPORT.line)
    worker_pass = WorkerPass(
        run_dir=str(run_dir),
        trusted=run_dir.trusted,
        unsafe_load_pickle=plan.config.unsafe_load_pickle,
        factory=plan.config.factory,
        workers=plan.config.planned_workers,
        lock_key=key,
    )
    return worker_pass, skip_mask.reshape(plan.blocks_per_axis)


def pass_for_open_run(
    run_dir: RunDir, workers: int, *, unsafe_load_pickle: bool = False, factory: str | None = None
) -> WorkerPass:
    """A pass for one of `workers` workers of a run that another process has opened.

    For workers that cannot be given the pass from `open_run`; as no record can consent to what the
    checkpoint executes, the user's consent is given again. Raises RunStateError if the run is not
    open.
    """
    with run_dir.usable():
        holder = read_holder(run_dir.path / "lock")
    if holder is None:
        raise RunStateError(f"no run is open in {run_dir}: the process that began it has ended.")
    return WorkerPass(
        run_dir=str(run_dir),
        trusted=run_dir.trusted,
        unsafe_load_pickle=unsafe_load_pickle,
        factory=factory,
        workers=workers,
        lock_key=holder.key,
    )


def _hold_lock(run_dir: RunDir) -> str:
    """Hold a run's lock until this process ends; returns its key. Raises as `hold_lock`."""
    file = run_dir.path / "lock"
    holder = read_holder(file)
    if holder is None or _held_keys.get(file) != holder.key:
        _locks.enter_context(hold_lock(file, _REPORT.line, trusted=run_dir.trusted))
        holder = read_holder(file)
        assert holder is not None
        _held_keys[file] = holder.key
    return holder.key
