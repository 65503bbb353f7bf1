"""Which channel of a transformed prediction is which channel of the original one.

Scalars stay what they are. The affinity of offset o at voxel v belongs to the pair (v, v + o). In a
transformed volume the network's channel with offset p describes the pair whose offset in the
original is s, the inverse of the transformation applied to p. If s = o, it is the wanted affinity;
if s = -o, it is that of the pair (v - o, v), so the wanted one is found at v + o.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from blockwise_predict.engine.mean import ChannelMove
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.symmetry import Symmetry

Offset = tuple[int, ...]
# DaCapo's tasks whose channels are scalars.
SCALAR_TASKS = ("one_hot", "distance", "inner_distance", "hot_distance")


def offset_of(name: str, dims: int) -> Offset | None:
    """The offset of an affinity by its channel's name, `aff_Z_Y_X`; None for other names."""
    if re.fullmatch(rf"aff(_-?\d+){{{dims}}}", name) is None:
        return None
    return tuple(int(step) for step in name.split("_")[1:])


def channel_offsets(
    names: Sequence[str], dims: int, task: str | None, *, scalars: bool
) -> list[Offset | None]:
    """The offset of each channel that is an affinity; None for scalars.

    Raises ConfigError if a channel's kind is not known, unless all are declared to be `scalars`.
    """
    if scalars:
        return [None] * len(names)
    offsets = [offset_of(name, dims) for name in names]
    unknown = [name for name, offset in zip(names, offsets, strict=True) if offset is None]
    if unknown and task not in SCALAR_TASKS:
        raise ConfigError(
            f"--augment: how channel {unknown[0]} changes when the volume is flipped is not known. "
            "If the values of all channels stay the same (classes, distances), say so with "
            "--augment-channels scalars; affinities need their offsets as names (aff_0_0_1)."
        )
    return offsets


def channel_moves(offsets: Sequence[Offset | None], symmetry: Symmetry) -> tuple[ChannelMove, ...]:
    """Where the channels of a transformed prediction go.

    Raises ConfigError if an affinity becomes one that the network does not predict.
    """
    dims = len(symmetry.permutation)
    found = {}
    for source, offset in enumerate(offsets):
        if offset is not None:
            found[symmetry.original_offset(offset)] = source
    by_shift: defaultdict[Offset, list[tuple[int, int]]] = defaultdict(list)
    for target, offset in enumerate(offsets):
        if offset is None:
            by_shift[(0,) * dims].append((target, target))
            continue
        opposite = tuple(-step for step in offset)
        if offset in found:
            by_shift[(0,) * dims].append((target, found[offset]))
        elif opposite in found:
            by_shift[offset].append((target, found[opposite]))
        else:
            raise ConfigError(
                f"--augment: transformed copies of the volume need an affinity of offset {offset} "
                "or its opposite along every axis that it is turned to, which the network does "
                f"not predict. Use --augment {'flips or ' if symmetry.permutes else ''}none."
            )
    return tuple(
        ChannelMove(shift, *map(tuple, zip(*pairs, strict=True)))
        for shift, pairs in by_shift.items()
    )
