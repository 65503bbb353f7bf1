"""Which voxels a network was trained on, and which level of a multiscale group has them."""

from __future__ import annotations

from dataclasses import dataclass

from blockwise_predict.geometry.grid import Lengths, format_lengths
from blockwise_predict.io.kvstore import join


@dataclass(frozen=True)
class TrainedSize:
    """The voxel size (nm) that a network was trained at, and what says so."""

    size: Lengths
    source: str

    def __str__(self) -> str:
        return f"{format_lengths(self.size)} nm ({self.source})"


@dataclass(frozen=True)
class ChosenLevel:
    """The level of a multiscale group that is read: its path in the group, and why that one."""

    group: str
    path: str
    reason: str

    @property
    def location(self) -> str:
        """Where the level's array is."""
        return join(self.group, self.path)
