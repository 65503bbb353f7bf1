"""Reads weights files as data: nothing in them is executed, unless the user asks for it.

DaCapo pickles an object of its own class `Weights`. Its attributes are read like the items of a
dictionary, so DaCapo need not be installed, and its code does not run if it is.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from blockwise_predict.checkpoint.pickles import RefusedNameError
from blockwise_predict.checkpoint.stored import PlainWeights, StoredTensor, UnsupportedTensor
from blockwise_predict.checkpoint.torchfile import TorchFile
from blockwise_predict.config.untrusted import MalformedError
from blockwise_predict.errors import CheckpointError, shortened, shown

# Times that the tensors of a file may share one storage: models that register their layers twice
# name each tensor twice.
_MAX_SHARED = 8
_MAX_SAFETENSORS_HEADER = 4 << 20
# The exceptions of an unpickler for objects that it cannot build.
_NOT_UNPICKLED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
_REMEDIES = {
    "quantised": "Save the network before it is quantised.",
    "sparse": "Save its tensors with .to_dense().",
    "meta": "Save the network after its weights have been loaded.",
}


def read_weights(file: Path, *, unsafe: bool = False) -> dict[str, torch.Tensor]:
    """Read the state dictionary of a weights file into memory, with its keys unchanged.

    Reads safetensors, and torch files (zip archives and the older format) with a state dictionary,
    DaCapo's `Weights` object, its newer `{"model": ..., "optimizer": ...}`, or gunpowder's
    `{"model_state_dict": ..., ...}`. Raises CheckpointError for anything else, before it takes more
    memory than the file has bytes. That includes a pickle that needs more than plain data; with
    `unsafe` it is unpickled, which runs
    any code it contains.
    """
    try:
        if file.suffix == ".safetensors":
            return _read_safetensors(file)
        return _read_torch(file)
    except RefusedNameError as error:
        if not unsafe:
            raise CheckpointError(_refusal(file, error.name)) from None
    except (MalformedError, OSError) as error:
        raise CheckpointError(
            f"{file} cannot be read as weights; it is damaged or not a weights file: {error}."
        ) from None
    return _read_unsafely(file)


def _read_torch(file: Path) -> dict[str, torch.Tensor]:
    with TorchFile(file) as opened:
        state = _state_dictionary(opened.content, file)
        claimed = 0
        for key, stored in state.items():
            if not isinstance(stored, StoredTensor):
                raise CheckpointError(_not_a_weight(file, key, stored))
            claimed += opened.bytes_of(stored)
        if claimed > _MAX_SHARED * opened.size:
            raise MalformedError(f"its tensors claim {claimed} bytes, it has {opened.size}")
        return {key: _in_memory(opened, key, stored) for key, stored in state.items()}


def _in_memory(opened: TorchFile, key: str, stored: StoredTensor) -> torch.Tensor:
    try:
        return opened.tensor(stored)
    except MalformedError as error:
        raise MalformedError(f"{shown(key)}: {error}") from None


def _state_dictionary(content: Any, file: Path) -> dict[str, Any]:
    if isinstance(content, PlainWeights):
        content = content.attributes.get("model")
    elif hasattr(content, "model"):
        content = content.model
    for key in ("model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{file} contains a {type(content).__name__}, not weights. Save model.state_dict()."
        )
    kinds = (torch.Tensor, StoredTensor, UnsupportedTensor)
    others = [
        key
        for key, value in content.items()
        if not isinstance(value, kinds) or not isinstance(key, str)
    ]
    if others or not content:
        reason = f"{shown(others[0])} is not a tensor" if others else "it is empty"
        raise CheckpointError(
            f"{file} does not contain a state dictionary: {reason}. Save model.state_dict()."
        )
    return dict(content)


def _not_a_weight(file: Path, key: str, other: UnsupportedTensor) -> str:
    remedy = next((text for name, text in _REMEDIES.items() if name in other.kind), "")
    return (
        f"{file}: {shown(key)} is {other.kind}; weights are plain tensors of floating-point "
        f"numbers. {remedy}".rstrip()
    )


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    with open(file, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        header = int.from_bytes(handle.read(8), "little")
    if header > min(size, _MAX_SAFETENSORS_HEADER):
        raise CheckpointError(
            f"{file} cannot be read as safetensors: its header claims {header} bytes."
        )
    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
    except (SafetensorError, AttributeError, LookupError, RuntimeError, ValueError) as error:
        reason = shortened(str(error))
        raise CheckpointError(f"{file} cannot be read as safetensors: {reason}.") from None
    # Cloned, because the file is memory-mapped and may be overwritten while the program runs.
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _read_unsafely(file: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=False)
    except _NOT_UNPICKLED as error:
        reason = shortened(str(error) or type(error).__name__)
        raise CheckpointError(
            f"{file} cannot be unpickled ({reason}). Install the packages it was saved with."
        ) from None
    state = _state_dictionary(content, file)
    for key, tensor in state.items():
        if (other := _unsupported(tensor)) is not None:
            raise CheckpointError(_not_a_weight(file, key, other))
    return {key: tensor.detach().clone() for key, tensor in state.items()}


def _unsupported(tensor: torch.Tensor) -> UnsupportedTensor | None:
    """The kind of a tensor that is not stored as plain values; None for one that is."""
    if tensor.is_quantized:
        return UnsupportedTensor("a quantised tensor")
    if tensor.is_meta:
        return UnsupportedTensor("a meta tensor, which has no values")
    if tensor.is_nested:
        return UnsupportedTensor("a nested tensor")
    if tensor.layout != torch.strided:
        return UnsupportedTensor("a sparse tensor")
    return None


def _refusal(file: Path, name: str) -> str:
    return (
        f"{file} was refused, and nothing in it was run: its pickle asks for "
        f"{shown(name)[1:-1]}, which is not data. Save model.state_dict() instead. Only if you "
        "trust the author of the file: --unsafe-load-pickle runs any code in it."
    )
