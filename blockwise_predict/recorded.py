"""Verifying the output of a run that is recorded, from the name of its output alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from blockwise_predict.records.find import find_run
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.verify import Report, verify


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
