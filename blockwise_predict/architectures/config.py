"""The configuration of a CNNectomeUNet, as DaCapo stores it in its run files."""

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
    """The parameters of a CNNectomeUNet. Lengths are in voxels, axes are (z, y, x) or (y, x).

    name: the user's name for it.
    input_shape: input shape of training.
    fmaps_out, fmaps_in: number of output and input channels.
    num_fmaps: feature maps of the first level; each further level has `fmap_inc_factor` times as
        many.
    downsample_factors: one factor per axis for each step from a level to the next.
    kernel_size_down, kernel_size_up: the kernel sizes of each level's convolutions in the
        contracting and in the expanding path, which the deepest level lacks. None is two
        convolutions of 3 along every axis.
    eval_shape_increase: what DaCapo adds to `input_shape` for prediction.
    upsample_factors: super-resolution steps after the U-Net.
    constant_upsample: nearest-neighbour upsampling and a 1x1 convolution instead of a transposed
        convolution.
    padding: 'valid' or 'same'.
    use_attention: attention gates on the skip connections.
    batch_norm: batch norm after each convolution.
    num_heads: number of expanding paths, each with `fmaps_out` output channels.
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
    num_heads: int = 1

    @property
    def _eval_shape_increase(self) -> Sequence[int] | None:
        """DaCapo's name for the attribute, but not for the argument."""
        return self.eval_shape_increase
