"""Forward passes over one tile, whole or streamed, behind one interface."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator
from functools import cached_property, partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blockwise_predict.architectures import OutputActivations, UNetShapes
from blockwise_predict.engine.builder import StreamSpec
from blockwise_predict.engine.precision import DEEP_DTYPES, DTYPES
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.stages import Planes
from blockwise_predict.engine.streaming import StreamedUNet
from blockwise_predict.engine.torch_flags import pass_flags, run_under
from blockwise_predict.engine.values import Normalization

# See `StreamSpec.chunk_voxels`.
CHUNK_VOXELS = {"cpu": 600_000, "cuda": 8_000_000}


class OutputPlanes(NamedTuple):
    """Consecutive planes of a tile's output, `[n, *plane, K]`; `begin` is the first one's index.

    `place` is the index of the slice that they are planes of, if a tile has several: then the
    first axes of `*plane` are of length 1.
    """

    begin: int
    values: torch.Tensor
    place: tuple[int, ...] = ()


class Pass(Protocol):
    """Predicts a tile and hands out its output in chunks of planes.

    `axes` is the order of the output's spatial axes: the axis along which planes follow each other
    comes first.
    """

    axes: tuple[int, ...]

    def run(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        """Predict `[C, *input]` as stored; the values yielded still need `activate`."""

    def activate(self, values: torch.Tensor) -> torch.Tensor:
        """Final float32 values, in new memory, from any part of those that `run` yields."""


class StreamedPass:
    """A streamed pass of a translation-equivariant network."""

    def __init__(
        self,
        model: nn.Module,
        shapes: UNetShapes,
        streaming: Streaming,
        *,
        precision: str,
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        self.axes = streaming.axes
        self._slab = streaming.slab
        self._shapes = shapes
        self._normalization = normalization
        self._device = device
        spec = StreamSpec(
            shapes,
            self.axes,
            DTYPES[precision],
            device,
            CHUNK_VOXELS[device.type],
            deep_dtype=DEEP_DTYPES[precision],
        )
        self._build = partial(StreamedUNet, model, spec)
        self._flags = partial(pass_flags, precision, device)
        with self._flags():
            self._fused = self._build()
        activation = getattr(model, "eval_activation", nn.Identity())
        if isinstance(activation, OutputActivations):
            activation = partial(activation, channel_axis=-1)
        self._activation: Callable[[torch.Tensor], torch.Tensor] = activation

    @cached_property
    def _unfused(self) -> StreamedUNet:
        """Built on demand: few tiles need it, and in most runs none."""
        return self._build(fused=False)

    def run(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        """See `Pass`."""
        return run_under(self._flags, self._predict(raw))

    @torch.inference_mode()
    def _predict(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        total = self._shapes.output_shape(raw.shape[1:])[self.axes[0]]
        done = 0
        if self._normalization.largest(raw) <= self._fused.max_safe_input:
            for begin, values, _ in self._stream(self._fused, raw, total):
                if self._fused.exceeded:
                    break
                yield OutputPlanes(begin, values)
                done = begin + len(values)
        if done < total:
            yield from self._predict_unfused(raw, total, done)

    def _predict_unfused(
        self, raw: NDArray[np.generic], total: int, done: int
    ) -> Iterator[OutputPlanes]:
        """All planes except the first `done`, with NaN and infinity where torch has them."""
        for begin, values, _ in self._stream(self._unfused, raw, total):
            if begin + len(values) > done:
                skipped = max(0, done - begin)
                yield OutputPlanes(begin + skipped, values[skipped:])

    def _stream(
        self, network: StreamedUNet, raw: NDArray[np.generic], total: int
    ) -> Iterator[OutputPlanes]:
        """All `total` planes of the output."""
        planes = raw.transpose(*(axis + 1 for axis in self.axes), 0)
        done = 0
        network.reset()
        try:
            for begin in range(0, len(planes), self._slab):
                slab = self._normalization.apply(planes[begin : begin + self._slab])
                last = begin + self._slab >= len(planes)
                inputs = _to_device(torch.from_numpy(slab), self._device)
                for per_head in network.push(inputs, last):
                    result = _all_channels(per_head)
                    if result is not None and done < total:
                        result = result[: total - done]
                        yield OutputPlanes(done, result)
                        done += len(result)
        finally:
            # Frees the carry-over planes, also if the tile was not finished.
            network.reset()

    @torch.inference_mode()
    def activate(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`."""
        return self._activation(values.to(torch.float32, copy=True))


def _all_channels(per_head: list[Planes]) -> Planes:
    """The planes of all heads of a U-Net, which complete the same ones at the same time."""
    complete = [planes for planes in per_head if planes is not None]
    if len(complete) < 2:
        return complete[0] if complete else None
    return torch.cat(complete, dim=-1)


def _to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to the device; to a GPU from pinned memory, so that the copy overlaps with kernels."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values


# Memory layouts by a network's number of axes; torch has none for tensors with time.
_LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.contiguous_format}


class WholePass:
    """A single torch forward pass over the whole tile, for any network."""

    def __init__(
        self,
        model: nn.Module,
        dims: int,
        *,
        precision: str,
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        self.axes = tuple(range(dims))
        self._normalization = normalization
        self._device = device
        self._dtype = DTYPES[precision]
        self._flags = partial(pass_flags, precision, device)
        self._layout = _LAYOUTS[dims]
        # A copy, because dtype and layout change in place.
        model = copy.deepcopy(model).to(device, self._dtype)
        # torch's type hints lack the memory format.
        self._model = model.to(memory_format=self._layout)  # type: ignore[call-overload]

    def run(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        """See `Pass`."""
        return run_under(self._flags, self._predict(raw))

    @torch.inference_mode()
    def _predict(self, raw: NDArray[np.generic]) -> Generator[OutputPlanes]:
        batch = _to_device(torch.from_numpy(self._normalization.apply(raw)), self._device)
        batch = batch.to(self._dtype)
        result = self._model(batch[None].contiguous(memory_format=self._layout)).float()
        if result.dim() < batch.dim() + 1:
            # The network has dropped time: its output is one frame.
            result = result[:, :, None]
        yield OutputPlanes(0, result[0].movedim(0, -1))

    def activate(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`; the model includes the activation."""
        return values.clone()
