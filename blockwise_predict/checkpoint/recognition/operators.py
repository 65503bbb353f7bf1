"""torch's operators, as TorchScript and torch.export name them, as the operations of a Program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blockwise_predict.checkpoint.recognition.program import END, Recorder


@dataclass(frozen=True)
class Tensor:
    """The result of an operation, or the input."""

    position: int


@dataclass(frozen=True)
class Parameter:
    """A parameter or buffer by its name."""

    name: str


@dataclass(frozen=True)
class Scalar:
    """A number that is not known without running the program."""


# Positional arguments, so that both notations can be read.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "_convolution": (
        *("input", "weight", "bias", "stride", "padding", "dilation", "transposed"),
        *("output_padding", "groups"),
    ),
    "_convolution_mode": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "batch_norm": (
        *("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
    ),
    "cat": ("tensors", "dim"),
    "conv": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose": (
        *("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
    "max_pool": ("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "slice": ("self", "dim", "start", "end", "step"),
    "upsample_nearest": ("input", "output_size", "scale_factors"),
}
ACTIVATIONS = {
    **{"relu": "relu", "relu_": "relu", "elu": "elu", "elu_": "elu"},
    **{"sigmoid": "sigmoid", "tanh": "tanh"},
}
_BATCH_NORM_EPS = 1e-5
_SAME_NAMES = {
    **{f"conv{d}d": "conv" for d in (2, 3)},
    **{f"conv_transpose{d}d": "conv_transpose" for d in (2, 3)},
    **{f"max_pool{d}d": "max_pool" for d in (2, 3)},
    **{f"upsample_nearest{d}d": "upsample_nearest" for d in (2, 3)},
    "convolution": "_convolution",
}


def record(recorder: Recorder, name: str, values: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """Add what an operator does to the operations; returns its result.

    Of what a U-Net does not do, only the name is kept, by which it is not recognised as one.
    """
    name = _SAME_NAMES.get(name, name)
    arguments = {**dict(zip(ARGUMENTS.get(name, ()), values, strict=False)), **named}
    inputs = tuple(value.position for value in _flat([*values, *named.values()]))
    if not inputs or name in ("size", "sym_size"):
        return Scalar()
    if name == "slice" and _is_crop(arguments):
        return arguments["self"]
    if name in ACTIVATIONS and len(inputs) == 1:
        return Tensor(recorder.add(ACTIVATIONS[name], inputs))
    known = _RECORDED.get(name, _other)(arguments)
    if known is None:
        return Tensor(recorder.add(f"{name} with unusual arguments", inputs))
    kind, numbers = known
    weight = arguments.get("weight")
    layer = weight.name.removesuffix(".weight") if isinstance(weight, Parameter) else ""
    return Tensor(recorder.add(kind or name, inputs, layer=layer, numbers=numbers))


Known = tuple[str, tuple[float | str, ...]] | None


def _other(_: Mapping[str, Any]) -> Known:
    return "", ()


def _convolution(arguments: Mapping[str, Any]) -> Known:
    if arguments.get("transposed"):
        return _transposed(arguments)
    padding = arguments.get("padding", 0)
    plain = _all(arguments, stride=1, dilation=1, groups=1) and _is_layer(arguments)
    if not plain or not (isinstance(padding, str) or _are(padding, 0)):
        return None
    return "conv", (padding if isinstance(padding, str) else "valid",)


def _transposed(arguments: Mapping[str, Any]) -> Known:
    plain = _all(arguments, padding=0, output_padding=0, dilation=1, groups=1)
    stride = arguments.get("stride")
    if not plain or not _is_layer(arguments) or not _numbers(stride):
        return None
    return "conv_transpose", tuple(map(float, stride or ()))


def _batch_norm(arguments: Mapping[str, Any]) -> Known:
    plain = not arguments.get("training") and arguments.get("eps") == _BATCH_NORM_EPS
    return ("batch_norm", ()) if plain and _is_layer(arguments) else None


def _max_pool(arguments: Mapping[str, Any]) -> Known:
    kernel = arguments.get("kernel_size")
    plain = _all(arguments, padding=0, dilation=1) and not arguments.get("ceil_mode")
    if not plain or not _numbers(kernel) or arguments.get("stride") not in (None, [], kernel):
        return None
    return "max_pool", tuple(map(float, kernel or ()))


def _upsample(arguments: Mapping[str, Any]) -> Known:
    factors = arguments.get("scale_factors")
    if arguments.get("output_size") is not None or not _numbers(factors):
        return None
    return "upsample", tuple(map(float, factors or ()))


def _concatenation(arguments: Mapping[str, Any]) -> Known:
    return ("concatenate", ()) if arguments.get("dim", 0) == 1 else None


def _slice(_: Mapping[str, Any]) -> Known:
    return None


_RECORDED = {
    "_convolution": _convolution,
    "_convolution_mode": _convolution,
    "batch_norm": _batch_norm,
    "cat": _concatenation,
    "conv": _convolution,
    "conv_transpose": _transposed,
    "max_pool": _max_pool,
    "slice": _slice,
    "upsample_nearest": _upsample,
}


def _flat(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        found += [value] if isinstance(value, Tensor) else []
        found += [item for item in value if isinstance(item, Tensor)] if _listed(value) else []
    return found


def _listed(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _numbers(value: Any) -> bool:
    return _listed(value) and all(isinstance(item, (int, float)) for item in value)


def _are(value: Any, number: int) -> bool:
    return all(item == number for item in value) if _listed(value) else value == number


def _all(arguments: Mapping[str, Any], **expected: int) -> bool:
    return all(_are(arguments.get(name, number), number) for name, number in expected.items())


def _is_layer(arguments: Mapping[str, Any]) -> bool:
    """Whether weight and bias are one layer's."""
    weight, bias = arguments.get("weight"), arguments.get("bias")
    if not isinstance(weight, Parameter) or not isinstance(bias, Parameter):
        return False
    return weight.name.removesuffix("weight") == bias.name.removesuffix("bias")


def _is_crop(arguments: Mapping[str, Any]) -> bool:
    """Whether a slice leaves batch and channels as they are."""
    if arguments.get("step", 1) != 1 or not isinstance(arguments["self"], Tensor):
        return False
    if arguments.get("dim", 0) > 1:
        return True
    end = arguments.get("end")
    to_the_end = end is None or (isinstance(end, int) and end > END)
    return arguments.get("start") in (None, 0) and to_the_end
