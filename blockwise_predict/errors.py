"""Errors a user can meet.

    PredictError                exit 1
    ├── RunFailedError          exit 1   the run ended before every voxel was predicted
    │   ├── LockLostError                another run has taken over
    │   └── RecordsError                 the run directory cannot be written
    └── InputError (ValueError) exit 2   something the user gave is wrong; found before any work
        ├── ConfigError                  an option or a key of the YAML file
        ├── CheckpointError              checkpoint, weights, architecture
        ├── ArrayError                   input or output array and its metadata
        ├── GeometryError                ROI, block and tile shapes, voxel sizes
        └── RunStateError                an earlier run, its lock, its output

Each message names the offending value, where it came from and what to do. The command line prints
the message alone, never a traceback.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

# Maximum number of characters of a library's message inside one of ours.
MAX_REASON = 400


def first_error(error: BaseException) -> BaseException:
    """The first error of a group, such as concurrent tasks raise; any other error as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class PredictError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class RunFailedError(PredictError):
    """The run ended before every voxel was predicted."""


class LockLostError(RunFailedError):
    """Another run has taken over, because this one did not seem to be alive."""


class RecordsError(RunFailedError):
    """The run's records cannot be written; the message includes the system's error."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the run's records cannot be written: {error}\nNothing that was finished is lost. "
            "Fix the cause, then run the same command again."
        )


@contextmanager
def as_records_error() -> Iterator[None]:
    """Turn an OSError, raised while a record is written, into RecordsError."""
    try:
        yield
    except OSError as error:
        raise RecordsError(error) from None


class InputError(PredictError, ValueError):
    """Something the user gave is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """An option, or a key of a configuration file, is wrong."""


class CheckpointError(InputError):
    """A checkpoint is missing, unreadable, unsafe, or does not fit its architecture."""


class ArrayError(InputError):
    """An array is missing, unreadable, unsupported, or does not say where it lies."""


class GeometryError(InputError):
    """A ROI, a shape or a voxel size is wrong."""


class RunStateError(InputError):
    """An earlier run's state forbids what was asked."""


for _error in (
    *(PredictError, RunFailedError, LockLostError, RecordsError, InputError, ConfigError),
    *(CheckpointError, ArrayError, GeometryError, RunStateError),
):
    # The name under which users import them is also the one that tracebacks show.
    _error.__module__ = "blockwise_predict"


def shown(value: object) -> str:
    """A value for a message: its `repr`, shortened, with control characters escaped."""
    return _SHORT.repr(value)


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel = 4
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = 8
    short.maxstring = short.maxother = 120
    short.maxlong = 40
    return short


_SHORT = _short_repr()


def shortened(text: str, limit: int = MAX_REASON) -> str:
    """A text; if it is longer than `limit` characters, with its middle replaced by dots."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} ... {text[-half:]}"
