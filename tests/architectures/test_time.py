"""Networks with a time axis equal a direct sum over (t, z, y, x), and drop time as documented."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.architectures import (
    CNNectomeUNet,
    CNNectomeUNetConfig,
    CNNectomeUNetModule,
    ConvPass,
    UNetShapes,
)
from blockwise_predict.architectures.frames import Conv4d
from blockwise_predict.architectures.trace import flops
from tests.support.networks import TINY_3D
from tests.support.time_networks import (
    TIME_NETWORKS,
    convolved,
    direct_sum,
    time_config,
    time_network,
)


def with_frames(x: torch.Tensor) -> np.ndarray:
    """`[K, T, z, y, x]` of an output that may have dropped time."""
    return (x[0] if x.dim() == 6 else x[0][:, None]).detach().numpy()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(1, 3)] * 4), min_size=1, max_size=2),
    st.integers(0, 3),
    st.integers(1, 2),
    st.integers(1, 2),
)
def test_convolutions_in_time_equal_a_direct_sum(
    kernels: list[tuple[int, ...]], more: int, channels: int, batch: int
) -> None:
    torch.manual_seed(0)
    layers = ConvPass(channels, 2, kernels, None, batch_norm=False).double()
    size = [sum(k[axis] - 1 for k in kernels) + 1 for axis in range(4)]
    x = torch.randn(batch, channels, size[0] + more, *(n + 1 for n in size[1:])).double()
    result = layers(x)
    assert (result.dim() == 6) == (size[0] + more > sum(k[0] - 1 for k in kernels) + 1)
    for item in range(batch):
        expected = x[item].numpy()
        for layer in layers.conv_pass:
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            expected = convolved(expected, weight, bias)
        actual = with_frames(result[item : item + 1])
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TIME_NETWORKS)
def test_networks_with_time_equal_a_direct_sum(name: str) -> None:
    network, shapes = time_network(time_config(name))
    network = network.double()
    shape = shapes.valid_input_shape((time_config(name).input_shape[0], *shapes.period[1:]), "up")
    x = torch.rand(1, 1, *shape, dtype=torch.float64)
    output = network(x)
    expected = direct_sum(network, x[0].numpy())
    assert expected.shape[1:] == shapes.output_shape(shape)
    assert (output.dim() == 5) == name.startswith("time dropped")
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(with_frames(output), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TIME_NETWORKS)
def test_valid_lengths(name: str) -> None:
    config = time_config(name)
    network, shapes = time_network(config)
    assert shapes.dims == 4
    assert (shapes.period[0], shapes.scale[0]) == (1, 1)
    trained = config.input_shape[0]
    space = shapes.min_input_shape[1:]
    if name.startswith("time dropped"):
        assert shapes.time_dropped
        assert shapes.context[0] == trained - 1
        for wanted in (1, trained, trained + 5):
            assert shapes.valid_input_shape((wanted, *space)) == (trained, *space)
        with pytest.raises(RuntimeError, match=r"size of training only\. Nearest valid sizes: "):
            shapes.output_shape((trained + 1, *space))
    else:
        more = shapes.output_shape((trained + 3, *space))
        assert more[0] == trained + 3 - shapes.context[0]
        assert network(torch.rand(1, 1, trained + 3, *space)).shape[2:] == more


def test_the_frames_of_a_longer_input_are_those_of_shorter_ones() -> None:
    network, shapes = time_network(time_config("time kept"))
    x = torch.rand(1, 1, 11, *shapes.min_input_shape[1:])
    frames = shapes.min_input_shape[0]
    with torch.inference_mode():
        whole = network(x)[0]
        for begin in (0, 11 - frames):
            part = network(x[:, :, begin : begin + frames])
            torch.testing.assert_close(part[0], whole[:, begin])


def test_kernels_act_in_time_until_one_frame_is_left() -> None:
    # DaCapo's default kernels: two of (3, 3, 3, 3) for each level.
    config = CNNectomeUNetConfig(name="default", **{**TINY_3D, "input_shape": [5, 20, 20, 20]})
    unet = CNNectomeUNet(config).unet
    acting = [tuple(w.shape[2:]) for name, w in unet.named_parameters() if w.dim() > 2]
    assert acting[:2] == [(3, 3, 3, 3)] * 2
    assert all(len(kernel) == 3 for kernel in acting[2:])
    assert unet.dims == 4
    assert unet(torch.rand(1, 1, 5, 20, 20, 20)).dim() == 5


def test_the_layout_of_a_convolution_in_time() -> None:
    layer = Conv4d(2, 5, (4, 1, 2, 3))
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {"weight": (5, 2, 4, 1, 2, 3), "bias": (5,)}


def test_arithmetic_counts_time() -> None:
    shapes = UNetShapes.from_config(time_config("time dropped at once"))
    without = UNetShapes.from_config(
        CNNectomeUNetConfig(name="3-D", **{**TINY_3D, "input_shape": [20, 20, 20]})
    )
    first = 2 * 2 * 27 * 18**3  # multiply-adds of one tap in time of the first convolution
    assert flops(shapes, (3, 20, 20, 20)) - flops(without, (20, 20, 20)) == 2 * first


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"padding": "same"}, "padding 'same' is not implemented for networks with a time axis"),
        ({"use_attention": True}, "attention is not implemented"),
        ({"upsample_factors": [[2, 2, 2]]}, "super-resolution is not implemented"),
        ({"input_shape": [4, 20, 20, 20]}, "acts on 3 frames, but 2 are left"),
        ({"input_shape": [1, 20, 20, 20]}, "time axis of one frame"),
        (
            {"kernel_size_down": [[(3, 3, 3)]] * 2, "kernel_size_up": [[(3, 3, 3)]]},
            "no kernel has four components",
        ),
        ({"input_shape": [20] * 3, "kernel_size_up": [[(3, 3, 3, 3)]]}, "input_shape has 3 axes"),
        ({"downsample_factors": [[1, 2, 2, 2]]}, "downsample_factors has 4 axes"),
    ],
)
def test_what_is_not_possible_with_time_is_refused(kwargs: dict, problem: str) -> None:
    settings = {**TINY_3D, "input_shape": [3, 20, 20, 20], **kwargs}
    config = CNNectomeUNetConfig(name="refused", **settings)
    for make in (CNNectomeUNet, UNetShapes.from_config):
        with pytest.raises(RuntimeError, match=problem):
            make(config)


def test_a_kernel_that_meets_too_few_frames_says_so() -> None:
    module = CNNectomeUNetModule(1, 1, 1, [(2, 2, 2)], [[(3, 3, 3, 3)]] * 2, [[(3, 3, 3, 3)]])
    with pytest.raises(RuntimeError, match="size 3 of axis 0 is not valid, level 1 gets 1"):
        module(torch.rand(1, 1, 3, 12, 12, 12))
    layer = Conv4d(1, 1, (3, 3, 3, 3))
    with pytest.raises(RuntimeError, match=r"1 frames with kernel .*: it acts on 3"):
        layer(torch.rand(1, 1, 5, 5, 5))
