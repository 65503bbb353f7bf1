"""What can be done with a run that is recorded, from the name of its output alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from blockwise_predict.config import JOB_OPTIONS, RunConfig, load_config
from blockwise_predict.consent import CONSENT, as_option
from blockwise_predict.errors import ConfigError, RunStateError
from blockwise_predict.io import read_attributes
from blockwise_predict.plan import Plan
from blockwise_predict.provenance import ATTRIBUTE
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.lock import hold_lock, read_holder
from blockwise_predict.verify import Report, verify


def find_run(
    output: str,
    run_dir: str | None,
    *,
    trust_run_dir: bool = False,
    unsafe_load_pickle: bool = False,
) -> tuple[RunDir, Plan]:
    """The run that made an output, and its plan with this command's consent.

    Raises an InputError if there is no record of one, or none that can be trusted.
    """
    if run_dir is None:
        made = read_attributes(output).get(ATTRIBUTE)
        if not isinstance(made, dict):
            raise RunStateError(f"{output} was not made by predict run: it has no record of that.")
        config = made.get("config")
        named = config.get("run_dir") if isinstance(config, dict) else None
        run_dir = named if isinstance(named, str) and "\0" not in named else None
    path = Path(run_dir).absolute() if run_dir else default_run_dir(output)
    found = RunDir(path, trusted=trust_run_dir)
    if not found.begun:
        raise RunStateError(f"{found} holds no run of {output}. Say where it is with --run-dir.")
    return found, found.plan(unsafe_load_pickle=unsafe_load_pickle)


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
    run_dir: str | None,
    sample: int,
    seed: int | None,
    repair: bool,
    tell: Callable[[str], None],
    progress: Callable[[int, int], None],
    *,
    trust_run_dir: bool = False,
    unsafe_load_pickle: bool = False,
) -> Report:
    """Verify the output of a recorded run; see `verify`. A repair holds the run's lock."""
    records, plan = find_run(
        output,
        run_dir,
        trust_run_dir=trust_run_dir,
        unsafe_load_pickle=unsafe_load_pickle,
    )
    lock = records.path / "lock"
    with ExitStack() as held:
        if repair:
            with records.usable():
                held.enter_context(hold_lock(lock, tell, trusted=trust_run_dir))
        elif holder := read_holder(lock):
            tell(f"A run is recorded as going on ({holder}): what it has not done yet is missing.")
        return verify(plan, records, sample, repair, progress, seed)
