"""Verifying the output of a run that is recorded, from the name of its output alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from blockwise_predict.config.consent import CONSENT, as_option
from blockwise_predict.config.model import JOB_OPTIONS, RunConfig, load_config
from blockwise_predict.errors import ConfigError
from blockwise_predict.records.find import find_run
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.run.verify import Report, verify


def config_of_retry(recorded: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """The recorded configuration with this command's consent, and its own for what is executed.

    Raises ConfigError if the record names what can be executed and this command does not.
    """
    kept = recorded.model_dump(exclude_none=True, exclude={*CONSENT})
    if given.get("fleet") == "local":
        kept = {key: value for key, value in kept.items() if key not in JOB_OPTIONS}
    config = load_config({**kept, **{k: value for k, value in given.items() if value is not None}})
    asked = [
        as_option(key, text) for key, text in config.programs.items() if given.get(key) is None
    ]
    if asked:
        raise ConfigError(
            "the run was begun with what can execute programs, which no record can decide: "
            f"{' '.join(asked)}. If you want that, add it to this command; or choose anew, for "
            "example --fleet local."
        )
    return config


def verify_output(
    output: str,
    *,
    run_dir: str | None = None,
    sample: int = 0,
    seed: int | None = None,
    repair: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    trust_run_dir: bool = False,
    unsafe_load_pickle: bool = False,
) -> Report:
    """Verify the output of a recorded run; see `verify`. A repair holds the run's lock.

    `tell` gets what the user should know beside the report.
    """
    records, plan = find_run(
        output, run_dir, trust_run_dir=trust_run_dir, unsafe_load_pickle=unsafe_load_pickle
    )
    lock = records.path / "lock"
    with ExitStack() as held:
        if repair:
            with records.usable():
                held.enter_context(hold_lock(lock, tell, trusted=trust_run_dir))
        elif holder := read_holder(lock):
            tell(f"A run is recorded as going on ({holder}): what it has not done yet is missing.")
        return verify(plan, records, sample=sample, seed=seed, repair=repair, progress=progress)
