"""What a checkpoint leaves unsaid has to be declared before anything is computed."""

from __future__ import annotations

import numpy as np

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import ConfigError
from blockwise_predict.io import BlockSource


def check_declared(config: RunConfig, model: TrainedModel, array: BlockSource) -> None:
    """Raise ConfigError, with the usual options, unless activation and normalisation are known."""
    missing = []
    if "activation" in model.undeclared:
        missing.append(
            f"the activation{_why(model, 'activation')}: --activation sigmoid after a network "
            "whose channels are probabilities (its loss had the sigmoid), --activation none for "
            "values as they leave the network"
        )
    if "normalization" in model.undeclared and config.normalize is None:
        missing.append(f"the normalization of its input{_normalization_hint(model, array)}")
    if missing:
        raise ConfigError(
            f"{model.path} does not state {'; and '.join(missing)}. Declare it as the network was "
            "trained: with a wrong one the output looks plausible and is wrong."
        )


def usual_rules(dtype: str) -> tuple[str, str]:
    """The rules to 0..1 and to -1..1 for an input of a dtype, in the notation of `--normalize`.

    Integers are taken to span their dtype, as microscopes' uint8 and uint16 do; floats 0..1.
    """
    if dtype in ("uint8", "uint16"):
        return "auto", f"range:0,{np.iinfo(dtype).max},-1,1"
    if dtype == "bool" or "float" in dtype:
        return "none", "range:0,1,-1,1"
    return "range:LOW,HIGH", "range:LOW,HIGH,-1,1"


def _normalization_hint(model: TrainedModel, array: BlockSource) -> str:
    """Why it is not stated, or else the usual rules: they are wrong where a package asks for one of
    its own."""
    if reason := _why(model, "normalization"):
        return reason
    unit, symmetric = usual_rules(array.storage.dtype)
    return (
        f": --normalize {unit} for a network that was trained on values from 0 to 1, "
        f"--normalize {symmetric} for -1 to 1"
    )


def _why(model: TrainedModel, name: str) -> str:
    """Why what a package says about it cannot be used, if it says something."""
    reason = model.record.get(f"undeclared {name}")
    return f" ({reason})" if reason else ""
