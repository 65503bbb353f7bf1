"""Decoded chunks that are kept, beside the same array read without them."""

from __future__ import annotations

import functools
import http.server
from collections import Counter
from itertools import product
from pathlib import Path
from typing import ClassVar

import pytest

from blockwise_predict.config.values import BadInput
from blockwise_predict.io import BadInputError, CheckedInput, DecodedChunks, GappedArray, open_input
from tests.support.arrays import PRECOMPUTED, ramp, write_array, write_precomputed
from tests.support.webserver import served_by

PLACE = {"voxel_size": [4, 4, 4], "axis_names": ["z", "y", "x"]}
SHAPE = (13, 9, 22)
CHUNK = 4**3
# Blocks of 6 voxels with a context of 2, in C order.
BLOCKS = [
    (
        tuple(max(0, 6 * place - 2) for place in places),
        tuple(min(size, 6 * place + 8) for place, size in zip(places, SHAPE, strict=True)),
    )
    for places in product(*(range(-(-size // 6)) for size in SHAPE))
]
Outcome = tuple[list[int], int, str] | str


def written(folder: Path, kind: str) -> Path:
    data = ramp(SHAPE) + 1
    if kind.startswith("precomputed"):
        return write_precomputed(folder, kind, data)
    return write_array(folder, kind, data, PLACE)


def outcome(array: GappedArray, rule: BadInput, number: int) -> Outcome:
    """The voxels of a block, and what is reported of its chunks."""
    source = CheckedInput(array, rule)
    try:
        return source.read(*BLOCKS[number]).ravel().tolist(), source.filled, source.note
    except BadInputError as error:
        return str(error)


def sometimes(number: int, chunk: tuple[int, ...]) -> bool:
    return hash((number // 3, *chunk)) % 3 > 0


@pytest.mark.parametrize("limit", [20 * CHUNK, 10**6])
@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "zarr3-sharded", "n5", *PRECOMPUTED])
def test_blocks_and_reports_are_the_same(tmp_path: Path, kind: str, limit: int) -> None:
    path = written(tmp_path, kind)
    if "sharded" not in kind:
        # One of these chunks is missing, the other damaged.
        chunks = sorted(file for file in path.rglob("*[0-9]") if file.is_file())
        chunks[7].unlink()
        chunks[30].write_bytes(b"damaged")
    rules: list[BadInput] = ["fill-missing", "fill", "fail", "skip"]
    for rule in rules:
        plain, array = open_input(path), DecodedChunks(open_input(path), limit)
        for number in range(len(BLOCKS)):
            with array.reading(functools.partial(sometimes, number)) as kept:
                assert outcome(kept, rule, number) == outcome(plain, rule, number)
            assert sum(chunk.nbytes for chunk in array._kept.values()) <= limit


class _Counting(http.server.SimpleHTTPRequestHandler):
    requested: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.requested[self.path] += 1
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_chunks_on_the_web_are_requested_once(tmp_path: Path) -> None:
    """To see whether a chunk is stored means to read it, and only some are in the cache."""
    path = written(tmp_path, "zarr3")
    chunks = [f"/{file.relative_to(tmp_path)}" for file in path.glob("c/**/*") if file.is_file()]
    with served_by(functools.partial(_Counting, directory=str(tmp_path))) as site:
        array = open_input(f"{site}/{path.relative_to(tmp_path)}", cache_bytes=27 * 1024)
        kept = DecodedChunks(array, 10**6)
        for begin, end in BLOCKS:
            with kept.reading(lambda _: True) as source:
                CheckedInput(source, "fail").read(begin, end)
    assert {_Counting.requested[chunk] for chunk in chunks} == {1}
