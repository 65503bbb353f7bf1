"""A U-Net with several expanding paths: its costs, and its outputs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blockwise_predict.architectures import (
    CNNectomeUNet,
    CNNectomeUNetConfig,
    OutputActivations,
    UNetShapes,
)
from blockwise_predict.architectures.trace import flops, peak_elements
from tests.support.live_elements import LiveElements


@pytest.mark.parametrize("use_attention", [False, True])
@pytest.mark.parametrize("num_heads", [2, 3])
def test_costs_are_those_of_a_forward_pass(num_heads: int, use_attention: bool) -> None:
    config = CNNectomeUNetConfig(
        name="heads",
        input_shape=(44, 44),
        fmaps_in=1,
        fmaps_out=9,
        num_fmaps=2,
        fmap_inc_factor=2,
        downsample_factors=[(2, 2), (2, 2)],
        use_attention=use_attention,
        num_heads=num_heads,
    )
    shapes = UNetShapes.from_config(config)
    shape = shapes.valid_input_shape((80, 80), "up")
    with torch.device("meta"):
        model = CNNectomeUNet(config).eval()
        x = torch.empty((1, 1, *shape))
    with torch.no_grad(), LiveElements(x.numel()) as measured:
        outputs = model(x)
    assert [tuple(output.shape[2:]) for output in outputs] == [
        shapes.output_shape(shape)
    ] * num_heads
    assert peak_elements(shapes, shape) == measured.peak
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert flops(shapes, shape) == counter.get_total_flops()


def test_each_output_has_its_activation() -> None:
    values = torch.linspace(-2, 2, 24).reshape(1, 4, 2, 3)
    activations = OutputActivations([(1, "Sigmoid"), (2, None), (1, "Tanh")])
    expected = torch.cat([values[:, :1].sigmoid(), values[:, 1:3], values[:, 3:].tanh()], 1)
    torch.testing.assert_close(activations(values), expected)
    last = activations(values.movedim(1, -1), channel_axis=-1)
    torch.testing.assert_close(last.movedim(-1, 1), expected)
