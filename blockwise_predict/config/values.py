"""How values are written in options and YAML files, and what they mean."""

from __future__ import annotations

import os
import re
import shlex
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import exact, parse_bounds

# Of voxels along an axis: far more than any chunk, block or tile.
MAX_SIZE = 1 << 31
# Of bytes: a number with more digits is a mistake.
MAX_MEMORY = 1 << 60
# What Linux takes.
MAX_PATH, MAX_NAME = 4000, 255
# Of values and spans: within them neither float32 nor what is computed from them overflows.
SMALLEST, LARGEST = 1e-30, 1e30
_MEMORY_UNITS = {"": 1} | {
    prefix + suffix: base ** (power + 1)
    for power, prefixes in enumerate(("kK", "M", "G", "T"))
    for prefix in prefixes
    for suffix, base in (("", 1000), ("i", 1024))
}
# Job scripts are told apart by their names.
_SCRIPTS = {".sbatch": "slurm", ".slurm": "slurm", ".bsub": "lsf", ".lsf": "lsf"}
FleetKind = Literal["local", "slurm", "lsf", "command"]


def _split(value: object) -> object:
    """`64,64,64` and `64x64x64` as lists, as options and people write them."""
    if isinstance(value, str):
        return [part.strip() for part in value.replace("x", ",").split(",")]
    return value


def _shape(value: object) -> object:
    parts = _split(value)
    if not isinstance(parts, (list, tuple)):
        raise ValueError("write one whole number for each axis, for example 64,64,64")
    try:
        shape = tuple(int(str(part)) for part in parts)
    except ValueError:
        raise ValueError("write one whole number for each axis, for example 64,64,64") from None
    if any(size < 1 for size in shape):
        raise ValueError("every size must be at least 1")
    if any(size > MAX_SIZE for size in shape):
        raise ValueError(f"every size must be at most {MAX_SIZE}")
    return shape


def _length_texts(value: object) -> object:
    parts = _split(value)
    if not isinstance(parts, (list, tuple)):
        raise ValueError("write one length in nm for each axis, for example 4.24,4,4")
    try:
        for part in parts:
            exact(part)
    except ValueError:
        raise ValueError("write one length in nm for each axis, for example 4.24,4,4") from None
    return tuple(str(part) for part in parts)


def _numbers(value: object) -> object:
    parts = _split(value)
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        raise ValueError("write LOW,HIGH, for example 0,1")
    try:
        low, high = (float(part) for part in parts)
    except (OverflowError, TypeError, ValueError):
        raise ValueError("write LOW,HIGH, for example 0,1") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError("HIGH must be greater than LOW, and both finite")
    _check_span("HIGH - LOW", high - low, low, high)
    return (low, high)


def _check_span(name: str, span: float, *values: float) -> None:
    if not SMALLEST <= span <= LARGEST:
        raise ValueError(f"{name} must be between {SMALLEST:g} and {LARGEST:g}")
    if any(abs(value) > LARGEST for value in values):
        raise ValueError(f"no number may be beyond {LARGEST:g}")


def _memory(value: object) -> object:
    """`8GiB`, `500 MB` or bytes, as bytes."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*([kKMGT]i?)?B?\s*", str(value))
    if found is None:
        raise ValueError("write a size, for example 8GiB")
    size = float(found[1]) * _MEMORY_UNITS[found[2] or ""]
    if size > MAX_MEMORY:
        raise ValueError(f"at most {MAX_MEMORY} bytes")
    return int(size)


def _roi(value: object) -> object:
    if value is not None:
        try:
            parse_bounds(str(value))
        except GeometryError as error:
            # The message is the end of a sentence here.
            raise ValueError(str(error).removesuffix(".")) from None
        return str(value)
    return value


def _normalize(value: object) -> object:
    text = str(value)
    if text in ("auto", "none"):
        return text
    kind, _, numbers = text.partition(":")
    if kind not in ("range", "zscore"):
        raise ValueError("write auto, none, range:LOW,HIGH or zscore:MEAN,STD")
    try:
        first, second = (float(number) for number in numbers.split(","))
    except ValueError:
        raise ValueError(f"write {kind}: and two numbers, for example {kind}:0,255") from None
    if not (np.isfinite(first) and np.isfinite(second)):
        raise ValueError("both numbers must be finite")
    if kind == "range":
        if second <= first:
            raise ValueError("HIGH must be greater than LOW")
        _check_span("HIGH - LOW", second - first, first, second)
    else:
        if second <= 0:
            raise ValueError("STD must be positive")
        _check_span("STD", second, first)
    return text


def fleet_kind(fleet: str) -> FleetKind:
    """What starts the workers: a name, a job script's path, or a command. Raises ValueError."""
    if fleet in ("local", "slurm", "lsf"):
        return fleet  # type: ignore[return-value]
    try:
        words = shlex.split(fleet)
    except ValueError as error:
        raise ValueError(f"cannot be read as a command ({error})") from None
    if len(words) > 1:
        return "command"
    for suffix, kind in _SCRIPTS.items():
        if fleet.endswith(suffix):
            return kind  # type: ignore[return-value]
    raise ValueError(
        "write local, slurm, lsf, the path of a job script (its name ends with .sbatch or .bsub), "
        "or a command of several words, for example 'ssh gpu{number}'"
    )


def _fleet(value: object) -> object:
    fleet_kind(str(value))
    return str(value)


def _wall_time(value: object) -> object:
    """A time as `HH:MM:SS`, from that, `D-HH:MM:SS`, or `1d12h`, `90m`."""
    if value is None:
        return None
    text = str(value).strip()
    if found := re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,6}):([0-5]\d):([0-5]\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    elif text and (found := re.fullmatch(r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?", text)):
        days, hours, minutes = (int(part or 0) for part in found.groups())
        seconds = 0
    else:
        raise ValueError(
            "write hours:minutes:seconds (in a YAML file between quotes), days-hours:minutes:"
            "seconds, or for example 90m, 12h, 1d12h"
        )
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise ValueError("must be longer than nothing")
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def _words(value: object) -> object:
    """Options as words, from a text as for a shell, or a list of words."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be read as options ({error})") from None
    return value


def _listen(value: object) -> object:
    if value is not None:
        listen_address(str(value))
        return str(value)
    return value


def listen_address(text: str) -> tuple[str, int]:
    """`ADDRESS` or `ADDRESS:PORT`, as both; port 0 stands for any. Raises ValueError."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", text)
    if found is None or int(found[2] or 0) > 65535:
        raise ValueError("write ADDRESS or ADDRESS:PORT, for example 10.0.0.7:7000 or 0.0.0.0")
    return found[1].strip("[]"), int(found[2] or 0)


def _path(value: str) -> str:
    """A path or URL that a file system can hold."""
    if any(ord(character) < 32 for character in value):
        raise ValueError("a path cannot hold control characters")
    if len(os.fsencode(value)) > MAX_PATH or any(
        len(os.fsencode(name)) > MAX_NAME for name in value.split("/")
    ):
        raise ValueError(f"a path has at most {MAX_PATH} bytes, each name in it {MAX_NAME}")
    return value


Shape = Annotated[tuple[int, ...], BeforeValidator(_shape)]
LengthTexts = Annotated[tuple[str, ...], BeforeValidator(_length_texts)]
Range = Annotated[tuple[float, float], BeforeValidator(_numbers)]
Memory = Annotated[int, BeforeValidator(_memory)]
RoiText = Annotated[str, BeforeValidator(_roi)]
Normalize = Annotated[str, BeforeValidator(_normalize)]
Fleet = Annotated[str, BeforeValidator(_fleet)]
WallTime = Annotated[str, BeforeValidator(_wall_time)]
PathText = Annotated[str, AfterValidator(_path)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Listen = Annotated[str, BeforeValidator(_listen)]
