"""Workers and the scheduler's server: who joins again, who may not, and what is reported then."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from blockwise_predict.errors import RunFailedError
from blockwise_predict.records.address import Address
from blockwise_predict.scheduling import client, retries, worker_server
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.server import Server
from blockwise_predict.scheduling.transport import connect, gate
from blockwise_predict.scheduling.transport.messages import Bye, Leaving, Message, Next
from blockwise_predict.scheduling.transport.sockets import reachable_at
from blockwise_predict.scheduling.transport.tls import client_context
from tests.support.cable import cable
from tests.support.peers import (
    UPGRADE,
    Peer,
    Scheduler,
    block,
    done,
    frame,
    hello,
    said,
    serving,
    welcome,
)
from tests.support.runs import until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens after a while happens soon."""
    monkeypatch.setattr(client, "TAKEOVER_POLL_S", 0.2)
    monkeypatch.setattr(retries, "LOST_DELAY", 0.1)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cut off must be quick to come back."""
    monkeypatch.setattr(worker_server, "GRACE_S", 0.3)


def test_workers_whose_host_and_process_id_are_the_same_are_two(tmp_path: Path) -> None:
    """As in containers on one machine; both come from an earlier scheduler, with its numbers."""
    with serving(tmp_path) as scheduler:
        first = Peer(scheduler.address, hello("a", number=5))
        assert first.hear() == welcome(5)
        second = Peer(scheduler.address, hello("b", number=5))
        assert second.hear() == welcome(0)
        for peer, number in ((first, 0), (second, 1)):
            peer.say(Next(slot=0))
            assert peer.hear() == block(number)
        assert "leave" not in scheduler.events


def test_a_worker_that_was_cut_off_goes_on_with_its_block(tmp_path: Path) -> None:
    """Also while its first connection lingers: nobody has told the scheduler of its end."""
    with serving(tmp_path, blocks=1, retries=0) as scheduler:
        first = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert [first.hear(), first.hear()] == [welcome(0), block(0)]
        second = Peer(scheduler.address, hello("a", number=0, held=[0]))
        assert second.hear() == welcome(0, 0)
        assert first.hear() is None
        second.cut()
        until(lambda: "disconnect" in scheduler.events)
        third = Peer(scheduler.address, hello("a", number=0, held=[0]))
        assert third.hear() == welcome(0, 0)
        third.say(done(0))
        until(scheduler.server.status.finished.is_set)
        assert scheduler.server.status.counts.done == 1
        assert scheduler.events.count("join") == 1
        assert scheduler.server.status.membership.joins == 1
        assert not {"leave", "error"} & set(scheduler.events)


def test_a_block_that_was_on_its_way_when_the_connection_broke_is_handed_out_again(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, blocks=1, retries=0) as scheduler:
        first = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert first.hear() == welcome(0)
        until(lambda: scheduler.server.status.counts.processing == 1)
        first.cut()
        again = Peer(scheduler.address, hello("a", number=0, held=[]), Next(slot=0))
        assert [again.hear(), again.hear()] == [welcome(0), block(0)]
        again.say(done(0))
        until(scheduler.server.status.finished.is_set)


def test_a_report_that_arrives_twice_counts_once(tmp_path: Path) -> None:
    """The worker cannot know whether its last report arrived before the connection broke."""
    with serving(tmp_path, blocks=2) as scheduler:
        first = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert [first.hear(), first.hear()] == [welcome(0), block(0)]
        first.say(done(0))
        until(lambda: scheduler.server.status.counts.done == 1)
        first.cut()
        again = Peer(scheduler.address, hello("a", number=0, held=[0]))
        assert again.hear() == welcome(0)
        again.say(done(0), Next(slot=0))
        assert again.hear() == block(1)
        assert scheduler.server.status.counts.done == 1


@pytest.mark.usefixtures("short_grace")
def test_who_does_not_come_back_within_the_grace_has_lost_its_blocks(tmp_path: Path) -> None:
    with serving(tmp_path, blocks=1) as scheduler:
        first = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert [first.hear(), first.hear()] == [welcome(0), block(0)]
        other = Peer(scheduler.address, hello("b"), Next(slot=0))
        assert other.hear() == welcome(1)
        first.cut()
        assert other.hear() == block(0)
        assert scheduler.server.status.lost.get_nowait() == 0
        (told,) = scheduler.warnings
        assert told.startswith("worker 0 (pod, process 1) has not been heard of for")
        late = Peer(scheduler.address, hello("a", number=0, held=[0]))
        assert late.hear() == welcome(0), "nothing that it holds is its own"
        late.say(done(0))
        other.say(Leaving())
        time.sleep(0.2)
        assert scheduler.server.status.counts.done == 0


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


def test_a_worker_known_to_have_ended_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, blocks=1) as scheduler:
        first = Peer(scheduler.address, hello("a", number=0), Next(slot=0))
        assert [first.hear(), first.hear()] == [welcome(0), block(0)]
        other = Peer(scheduler.address, hello("b"), Next(slot=0))
        assert other.hear() == welcome(1)
        first.cut()
        until(lambda: "disconnect" in scheduler.events)
        scheduler.server.gone([0])
        assert other.hear() == block(0)
        assert scheduler.present == {1}


def test_the_last_words_of_a_worker_that_has_ended_are_heard(tmp_path: Path) -> None:
    """Its fleet may know that it has ended before the scheduler has read all that it said."""
    with serving(tmp_path, blocks=1) as scheduler:
        worker = Peer(scheduler.address, hello("a", number=0), Next(slot=0))
        assert [worker.hear(), worker.hear()] == [welcome(0), block(0)]
        scheduler.server.gone([0])
        worker.say(done(0), Bye())
        until(scheduler.server.status.finished.is_set)
        assert scheduler.server.status.counts.done == 1


def test_a_worker_started_in_anothers_place_gets_its_number(tmp_path: Path) -> None:
    """Though the old connection lingers, as one to a machine that has lost its power does."""
    with serving(tmp_path, blocks=1) as scheduler:
        old = Peer(scheduler.address, hello("a", number=0), Next(slot=0))
        assert [old.hear(), old.hear()] == [welcome(0), block(0)]
        scheduler.server.gone([0])
        before = scheduler.server.status.membership
        new = Peer(scheduler.address, hello("b", number=0), Next(slot=0))
        assert new.hear() == welcome(0)
        assert new.hear() == block(0)
        assert old.hear() is None
        until(lambda: scheduler.server.status.membership.joins == 2)
        assert before.joins == 1, "a snapshot does not change"


def test_an_outlandish_number_spoils_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        assert Peer(scheduler.address, hello("a", number=999_999)).hear() == welcome(999_999)
        assert Peer(scheduler.address, hello("b")).hear() == welcome(0)


def test_a_worker_that_took_too_long_may_not_come_back(tmp_path: Path) -> None:
    """It hangs, or will again; whoever started it ends it, but that takes a while."""
    with serving(tmp_path, deadline=0.3) as scheduler:
        worker = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert worker.hear() == welcome(0)
        assert worker.hear() == block(0)
        assert worker.hear() is None
        refused = Peer(scheduler.address, hello("a", number=0)).hear()
        assert refused is not None
        assert refused["say"] == "refused"
        assert "it took too long for a block, which another worker does now" in refused["why"]
        assert Peer(scheduler.address, hello("b")).hear() == welcome(1)


def test_a_worker_that_is_one_too_many_stays_so_when_it_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        worker = Peer(scheduler.address, hello("a"))
        assert worker.hear() == welcome(0)
        scheduler.server.release([0])
        told = worker.hear()
        assert told is not None
        assert told["say"] == "end"
        again = Peer(scheduler.address, hello("a", number=0), Next(slot=0))
        assert again.hear() == welcome(0)
        told = again.hear()
        assert told is not None
        assert told["say"] == "end"


@pytest.mark.parametrize(
    "nonsense",
    [Next(slot=1), Next(slot=0), hello("a", number=0)],
    ids=["a slot too many", "a slot that has a block", "hello twice"],
)
def test_who_talks_nonsense_is_cut_off_and_its_blocks_are_others(
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
def test_greetings_without_measure_are_not_answered(
    changes: dict[str, object], tmp_path: Path
) -> None:
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


def joined(
    find: Callable[[], Address], slots: int = 1, wait: float = 20.0, number: int | None = None
) -> Client:
    terms = ClientOptions("run", number, slots, wait=wait)
    return Client(find, terms, threading.Event(), lambda *_: None)


class Worker(threading.Thread):
    """Does blocks over a link, each by its own time."""

    def __init__(self, address: Address, slots: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.done: list[int] = []
        self._address, self._slots, self._seconds = address, slots, seconds

    def run(self) -> None:
        connection = joined(lambda: self._address, self._slots)
        with ThreadPoolExecutor(self._slots) as slots:
            list(slots.map(lambda slot: self._work(connection, slot), range(self._slots)))
        connection.close()

    def _work(self, connection: Client, slot: int) -> None:
        while (number := connection.next(slot)) is not None:
            time.sleep(self._seconds)
            self.done.append(number)
            connection.report(slot, done(number))


@pytest.mark.parametrize("slots", [1, 2])
def test_all_connections_cut_ten_times_cost_nothing(slots: int, tmp_path: Path) -> None:
    """No attempt, no block done twice, and nothing stops."""
    with (
        serving(tmp_path, blocks=400, retries=0) as scheduler,
        cable(scheduler.address) as (wires, address),
    ):
        workers = [Worker(address, slots, 0.05) for _ in range(4)]
        for worker in workers:
            worker.start()
        for cut in range(1, 11):
            until(lambda cut=cut: scheduler.server.status.counts.done >= 30 * cut)
            wires.cut()
            until(lambda cut=cut: scheduler.events.count("rejoin") >= 4 * cut)
        until(scheduler.server.status.finished.is_set, 60)
        assert scheduler.server.status.reason is None
        for worker in workers:
            worker.join(20)
        assert sorted(number for w in workers for number in w.done) == list(range(400))
        assert scheduler.events.count("join") == 4
        assert not scheduler.warnings
        assert "error" not in scheduler.events


def test_a_black_hole_shorter_than_the_grace_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is carried, and nobody told: both ends have to notice by themselves."""
    monkeypatch.setattr(gate, "HEARTBEAT_S", 2.0)
    monkeypatch.setattr(connect, "HEARTBEAT_S", 2.0)
    monkeypatch.setattr(connect, "CONNECT_S", 3.0)
    monkeypatch.setattr(worker_server, "GRACE_S", 20.0)
    with (
        serving(tmp_path, blocks=100, retries=0) as scheduler,
        cable(scheduler.address) as (wires, address),
    ):
        workers = [Worker(address, 2, 0.05) for _ in range(3)]
        for worker in workers:
            worker.start()
        until(lambda: scheduler.server.status.counts.done >= 20)
        wires.swallow(True)
        until(lambda: scheduler.events.count("disconnect") == 3)
        assert scheduler.present == {0, 1, 2}
        wires.cut()
        wires.swallow(False)
        until(scheduler.server.status.finished.is_set, 60)
        for worker in workers:
            worker.join(20)
        assert sorted(number for w in workers for number in w.done) == list(range(100))
        assert not scheduler.warnings
        assert not {"leave", "error"} & set(scheduler.events[: scheduler.events.index("rejoin")])


def test_more_links_than_the_gate_takes_at_once_all_get_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gate, "MAX_HANDSHAKES", 4)
    with serving(tmp_path, blocks=300) as scheduler, ThreadPoolExecutor(300) as starters:
        links = list(starters.map(lambda _: joined(lambda: scheduler.address, wait=60), range(300)))
        assert sorted(worker.number for worker in links) == list(range(300))
        assert sorted(worker.next(0) or 0 for worker in links) == list(range(300))
        list(starters.map(lambda worker: worker.close(), links))
        until(lambda: scheduler.present == set())


def failure_of(scheduler: Scheduler, knock: Callable[[], object]) -> str:
    """What a run is told when somebody knocks at its scheduler."""
    scheduler.server.start()
    knock()
    until(lambda: scheduler.server.status.error is not None)
    scheduler.server.close()
    with pytest.raises(RunFailedError) as failure:
        scheduler.server.check()
    return str(failure.value)


def test_a_record_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    class Full(Scheduler):
        def _event(self, kind: str, **_: object) -> None:
            raise OSError(28, "No space left on device", kind)

    scheduler = Full(tmp_path)
    told = failure_of(scheduler, lambda: Peer(scheduler.address, hello("a")).hear())
    assert told.startswith("the run's records cannot be written: [Errno 28] No space left")


def test_another_error_of_the_system_is_no_matter_of_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def broken(_: gate.Gate, accepted: socket.socket) -> None:
        accepted.close()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(gate.Gate, "_shake_hands", broken)
    scheduler = Scheduler(tmp_path)
    here = ("127.0.0.1", scheduler.server.port)
    told = failure_of(scheduler, lambda: socket.create_connection(here).close())
    assert told == "the scheduler stopped: OSError(5, 'Input/output error')"


FLOOD = """
import socket, sys, time
port, held, end = int(sys.argv[1]), [], time.monotonic() + 60
while time.monotonic() < end:
    stranger = socket.socket()
    stranger.setblocking(False)
    stranger.connect_ex(("127.0.0.1", port))
    held.append(stranger)
    if len(held) > 600:
        held.pop(0).close()
    if len(held) == 600:
        print("600", flush=True)
"""
"""Opens connections as fast as it can, and keeps the last 600 open."""


def test_workers_get_in_beside_a_flood(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        command = [sys.executable, "-c", FLOOD, str(scheduler.server.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
            try:
                assert flood.stdout is not None
                assert flood.stdout.readline() == "600\n"
                assert gate.MAX_HANDSHAKES < 600
                workers = [Peer(scheduler.address, hello(str(n))) for n in range(3)]
                assert [worker.hear() for worker in workers] == [welcome(n) for n in range(3)]
                assert flood.poll() is None
            finally:
                flood.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_this_machine_reaches_what_it_listens_on(host: str, tmp_path: Path) -> None:
    server = Server(
        Scheduler(tmp_path).dispatcher,
        run="run",
        first_number=0,
        host=host,
        port=0,
        event=lambda *_, **__: None,
    )
    here, others = reachable_at(host)
    server.start()
    try:
        address = Address("here", here, others, server.port, server.key)
        worker = Client(
            lambda: address, ClientOptions("run", None, 1), threading.Event(), lambda *_: None
        )
        assert worker.number == 0
        worker.close()
    finally:
        server.close()
    assert not any(other.startswith("127.") for other in others)


def test_a_file_server_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        finds = iter([OSError(5, "Input/output error"), OSError(116, "Stale file handle")])

        def find() -> Address:
            for error in finds:
                raise error
            return scheduler.address

        worker = joined(find)
        assert worker.next(0) == 0
        worker.close()


def test_a_worker_leaves_a_scheduler_that_stands_still_for_its_successor(tmp_path: Path) -> None:
    with serving(tmp_path) as first, serving(tmp_path) as second:
        addresses = [first.address]
        worker = joined(lambda: addresses[-1])
        assert worker.next(0) == 0
        # The successor has given this worker's number to one of its own.
        other = Peer(second.address, hello("b", number=0))
        assert other.hear() == welcome(0)
        addresses.append(second.address)
        until(lambda: second.present == {0, 1})
        worker.report(0, done(0))
        assert worker.next(0) == 0
        worker.close()
        assert second.server.status.counts.done == 0
    assert "leave" in first.events


def test_a_block_that_another_slot_holds_now_is_not_reported(tmp_path: Path) -> None:
    """After a reconnection, a slot ends a block that has since been given to another slot."""
    with serving(tmp_path, blocks=1) as first, serving(tmp_path, blocks=1) as second:
        addresses = [first.address]
        worker = joined(lambda: addresses[-1], slots=2)
        assert worker.next(0) == 0
        addresses.append(second.address)
        until(lambda: second.present == {0})
        assert worker.next(1) == 0
        # What slot 0 says is of the first connection; slot 1 still writes.
        worker.report(0, done(0))
        time.sleep(0.5)
        assert not second.server.status.finished.is_set()
        worker.report(1, done(0))
        until(second.server.status.finished.is_set)
        worker.close()
