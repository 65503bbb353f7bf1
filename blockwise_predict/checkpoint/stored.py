"""What a pickle of weights is read into: plain values that say where tensors are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Global:
    """A name of a module, of which nothing is imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Values in the file, by their key there; `count` of them, of torch's type `kind`."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the pickle claims it; nothing of it is checked. `dtype` only if it is its own."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class OtherTensor:
    """A tensor that is not stored as plain values: `kind` says what it is."""

    kind: str


class PlainWeights:
    """A pickled `dacapo.store.weights_store.Weights`, with its attributes by name."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}


class Other:
    """A value that weights do not need: a number of numpy, a device, ..."""
