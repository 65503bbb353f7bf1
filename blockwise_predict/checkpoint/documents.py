"""YAML documents of runs and architectures, parsed as data."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockwise_predict.architectures import CNNectomeUNetConfig, UNetShapes
from blockwise_predict.config.untrusted import MalformedError, read_yaml, text_keys
from blockwise_predict.errors import CheckpointError, shown

# Far beyond any real network; within these limits, shape arithmetic takes no noticeable time.
MAX_FMAPS = 1 << 16
MAX_DEEPEST_FMAPS = 1 << 20
MAX_LEVELS = 10
MAX_HEADS = 16
MAX_PERIOD = 1 << 12

Count = Annotated[int, Field(strict=True, ge=1, le=MAX_FMAPS)]
Factor = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=64)], ...], Field(min_length=1)]
Levels = Annotated[tuple[Factor, ...], Field(min_length=1, max_length=MAX_LEVELS)]
Kernel = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=63)], ...], Field(min_length=1)]
Convolutions = Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=16)]
Kernels = Annotated[tuple[Convolutions, ...], Field(min_length=1, max_length=MAX_LEVELS + 1)]
Size = Annotated[int, Field(strict=True, ge=1, le=1 << 20)]
Increase = Annotated[int, Field(strict=True, ge=0, le=1 << 20)]
Flag = Annotated[bool, Field(strict=True)]
# Of torch.nn: without parameters, and the same for every axis order of a feature map.
ElementwiseActivation = Literal[
    "ReLU", "LeakyReLU", "ReLU6", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus",
    "Sigmoid", "Tanh", "Hardswish", "Identity",
]  # fmt: skip


class Architecture(BaseModel):
    """The keys of CNNectomeUNetConfig, with bounds; None stands for the default."""

    model_config = ConfigDict(extra="forbid")

    name: str
    input_shape: Annotated[tuple[Size, ...], Field(min_length=1)]
    fmaps_out: Count
    fmaps_in: Count
    num_fmaps: Count
    fmap_inc_factor: Annotated[int, Field(strict=True, ge=1, le=64)]
    downsample_factors: Levels
    kernel_size_down: Kernels | None = None
    kernel_size_up: Kernels | None = None
    eval_shape_increase: Annotated[tuple[Increase, ...], Field(min_length=1)] | None = None
    upsample_factors: Annotated[tuple[Factor, ...], Field(max_length=MAX_LEVELS)] | None = None
    constant_upsample: Flag = True
    padding: str = "valid"
    use_attention: Flag = False
    batch_norm: Flag = False
    super_resolution_kernels: Convolutions | None = None
    activation: ElementwiseActivation = "ReLU"
    activation_on_upsample: Flag = True
    upsample_channel_contraction: (
        Annotated[tuple[Flag, ...], Field(min_length=1, max_length=MAX_LEVELS)] | None
    ) = None
    upsample_convolution: Flag = True
    num_heads: Annotated[int, Field(strict=True, ge=1, le=MAX_HEADS)] = 1


def read_document(file: Path) -> dict[str, Any]:
    """Read a YAML mapping; CheckpointError if it is unreadable, no mapping, or has unsafe tags."""
    try:
        content = read_yaml(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}).") from None
    except MalformedError as error:
        raise CheckpointError(f"{file} is not plain YAML data: {error}.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must be a mapping of keys to values.")
    return content


def split_document(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Architecture and task in a document; see `open_checkpoint` for its forms.

    Several tasks (`tasks`) are read by `tasks.parse_tasks`.
    """
    for architecture, task in (("architecture_config", "task_config"), ("architecture", "task")):
        if isinstance(document.get(architecture), dict):
            return document[architecture], document.get(task)
    return document, None


def parse_architecture(mapping: dict[Any, Any], origin: Path) -> CNNectomeUNetConfig:
    """The architecture's configuration.

    Raises CheckpointError for missing and unknown keys, invalid values, and levels or axes that are
    inconsistent.
    """
    try:
        values = dict(text_keys(mapping))
    except MalformedError as error:
        raise CheckpointError(f"{origin}: in the architecture, {error}.") from None
    kind = values.pop("__type__", "CNNectomeUNetConfig")
    if kind != "CNNectomeUNetConfig":
        raise CheckpointError(
            f"{origin}: architecture {_plain(kind)} is not supported, only CNNectomeUNetConfig."
        )
    for key in ("input_shape", "eval_shape_increase"):
        # As DaCapo's attributes are called: both for some versions, the second for all.
        if f"_{key}" in values:
            values[key] = values.pop(f"_{key}")
    values.setdefault("name", origin.stem)
    try:
        parsed = Architecture.model_validate(
            {key: value for key, value in values.items() if value is not None}
        )
    except ValidationError as error:
        raise CheckpointError(f"{origin}: {_explained(error, values)}") from None
    _check_bounds(parsed, origin)
    dims = len(parsed.input_shape)
    # Time, the first of four axes, is not downsampled.
    space = 3 if dims == 4 else dims
    increase = parsed.eval_shape_increase or parsed.input_shape
    if {*map(len, parsed.downsample_factors)} != {space} or len(increase) != dims:
        raise CheckpointError(
            f"{origin}: input_shape {shown(parsed.input_shape)}, downsample_factors "
            f"{shown(parsed.downsample_factors)} and eval_shape_increase "
            f"{shown(parsed.eval_shape_increase)} differ in their number of axes. With time "
            "input_shape has four axes, and the factors three."
        )
    if parsed.num_heads > 1 and parsed.upsample_factors:
        raise CheckpointError(
            f"{origin}: num_heads {parsed.num_heads} with upsample_factors: super-resolution has "
            "one head."
        )
    config = CNNectomeUNetConfig(**parsed.model_dump())
    try:
        # Raises if levels, kernels and padding are inconsistent, or if no input size is valid.
        _ = UNetShapes.from_config(config).min_input_shape
    except RuntimeError as error:
        raise CheckpointError(f"{origin}: {error}.") from None
    return config


def _explained(error: ValidationError, values: dict[str, Any]) -> str:
    """The problems of an architecture's keys or, if the keys are right, of its values."""
    problems = [(str(problem["loc"][0]), problem["type"]) for problem in error.errors()]
    unknown = [key for key, kind in problems if kind == "extra_forbidden"]
    if unknown:
        known = ", ".join(Architecture.model_fields)
        return f"unknown keys in the architecture: {_listed(unknown)}. Known: {known}."
    missing = [key for key, kind in problems if kind == "missing"]
    if missing:
        return f"the architecture lacks {', '.join(missing)}."
    wrong = ", ".join(f"{key}: {shown(values[key])}" for key in dict(problems))
    return f"invalid values in the architecture: {wrong}."


def _listed(keys: list[str], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(map(_plain, sorted(keys)[:most])) + more


def _plain(value: object) -> str:
    """A value for a message; text without its quotes."""
    return shown(value)[1:-1] if isinstance(value, str) else shown(value)


def _check_bounds(parsed: Architecture, origin: Path) -> None:
    """Raise CheckpointError for a network so large that computing its shapes would take long."""
    steps = len(parsed.downsample_factors)
    deepest = parsed.num_fmaps * parsed.fmap_inc_factor**steps
    if deepest > MAX_DEEPEST_FMAPS:
        raise CheckpointError(
            f"{origin}: num_fmaps {parsed.num_fmaps} and fmap_inc_factor {parsed.fmap_inc_factor} "
            f"give {deepest} feature maps at the deepest level; the limit is {MAX_DEEPEST_FMAPS}."
        )
    for key, factors in (
        ("downsample_factors", parsed.downsample_factors),
        ("upsample_factors", parsed.upsample_factors or ()),
    ):
        product = max((prod(axis) for axis in zip(*factors, strict=False)), default=1)
        if product > MAX_PERIOD:
            raise CheckpointError(
                f"{origin}: {key} {shown(factors)} multiply to {product}, above {MAX_PERIOD}."
            )
