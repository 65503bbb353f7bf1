"""Values that are computed when they are asked for: newest first, once, and kept for a while."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

Key = tuple[int, ...]
Values = tuple[NDArray[np.generic], ...]

# How many of the last durations count for the median.
_REMEMBERED = 50


class Abandoned(BaseException):
    """Raised within a computation whose result nobody waits for any more.

    Not an Exception, so that it is not taken for an error of what it passes through.
    """


Abandon = Callable[[], None]
"""Raises Abandoned if nobody waits for the result any more; called during a computation."""
Compute = Callable[[Key, Abandon], Values]


@dataclass(eq=False)
class _Job:
    key: Key
    future: asyncio.Future[Values]
    waiters: int = 0
    begun: bool = False
    abandoned: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise Abandoned if nobody waits any more."""
        if self.abandoned.is_set():
            raise Abandoned


@dataclass(frozen=True)
class DemandStatus:
    """Numbers of values that wait, and that are being computed, and durations in seconds.

    `error` is the last one.
    """

    waiting: int
    computing: int
    last: float | None
    median: float | None
    error: str


class Demand:
    """Computes values on a `thread`, on demand.

    The newest request is computed first. Several requests for one value wait for the same
    computation. One that nobody waits for any more is dropped, or abandoned if it has begun. The
    most recently used values are kept, up to `cache_bytes`. Its methods are for one event loop.
    """

    def __init__(self, compute: Compute, cache_bytes: int, thread: ThreadPoolExecutor) -> None:
        self._compute = compute
        self._thread = thread
        self._cache: OrderedDict[Key, Values] = OrderedDict()
        self._room = cache_bytes
        self._jobs: dict[Key, _Job] = {}
        self._waiting: list[_Job] = []
        self._wanted = asyncio.Event()
        self._computing = 0
        # Replaced as a whole, since other threads read it.
        self._durations: tuple[float, ...] = ()
        self._error = ""

    @property
    def status(self) -> DemandStatus:
        """What it does now; may be read on any thread."""
        durations = self._durations
        return DemandStatus(
            waiting=len(self._waiting),
            computing=self._computing,
            last=durations[-1] if durations else None,
            median=median(durations) if durations else None,
            error=self._error,
        )

    async def get(self, key: Key) -> Values:
        """The values of a key. Raises what computing them raises.

        If this is cancelled, and nobody else waits for them, they are not computed.
        """
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(key, asyncio.get_running_loop().create_future())
        if not job.begun:
            self._put_first(job)
        job.waiters += 1
        try:
            return await asyncio.shield(job.future)
        finally:
            job.waiters -= 1
            if not job.waiters and not job.future.done():
                self._drop(job)

    def _put_first(self, job: _Job) -> None:
        with suppress(ValueError):
            self._waiting.remove(job)
        self._waiting.append(job)
        self._wanted.set()

    def _drop(self, job: _Job) -> None:
        """Forget a job that nobody waits for."""
        job.abandoned.set()
        del self._jobs[job.key]
        if not job.begun:
            self._waiting.remove(job)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Compute what is asked for; what is being computed at the end is abandoned."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            for job in self._jobs.values():
                job.abandoned.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            job = self._waiting.pop()
            job.begun = True
            self._computing = 1
            began = time.perf_counter()
            try:
                found = await loop.run_in_executor(self._thread, self._compute, job.key, job.check)
            except Abandoned:
                continue
            except Exception as error:  # noqa: BLE001  raised in what waits for it
                self._error = str(error)
                self._finish(job, error=error)
            else:
                lasted = time.perf_counter() - began
                self._durations = (*self._durations, lasted)[-_REMEMBERED:]
                self._keep(job.key, found)
                self._finish(job, found)
            finally:
                self._computing = 0

    def _finish(
        self, job: _Job, found: Values | None = None, error: Exception | None = None
    ) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
        if error is not None:
            job.future.set_exception(error)
            # Nobody may wait for it any more.
            job.future.exception()
        elif found is not None:
            job.future.set_result(found)

    def _keep(self, key: Key, found: Values) -> None:
        """Keep values, and evict those that were used longest ago."""
        self._cache[key] = found
        while len(self._cache) > 1 and self.cached_bytes > self._room:
            self._cache.popitem(last=False)

    @property
    def cached_bytes(self) -> int:
        """Bytes of the values that are kept."""
        return sum(array.nbytes for values in self._cache.values() for array in values)
