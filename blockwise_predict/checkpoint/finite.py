"""Weights that are NaN or infinite, as training that diverged leaves them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.errors import CheckpointError

_HEAD = "prediction_head."
_ADVICE = "Training may have diverged: look at its loss, and give an earlier --iteration."
_NAMED = 3


def nonfinite_weights(model: TrainedModel) -> Iterator[str]:
    """A warning that names the tensors with NaN or infinite values, if there are any.

    Raises CheckpointError if no output value could be anything but NaN. A NaN before the head
    makes it so: it reaches every voxel of its feature map, and every convolution after it adds up
    all maps.
    """
    tensors = {name: t for name, t in model.weights.items() if t.is_floating_point()}
    counts = {name: int(t.numel() - t.isfinite().sum()) for name, t in tensors.items() if t.numel()}
    found = {name: count for name, count in counts.items() if count}
    if not found:
        return
    listed = [f"{count:,} of {tensors[n].numel():,} in {n}" for n, count in found.items()]
    more = f" and {len(listed) - _NAMED} more tensors" if len(listed) > _NAMED else ""
    what = f"{model.path} has weights that are NaN or infinite: {', '.join(listed[:_NAMED])}{more}"
    if model.head is not None and _ruined({name: tensors[name] for name in found}):
        raise CheckpointError(f"{what}. Every value of the output would be NaN. {_ADVICE}")
    yield f"{what}. What they reach in the output may be NaN or infinite, too. {_ADVICE}"


def _ruined(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether NaN reaches every value of the output."""
    spoilt: torch.Tensor | None = None
    for name, tensor in tensors.items():
        if not name.startswith(_HEAD):
            if tensor.isnan().any():
                return True
            continue
        channels = tensor.isnan().reshape(len(tensor), -1).any(dim=1)
        spoilt = channels if spoilt is None else spoilt | channels
    return spoilt is not None and bool(spoilt.all())
