"""What the user asked for: one frozen, strict `RunConfig`, from options and an optional YAML file.

A value is checked for its form here; whether it fits the checkpoint and the volume is found when
the plan is made. All mistakes of form are reported at once, each with its key and where it stood.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from blockwise_predict.errors import ConfigError, GeometryError
from blockwise_predict.geometry import Lengths, exact, exact_lengths, parse_bounds
from blockwise_predict.resources import resource_folder

Border = Literal["reflect", "edge", "constant", "valid"]
Format = Literal["zarr3", "zarr2", "n5"]
BadInput = Literal["fail", "fill-missing", "fill", "skip"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "tfloat32"]
_MEMORY_UNITS = {"": 1} | {
    prefix + suffix: base ** (power + 1)
    for power, prefixes in enumerate(("kK", "M", "G", "T"))
    for prefix in prefixes
    for suffix, base in (("", 1000), ("i", 1024))
}
OUTPUT_DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32")


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
    return shape


def _length_texts(value: object) -> object:
    parts = _split(value)
    if not isinstance(parts, (list, tuple)):
        raise ValueError("write one length in nm for each axis, for example 4.24,4,4")
    try:
        for part in parts:
            exact(part)
    except (ValueError, ZeroDivisionError):
        raise ValueError("write one length in nm for each axis, for example 4.24,4,4") from None
    return tuple(str(part) for part in parts)


def _numbers(value: object) -> object:
    parts = _split(value)
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        raise ValueError("write LOW,HIGH, for example 0,1")
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError("write LOW,HIGH, for example 0,1") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError("HIGH must be greater than LOW, and both finite")
    return (low, high)


def _memory(value: object) -> object:
    """`8GiB`, `500 MB` or bytes, as bytes."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*([kKMGT]i?)?B?\s*", str(value))
    if found is None:
        raise ValueError("write a size, for example 8GiB")
    factor = _MEMORY_UNITS[found[2] or ""]
    return int(float(found[1]) * factor)


def _roi(value: object) -> object:
    if value is not None:
        try:
            parse_bounds(str(value))
        except GeometryError as error:
            raise ValueError(str(error)) from None
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
    if (kind == "range" and second <= first) or (kind == "zscore" and second <= 0):
        raise ValueError(
            "HIGH must be greater than LOW" if kind == "range" else "STD must be positive"
        )
    return text


Shape = Annotated[tuple[int, ...], BeforeValidator(_shape)]
LengthTexts = Annotated[tuple[str, ...], BeforeValidator(_length_texts)]


class RunConfig(BaseModel):
    """One prediction run, as asked for. Shapes in voxels, lengths in nm, axes (z, y, x)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str = Field(description="DaCapo run folder, iteration file or weights file")
    iteration: int | None = Field(None, ge=0)
    architecture: str | None = None
    unsafe_load_pickle: bool = False

    input: str = Field(description="input array: container and name, e.g. volume.zarr/raw")
    voxel_size: LengthTexts | None = None
    offset: LengthTexts | None = None
    border: Border = "reflect"
    bad_input: BadInput = "fail"
    normalize: Annotated[str, BeforeValidator(_normalize)] = "auto"

    output: str = Field(description="output array: container and name, e.g. out.zarr/affs")
    format: Format | None = None
    output_dtype: Literal["uint8", "int8", "uint16", "int16", "float16", "float32"] = "float32"
    output_range: Annotated[tuple[float, float], BeforeValidator(_numbers)] | None = None
    chunk_shape: Shape | None = None
    roi: Annotated[str | None, BeforeValidator(_roi)] = None

    block_shape: Shape | None = None
    tile_shape: Shape | None = None

    precision: Precision = "auto"
    memory: Annotated[int | None, BeforeValidator(_memory)] = None

    workers: int = Field(1, ge=1, le=1024)
    slots: int = Field(2, ge=1, le=16)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    retries: int = Field(2, ge=0, le=100)
    block_timeout: float = Field(3600.0, ge=10)
    run_dir: str | None = None
    overwrite: bool = False

    def absolute(self) -> Self:
        """The same with absolute paths, so that it holds in any working directory."""
        keys = ("checkpoint", "architecture", "input", "output", "run_dir")
        paths = {key: getattr(self, key) for key in keys}
        return self.model_copy(
            update={
                key: os.path.abspath(os.path.expanduser(path))
                for key, path in paths.items()
                if path is not None and "://" not in path
            }
        )

    @model_validator(mode="after")
    def _range_needs_an_integer(self) -> Self:
        if self.output_range is not None and self.output_dtype.startswith("float"):
            raise ValueError(
                f"output_range is only for integer outputs, output_dtype is {self.output_dtype}"
            )
        return self


def load_lengths(option: str, text: str | None) -> Lengths | None:
    """Lengths (nm) of an option outside a `RunConfig`. Raises ConfigError as for one inside."""
    if text is None:
        return None
    try:
        return exact_lengths(TypeAdapter(LengthTexts).validate_python(text))
    except ValidationError as error:
        raise ConfigError(_explain(option, error.errors()[0], None, False)) from None


def load_config(
    options: Mapping[str, Any], file: str | Path | None = None, *, command_line: bool = True
) -> RunConfig:
    """Build the configuration from options (those that are not None win) and a YAML file.

    Raises ConfigError that lists every mistake with its key, value and origin.
    """
    given = {key: value for key, value in options.items() if value is not None}
    from_file = _read_yaml(file) if file is not None else {}
    try:
        return RunConfig.model_validate({**from_file, **given})
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = str(problem["loc"][0]) if problem["loc"] else ""
            origin = str(file) if key in from_file and key not in given else None
            lines.append(_explain(key, problem, origin, command_line))
        raise ConfigError("\n".join(lines)) from None


def _explain(key: str, problem: Any, file: str | None, command_line: bool) -> str:
    name = f"--{key.replace('_', '-')}" if command_line and file is None and key else key
    where = f"{file}: {name}" if file else name
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{name} is missing: give it as an option or as `{key}:` in the YAML file."
    if problem["type"] == "extra_forbidden":
        known = ", ".join(RunConfig.model_fields)
        return f"{where}: there is no such key. Known keys: {known}."
    if not key:
        return message
    return f"{where} {problem['input']!r}: {message}."


def _read_yaml(file: str | Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is not valid YAML. {error}") from None
    if not isinstance(content, dict):
        example = resource_folder("configs") / "local.yaml"
        raise ConfigError(f"{file}: must be a mapping of keys and values, as {example} is.")
    return {str(key): value for key, value in content.items()}
