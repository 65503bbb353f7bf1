"""Values on demand: newest first, computed once, dropped when nobody waits, kept for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blockwise_predict.view.demand import Abandon, Demand, Key, Values

VALUE_BYTES = 8


class Bench:
    """A computation that the test lets go on; `begun` are the keys of those that have begun."""

    def __init__(self) -> None:
        self.begun: list[Key] = []
        self.abandoned: list[Key] = []
        self._go = threading.Semaphore(0)

    def compute(self, key: Key, abandon: Abandon) -> Values:
        self.begun.append(key)
        self._go.acquire()
        try:
            abandon()
        except BaseException:
            self.abandoned.append(key)
            raise
        if key == (13,):
            raise ValueError("unlucky")
        return (np.full(VALUE_BYTES, key[0], np.uint8),)

    def let(self, count: int = 1) -> None:
        """Let so many computations end."""
        self._go.release(count)

    async def until_begun(self, count: int) -> None:
        """Wait until so many computations have begun."""
        while len(self.begun) < count:
            await asyncio.sleep(0.001)


def run(test: Callable[[Bench, Demand], Awaitable[None]], cache_bytes: int = 1000) -> None:
    async def main() -> None:
        bench = Bench()
        demand = Demand(bench.compute, cache_bytes, ThreadPoolExecutor(1))
        async with asyncio.timeout(60), demand.running():
            try:
                await test(bench, demand)
            finally:
                bench.let(100)

    asyncio.run(main())


def asked(demand: Demand, *numbers: int) -> list[asyncio.Task[Values]]:
    return [asyncio.create_task(demand.get((number,))) for number in numbers]


def test_the_newest_request_is_computed_first_and_each_once() -> None:
    async def test(bench: Bench, demand: Demand) -> None:
        tasks = asked(demand, 1)
        await bench.until_begun(1)
        tasks += asked(demand, 2, 3, 4, 2, 4)
        await asyncio.sleep(0)
        bench.let(4)
        found = await asyncio.gather(*tasks)
        # 2 was asked for again after 3, and 4 after that.
        assert bench.begun == [(1,), (4,), (2,), (3,)]
        assert [values[0][0] for values in found] == [1, 2, 3, 4, 2, 4]

    run(test)


def test_what_nobody_waits_for_is_not_begun() -> None:
    async def test(bench: Bench, demand: Demand) -> None:
        tasks = asked(demand, 1)
        await bench.until_begun(1)
        tasks += asked(demand, 2, 3, 3)
        await asyncio.sleep(0)
        # One of the two that wait for 3 still does.
        for task in tasks[1:3]:
            task.cancel()
        await asyncio.sleep(0)
        assert demand.status.waiting == 1
        bench.let(2)
        await asyncio.gather(tasks[0], tasks[3])
        assert bench.begun == [(1,), (3,)]

    run(test)


def test_what_is_being_computed_is_abandoned_and_can_be_asked_for_again() -> None:
    async def test(bench: Bench, demand: Demand) -> None:
        (task,) = asked(demand, 1)
        await bench.until_begun(1)
        task.cancel()
        await asyncio.sleep(0)
        again = asked(demand, 1)
        bench.let(2)
        values = (await asyncio.gather(*again))[0]
        assert values[0][0] == 1
        assert bench.abandoned == [(1,)]
        assert bench.begun == [(1,), (1,)]
        assert demand.status.error == ""

    run(test)


def test_the_most_recently_used_values_are_kept_within_bounds() -> None:
    async def test(bench: Bench, demand: Demand) -> None:
        bench.let(10)
        for number in (1, 2, 1, 3, 1, 2):
            await demand.get((number,))
        # 3 evicted 2, which was used before 1.
        assert bench.begun == [(1,), (2,), (3,), (2,)]
        assert demand.cached_bytes == 2 * VALUE_BYTES

    run(test, cache_bytes=2 * VALUE_BYTES)


def test_an_error_is_raised_where_one_waits_and_the_next_is_computed() -> None:
    async def test(bench: Bench, demand: Demand) -> None:
        bench.let(2)
        with pytest.raises(ValueError, match="unlucky"):
            await demand.get((13,))
        assert (await demand.get((1,)))[0][0] == 1
        assert demand.status.error == "unlucky"
        assert demand.status.last is not None

    run(test)
