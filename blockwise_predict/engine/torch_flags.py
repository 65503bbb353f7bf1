"""The process-wide torch flags that a pass depends on, set only while it computes.

The process may be a user's own, a notebook for example. Its flags must neither change what a pass
computes nor be changed by it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")
# Type hints of torch.backends lack some of its attributes.
_BACKENDS: Any = torch.backends


@contextmanager
def pass_flags(precision: str, device: torch.device) -> Iterator[None]:
    """Set the flags for passes in `precision` on a device, and restore all of them afterwards.

    Products of float32 are computed as such, unless `precision` is tfloat32. On a GPU, cuDNN picks
    its algorithm by trying several: shapes are few, and each occurs many times.
    """
    wanted = _float32_flags(precision, device)
    if device.type == "cuda":
        wanted.append((_BACKENDS.cudnn, "benchmark", True))
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    try:
        for module, name, value in wanted:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _float32_flags(precision: str, device: torch.device) -> list[tuple[Any, str, Any]]:
    """Module, name and value of the flags that let a backend round the factors of products."""
    tf32 = precision == "tfloat32"
    # torch 2.9 replaced `allow_tf32`, and reading that raises where `fp32_precision` has been set.
    if hasattr(_BACKENDS.cudnn, "conv"):
        modules: list[Any] = [_BACKENDS.mkldnn.conv]
        if device.type == "cuda":
            modules = [_BACKENDS.cudnn.conv, _BACKENDS.cuda.matmul]
        return [(module, "fp32_precision", "tf32" if tf32 else "ieee") for module in modules]
    if device.type == "cuda":
        return [(module, "allow_tf32", tf32) for module in (_BACKENDS.cudnn, _BACKENDS.cuda.matmul)]
    return []


def run_under(
    context: Callable[[], AbstractContextManager[None]], steps: Generator[T]
) -> Generator[T]:
    """Run a generator with each step inside `context()`, and its consumer outside of it."""
    with closing(steps):
        while True:
            with context():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
            del step  # so that it is not in memory while the next one is computed
