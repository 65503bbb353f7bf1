"""Drawing with human units: lengths along an axis, text that is wrapped, colours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from math import ceil, floor, log10

from PIL import ImageFont

Rgb = tuple[int, int, int]

PAPER: Rgb = (255, 255, 255)
INK: Rgb = (28, 37, 48)
FAINT: Rgb = (106, 118, 132)
# Colours that people with any kind of colour vision tell apart (Okabe and Ito).
COMPUTED: Rgb = (0, 114, 178)
EDGE: Rgb = (0, 70, 120)
MASKED_OUT: Rgb = (213, 94, 0)
OUTSIDE: Rgb = (120, 120, 120)
ROI: Rgb = (230, 30, 60)
MASK: Rgb = (0, 190, 130)

# The font has no Greek letters.
_UNITS = ((1e6, "mm"), (1e3, "um"), (1.0, "nm"))


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that pillow brings along."""
    return ImageFont.load_default(size)


def unit_of(length_nm: float) -> tuple[float, str]:
    """The unit in which a length is shown, of so many nm, and its symbol."""
    return next(((size, name) for size, name in _UNITS if length_nm >= 2 * size), _UNITS[-1])


def round_steps(begin: float, end: float, most: int) -> list[float]:
    """Round numbers from `begin` to `end`, in equal steps of 1, 2 or 5, at most `most` of them."""
    if not end > begin or most < 1:
        return []
    least = (end - begin) / most
    decade = 10.0 ** floor(log10(least))
    step = next(f * decade for f in (1, 2, 5, 10) if f * decade >= least * 0.999)
    return [n * step for n in range(ceil(begin / step - 1e-9), floor(end / step + 1e-9) + 1)]


def wrapped(text: str, size: int, width: float) -> Iterator[str]:
    """The lines of a text in a font of a size, none wider than `width` pixels.

    A word that is wider, such as a path, is broken where it has to be.
    """
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font(size).getlength(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        *full, line = _broken(word, size, width)
        yield from full
    yield line


def _broken(word: str, size: int, width: float) -> list[str]:
    parts, begin = [], 0
    lengths = list(accumulate(font(size).getlength(character) for character in word))
    for end in range(1, len(word) + 1):
        before = lengths[begin - 1] if begin else 0.0
        if lengths[end - 1] - before > width and end - 1 > begin:
            parts.append(word[begin : end - 1])
            begin = end - 1
    return [*parts, word[begin:]]
