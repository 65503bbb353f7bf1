"""An option: declared as a field of a model, and read back for help texts and the reference."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo


class Group(StrEnum):
    """The headings under which options are listed, in this order."""

    CHECKPOINT = "Checkpoint"
    INPUT = "Input"
    OUTPUT = "Output"
    COMPUTING = "Sizes and precision"
    WORKERS = "Workers"
    CLUSTER = "Cluster jobs (Slurm, LSF)"
    RUN = "Run"


def option(
    default: Any,
    group: Group,
    description: str,
    *,
    metavar: str | None = None,
    unset: str | None = None,
    example: str | None = None,
    repeatable: bool = False,
    **constraints: Any,
) -> Any:
    """A pydantic field that carries the description of an option.

    `metavar` stands for the value in help texts. `unset` says in words what leaving the option out
    means, where the default itself does not. A `repeatable` option may be given more than once.
    """
    return Field(
        default,
        description=description,
        examples=[example] if example else None,
        json_schema_extra={
            "group": group,
            "metavar": metavar,
            "unset": unset,
            "repeatable": repeatable,
        },
        **constraints,
    )


@dataclass(frozen=True)
class Option:
    """An option as users see it.

    `kind` is the type of a value on the command line: bool, int, float, or str for all others.
    `default` is in words, or None; `limits` of a number too, or empty.
    """

    key: str
    group: Group
    description: str
    kind: type
    choices: tuple[str, ...]
    metavar: str | None
    limits: str
    required: bool
    default: str | None
    example: str | None
    repeatable: bool

    @classmethod
    def of(cls, key: str, field: FieldInfo) -> Self:
        """The option that a field declared by `option` stands for."""
        told: Any = field.json_schema_extra
        kind = _kind(field.annotation)
        is_literal = get_origin(kind) is Literal
        return cls(
            key=key,
            group=told["group"],
            description=str(field.description),
            kind=kind if kind in (bool, int, float) else str,
            choices=get_args(kind) if is_literal else (),
            metavar=told["metavar"],
            limits=_limits(field.metadata),
            required=field.is_required(),
            default=told["unset"] or _default(field),
            example=field.examples[0] if field.examples else None,
            repeatable=told["repeatable"],
        )

    @property
    def name(self) -> str:
        """As it is typed."""
        return option_name(self.key)

    def help(self, unset: str | None = None) -> str:
        """Its help text; `unset` replaces the default of commands that have another one."""
        parts = [self.description]
        if self.example is not None:
            parts.append(f"Example: {shlex.quote(self.example)}")
        if default := unset or self.default:
            parts.append(f"[default: {default}]")
        return " ".join(parts)


def option_name(key: str) -> str:
    """The option of a key of the YAML file: `--output-dtype` of `output_dtype`."""
    return f"--{key.replace('_', '-')}"


def _kind(annotation: Any) -> Any:
    """The type of a value that is given: X of `X | None`; str, as it is typed, for `X | Y`."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else str
    return annotation


def _default(field: FieldInfo) -> str | None:
    """The default as it would be typed; None for flags and where nothing is the default."""
    default = field.default
    if field.is_required() or default is None or default is False or default == ():
        return None
    return f"{default:g}" if isinstance(default, float) else str(default)


def _limits(constraints: list[Any]) -> str:
    lowest, highest = (
        next((str(getattr(one, bound)) for one in constraints if hasattr(one, bound)), "")
        for bound in ("ge", "le")
    )
    if highest:
        return f"{lowest} to {highest}"
    return f"at least {lowest}" if lowest else ""
