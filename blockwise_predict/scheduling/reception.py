"""The scheduler's end of the workers' connections, in one event loop.

Admits workers, passes their messages to the dispatcher, and answers when there is an answer. Who
says something else than a worker of this run would is not admitted, and who talks nonsense is cut
off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import ValidationError

from blockwise_predict import __version__
from blockwise_predict.records.departures import Departure
from blockwise_predict.scheduling.dispatcher import Dispatcher
from blockwise_predict.scheduling.members import Member
from blockwise_predict.scheduling.protocol import (
    PROTOCOL,
    Back,
    Block,
    Done,
    End,
    Failed,
    FromWorker,
    Hello,
    Leaving,
    Message,
    Next,
    Refused,
    Welcome,
    parse_worker,
)
from blockwise_predict.scheduling.status import Status

# A worker that is not heard of for so long is lost (seconds).
SILENCE_S = 30.0
TICK_S = 0.1
# If this thread itself stood still for so long, nobody's silence counts.
STALL_S = 5.0


@dataclass
class Connection:
    """An admitted worker's connection; `process` is the worker's own mark, `waiting` are its slots
    that have asked and wait."""

    number: int
    process: str
    writer: asyncio.StreamWriter
    heard: float
    waiting: set[int] = field(default_factory=set)

    def send(self, message: Message) -> None:
        """Send a message; if the worker is gone, its connection's end tells so."""
        self.writer.write(message.line())


class Reception:
    """Serves the workers of the run `run` from a dispatcher, and keeps `status` up to date."""

    def __init__(self, dispatcher: Dispatcher, status: Status, run: str, first_number: int) -> None:
        self._dispatcher = dispatcher
        self._status = status
        self._run = run
        self._next_number = first_number
        self._connections: dict[int, Connection] = {}
        # Workers, by their marks, that are not wanted any more.
        self._released: set[str] = set()
        # And those that had to be given up, and may not come back.
        self._barred: set[str] = set()
        status.counts = dispatcher.counts

    async def greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Connection | None:
        """The connection of a worker that may join; None for anybody else."""
        hello = await _read(reader)
        if not isinstance(hello, Hello):
            return None
        why = self._objection(hello)
        if why is not None:
            writer.write(Refused(why=why).line())
            await writer.drain()
            return None
        try:
            return self._join(hello, writer)
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self._status.fail(error)
            return None

    async def serve(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        """Serve a worker until its connection ends."""
        try:
            while (message := await _read(reader)) is not None:
                if self._connections.get(connection.number) is not connection:
                    return
                if not self._makes_sense(connection, message):
                    return
                connection.heard = time.monotonic()
                with self._failing():
                    self._handle(connection, message)
        finally:
            with self._failing():
                self._forget(connection, Departure.LOST)

    def _makes_sense(self, connection: Connection, message: FromWorker) -> bool:
        if isinstance(message, Next):
            return message.slot < self._dispatcher.members[connection.number].slots
        return not isinstance(message, Hello)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """If something goes wrong here, a record cannot be written, say, the run must not go on."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self._status.fail(error)

    def _objection(self, hello: Hello) -> str | None:
        """Why a worker may not join."""
        if hello.process in self._barred:
            return "it took too long for a block, which is done again by another one"
        if hello.run != self._run:
            return f"it works on another run: {hello.run}, and this is {self._run}"
        if (hello.protocol, hello.version) != (PROTOCOL, __version__):
            return (
                f"it is blockwise-predict {hello.version}, and the scheduler is {__version__}: "
                "install the same version on both"
            )
        return None

    def _join(self, hello: Hello, writer: asyncio.StreamWriter) -> Connection:
        number = self._next_number if hello.number is None else hello.number
        if number in self._connections:
            if self._connections[number].process == hello.process:
                self._forget(self._connections[number], Departure.RECONNECTED)
            else:
                # It comes from a scheduler before this one, which has given its number to another.
                number = self._next_number
        self._next_number = max(self._next_number, number + 1)
        connection = Connection(number, hello.process, writer, time.monotonic())
        self._connections[number] = connection
        name = f"{hello.host}, process {hello.pid}" + (f", job {hello.job}" if hello.job else "")
        member = Member(number, name, hello.slots, hello.job, hello.log)
        member.leaving = hello.process in self._released
        self._dispatcher.join(member)
        attendance = self._status.attendance
        attendance.joined[number] = hello.job
        attendance.joins += 1
        attendance.present.add(number)
        connection.send(Welcome(number=number))
        return connection

    def _forget(self, connection: Connection, cause: Departure) -> None:
        if self._connections.get(connection.number) is not connection:
            return
        del self._connections[connection.number]
        self._status.attendance.present.discard(connection.number)
        connection.writer.close()
        if connection.number in self._dispatcher.members:
            self._dispatcher.leave(connection.number, cause)
        self._answer_waiting()

    def _handle(self, connection: Connection, message: FromWorker) -> None:
        number, dispatcher = connection.number, self._dispatcher
        match message:
            case Next(slot=slot):
                connection.waiting.add(slot)
                self._answer(connection)
                return
            case Done():
                dispatcher.done(number, message)
            case Failed(block=block, error=error, traceback=traceback, fatal=fatal):
                dispatcher.failed(number, block, error, traceback, fatal)
            case Back(block=block):
                dispatcher.back(number, block)
            case Leaving():
                dispatcher.members[number].leaving = True
            case _:
                return
        self._answer_waiting()

    def _answer(self, connection: Connection) -> None:
        """Answer a worker's slots that wait, as far as there are answers."""
        for slot in sorted(connection.waiting):
            answer = self._dispatcher.next(connection.number)
            if answer == "wait":
                return
            connection.waiting.discard(slot)
            if answer == "end":
                connection.send(End(why="there are no more blocks"))
            else:
                connection.send(Block(slot=slot, block=int(answer)))

    def _answer_waiting(self) -> None:
        if self._dispatcher.something_to_say:
            for connection in list(self._connections.values()):
                self._answer(connection)
        self._status.reason = self._dispatcher.reason
        if self._dispatcher.finished:
            self._status.counts = self._dispatcher.counts
            self._status.finished.set()

    def drain(self) -> None:
        """Hand out no more."""
        self._dispatcher.drain()
        self._answer_waiting()

    def release(self, numbers: Collection[int]) -> None:
        """These workers are not wanted any more: they finish what they hold, and end."""
        for number in numbers:
            connection = self._connections.get(number)
            if connection is not None and connection.process not in self._released:
                self._released.add(connection.process)
                self._dispatcher.members[number].leaving = True
                connection.send(End(why="there are fewer workers wanted"))

    async def tick(self) -> None:
        """Now and then: who is silent, which block takes too long, who can be answered."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            if now - last > STALL_S:
                for connection in self._connections.values():
                    connection.heard = now
            last = now
            self._end_silent(now)
            self._end_overdue()
            self._answer_waiting()
            self._status.counts = self._dispatcher.counts

    def _end_silent(self, now: float) -> None:
        for connection in list(self._connections.values()):
            silent = now - connection.heard
            if silent > SILENCE_S:
                self._end(connection, f"has not been heard of for {silent:.0f} s", Departure.SILENT)

    def _end_overdue(self) -> None:
        for number, block in self._dispatcher.overdue():
            if number in self._dispatcher.members:
                self._dispatcher.time_out(number, block)
                connection = self._connections[number]
                # It could join again before it is ended, and take another block along.
                self._barred.add(connection.process)
                self._abort(connection)

    def _end(self, connection: Connection, why: str, cause: Departure) -> None:
        """Give a worker up."""
        self._dispatcher.expel(connection.number, why, cause)
        self._abort(connection)

    def _abort(self, connection: Connection) -> None:
        """End a worker's connection; whoever started it ends its process."""
        self._status.lost.put(connection.number)
        connection.writer.transport.abort()
        self._forget(connection, Departure.LOST)

    def close(self) -> None:
        """Close all connections, and conclude the status."""
        for connection in list(self._connections.values()):
            self._forget(connection, Departure.SCHEDULER_ENDED)
        self._status.counts = self._dispatcher.counts
        self._status.shares = self._dispatcher.shares
        self._dispatcher.close()


async def _read(reader: asyncio.StreamReader) -> FromWorker | None:
    """The next message; None at the connection's end, or if what comes is no message."""
    try:
        line = await reader.readline()
        return parse_worker.validate_json(line) if line.endswith(b"\n") else None
    except (ValidationError, ValueError):
        return None
