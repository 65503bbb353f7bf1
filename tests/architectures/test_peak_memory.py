"""The predicted peak of memory against the tensors that a forward pass really keeps alive."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from hypothesis import assume, given
from torch.utils._python_dispatch import TorchDispatchMode

from blockwise_predict.architectures import CNNectomeUNetConfig
from blockwise_predict.architectures.trace import peak_elements
from tests.support.random_networks import SETTINGS, affordable, build, configurations


class LiveElements(TorchDispatchMode):
    """Counts the elements of all storages that a live tensor uses, and remembers the most."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.users: Counter[int] = Counter()
        self.live = self.peak = elements

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            storage = tensor.untyped_storage()
            elements = storage.nbytes() // tensor.element_size()
            self.live += 0 if self.users[storage._cdata] else elements
            self.users[storage._cdata] += 1
            weakref.finalize(tensor, self._drop, storage._cdata, elements)
        self.peak = max(self.peak, self.live)
        return result

    def _drop(self, storage: int, elements: int) -> None:
        self.users[storage] -= 1
        self.live -= 0 if self.users[storage] else elements


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
