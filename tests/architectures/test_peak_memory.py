"""The predicted peak of memory against the tensors that a forward pass really keeps alive."""

from __future__ import annotations

import torch
from hypothesis import assume, given

from blockwise_predict.architectures import CNNectomeUNetConfig
from blockwise_predict.architectures.trace import peak_elements
from tests.support.live_elements import LiveElements
from tests.support.random_networks import SETTINGS, affordable, build, configurations


@SETTINGS
@given(configurations())
def test_peak_elements_is_what_a_forward_pass_keeps_alive(config: CNNectomeUNetConfig) -> None:
    model, shapes = build(config, 1)
    shape = shapes.valid_input_shape([s + 20 for s in shapes.min_input_shape], "up")
    assume(affordable(shape))
    x = torch.empty((1, config.fmaps_in, *shape), device="meta")
    with torch.no_grad(), LiveElements(x.numel()) as measured:
        model(x)
    # Batch norm returns its statistics, too: a few values per channel, not per voxel.
    slack = 100 if config.batch_norm else 0
    assert 0 <= measured.peak - peak_elements(shapes, shape) <= slack
