"""What probing a network has found out, as it is kept with a plan and in a cache."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Size = Annotated[int, Field(ge=1, le=1 << 30)]
_Count = Annotated[int, Field(ge=0, le=1 << 30)]


class ProbedAxis(BaseModel):
    """One axis of a network; sizes in voxels, as in `NetworkShapes`.

    smallest: smallest valid input size; the others are larger by multiples of `period`.
    fixed: whether `smallest` is the only valid size.
    low, high: output voxels lost on either side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: _Size
    fixed: bool
    period: _Size
    scale: _Size
    context: Annotated[int, Field(ge=-(1 << 30), le=1 << 30)]
    low: _Count
    high: _Count

    @property
    def margin(self) -> tuple[int, int]:
        """Output voxels of a pass, at either end, that depend on the tile's edge."""
        half = self.context // 2
        return self.low - half, self.high - (self.context - half)


class Probed(BaseModel):
    """A probed network.

    usual: a valid input shape.
    inexact: evidence that passes over different tiles disagree however much of their edges is
        dropped; None if they agree.
    evidence: what was tried, for the user.
    elements: largest number of values in memory during a pass, per input voxel.
    flops: arithmetic of a pass per input voxel, 2 per multiply-add; None if it is unknown.
    casts: whether the network can compute in 16 bits.
    outputs: name and number of channels of each output; empty if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: _Size
    out_channels: _Size
    axes: Annotated[tuple[ProbedAxis, ...], Field(min_length=2, max_length=3)]
    usual: tuple[_Size, ...]
    inexact: str | None
    evidence: tuple[str, ...]
    elements: Annotated[float, Field(gt=0, lt=1e9)]
    flops: Annotated[float, Field(ge=0, lt=1e15)] | None
    casts: bool
    outputs: Annotated[
        tuple[tuple[Annotated[str, Field(max_length=100)], _Size], ...], Field(max_length=64)
    ] = ()

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        if len(self.usual) != len(self.axes):
            raise ValueError("usual must have one size per axis")
        if self.outputs and sum(channels for _, channels in self.outputs) != self.out_channels:
            raise ValueError("the outputs have other channels than the network")
        return self
