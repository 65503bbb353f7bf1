"""Options that may differ between the outputs of a network: one value for all, or one for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import PlainSerializer, PlainValidator

from blockwise_predict.config.postprocess import checked_postprocess
from blockwise_predict.config.values import OutputDtype, parse_range

# Between two outputs, in text: `affs=uint8,lsds=float32`, `affs=0,1,lsds=-1,1`.
_SEPARATOR = re.compile(r"[,;]\s*(?=[^,;=]+=)")
MAX_OUTPUTS = 1000

T = TypeVar("T")


def _dtype(value: object) -> str:
    names = get_args(OutputDtype)
    if value not in names:
        *others, last = (repr(name) for name in names)
        raise ValueError(f"Input should be {', '.join(others)} or {last}")
    return str(value)


def named_parts(text: str, kind: str) -> dict[str, str]:
    """The parts of `NAME=TEXT,NAME=TEXT` by name. ValueError if one of that kind is there twice."""
    pairs = [part.partition("=") for part in _SEPARATOR.split(text)]
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{kind} is named twice")
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _per_output(value: object, one: Callable[[object], T]) -> T | dict[str, T]:
    """The value of `one`, or a dictionary of such values by output."""
    if isinstance(value, str) and "=" in value:
        value = named_parts(value, "an output")
    if not isinstance(value, Mapping):
        return one(value)
    if not 0 < len(value) <= MAX_OUTPUTS or not all(isinstance(name, str) for name in value):
        raise ValueError("name outputs of the network, each with its value")
    return {name: one(each) for name, each in value.items()}


def _dtypes(value: object) -> Any:
    return _per_output(value, _dtype)


def _ranges(value: object) -> Any:
    return _per_output(value, parse_range)


def _postprocesses(value: object) -> Any:
    return _per_output(value, checked_postprocess)


# The values are JSON as they are; pydantic's own serializer warns of a dictionary in such a union.
_AS_IT_IS = PlainSerializer(lambda value: value)
OutputDtypes = Annotated[OutputDtype | dict[str, OutputDtype], PlainValidator(_dtypes), _AS_IT_IS]
OutputRanges = Annotated[
    tuple[float, float] | dict[str, tuple[float, float]], PlainValidator(_ranges), _AS_IT_IS
]
Postprocesses = Annotated[str | dict[str, str], PlainValidator(_postprocesses), _AS_IT_IS]
