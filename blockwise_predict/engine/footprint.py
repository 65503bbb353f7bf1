"""How much memory a stream needs, from running it on tensors without data.

The stages themselves run, on torch's meta device, and the bytes of all tensors alive are counted;
so the count follows the code. What oneDNN and cuDNN take for themselves is not in it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.engine.streaming import StreamedUNet


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that a live tensor uses, and remembers the most.

    Tensors that were there before are counted only as far as `before` says.
    """

    def __init__(self, before: int = 0) -> None:
        super().__init__()
        self._users: Counter[int] = Counter()
        self.live = self.peak = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
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


def stream_bytes(
    model: nn.Module,
    shapes: UNetShapes,
    axes: Sequence[int],
    plane: Sequence[int],
    slab: int,
    dtype: torch.dtype,
) -> int:
    """Peak bytes of streaming planes of `plane` voxels (in the order `axes[1:]`), weights aside."""
    meta = torch.device("meta")
    network = StreamedUNet(model.to(meta), shapes, axes, dtype, meta)
    channels = shapes.channels.fmaps_in
    # Until the deepest level has given planes, and the skip connections are as full as they get.
    length = shapes.min_input_shape[axes[0]] + 2 * max(slab, shapes.period[axes[0]])
    with torch.inference_mode(), LiveBytes() as counted:
        for begin in range(0, length, slab):
            given = torch.empty((slab, *plane, channels), device=meta)
            network.push(given, begin + slab >= length)
    return counted.peak


@dataclass(frozen=True)
class Footprint:
    """Peak bytes of a stream, by plane (h x w voxels; w is 1 in 2-D) and slab (s input planes).

    `(fixed_area + area * s) * h * w + (fixed_edge + edge * s) * (h + w)`: what waits in queues, and
    what a slab needs; the edge's part stands for the context that deeper maps have lost.
    """

    fixed_area: float
    area: float
    fixed_edge: float
    edge: float

    def bytes(self, plane: Sequence[int], slab: int) -> int:
        """Peak bytes for these sizes."""
        height, width = (*plane, 1)[:2]
        area = (self.fixed_area + self.area * slab) * height * width
        return max(0, round(area + (self.fixed_edge + self.edge * slab) * (height + width)))


def measure_footprint(
    model: nn.Module, shapes: UNetShapes, axes: Sequence[int], dtype: torch.dtype
) -> Footprint:
    """The footprint, from two planes and two slabs; others lie within a few percent of it."""
    planes = [
        [shapes.min_input_shape[axis] + share * shapes.period[axis] for axis in axes[1:]]
        for share in (16, 64)
    ]
    slabs = [2 * shapes.period[axes[0]], 4 * shapes.period[axes[0]]]
    by_slab = []
    for slab in slabs:
        rows = []
        for plane in planes:
            height, width = (*plane, 1)[:2]
            peak = stream_bytes(model, shapes, axes, plane, slab, dtype)
            rows.append((height * width, height + width, peak))
        (a1, e1, p1), (a2, e2, p2) = rows
        determinant = a1 * e2 - a2 * e1
        by_slab.append(((p1 * e2 - p2 * e1) / determinant, (a1 * p2 - a2 * p1) / determinant))
    (area1, edge1), (area2, edge2) = by_slab
    more = slabs[1] - slabs[0]
    area, edge = (area2 - area1) / more, (edge2 - edge1) / more
    return Footprint(area1 - area * slabs[0], area, edge1 - edge * slabs[0], edge)
