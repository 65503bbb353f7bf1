"""One thread computes for all others."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from blockwise_predict.engine.compute_queue import ComputeQueue


class Held:
    """Something large that a failing computation has in memory."""


def served(turns: ComputeQueue, callers: ThreadPoolExecutor, work: list) -> list:
    """Futures of what callers do, with this thread serving their turns until all are done."""
    futures = [callers.submit(each) for each in work]
    turns.serve(lambda: not all(future.done() for future in futures))
    return futures


def test_the_serving_thread_does_all_work() -> None:
    with ThreadPoolExecutor(4) as callers:
        turns = ComputeQueue()
        futures = served(turns, callers, [lambda: turns(threading.get_ident)] * 20)
    assert {future.result() for future in futures} == {threading.get_ident()}


def test_what_fails_is_raised_where_it_was_asked_for() -> None:
    def fail() -> None:
        raise ValueError("a poisoned block")

    with ThreadPoolExecutor(2) as callers:
        turns = ComputeQueue()
        bad, good = served(turns, callers, [lambda: turns(fail), lambda: turns(lambda: 3)])
    assert good.result() == 3
    with pytest.raises(ValueError, match="a poisoned block"):
        bad.result()


def test_what_failed_does_not_keep_its_memory() -> None:
    """Else there would be none for the smaller tile that is tried next."""
    kept: list[weakref.ref] = []

    def fail() -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise MemoryError

    turns = ComputeQueue()

    def ask() -> bool:
        with contextlib.suppress(MemoryError):
            turns(fail)
        return kept[0]() is None

    gc.disable()
    try:
        with ThreadPoolExecutor(1) as callers:
            (asked,) = served(turns, callers, [ask])
        assert asked.result()
    finally:
        gc.enable()
