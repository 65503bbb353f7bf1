"""Probing a network, from a module to what planning and passes need to know of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import lcm

import torch
from torch import nn

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.checkpoint.probing.agreement import agreement
from blockwise_predict.checkpoint.probing.cost import pass_cost
from blockwise_predict.checkpoint.probing.influence import Influence, find_influence
from blockwise_predict.checkpoint.probing.shapes import ProbedShapes
from blockwise_predict.checkpoint.probing.sizes import (
    AxisSizes,
    Candidate,
    aligned,
    find_valid_shape,
    sizes_along,
)
from blockwise_predict.checkpoint.probing.subject import SECONDS, Subject
from blockwise_predict.errors import CheckpointError
from blockwise_predict.geometry.probed import Probed, ProbedAxis

# The edge of a usual tile, by the number of axes.
_USUAL = {2: 512, 3: 128}


@dataclass(frozen=True)
class Hints:
    """What a file says about its network's input.

    candidates: numbers of axes and channels, the likeliest first.
    shape: an input shape that it takes, if one is known.
    fixed: which axes of that shape are the only valid ones, as far as the file says.
    symbolic: whether torch can find out shapes without computing values.
    """

    candidates: Sequence[Candidate]
    shape: Shape | None = None
    fixed: Sequence[bool] = ()
    symbolic: bool = True


def probe_network(module: nn.Module, hints: Hints, report: Callable[[str], None]) -> Probed:
    """Probe a network: its valid sizes, context, period, and what its values depend on.

    Raises CheckpointError if no input is found that it takes, or if its output is not an image in
    proportion to its input.
    """
    subject, base = _find_input(module, hints, report)
    report(f"it takes {subject.channels} x {base}; probing its sizes")
    fixed = hints.fixed or (False,) * subject.dims
    sizes = tuple(
        sizes_along(subject, base, axis, fixed=fixed[axis]) for axis in range(subject.dims)
    )
    usual = _usual_shape(sizes)
    # Without symbolic shapes a pass is computed, which is to be a small one.
    sample = usual if subject.takes_symbols else base
    subject.elements, subject.flops = pass_cost(module, subject, sample)
    found: list[Influence] = []
    inexact, compared = None, False
    for axis in range(subject.dims):
        report(f"probing what its output depends on along axis {axis}")
        influence = find_influence(subject, sizes, axis) if not inexact else Influence(1)
        inexact = inexact or influence.inexact
        found.append(influence)
    axes = tuple(map(_axis, sizes, found))
    if inexact is None:
        report("comparing passes over tiles of different shapes")
        last = agreement(subject, ProbedShapes(axes, exact=True))
        inexact, compared = last.inexact, last.compared
    channels = subject.shape_of(base)
    assert channels is not None
    return Probed(
        in_channels=subject.channels,
        out_channels=channels[0],
        axes=axes,
        usual=usual,
        inexact=inexact,
        evidence=(inexact,) if inexact else _evidence(subject, axes, compared),
        elements=subject.elements,
        flops=subject.flops,
        casts=subject.converted(torch.bfloat16) is not None,
    )


def _find_input(
    module: nn.Module, hints: Hints, report: Callable[[str], None]
) -> tuple[Subject, Shape]:
    """A network's number of axes and channels, and a shape that it takes."""
    deadline = time.monotonic() + SECONDS
    # Traces that compute with sizes as tensors cannot be followed without values.
    for symbolic in dict.fromkeys((hints.symbolic, False)):
        for dims, channels in hints.candidates:
            report(f"looking for a {dims}-D input with {channels} channels that it takes")
            subject = Subject(module, channels, dims, symbolic=symbolic, deadline=deadline)
            hint = hints.shape if hints.shape and len(hints.shape) == dims else None
            if (base := find_valid_shape(subject, hint)) is not None:
                return subject, base
    tried = ", ".join(f"{dims}-D with {channels} channels" for dims, channels in hints.candidates)
    raise CheckpointError(
        f"no input shape was found that the network takes (tried: {tried}). Name one with "
        "--tile-shape. The network must take one tensor (batch, channels, spatial axes), and give "
        "such a one."
    )


def _axis(sizes: AxisSizes, influence: Influence) -> ProbedAxis:
    """One axis, with valid sizes on which pooling windows stay aligned."""
    valid = aligned(sizes, influence.period)
    period = lcm(sizes.step, influence.period)
    half = sizes.context // 2
    cell = period * sizes.scale
    low = half
    if influence.low or influence.high:
        # So that pooling windows lie as in a pass over the volume alone, which padding allows.
        low = -(-(half + influence.low) // cell) * cell
    return ProbedAxis(
        smallest=valid.smallest,
        fixed=sizes.fixed,
        period=period,
        scale=sizes.scale,
        context=sizes.context,
        low=low,
        high=sizes.context - half + influence.high,
    )


def _usual_shape(sizes: Iterable[AxisSizes]) -> Shape:
    sizes = tuple(sizes)
    edge = _USUAL[len(sizes)]
    return tuple(
        along.smallest
        if along.fixed
        else along.smallest + max(0, edge - along.smallest) // along.step * along.step
        for along in sizes
    )


def _evidence(subject: Subject, axes: tuple[ProbedAxis, ...], compared: bool) -> tuple[str, ...]:
    """What the tiles showed that were compared along one axis, and then along all (`compared`)."""
    precision = str(subject.dtype).removeprefix("torch.")
    lines = [
        f"along each axis, tiles at different positions agree ({precision}), and changes outside "
        "of a voxel's context do not change it",
        "tiles that differ along all axes agree too"
        if compared
        else "not checked: tiles that differ along all axes; they would be too large, or would "
        "not overlap",
    ]
    if any(any(axis.margin) for axis in axes):
        margins = ",".join(str(axis.low - axis.context // 2) for axis in axes)
        lines.append(f"the outer {margins} output voxels of a tile depend on its edge: dropped")
    return tuple(lines)
