"""A graph of operators as a torch module."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from blockwise_predict.checkpoint.programs.operators import TENSOR_OPERATORS
from blockwise_predict.errors import CheckpointError, shown

# By the numbers of torch.export's schema.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_ATEN = "torch.ops.aten."
# On sizes, which are Python's numbers.
_NUMBERS = {
    f"_operator.{name}": getattr(operator, name)
    for name in (
        *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "pos"),
        *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
    )
} | {"torch.sym_max": max, "torch.sym_min": min, "torch.sym_int": int, "torch.sym_float": float}
# Assertions about what the export has assumed.
_SKIPPED = {"_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size"}
_POSITIONAL = 1


@dataclass(frozen=True)
class UserInput:
    """A network's input: name, sizes (None where any will do), and those it was exported with."""

    name: str
    sizes: tuple[int | None, ...]
    example: tuple[int, ...]

    @classmethod
    def of(cls, name: str, sizes: Sequence[Mapping[str, Any]]) -> UserInput:
        """The input, from the sizes in a file."""
        known = tuple(size.get("as_int") for size in sizes)
        example = tuple(
            size["as_expr"]["hint"]["as_int"] if n is None else n
            for n, size in zip(known, sizes, strict=True)
        )
        return cls(name, known, example)

    def check(self, shape: Sequence[int]) -> None:
        """Raise ValueError for a shape that the network was not made for."""
        if len(shape) != len(self.sizes) or any(
            known not in (None, size) for known, size in zip(self.sizes, shape, strict=True)
        ):
            raise ValueError(f"the input must be {self.sizes}, but is {tuple(shape)}")


@dataclass(frozen=True)
class Node:
    """A call of an operator: names of what it gives are in `outputs`, as in the file."""

    call: Callable[..., Any] | None
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Node:
        """The node, from a file. Raises CheckpointError for an operator that is not permitted."""
        return cls(_operator(node["target"]), node["inputs"], node["outputs"])


class GraphNetwork(nn.Module):
    """A graph of operators with weights and one input."""

    def __init__(
        self,
        *,
        nodes: Sequence[Node],
        weights: Mapping[str, torch.Tensor],
        user_input: UserInput,
        outputs: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self._nodes, self._input, self._outputs = nodes, user_input, outputs
        self._weight_names = tuple(weights)
        for name, tensor in weights.items():
            self.register_buffer(f"weight_{name}", tensor)
        self._last_uses = _last_uses(nodes, outputs)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by their names in the graph."""
        self._input.check(x.shape)
        values: dict[str, Any] = {self._input.name: x}
        values |= {name: getattr(self, f"weight_{name}") for name in self._weight_names}
        for number, node in enumerate(self._nodes):
            if node.call is not None:
                self._run(node, values, x.device)
            for name in self._last_uses.get(number, ()):
                values.pop(name, None)
        names = [output["as_tensor"]["name"] for output in self._outputs if "as_tensor" in output]
        return {name: values[name] for name in names}

    def _run(self, node: Node, values: dict[str, Any], device: torch.device) -> None:
        assert node.call is not None
        positional, named = [], {}
        for one in node.inputs:
            value = _value(one["arg"], values, device)
            if one.get("kind") == _POSITIONAL:
                positional.append(value)
            else:
                named[one["name"]] = value
        result = node.call(*positional, **named)
        results = (result,) if len(node.outputs) == 1 else result
        for output, one in zip(node.outputs, results, strict=True):
            _store(output, one, values)


def _operator(target: str) -> Callable[..., Any] | None:
    if target in _NUMBERS:
        number: Callable[..., Any] = _NUMBERS[target]
        return number
    name, _, overload = target.removeprefix(_ATEN).partition(".")
    if target.startswith(_ATEN) and name in _SKIPPED:
        return None
    if not target.startswith(_ATEN) or name not in TENSOR_OPERATORS:
        raise CheckpointError(
            f"was refused, and nothing in it was run: it names {shown(target)}, which is not among "
            "the operators that a network may use. Build the network in Python instead, and name "
            "the function with --factory."
        )
    call: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
    return call


def _value(argument: Mapping[str, Any], values: Mapping[str, Any], device: torch.device) -> Any:
    """What an argument in a file stands for."""
    ((kind, content),) = argument.items()
    if kind in ("as_tensor", "as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _named(content, values)
    if kind in ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_floats"):
        return [_named(one, values) for one in content]
    if kind in ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string"):
        return content
    if kind == "as_scalar_type":
        return DTYPES[content]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[content]
    if kind == "as_device":
        # Where the network was exported; it now runs where its input is.
        return device
    if kind in ("as_none", "as_layout"):
        return None
    raise CheckpointError(f"has an argument of kind {shown(kind)}, which is not supported.")


def _named(content: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """A value by its name; or the number, or None, that stands in its place."""
    if "as_none" in content:
        return None
    inner = content.get("as_tensor", content)
    name = inner.get("name", inner.get("as_name"))
    if name is not None:
        return values[name]
    return next(iter(content.values()))


def _store(output: Mapping[str, Any], result: Any, values: dict[str, Any]) -> None:
    ((kind, content),) = output.items()
    if kind == "as_tensors":
        values |= {one["name"]: tensor for one, tensor in zip(content, result, strict=True)}
    elif kind != "as_none":
        values[content.get("name", content.get("as_name"))] = result


def _last_uses(nodes: Sequence[Node], outputs: Sequence[Mapping[str, Any]]) -> dict[int, list[str]]:
    """Names whose last use is in a node, by the node's number."""
    kept = set(_names(outputs))
    last = {}
    for number, node in enumerate(nodes):
        for name in _names([one["arg"] for one in node.inputs]):
            last[name] = number
    uses: dict[int, list[str]] = {}
    for name, number in last.items():
        if name not in kept:
            uses.setdefault(number, []).append(name)
    return uses


def _names(content: Any) -> list[str]:
    """All names in a part of a file."""
    if isinstance(content, Mapping):
        own = [content[key] for key in ("name", "as_name") if isinstance(content.get(key), str)]
        return own + _names(list(content.values()))
    if isinstance(content, (list, tuple)):
        return [name for one in content for name in _names(one)]
    return []
