"""A trained network, and the module that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.keys import as_bytes
from blockwise_predict.errors import CheckpointError, shown

_SHOWN_KEYS = 3


class PredictionModel(nn.Module):
    """Architecture, head, and the activation of prediction: `[B, C, *in]` to `[B, K, *out]`.

    Its attributes have the names that DaCapo's model gives them.
    """

    def __init__(self, architecture: CNNectomeUNetConfig, head: Head | None) -> None:
        super().__init__()
        self.architecture = CNNectomeUNet(architecture)
        self.prediction_head: nn.Module = nn.Identity()
        self.eval_activation: nn.Module = nn.Identity()
        if head is not None:
            conv = {2: nn.Conv2d, 3: nn.Conv3d}[self.architecture.dims]
            self.prediction_head = conv(architecture.fmaps_out, head.channels, head.kernel_size)
            if head.activation is not None:
                self.eval_activation = getattr(nn, head.activation)()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict."""
        result: torch.Tensor = self.eval_activation(self.prediction_head(self.architecture(x)))
        return result


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint: where it is from, what it is, and its weights.

    path: of the weights file. run, iteration: DaCapo's, or None.
    head: None for bare weights that have none.
    channel_names: one for each output channel.
    weights: by normalised name, see `keys`.
    options: of a run that opens it in the same way.
    """

    path: str
    run: str | None
    iteration: int | None
    architecture: CNNectomeUNetConfig
    head: Head | None
    channel_names: tuple[str, ...]
    weights: Mapping[str, torch.Tensor] = field(repr=False, compare=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def shapes(self) -> UNetShapes:
        """Shape arithmetic of the whole model, head included."""
        if self.head is None:
            return UNetShapes.from_config(self.architecture)
        kernel = (self.head.kernel_size,) * len(self.architecture.input_shape)
        return UNetShapes.from_config(self.architecture, kernel, self.head.channels)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over name, dtype, shape and bytes of each tensor, in order of name.

        It is of the content: the same weights give the same hash from any file and key style.
        """
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            tensor = self.weights[name]
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(as_bytes(tensor).numpy().data)
        return digest.hexdigest()

    @cached_property
    def num_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.empty().parameters())

    @property
    def output_range(self) -> tuple[float, float] | None:
        """Bounds that the activation guarantees, (0, 1) for a sigmoid, else None.

        Distances are trained towards tanh's (-1, 1), but nothing keeps predictions within it.
        """
        if self.head is not None and self.head.activation == "Sigmoid":
            return (0.0, 1.0)
        return None

    def build(self) -> nn.Module:
        """The network in eval mode, with its weights in float32, `[B, C, *in]` to `[B, K, *out]`.

        Head and activation included; always the same module. Raises CheckpointError if the weights
        do not fit.
        """
        return self._network

    @cached_property
    def _network(self) -> nn.Module:
        model = self.empty()
        self._check_fit(model.state_dict())
        weights = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in self.weights.items()
        }
        model.load_state_dict(weights, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def architecture_dict(self) -> dict[str, Any]:
        """The architecture as JSON-able values, keys as in CNNectomeUNetConfig."""
        return {key: _plain(value) for key, value in asdict(self.architecture).items()}

    def empty(self) -> PredictionModel:
        """The network without memory for its weights, nor time to fill them."""
        with torch.device("meta"):
            return PredictionModel(self.architecture, self.head)

    def _check_fit(self, expected: Mapping[str, torch.Tensor]) -> None:
        missing = [name for name in expected if name not in self.weights]
        unexpected = [name for name in self.weights if name not in expected]
        shapes = [
            f"{name} {tuple(self.weights[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in self.weights and self.weights[name].shape != expected[name].shape
        ]
        kinds = [
            f"{name} is {str(self.weights[name].dtype).removeprefix('torch.')}"
            for name in expected
            if name in self.weights
            and self.weights[name].is_floating_point() != expected[name].is_floating_point()
        ]
        found = {
            "missing": missing,
            "unexpected": unexpected,
            "of another shape": shapes,
            "not floating-point numbers": kinds,
        }
        problems = [f"{what}: {_listing(names)}" for what, names in found.items() if names]
        if problems:
            raise CheckpointError(
                f"{self.path}: the weights do not fit the architecture. {'; '.join(problems)}. "
                f"{_likely_reason(missing, unexpected)}"
            )


def _likely_reason(missing: list[str], unexpected: list[str]) -> str:
    if any(name.startswith("prediction_head.") for name in unexpected):
        return "The weights have a prediction head: give its task in the YAML."
    if missing and all(name.startswith("prediction_head.") for name in missing):
        return "The weights have no prediction head: leave the task out of the YAML."
    if any("running_mean" in name for name in missing + unexpected):
        return "batch_norm in the YAML is not as it was in training."
    if any(".attention." in name for name in missing + unexpected):
        return "use_attention in the YAML is not as it was in training."
    return "The YAML is of another run, or not as it was in training."


def _listing(names: list[str]) -> str:
    more = len(names) - _SHOWN_KEYS
    # Names from a file may be long, and hold anything.
    return ", ".join(shown(name)[1:-1] for name in names[:_SHOWN_KEYS]) + (
        f" and {more} more" if more > 0 else ""
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
