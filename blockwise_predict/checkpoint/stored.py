"""Plain values that stand for the objects in a pickle of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Global:
    """A dotted name in the pickle; nothing is imported for it."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A storage: `count` values of torch's storage class `kind`, found in the file by `key`."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as described by the pickle, unchecked; `dtype` is None if it is the storage's."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class UnsupportedTensor:
    """A tensor of a kind that is not stored as plain values; `kind` describes it."""

    kind: str


class PlainWeights:
    """Stands for a pickled `dacapo.store.weights_store.Weights`, with its attributes."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}


class Placeholder:
    """Stands for a value that weights do not need: a numpy scalar, a device, ..."""
