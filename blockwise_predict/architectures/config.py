"""The configuration of a CNNectomeUNet, as DaCapo writes it into its run files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

REQUIRED = (
    "input_shape",
    "fmaps_out",
    "fmaps_in",
    "num_fmaps",
    "fmap_inc_factor",
    "downsample_factors",
)


@dataclass
class CNNectomeUNetConfig:
    """What defines a CNNectomeUNet. Lengths are voxels, axes are (z, y, x) or (y, x).

    name: what the user calls it.
    input_shape: shape it was trained on.
    fmaps_out, fmaps_in: channels that come out and go in.
    num_fmaps: feature maps of the first level; each further level has `fmap_inc_factor` times more.
    downsample_factors: one factor per axis for each step from a level to the next.
    kernel_size_down, kernel_size_up: for each level (but the deepest, on the way up) the kernels
        of its convolutions; None is two of 3 along every axis.
    eval_shape_increase: what DaCapo adds to `input_shape` when it predicts.
    upsample_factors: super-resolution steps after the U-Net.
    constant_upsample: repeat voxels, then a 1x1 convolution, instead of a transposed convolution.
    padding: 'valid' or 'same'.
    use_attention: attention gates on the skip connections.
    batch_norm: batch norm after each convolution.
    """

    name: str
    input_shape: Sequence[int]
    fmaps_out: int
    fmaps_in: int
    num_fmaps: int
    fmap_inc_factor: int
    downsample_factors: Sequence[Sequence[int]]
    kernel_size_down: Sequence[Sequence[Sequence[int]]] | None = None
    kernel_size_up: Sequence[Sequence[Sequence[int]]] | None = None
    eval_shape_increase: Sequence[int] | None = None
    upsample_factors: Sequence[Sequence[int]] | None = None
    constant_upsample: bool = True
    padding: str = "valid"
    use_attention: bool = False
    batch_norm: bool = False

    @property
    def _eval_shape_increase(self) -> Sequence[int] | None:
        """The name DaCapo gives the attribute, though not the argument."""
        return self.eval_shape_increase
