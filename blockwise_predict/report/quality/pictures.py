"""Slices of raw beside prediction, as inline PNG."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blockwise_predict.geometry.grid import Lengths

# Longest edge of what is shown of a block (voxels of the output), and of a picture (pixels).
MAX_VOXELS, MAX_PIXELS = 192, 320
# Colours of labels, of which 0 is black: distinct to people who do not see all colours (Okabe and
# Ito, https://jfly.uni-koeln.de/color, is where they are from).
LABELS = (
    *((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (153, 153, 153)),
)
_BARS_NM = tuple(base * 10**power for power in range(9) for base in (1, 2, 5))
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its size in pixels, what it shows, and the length of its scale
    bar."""

    uri: str
    width: int
    height: int
    alt: str
    bar: str


def grey(values: NDArray[np.generic], low: float, high: float) -> Rgb:
    """Values [y, x] from black at `low` to white at `high`."""
    return np.repeat(_scaled(values, low, high)[..., None], 3, axis=2)


def composite(values: NDArray[np.generic], low: float, high: float) -> Rgb:
    """The first three channels [c, y, x] as red, green and blue; two as red and green; one as
    grey."""
    if len(values) == 1:
        return grey(values[0], low, high)
    scaled = _scaled(values[:3], low, high)
    rgb = np.zeros((*scaled.shape[1:], 3), np.uint8)
    rgb[..., : len(scaled)] = np.moveaxis(scaled, 0, 2)
    return rgb


def coloured(labels: NDArray[np.generic]) -> Rgb:
    """Labels [y, x] in colours, which repeat."""
    numbers = labels.astype(np.int64)
    places = np.where(numbers == 0, 0, 1 + (numbers - 1) % (len(LABELS) - 1))
    return np.array(LABELS, np.uint8)[places]


def _scaled(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    numbers = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    share = (numbers - low) / (high - low) if high > low else np.zeros(numbers.shape)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), np.uint8)


def picture(pixels: Rgb, voxel_size: Lengths, alt: str) -> Picture:
    """A slice [y, x, RGB] with voxels of a size (nm; down, to the right), in proportion and with a
    scale bar."""
    lengths = [float(n * s) for n, s in zip(pixels.shape[:2], voxel_size, strict=True)]
    scale = MAX_PIXELS / max(lengths)
    height, width = (max(8, round(length * scale)) for length in lengths)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
    bar = _scale_bar(image, lengths[1])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/png;base64,{data}", width, height, alt, bar)


def _scale_bar(image: Image.Image, width_nm: float) -> str:
    """Draw a white bar of a round length, at most two fifths of the width; returns the length."""
    length = max((n for n in _BARS_NM if n <= 0.4 * width_nm), default=1)
    pixels = max(2, round(length / width_nm * image.width))
    left, bottom = 6, image.height - 6
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 1, bottom - 4, left + pixels + 1, bottom + 1), fill=(0, 0, 0))
    draw.rectangle((left, bottom - 3, left + pixels, bottom), fill=(255, 255, 255))
    return format_nm(length)


def format_nm(length: float) -> str:
    """`250 nm`, `1.5 µm` or `2 mm`."""
    for unit, size in (("mm", 1e6), ("µm", 1e3)):
        if length >= size:
            return f"{length / size:.3g} {unit}"
    return f"{length:.3g} nm"


def planes(dims: int, has_time: bool) -> list[tuple[int, int]]:
    """Pairs of spatial axes (down, to the right) that span a slice: one in 2-D, three in 3-D."""
    spatial = range(1 if has_time else 0, dims)
    pairs = list(itertools.combinations(spatial, 2))
    return pairs[::-1][:3] if len(pairs) > 1 else pairs


def centre_box(
    begin: Sequence[int], end: Sequence[int], plane: tuple[int, int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The middle of a box, at most MAX_VOXELS along the axes of a plane, and one voxel along the
    others."""
    lows, highs = [], []
    for axis, (low, high) in enumerate(zip(begin, end, strict=True)):
        size = min(high - low, MAX_VOXELS if axis in plane else 1)
        first = low + (high - low - size) // 2
        lows.append(first)
        highs.append(first + size)
    return tuple(lows), tuple(highs)
