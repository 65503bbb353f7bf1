"""Which channel of a transformed prediction is which channel of the original one.

Scalars stay what they are. The affinity of offset o at voxel v belongs to the pair (v, v + o). In a
transformed volume the network's channel with offset p describes the pair whose offset in the
original is s, the inverse of the transformation applied to p. If s = o, it is the wanted affinity;
if s = -o, it is that of the pair (v - o, v), so the wanted one is found at v + o.

Components of vectors and covariances exchange places with the axes, and change their sign where the
volume is flipped along an odd number of their axes. Local shape descriptors (Sheridan et al. 2022,
doi:10.1038/s41592-022-01711-z) are such components, stored as values from 0 to 1: there, v becomes
1 - v. Their order is that of `get_local_shape_descriptors` in https://github.com/funkelab/lsd.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from blockwise_predict.engine.mean import ChannelMove
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.symmetry import Symmetry

Offset = tuple[int, ...]


@dataclass(frozen=True)
class Component:
    """A component, along some axes, of the field called `field`; its sign is that of value - zero.

    The components of a vector have one axis each, those of a covariance two.
    """

    field: str
    axes: tuple[int, ...]
    zero: float


Kind = Offset | Component | None
"""Of a channel: an affinity, a component, or a scalar."""

# DaCapo's tasks whose channels are scalars.
_LSD = re.compile(r"lsds?_\d+")
SCALAR_TASKS = ("one_hot", "distance", "inner_distance", "hot_distance")


def offset_of(name: str, dims: int) -> Offset | None:
    """The offset of an affinity by its channel's name, `aff_Z_Y_X`; None for other names.

    That of a network with time may be of space alone, or of time and space.
    """
    space = min(dims, 3)
    if re.fullmatch(rf"aff(_-?\d+){{{space},{dims}}}", name) is None:
        return None
    steps = tuple(int(step) for step in name.split("_")[1:])
    return (0,) * (dims - len(steps)) + steps


def channel_kinds(
    names: Sequence[str],
    dims: int,
    task: str | None,
    declared: str,
    wanted: Sequence[int] | None = None,
) -> list[Kind]:
    """The kind of each channel, by its name and the task, or as `--augment-channels` declares.

    `wanted` are the numbers of the channels whose kinds have to be known, by default all. Raises
    ConfigError if one is not.
    """
    axes = range(dims - min(dims, 3), dims)
    wanted = range(len(names)) if wanted is None else wanted
    if declared == "scalars":
        return [None] * len(names)
    if declared == "vectors":
        components = dict(zip(wanted, _vectors(len(wanted), axes), strict=True))
        return [components.get(number) for number in range(len(names))]
    kinds: list[Kind] = [offset_of(name, dims) for name in names]
    shape = [number for number, name in enumerate(names) if _LSD.fullmatch(name)]
    descriptors = _shape_descriptors(axes)
    if len(shape) == len(descriptors):
        for number, kind in zip(shape, descriptors, strict=True):
            kinds[number] = kind
    known = {number for number, kind in enumerate(kinds) if kind is not None}
    if len(shape) == len(descriptors):
        known |= {*shape}
    unknown = [names[number] for number in wanted if number not in known]
    if unknown and task not in SCALAR_TASKS:
        raise ConfigError(
            f"--augment: how channel {unknown[0]} changes when the volume is flipped is not known. "
            "If the values of all channels stay the same (classes, distances), say so with "
            "--augment-channels scalars; if they are the components of vectors, with "
            "--augment-channels vectors. Affinities need their offsets as names (aff_0_0_1), local "
            f"shape descriptors all {len(descriptors)} channels (lsd_0, ...)."
        )
    return kinds


def _vectors(count: int, axes: range) -> Iterator[Component]:
    """The components of vectors, one vector after the other, along each axis."""
    if count % len(axes):
        raise ConfigError(
            f"--augment-channels vectors: {count} channels are not the components of vectors with "
            f"{len(axes)} each."
        )
    for number in range(count):
        yield Component(f"vector {number // len(axes)}", (axes[number % len(axes)],), 0.0)


def _shape_descriptors(axes: range) -> list[Kind]:
    """Mean offset, variance, correlation, and size."""
    pairs = itertools.combinations(axes, 2)
    return [
        *(Component("mean offset", (axis,), 0.5) for axis in axes),
        *(Component("variance", (axis, axis), 0.0) for axis in axes),
        *(Component("correlation", pair, 0.5) for pair in pairs),
        None,
    ]


def mirrored_channels(kinds: Sequence[Kind], symmetry: Symmetry) -> tuple[tuple[int, float], ...]:
    """The channels of a transformed prediction whose sign changes, and the value of their zero."""
    return tuple(
        (number, kind.zero)
        for number, kind in enumerate(kinds)
        if isinstance(kind, Component)
        and sum(symmetry.flipped[symmetry.permutation[axis]] for axis in kind.axes) % 2
    )


def _original(kind: Offset | Component, symmetry: Symmetry) -> Offset | Component:
    """What a channel of a transformed prediction is in the original volume."""
    if not isinstance(kind, Component):
        return symmetry.original_offset(kind)
    return replace(kind, axes=tuple(sorted(symmetry.original_axes(kind.axes))))


def channel_moves(
    kinds: Sequence[Kind], symmetry: Symmetry, wanted: Sequence[int] | None = None
) -> tuple[ChannelMove, ...]:
    """Where the channels of a transformed prediction go.

    `wanted` are the numbers of the channels that are predicted, by default all: the targets are
    positions among them. Raises ConfigError if an affinity becomes one that the network does not
    predict.
    """
    dims = len(symmetry.permutation)
    found = {
        _original(kind, symmetry): source for source, kind in enumerate(kinds) if kind is not None
    }
    by_shift: defaultdict[Offset, list[tuple[int, int]]] = defaultdict(list)
    for target, number in enumerate(range(len(kinds)) if wanted is None else wanted):
        kind = kinds[number]
        source = number if kind is None else found.get(kind)
        if source is not None:
            by_shift[(0,) * dims].append((target, source))
            continue
        assert isinstance(kind, tuple)
        opposite = tuple(-step for step in kind)
        if opposite not in found:
            raise ConfigError(
                f"--augment: transformed copies of the volume need an affinity of offset {kind} "
                "or its opposite along every axis that it is turned to, which the network does "
                f"not predict. Use --augment {'flips or ' if symmetry.permutes else ''}none."
            )
        by_shift[kind].append((target, found[opposite]))
    return tuple(
        ChannelMove(shift, *map(tuple, zip(*pairs, strict=True)))
        for shift, pairs in by_shift.items()
    )
