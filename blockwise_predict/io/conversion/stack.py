"""What is converted: a stack of images, or a dataset, with what it says of its place."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from blockwise_predict.errors import ArrayError, shortened, shown
from blockwise_predict.io.adapters import Adapted
from blockwise_predict.io.statement import Axes, axes_from_names

_AXES = "tczyx"
_UNREADABLE = "Is it complete, and not being written to?"


@dataclass(frozen=True)
class Stack:
    """An array of another format: its voxels, the files they are in, and what was looked for."""

    array: Adapted
    files: tuple[str, ...]
    looked_for: str

    def fingerprint(self) -> str:
        """sha256 of the files' names, sizes and times of change."""
        states = [(file, os.stat(file)) for file in self.files]
        said = [(file, state.st_size, state.st_mtime_ns) for file, state in states]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def parse_axes(text: str) -> tuple[str, ...]:
    """The axes of `zyx` or `c,z,y,x`. Raises ArrayError for letters that are no axis."""
    names = tuple(text.replace(",", "").replace(" ", "").lower())
    if not {"y", "x"} <= set(names) <= set(_AXES) or len(set(names)) != len(names):
        raise ArrayError(
            f"--axes {shown(text)}: write one letter for each axis as it is stored, of "
            f"{', '.join(_AXES)}, for example zyx or czyx."
        )
    return names


def named_axes(path: str, names: Sequence[str], shape: Sequence[int]) -> Axes:
    """The axes by their names. Raises ArrayError unless each axis of the shape has one."""
    axes = axes_from_names(list(names), len(shape))
    if axes is None:
        sizes = " x ".join(map(str, shape))
        raise ArrayError(
            f"--axes {''.join(names)} names {len(names)} axes; {path} has {len(shape)} ({sizes})."
        )
    return axes


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what a library raises for a file that it cannot read into ArrayError."""
    try:
        yield
    except ArrayError:
        raise
    except Exception as error:
        said = shortened(str(error).strip() or type(error).__name__)
        text = f"cannot read {path}: {said.rstrip('.')}."
        raise ArrayError(f"{text} {_UNREADABLE}") from error


def in_natural_order(names: list[str]) -> list[str]:
    """Names sorted by the numbers in them: slice_2 before slice_10."""
    return sorted(names, key=lambda name: [_part(part) for part in re.split(r"(\d+)", name)])


def _part(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)
