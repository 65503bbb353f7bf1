"""The cost of a pass per input voxel: memory, and arithmetic where torch can count it."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.checkpoint.probing.subject import Subject

_BYTES = 4


class _LiveElements(TorchDispatchMode):
    """Counts the largest number of values that are in memory at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, torch.Tensor):
                reference = StorageWeakRef(tensor.untyped_storage())
                self._live[reference.cdata] = (reference, tensor.untyped_storage().nbytes())
        self._live = {key: one for key, one in self._live.items() if not one[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()) // _BYTES)
        return result


def pass_cost(module: nn.Module, subject: Subject, shape: Shape) -> tuple[float, float | None]:
    """Values in memory at the peak, and arithmetic (None if unknown), per input voxel."""
    if not subject.takes_symbols:
        return _measured_elements(module, subject.channels, shape), None
    counter, live = FlopCounterMode(display=False), _LiveElements()
    with subject.shape_mode.on(), counter, live:
        module(torch.empty(1, subject.channels, *shape))
    return max(1.0, live.peak / prod(shape)), counter.get_total_flops() / prod(shape)


def _measured_elements(module: nn.Module, channels: int, shape: Shape) -> float:
    """Values in memory at the peak per input voxel, from the growth of this process."""
    # See clear_refs in proc(5).
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    module(torch.zeros(1, channels, *shape))
    return max(1.0, (_status("VmHWM") - before) / _BYTES / prod(shape))


def _status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024
