"""A CNNectomeUNet that takes its input slab by slab, each plane of each feature map once.

What comes out equals one forward pass over all planes, to the rounding of the dtype. Memory grows
with the area of a plane, not with the number of planes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNetModule, UNetShapes
from blockwise_predict.engine.building import Builder, Target
from blockwise_predict.engine.levels import Tail
from blockwise_predict.engine.plain import PlainBuilder
from blockwise_predict.engine.range import RangeWatch, largest_safe
from blockwise_predict.engine.stages import Planes


class StreamedUNet:
    """U-Net, super-resolution and prediction head as one stream.

    `axes` is an order of the spatial axes, the streamed one first. `piece` is about the number of
    voxels of a feature map that are computed at once: enough to occupy the device. All is computed
    in `dtype`, but the levels below the first in `deep`, if that is given. The first convolution
    takes and computes float32 whatever the dtype: it is a small part of the arithmetic, and with it
    in bfloat16 the error of the whole would be twice as large (docs/engine.md).

    The arithmetic is rearranged, which takes for granted that no value is NaN or infinite, or
    becomes so. It is right if the input is within `-safe .. safe` (NaN if no input is) and as long
    as not `exceeded`. With `plain` it is not rearranged: NaN and infinity go wherever they go in
    torch's forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        shapes: UNetShapes,
        axes: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        piece: int,
        *,
        deep: torch.dtype | None = None,
        plain: bool = False,
    ) -> None:
        unet, tails, head = _parts(model)
        target = Target(shapes, tuple(axes), dtype, deep or dtype, device, piece)
        rearranged = not plain and device.type != "meta"
        self.safe = largest_safe(unet, tails, head, deep or dtype) if rearranged else inf
        self._watch = RangeWatch(self.safe)
        builder = (PlainBuilder if plain else Builder)(target, self._watch)
        self._levels = builder.level(unet, 0)
        self._tails = builder.tails(tails)
        self._head = builder.head(head)

    @property
    def exceeded(self) -> bool:
        """Whether, since `reset`, values were too large to be sure of what has come out last."""
        return self._watch.exceeded

    def reset(self) -> None:
        """Begin anew."""
        self._watch.reset()
        self._levels.reset()
        for part in self._tails:
            part.reset()
        self._head.reset()

    def push(self, planes: torch.Tensor, last: bool) -> Iterator[list[Planes]]:
        """Planes `[D, *plane, C]` of the input in, those of the output out, for each head.

        They come piece by piece; None where a piece gives no planes yet. With `last` no more will
        come. Planes beyond the output of a whole pass may come out behind it: they are to be
        ignored.
        """
        for heads in self._levels.push(planes, last):
            yield from self._finished(heads, self._tails)
        if last:
            yield from self._flushed(self._tails)

    def _finished(self, heads: list[Planes], tails: Sequence[Tail]) -> Iterator[list[Planes]]:
        """The rest of the way; there is super-resolution only behind a single head."""
        if not tails:
            yield [self._head.push(planes) for planes in heads]
            return
        (planes,) = heads
        for part in tails[0].push(planes, False):
            yield from self._finished([part], tails[1:])

    def _flushed(self, tails: Sequence[Tail]) -> Iterator[list[Planes]]:
        """What was waiting for planes that will not come."""
        for number, part in enumerate(tails):
            for planes in part.push(None, True):
                yield from self._finished([planes], tails[number + 1 :])


def _parts(model: nn.Module) -> tuple[CNNectomeUNetModule, list[nn.Module], nn.Module | None]:
    """The U-Net, the layers of super-resolution, and the prediction head's convolution."""
    head = getattr(model, "prediction_head", None)
    body = getattr(model, "architecture", model)
    body = getattr(body, "unet", body)
    layers = list(body) if isinstance(body, nn.Sequential) else [body]
    unet = layers[0]
    assert isinstance(unet, CNNectomeUNetModule)
    return unet, layers[1:], None if isinstance(head, nn.Identity) else head
