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

# Maximum number of unexpected errors in connections that are recorded as events.
MAX_ODDITIES = 100
# Timeout of calls into the serving thread (seconds).
CALL_TIMEOUT_S = 1.0
# Time for workers that have been told to end to close their connections (seconds).
GOODBYE_S = 0.5


class Server:
    """Serves the workers of run `run` in a thread of its own, until it is closed.

    It listens on `host` and `port` (0: any free one); raises ConfigError if it cannot. Workers that
    ask for no number get one from `first_number` on. `status` is the state of the run, `key` the
    PEM of the key that admits workers; `event` records events.
    """

    def __init__(
        self,
        make_dispatcher: Callable[[], Dispatcher],
        *,
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
        """Start serving."""
        allow_many_connections()
        self._thread.start()

    def check(self) -> None:
        """Raise RunFailedError if the run must stop, or the serving thread failed."""
        error = self.status.error
        if isinstance(error, RunFailedError):
            raise error
        if error is not None:
            raise RunFailedError(f"the scheduler stopped: {error!r}") from error
        if self.status.reason is not None:
            raise RunFailedError(self.status.reason)

    def drain(self) -> None:
        """Hand out no more blocks; workers finish those they hold, and end."""
        self._in_thread(lambda workers: workers.drain())

    def release(self, numbers: Collection[int]) -> None:
        """Have these workers finish the blocks they hold, and end."""
        if numbers:
            self._in_thread(lambda workers: workers.release(numbers))

    def gone(self, numbers: Collection[int]) -> None:
        """Requeue the blocks of these workers, whose processes are known to have ended."""
        if numbers:
            self._in_thread(lambda workers: workers.gone(numbers))

    def _in_thread(self, work: Callable[[WorkerServer], None]) -> None:
        """Run `work` in the serving thread; returns when the status reflects it."""

        async def do() -> None:
            if self._workers is not None:
                work(self._workers)
                self._workers.publish()

        if self._thread.is_alive():
            # The main thread must not hang with a serving thread that is stalled.
            with suppress(TimeoutError, CancelledError):
                asyncio.run_coroutine_threadsafe(do(), self._loop).result(CALL_TIMEOUT_S)

    def close(self) -> None:
        """Close all connections, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _serve(self) -> None:
        try:
            self._loop.set_exception_handler(self._record_oddity)
            self._loop.run_until_complete(self._run_gate())
        except BaseException as error:  # noqa: BLE001  `check` raises it; daisy's are no Exceptions
            self.status.fail(error)
        finally:
            self._listener.close()
            self.status.finished.set()

    async def _run_gate(self) -> None:
        # The dispatcher is made here because daisy's scheduler must be used and released in the
        # thread that made it.
        self._workers = WorkerServer(
            self._make_dispatcher(), self.status, self._run, self._first_number
        )
        log = logging.Logger("gate")
        log.addHandler(_WarningHandler(self._record_oddity))
        gate = Gate(self._listener, server_context(self.key), self._workers, log)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(w) for w in (gate.accept(), self._workers.tick())]
                await self._closing.wait()
                await self._workers.wait_for_goodbyes(GOODBYE_S)
                for task in tasks:
                    task.cancel()
        finally:
            workers, self._workers = self._workers, None
            workers.close()
            await gate.close()

    def _record_oddity(self, _: asyncio.AbstractEventLoop | None, context: dict[str, Any]) -> None:
        """Record an error that asyncio or aiohttp met in a connection; the run goes on."""
        self._oddities += 1
        if self._oddities <= MAX_ODDITIES:
            error = context.get("exception") or context["message"]
            self._event("oddity", error=repr(error))


class _WarningHandler(logging.Handler):
    """Passes aiohttp's warnings and errors to `record_oddity`."""

    def __init__(self, record_oddity: Callable[[None, dict[str, Any]], None]) -> None:
        super().__init__(logging.WARNING)
        self._record_oddity = record_oddity

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # Malformed HTTP is refused, and to be expected on an open port.
        if not isinstance(error, HttpProcessingError):
            self._record_oddity(None, {"message": record.getMessage(), "exception": error})
