"""Workers that lie, talk nonsense, ask forever or never listen do the run no harm."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from blockwise_predict.scheduling.transport import gate
from blockwise_predict.scheduling.transport.messages import Message, Next
from blockwise_predict.scheduling.transport.tls import client_context
from tests.support.peers import UPGRADE, Peer, block, done, frame, hello, said, serving, welcome
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("soon", "patient_handshakes")


def test_a_greeting_that_lies_about_its_blocks_gains_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, blocks=3) as scheduler:
        honest = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert [honest.hear(), honest.hear()] == [welcome(0), block(0)]
        liar = Peer(scheduler.address, hello("b", held=[0, 1, 2, 99, 1 << 61]))
        assert liar.hear() == welcome(1)
        liar.say(done(0), done(1), done(99), Next(slot=0))
        assert liar.hear() == block(1)
        liar.cut()
        again = Peer(scheduler.address, hello("b", number=0, held=[0, 1, 2]))
        assert again.hear() == welcome(1, 1)
        assert scheduler.server.status.counts.done == 0


def test_an_absurd_number_does_no_harm(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        assert Peer(scheduler.address, hello("a", number=999_999)).hear() == welcome(999_999)
        assert Peer(scheduler.address, hello("b")).hear() == welcome(0)


@pytest.mark.parametrize(
    "nonsense",
    [Next(slot=1), Next(slot=0), hello("a", number=0)],
    ids=["a slot too many", "a slot that has a block", "hello twice"],
)
def test_a_worker_that_talks_nonsense_is_cut_off_and_loses_its_blocks(
    nonsense: Message, tmp_path: Path
) -> None:
    with serving(tmp_path, blocks=1) as scheduler:
        worker = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert worker.hear() == welcome(0)
        assert worker.hear() is not None
        worker.say(nonsense)
        assert worker.hear() is None
        other = Peer(scheduler.address, hello("b"), Next(slot=0))
        assert other.hear() == welcome(1)
        assert other.hear() == block(0)


@pytest.mark.parametrize(
    "changes",
    [
        *({"host": "x" * 301}, {"slots": 0}, {"slots": 10**6}, {"number": -1}),
        *({"number": 2**62 - 1}, {"held": list(range(2001))}, {"held": [-1]}),
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_absurd_greetings_are_not_answered(changes: dict[str, object], tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        assert Peer(scheduler.address, hello("a", **changes)).hear() is None
        assert "join" not in scheduler.events


def test_a_worker_that_asks_for_ever_gets_a_block_for_each_slot(tmp_path: Path) -> None:
    with serving(tmp_path, blocks=1000) as scheduler:
        worker = Peer(scheduler.address, hello("a", slots=3))
        assert worker.hear() == welcome(0)
        worker.say(*(Next(slot=slot) for slot in range(3)))
        assert [worker.hear() for _ in range(3)] == [block(slot, slot) for slot in range(3)]
        worker.say(*(Next(slot=n % 3) for n in range(1000)))
        assert worker.hear() is None
        # It was cut off, and has to give back what it holds.
        until(lambda: scheduler.server.status.counts.processing == 0)


def test_a_worker_that_waits_and_asks_for_ever_is_told_once(tmp_path: Path) -> None:
    with serving(tmp_path, blocks=1) as scheduler:
        busy = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert [busy.hear(), busy.hear()] == [welcome(0), block(0)]
        worker = Peer(scheduler.address, hello("b", slots=2))
        assert worker.hear() == welcome(1)
        for _ in range(100):
            worker.say(*(Next(slot=n % 2) for n in range(1000)))
        busy.say(done(0), Next(slot=0))
        for peer in (busy, worker):
            said = peer.hear()
            assert said is not None
            assert said["say"] == "end"
        worker.close()
        assert worker.hear() is None


def test_a_worker_that_never_reads_takes_no_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is held back, and cut off when it does not answer a ping."""
    monkeypatch.setattr(gate, "HEARTBEAT_S", 2.0)
    with serving(tmp_path, blocks=1) as scheduler:
        plain = socket.create_connection(("127.0.0.1", scheduler.address.port), timeout=2)
        worker = client_context(scheduler.address.key).wrap_socket(plain)
        worker.sendall(UPGRADE + frame(said(hello("a"))))
        until(lambda: scheduler.present == {0})
        before = psutil.Process().memory_info().rss
        sent, deadline = 0, time.monotonic() + 20
        with suppress(OSError):
            while time.monotonic() < deadline:
                sent += worker.send(frame(b"x" * 125, opcode=9) * 1000)
        until(lambda: "disconnect" in scheduler.events)
        grown = psutil.Process().memory_info().rss - before
        assert grown < 50 << 20, f"{grown >> 20} MiB for {sent >> 20} MiB of pings"
