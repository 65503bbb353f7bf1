"""A worker's end of its connection to the scheduler: one for all slots, in a thread of its own."""

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

from blockwise_predict import __version__
from blockwise_predict.errors import RunStateError, first_error
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling.slots import Slots
from blockwise_predict.scheduling.transport.connect import (
    NoSchedulerError,
    NotThereError,
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
from blockwise_predict.scheduling.transport.wire import GOODBYE_S, Wire

_log = logging.getLogger(__name__)

# Delay before the scheduler is looked for again, in seconds.
FIRST_DELAY_S, MAX_DELAY_S = 0.2, 5.0
# Interval at which the worker looks whether it has been told to end (seconds).
LOOK_S = 0.1
# Interval at which it looks whether another scheduler has taken over (seconds).
MOVED_S = 30.0


@dataclass(frozen=True)
class Terms:
    """How a worker works: on which `run`, its `number` (None: the scheduler gives one), its slots,
    the cluster's `job` it runs in and its `log`; `wait` seconds it looks for the scheduler, and
    `grace` seconds after it was told to end it hands back what it still holds."""

    run: str
    number: int | None
    slots: int
    job: str = ""
    log: str = ""
    wait: float = 0.0
    grace: float = 10.0


class Link:
    """The connection. Each slot asks with `next` from its own thread.

    `find` gives the scheduler's address now. If the connection is lost, the scheduler is looked
    for, also at another address, and the worker joins again. It goes on with the blocks that it
    holds if the scheduler still counts on it for them; other ones are not reported. So it is when
    another scheduler has taken over, while the first one stands still. `on_end` is called, in
    another thread, when the worker has to end at once, with the reason, and whether all is well: it
    has handed back what it held, or there is no scheduler any more.

    Raises RunStateError if the worker cannot join. `number` is the worker's number.
    """

    def __init__(
        self,
        find: Callable[[], Address],
        terms: Terms,
        stopping: threading.Event,
        on_end: Callable[[str, bool], None],
    ) -> None:
        self._find = find
        self._terms = terms
        self._stopping = stopping
        self._on_end = on_end
        self._slots = Slots(terms.slots)
        self._number = terms.number
        self._process = uuid.uuid4().hex
        self._wire: Wire[FromScheduler] | None = None
        # The scheduler that this worker has joined last.
        self._address: Address | None = None
        self._closing = False
        self._joined: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="link")
        self._thread.start()
        self.number = self._joined.result()

    def next(self, slot: int) -> int | None:
        """The next block for a slot; waits for it. None when there is none, or when stopping."""
        self._loop.call_soon_threadsafe(self._ask, slot)
        return self._slots.answer(slot)

    def report(self, slot: int, message: Done | Failed) -> None:
        """Tell the scheduler what became of a slot's block."""
        self._loop.call_soon_threadsafe(self._report, slot, message)

    def close(self) -> None:
        """End the connection, after which the scheduler counts on this worker no more."""
        self._loop.call_soon_threadsafe(self._close)
        # If it is lost just now, the scheduler is looked for once more: it has to hear of the end.
        self._thread.join(self._terms.wait + 2 * GOODBYE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as raised:  # noqa: BLE001  told by `number`, or `on_end`
            error = first_error(raised)
            if not self._joined.done():
                self._joined.set_exception(error)
            elif not self._stopping.is_set() and not self._all_is_said:
                self._on_end(str(error) or repr(error), False)
        finally:
            self._slots.close()

    async def _serve(self) -> None:
        """Stay joined; if any of what goes on besides fails, all of it ends."""
        async with asyncio.TaskGroup() as group:
            besides = [
                group.create_task(work)
                for work in (self._watch_for_the_end(), self._watch_for_another())
            ]
            await self._stay_joined()
            for task in besides:
                task.cancel()

    @property
    def _all_is_said(self) -> bool:
        """Whether the scheduler need hear no more of this worker."""
        return (self._closing or self._slots.idle) and self._slots.reported

    async def _stay_joined(self) -> None:
        while True:
            async with AsyncExitStack() as connection:
                wire, messages = await self._join(connection)
                if not self._joined.done():
                    self._joined.set_result(self._number or 0)
                while True:
                    self._take(messages)
                    if not (messages := await wire.receive()):
                        break
            self._wire = None
            if self._closing and wire.said_goodbye:
                self._slots.forget_reports()
            if self._all_is_said:
                return
            _log.info("the connection to the scheduler is lost: looking for it")

    async def _join(
        self, connection: AsyncExitStack
    ) -> tuple[Wire[FromScheduler], list[FromScheduler]]:
        """Look for the scheduler until it has let this worker in.

        Raises RunStateError when it has refused, or cannot be found for so long.
        """
        deadline = time.monotonic() + self._terms.wait
        delay, told = FIRST_DELAY_S, False
        while True:
            try:
                return await self._greet(connection, self._find_now())
            except NotThereError as error:
                why = str(error)
                if self._slots.idle and isinstance(error, NoSchedulerError):
                    # It said that there is no more to do, and has ended well.
                    self._slots.forget_reports()
            await connection.aclose()
            if self._all_is_said or (self._stopping.is_set() and not self._joined.done()):
                raise RunStateError("told to end before it had joined.")
            if time.monotonic() > deadline:
                raise RunStateError(why)
            if not told:
                _log.info("%s Looking for it for %g s.", why, self._terms.wait)
                told = True
            await asyncio.sleep(delay)
            delay = min(MAX_DELAY_S, delay * 1.5)

    def _find_now(self) -> Address:
        try:
            return self._find()
        except RunStateError as error:
            raise NoSchedulerError(str(error)) from None
        except OSError as error:
            # A file server that does not answer now.
            raise NotThereError(str(error)) from None

    async def _greet(
        self, connection: AsyncExitStack, address: Address
    ) -> tuple[Wire[FromScheduler], list[FromScheduler]]:
        """Join the scheduler at an address, and tell it what it may not know."""
        wire = await connection.enter_async_context(connected(address))
        # Another scheduler has given this worker's number to one of its own.
        known = self._address is None or self._address == address
        hello = Hello(
            run=self._terms.run,
            version=__version__,
            number=self._number if known else None,
            process=self._process,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=self._terms.slots,
            job=self._terms.job,
            log=self._terms.log,
            held=self._slots.held,
        )
        welcome, more = await greet(address, wire, hello)
        self._number, self._address = welcome.number, address
        self._resume(wire, welcome)
        await connection.enter_async_context(wire.sending())
        return wire, more

    def _resume(self, wire: Wire[FromScheduler], welcome: Welcome) -> None:
        """Go on with what the scheduler still counts on this worker for."""
        self._wire = wire
        wire.send(*self._slots.resume(welcome.kept))
        if self._stopping.is_set():
            wire.send(Leaving())
        if self._closing:
            wire.send(Bye())

    def _take(self, messages: list[FromScheduler]) -> None:
        for message in messages:
            match message:
                case Block(slot=slot, block=block):
                    if not self._slots.take(slot, block):
                        # Asked for before this worker was told to end.
                        self._send(Back(block=block))
                case End():
                    self._slots.release()

    async def _watch_for_the_end(self) -> None:
        """When the worker is told to end, say so at once; after its grace, hand back its blocks."""
        while not self._stopping.is_set():
            await asyncio.sleep(LOOK_S)
        self._send(Leaving())
        self._slots.release()
        await asyncio.sleep(self._terms.grace)
        blocks = self._slots.working
        if self._wire is not None:
            self._wire.send(*(Back(block=block) for block in blocks), Bye())
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._wire.flush()
        self._on_end(f"told to end: {len(blocks)} blocks are handed back", True)

    async def _watch_for_another(self) -> None:
        """Leave a scheduler whose run has been taken over: it may stand still and say nothing."""
        while True:
            await asyncio.sleep(MOVED_S)
            with suppress(NotThereError):
                # Not in this thread, since a file server may be slow.
                now = await asyncio.to_thread(self._find_now)
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
        """Tell the scheduler; while there is none, `_resume` will."""
        if self._wire is not None:
            self._wire.send(message)

    def _close(self) -> None:
        """Say good-bye, to which the scheduler answers when it has heard all."""
        self._closing = True
        self._send(Bye())
