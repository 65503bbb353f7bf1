"""Whether a decision on the network's values (`--postprocess`) depends on them."""

from __future__ import annotations

from blockwise_predict.checkpoint import NetworkOutput, TrainedModel
from blockwise_predict.config.postprocess import Postprocess
from blockwise_predict.errors import ConfigError


def check_decision(decision: Postprocess, model: TrainedModel, output: NetworkOutput) -> None:
    """Raise ConfigError for a decision that would be the same for all voxels of an output."""
    whose = f"{output.name}=" if output.name else ""
    option = f"--postprocess {whose}{decision}"
    if decision.kind == "argmax":
        if len(output.channel_names) == 1:
            raise ConfigError(
                f"{option}: there is one channel, {output.channel_names[0]} of {model.path}, so "
                f"all labels would be 0. Choose several, or use {whose}threshold:VALUE."
            )
        return
    if output.output_range is None:
        return
    low, high = output.output_range
    if low < decision.threshold <= high:
        return
    everywhere = 1 if decision.threshold <= low else 0
    after = f" after {output.activation}" if output.activation else ""
    raise ConfigError(
        f"{option}: the values of {model.path} are between {low:g} and {high:g}{after}, so the "
        f"mask would be {everywhere} everywhere. The threshold is compared with these values, not "
        "with stored integers."
    )
