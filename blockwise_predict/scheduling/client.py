"""A worker's connection to the scheduler: one for all its slots, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from blockwise_predict.config.version import __version__
from blockwise_predict.errors import RunStateError, first_error
from blockwise_predict.records.address import Address
from blockwise_predict.scheduling.slots import Slots
from blockwise_predict.scheduling.transport.connect import (
    NoSchedulerError,
    UnreachableError,
    connected,
    greet,
)
from blockwise_predict.scheduling.transport.messages import (
    Back,
    Block,
    Bye,
    Done,
    End,
    Failed,
    FromScheduler,
    Hello,
    Leaving,
    Message,
    Next,
    Welcome,
)
from blockwise_predict.scheduling.transport.wire import CLOSE_TIMEOUT_S, Wire

_log = logging.getLogger(__name__)

# Delay before the next attempt to reach the scheduler: the first one and the longest (seconds).
FIRST_DELAY_S, MAX_DELAY_S = 0.2, 5.0
# Interval at which the client checks whether the worker has been told to end (seconds).
STOP_POLL_S = 0.1
# Interval at which it checks whether another scheduler has taken over (seconds).
TAKEOVER_POLL_S = 30.0


@dataclass(frozen=True)
class ClientOptions:
    """How a worker presents itself, and how long it waits.

    `run` is the id of its run, `number` None if the scheduler assigns one, `job` the cluster job
    that it runs in, `device` what it computes on. The client looks for the scheduler for `wait`
    seconds. It hands back the blocks that the worker still holds `grace` seconds after the worker
    was told to end.
    """

    run: str
    number: int | None
    slots: int
    job: str = ""
    device: str = ""
    log: str = ""
    wait: float = 0.0
    grace: float = 10.0


class Client:
    """Requests blocks from the scheduler, and reports them. Each slot calls it from its own thread.

    `find` returns the scheduler's current address. If the connection is lost, or another scheduler
    takes over, the client looks for the scheduler again and rejoins. The worker goes on with those
    of its blocks that the scheduler has kept for it; the others are not reported.

    `stopping` is set when the worker is told to end. `on_end` is called in the client's thread when
    the worker has to end at once, with the reason and whether it ends well: it has handed back its
    blocks (True), or has lost the scheduler (False).

    Raises RunStateError if the worker cannot join. `number` is the worker's number.
    """

    def __init__(
        self,
        find: Callable[[], Address],
        options: ClientOptions,
        stopping: threading.Event,
        on_end: Callable[[str, bool], None],
    ) -> None:
        self._find = find
        self._options = options
        self._stopping = stopping
        self._on_end = on_end
        self._slots = Slots(options.slots)
        self._number = options.number
        self._process = uuid.uuid4().hex
        self._wire: Wire[FromScheduler] | None = None
        # Where the scheduler that it joined last listens.
        self._address: Address | None = None
        self._closing = False
        self._joined: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="scheduler-client")
        self._thread.start()
        self.number = self._joined.result()

    def next(self, slot: int) -> int | None:
        """Wait for a slot's next block; None when there are no more, or when stopping."""
        self._loop.call_soon_threadsafe(self._ask, slot)
        return self._slots.answer(slot)

    def report(self, slot: int, message: Done | Failed) -> None:
        """Report what became of a slot's block."""
        self._loop.call_soon_threadsafe(self._report, slot, message)

    def close(self) -> None:
        """Say good-bye to the scheduler, and end the connection."""
        self._loop.call_soon_threadsafe(self._close)
        # If the connection is lost at this moment, the client reconnects once more to deliver it.
        self._thread.join(self._options.wait + 2 * CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as raised:  # noqa: BLE001  raised by `__init__`, or passed to on_end
            error = first_error(raised)
            if not self._joined.done():
                self._joined.set_exception(error)
            elif not self._stopping.is_set() and not self._is_complete:
                self._on_end(str(error) or repr(error), False)
        finally:
            self._slots.close()

    async def _serve(self) -> None:
        """Stay connected while the watchers run; if any of these tasks fails, all end."""
        async with asyncio.TaskGroup() as group:
            watchers = [
                group.create_task(work)
                for work in (self._watch_for_stop(), self._watch_for_takeover())
            ]
            await self._stay_connected()
            for task in watchers:
                task.cancel()

    @property
    def _is_complete(self) -> bool:
        """Whether nothing is left to do or to report."""
        return (self._closing or self._slots.idle) and self._slots.reported

    async def _stay_connected(self) -> None:
        while True:
            async with AsyncExitStack() as connection:
                wire, messages = await self._join(connection)
                if not self._joined.done():
                    self._joined.set_result(self._number or 0)
                while True:
                    self._handle(messages)
                    if not (messages := await wire.receive()):
                        break
            self._wire = None
            if self._closing and wire.closed_cleanly:
                self._slots.forget_reports()
            if self._is_complete:
                return
            _log.info("the connection to the scheduler is lost: looking for it")

    async def _join(
        self, connection: AsyncExitStack
    ) -> tuple[Wire[FromScheduler], list[FromScheduler]]:
        """Try to join the scheduler until it admits this worker.

        Raises RunStateError if it refuses, or cannot be reached within `wait` seconds.
        """
        deadline = time.monotonic() + self._options.wait
        delay, logged = FIRST_DELAY_S, False
        while True:
            try:
                return await self._greet(connection, self._current_address())
            except UnreachableError as error:
                why = str(error)
                if self._slots.idle and isinstance(error, NoSchedulerError):
                    # It had announced that there are no more blocks, and has ended normally.
                    self._slots.forget_reports()
            await connection.aclose()
            if self._is_complete or (self._stopping.is_set() and not self._joined.done()):
                raise RunStateError("told to end before it had joined.")
            if time.monotonic() > deadline:
                raise RunStateError(why)
            if not logged:
                _log.info("%s Looking for it for %g s.", why, self._options.wait)
                logged = True
            await asyncio.sleep(delay)
            delay = min(MAX_DELAY_S, delay * 1.5)

    def _current_address(self) -> Address:
        try:
            return self._find()
        except RunStateError as error:
            raise NoSchedulerError(str(error)) from None
        except OSError as error:
            # The file server does not answer at the moment.
            raise UnreachableError(str(error)) from None

    async def _greet(
        self, connection: AsyncExitStack, address: Address
    ) -> tuple[Wire[FromScheduler], list[FromScheduler]]:
        """Join the scheduler at an address, and resend what it may have missed."""
        wire = await connection.enter_async_context(connected(address))
        # A different scheduler may have given this worker's number to another worker.
        known = self._address is None or self._address == address
        hello = Hello(
            run=self._options.run,
            version=__version__,
            number=self._number if known else None,
            process=self._process,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=self._options.slots,
            job=self._options.job,
            device=self._options.device,
            log=self._options.log,
            held=self._slots.held,
        )
        welcome, more = await greet(address, wire, hello)
        self._number, self._address = welcome.number, address
        self._resume(wire, welcome)
        await connection.enter_async_context(wire.sending())
        return wire, more

    def _resume(self, wire: Wire[FromScheduler], welcome: Welcome) -> None:
        """Go on with the blocks that the scheduler has kept for this worker."""
        self._wire = wire
        wire.send(*self._slots.resume(welcome.kept))
        if self._stopping.is_set():
            wire.send(Leaving())
        if self._closing:
            wire.send(Bye())

    def _handle(self, messages: list[FromScheduler]) -> None:
        for message in messages:
            match message:
                case Block(slot=slot, block=block):
                    if not self._slots.take(slot, block):
                        # Requested before this worker was told to end.
                        self._send(Back(block=block))
                case End():
                    self._slots.release()

    async def _watch_for_stop(self) -> None:
        """Announce at once that the worker was told to end; hand back its blocks after `grace`."""
        while not self._stopping.is_set():
            await asyncio.sleep(STOP_POLL_S)
        self._send(Leaving())
        self._slots.release()
        await asyncio.sleep(self._options.grace)
        blocks = self._slots.working
        if self._wire is not None:
            self._wire.send(*(Back(block=block) for block in blocks), Bye())
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._wire.flush()
        self._on_end(f"told to end: {len(blocks)} blocks are handed back", True)

    async def _watch_for_takeover(self) -> None:
        """Leave a scheduler whose run another one has taken over: it may hang without a word."""
        while True:
            await asyncio.sleep(TAKEOVER_POLL_S)
            with suppress(UnreachableError):
                # Not in this thread, since a file server may be slow.
                now = await asyncio.to_thread(self._current_address)
                if self._wire is not None and now != self._address:
                    await self._wire.close()

    def _ask(self, slot: int) -> None:
        if self._stopping.is_set():
            self._slots.release()
        if self._slots.ask(slot):
            self._send(Next(slot=slot))

    def _report(self, slot: int, message: Done | Failed) -> None:
        if self._slots.report(slot, message):
            self._send(message)

    def _send(self, message: Message) -> None:
        """Send a message if connected; otherwise `_resume` makes up for it."""
        if self._wire is not None:
            self._wire.send(message)

    def _close(self) -> None:
        """Say good-bye; the scheduler closes the connection once it has received everything."""
        self._closing = True
        self._send(Bye())
