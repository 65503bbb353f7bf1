"""A CNNectomeUNet with its weights, and its torch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNetConfig, UNetShapes, trace
from blockwise_predict.architectures.config import BEYOND_DACAPO
from blockwise_predict.checkpoint.activation import activation_range
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.outputs import NetworkOutput
from blockwise_predict.checkpoint.prediction_model import PredictionModel
from blockwise_predict.checkpoint.selected import head_rows, keep_channels
from blockwise_predict.checkpoint.summary import (
    align_rows,
    architecture_text,
    factors_text,
    feature_maps_text,
    geometry_rows,
    layers_text,
    values_text,
)
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.errors import CheckpointError, shown

# In messages, and in the repr.
_SHOWN_KEYS, _SHOWN_CHANNELS = 3, 8


@dataclass(frozen=True, repr=False)
class UNetModel(TrainedModel):
    """An opened checkpoint of a CNNectomeUNet.

    run, iteration: of a DaCapo run; None for bare weights.
    head: None for weights without a prediction head. The heads of several outputs are one
        convolution with all their channels, and its `activation` is theirs if they share one.
    named_outputs: the outputs of a network with several.
    weights: by normalised name, see `keys`.
    """

    architecture: CNNectomeUNetConfig
    head: Head | None
    named_outputs: tuple[NetworkOutput, ...] = ()

    @property
    def in_channels(self) -> int:
        return self.architecture.fmaps_in

    @property
    def own_activation(self) -> str | None:
        return None if self.head is None else self.head.activation

    @property
    def streamed_shapes(self) -> UNetShapes | None:
        return self.shapes if self.shapes.equivariant else None

    @cached_property
    def shapes(self) -> UNetShapes:
        """Shape arithmetic of the network, head included, with the channels that are computed."""
        config, rows = self.architecture, self._rows
        if config.num_heads > 1:
            config = replace(config, num_heads=sum(map(bool, rows)))
        if self.head is None:
            return UNetShapes.from_config(config)
        kernel = (self.head.kernel_size,) * len(config.downsample_factors[0])
        return UNetShapes.from_config(config, kernel, sum(map(len, rows)))

    @cached_property
    def _rows(self) -> list[tuple[int, ...]]:
        """The channels that each expanding path computes."""
        if self.selected is None or self.selected.all_computed:
            return [tuple(range(size)) for size in self._sizes]
        return head_rows(self.selected.channels, self._sizes, has_head=self.head is not None)

    @property
    def _sizes(self) -> list[int]:
        """Number of trained channels of each expanding path."""
        if self.architecture.num_heads > 1:
            return [len(output.channel_names) for output in self.named_outputs]
        return [len(self.trained_channels)]

    @cached_property
    def num_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self._without_weights().parameters())

    @property
    def output_range(self) -> tuple[float, float] | None:
        """Bounds that the activation guarantees: (0, 1) for a sigmoid, else None.

        Distances are trained towards tanh's (-1, 1), but predictions may leave that range, unless a
        tanh is declared.
        """
        if self.head is not None and self.head.activation == "Sigmoid":
            return (0.0, 1.0)
        return activation_range(self.activation)

    @property
    def trained_outputs(self) -> tuple[NetworkOutput, ...]:
        if self.named_outputs:
            return self.named_outputs
        activation = self.own_activation or self.activation
        return (NetworkOutput("", self.trained_channels, self.output_range, activation),)

    @property
    def usual_input_shape(self) -> tuple[int, ...]:
        """DaCapo's evaluation shape, made valid."""
        config = self.architecture
        increase = config.eval_shape_increase or (0,) * self.shapes.dims
        shape = [size + more for size, more in zip(config.input_shape, increase, strict=True)]
        return self.shapes.valid_input_shape(shape, "nearest")

    def flops(self, input_shape: tuple[int, ...]) -> int:
        return trace.flops(self.shapes, input_shape)

    @cached_property
    def flops_without_halo(self) -> float:
        return trace.flops_without_halo(self.shapes)

    def peak_elements(self, input_shape: tuple[int, ...]) -> int:
        return trace.peak_elements(self.shapes, input_shape)

    def build(self) -> nn.Module:
        """The network in eval mode with float32 weights, `[B, C, *in]` to `[B, K, *out]`.

        Includes head and activation. Built once: every call returns the same module. Raises
        CheckpointError if the weights do not fit the architecture.
        """
        return self._network

    @cached_property
    def _network(self) -> nn.Module:
        model = self._without_weights()
        self._check_fit(model.state_dict())
        weights = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in self.weights.items()
        }
        model.load_state_dict(weights, strict=True, assign=True)
        if self.selected is not None and not self.selected.all_computed:
            keep_channels(model, self.selected.channels, self._sizes)
        return model.eval().requires_grad_(False)

    def architecture_dict(self) -> dict[str, Any]:
        """The architecture as JSON-serialisable values, with the keys of CNNectomeUNetConfig.

        Keys that DaCapo 0.3.5 does not have are left out at their defaults, so that a network is
        described in the same way as in the runs recorded before there were such keys.
        """
        values = asdict(self.architecture)
        defaults = {field.name: field.default for field in fields(self.architecture)}
        return {
            key: _plain(value)
            for key, value in values.items()
            if key not in BEYOND_DACAPO or value != defaults[key]
        }

    def head_dict(self) -> dict[str, Any] | None:
        if not self.named_outputs:
            return None if self.head is None else vars(self.head).copy()
        outputs = [
            {
                "name": output.name,
                "channels": list(output.channel_names),
                "activation": output.activation,
            }
            for output in self.named_outputs
        ]
        return {**(vars(self.head) if self.head else {}), "outputs": outputs}

    def _without_weights(self) -> PredictionModel:
        """The network on torch's meta device, which takes neither memory nor time for weights."""
        with torch.device("meta"):
            return PredictionModel(
                self.architecture, self.head, self.named_outputs, self.activation
            )

    def __repr__(self) -> str:
        config, names = self.architecture, self.channel_names
        unlisted = len(names) - _SHOWN_CHANNELS
        listed = ", ".join(names[:_SHOWN_CHANNELS]) + (f" and {unlisted} more" * (unlisted > 0))
        network = [
            architecture_text(config),
            f"feature maps {feature_maps_text(config)}",
            f"downsampling {factors_text(config.downsample_factors)}",
            layers_text(config),
        ]
        if config.upsample_factors:
            network.insert(3, f"super-resolution {factors_text(config.upsample_factors)}")
        rows = [
            *([("run", f"{self.run}, iteration {self.iteration}")] if self.run else []),
            ("architecture", ", ".join(network)),
            ("parameters", f"{self.num_parameters:,}"),
            ("input channels", str(config.fmaps_in)),
            ("output channels", f"{len(names)}: {listed}"),
            *(
                (" ".join(("output", output.name or "values")), _values_text(output))
                for output in self.outputs
            ),
            *geometry_rows(self.shapes),
        ]
        return f"TrainedModel({self.path!r})\n{align_rows(rows)}"

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
            "wrong shape": shapes,
            "not floating-point numbers": kinds,
        }
        problems = [f"{kind}: {_listing(names)}" for kind, names in found.items() if names]
        if problems:
            raise CheckpointError(
                f"{self.path}: the weights do not fit the architecture. {'; '.join(problems)}. "
                f"{_likely_reason(missing, unexpected)}"
            )


def _values_text(output: NetworkOutput) -> str:
    return f"{values_text(output.output_range)}, {output.activation or 'no activation'}"


def _likely_reason(missing: list[str], unexpected: list[str]) -> str:
    if any(name.startswith("prediction_head.") for name in unexpected):
        return "The weights have a prediction head: add its task to the YAML."
    if missing and all(name.startswith("prediction_head.") for name in missing):
        return "The weights have no prediction head: remove the task from the YAML."
    keys = {"running_mean": "batch_norm", ".attention.": "use_attention", ".r_up.1.": "num_heads"}
    for part, key in keys.items():
        if any(part in name for name in missing + unexpected):
            return f"{key} in the YAML differs from training."
    return "The YAML is of another run, or was changed after training."


def _listing(names: list[str]) -> str:
    more = len(names) - _SHOWN_KEYS
    # Names come from the file: they may be long and contain anything.
    return ", ".join(shown(name)[1:-1] for name in names[:_SHOWN_KEYS]) + (
        f" and {more} more" if more > 0 else ""
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
