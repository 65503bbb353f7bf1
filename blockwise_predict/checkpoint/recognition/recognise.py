"""Whether a TorchScript or torch.export file is a U-Net that is known here, and which one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import torch

from blockwise_predict.architectures import CNNectomeUNetConfig
from blockwise_predict.checkpoint.archive import read_records
from blockwise_predict.checkpoint.documents import parse_architecture
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.keys import normalise_key, normalise_keys
from blockwise_predict.checkpoint.pickles import RefusedNameError
from blockwise_predict.checkpoint.recognition.expected import expected_operations
from blockwise_predict.checkpoint.recognition.exported import read_exported
from blockwise_predict.checkpoint.recognition.family import Family, infer_family
from blockwise_predict.checkpoint.recognition.program import (
    Operation,
    Program,
    UnreadableProgramError,
)
from blockwise_predict.checkpoint.recognition.script import read_script
from blockwise_predict.config.untrusted import MalformedError
from blockwise_predict.errors import CheckpointError, shown

_ARCHITECTURE = "architecture."
_ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", None: None}


@dataclass(frozen=True)
class Recognised:
    """A program that computes what a CNNectomeUNet with these weights computes.

    head: includes the activation, if the program has one. evidence: why, in words.
    """

    architecture: CNNectomeUNetConfig
    head: Head | None
    weights: Mapping[str, torch.Tensor]
    evidence: str


# Of a U-Net's program in text: it has a few hundred lines.
MAX_READ_BYTES = 4 << 20


def recognise_file(file: Path, input_shape: tuple[int, ...] | None = None) -> Recognised | str:
    """The U-Net that a TorchScript (.ts, .pt) or torch.export (.pt2) file is, or why it is none.

    It is one only if its operations are a CNNectomeUNet's, one by one, each with the layer that it
    has there. The file is read as data; nothing in it runs. `input_shape` is what the network was
    trained on, if that is known. Raises CheckpointError for a file that cannot be read.
    """
    try:
        _, records = read_records(file, MAX_READ_BYTES)
        is_script = any(name.startswith("code/") for name in records)
        program = read_script(records) if is_script else read_exported(records)
        return _recognise(program, file, input_shape or program.input_shape)
    except UnreadableProgramError as error:
        return str(error)
    except RefusedNameError as error:
        if error.name.startswith("torch.jit."):
            return "it was scripted, and only traced networks are recognised"
        return f"it asks for {shown(error.name)[1:-1]}, which a traced network does not need"
    except (MalformedError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as a program: {error}.") from None


def _recognise(program: Program, file: Path, input_shape: tuple[int, ...] | None) -> Recognised:
    weights = normalise_keys(program.weights, file)
    short = {name.removeprefix(_ARCHITECTURE): tensor for name, tensor in weights.items()}
    operations = [replace(operation, layer=_short(operation)) for operation in program.operations]
    try:
        family = infer_family(operations, short, input_shape)
    except LookupError:
        raise UnreadableProgramError("its layers are not those of a U-Net") from None
    expected = [replace(one, layer=_short(one)) for one in expected_operations(family)]
    _compare(operations, expected)
    try:
        config = parse_architecture({**family.settings, "name": file.stem}, file)
    except CheckpointError as error:
        raise UnreadableProgramError(str(error).removesuffix(".")) from None
    return Recognised(config, _head(family), weights, _evidence(operations))


def _short(operation: Operation) -> str:
    if not operation.layer:
        return ""
    return (
        normalise_key(f"{operation.layer}.weight")
        .removesuffix(".weight")
        .removeprefix(_ARCHITECTURE)
    )


def _compare(found: list[Operation], expected: list[Operation]) -> None:
    for number, (one, other) in enumerate(zip_longest(found, expected)):
        if one != other:
            raise UnreadableProgramError(
                f"its operation {number + 1} is {one or 'missing'}, where a CNNectomeUNet with its "
                f"layers has {other or 'ended'}"
            )


def _head(family: Family) -> Head | None:
    if family.head is None and family.activation is None:
        return None
    if family.head is None:
        raise UnreadableProgramError("its activation follows the U-Net without a prediction head")
    kernel, channels = family.head
    if len(set(kernel)) > 1:
        raise UnreadableProgramError(f"its prediction head has a kernel of {kernel}")
    return Head("unknown", kernel[0], channels, _ACTIVATIONS[family.activation])


def _evidence(operations: list[Operation]) -> str:
    layers = sum(operation.kind.startswith("conv") for operation in operations)
    return (
        f"its {len(operations)} operations, with the names of its {layers} layers, are those of a "
        "CNNectomeUNet, one by one"
    )
