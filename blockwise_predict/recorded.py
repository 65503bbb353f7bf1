"""What can be done with a run that is recorded, from the name of its output alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from blockwise_predict.errors import RunStateError
from blockwise_predict.io import read_attributes
from blockwise_predict.plan import Plan
from blockwise_predict.provenance import ATTRIBUTE
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.verify import Report, verify


def find_run(output: str, run_dir: str | None) -> tuple[RunDir, Plan]:
    """The run that made an output. Raises an InputError if there is no record of one."""
    if run_dir is None:
        made = read_attributes(output).get(ATTRIBUTE)
        if not isinstance(made, dict):
            raise RunStateError(f"{output} was not made by predict run: it has no record of that.")
        run_dir = made.get("config", {}).get("run_dir")
    found = RunDir(Path(run_dir).absolute() if run_dir else default_run_dir(output))
    if not found.begun:
        raise RunStateError(f"{found} holds no run of {output}. Say where it is with --run-dir.")
    return found, found.plan()


def verify_output(
    output: str,
    run_dir: str | None,
    sample: int,
    seed: int | None,
    repair: bool,
    tell: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Report:
    """Verify the output of a recorded run; see `verify`. A repair holds the run's lock."""
    records, plan = find_run(output, run_dir)
    lock = records.path / "lock"
    with ExitStack() as held:
        if repair:
            held.enter_context(hold_lock(lock, tell))
        elif holder := read_holder(lock):
            tell(f"A run is recorded as going on ({holder}): what it has not done yet is missing.")
        return verify(plan, records, sample, repair, progress, seed)
