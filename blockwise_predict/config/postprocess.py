"""What is made of the network's values before they are stored, as in `--postprocess`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator

_MAX_FLOAT32 = (2 - 2**-23) * 2.0**127
_HOW = "write threshold:VALUE, for example threshold:0.5, or argmax"


@dataclass(frozen=True)
class Postprocess:
    """A decision on each voxel, of the network's values after its activation, in float32.

    threshold: 1 for each channel where its value is at least `threshold`, else 0; NaN is below.
    argmax: the index of the channel with the largest value, the lowest of several such; NaN is
    never the largest, and where all channels are NaN the index is 0.
    """

    kind: Literal["threshold", "argmax"]
    threshold: float = 0.0

    def dtype(self, channels: int) -> str:
        """The data type that the result for so many channels of the network is stored in."""
        return "uint16" if self.kind == "argmax" and channels > 256 else "uint8"

    def stored_channels(self, channels: int) -> int:
        """The number of channels that are stored for so many of the network."""
        return 1 if self.kind == "argmax" else channels

    def __str__(self) -> str:
        if self.kind == "argmax":
            return "argmax"
        short = f"{self.threshold:g}"
        return f"threshold:{short if float(short) == self.threshold else repr(self.threshold)}"


def parse_postprocess(text: str) -> Postprocess:
    """The decision that a text names. Raises ValueError, with how to write it, for others."""
    if text == "argmax":
        return Postprocess("argmax")
    kind, _, number = text.partition(":")
    if kind != "threshold":
        raise ValueError(_HOW)
    try:
        threshold = float(number)
    except ValueError:
        raise ValueError(_HOW) from None
    if not abs(threshold) <= _MAX_FLOAT32:
        raise ValueError("the threshold must be a finite float32")
    return Postprocess("threshold", threshold)


def checked_postprocess(value: object) -> str:
    """A text that names a decision, written in one way."""
    return str(parse_postprocess(str(value)))


PostprocessText = Annotated[str, BeforeValidator(checked_postprocess)]
