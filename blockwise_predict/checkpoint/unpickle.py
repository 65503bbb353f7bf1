"""Opening weights files as data: nothing in them is ever executed.

torch's own `weights_only` unpickler knows tensors and plain containers, and refuses every other
name that a pickle asks for. DaCapo pickles one object of a class of its own, `Weights`; for the
length of one load that name is bound to a plain container, so DaCapo need not be installed and its
code is not run if it is.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from blockwise_predict.errors import CheckpointError

DACAPO_WEIGHTS = "dacapo.store.weights_store.Weights"
# What torch's and pickle's parsers raise, among them, on bytes that are no pickle of tensors.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class PlainWeights:
    """What a pickled `dacapo.store.weights_store.Weights` is read into."""

    model: Mapping[str, Any]
    optimizer: Any


def read_weights(file: Path, *, unsafe: bool = False) -> dict[str, torch.Tensor]:
    """The state dictionary in a weights file, in memory, its keys as they stand there.

    Reads safetensors, torch files (of any age) that hold a state dictionary, DaCapo's `Weights`
    object and its newer `{"model": ..., "optimizer": ...}`. Raises CheckpointError for anything
    else. So it does for a pickle that asks for a name which is not data, and runs nothing of it;
    unless `unsafe`, which unpickles such a file, and with that runs whatever it wants.
    """
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return _state_dictionary(_load(file, unsafe), file)


def _state_dictionary(content: Any, file: Path) -> dict[str, torch.Tensor]:
    if isinstance(content, PlainWeights) or hasattr(content, "model"):
        content = content.model
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{file} holds a {type(content).__name__}, not weights. Save model.state_dict()."
        )
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others or not content:
        reason = f"{others[0]!r} is no tensor" if others else "it is empty"
        raise CheckpointError(
            f"{file} holds no state dictionary: {reason}. Save model.state_dict()."
        )
    # Cloned, because the file is mapped and may be written again while the program runs.
    return {str(key): value.detach().clone() for key, value in content.items()}


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors: {error}.") from None
    return tensors


def _load(file: Path, unsafe: bool) -> Any:
    mapped = zipfile.is_zipfile(file)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless_globals()):
            # Of pickle protocols that torch does not write: what follows is our error, or it works.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if not unsafe:
            raise CheckpointError(_refusal(file, str(error))) from None
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{file} cannot be read as weights, it is damaged or not a torch file: {error!r}."
        ) from None
    return _load_unsafely(file)


def _load_unsafely(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{file} cannot be unpickled ({error}). What it was saved with must be installed."
        ) from None


def _harmless_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Names a pickle may ask for beside torch's own: making one of them runs no foreign code."""
    # numpy's scalars stand in optimizer states; the module's name depends on numpy's version.
    scalar: Any = np.float64(0).__reduce__()[0]
    numeric = [type(np.dtype(code)) for code in "?bhilqBHILQefd"]
    return [
        (PlainWeights, DACAPO_WEIGHTS),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *numeric,
    ]


def _refusal(file: Path, reason: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    wanted = [named.group(1)] if named else sorted(set(_globals_in(file)))
    if not wanted:
        detail = reason.strip().splitlines()[-1]
        return f"{file} cannot be read as weights: {detail}. Save model.state_dict() with torch."
    return (
        f"{file} was refused, and nothing in it was run: its pickle asks for {', '.join(wanted)}, "
        "which is not data. Save model.state_dict() instead. Only if you trust whoever made the "
        "file: --unsafe-load-pickle runs what it wants."
    )


def _globals_in(file: Path) -> Iterator[str]:
    """Names that a pickle asks for, found by parsing alone, up to where it cannot be parsed.

    torch's message names them only for pickles of the protocols that it reads.
    """
    strings: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(_pickle_bytes(file)):
            if code.name == "GLOBAL" and isinstance(argument, str):
                yield argument.replace(" ", ".")
            elif code.name == "STACK_GLOBAL":
                yield ".".join(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
    except ValueError:
        return


def _pickle_bytes(file: Path) -> bytes:
    if not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(names[0]) if names else b""
