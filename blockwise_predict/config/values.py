"""How values are written in options and YAML files, and what they become."""

from __future__ import annotations

import os
import re
import shlex
from math import isfinite
from typing import Annotated, Literal, get_args

from funlib.geometry import Roi
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
)

from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import Lengths, RequestedRoi, exact_lengths, format_length

Border = Literal["reflect", "edge", "constant", "valid"]
BadInput = Literal["fail", "fill-missing", "fill", "skip"]
Format = Literal["zarr3", "zarr2", "n5"]
OutputDtype = Literal["uint8", "int8", "uint16", "int16", "float16", "float32"]
Precision = Literal["auto", "float32", "mixed", "bfloat16", "float16", "tfloat32"]
Activation = Literal["none", "sigmoid", "tanh"]
Augment = Literal["none", "flips", "in-plane", "all"]
AugmentChannels = Literal["auto", "scalars", "vectors"]
Cluster = Literal["slurm", "lsf"]
# What is shipped with the package, and so needs no consent.
NamedFleet = Literal["local", Cluster]
FleetKind = Literal[NamedFleet, "command"]

HUB_SCHEME = "hf://"
"""Of checkpoints on the Hugging Face Hub."""

# Limits per axis (voxels): far larger than any chunk, block or tile.
MAX_SIZE = 1 << 31
# In bytes: a larger number is a mistake.
MAX_MEMORY = 1 << 60
# Linux's own limits (bytes).
MAX_PATH, MAX_NAME = 4000, 255
# Limits of values and spans: within them neither float32 nor what is computed from them overflows.
SMALLEST, LARGEST = 1e-30, 1e30
_BYTES = TypeAdapter(ByteSize)
# Job scripts are recognized by their suffix.
_SCRIPTS: dict[str, Cluster] = {
    ".sbatch": "slurm",
    ".slurm": "slurm",
    ".bsub": "lsf",
    ".lsf": "lsf",
}


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


def _lengths(value: object) -> Lengths:
    parts = _split(value)
    if isinstance(parts, (list, tuple)):
        try:
            return exact_lengths(parts)
        except ValueError:
            pass
    raise ValueError("write one length in nm for each axis, for example 4.24,4,4")


def parse_range(value: object) -> tuple[float, float]:
    """Two finite numbers, from `LOW,HIGH` or a list. Raises ValueError for anything else."""
    parts = _split(value)
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        raise ValueError("write LOW,HIGH, for example 0,1")
    try:
        low, high = (float(part) for part in parts)
    except (OverflowError, TypeError, ValueError):
        raise ValueError("write LOW,HIGH, for example 0,1") from None
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ValueError("HIGH must be greater than LOW, and both finite")
    check_span("HIGH - LOW", high - low, low, high)
    return (low, high)


def check_span(name: str, span: float, *values: float) -> None:
    """Raise ValueError for a span or values that could overflow, or lose all digits, in float32."""
    if not SMALLEST <= span <= LARGEST:
        raise ValueError(f"{name} must be between {SMALLEST:g} and {LARGEST:g}")
    if any(abs(value) > LARGEST for value in values):
        raise ValueError(f"no number may be beyond {LARGEST:g}")


def _size(value: object) -> int:
    """Bytes of `8GiB`, `500 MB`, `8Gi`, `8G` or a plain number."""
    # ByteSize alone would take `1,5GiB` for 1 byte, and does not know `8Gi`.
    found = re.fullmatch(r"\s*(\d{1,20})(\.\d*)?\s*([kMGT]i?)?B?\s*", str(value), re.IGNORECASE)
    if found is None:
        raise ValueError("write a size of at most 1 EiB, for example 8GiB")
    whole, fraction, prefix = found.groups()
    return _BYTES.validate_python(f"{whole}{fraction or '.'}0{prefix or ''}B")


def _roi(value: object) -> RequestedRoi:
    if isinstance(value, Roi):
        # As Python users have it, in nm.
        axes = zip(value.begin, value.end, strict=True)
        value = f"[{','.join(f'{begin}:{end}' for begin, end in axes)}]"
    try:
        return RequestedRoi.parse(str(value))
    except GeometryError as error:
        # The message ends a sentence here.
        raise ValueError(str(error).removesuffix(".")) from None


def fleet_kind(fleet: str) -> FleetKind:
    """What starts the workers, from a name, a job script's path, or a command.

    Raises ValueError for anything else.
    """
    for name in get_args(NamedFleet):
        if fleet == name:
            return name
    try:
        words = shlex.split(fleet)
    except ValueError as error:
        raise ValueError(f"cannot be read as a command ({error})") from None
    if len(words) > 1:
        return "command"
    for suffix, kind in _SCRIPTS.items():
        if fleet.endswith(suffix):
            return kind
    raise ValueError(
        "write local, slurm, lsf, the path of a job script (its name ends with .sbatch or .bsub), "
        "or a command of several words, for example 'ssh gpu{number}'"
    )


def _fleet(value: object) -> object:
    fleet_kind(str(value))
    return str(value)


def _factory(value: object) -> object:
    if re.fullmatch(r"([^\W\d]\w*(\.[^\W\d]\w*)*|.+\.py):[^\W\d]\w*", str(value)) is None:
        raise ValueError("write package.module:function or path/to/file.py:function")
    return str(value)


def _device(value: object) -> object:
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(value)) is None:
        raise ValueError("write auto, cpu, cuda or cuda:N, for example cuda:1")
    return str(value)


def _wall_time(value: object) -> object:
    """A time as `HH:MM:SS`, from that form, `D-HH:MM:SS`, `1d12h` or `90m`."""
    text = str(value).strip()
    if found := re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,6}):([0-5]\d):([0-5]\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    elif text and (found := re.fullmatch(r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?", text)):
        days, hours, minutes = (int(part or 0) for part in found.groups())
        seconds = 0
    else:
        raise ValueError(
            "write hours:minutes:seconds (in quotes in a YAML file), days-hours:minutes:seconds, "
            "or for example 90m, 12h, 1d12h"
        )
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise ValueError("must be longer than 0 seconds")
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def _words(value: object) -> object:
    """Options as words, from text quoted as in a shell, or from a list of words."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be read as options ({error})") from None
    return value


def _listen(value: object) -> object:
    listen_address(str(value))
    return str(value)


def listen_address(text: str) -> tuple[str, int]:
    """Address and port of `ADDRESS` or `ADDRESS:PORT`; port 0: any free one. Raises ValueError."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", text)
    if found is None or int(found[2] or 0) > 65535:
        raise ValueError("write ADDRESS or ADDRESS:PORT, for example 10.0.0.7:7000 or 0.0.0.0")
    return found[1].strip("[]"), int(found[2] or 0)


def _metrics(value: object) -> object:
    metrics_address(str(value))
    return str(value)


def metrics_address(text: str) -> tuple[str, int]:
    """Address and port of `PORT`, which is this machine's alone, or of `ADDRESS:PORT`; port 0: any
    free one. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or (host == "" and ":" in text):
        raise ValueError("write PORT or ADDRESS:PORT, for example 9100 or 0.0.0.0:9100")
    return listen_address(f"{host or '127.0.0.1'}:{port}")


def _path_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _path(value: str) -> str:
    """A path or URL that a file system can store."""
    if any(ord(character) < 32 for character in value):
        raise ValueError("a path cannot contain control characters")
    if len(os.fsencode(value)) > MAX_PATH or any(
        len(os.fsencode(name)) > MAX_NAME for name in value.split("/")
    ):
        raise ValueError(
            f"a path may have at most {MAX_PATH} bytes, and each name in it {MAX_NAME}"
        )
    return value


def _one_or_more_paths(value: object) -> str | tuple[str, ...]:
    """A path, or from a list of several all of them."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    paths = tuple(map(_path_text, items))
    if not paths or not all(isinstance(path, str) for path in paths):
        raise ValueError("write a path, or a list of paths")
    checked = tuple(_path(str(path)) for path in paths)
    return checked[0] if len(checked) == 1 else checked


Shape = Annotated[tuple[int, ...], BeforeValidator(_shape)]
LengthsNm = Annotated[
    Lengths,
    PlainValidator(_lengths),
    PlainSerializer(lambda lengths: tuple(map(format_length, lengths))),
]
Range = Annotated[tuple[float, float], BeforeValidator(parse_range)]
Memory = Annotated[int, BeforeValidator(_size), Field(le=MAX_MEMORY)]
RoiNm = Annotated[RequestedRoi, PlainValidator(_roi), PlainSerializer(str)]
Fleet = Annotated[str, BeforeValidator(_fleet)]
Device = Annotated[str, BeforeValidator(_device)]
WallTime = Annotated[str, BeforeValidator(_wall_time)]
PathText = Annotated[str, BeforeValidator(_path_text), AfterValidator(_path)]
PathTexts = Annotated[
    str | tuple[str, ...],
    PlainValidator(_one_or_more_paths),
    # pydantic's own compares the JSON's list with the union, and warns.
    PlainSerializer(lambda paths: paths),
]
Factory = Annotated[str, BeforeValidator(_factory)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Listen = Annotated[str, BeforeValidator(_listen)]
MetricsPort = Annotated[str, BeforeValidator(_metrics)]
