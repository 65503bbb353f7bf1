"""Export of a network with torch.export: operations and weights in a file that torch alone runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from blockwise_predict.checkpoint.new_file import new_file
from blockwise_predict.checkpoint.program_names import names_file
from blockwise_predict.checkpoint.summary import format_shape
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.errors import CheckpointError, shortened

Shape = tuple[int, ...]

# Largest difference between program and network, relative to the largest output value or 1.
TOLERANCE = 1e-5
# torch.export takes sizes of 1 for constants. So for the program that takes every size, the batch
# is 2, and the input larger than the smallest one, whose deepest feature maps may have that size.
_TRACED_BATCH, _TRACED_PERIODS = 2, 2
_MAX_REASON = 200


@dataclass(frozen=True)
class InputSizes:
    """Input sizes of a program: `first + n * period` and any batch size.

    With a `reason` why that was not possible: `first` alone, and a batch of 1.
    """

    first: Shape
    period: Shape
    reason: str | None = None

    def __str__(self) -> str:
        if self.reason is None:
            return f"{format_shape(self.first)} + n * {format_shape(self.period)}, any batch size"
        return f"{format_shape(self.first)} only, with a batch size of 1 ({self.reason})"


def export_program(model: TrainedModel, file: Path) -> InputSizes:
    """Write a network as an ExportedProgram, `[B, C, *in]` to `[B, K, *out]`.

    It takes every valid size if the network can be traced for all of them, else only the network's
    usual input shape. Before the file gets its name, the program's output is compared with the
    network's. Raises CheckpointError for a network that cannot be traced, or whose program
    computes something else.
    """
    network = _Exported(model)
    try:
        sizes, program = network.for_every_size()
    except _NotExportedError as every:
        try:
            sizes, program = network.for_one_size(f"tracing it for every size fails: {every}")
        except _NotExportedError as error:
            raise CheckpointError(f"{model.path} cannot be exported as .pt2: {error}") from None
    for node in program.graph.nodes:
        # Names of files on this machine, which are of no use elsewhere.
        node.meta.pop("stack_trace", None)
    with new_file(file) as new:
        torch.export.save(program, new, extra_files=names_file(model.channel_names))
    return sizes


class _NotExportedError(Exception):
    """A network cannot be traced, or its program fails or computes something else."""


class _Exported:
    """A network, traced and compared."""

    def __init__(self, model: TrainedModel) -> None:
        self._network: nn.Module = model.build()
        self._channels = model.in_channels
        self._shapes = model.shapes
        self._usual = model.usual_input_shape

    def for_every_size(self) -> tuple[InputSizes, ExportedProgram]:
        dims, period = self._shapes.dims, self._shapes.period
        smallest = self._shapes.valid_input_shape((1,) * dims, "up")
        axes = {
            2 + axis: step * Dim(f"n{axis}") + size
            for axis, (step, size) in enumerate(zip(period, smallest, strict=True))
        }
        traced = _enlarged(smallest, period, _TRACED_PERIODS)
        program = self._trace((_TRACED_BATCH, *traced), {0: Dim("batch"), **axes})
        self._compare(program, (1, *_enlarged(traced, period, 1)))
        try:
            self._compare(program, (1, *smallest))
        except _NotExportedError:
            smallest = _enlarged(smallest, period, 1)
            self._compare(program, (1, *smallest))
        return InputSizes(smallest, period), program

    def for_one_size(self, reason: str) -> tuple[InputSizes, ExportedProgram]:
        program = self._trace((1, *self._usual), {})
        self._compare(program, (1, *self._usual))
        return InputSizes(self._usual, self._shapes.period, reason), program

    def _trace(self, shape: Shape, dynamic: Mapping[int, Any]) -> ExportedProgram:
        try:
            return torch.export.export(
                self._network, (self._input(shape),), dynamic_shapes=(dynamic,)
            )
        except Exception as error:  # noqa: BLE001 - torch.export's errors have no common base
            raise _NotExportedError(_first_line(error)) from None

    def _compare(self, program: ExportedProgram, shape: Shape) -> None:
        example = self._input(shape)
        with torch.inference_mode():
            expected = self._network(example)
            try:
                found = program.module()(example)
            except (AssertionError, RuntimeError) as error:
                raise _NotExportedError(_first_line(error)) from None
        if found.shape != expected.shape:
            raise _NotExportedError(
                f"its program gives {tuple(found.shape)} instead of {tuple(expected.shape)}"
            )
        difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        # Written so that NaN is not within the tolerance.
        if not difference <= TOLERANCE:
            raise _NotExportedError(f"its program's output differs by {difference:.2g}")

    def _input(self, shape: Shape) -> torch.Tensor:
        """A random input, `[B, C, *spatial]`, of a batch size and a spatial shape."""
        batch, *spatial = shape
        generator = torch.Generator().manual_seed(0)
        return torch.rand(batch, self._channels, *spatial, generator=generator)


def _enlarged(shape: Shape, period: Shape, steps: int) -> Shape:
    return tuple(size + steps * step for size, step in zip(shape, period, strict=True))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shortened(lines[0].strip(), _MAX_REASON)
