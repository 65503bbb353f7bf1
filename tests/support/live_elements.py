"""The tensors that a forward pass really keeps alive."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


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
