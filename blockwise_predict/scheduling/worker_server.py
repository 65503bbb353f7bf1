"""The scheduler's side of the workers' connections, in one event loop.

Admits workers, passes their messages to the dispatcher, and answers their requests. A worker whose
connection breaks keeps its blocks for a grace period, in which it may reconnect.
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
from blockwise_predict.scheduling.roster import Roster, member_of
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

# Time for a disconnected worker to reconnect (seconds).
GRACE_S = 60.0
TICK_S = 0.1
# Interval at which the workers are described for those who look (seconds).
SHOW_S = 0.5
# If this thread itself was stalled for longer than this, that time does not count as any worker's
# absence (seconds).
STALL_S = 5.0


class WorkerServer:
    """Serves the workers of run `run` from a dispatcher, and keeps `status` up to date."""

    def __init__(self, dispatcher: Dispatcher, status: Status, run: str, first_number: int) -> None:
        self._dispatcher = dispatcher
        self._status = status
        self._roster = Roster(run, first_number)
        self._connections: dict[int, Connection] = {}
        self._shown = 0.0
        self.publish()

    async def serve(
        self, wire: Wire[FromWorker], abort: Callable[[], None], admitted: Callable[[], None]
    ) -> None:
        """Serve a connection until it ends; calls `admitted` once it belongs to a worker of this
        run, and `abort` to cut it off."""
        async with wire.sending():
            match await wire.receive():
                case [Hello() as hello]:
                    why = self._roster.refusal(hello)
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
        """Handle a worker's messages until its connection ends."""
        try:
            while messages := await connection.wire.receive():
                for message in messages:
                    if not self._is_current(connection):
                        return
                    if isinstance(message, Bye):
                        await self._dismiss(connection)
                        return
                    if not self._is_valid(connection, message):
                        self._remove(
                            connection.number, Departure.LOST, "it sent what no worker sends"
                        )
                        return
                    self._handle(connection, message)
                self._answer(connection)
                self._answer_waiting()
        finally:
            if self._is_current(connection):
                self._lost(connection)

    def _is_current(self, connection: Connection) -> bool:
        return self._connections.get(connection.number) is connection

    def _is_valid(self, connection: Connection, message: FromWorker) -> bool:
        if isinstance(message, Next):
            member = self._dispatcher.members[connection.number]
            busy = any(held.slot == message.slot for held in member.held.values())
            return message.slot < member.slots and not busy
        return not isinstance(message, Hello)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Stop the run if something goes wrong here."""
        try:
            yield
        except OSError as error:
            # The dispatcher uses no files or sockets other than the records.
            self._status.fail(RecordsError(error))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  `check` raises it; daisy's are no Exceptions
            self._status.fail(error)

    def _admit(self, hello: Hello, wire: Wire[FromWorker], abort: Callable[[], None]) -> Connection:
        """Admit a new worker, or one that reconnects."""
        kept: list[int] = []
        number = self._roster.number_of(hello.process)
        if number is not None:
            self._drop(number)
            kept = self._dispatcher.rejoin(number, hello.held)
        else:
            number = self._register(hello)
        connection = self._connections[number] = Connection(number, wire, abort)
        wire.send(Welcome(number=number, kept=kept))
        if self._dispatcher.members[number].leaving:
            connection.end("fewer workers are wanted")
        self._answer_waiting()
        return connection

    def _register(self, hello: Hello) -> int:
        """Register a new worker; returns its number."""
        members = self._dispatcher.members
        holder = members.get(-1 if hello.number is None else hello.number)
        if holder is not None and (holder.has_ended or holder.away_since is not None):
            why = "another worker was started in its place"
            self._remove(holder.number, Departure.LOST, why)
        number = self._roster.add(hello.process, hello.number, members, hello.job)
        self._dispatcher.join(member_of(hello, number))
        return number

    def _drop(self, number: int) -> None:
        """Cut off a worker's connection, if there is one."""
        connection = self._connections.pop(number, None)
        if connection is not None:
            connection.abort()

    def _lost(self, connection: Connection) -> None:
        """Handle a lost connection: its worker may reconnect, unless its process has ended."""
        number = connection.number
        if self._dispatcher.members[number].has_ended:
            self._remove(number, Departure.LOST, "its process has ended")
        else:
            self._drop(number)
            self._dispatcher.disconnect(number, "its connection was lost")

    async def _dismiss(self, connection: Connection) -> None:
        """Remove a worker that has said good-bye, and close its connection cleanly."""
        del self._connections[connection.number]
        self._remove(connection.number, Departure.FINISHED, "it said good-bye")
        await connection.wire.close()

    def _remove(self, number: int, cause: Departure, why: str) -> None:
        """Remove a worker for good, and requeue its blocks."""
        self._forget(number)
        self._dispatcher.remove(number, cause, why)
        self._answer_waiting()

    def _forget(self, number: int, *, ban: bool = False) -> None:
        self._drop(number)
        self._roster.remove(number, ban=ban)

    def _handle(self, connection: Connection, message: FromWorker) -> None:
        number, dispatcher = connection.number, self._dispatcher
        match message:
            case Next(slot=slot):
                connection.waiting.add(slot)
            case Done():
                dispatcher.done(number, message)
            case Failed():
                dispatcher.failed(number, message)
            case Back(block=block):
                dispatcher.hand_back(number, block)
            case Leaving():
                dispatcher.members[number].leaving = True

    def _answer(self, connection: Connection) -> None:
        """Answer a worker's waiting slots, as far as there are answers."""
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
        """Update the status."""
        self._status.counts = counts = self._dispatcher.counts
        if time.monotonic() - self._shown > SHOW_S:
            self._shown = time.monotonic()
            self._status.workers = self._dispatcher.workers
        membership = self._roster.membership
        if membership is not self._status.membership or membership.done != counts.done:
            self._roster.membership = replace(membership, done=counts.done)
            self._status.membership = self._roster.membership

    def drain(self) -> None:
        """Hand out no more blocks."""
        self._dispatcher.drain()
        self._answer_waiting()

    def release(self, numbers: Collection[int]) -> None:
        """Have surplus workers finish the blocks they hold, and end."""
        for number in numbers:
            if number in self._dispatcher.members:
                self._dispatcher.members[number].leaving = True
            if number in self._connections:
                self._connections[number].end("fewer workers are wanted")

    def gone(self, numbers: Collection[int]) -> None:
        """Note that the processes of these workers have ended, so none of them reconnects."""
        for number in numbers:
            member = self._dispatcher.members.get(number)
            if member is not None:
                # It is removed once its last messages have been read.
                member.has_ended = True
                if member.away_since is not None:
                    self._remove(number, Departure.LOST, "its process has ended")

    async def tick(self) -> None:
        """Periodically evict workers that are absent or overdue, and answer waiting slots."""
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
                    # Its fleet terminates the process.
                    self._status.lost.put(number)

    def _evict_overdue(self) -> None:
        for number, block in self._dispatcher.overdue():
            if number in self._dispatcher.members:
                # It could otherwise reconnect before it is terminated, and take another block.
                self._forget(number, ban=True)
                self._dispatcher.time_out(number, block)
                self._status.lost.put(number)

    async def wait_for_goodbyes(self, seconds: float) -> None:
        """Wait at most this long for workers that have been told to end to say good-bye."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(
            connection.told_to_end for connection in self._connections.values()
        ):
            await asyncio.sleep(TICK_S / 10)

    def close(self) -> None:
        """Close all connections, and complete the status."""
        for number in list(self._dispatcher.members):
            self._forget(number)
            self._dispatcher.remove(number, Departure.SCHEDULER_ENDED)
        self._shown = 0.0
        self.publish()
        self._status.shares = self._dispatcher.shares
        self._dispatcher.close()
