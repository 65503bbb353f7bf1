"""One name for each tensor, whatever the version of DaCapo that saved it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from blockwise_predict.errors import CheckpointError

# Put before all keys by torch's wrappers.
_WRAPPERS = ("module.", "_orig_mod.")
# DaCapo's model registers each layer twice: by its name, and in a Sequential called chain. Newer
# versions leave out the first for the architecture, and the step `unet` in the second.
_ARCHITECTURE = ("architecture.", "chain.0.")
_HEAD = ("prediction_head.", "chain.1.")


def normalise_keys(state: Mapping[str, torch.Tensor], origin: Path) -> dict[str, torch.Tensor]:
    """The state with keys `architecture.unet.*` and `prediction_head.*`.

    Raises CheckpointError if two keys of one layer hold different values.
    """
    result: dict[str, torch.Tensor] = {}
    first: dict[str, str] = {}
    for key, tensor in state.items():
        name = normalised(key)
        if name in result and not _identical(result[name], tensor):
            raise CheckpointError(
                f"{origin}: {first[name]} and {key} are the same layer, but their values differ. "
                "The file is damaged or was put together from several models."
            )
        result[name] = tensor
        first.setdefault(name, key)
    return result


def normalised(key: str) -> str:
    """The name of a key of DaCapo's model, or of a bare CNNectomeUNet or CNNectomeUNetModule."""
    for prefix in _WRAPPERS:
        key = key.removeprefix(prefix)
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
    # Bytes, not values: a NaN equals itself here.
    return torch.equal(as_bytes(a), as_bytes(b))


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The content of a tensor as uint8, flat."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
