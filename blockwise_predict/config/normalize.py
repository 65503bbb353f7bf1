"""Rules for the values that the network gets, as in `--normalize`: `KIND[:NUMBERS][:clip]`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator

from blockwise_predict.config.values import check_span
from blockwise_predict.errors import shown

Kind = Literal["auto", "none", "range", "zscore", "percentiles", "omero"]
_HOW = (
    "write auto, none, range:LOW,HIGH, zscore:MEAN,STD, zscore:auto, percentiles:LOW,HIGH or "
    "omero; range, percentiles and omero with ,TO_LOW,TO_HIGH for other bounds than 0,1 and with "
    ":clip at the end"
)
_LISTED = 8
_EXAMPLES = {"range": "range:0,255", "zscore": "zscore:120,40", "percentiles": "percentiles:1,99"}


@dataclass(frozen=True)
class Rule:
    """How input values become those of the network.

    `source` are the two numbers before: LOW and HIGH, of `percentiles` in percent, or MEAN and STD;
    None for kinds that have none, and for `zscore:auto`. `target` is what LOW and HIGH become;
    other values are clipped to it if `clip`, else they lie outside.
    """

    kind: Kind
    source: tuple[float, float] | None = None
    target: tuple[float, float] = (0.0, 1.0)
    clip: bool = False

    @property
    def depends_on_data(self) -> bool:
        """Whether the numbers come from the input: from a sample of it, or from its metadata."""
        return self.kind in ("percentiles", "omero") or self == Rule("zscore")

    def __str__(self) -> str:
        numbers = [*(self.source or ())]
        if self.target != (0.0, 1.0):
            numbers += self.target
        listed = ",".join(_text(number) for number in numbers)
        if self == Rule("zscore"):
            listed = "auto"
        return ":".join([self.kind, *([listed] if listed else []), *(["clip"] * self.clip)])


def parse_rule(text: str) -> Rule:
    """The rule that a text names. Raises ValueError, with how to write it, for anything else."""
    kind, *parts = text.split(":")
    if kind not in get_args(Kind):
        raise ValueError(_HOW)
    if text in ("auto", "none", "zscore:auto"):
        return Rule(kind)  # type: ignore[arg-type]
    if kind in ("auto", "none"):
        raise ValueError(f"{kind} has no numbers")
    clip = kind != "zscore" and parts[-1:] == ["clip"]
    numbers = _numbers(kind, parts[:-1] if clip else parts)
    source, target = (numbers[:2], numbers[2:]) if kind != "omero" else ([], numbers)
    if source:
        _check_source(kind, *source)
    if target:
        # TO_HIGH below TO_LOW inverts the contrast.
        check_span("The distance of TO_LOW and TO_HIGH", abs(target[1] - target[0]), *target)
    return Rule(
        kind,  # type: ignore[arg-type]
        (source[0], source[1]) if source else None,
        (target[0], target[1]) if target else (0.0, 1.0),
        clip,
    )


def _numbers(kind: str, parts: list[str]) -> list[float]:
    allowed = {"zscore": (2,), "omero": (0, 2)}.get(kind, (2, 4))
    try:
        numbers = [float(number) for part in parts for number in part.split(",")]
    except ValueError:
        numbers = [0.0]  # No kind has one number.
    if len(parts) > 1 or len(numbers) not in allowed:
        if kind == "omero":
            raise ValueError("write omero, or omero: and the two bounds to scale to: omero:-1,1")
        example = _EXAMPLES[kind]
        more = f", or four: {example},-1,1" if 4 in allowed else ""
        raise ValueError(f"write {kind}: and two numbers, for example {example}{more}")
    if not all(map(isfinite, numbers)):
        raise ValueError("all numbers must be finite")
    return numbers


def _check_source(kind: str, first: float, second: float) -> None:
    if kind == "zscore":
        if second <= 0:
            raise ValueError("STD must be positive")
        check_span("STD", second, first)
        return
    if second <= first:
        raise ValueError(
            "HIGH must be greater than LOW; to invert the contrast, let TO_HIGH be below TO_LOW: "
            f"{_EXAMPLES[kind]},1,0"
        )
    if kind == "percentiles":
        if not 0 <= first < second <= 100:
            raise ValueError("percentiles are between 0 and 100")
        return
    check_span("HIGH - LOW", second - first, first, second)


def _text(number: float) -> str:
    """The shortest text that is exactly this number."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _checked(value: object) -> str:
    text = str(value)
    parse_rule(text)
    return text


def rule_of_input(rules: Mapping[object, object], path: object) -> object:
    """The rule for an input, from a mapping of arrays to rules (in YAML: one file for many runs).

    Raises ValueError if the mapping does not name the input.
    """
    for name, rule in rules.items():
        if _place(name) == _place(path):
            return rule
    listed = ", ".join(shown(name) for name in list(rules)[:_LISTED])
    raise ValueError(
        f"normalize has no rule for the input {shown(path)}. It has rules for {listed}"
    )


def _place(path: object) -> str:
    text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    return text.rstrip("/") if "://" in text else os.path.abspath(os.path.expanduser(text))


Normalize = Annotated[str, BeforeValidator(_checked)]
