"""What the shell completes the values of options and arguments with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from blockwise_predict.config.option import Option
from blockwise_predict.config.values import NamedFleet, OutputDtype

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# What stands for the value of options that name a file, a folder or an array.
_PATHS = ("PATH", "ARRAY", "YAML", "FILE", "FOLDER")
# The values that options name, beside what else they take.
_NAMED: dict[str, Sequence[str]] = {
    "fleet": get_args(NamedFleet),
    "device": ("auto", "cpu", "cuda"),
    "normalize": ("auto", "none", "omero", "zscore:auto", "percentiles:", "range:", "zscore:"),
    "output_dtype": get_args(OutputDtype),
    "postprocess": ("argmax", "threshold:"),
    "shard_shape": ("none",),
    "split": ("each",),
}


class PathParameter(StringParamType):
    """Text that is the path of something, or a URL; the shell completes it as a path."""

    name = "path"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type="file")]


PATH = PathParameter()
"""The type of arguments that are paths."""


def takes_path(option: Option) -> bool:
    """Whether a run's option names a file, a folder or an array."""
    return option.metavar in _PATHS


def completion_of(option: Option) -> Complete | None:
    """How the shell completes the value of a run's option; None: as its type says."""
    names = _NAMED.get(option.key)
    if names is None:
        return None

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        # A fleet can be a job script.
        if option.key == "fleet" and not found:
            return [CompletionItem(incomplete, type="file")]
        return found

    return complete
