"""The thread that serves the workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from typing import Any

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.scheduling.dispatcher import Dispatcher
from blockwise_predict.scheduling.gate import Gate
from blockwise_predict.scheduling.reception import Reception
from blockwise_predict.scheduling.sockets import allow_many_connections, listen
from blockwise_predict.scheduling.status import Status
from blockwise_predict.scheduling.tls import make_key, server_context

# So many things that asyncio stumbled over are recorded.
MAX_ODDITIES = 100
# Time for the thread to act on what it is told (seconds).
HEARD_S = 1.0


def records_failed(error: OSError) -> RunFailedError:
    """What the user is told when the run's records cannot be written."""
    return RunFailedError(
        f"the run's records cannot be written: {error}\nNothing that was finished is lost. Mend "
        "that, then run the same command again."
    )


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
        self._reception: Reception | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True, name="scheduler")

    def start(self) -> None:
        """Begin to serve."""
        allow_many_connections()
        self._thread.start()

    def check(self) -> None:
        """Raise RunFailedError if the run must stop: its reason, or what went wrong here."""
        if self.status.error is not None:
            error = self.status.error
            if isinstance(error, OSError):
                raise records_failed(error) from error
            raise RunFailedError(f"the scheduler stopped: {error}") from error
        if self.status.reason is not None:
            raise RunFailedError(self.status.reason)

    def drain(self) -> None:
        """Hand out no more; workers finish the blocks they hold, and end.

        Returns when the thread has heard of it and `status` is as of then; if it does not answer,
        after `HEARD_S`.
        """
        self._in_thread(lambda reception: reception.drain()).wait(HEARD_S)

    def gone(self, numbers: Collection[int]) -> None:
        """The processes of these workers have ended: what they hold goes to others."""
        if numbers:
            self._in_thread(lambda reception: reception.gone(numbers))

    def release(self, numbers: Collection[int]) -> None:
        """These workers finish the blocks they hold, and end."""
        if numbers:
            self._in_thread(lambda reception: reception.release(numbers))

    def _in_thread(self, work: Callable[[Reception], None]) -> threading.Event:
        """Have the thread do some work; returns what is set when that is done."""
        done = threading.Event()

        def do() -> None:
            try:
                if self._reception is not None:
                    work(self._reception)
            finally:
                done.set()

        self._loop.call_soon_threadsafe(do)
        return done

    def close(self) -> None:
        """Close all connections, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        # daisy's scheduler, which the dispatcher asks for blocks, belongs to the thread that makes
        # it, and must end in it.
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.set_exception_handler(self._heed)
            dispatcher = self._make_dispatcher()
            reception = Reception(dispatcher, self.status, self._run, self._first_number)
            self._reception = reception
            gate = Gate(self._listener, server_context(self.key), reception)
            # Kept here: the loop itself keeps no task alive.
            tasks = [self._loop.create_task(work) for work in (gate.accept(), reception.tick())]
            for task in tasks:
                task.add_done_callback(self._must_not_end)
            self._loop.run_forever()
            tasks.clear()
            self._reception = None
            reception.close()
            self._loop.run_until_complete(self._cancel_all())
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self.status.fail(error)
        finally:
            self._listener.close()
            self.status.finished.set()

    def _must_not_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.status.fail(error)

    def _heed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio stumbled over, in a stranger's connection: nothing that concerns the run."""
        self._oddities += 1
        if self._oddities <= MAX_ODDITIES:
            error = context.get("exception") or context["message"]
            self._event("oddity", error=repr(error))

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
