"""Detecting that an input array has changed."""

from __future__ import annotations

import hashlib
from math import prod

from blockwise_predict.io.interface import BlockSource
from blockwise_predict.io.resampled import stored_array

# Maximum size of the sample, and the number of chunks in it.
_SAMPLE_BYTES = 32 << 20
_PLACES = 8
# Larger chunks are not sampled: decoding one takes as much memory.
_MAX_CHUNK_BYTES = 512 << 20


def sample_digests(array: BlockSource) -> dict[str, str]:
    """For a few stored chunks of an array, by their first voxel, the sha256 of their content.

    Chunks that are missing or cannot be read are left out: they may be repaired later.
    """
    array = stored_array(array)
    chunk_bytes = prod(array.chunk_shape) * array.dtype.itemsize * (array.channels or 1)
    if chunk_bytes > _MAX_CHUNK_BYTES:
        return {}
    places = max(1, min(_PLACES, _SAMPLE_BYTES // chunk_bytes))
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, array.chunk_shape, strict=True)]
    # Evenly along the array's diagonal, at the middle of each section, without repetitions.
    indices = [
        tuple(count * (2 * place + 1) // (2 * places) for count in counts)
        for place in range(places)
    ]
    digests = {}
    for index in dict.fromkeys(indices):
        begin = tuple(i * chunk for i, chunk in zip(index, array.chunk_shape, strict=True))
        end = tuple(
            min(b + chunk, size)
            for b, chunk, size in zip(begin, array.chunk_shape, array.shape, strict=True)
        )
        if not array.is_stored(begin, end):
            continue
        try:
            data = array.read(begin, end)
        except ValueError:
            continue
        digests[",".join(map(str, begin))] = hashlib.sha256(data.tobytes()).hexdigest()
    return digests


def changed_places(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Where two samples of an array differ: the first voxels of the chunks."""
    return [place for place in before if now.get(place, before[place]) != before[place]]
