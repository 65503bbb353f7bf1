"""Verifying the downsampled levels of an output: each against the level below."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from math import prod

import numpy as np

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import OutputArray, open_output, reason_of
from blockwise_predict.io.downsampled import Level, delete_levels, listed_levels
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.pyramid import Box
from blockwise_predict.run.verification.findings import LevelFinding
from blockwise_predict.worker.level_block import compute_block

MAX_THREADS = 8


def verify_levels(
    plan: Plan, progress: Callable[[int, int], None], *, repair: bool
) -> tuple[LevelFinding, ...]:
    """What is found in each complete level of a plan's output.

    With `repair`, the levels of an array are removed if one of them is wrong.
    """
    findings = []
    for array in plan.output.arrays:
        below, found = open_output(array.path), []
        for location, level in listed_levels(array.path):
            above = open_output(location)
            found.append(_verify_level(below, above, level, progress))
            below = above
        findings += found
        if repair and any(finding.wrong for finding in found):
            delete_levels(array.path)
    return tuple(findings)


def _verify_level(
    below: OutputArray, above: OutputArray, level: Level, progress: Callable[[int, int], None]
) -> LevelFinding:
    blocks = sum(1 for _ in blocks_of(above))
    shape = tuple(-(-n // f) for n, f in zip(below.shape, level.factors, strict=True))
    if above.shape != shape or above.dtype != below.dtype:
        detail = f"it is {above.shape} {above.dtype}, but must be {shape} {below.dtype}"
        return LevelFinding(above.path, blocks, blocks, detail)
    problems: list[str] = []

    def check(box: Box) -> None:
        if (problem := _problem(below, above, box, level)) is not None:
            problems.append(f"voxels {box[0]} to {box[1]}: {problem}")

    _for_each_block(above, check, progress)
    return LevelFinding(above.path, blocks, len(problems), min(problems, default=""))


def _for_each_block(
    array: OutputArray, do: Callable[[Box], object], progress: Callable[[int, int], None]
) -> None:
    """Call `do` for the box of each chunk or shard of an array, in threads."""
    total = prod(-(-n // edge) for n, edge in zip(array.shape, array.write_shape, strict=True))
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        # In batches, since every queued block takes memory.
        blocks = blocks_of(array)
        while batch := list(islice(blocks, 4 * threads)):
            for _ in pool.map(do, batch):
                done += 1
                progress(done, total)


def blocks_of(array: OutputArray) -> Iterator[Box]:
    """The begin and end of each chunk or shard of an array, cut at the array's end."""
    ranges = [range(0, n, edge) for n, edge in zip(array.shape, array.write_shape, strict=True)]
    for begin in product(*ranges):
        ends = zip(begin, array.write_shape, array.shape, strict=True)
        yield begin, tuple(min(b + edge, n) for b, edge, n in ends)


def _problem(below: OutputArray, above: OutputArray, box: Box, level: Level) -> str | None:
    """What is wrong with a box of a level; None if nothing is."""
    if not above.is_stored(*box):
        return "a chunk is not stored"
    try:
        stored = above.read(*box)
        expected = compute_block(below, box, level.factors, level.method)
    except (ArrayError, ValueError) as error:
        return reason_of(error)
    if np.array_equal(stored, expected, equal_nan=stored.dtype.kind == "f"):
        return None
    return "other values than the level below has"
