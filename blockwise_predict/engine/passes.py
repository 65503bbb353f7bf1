"""Forward passes over one tile, whole or streamed, behind one interface."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.engine.precision import DEEP_DTYPES, DTYPES
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.streaming import StreamedUNet
from blockwise_predict.engine.values import Normalization

# Voxels of a feature map that are computed at once: enough to occupy the device, few enough to
# leave memory for what waits.
PIECE_VOXELS = {"cpu": 600_000, "cuda": 8_000_000}


class Pass(Protocol):
    """Predicts a tile, piece by piece along one axis.

    `axes` is the order of the spatial axes of what comes out, the axis of the pieces first.
    """

    axes: tuple[int, ...]

    def run(self, raw: NDArray[np.generic]) -> Iterator[tuple[int, torch.Tensor]]:
        """Predict `[C, *input]`, as stored; yields first plane and `[n, *plane, K]`.

        These are to go through `finished`, as a whole or part by part.
        """

    def finished(self, values: torch.Tensor) -> torch.Tensor:
        """Some of what `run` gave as float32, after the activation; in memory of its own."""


class StreamedPass:
    """A network that is equivariant, streamed."""

    def __init__(
        self,
        model: nn.Module,
        shapes: UNetShapes,
        streaming: Streaming,
        precision: str,
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        self.axes = streaming.axes
        self._slab = streaming.slab
        self._shapes = shapes
        self._normalization = normalization
        self._device = device
        self._build = partial(
            StreamedUNet,
            model,
            shapes,
            self.axes,
            DTYPES[precision],
            device,
            PIECE_VOXELS[device.type],
            deep=DEEP_DTYPES[precision],
        )
        self._fast = self._build()
        self._activation = getattr(model, "eval_activation", nn.Identity())

    @cached_property
    def _plain(self) -> StreamedUNet:
        """What few tiles need, most runs never."""
        return self._build(plain=True)

    @torch.inference_mode()
    def run(self, raw: NDArray[np.generic]) -> Iterator[tuple[int, torch.Tensor]]:
        """See `Pass`."""
        total = self._shapes.output_shape(raw.shape[1:])[self.axes[0]]
        done = 0
        if self._normalization.largest(raw) <= self._fast.safe:
            for begin, values in self._stream(self._fast, raw, total):
                if self._fast.exceeded:
                    break
                yield begin, values
                done = begin + len(values)
        if done < total:
            yield from self._rest(raw, total, done)

    def _rest(
        self, raw: NDArray[np.generic], total: int, done: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """All planes but the first `done`, with NaN and infinity wherever they belong."""
        for begin, values in self._stream(self._plain, raw, total):
            if begin + len(values) > done:
                skipped = max(0, done - begin)
                yield begin + skipped, values[skipped:]

    def _stream(
        self, network: StreamedUNet, raw: NDArray[np.generic], total: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """All `total` planes of the output."""
        planes = raw.transpose(*(axis + 1 for axis in self.axes), 0)
        done = 0
        network.reset()
        try:
            for begin in range(0, len(planes), self._slab):
                slab = self._normalization.apply(planes[begin : begin + self._slab])
                last = begin + self._slab >= len(planes)
                given = _moved(torch.from_numpy(slab), self._device)
                for (result,) in network.push(given, last):
                    if result is not None and done < total:
                        result = result[: total - done]
                        yield done, result
                        done += len(result)
        finally:
            # What waits for planes that will not come would keep its memory.
            network.reset()

    @torch.inference_mode()
    def finished(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`."""
        activated: torch.Tensor = self._activation(values.to(torch.float32, copy=True))
        return activated


def _moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device; to a GPU from pinned memory, so that the copy runs beside the computing."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values


class WholePass:
    """Any network, one forward pass of torch's over the whole tile."""

    def __init__(
        self,
        model: nn.Module,
        dims: int,
        precision: str,
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        self.axes = tuple(range(dims))
        self._normalization = normalization
        self._device = device
        self._dtype = DTYPES[precision]
        self._layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        # A copy of its own, since the dtype is. Type hints leave out the memory format.
        model = copy.deepcopy(model).to(device, self._dtype)
        self._model = model.to(memory_format=self._layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(self, raw: NDArray[np.generic]) -> Iterator[tuple[int, torch.Tensor]]:
        """See `Pass`."""
        batch = _moved(torch.from_numpy(self._normalization.apply(raw)), self._device)
        batch = batch.to(self._dtype)
        result = self._model(batch[None].contiguous(memory_format=self._layout)).float()
        yield 0, result[0].movedim(0, -1)

    def finished(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`; the activation is part of the model."""
        return values.clone()


class SlicePass:
    """A 2-D network over the slices of a volume, one after the other."""

    def __init__(self, plane: Pass) -> None:
        self.axes = (0, *(axis + 1 for axis in plane.axes))
        self._plane = plane

    def run(self, raw: NDArray[np.generic]) -> Iterator[tuple[int, torch.Tensor]]:
        """See `Pass`."""
        for number in range(raw.shape[1]):
            pieces = [values for _, values in self._plane.run(raw[:, number])]
            yield number, torch.cat(pieces)[None]

    def finished(self, values: torch.Tensor) -> torch.Tensor:
        """See `Pass`."""
        return self._plane.finished(values)


def make_pass(
    model: nn.Module,
    shapes: UNetShapes,
    volume_dims: int,
    streaming: Streaming | None,
    precision: str,
    normalization: Normalization,
    device: torch.device,
) -> Pass:
    """The pass for a trained network (head and activation included) over a volume's tiles."""
    if device.type == "cuda":
        # Pieces come in few shapes, each many times: worth trying cuDNN's algorithms once.
        torch.backends.cudnn.benchmark = True
        # Otherwise TF32 would round the inputs of every product to 10 bits.
        torch.backends.cuda.matmul.allow_tf32 = precision == "tfloat32"
        torch.backends.cudnn.allow_tf32 = precision == "tfloat32"
    plane: Pass
    if streaming is None:
        plane = WholePass(model, shapes.dims, precision, normalization, device)
    else:
        plane = StreamedPass(model, shapes, streaming, precision, normalization, device)
    return plane if volume_dims == shapes.dims else SlicePass(plane)


def predict_tile(network: Pass, raw: NDArray[np.generic]) -> NDArray[np.float32]:
    """Predict `[C, *input]`, as stored, at once: `[*output, K]`, the axes in their own order."""
    pieces = [network.finished(values).cpu().numpy() for _, values in network.run(raw)]
    dims = len(network.axes)
    return np.concatenate(pieces).transpose(*np.argsort(network.axes), dims)
