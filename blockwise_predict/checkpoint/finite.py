"""Detection of NaN and infinite weights, which diverged training leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.errors import CheckpointError

_HEAD = "prediction_head."
_ADVICE = "Training may have diverged: check its loss, and use an earlier --iteration."
# Tensors named in the warning.
_NAMED = 3


def nonfinite_weights(model: TrainedModel) -> Iterator[str]:
    """Yields a warning that names the tensors with NaN or infinite values, if there are any.

    Raises CheckpointError if every output value would be NaN. A NaN before the head is enough: it
    reaches every voxel of its feature map, and every later convolution sums over all maps.
    """
    tensors = {name: t for name, t in model.weights.items() if t.is_floating_point()}
    counts = {name: int(t.numel() - t.isfinite().sum()) for name, t in tensors.items() if t.numel()}
    found = {name: count for name, count in counts.items() if count}
    if not found:
        return
    listed = [f"{count:,} of {tensors[n].numel():,} in {n}" for n, count in found.items()]
    more = f" and {len(listed) - _NAMED} more tensors" if len(listed) > _NAMED else ""
    problem = (
        f"{model.path} has weights that are NaN or infinite: {', '.join(listed[:_NAMED])}{more}"
    )
    has_head = isinstance(model, UNetModel) and model.head is not None
    if has_head and _all_nan({name: tensors[name] for name in found}):
        raise CheckpointError(f"{problem}. Every value of the output would be NaN. {_ADVICE}")
    yield f"{problem}. Output values that depend on them may be NaN or infinite. {_ADVICE}"


def _all_nan(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether non-finite weights make every output value NaN."""
    nan_channels: torch.Tensor | None = None
    for name, tensor in tensors.items():
        if not name.startswith(_HEAD):
            if tensor.isnan().any():
                return True
            continue
        channels = tensor.isnan().reshape(len(tensor), -1).any(dim=1)
        nan_channels = channels if nan_channels is None else nan_channels | channels
    return nan_channels is not None and bool(nan_channels.all())
