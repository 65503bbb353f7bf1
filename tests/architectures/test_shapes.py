"""Shape arithmetic against real forward passes of random networks."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes
from blockwise_predict.architectures.trace import flops, peak_elements, trace
from tests.support.random_networks import SETTINGS, affordable, build, configurations


def forward(model: nn.Module, config: CNNectomeUNetConfig, shape: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.empty((1, config.fmaps_in, *shape), device="meta"))


@SETTINGS
@given(configurations(), st.sampled_from((1, 3)), st.lists(st.integers(0, 3), min_size=3))
def test_output_shape_context_and_scale_are_those_of_a_forward_pass(
    config: CNNectomeUNetConfig, kernel_size: int, periods: list[int]
) -> None:
    model, shapes = build(config, kernel_size)
    shape = tuple(
        smallest + n * period
        for smallest, n, period in zip(shapes.min_input_shape, periods, shapes.period, strict=False)
    )
    assume(affordable(shape))
    output = tuple(forward(model, config, shape).shape[2:])
    assert output == shapes.output_shape(shape)
    assert shapes.context == tuple(
        size * scale - out for size, scale, out in zip(shape, shapes.scale, output, strict=True)
    )


@SETTINGS
@given(configurations(), st.data())
def test_the_arithmetic_accepts_exactly_what_the_network_accepts(
    config: CNNectomeUNetConfig, data: st.DataObject
) -> None:
    model, shapes = build(config, 1)
    # The network's own check is this arithmetic; without it, torch and the layers decide.
    unchecked = model.unet[0] if config.upsample_factors else model.unet
    unchecked.forward = lambda x: unchecked.rec_forward(unchecked.num_levels - 1, x)[0]
    axis = data.draw(st.integers(0, shapes.dims - 1))
    smallest, period = shapes.min_input_shape[axis], shapes.period[axis]
    shape = list(shapes.min_input_shape)
    shape[axis] = data.draw(st.integers(max(1, smallest - 2 * period), smallest + 2 * period))
    assume(affordable(tuple(shape)))
    valid = shape[axis] >= smallest and (shape[axis] - smallest) % period == 0
    try:
        output = forward(model, config, tuple(shape))
    except RuntimeError:
        assert not valid
        with pytest.raises(RuntimeError, match=f"size {shape[axis]} of axis {axis}"):
            shapes.output_shape(shape)
        return
    assert valid, f"{config} takes {shape}"
    assert output.numel() > 0


@SETTINGS
@given(configurations(), st.lists(st.integers(1, 300), min_size=3))
def test_valid_shapes_near_a_wish(config: CNNectomeUNetConfig, wish: list[int]) -> None:
    shapes = UNetShapes.from_config(config)
    wish = wish[: shapes.dims]
    shapes.output_shape(shapes.min_input_shape)
    down, up, near = (shapes.valid_input_shape(wish, how) for how in ("down", "up", "nearest"))
    for axis, smallest in enumerate(shapes.min_input_shape):
        wanted, period = wish[axis], shapes.period[axis]
        for size in (down[axis], up[axis], near[axis]):
            assert size >= smallest
            assert (size - smallest) % period == 0
        if wanted >= smallest:
            assert wanted - period < down[axis] <= wanted <= up[axis] < wanted + period
        else:
            assert down[axis] == up[axis] == smallest
        distances = [abs(size[axis] - wanted) for size in (near, down, up)]
        assert distances[0] == min(distances)


@SETTINGS
@given(configurations())
def test_trace_names_shapes_and_flops_are_those_of_a_forward_pass(
    config: CNNectomeUNetConfig,
) -> None:
    model, shapes = build(config, 3)
    shape = shapes.valid_input_shape([s + 3 for s in shapes.min_input_shape], "up")
    assume(affordable(shape))
    seen: list[tuple[Any, ...]] = []

    def record(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            if not list(module.children()):
                before, after = tuple(args[0].shape), tuple(out.shape)
                seen.append((name, before[1], after[1], before[2:], after[2:]))

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(record(name))
    with FlopCounterMode(display=False) as counter:
        forward(model, config, shape)
    traced = [
        (layer.name, layer.in_channels, layer.out_channels, layer.in_shape, layer.out_shape)
        for layer in trace(shapes, shape)
        if layer.kind not in ("concat", "pad", "gate")
    ]
    assert traced == seen
    assert flops(shapes, shape) == counter.get_total_flops()


def test_peak_of_a_network_small_enough_to_count_by_hand() -> None:
    config = CNNectomeUNetConfig(
        "by hand", (10, 10), 1, 1, 2, 2, [[2, 2]], [[(3, 3)], [(1, 1)]], [[(3, 3)]]
    )
    shapes = UNetShapes.from_config(config)
    # 10 -> 8 (2 channels) -> 4 (4 channels) -> 8 (4) -> 8 (2 + 4) -> 6 (1).
    held = {layer.name: layer.live_elements for layer in trace(shapes, (10, 10))}
    raw, left, below, repeated, joined = 100, 128, 64, 256, 384
    assert held["unet.l_conv.0.conv_pass.0"] == raw + left
    assert held["unet.r_up.0.0.up.0"] == raw + left + below + repeated
    assert held["unet.r_up.0.0"] == raw + left + below + repeated + joined
    assert peak_elements(shapes, (10, 10)) == raw + left + below + repeated + joined


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"downsample_factors": [[2, 2], [2, 2]]},
        {"downsample_factors": [[3, 2]]},
        {"kernel_size_down": [[[5, 1]], [[3, 3]]], "kernel_size_up": [[[1, 3], [3, 5]]]},
        {"upsample_factors": [[2, 3]]},
        {"constant_upsample": False},
    ],
)
@pytest.mark.parametrize("head", [1, 3])
def test_same_paddings_zeros_reach_the_margin_and_no_further(
    changes: dict[str, Any], head: int
) -> None:
    settings_ = {"downsample_factors": [[2, 2]], **changes}
    config = CNNectomeUNetConfig("same", (1, 1), 1, 1, 2, 2, padding="same", **settings_)
    torch.manual_seed(0)
    model = nn.Sequential(CNNectomeUNet(config), nn.Conv2d(1, 1, head)).double().eval()
    for parameter in model.parameters():
        # All positive, so that no ReLU is silent and whatever reaches a voxel changes it.
        parameter.data.uniform_(0.1, 1)
    shapes = UNetShapes.from_config(config, (head, head))
    assert not shapes.equivariant
    low = [context // 2 for context in shapes.context]
    margin, scale = shapes.receptive_margin, shapes.scale
    tile = shapes.valid_input_shape(
        [2 * m + 4 * p for m, p in zip(margin, shapes.period, strict=True)], "up"
    )
    around = [(m // p + 2) * p for m, p in zip(margin, shapes.period, strict=True)]
    large = shapes.valid_input_shape([t + 2 * a for t, a in zip(tile, around, strict=True)], "up")
    volume = torch.from_numpy(np.random.default_rng(0).random((1, 1, *large)))
    with torch.inference_mode():
        whole = model(volume)[0, 0].numpy()
        part = volume[:, :, *(slice(a, a + t) for a, t in zip(around, tile, strict=True))]
        alone = model(part)[0, 0].numpy()
    matching = whole[
        tuple(slice(a * s, a * s + n) for a, s, n in zip(around, scale, alone.shape, strict=True))
    ]
    differs = ~np.isclose(alone, matching, rtol=1e-12, atol=0)
    for axis in range(2):
        lost_low, lost_high = low[axis], shapes.context[axis] - low[axis]
        inner = slice(margin[1 - axis], alone.shape[1 - axis] - margin[1 - axis])
        along = differs.take(range(*inner.indices(10**6)[:2]), axis=1 - axis).any(axis=1 - axis)
        reached_low = int(np.flatnonzero(along[: len(along) // 2]).max(initial=-1)) + 1 + lost_low
        reached_high = int(np.flatnonzero(along[::-1][: len(along) // 2]).max(initial=-1)) + 1
        assert max(reached_low, reached_high + lost_high) <= margin[axis]
        # Pooling takes a maximum, so not every voxel that the zeros could reach must change.
        assert max(reached_low, reached_high + lost_high) > margin[axis] / 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"downsample_factors": [[2, 3], [3, 2]]},
        {"kernel_size_down": [[[2, 3]], [[4, 1]]], "kernel_size_up": [[[2, 2], [3, 1]]]},
        {"upsample_factors": [[2, 3]]},
    ],
)
def test_valid_networks_are_equivariant_to_the_period(changes: dict[str, Any]) -> None:
    config = CNNectomeUNetConfig(
        "valid", (1, 1), 2, 1, 2, 2, **{"downsample_factors": [[2, 2]], **changes}
    )
    torch.manual_seed(0)
    model = CNNectomeUNet(config).double().eval()
    shapes = UNetShapes.from_config(config)
    assert shapes.equivariant
    assert shapes.receptive_margin == (0, 0)
    small = shapes.min_input_shape
    large = [s + 2 * p for s, p in zip(small, shapes.period, strict=True)]
    volume = torch.rand((1, 1, *large), dtype=torch.float64)
    with torch.inference_mode():
        whole = model(volume)
        for shift in product(range(3), repeat=2):
            begin = [n * p for n, p in zip(shift, shapes.period, strict=True)]
            part = model(
                volume[:, :, *(slice(b, b + s) for b, s in zip(begin, small, strict=True))]
            )
            at = [
                slice(b * u, b * u + n)
                for b, u, n in zip(begin, shapes.scale, part.shape[2:], strict=True)
            ]
            torch.testing.assert_close(part, whole[:, :, *at], rtol=1e-12, atol=1e-12)


@example(size=45, level="level 0", near="44 and 48")
@example(size=12, level="level", near="44")
@given(st.just(43), st.just("level 0"), st.just("44"))
def test_messages_name_size_level_and_what_works(size: int, level: str, near: str) -> None:
    config = CNNectomeUNetConfig("default", (44,) * 3, 1, 1, 1, 1, [[2, 2, 2], [2, 2, 2]])
    shapes = UNetShapes.from_config(config)
    with pytest.raises(RuntimeError) as caught:
        shapes.output_shape((44, size, 44))
    message = str(caught.value)
    assert f"size {size} of axis 1" in message
    assert level in message
    assert f"Nearest that work: {near} " in message
    model = CNNectomeUNet(config)
    with pytest.raises(RuntimeError) as from_network:
        model(torch.zeros(1, 1, 44, size, 44))
    assert str(from_network.value) == message


def test_even_kernels_with_same_padding_that_can_never_work_say_so() -> None:
    config = CNNectomeUNetConfig(
        "even", (8, 8), 1, 1, 1, 1, [[2, 2]], [[(2, 2)] * 2, [(2, 2)] * 2], padding="same"
    )
    with pytest.raises(RuntimeError, match=r"no input size works.*level 0.*odd kernel sizes"):
        UNetShapes.from_config(config).output_shape((8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size_down": [[[3, 3]]]}, "kernel_size_down has 1 levels, the network needs 2"),
        ({"kernel_size_up": [[[3, 3, 3]]]}, r"kernel_size_up has \(3, 3, 3\)"),
        ({"downsample_factors": [[2]]}, "only 2-D and 3-D"),
        ({"padding": "reflect"}, "padding is 'reflect'"),
    ],
)
def test_layers_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    config = CNNectomeUNetConfig(
        "wrong", (8, 8), 1, 1, 1, 1, **{"downsample_factors": [[2, 2]], **changes}
    )
    with pytest.raises(RuntimeError, match=message):
        UNetShapes.from_config(config)
