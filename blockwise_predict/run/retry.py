"""The configuration of a retry: what the run recorded, and what the user consents to now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blockwise_predict.config.consent import NOT_RECORDED, as_option
from blockwise_predict.config.model import JOB_OPTIONS, RunConfig, load_config
from blockwise_predict.errors import ConfigError


def config_of_retry(recorded: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """The recorded configuration, with the consent and the programs that this command gives.

    Raises ConfigError if the record names a program to execute that this command does not give:
    records may have been written by somebody else.
    """
    kept = recorded.model_dump(exclude_none=True, exclude={*NOT_RECORDED})
    if given.get("fleet") == "local":
        kept = {key: value for key, value in kept.items() if key not in JOB_OPTIONS}
    config = load_config({**kept, **{k: value for k, value in given.items() if value is not None}})
    asked = [
        as_option(key, text) for key, text in config.programs.items() if given.get(key) is None
    ]
    if asked:
        raise ConfigError(
            "the run was started with options that execute programs, which are not taken from its "
            f"records: {' '.join(asked)}. If you want that, add them to this command; or choose "
            "something else, for example --fleet local."
        )
    return config
