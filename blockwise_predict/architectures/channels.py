"""Feature maps of a CNNectomeUNet, and what its upsampling does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise_predict.architectures.config import CNNectomeUNetConfig


@dataclass(frozen=True)
class Channels:
    """Feature maps and kinds of layers of a CNNectomeUNet; fields as in CNNectomeUNetConfig.

    head: output channels of the prediction heads, None if there are none.
    heads: number of expanding paths.
    """

    fmaps_in: int = 1
    fmaps_out: int = 1
    num_fmaps: int = 1
    fmap_inc_factor: int = 1
    head: int | None = None
    heads: int = 1
    constant_upsample: bool = True
    batch_norm: bool = False
    activation_on_upsample: bool = True
    upsample_channel_contraction: tuple[bool, ...] | None = None
    upsample_convolution: bool = True

    def down(self, level: int) -> int:
        """Feature maps of a level in the contracting path."""
        return self.num_fmaps * self.fmap_inc_factor**level

    def upsampled(self, level: int) -> int:
        """Feature maps after upsampling to a level: its own number, or that of the level below."""
        contracted = contraction_of(self.upsample_channel_contraction, level + 1)[level]
        return self.down(level if contracted else level + 1)

    def up(self, level: int) -> int:
        """Feature maps of a level in the expanding path."""
        return self.down(level) if level else self.fmaps_out


def contraction_of(stated: Sequence[bool] | None, steps: int) -> list[bool]:
    """Whether upsampling to each level contracts the channels; by default, to all but level 0."""
    return [False] + [True] * (steps - 1) if stated is None else list(stated)


def check_upsampling(config: CNNectomeUNetConfig) -> None:
    """Raises RuntimeError for settings of the upsampling that contradict each other."""
    steps, stated = len(config.downsample_factors), config.upsample_channel_contraction
    if stated is not None and len(stated) != steps:
        raise RuntimeError(
            f"upsample_channel_contraction has {len(stated)} levels, but needs {steps}"
        )
    if config.upsample_convolution or not config.constant_upsample:
        return
    if config.activation_on_upsample or any(contraction_of(stated, steps)):
        raise RuntimeError(
            "upsample_convolution is false: without a convolution, upsampling has no activation "
            "(activation_on_upsample: false) and contracts no channels "
            f"(upsample_channel_contraction: {[False] * steps})"
        )
