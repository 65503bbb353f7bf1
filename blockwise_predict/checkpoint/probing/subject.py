"""A network while it is probed: it is run, within bounds of time and memory."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from math import prod

import psutil
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.errors import CheckpointError

# Seconds that probing may take, without its last pass.
SECONDS = 240.0
# Share of the free memory that a pass may take, and bytes per value at its peak.
_MEMORY_SHARE, _VALUE_BYTES = 0.5, 8
# Arithmetic per input voxel above which float64, which is slow, is not used.
_MAX_FLOPS_IN_FLOAT64 = 50_000
# Relative differences, of the output's span, above which values differ; by dtype. Values of the
# same voxel from different tiles are summed in another order.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}


class ProbeLimitError(CheckpointError):
    """Probing would take too much time or memory."""


class Subject:
    """A network `[1, C, *in]` to `[1, K, *out]` with C and the number of axes known.

    `symbolic` tells whether shapes can be found without computing values: so torch can, for its
    own programs.
    """

    def __init__(
        self,
        module: nn.Module,
        channels: int,
        dims: int,
        *,
        symbolic: bool,
        deadline: float,
    ) -> None:
        self.channels, self.dims = channels, dims
        self.elements: float | None = None
        self.flops: float | None = None
        self._module = module
        self._symbolic = symbolic
        self._deadline = deadline
        self._known: dict[Shape, Shape | None] = {}

    def shape_of(self, shape: Shape) -> Shape | None:
        """`[K, *out]` for an input shape; None if the network does not take it."""
        self._check_time()
        if shape not in self._known:
            self._known[shape] = self._find_shape(shape)
        return self._known[shape]

    def output_size(self, shape: Shape, axis: int) -> int | None:
        """Output size along one axis; None if the input shape is not valid."""
        found = self.shape_of(shape)
        return None if found is None else found[1 + axis]

    def _find_shape(self, shape: Shape) -> Shape | None:
        try:
            with self.shape_mode.on() if self._symbolic else torch.no_grad():
                out = self._module(torch.zeros(1, self.channels, *shape))
        except CheckpointError:
            raise
        except Exception:  # noqa: BLE001 - whatever a network raises for a shape it cannot take
            return None
        if out.dim() != self.dims + 2 or out.shape[0] != 1 or 0 in out.shape:
            return None
        return tuple(int(size) for size in out.shape[1:])

    @cached_property
    def shape_mode(self) -> ShapeMode:
        """In which shapes are found."""
        return ShapeMode()

    @property
    def takes_symbols(self) -> bool:
        """Whether shapes are found without computing."""
        return self._symbolic

    @cached_property
    def _precise(self) -> nn.Module:
        """The network in float64, or as it is if it cannot compute in that."""
        heavy = (self.flops or 0.0) > _MAX_FLOPS_IN_FLOAT64
        module = None if heavy else self.converted(torch.float64)
        return self._module if module is None else module

    def converted(self, dtype: torch.dtype) -> nn.Module | None:
        """A copy of the network that computes in a dtype; None if it cannot."""
        if not self._symbolic:
            return None
        shape = next(shape for shape, found in self._known.items() if found is not None)
        try:
            module = copy.deepcopy(self._module).to(dtype)
            with ShapeMode().on():
                out = module(torch.empty(1, self.channels, *shape, dtype=dtype))
        except Exception:  # noqa: BLE001 - a program with a dtype in its text
            return None
        return module if out.dtype == dtype else None

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype in which values are compared."""
        return torch.float32 if self._precise is self._module else torch.float64

    def affordable(self, shape: Shape) -> bool:
        """Whether a pass over a shape fits into the memory."""
        values = (self.elements or 64.0) * prod(shape)
        return values * _VALUE_BYTES < _MEMORY_SHARE * psutil.virtual_memory().available

    def run(self, values: torch.Tensor) -> torch.Tensor:
        """`[K, *out]` of `[C, *in]`, in the dtype of comparisons."""
        self._check_time()
        if not self.affordable(tuple(values.shape[1:])):
            raise ProbeLimitError(
                f"probing needs a pass over {tuple(values.shape[1:])} voxels, which takes more "
                "memory than is free here. Name a smaller --tile-shape that the network takes."
            )
        with torch.no_grad():
            out: torch.Tensor = self._precise(values[None].to(self.dtype))
        return out[0].to(self.dtype)

    def tolerance(self, values: torch.Tensor) -> float:
        """The largest difference between values that are the same but for rounding."""
        finite = values[values.isfinite()]
        span = float(finite.max() - finite.min()) if finite.numel() else 0.0
        return _TOLERANCE[self.dtype] * span

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise ProbeLimitError(
                f"finding out the network's context and period took longer than {SECONDS:.0f} s. "
                "Name an input shape that it takes with --tile-shape, as small as it may be."
            )


class ShapeMode:
    """Within `on`, torch computes shapes instead of values."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Compute shapes."""
        # It logs each shape that does not fit as an error; here that is an answer.
        logger = logging.getLogger("torch._subclasses.fake_tensor")
        disabled, logger.disabled = logger.disabled, True
        try:
            with self._mode, torch.no_grad():
                yield
        finally:
            logger.disabled = disabled
