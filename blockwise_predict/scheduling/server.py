"""The thread that serves the workers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from aiohttp.http import HttpProcessingError

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.scheduling.dispatcher import Dispatcher
from blockwise_predict.scheduling.status import Status
from blockwise_predict.scheduling.transport.gate import Gate
from blockwise_predict.scheduling.transport.sockets import allow_many_connections, listen
from blockwise_predict.scheduling.transport.tls import make_key, server_context
from blockwise_predict.scheduling.worker_server import WorkerServer

# Maximum number of things that asyncio stumbled over that are recorded.
MAX_ODDITIES = 100
# Seconds to wait for the serving thread's answer.
ANSWER_S = 1.0
# Seconds for workers that have been told to end to say good-bye.
PARTING_S = 0.5


class Server:
    """Serves one run's workers, from the first to the last number, until it is closed.

    It listens on `host` and `port` (0: any). `status` is where the run stands, `key` what a worker
    must hold to join, `event` records what happens. Raises ConfigError if it cannot listen there.
    """

    def __init__(
        self,
        make_dispatcher: Callable[[], Dispatcher],
        run: str,
        first_number: int,
        host: str,
        port: int,
        event: Callable[..., None],
    ) -> None:
        self.status = Status()
        self.key = make_key()
        self._make_dispatcher = make_dispatcher
        self._event = event
        self._oddities = 0
        self._run = run
        self._first_number = first_number
        try:
            self._listener = listen(host, port)
        except OSError as error:
            raise ConfigError(
                f"--listen {host}:{port}: this machine cannot listen there ({error.strerror})."
            ) from None
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._workers: WorkerServer | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="scheduler")

    def start(self) -> None:
        """Begin to serve."""
        allow_many_connections()
        self._thread.start()

    def check(self) -> None:
        """Raise RunFailedError if the run must stop: its reason, or what went wrong here."""
        error = self.status.error
        if isinstance(error, RunFailedError):
            raise error
        if error is not None:
            raise RunFailedError(f"the scheduler stopped: {error!r}") from error
        if self.status.reason is not None:
            raise RunFailedError(self.status.reason)

    def drain(self) -> None:
        """Hand out no more; workers finish the blocks they hold, and end."""
        self._in_thread(lambda workers: workers.drain())

    def release(self, numbers: Collection[int]) -> None:
        """Have these workers finish the blocks they hold, and end."""
        if numbers:
            self._in_thread(lambda workers: workers.release(numbers))

    def gone(self, numbers: Collection[int]) -> None:
        """Count no more on these workers, whose processes are known to have ended."""
        if numbers:
            self._in_thread(lambda workers: workers.gone(numbers))

    def _in_thread(self, work: Callable[[WorkerServer], None]) -> None:
        """Have the serving thread do something; returns when it has, and the status says so."""

        async def do() -> None:
            if self._workers is not None:
                work(self._workers)
                self._workers.publish()

        if self._thread.is_alive():
            # A thread that stands still is waited for no longer.
            with suppress(TimeoutError, CancelledError):
                asyncio.run_coroutine_threadsafe(do(), self._loop).result(ANSWER_S)

    def close(self) -> None:
        """Close all connections, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _serve(self) -> None:
        try:
            self._loop.set_exception_handler(self._heed)
            self._loop.run_until_complete(self._run_gate())
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self.status.fail(error)
        finally:
            self._listener.close()
            self.status.finished.set()

    async def _run_gate(self) -> None:
        # daisy's scheduler, which the dispatcher asks for blocks, belongs to the thread that makes
        # it, and must end in it.
        self._workers = WorkerServer(
            self._make_dispatcher(), self.status, self._run, self._first_number
        )
        log = logging.Logger("gate")
        log.addHandler(_Oddities(self._heed))
        gate = Gate(self._listener, server_context(self.key), self._workers, log)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(w) for w in (gate.accept(), self._workers.tick())]
                await self._closing.wait()
                await self._workers.part(PARTING_S)
                for task in tasks:
                    task.cancel()
        finally:
            workers, self._workers = self._workers, None
            workers.close()
            await gate.close()

    def _heed(self, _: asyncio.AbstractEventLoop | None, context: dict[str, Any]) -> None:
        """Record what asyncio or aiohttp stumbled over in a stranger's connection: nothing that
        concerns the run."""
        self._oddities += 1
        if self._oddities <= MAX_ODDITIES:
            error = context.get("exception") or context["message"]
            self._event("oddity", error=repr(error))


class _Oddities(logging.Handler):
    """Passes what a library logs on to whom it may concern."""

    def __init__(self, heed: Callable[[None, dict[str, Any]], None]) -> None:
        super().__init__(logging.WARNING)
        self._heed = heed

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # What is no request of HTTP has been refused, and is nothing odd.
        if not isinstance(error, HttpProcessingError):
            self._heed(None, {"message": record.getMessage(), "exception": error})
