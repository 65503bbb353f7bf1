"""A network that is known by its program alone, with what probing has found out about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from torch import nn

from blockwise_predict.architectures import OutputActivations
from blockwise_predict.checkpoint.activation import (
    activation_module,
    activation_range,
    declaration_rows,
)
from blockwise_predict.checkpoint.outputs import NetworkOutput
from blockwise_predict.checkpoint.probing import ProbedShapes
from blockwise_predict.checkpoint.summary import (
    align_rows,
    channels_text,
    format_shape,
    geometry_rows,
)
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.geometry.probed import Probed, ProbedAxis


@dataclass(frozen=True, repr=False, kw_only=True)
class OpaqueModel(TrainedModel):
    """An opened program; it runs in whole passes.

    kind: of program, in words.
    program_sha256: of what defines the program, weights included.
    probed: what is known of its input and output.
    module: `[B, C, *in]` to `[B, K, *out]`.
    """

    kind: str
    program_sha256: str
    probed: Probed
    module: nn.Module = field(compare=False)

    @cached_property
    def shapes(self) -> ProbedShapes:
        return ProbedShapes(self.probed.axes, exact=self.probed.inexact is None)

    @property
    def in_channels(self) -> int:
        return self.probed.in_channels

    @property
    def output_range(self) -> tuple[float, float] | None:
        return activation_range(self.activation)

    @property
    def trained_outputs(self) -> tuple[NetworkOutput, ...]:
        names, begin, found = self.trained_channels, 0, []
        declared = self.activation not in (None, "none")
        activation = str(self.activation).capitalize() if declared else None
        for name, count in self.probed.outputs or (("", len(names)),):
            own = names[begin : begin + count]
            found.append(NetworkOutput(name, own, self.output_range, activation))
            begin += count
        return tuple(found)

    @property
    def usual_input_shape(self) -> tuple[int, ...]:
        """A valid shape of usual size."""
        return self.probed.usual

    @property
    def inexact(self) -> str | None:
        return self.probed.inexact

    @property
    def counts_flops(self) -> bool:
        return self.probed.flops is not None

    @property
    def float32_only(self) -> bool:
        return not self.probed.casts

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """Arithmetic of a pass, in proportion to its voxels; or their number, if it is unknown."""
        return round(self._per_voxel * prod(input_shape))

    @property
    def flops_without_halo(self) -> float:
        return self._per_voxel / prod(self.shapes.scale)

    @property
    def _per_voxel(self) -> float:
        return self.probed.flops or 1.0

    def peak_elements(self, input_shape: tuple[int, ...]) -> int:
        return round(self.probed.elements * prod(input_shape))

    def build(self) -> nn.Module:
        return self._network

    @cached_property
    def _network(self) -> nn.Module:
        activation = activation_module(self.activation)
        if self.selected is not None and not self.selected.all_computed:
            channels = self.selected.channels
            activation = OutputActivations([(len(channels), type(activation).__name__)], channels)
        elif self.activation in (None, "none"):
            return self.module
        return nn.Sequential(self.module, activation)

    @cached_property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.numel() for tensor in self.weights.values())

    def architecture_dict(self) -> dict[str, Any]:
        return {"program": self.kind}

    def head_dict(self) -> dict[str, Any] | None:
        return None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of what defines the program: its text, and its weights."""
        return hashlib.sha256(f"{self.kind} {self.program_sha256}".encode()).hexdigest()

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each property, in the order to be shown."""
        axes = self.probed.axes
        parameters = f"{self.num_parameters:,}" if self.weights else "unknown"
        rows = [
            ("program", self.kind),
            *self.record.items(),
            *declaration_rows(self),
            ("parameters", parameters),
            ("input channels", str(self.in_channels)),
            ("channels", channels_text(self.channel_names)),
            *(
                (f"output {each.name}", channels_text(each.channel_names))
                for each in self.outputs
                if each.name
            ),
            *self._geometry(),
            ("valid input", _sizes_text(axes)),
        ]
        if any(any(axis.margin) for axis in axes):
            lost = ", ".join(f"{low} before and {high} after" for low, high in self.shapes.lost)
            rows.append(("lost", f"{lost}, in output voxels"))
        rows.append(("blockwise exact", "no" if self.inexact else "yes"))
        rows += [("evidence", line) for line in self.probed.evidence]
        return rows

    def _geometry(self) -> Iterator[tuple[str, str]]:
        for label, text in geometry_rows(self.shapes):
            unbounded = label == "context" and self.inexact
            yield label, "the whole tile, see the evidence" if unbounded else text

    def __repr__(self) -> str:
        return f"TrainedModel({self.path!r})\n{align_rows(self.rows())}"


def _sizes_text(axes: Sequence[ProbedAxis]) -> str:
    smallest = format_shape([axis.smallest for axis in axes])
    if all(axis.fixed for axis in axes):
        return f"{smallest} alone"
    return f"{smallest} + n * {format_shape([0 if axis.fixed else axis.period for axis in axes])}"
