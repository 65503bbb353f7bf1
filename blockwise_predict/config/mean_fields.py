"""The options of predictions that are means of several passes; see `fields`."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from blockwise_predict.config.channel_fields import ChannelOptions
from blockwise_predict.config.option import Group, option
from blockwise_predict.config.values import Augment, AugmentChannels


class MeanOptions(ChannelOptions):
    """What can be asked of a run, with the predictions of which it takes the mean."""

    blend: bool = option(
        False,
        Group.COMPUTING,
        "Predict overlapping tiles of one shape, and blend them by a smooth window: for networks "
        "whose values depend on the tile (padding, instance norm).",
    )
    overlap: float = option(
        0.5,
        Group.COMPUTING,
        "Share of a tile's output by which neighbouring tiles overlap, with --blend.",
        metavar="SHARE",
        ge=0,
        le=0.95,
        allow_inf_nan=False,
    )
    augment: Augment = option(
        "none",
        Group.COMPUTING,
        "Test-time augmentation: the mean over transformed copies of each tile. flips: of all axes "
        "(8 copies; 4 in 2-D); in-plane: also with y and x exchanged (16; 8); all: every "
        "permutation of the axes (48; 8).",
    )
    augment_channels: AugmentChannels = option(
        "auto",
        Group.COMPUTING,
        "What becomes of channels where the volume is flipped. auto: affinities (aff_Z_Y_X) go by "
        "their offsets, local shape descriptors (lsd_0, ...) by their axes, and DaCapo's classes "
        "and distances stay the same; scalars: all stay the same; vectors: they are the "
        "components of vectors, (z, y, x) one after the other.",
    )

    @property
    def is_mean(self) -> bool:
        """Whether values are means of several passes over the same voxels."""
        return self.blend or self.augment != "none" or len(self.checkpoints) > 1

    @property
    def checkpoints(self) -> list[tuple[str, str | None]]:
        """Path and architecture file, if one is given, of each checkpoint."""
        paths = (self.checkpoint,) if isinstance(self.checkpoint, str) else self.checkpoint
        files = self.architecture
        if files is None or isinstance(files, str):
            return [(path, files) for path in paths]
        return list(zip(paths, files, strict=True))

    @model_validator(mode="after")
    def _one_architecture_for_each(self) -> Self:
        paths, files = self.checkpoint, self.architecture
        if isinstance(files, tuple) and (isinstance(paths, str) or len(paths) != len(files)):
            raise ValueError(
                f"architecture: {len(files)} files are given, but "
                f"{1 if isinstance(paths, str) else len(paths)} checkpoints; give one for all, or "
                "one for each"
            )
        return self
