"""A trained network, whatever file it comes from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import nn

from blockwise_predict.architectures import NetworkShapes, UNetShapes
from blockwise_predict.checkpoint.keys import as_bytes
from blockwise_predict.checkpoint.outputs import NetworkOutput, Selection
from blockwise_predict.config.steps import step


@dataclass(frozen=True, repr=False, kw_only=True)
class TrainedModel(ABC):
    """An opened checkpoint: its origin, its network and its weights.

    path: the weights file.
    run, iteration: of a training run, if they are known.
    channel_names: one for each output channel.
    weights: by name.
    options: of a run that opens it in the same way.
    activation: what follows the network of the files (`sigmoid`, `tanh` or `none`), as declared by
        the user or stated by the package; None if neither says anything.
    normalization: the rule for the input that the package states, in the notation of `--normalize`.
    undeclared: what the user has to declare because the files do not state it: `activation`,
        `normalization`.
    voxel_size: of the training data in nm, if it is known, and what says so.
    cached: for a checkpoint on the Hub, the file or folder that it is cached in on this machine.
    record: what a package says of itself, and why the network in it was taken for what it is, by
        labels.
    selected: which of the trained channels are predicted; None for all. Then `channel_names` are
        theirs.
    """

    path: str
    run: str | None = None
    iteration: int | None = None
    channel_names: tuple[str, ...]
    weights: Mapping[str, torch.Tensor] = field(compare=False)
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)
    activation: str | None = None
    normalization: str | None = None
    undeclared: tuple[str, ...] = ()
    voxel_size: tuple[float, ...] | None = None
    voxel_size_source: str = ""
    cached: str | None = None
    record: Mapping[str, str] = field(default_factory=dict, compare=False)
    selected: Selection | None = None

    def with_channels(self, selection: Selection) -> Self:
        """The same network, of which only the selected channels are predicted."""
        return replace(self, selected=selection, channel_names=selection.names)

    @property
    def trained_channels(self) -> tuple[str, ...]:
        """Names of all channels of the files' network."""
        return self.channel_names if self.selected is None else self.selected.trained

    @property
    @abstractmethod
    def shapes(self) -> NetworkShapes:
        """Shape arithmetic of the network."""

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Number of input channels."""

    @property
    def streamed_shapes(self) -> UNetShapes | None:
        """The shapes of a network that the engine can stream; None if it runs in whole passes."""
        return None

    @property
    def own_activation(self) -> str | None:
        """The activation that the network of the files ends with, if it is known to have one."""
        return None

    @property
    @abstractmethod
    def output_range(self) -> tuple[float, float] | None:
        """Bounds that the activation guarantees for all channels, if it does."""

    @property
    def outputs(self) -> tuple[NetworkOutput, ...]:
        """How the channels are stored: consecutive ranges of them, usually one of them all."""
        return self.trained_outputs if self.selected is None else self.selected.outputs

    @property
    @abstractmethod
    def trained_outputs(self) -> tuple[NetworkOutput, ...]:
        """The outputs of the files' network: consecutive ranges of all its channels."""

    @property
    def inexact(self) -> str | None:
        """Evidence that passes over different tiles disagree, so that no blocks are exact."""
        return None

    @property
    def counts_flops(self) -> bool:
        """Whether `flops` is arithmetic; otherwise it is the number of input voxels."""
        return True

    @property
    def float32_only(self) -> bool:
        """Whether the network cannot compute in any other dtype."""
        return False

    @property
    @abstractmethod
    def usual_input_shape(self) -> tuple[int, ...]:
        """The valid input shape that the network's authors predict with."""

    @abstractmethod
    def flops(self, input_shape: tuple[int, ...]) -> int:
        """Arithmetic of a pass, 2 per multiply-add."""

    @property
    @abstractmethod
    def flops_without_halo(self) -> float:
        """Arithmetic per output voxel of a pass so large that its context is negligible."""

    @abstractmethod
    def peak_elements(self, input_shape: tuple[int, ...]) -> int:
        """Largest number of values in memory during a pass."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network in eval mode, float32 `[B, C, *in]` to `[B, K, *out]`, with activation.

        K are the selected channels, or all of them if all have to be computed. Built once: every
        call returns the same module.
        """

    @abstractmethod
    def architecture_dict(self) -> dict[str, Any]:
        """What the network is, besides its weights, as JSON-serialisable values."""

    @abstractmethod
    def head_dict(self) -> dict[str, Any] | None:
        """The prediction head as JSON-serialisable values, if it is known."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over name, dtype, shape and bytes of each tensor, sorted by name.

        It identifies the content: the same weights have the same hash in any file and key style.
        """
        digest, done = hashlib.sha256(), 0
        with step("hashing the weights", sum(t.nbytes for t in self.weights.values())) as to:
            for name in sorted(self.weights):
                tensor = self.weights[name]
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(as_bytes(tensor).numpy().data)
                done += tensor.nbytes
                to(done)
        return digest.hexdigest()
