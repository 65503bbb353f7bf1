"""The scheduler's end of the connections: admits workers, passes their messages to the dispatcher.

It runs in a thread of its own, with one event loop; the dispatcher is touched by that thread alone.
It listens on loopback only, and admits who knows the run's secret.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from pydantic import ValidationError

from blockwise_predict import __version__
from blockwise_predict.errors import RunFailedError
from blockwise_predict.scheduling.dispatcher import Counts, Dispatcher, Member
from blockwise_predict.scheduling.protocol import (
    MAX_LINE,
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

HOST = "127.0.0.1"
# A worker that is not heard of for so long is lost (seconds).
SILENCE_S = 30.0
# Who connects has so long to say who it is, and so many may be about to.
HELLO_S = 10.0
MAX_STRANGERS = 64
TICK_S = 0.1
# If this thread itself stood still for so long, nobody's silence counts.
STALL_S = 5.0
START_S = 30.0


@dataclass
class Connection:
    """An admitted worker's connection; `waiting` are its slots that have asked and wait."""

    number: int
    writer: asyncio.StreamWriter
    heard: float
    waiting: set[int] = field(default_factory=set)

    def send(self, message: Message) -> None:
        """Send a message; if the worker is gone, its connection's end tells so."""
        self.writer.write(message.line())


class Server:
    """Serves one run's workers until it is closed.

    `counts` is where the run stands, `reason` why it has to stop early (None if it has not), `lost`
    receives the numbers of workers that are to be ended. Once it is closed, `shares` are the
    workers' busy shares.
    """

    def __init__(
        self, make_dispatcher: Callable[[], Dispatcher], run: str, first_number: int
    ) -> None:
        self.secret = secrets.token_hex(32)
        self.counts = Counts(0, 0, 0, 0)
        self.reason: str | None = None
        self.shares: dict[int, float] = {}
        # daisy's scheduler, which it uses, belongs to the thread that makes it.
        self._make_dispatcher = make_dispatcher
        self._dispatcher: Dispatcher
        self.lost: SimpleQueue[int] = SimpleQueue()
        self.joined: set[int] = set()
        self.finished = threading.Event()
        self._run = run
        self._next_number = first_number
        self._connections: dict[int, Connection] = {}
        self._strangers = 0
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._error: BaseException | None = None
        self._port = 0
        self._thread = threading.Thread(target=self._serve, daemon=True, name="scheduler")

    def start(self) -> int:
        """Begin to listen; returns the port."""
        self._thread.start()
        self._listening.wait(START_S)
        self.check()
        return self._port

    def check(self) -> None:
        """Raise RunFailedError if the run must stop: its reason, or what went wrong here."""
        if self._error is not None:
            raise RunFailedError(f"the scheduler stopped: {self._error}") from self._error
        if self.reason is not None:
            raise RunFailedError(self.reason)

    def drain(self) -> None:
        """Hand out no more; workers finish the blocks they hold, and end."""
        self._loop.call_soon_threadsafe(self._drain)

    def close(self) -> None:
        """Close all connections and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._dispatcher = self._make_dispatcher()
            self.counts = self._dispatcher.counts
            listening = asyncio.start_server(self._connected, HOST, 0, limit=MAX_LINE)
            server = self._loop.run_until_complete(listening)
            self._port = server.sockets[0].getsockname()[1]
            self._listening.set()
            ticking = self._loop.create_task(self._tick())
            self._loop.run_forever()
            ticking.cancel()
            server.close()
            for connection in self._connections.values():
                connection.writer.close()
            # One more turn, in which the closing is done.
            self._loop.run_until_complete(asyncio.sleep(0))
            self._conclude()
        except BaseException as error:  # noqa: BLE001  told by `check`
            self._error = error
        finally:
            self._listening.set()
            self.finished.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = await self._admit(reader, writer)
            if connection is not None:
                await self._listen(connection, reader)
        except OSError as error:
            # Of a connection it is the worker's end; of anything else, a record that cannot be
            # written, and then the run must not go on.
            if not isinstance(error, ConnectionError):
                self._fail(error)
        except BaseException as error:  # noqa: BLE001  told by `check`; daisy's are not Exceptions
            self._fail(error)
        finally:
            writer.close()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.finished.set()

    async def _admit(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Connection | None:
        """The connection of a worker that may join; None for anybody else."""
        if self._strangers >= MAX_STRANGERS:
            return None
        self._strangers += 1
        try:
            hello = await asyncio.wait_for(_read(reader), HELLO_S)
        except TimeoutError:
            return None
        finally:
            self._strangers -= 1
        if not isinstance(hello, Hello):
            return None
        why = self._objection(hello)
        if why is not None:
            writer.write(Refused(why=why).line())
            await writer.drain()
            return None
        return self._join(hello, writer)

    def _objection(self, hello: Hello) -> str | None:
        """Why a worker may not join."""
        if not secrets.compare_digest(hello.secret.encode(), self.secret.encode()):
            return "it does not know the run's secret (server.json in the run directory)"
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
        self._next_number = max(self._next_number, number + 1)
        if number in self._connections:
            self._forget(self._connections[number], "another worker has taken its number")
        connection = Connection(number, writer, time.monotonic())
        self._connections[number] = connection
        name = f"{hello.host}, process {hello.pid}"
        self._dispatcher.join(Member(number, name, hello.slots))
        self.joined.add(number)
        connection.send(Welcome(number=number))
        return connection

    async def _listen(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await _read(reader)) is not None:
                if self._connections.get(connection.number) is not connection:
                    return
                connection.heard = time.monotonic()
                self._handle(connection, message)
        finally:
            self._forget(connection, "its connection ended")

    def _forget(self, connection: Connection, why: str) -> None:
        if self._connections.get(connection.number) is not connection:
            return
        del self._connections[connection.number]
        connection.writer.close()
        if connection.number in self._dispatcher.members:
            self._dispatcher.leave(connection.number, why)
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
        self.counts, self.reason = self._dispatcher.counts, self._dispatcher.reason
        if self._dispatcher.finished:
            self.finished.set()

    def _conclude(self) -> None:
        for number in list(self._dispatcher.members):
            self._dispatcher.leave(number)
        self.counts = self._dispatcher.counts
        self.shares = self._dispatcher.shares
        # Here, in the thread that made it, where daisy wants it to end.
        del self._dispatcher

    def _drain(self) -> None:
        self._dispatcher.drain()
        self._answer_waiting()

    async def _tick(self) -> None:
        """Now and then: who is silent, which block takes too long, who can be answered."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            if now - last > STALL_S:
                for connection in self._connections.values():
                    connection.heard = now
            last = now
            try:
                self._end_silent(now)
                for number, block in self._dispatcher.overdue():
                    if number in self._dispatcher.members:
                        self._dispatcher.time_out(number, block)
                        self._abort(self._connections[number])
                self._answer_waiting()
            except Exception as error:  # noqa: BLE001  told by `check`
                self._fail(error)
                return

    def _end_silent(self, now: float) -> None:
        for connection in list(self._connections.values()):
            silent = now - connection.heard
            if silent > SILENCE_S:
                self._end(connection, f"has not been heard of for {silent:.0f} s")

    def _end(self, connection: Connection, why: str) -> None:
        """Give a worker up."""
        self._dispatcher.expel(connection.number, why)
        self._abort(connection)

    def _abort(self, connection: Connection) -> None:
        """End a worker's connection; whoever started it ends its process."""
        self.lost.put(connection.number)
        connection.writer.transport.abort()
        self._forget(connection, "it was given up")


async def _read(reader: asyncio.StreamReader) -> FromWorker | None:
    """The next message; None at the connection's end, or if what comes is no message."""
    try:
        line = await reader.readline()
        return parse_worker.validate_json(line) if line.endswith(b"\n") else None
    except (ValidationError, ValueError):
        return None
