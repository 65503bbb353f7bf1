"""How much memory a stream needs, from running it on tensors without data.

The stages themselves run, on torch's meta device, and the bytes of all tensors alive are counted;
so the count follows the code. What oneDNN and cuDNN take for themselves is not in it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.engine.streaming import StreamedUNet

# Sizes that a footprint is measured at, in periods beyond the smallest.
PERIODS = {2: (16, 64, 128), 3: (8, 24, 64)}


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return tensors[0].new_empty(shape)


def _convolution(x: torch.Tensor, kernel: torch.Tensor, *_: Any) -> torch.Tensor:
    """Valid, with stride 1; in channels-last memory, as those of the stages are."""
    spatial = [n - k + 1 for n, k in zip(x.shape[2:], kernel.shape[2:], strict=True)]
    return x.new_empty((x.shape[0], *spatial, kernel.shape[0])).movedim(-1, 1)


def _unchanged(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return x


def _like(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return x.new_empty(x.shape)


_ATEN = torch.ops.aten
# Operations whose results torch could tell, too, but not without importing, for two seconds, the
# compiler and what that needs.
_KNOWN: dict[Any, Callable[..., torch.Tensor]] = {
    _ATEN.cat.default: _cat,
    _ATEN.conv2d.default: _convolution,
    _ATEN.conv3d.default: _convolution,
    _ATEN.relu_.default: _unchanged,
    _ATEN.add_.Tensor: _unchanged,
    _ATEN.maximum.default: _like,
    _ATEN.clone.default: _like,
}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that a live tensor uses, and remembers the most.

    Tensors that were there before are counted only as far as `before` says.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here; to be skipped would mean to import the compiler, for seconds.
        return False

    def __init__(self, before: int = 0) -> None:
        super().__init__()
        self._users: Counter[int] = Counter()
        self.live = self.peak = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _KNOWN.get(func, func)(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            storage = tensor.untyped_storage()
            self.live += 0 if self._users[storage._cdata] else storage.nbytes()
            self._users[storage._cdata] += 1
            weakref.finalize(tensor, self._drop, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _drop(self, storage: int, size: int) -> None:
        self._users[storage] -= 1
        self.live -= 0 if self._users[storage] else size


def without_data(
    model: nn.Module, shapes: UNetShapes, axes: Sequence[int], dtype: torch.dtype, piece: int
) -> StreamedUNet:
    """The stream on torch's meta device, where tensors have shapes only."""
    meta = torch.device("meta")
    return StreamedUNet(model, shapes, axes, dtype, meta, piece)


def stream_bytes(
    network: StreamedUNet, shapes: UNetShapes, axes: Sequence[int], plane: Sequence[int], slab: int
) -> int:
    """Peak bytes of streaming planes of `plane` voxels (in the order `axes[1:]`), weights aside.

    `network` is one `without_data`; it begins anew.
    """
    network.reset()
    channels = shapes.channels.fmaps_in
    # Until the deepest level has given planes, and the skip connections are as full as they get.
    length = shapes.min_input_shape[axes[0]] + 2 * max(slab, shapes.period[axes[0]])
    with torch.inference_mode(), LiveBytes() as counted:
        for begin in range(0, length, slab):
            given = torch.empty((slab, *plane, channels), device="meta")
            for _ in network.push(given, begin + slab >= length):
                pass
    return counted.peak


@dataclass(frozen=True)
class Footprint:
    """Peak bytes of a stream, by plane (h x w voxels; w is 1 in 2-D) and slab (s input planes).

    `(a0 + a1 s) h w + (e0 + e1 s) (h + w) + (c0 + c1 s)`: what waits in queues, and what a slab
    needs. Edge and constant stand for the context that deeper maps have lost on all sides.
    """

    fixed: tuple[float, ...]
    by_slab: tuple[float, ...]

    def bytes(self, plane: Sequence[int], slab: int) -> int:
        """Peak bytes for these sizes."""
        factors = zip(_terms(plane), self.fixed, self.by_slab, strict=True)
        return max(0, round(sum(term * (a + b * slab) for term, a, b in factors)))


def _terms(plane: Sequence[int]) -> tuple[int, ...]:
    height, width = (*plane, 1)[:2]
    return height * width, height + width, 1


def measure_footprint(
    model: nn.Module, shapes: UNetShapes, axes: Sequence[int], dtype: torch.dtype, piece: int
) -> Footprint:
    """The footprint, from three planes and two slabs; others lie within a few percent of it."""
    period = shapes.period[axes[0]]
    smallest = [shapes.min_input_shape[axis] for axis in axes[1:]]
    planes = []
    for count in PERIODS[shapes.dims]:
        each = zip(smallest, axes[1:], strict=True)
        planes.append([size + count * shapes.period[axis] for size, axis in each])
    slabs = 2 * period, 4 * period
    network = without_data(model, shapes, axes, dtype, piece)
    peaks = [
        [stream_bytes(network, shapes, axes, plane, slab) for slab in slabs] for plane in planes
    ]
    terms = np.array([_terms(plane) for plane in planes], float)
    # In 2-D a plane is a line: its area and its edge are one and the same.
    found = np.linalg.lstsq(terms / terms.max(0), np.array(peaks, float))[0]
    few, many = (found / terms.max(0)[:, None]).T
    by_slab = (many - few) / (slabs[1] - slabs[0])
    return Footprint(tuple(few - by_slab * slabs[0]), tuple(by_slab))
