"""Opening a file that holds a network's program: recognising it, loading it, and probing it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from blockwise_predict.checkpoint.probing import probe_network
from blockwise_predict.checkpoint.probing.cache import cached, keep
from blockwise_predict.checkpoint.programs.exported import is_exported, load_exported
from blockwise_predict.checkpoint.programs.factory import load_factory
from blockwise_predict.checkpoint.programs.loaded import Loaded
from blockwise_predict.checkpoint.programs.model import OpaqueModel
from blockwise_predict.checkpoint.programs.onnx import is_onnx, load_onnx
from blockwise_predict.checkpoint.programs.torchscript import is_torchscript, load_torchscript
from blockwise_predict.config.steps import step
from blockwise_predict.errors import CheckpointError
from blockwise_predict.geometry.probed import Probed

_KINDS = (
    (is_onnx, load_onnx),
    (is_exported, load_exported),
    (is_torchscript, load_torchscript),
)
_log = logging.getLogger(__name__)


def find_program(path: str | os.PathLike[str], factory: str | None) -> Callable[[], Loaded] | None:
    """What loads a program: the factory, or else the file; None if that does not hold one."""
    if factory is not None:
        return partial(load_factory, factory, Path(path))
    try:
        file = Path(path)
        if not file.is_file():
            return None
    except (OSError, TypeError, ValueError):
        return None
    for holds, load in _KINDS:
        if holds(file):
            return partial(load, file)
    return None


def open_program(
    load: Callable[[], Loaded],
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | None = None,
    probed: Probed | None = None,
    options: Mapping[str, Any],
) -> OpaqueModel:
    """Load a program, and probe it unless it is known already.

    Raises CheckpointError for a program that cannot be loaded, or is not a network whose output is
    an image in proportion to its input.
    """
    loaded = load()
    if probed is None:
        probed = _probe(loaded, Path(path), input_shape)
    return OpaqueModel(
        path=str(path),
        channel_names=_channel_names(probed),
        weights=loaded.weights,
        options=options,
        kind=loaded.kind,
        program_sha256=loaded.sha256,
        probed=probed,
        module=loaded.module,
    )


def _channel_names(probed: Probed) -> tuple[str, ...]:
    """Numbered channels; of several outputs, numbered after the output's name."""
    outputs = probed.outputs or (("channel", probed.out_channels),)
    return tuple(f"{name}_{number}" for name, count in outputs for number in range(count))


def _probe(loaded: Loaded, path: Path, input_shape: Sequence[int] | None) -> Probed:
    if (known := cached(loaded.sha256)) is not None:
        return known
    _log.warning("%s: finding out what it does with its input, by running it (once)", path)
    hints = loaded.hints
    if input_shape is not None:
        hints = replace(hints, shape=tuple(input_shape))
    try:
        with step("probing the network, by running it"):
            probed = probe_network(
                loaded.module, hints, lambda text: _log.info("%s: %s", path, text)
            )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    probed = probed.model_copy(update={"outputs": loaded.module.found})
    keep(loaded.sha256, probed)
    return probed
