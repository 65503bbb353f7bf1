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
# Settings that DaCapo 0.3.5 does not have.
BEYOND_DACAPO = (
    "super_resolution_kernels",
    "activation",
    "activation_on_upsample",
    "upsample_channel_contraction",
    "upsample_convolution",
    "num_heads",
)


@dataclass
class CNNectomeUNetConfig:
    """The parameters of a CNNectomeUNet. Lengths are in voxels, axes are (z, y, x) or (y, x).

    With a fourth axis, time in frames, `input_shape` and `eval_shape_increase` are (t, z, y, x) and
    kernels (t, z, y, x) or (z, y, x); factors are of space.

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

    DaCapo 0.3.5 does not have the following, and builds what their defaults say; other versions and
    relatives of this network differ:

    super_resolution_kernels: kernel sizes of the convolutions after each super-resolution step.
        None is the last level of `kernel_size_up`.
    activation: name of an elementwise activation in `torch.nn`, after each convolution.
    activation_on_upsample: whether upsampling ends with the activation.
    upsample_channel_contraction: for each level, whether upsampling to it reduces the channels to
        those of the level. None is all but level 0.
    upsample_convolution: whether a 1x1 convolution follows nearest-neighbour upsampling. Without
        it, upsampling neither contracts the channels nor has an activation.
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
    super_resolution_kernels: Sequence[Sequence[int]] | None = None
    activation: str = "ReLU"
    activation_on_upsample: bool = True
    upsample_channel_contraction: Sequence[bool] | None = None
    upsample_convolution: bool = True
    num_heads: int = 1

    @property
    def _eval_shape_increase(self) -> Sequence[int] | None:
        """DaCapo's name for the attribute, but not for the argument."""
        return self.eval_shape_increase
