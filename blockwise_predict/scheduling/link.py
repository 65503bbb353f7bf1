"""A worker's end of its connection to the scheduler: one for all slots, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

from blockwise_predict import __version__
from blockwise_predict.errors import RunStateError
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling.connect import NotThereError, connect, greet, read
from blockwise_predict.scheduling.protocol import (
    BEAT_S,
    GREETING_S,
    Back,
    Beat,
    Block,
    Done,
    End,
    Failed,
    Hello,
    Leaving,
    Message,
    Next,
)

# The scheduler is looked for again after so long (seconds).
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 5.0
LOOK_S = 0.1
# So often it is looked whether another scheduler has taken over (seconds).
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
    for, also at another address, and the worker joins again; blocks that it holds then are others'
    to do, and are not reported. So it is when another scheduler has taken over, while the first one
    stands still. `on_end` is called, in another thread, when the worker has to end
    at once, with the reason, and whether all is well: it has handed back what it held, or there is
    no scheduler any more.

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
        self._answers: list[SimpleQueue[int | None]] = [SimpleQueue() for _ in range(terms.slots)]
        self._number = terms.number
        self._process = uuid.uuid4().hex
        self._writer: asyncio.StreamWriter | None = None
        # The scheduler that this worker has joined last.
        self._address: Address | None = None
        # Slots that wait for an answer, and blocks that came over this connection, with the slots
        # that they are for.
        self._asking: set[int] = set()
        self._held: dict[int, int] = {}
        self._unsent: list[bytes] = []
        # The scheduler has said that there is no more work.
        self._over = threading.Event()
        self._closing = False
        self._joined: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="link")
        self._thread.start()
        self.number = self._joined.result()

    def next(self, slot: int) -> int | None:
        """The next block for a slot; waits for it. None when there is none, or when stopping."""
        self._loop.call_soon_threadsafe(self._ask, slot)
        return self._answers[slot].get()

    def report(self, slot: int, message: Done | Failed) -> None:
        """Tell the scheduler what became of a slot's block."""
        self._loop.call_soon_threadsafe(self._report, slot, message)

    def close(self) -> None:
        """End the connection, after which the scheduler counts on this worker no more."""
        self._loop.call_soon_threadsafe(self._close)
        self._thread.join(GREETING_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001  told by `number`, or `on_end`
            if not self._joined.done():
                self._joined.set_exception(error)
            elif not self._stopping.is_set():
                self._on_end(str(error), False)
        finally:
            # Nobody hears a slot that asks from now on.
            for answers in self._answers:
                answers.put(None)

    async def _serve(self) -> None:
        besides = [asyncio.create_task(work) for work in (self._beat(), self._look_for_another())]
        try:
            await self._stay_joined()
        finally:
            for task in besides:
                task.cancel()
            await asyncio.gather(*besides, return_exceptions=True)

    async def _stay_joined(self) -> None:
        while not self._closing:
            reader, self._writer = await self._join()
            self._held.clear()
            for slot in self._asking:
                self._send(Next(slot=slot))
            if not self._joined.done():
                self._joined.set_result(self._number or 0)
            await self._listen(reader)
            self._writer = None
            self._unsent.clear()
            if self._over.is_set() or self._closing:
                break
            print("the connection to the scheduler is lost: looking for it", flush=True)

    async def _join(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Look for the scheduler until it has let this worker in.

        Raises RunStateError when it has refused, or cannot be found for so long.
        """
        deadline = time.monotonic() + self._terms.wait
        delay, told = FIRST_DELAY_S, False
        while True:
            try:
                address = self._find_now()
                return await self._greet(address, *await connect(address))
            except NotThereError as error:
                why = str(error)
            if self._stopping.is_set():
                raise RunStateError("told to end before it had joined.")
            if time.monotonic() > deadline:
                raise RunStateError(why)
            if not told:
                print(f"{why} Looking for it for {self._terms.wait:g} s.", flush=True)
                told = True
            await asyncio.sleep(delay)
            delay = min(LONGEST_DELAY_S, delay * 1.5)

    def _find_now(self) -> Address:
        try:
            return self._find()
        except (RunStateError, OSError) as error:
            # Also a file server that does not answer now.
            raise NotThereError(str(error)) from None

    async def _greet(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
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
        )
        self._number = await greet(address, reader, writer, hello)
        self._address = address
        return reader, writer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take the scheduler's answers until the connection is lost."""
        while (message := await read(reader)) is not None:
            match message:
                case Block(slot=slot, block=block) if slot in self._asking:
                    self._asking.discard(slot)
                    self._held[block] = slot
                    self._answers[slot].put(block)
                case Block(block=block):
                    # Asked for before this worker was told to end.
                    self._send(Back(block=block))
                case End():
                    self._over.set()
                    self._release_slots()
                case _:
                    return

    async def _beat(self) -> None:
        """Say now and then that this worker lives, and at once that it is told to end."""
        beaten = 0.0
        while not self._stopping.is_set():
            await asyncio.sleep(LOOK_S)
            if time.monotonic() - beaten > BEAT_S:
                self._send(Beat())
                beaten = time.monotonic()
        self._send(Leaving())
        self._release_slots()
        deadline = time.monotonic() + self._terms.grace
        while time.monotonic() < deadline:
            await asyncio.sleep(min(BEAT_S, self._terms.grace))
            self._send(Beat())
        await self._hand_back()

    async def _look_for_another(self) -> None:
        """Leave a scheduler whose run has been taken over: it may stand still and say nothing."""
        while True:
            await asyncio.sleep(MOVED_S)
            with contextlib.suppress(NotThereError):
                # Not in this thread, since a file server may be slow.
                now = await asyncio.to_thread(self._find_now)
                if self._writer is not None and now != self._address:
                    self._writer.transport.abort()

    async def _hand_back(self) -> None:
        """The grace is over: what is still in work is for others."""
        count = len(self._held)
        for block in self._held:
            self._send(Back(block=block))
        self._flush()
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.drain()
        self._on_end(f"told to end: {count} blocks are handed back", True)

    def _ask(self, slot: int) -> None:
        if self._stopping.is_set() or self._over.is_set():
            self._answers[slot].put(None)
        else:
            self._asking.add(slot)
            self._send(Next(slot=slot))

    def _report(self, slot: int, message: Done | Failed) -> None:
        # After a reconnection another slot may have been given the same block.
        if self._held.get(message.block) == slot:
            del self._held[message.block]
            self._send(message)

    def _send(self, message: Message) -> None:
        """Tell the scheduler; nothing while there is none, which is told anew when it is back."""
        # What is said at one time goes out as one: a block's end and the wish for another.
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(message.line())

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.write(b"".join(self._unsent))
        self._unsent.clear()

    def _release_slots(self) -> None:
        for slot in self._asking:
            self._answers[slot].put(None)
        self._asking.clear()

    def _close(self) -> None:
        self._closing = True
        self._flush()
        if self._writer is not None:
            self._writer.close()
