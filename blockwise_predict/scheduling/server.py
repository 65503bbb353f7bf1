"""The thread that serves the workers. It listens on loopback only."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable

from blockwise_predict.errors import RunFailedError
from blockwise_predict.scheduling.dispatcher import Dispatcher
from blockwise_predict.scheduling.protocol import MAX_LINE
from blockwise_predict.scheduling.reception import Reception
from blockwise_predict.scheduling.status import Status

HOST = "127.0.0.1"
START_S = 30.0


class Server:
    """Serves one run's workers, from the first to the last number, until it is closed.

    `status` is where the run stands, `secret` what a worker must know to join.
    """

    def __init__(
        self, make_dispatcher: Callable[[], Dispatcher], run: str, first_number: int
    ) -> None:
        self.status = Status()
        self.secret = secrets.token_hex(32)
        self._make_dispatcher = make_dispatcher
        self._run = run
        self._first_number = first_number
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._port = 0
        self._drain: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="scheduler")

    def start(self) -> int:
        """Begin to listen; returns the port."""
        self._thread.start()
        self._listening.wait(START_S)
        self.check()
        return self._port

    def check(self) -> None:
        """Raise RunFailedError if the run must stop: its reason, or what went wrong here."""
        if self.status.error is not None:
            error = self.status.error
            if isinstance(error, OSError):
                raise RunFailedError(
                    f"the run's records cannot be written: {error}\nNothing that was finished is "
                    "lost. Mend that, then run the same command again."
                ) from error
            raise RunFailedError(f"the scheduler stopped: {error}") from error
        if self.status.reason is not None:
            raise RunFailedError(self.status.reason)

    def drain(self) -> None:
        """Hand out no more; workers finish the blocks they hold, and end."""
        self._loop.call_soon_threadsafe(lambda: self._drain())

    def close(self) -> None:
        """Close all connections and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        # daisy's scheduler, which the dispatcher asks for blocks, belongs to the thread that makes
        # it, and must end in it.
        try:
            asyncio.set_event_loop(self._loop)
            dispatcher = self._make_dispatcher()
            reception = Reception(
                dispatcher, self.status, self._run, self.secret, self._first_number
            )
            self._drain = reception.drain
            self._until_stopped(reception)
            reception.close()
            self._loop.run_until_complete(self._cancel_all())
            self._drain = lambda: None
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self.status.fail(error)
        finally:
            self._listening.set()
            self.status.finished.set()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _until_stopped(self, reception: Reception) -> None:
        listening = asyncio.start_server(reception.connected, HOST, 0, limit=MAX_LINE)
        server = self._loop.run_until_complete(listening)
        self._port = server.sockets[0].getsockname()[1]
        self._ticking = self._loop.create_task(reception.tick())
        self._listening.set()
        self._loop.run_forever()
        server.close()
