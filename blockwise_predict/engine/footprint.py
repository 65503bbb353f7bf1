"""The memory a stream needs, counted by running it on tensors without data.

The stages themselves run on torch's meta device, and the bytes of all live tensors are counted, so
the count follows the code. Scratch memory of oneDNN and cuDNN is not included.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blockwise_predict.engine.builder import StreamSpec
from blockwise_predict.engine.streaming import StreamedUNet

# Plane sizes that a footprint is measured at, in periods beyond the smallest input.
PROBED_PERIODS = {2: (16, 64, 128), 3: (8, 24, 64), 4: (8, 24, 64)}


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return tensors[0].new_empty(shape)


def _convolution(x: torch.Tensor, kernel: torch.Tensor, *_: Any) -> torch.Tensor:
    """Valid, with stride 1, in channels-last memory: as the stages call it."""
    spatial = [n - k + 1 for n, k in zip(x.shape[2:], kernel.shape[2:], strict=True)]
    return x.new_empty((x.shape[0], *spatial, kernel.shape[0])).movedim(-1, 1)


def _unchanged(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return x


def _like(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return x.new_empty(x.shape)


_ATEN = torch.ops.aten
# Shape functions of operations for which torch would first import its compiler, which takes two
# seconds.
_SHAPE_FUNCTIONS: dict[Any, Callable[..., torch.Tensor]] = {
    _ATEN.cat.default: _cat,
    _ATEN.conv2d.default: _convolution,
    _ATEN.conv3d.default: _convolution,
    _ATEN.relu_.default: _unchanged,
    _ATEN.add_.Tensor: _unchanged,
    _ATEN.maximum.default: _like,
    _ATEN.clone.default: _like,
    # Of the activations, those that torch would decompose.
    _ATEN.elu.default: _like,
    _ATEN.selu.default: _like,
    _ATEN.celu.default: _like,
}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages in use by live tensors, and their peak.

    Tensors that existed before are counted as `before` bytes.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and skipping the compiler would import it, which takes seconds.
        return False

    def __init__(self, before: int = 0) -> None:
        super().__init__()
        self._users: Counter[int] = Counter()
        self.live = self.peak = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _SHAPE_FUNCTIONS.get(func, func)(*args, **(kwargs or {}))
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


def meta_stream(model: nn.Module, spec: StreamSpec) -> StreamedUNet:
    """The stream on torch's meta device, where tensors have shapes but no data."""
    return StreamedUNet(model, replace(spec, device=torch.device("meta")))


def peak_stream_bytes(network: StreamedUNet, plane: Sequence[int], slab: int) -> int:
    """Peak bytes, without weights, of a `meta_stream` fed with slabs of `slab` planes.

    `plane` is in voxels, in the order of the axes that are not streamed.
    """
    network.reset()
    shapes, streamed_axis = network.spec.shapes, network.spec.axes[0]
    channels = shapes.channels.fmaps_in
    # Long enough for the deepest level to return planes and for skip connections to fill up.
    length = shapes.min_input_shape[streamed_axis] + 2 * max(slab, shapes.period[streamed_axis])
    with torch.inference_mode(), LiveBytes() as counted:
        for begin in range(0, length, slab):
            planes = torch.empty((slab, *plane, channels), device="meta")
            for _ in network.push(planes, begin + slab >= length):
                pass
    return counted.peak


@dataclass(frozen=True)
class Footprint:
    """Peak bytes of a stream as a function of plane (h x w voxels; w is 1 in 2-D) and slab.

    With time, of the number of frames that it was measured with.

    For slabs of s input planes it is `(a0 + a1 s) h w + (e0 + e1 s) (h + w) + (c0 + c1 s)`: the
    carry-over planes, and the slab itself. The terms with (h + w) and the constant ones account for
    the context that deeper maps have lost on all sides.
    """

    fixed: tuple[float, ...]
    by_slab: tuple[float, ...]

    def bytes(self, plane: Sequence[int], slab: int) -> int:
        """Peak bytes for a plane (voxels) and a slab (planes)."""
        factors = zip(_terms(plane), self.fixed, self.by_slab, strict=True)
        return max(0, round(sum(term * (a + b * slab) for term, a, b in factors)))


def _terms(plane: Sequence[int]) -> tuple[int, ...]:
    height, width = (*plane, 1)[:2]
    return height * width, height + width, 1


def measure_footprint(model: nn.Module, spec: StreamSpec, frames: int | None = None) -> Footprint:
    """The footprint, fitted to three planes and two slabs; others are within a few percent of it.

    `frames` is the length of the input of a network with time. The device of `spec` plays no part.
    """
    shapes, axes = spec.shapes, spec.axes
    period = shapes.period[axes[0]]
    space = axes[1:-1] if shapes.has_time else axes[1:]
    last = [] if frames is None else [frames]
    planes = [
        [*(shapes.min_input_shape[a] + count * shapes.period[a] for a in space), *last]
        for count in PROBED_PERIODS[shapes.dims]
    ]
    slabs = 2 * period, 4 * period
    network = meta_stream(model, spec)
    peaks = [[peak_stream_bytes(network, plane, slab) for slab in slabs] for plane in planes]
    terms = np.array([_terms(plane) for plane in planes], float)
    # In 2-D a plane is a line, so area and edge are the same term and the fit is rank-deficient.
    found = np.linalg.lstsq(terms / terms.max(0), np.array(peaks, float))[0]
    thin, thick = (found / terms.max(0)[:, None]).T
    by_slab = (thick - thin) / (slabs[1] - slabs[0])
    return Footprint(tuple(thin - by_slab * slabs[0]), tuple(by_slab))
