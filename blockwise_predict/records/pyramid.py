"""The records of a pyramid: a run directory of its own, in that of the run that made the arrays.

pyramid.json    the plan of its levels, which workers read
blocks-*.npy    the ledger: what has become of each block of all levels

The other records are those of a run (see `rundir`). The lock is that of the run.
"""

from __future__ import annotations

import hashlib
import json
import uuid

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from blockwise_predict.plan.pyramid import PyramidPlan
from blockwise_predict.records.atomic import DamagedRecordError, damaged, write_atomically
from blockwise_predict.records.files import make_folder
from blockwise_predict.records.ledger import (
    Ledger,
    LedgerDamagedError,
    State,
    create_ledger,
    open_ledger,
    read_states,
    records_of,
)
from blockwise_predict.records.marker import PYRAMID_FOLDER, ledgers
from blockwise_predict.records.rundir import RunDir, identity_hash

_FILE = "pyramid.json"


def pyramid_dir(run_dir: RunDir) -> RunDir:
    """Where the records of the pyramids of a run's arrays are."""
    return RunDir(run_dir.path / PYRAMID_FOLDER, trusted=run_dir.trusted)


def recorded_pyramid(records: RunDir) -> PyramidPlan | None:
    """The plan of a pyramid's records; None if these are of something else.

    Raises RunStateError if it is damaged, or if others can write to it.
    """
    try:
        return PyramidPlan.model_validate(records.read(_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise damaged(records.path / _FILE, str(error.errors()[0]["msg"])) from None


def is_recorded(records: RunDir, plan: PyramidPlan) -> bool:
    """Whether a pyramid's records are of these levels, so that it is resumed."""
    recorded = _earlier_pyramid(records)
    same = recorded is not None and recorded.levels == plan.levels
    return same and _recorded_states(records, plan) is not None


def begin_pyramid(records: RunDir, plan: PyramidPlan) -> Ledger:
    """Record a pyramid, and open its ledger. Of levels that were begun, what is done is kept.

    Blocks that were given up are to do again.
    """
    records.make()
    make_folder(records.logs)
    file = records.path / _ledger_name(plan)
    if not is_recorded(records, plan):
        states = _known_states(records, _earlier_pyramid(records), plan)
        create_ledger(file, (plan.num_blocks,), records_of(states))
        identity = {"levels": [level.model_dump(mode="json") for level in plan.levels]}
        record = {
            "run": uuid.uuid4().hex,
            "hash": identity_hash(identity),
            "identity": identity,
        }
        write_atomically(records.path / "identity.json", json.dumps(record, indent=2))
    write_atomically(records.path / _FILE, plan.model_dump_json(indent=2))
    for name in ledgers(records.path):
        if name != file.name:
            (records.path / name).unlink()
    ledger = open_ledger(file, (plan.num_blocks,), trusted=records.trusted)
    states = ledger.states.copy()
    states[states == State.FAILED] = State.TODO
    ledger.set_states(states)
    return ledger


def _earlier_pyramid(records: RunDir) -> PyramidPlan | None:
    """The plan that was recorded last; None if it is damaged: then levels are made again."""
    try:
        return recorded_pyramid(records)
    except DamagedRecordError:
        return None


def _ledger_name(plan: PyramidPlan) -> str:
    text = "\n".join(level.model_dump_json() for level in plan.levels)
    return f"blocks-{hashlib.sha256(text.encode()).hexdigest()[:8]}.npy"


def _known_states(
    records: RunDir, recorded: PyramidPlan | None, plan: PyramidPlan
) -> NDArray[np.uint8]:
    """The states of a plan's blocks, as far as another plan's ledger records the same level."""
    states = np.zeros(plan.num_blocks, np.uint8)
    found = None if recorded is None else _recorded_states(records, recorded)
    if recorded is None or found is None:
        return states
    known = dict(zip(recorded.levels, recorded.ranges, strict=True))
    for level, blocks in zip(plan.levels, plan.ranges, strict=True):
        if level in known:
            own = known[level]
            states[blocks.start : blocks.stop] = found[own.start : own.stop]
    return states


def _recorded_states(records: RunDir, plan: PyramidPlan) -> NDArray[np.uint8] | None:
    """The states in the ledger of a plan; None if that is missing or damaged.

    Blocks that are then done again are written as they were.
    """
    file = records.path / _ledger_name(plan)
    try:
        return read_states(file, (plan.num_blocks,), trusted=records.trusted)
    except LedgerDamagedError:
        return None
