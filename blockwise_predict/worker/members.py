"""The predictions of which a plan takes the mean."""

from __future__ import annotations

from blockwise_predict.engine.mean import Member
from blockwise_predict.engine.passes import Pass
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.transformed import TransformedPass
from blockwise_predict.engine.volume_passes import make_network_pass, over_volume
from blockwise_predict.engine.window import blending_window
from blockwise_predict.geometry.symmetry import Symmetry
from blockwise_predict.plan.augmentation import Copy, augmented_copies, lattice_of_copy
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened


def make_members(plan: Plan, opened: Opened, precision: str) -> list[Member]:
    """One member for each network and each transformed copy of the tiles."""
    members = []
    for own_plan, alone in zip(plan.each, opened.each, strict=True):
        builder = _Builder(own_plan, alone, precision)
        members += [builder.member(copy) for copy in augmented_copies(alone)]
    return members


class _Builder:
    """Builds members of one network; those that stream along the same axes share a pass."""

    def __init__(self, plan: Plan, opened: Opened, precision: str) -> None:
        self._plan = plan
        self._opened = opened
        self._precision = precision
        self._tiling = plan.tiling_for(precision)
        self._passes: dict[Streaming | None, Pass] = {}

    def member(self, copy: Copy) -> Member:
        """The member of a transformed copy."""
        shapes = self._opened.model.shapes
        network = self._pass(self._streaming(copy.symmetry))
        if not copy.symmetry.is_identity:
            network = TransformedPass(network, copy.symmetry, shapes)
        window = None
        if self._plan.config.blend:
            window = blending_window(self._tiling.lattice).to(self._opened.device)
        return Member(
            over_volume(network, len(self._plan.block_shape)),
            lattice_of_copy(self._opened, self._tiling.lattice, copy),
            copy.moves,
            window,
            copy.mirrored,
        )

    def _streaming(self, symmetry: Symmetry) -> Streaming | None:
        """The streaming of a transformed tile, along the same axis of the volume."""
        streaming = self._tiling.streaming
        if streaming is None:
            return None
        first, *others = map(symmetry.transformed_axis, streaming.axes)
        shapes = self._opened.streamed_shapes
        if shapes is not None and shapes.has_time:
            # Time, which no symmetry moves, stays the last axis.
            *others, time = others
            return Streaming((first, *sorted(others), time), streaming.slab)
        return Streaming((first, *sorted(others)), streaming.slab)

    def _pass(self, streaming: Streaming | None) -> Pass:
        if streaming not in self._passes:
            self._passes[streaming] = make_network_pass(
                self._opened.model.build(),
                self._opened.model.shapes,
                streaming=streaming,
                precision=self._precision,
                normalization=self._plan.normalization,
                device=self._opened.device,
            )
        return self._passes[streaming]
