"""The architecture's interface: arguments, attributes, methods and errors."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from funlib.geometry import Coordinate
from torch import nn

from blockwise_predict.architectures import (
    AttentionBlockModule,
    CNNectomeUNet,
    CNNectomeUNetConfig,
    CNNectomeUNetModule,
    ConvPass,
    Downsample,
    Upsample,
)

CONFIG = CNNectomeUNetConfig(
    name="small",
    input_shape=(20, 20),
    fmaps_out=3,
    fmaps_in=2,
    num_fmaps=2,
    fmap_inc_factor=2,
    downsample_factors=[(2, 2)],
)


def test_the_architecture_has_the_references_attributes() -> None:
    network = CNNectomeUNet(replace(CONFIG, eval_shape_increase=(8, 8)))
    assert network.input_shape == Coordinate(20, 20)
    assert network.eval_shape_increase == Coordinate(8, 8)
    assert (network.num_in_channels, network.num_out_channels, network.dims) == (2, 3, 2)
    assert isinstance(network.unet, CNNectomeUNetModule)
    assert isinstance(network.module(), CNNectomeUNetModule)
    assert CNNectomeUNet(CONFIG).eval_shape_increase == Coordinate(0, 0)
    unet = network.unet
    assert (unet.num_levels, unet.num_heads, unet.dims) == (2, 1, 2)
    assert (unet.in_channels, unet.out_channels) == (2, 3)
    assert unet.kernel_size_down == [[(3, 3), (3, 3)]] * 2
    assert unet.kernel_size_up == [[(3, 3), (3, 3)]]
    assert not unet.batch_norm
    assert not unet.use_attention
    assert not hasattr(unet, "attention")
    assert [len(part) for part in (unet.l_conv, unet.l_down, unet.r_up, unet.r_conv)] == [
        2,
        1,
        1,
        1,
    ]


def test_super_resolution_follows_the_unet_and_divides_the_voxel_size() -> None:
    network = CNNectomeUNet(replace(CONFIG, upsample_factors=[(2, 1), (2, 3)]))
    kinds = [type(layer) for layer in network.unet]
    assert kinds == [CNNectomeUNetModule, Upsample, ConvPass, Upsample, ConvPass]
    assert network.scale(Coordinate(8, 12)) == Coordinate(2, 4)
    assert network.scale((Fraction(106, 25), Fraction(4))) == (Fraction(53, 50), Fraction(4, 3))
    assert CNNectomeUNet(CONFIG).scale(Coordinate(8, 12)) == Coordinate(8, 12)


@pytest.mark.parametrize(
    "name",
    ["input_shape", "fmaps_out", "fmaps_in", "num_fmaps", "fmap_inc_factor", "downsample_factors"],
)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        CNNectomeUNet(replace(CONFIG, **{name: None}))
    without = {key: value for key, value in vars(CONFIG).items() if key != name}
    with pytest.raises(AttributeError, match=name):
        CNNectomeUNet(SimpleNamespace(**without))


@pytest.mark.parametrize(
    "name", ["in_channels", "num_fmaps", "fmap_inc_factor", "downsample_factors"]
)
def test_a_missing_argument_of_the_module_is_named(name: str) -> None:
    arguments: dict[str, Any] = {
        "in_channels": 1,
        "num_fmaps": 1,
        "fmap_inc_factor": 1,
        "downsample_factors": [(2, 2)],
    }
    with pytest.raises(AttributeError, match=name):
        CNNectomeUNetModule(**{**arguments, name: None})


def test_the_modules_own_defaults() -> None:
    unet = CNNectomeUNetModule(1, 4, 2, [(2, 2, 2), (2, 2, 2)])
    assert unet.out_channels == 4
    assert unet.batch_norm
    assert isinstance(unet.r_up[0][0].up, nn.ConvTranspose3d)
    assert unet.r_up[0][1].up.out_channels == 16


def test_heads_share_the_left_path() -> None:
    unet = CNNectomeUNetModule(1, 2, 2, [(2, 2)], num_fmaps_out=5, num_heads=3).eval()
    outputs = unet(torch.rand(2, 1, 20, 20))
    assert [tuple(output.shape) for output in outputs] == [(2, 5, 4, 4)] * 3
    assert not torch.equal(outputs[0], outputs[1])
    assert len(unet.l_conv) == 2
    assert len(unet.r_conv) == 3


@pytest.mark.parametrize("name", ["ReLU", "ELU", "LeakyReLU", "SiLU", "GELU", "PReLU", "Tanh"])
def test_any_activation_of_torch_by_name(name: str) -> None:
    unet = CNNectomeUNetModule(1, 1, 1, [(2, 2)], activation=name, batch_norm=False)
    assert isinstance(unet.l_conv[0].conv_pass[1], getattr(nn, name))
    assert unet(torch.rand(1, 1, 20, 20)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("name", ["Swoosh", "functional"])
def test_an_activation_that_torch_does_not_have(name: str) -> None:
    with pytest.raises(AttributeError, match=f"activation '{name}'"):
        ConvPass(1, 1, [(3, 3)], name)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ConvPass(1, 1, [(3,)], "ReLU"),
        lambda: Downsample((2,) * 4),
        lambda: Upsample((2,), in_channels=1, out_channels=1),
        lambda: Upsample((2,) * 4, "nearest", 1, 1),
        lambda: AttentionBlockModule(1, 1, 1, 4, (2,) * 4),
        lambda: CNNectomeUNetModule(1, 1, 1, [(2,) * 4]),
        lambda: CNNectomeUNetModule(1, 1, 1, [(2,)]),
    ],
)
def test_only_two_and_three_dimensions(build: Any) -> None:
    with pytest.raises(RuntimeError, match=r"[14]-D|only 2-D and 3-D"):
        build()


def test_downsampling_names_the_size_that_does_not_divide() -> None:
    with pytest.raises(RuntimeError, match="size 7 of axis 1 is not a multiple of 2"):
        Downsample((2, 2))(torch.rand(1, 1, 8, 7))


@pytest.mark.parametrize("missing", ["in_channels", "out_channels"])
def test_upsampling_needs_channels(missing: str) -> None:
    channels = {"in_channels": 1, "out_channels": 1, missing: None}
    with pytest.raises(AttributeError, match=missing):
        Upsample((2, 2), **channels)


def test_upsampling_crops_to_a_multiple_of_the_factor_before_the_convolutions() -> None:
    up = Upsample((2, 2), "nearest", 1, 1, crop_factor=(4, 4), next_conv_kernel_sizes=[(3, 3)] * 2)
    # n = floor((s - 4) / 4), s' = 4n + 4, begin floor((s - s') / 2).
    x = torch.arange(15 * 13.0).reshape(1, 1, 15, 13)
    cropped = up.crop_to_factor(x, (4, 4), [(3, 3), (3, 3)])
    assert torch.equal(cropped, x[:, :, 1:13, 0:12])
    assert up.crop_to_factor(cropped, (4, 4), [(3, 3), (3, 3)]) is cropped
    with pytest.raises(RuntimeError, match=r"\(7, 12\) is too small"):
        up.crop_to_factor(torch.rand(1, 1, 7, 12), (4, 4), [(3, 3), (3, 3)])
    with pytest.raises(RuntimeError, match="Can not crop"):
        up.crop(x, (16, 13))
    joined = up(torch.rand(1, 1, 7, 7), torch.rand(1, 2, 16, 16))
    assert joined.shape == (1, 3, 12, 12)


def test_crop_factor_and_kernels_go_together() -> None:
    with pytest.raises(AssertionError, match="must be given together"):
        Upsample((2, 2), "nearest", 1, 1, crop_factor=(2, 2))


def test_attention_pads_the_gating_signal_as_the_reference_does() -> None:
    attention = AttentionBlockModule(1, 1, 1, dims=2)
    assert attention.upsample_factor == (2, 2)
    padded = attention.calculate_and_apply_padding(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 5, 4))
    expected = torch.zeros(5, 4)
    # The odd one of missing zeros goes before, not after.
    expected[2:4, 1:4] = 1
    assert torch.equal(padded[0, 0], expected)
    gated = attention.eval()(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 8, 8))
    assert gated.shape == (1, 1, 8, 8)


def test_tensors_of_another_dimension_are_refused() -> None:
    with pytest.raises(RuntimeError, match="has 3 axes, the network is 2-D"):
        CNNectomeUNet(CONFIG)(torch.rand(1, 2, 20, 20, 20))


def test_a_network_without_levels_is_refused() -> None:
    with pytest.raises(RuntimeError, match="downsample_factors is empty"):
        CNNectomeUNet(replace(CONFIG, downsample_factors=[]))
