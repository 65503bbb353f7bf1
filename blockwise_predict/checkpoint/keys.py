"""One name for each tensor, whichever program and version saved it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from blockwise_predict.errors import CheckpointError

# Prefixes added by torch's wrapper modules.
_WRAPPERS = ("module.", "_orig_mod.")
# DaCapo's model registers each layer twice: by its name, and in a Sequential called chain. Newer
# versions omit the first for the architecture, and `unet` in the second.
# fly_organelles and cellmap-models have names of their own.
_ARCHITECTURE = ("architecture.", "chain.0.", "unet_backbone.", "backbone.")
_HEAD = ("prediction_head.", "chain.1.", "final_conv.")
# The position of such a model in a Sequential, which adds an activation.
_POSITION = re.compile(rf"\d+\.(?={'|'.join(map(re.escape, _ARCHITECTURE + _HEAD))})")


def normalise_keys(state: Mapping[str, torch.Tensor], origin: Path) -> dict[str, torch.Tensor]:
    """The state dictionary with keys `architecture.unet.*` and `prediction_head.*`.

    Raises CheckpointError if two keys of one layer hold different values.
    """
    result: dict[str, torch.Tensor] = {}
    first: dict[str, str] = {}
    for key, tensor in state.items():
        name = normalise_key(key)
        if name in result and not _identical(result[name], tensor):
            raise CheckpointError(
                f"{origin}: {first[name]} and {key} are the same layer, but their values differ. "
                "The file is damaged or combines several models."
            )
        result[name] = tensor
        first.setdefault(name, key)
    return result


def normalise_key(key: str) -> str:
    """Normalise a key of a whole model or of a bare CNNectomeUNet or CNNectomeUNetModule."""
    for prefix in _WRAPPERS:
        key = key.removeprefix(prefix)
    key = _POSITION.sub("", key, count=1) if _POSITION.match(key) else key
    for prefix in _HEAD:
        if key.startswith(prefix):
            return "prediction_head." + key.removeprefix(prefix)
    for prefix in _ARCHITECTURE:
        if key.startswith(prefix):
            key = key.removeprefix(prefix)
            break
    return "architecture.unet." + key.removeprefix("unet.")


def _identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    # Compare bytes, not values, so that NaN equals itself.
    return torch.equal(as_bytes(a), as_bytes(b))


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor, as a flat uint8 tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
