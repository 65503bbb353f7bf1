"""A network that a function of the user's builds.

This executes the user's own code, so the function is named on the command line, each time; no file
can name it (`config.consent`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from blockwise_predict.checkpoint.keys import as_bytes
from blockwise_predict.checkpoint.probing.probe import Hints
from blockwise_predict.checkpoint.programs.loaded import Loaded, candidates_of
from blockwise_predict.checkpoint.programs.module import JoinedOutputs
from blockwise_predict.errors import CheckpointError, shortened

KIND = "built by --factory"
_LIBRARIES = ("site-packages", "<frozen ")


def load_factory(factory: str, checkpoint: Path) -> Loaded:
    """The network that a function builds: `package.module:function` or `path/to/file.py:function`.

    A function that takes an argument gets the checkpoint's path. Raises CheckpointError if there is
    no such function, if it raises an error, or if what it returns is not a module.
    """
    function = _function(factory)
    try:
        takes_path = bool(inspect.signature(function).parameters)
        network = function(str(checkpoint)) if takes_path else function()
    except Exception as error:
        raise _failed(factory, error) from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(
            f"--factory {factory} returned a {type(network).__name__}, not a torch.nn.Module."
        )
    weights = network.state_dict()
    return Loaded(
        kind=KIND,
        module=JoinedOutputs(network.cpu()).eval().requires_grad_(False),
        sha256=_digest(network, weights, function),
        hints=Hints(candidates_of(weights)),
        weights=weights,
    )


def _function(factory: str) -> Callable[..., object]:
    place, _, name = factory.rpartition(":")
    try:
        by_file = place.endswith(".py")
        if by_file and not Path(place).is_file():
            raise CheckpointError(f"--factory {factory}: there is no file {place}.")
        module = _file_module(Path(place)) if by_file else importlib.import_module(place)
    except CheckpointError:
        raise
    except Exception as error:
        raise _failed(factory, error) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise CheckpointError(f"--factory {factory}: {place} has no function {name!r}.")
    found: Callable[..., object] = function
    return found


def _file_module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As for imported modules, which dataclasses and torch look up there.
    sys.modules.setdefault(file.stem, module)
    spec.loader.exec_module(module)
    return module


def _failed(factory: str, error: Exception) -> CheckpointError:
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    # Where the user's own code failed, rather than the library that it called.
    own = [frame for frame in frames if not any(part in frame[0] for part in _LIBRARIES)]
    file, line = (own or frames)[-1]
    where = f" in {file}, line {line}"
    reason = shortened(str(error).strip())
    return CheckpointError(f"--factory {factory}: {type(error).__name__}: {reason}{where}.")


def _digest(
    network: nn.Module, weights: Mapping[str, torch.Tensor], function: Callable[..., object]
) -> str:
    """SHA-256 of the weights, the layers as torch lists them, and the function's file."""
    digest = hashlib.sha256(f"{network}\n".encode())
    file = inspect.getsourcefile(function)
    if file is not None:
        digest.update(Path(file).read_bytes())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(as_bytes(tensor.detach().cpu().contiguous()).numpy().data)
    return digest.hexdigest()
