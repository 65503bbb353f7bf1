"""The scheduler's end of the workers' connections, in one event loop.

Admits workers, passes their messages to the dispatcher, and answers when there is an answer. A
worker whose connection breaks keeps its blocks for a grace, in which it may come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from blockwise_predict.errors import RecordsError
from blockwise_predict.records.departures import Departure
from blockwise_predict.scheduling.connection import Connection
from blockwise_predict.scheduling.dispatcher import Dispatcher
from blockwise_predict.scheduling.members import Member
from blockwise_predict.scheduling.roster import Roster
from blockwise_predict.scheduling.status import Status
from blockwise_predict.scheduling.transport.messages import (
    Back,
    Block,
    Bye,
    Done,
    Failed,
    FromWorker,
    Hello,
    Leaving,
    Next,
    Refused,
    Welcome,
)
from blockwise_predict.scheduling.transport.wire import Wire

# Seconds for a worker that was cut off to come back.
GRACE_S = 60.0
TICK_S = 0.1
# If this thread itself stood still for this long, nobody's absence counts (seconds).
STALL_S = 5.0


class WorkerServer:
    """Serves the workers of the run `run` from a dispatcher, and keeps `status` up to date."""

    def __init__(self, dispatcher: Dispatcher, status: Status, run: str, first_number: int) -> None:
        self._dispatcher = dispatcher
        self._status = status
        self._roster = Roster(run, first_number)
        self._connections: dict[int, Connection] = {}
        self.publish()

    async def serve(
        self, wire: Wire[FromWorker], abort: Callable[[], None], admitted: Callable[[], None]
    ) -> None:
        """Serve a connection until it ends; calls `admitted` if it is a worker's of this run, and
        `abort` to cut it off."""
        async with wire.sending():
            match await wire.receive():
                case [Hello() as hello]:
                    why = self._roster.objection(hello)
                case _:
                    return
            if why is not None:
                wire.send(Refused(why=why))
                await wire.close()
                return
            with self._failing():
                connection = self._admit(hello, wire, abort)
                admitted()
                await self._listen(connection)

    async def _listen(self, connection: Connection) -> None:
        """Take a worker's messages until its connection ends."""
        try:
            while messages := await connection.wire.receive():
                for message in messages:
                    if not self._is_current(connection):
                        return
                    if isinstance(message, Bye):
                        await self._let_go(connection)
                        return
                    if not self._makes_sense(connection, message):
                        self._remove(
                            connection.number, Departure.LOST, "it sent what no worker sends"
                        )
                        return
                    self._handle(connection, message)
                self._answer(connection)
                self._answer_waiting()
        finally:
            if self._is_current(connection):
                self._ended(connection)

    def _is_current(self, connection: Connection) -> bool:
        return self._connections.get(connection.number) is connection

    def _makes_sense(self, connection: Connection, message: FromWorker) -> bool:
        if isinstance(message, Next):
            member = self._dispatcher.members[connection.number]
            busy = any(held.slot == message.slot for held in member.held.values())
            return message.slot < member.slots and not busy
        return not isinstance(message, Hello)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """If something goes wrong here, the run must not go on."""
        try:
            yield
        except OSError as error:
            # The dispatcher writes records, and does nothing else with files or sockets.
            self._status.fail(RecordsError(error))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self._status.fail(error)

    def _admit(self, hello: Hello, wire: Wire[FromWorker], abort: Callable[[], None]) -> Connection:
        """Take a worker in, or back."""
        kept: list[int] = []
        number = self._roster.number_of(hello.process)
        if number is not None:
            self._drop(number)
            kept = self._dispatcher.rejoin(number, hello.held)
        else:
            number = self._enter(hello)
        connection = self._connections[number] = Connection(number, wire, abort)
        wire.send(Welcome(number=number, kept=kept))
        if self._dispatcher.members[number].leaving:
            connection.end("there are fewer workers wanted")
        self._answer_waiting()
        return connection

    def _enter(self, hello: Hello) -> int:
        """Take in a new worker; returns its number."""
        members = self._dispatcher.members
        holder = members.get(-1 if hello.number is None else hello.number)
        if holder is not None and (holder.has_ended or holder.away_since is not None):
            why = "another worker was started in its place"
            self._remove(holder.number, Departure.LOST, why)
        number = self._roster.enter(hello.process, hello.number, members, hello.job)
        name = f"{hello.host}, process {hello.pid}" + (f", job {hello.job}" if hello.job else "")
        self._dispatcher.join(Member(number, name, hello.slots, hello.job, hello.log))
        return number

    def _drop(self, number: int) -> None:
        """Close a worker's connection, if there is one, and forget it."""
        connection = self._connections.pop(number, None)
        if connection is not None:
            connection.abort()

    def _ended(self, connection: Connection) -> None:
        """Note that a worker's connection is lost. The worker may come back."""
        number = connection.number
        if self._dispatcher.members[number].has_ended:
            self._remove(number, Departure.LOST, "its process has ended")
        else:
            self._drop(number)
            self._dispatcher.disconnect(number, "its connection was lost")

    async def _let_go(self, connection: Connection) -> None:
        """Let a worker go that has said good-bye."""
        del self._connections[connection.number]
        self._remove(connection.number, Departure.FINISHED, "it said good-bye")
        await connection.wire.close()

    def _remove(self, number: int, cause: Departure, why: str) -> None:
        """A worker is gone for good."""
        self._forget(number)
        self._dispatcher.leave(number, cause, why)
        self._answer_waiting()

    def _forget(self, number: int, *, bar: bool = False) -> None:
        self._drop(number)
        self._roster.remove(number, bar=bar)

    def _handle(self, connection: Connection, message: FromWorker) -> None:
        number, dispatcher = connection.number, self._dispatcher
        match message:
            case Next(slot=slot):
                connection.waiting.add(slot)
            case Done():
                dispatcher.done(number, message)
            case Failed(block=block, error=error, traceback=traceback, fatal=fatal):
                dispatcher.failed(number, block, error, traceback, fatal)
            case Back(block=block):
                dispatcher.back(number, block)
            case Leaving():
                dispatcher.members[number].leaving = True

    def _answer(self, connection: Connection) -> None:
        """Answer a worker's slots that wait, as far as there are answers."""
        for slot in sorted(connection.waiting):
            match self._dispatcher.next(connection.number, slot):
                case "wait":
                    return
                case "end":
                    connection.end("there are no more blocks")
                case int(block):
                    connection.waiting.discard(slot)
                    connection.wire.send(Block(slot=slot, block=block))

    def _answer_waiting(self) -> None:
        if self._dispatcher.has_pending_replies:
            for connection in list(self._connections.values()):
                self._answer(connection)
            self._status.reason = self._dispatcher.reason
            if self._dispatcher.finished:
                self.publish()
                self._status.finished.set()

    def publish(self) -> None:
        """Bring the status up to date."""
        self._status.counts = counts = self._dispatcher.counts
        attendance = self._roster.attendance
        if attendance is not self._status.attendance or attendance.done != counts.done:
            self._roster.attendance = replace(attendance, done=counts.done)
            self._status.attendance = self._roster.attendance

    def drain(self) -> None:
        """Hand out no more."""
        self._dispatcher.drain()
        self._answer_waiting()

    def release(self, numbers: Collection[int]) -> None:
        """Have workers that are not wanted any more finish what they hold, and end."""
        for number in numbers:
            if number in self._dispatcher.members:
                self._dispatcher.members[number].leaving = True
            if number in self._connections:
                self._connections[number].end("there are fewer workers wanted")

    def gone(self, numbers: Collection[int]) -> None:
        """The processes of these workers are known to have ended: none comes back."""
        for number in numbers:
            member = self._dispatcher.members.get(number)
            if member is not None:
                # Its last messages may not have been read yet.
                member.has_ended = True
                if member.away_since is not None:
                    self._remove(number, Departure.LOST, "its process has ended")

    async def tick(self) -> None:
        """Evict who is away for too long, or takes too long for a block; answer who can be."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            with self._failing():
                self._evict_absent(now, stalled=now - last if now - last > STALL_S else 0.0)
                self._evict_overdue()
                self._answer_waiting()
                self.publish()
            last = now

    def _evict_absent(self, now: float, stalled: float) -> None:
        for number, member in list(self._dispatcher.members.items()):
            if member.away_since is not None:
                member.away_since += stalled
                absent = now - member.away_since
                if absent > GRACE_S:
                    self._forget(number)
                    why = f"has not been heard of for {absent:.0f} s"
                    self._dispatcher.evict(number, Departure.SILENT, why)
                    # Whoever started it terminates its process.
                    self._status.lost.put(number)

    def _evict_overdue(self) -> None:
        for number, block in self._dispatcher.overdue():
            if number in self._dispatcher.members:
                # It could come back before it is terminated, and take another block along.
                self._forget(number, bar=True)
                self._dispatcher.time_out(number, block)
                self._status.lost.put(number)

    async def part(self, seconds: float) -> None:
        """Give workers that have been told to end a moment to say so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(
            connection.told_to_end for connection in self._connections.values()
        ):
            await asyncio.sleep(TICK_S / 10)

    def close(self) -> None:
        """Close all connections, and conclude the status."""
        for number in list(self._dispatcher.members):
            self._forget(number)
            self._dispatcher.leave(number, Departure.SCHEDULER_ENDED)
        self.publish()
        self._status.shares = self._dispatcher.shares
        self._dispatcher.close()
