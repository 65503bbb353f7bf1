"""A worker's end of its connection to the scheduler."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue

from pydantic import ValidationError

from blockwise_predict import __version__
from blockwise_predict.errors import RunStateError
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling.protocol import (
    BEAT_S,
    Beat,
    Block,
    End,
    FromScheduler,
    Hello,
    Leaving,
    Message,
    Next,
    Refused,
    Welcome,
    parse_scheduler,
)

CONNECT_S = 30.0


class Link:
    """One connection for all slots of a worker. Each slot asks with `next` from its own thread.

    `number` is the worker's number. `on_lost` is called, in another thread, if the connection ends
    before the scheduler has said that there are no more blocks.
    """

    def __init__(
        self,
        address: Address,
        number: int | None,
        slots: int,
        stopping: threading.Event,
        on_lost: Callable[[], None],
    ) -> None:
        self._stopping = stopping
        self._on_lost = on_lost
        self._answers: list[SimpleQueue[int | None]] = [SimpleQueue() for _ in range(slots)]
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._over = False
        self._socket = _connect(address)
        self._lines = self._socket.makefile("rb")
        self.number = self._greet(address, number, slots)
        for target in (self._receive, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def next(self, slot: int) -> int | None:
        """The next block for a slot; waits for it. None when there is none, or when stopping."""
        if self._stopping.is_set() or self._ended.is_set():
            return None
        self.send(Next(slot=slot))
        return self._answers[slot].get()

    def send(self, message: Message) -> None:
        """Tell the scheduler."""
        with self._sending:
            try:
                self._socket.sendall(message.line())
            except OSError:
                self._lost()

    def close(self) -> None:
        """End the connection, after which the scheduler counts on this worker no more."""
        self._ended.set()
        self._socket.close()

    def _greet(self, address: Address, number: int | None, slots: int) -> int:
        hello = Hello(
            run=address.run,
            secret=address.secret,
            version=__version__,
            number=number,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=slots,
        )
        self.send(hello)
        answer = self._read()
        if isinstance(answer, Welcome):
            return answer.number
        why = answer.why if isinstance(answer, Refused) else "no scheduler of this program answers"
        raise RunStateError(
            f"the scheduler at {address.host} port {address.port} refused this worker: {why}."
        )

    def _read(self) -> FromScheduler | None:
        """The next message; None at the connection's end."""
        try:
            line = self._lines.readline()
            return parse_scheduler.validate_json(line) if line.endswith(b"\n") else None
        except (OSError, ValidationError):
            return None

    def _receive(self) -> None:
        while not self._ended.is_set():
            message = self._read()
            match message:
                case Block(slot=slot, block=block):
                    self._answers[slot].put(block)
                case End():
                    self._finish()
                case _:
                    self._lost()
                    return

    def _beat(self) -> None:
        """Say now and then that this worker lives, and at once that it is told to end."""
        while not self._stopping.wait(BEAT_S) and not self._ended.is_set():
            self.send(Beat())
        if self._stopping.is_set():
            self.send(Leaving())
            self._release_slots()
            while not self._ended.wait(BEAT_S):
                self.send(Beat())

    def _finish(self) -> None:
        """No more blocks: those in hand are finished, and still reported."""
        self._over = True
        self._stopping.set()
        self._release_slots()

    def _release_slots(self) -> None:
        for answers in self._answers:
            answers.put(None)

    def _lost(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            if not self._over:
                self._on_lost()


def _connect(address: Address) -> socket.socket:
    try:
        connection = socket.create_connection(("127.0.0.1", address.port), CONNECT_S)
    except OSError as error:
        raise RunStateError(
            f"no scheduler answers at port {address.port} of this machine ({error.strerror}). The "
            f"run's scheduler was started on {address.host}; workers join on the same machine."
        ) from None
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
