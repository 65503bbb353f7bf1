"""Strangers at the gate: random, mutated, half-open and slow connections, by the thousand.

    python tests/support/fuzz.py RUN_DIR --connections 100000

All go to the port of a scheduler on this machine, over loopback.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[2]))

from blockwise_predict import __version__
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.transport.messages import Done, Failed, Hello, Next
from blockwise_predict.scheduling.transport.tls import client_context, make_key
from tests.support.mutations import mutated_bytes
from tests.support.peers import UPGRADE, frame, said

AT_ONCE = 50
PATIENCE_S = 15.0
KNOWN = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"*1\r\n$4\r\nPING\r\n",
    b"EHLO example\r\n",
)


class Fuzzer:
    """Opens connections to a run's scheduler; `kinds` counts them."""

    def __init__(self, run_dir: RunDir, seed: int) -> None:
        self.kinds: Counter[str] = Counter()
        self._chance = random.Random(seed)
        address = run_dir.address()
        self._port = address.port
        self._own = client_context(address.key)
        self._foreign = client_context(make_key())
        # One that does not mind whom it talks to.
        self._foreign.verify_mode = ssl.CERT_NONE
        hello = Hello(
            run=run_dir.run_id(),
            version=__version__,
            number=7,
            process="x",
            host="x",
            pid=1,
            slots=1,
        )
        self._hello = said(hello)
        self._greeting = UPGRADE + frame(self._hello)
        self._handshake = _first_flight()

    def run(self, connections: int) -> None:
        """Open so many connections, some at once."""
        asyncio.run(self._all(connections))

    async def _all(self, connections: int) -> None:
        left = iter(range(connections))

        async def one_after_the_other() -> None:
            for _ in left:
                kind = self._chance.choices(list(self.KINDS), [w for w, _ in self.KINDS.values()])
                self.kinds[kind[0]] += 1
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    await asyncio.wait_for(self.KINDS[kind[0]][1](self), PATIENCE_S)

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))

    async def _plain(self, data: bytes, *, wait: float = 0.0, listen: bool = True) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(data)
            await asyncio.sleep(wait)
            if self._chance.random() < 0.5:
                writer.write_eof()
            if listen:
                await asyncio.wait_for(reader.read(1000), 0.05)
        finally:
            # Half of them without a good-bye.
            if self._chance.random() < 0.5:
                writer.transport.abort()
            writer.close()

    async def _secured(self, context: ssl.SSLContext, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=context)
        try:
            writer.write(data)
            await asyncio.wait_for(reader.read(1000), 0.5)
        finally:
            writer.transport.abort()

    def _mutated(self, data: bytes) -> bytes:
        return mutated_bytes(data, self._chance)

    async def _random(self) -> None:
        await self._plain(self._chance.randbytes(self._chance.randint(1, 3000)))

    async def _scanner(self) -> None:
        await self._plain(self._chance.choice(KNOWN))

    async def _greeting_without_tls(self) -> None:
        await self._plain(self._greeting)

    async def _mutated_handshake(self) -> None:
        await self._plain(self._mutated(self._handshake))

    async def _half_open(self) -> None:
        await self._plain(self._handshake[: self._chance.randrange(100)], listen=False)

    async def _slow(self) -> None:
        begin = self._handshake[: self._chance.randrange(1, 100)]
        await self._plain(begin, wait=self._chance.uniform(0.1, 1.0), listen=False)

    async def _another_key(self) -> None:
        await self._secured(self._foreign, self._greeting)

    async def _mutated_request(self) -> None:
        # Somebody who holds the key, but does not speak as a worker does.
        await self._secured(self._own, self._mutated(UPGRADE))

    async def _mutated_frame(self) -> None:
        data = self._greeting
        while data.startswith(self._greeting):
            data = UPGRADE + self._mutated(self._greeting[len(UPGRADE) :])
        await self._secured(self._own, data)

    async def _mutated_greeting(self) -> None:
        data = self._hello
        while data.startswith(self._hello):
            data = self._mutated(self._hello)
        await self._secured(self._own, UPGRADE + frame(data))

    async def _messages_without_greeting(self) -> None:
        done = Done(block=0, read=0, compute=0, write=0, clipped=[0], nonfinite=[0])
        failed = Failed(block=1, error="x" * 100, traceback="")
        message = self._chance.choice([done, failed, Next(slot=0)])
        await self._secured(self._own, UPGRADE + frame(said(message)))

    async def _nested(self) -> None:
        await self._secured(self._own, UPGRADE + frame(b"[" * 500_000))

    async def _endless_header(self) -> None:
        await self._secured(self._own, UPGRADE[:-2] + b"X: " + b"x" * 2_000_000)

    async def _endless_frame(self) -> None:
        await self._secured(self._own, UPGRADE + frame(b"x" * 2_000_000))

    KINDS: dict[str, tuple[float, Callable[[Fuzzer], Awaitable[None]]]] = {  # noqa: RUF012
        "random bytes": (20, _random),
        "scanner": (10, _scanner),
        "greeting without TLS": (10, _greeting_without_tls),
        "mutated handshake": (30, _mutated_handshake),
        "half-open": (15, _half_open),
        "slow": (3, _slow),
        "another key": (3, _another_key),
        "mutated request, with the key": (3, _mutated_request),
        "mutated frame, with the key": (3, _mutated_frame),
        "mutated greeting, with the key": (3, _mutated_greeting),
        "messages without greeting, with the key": (2, _messages_without_greeting),
        "nested message, with the key": (0.5, _nested),
        "endless header, with the key": (0.5, _endless_header),
        "endless frame, with the key": (0.5, _endless_frame),
    }


def _first_flight() -> bytes:
    """What a client says first in a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(make_key()).wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--connections", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(run_dir: Path, connections: int, seed: int) -> None:
    """Disturb the scheduler of a run that goes on in RUN_DIR."""
    fuzzer = Fuzzer(RunDir(run_dir.absolute()), seed)
    begin = time.monotonic()
    fuzzer.run(connections)
    click.echo(f"{connections} connections in {time.monotonic() - begin:.0f} s")
    for kind, count in fuzzer.kinds.most_common():
        click.echo(f"{count:8}  {kind}")


if __name__ == "__main__":
    main()
