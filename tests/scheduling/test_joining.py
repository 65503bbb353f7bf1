"""Workers and the scheduler's server: who joins again, who may not, and what is reported then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from blockwise_predict.scheduling.transport.messages import Bye, Leaving, Next
from tests.support.peers import Peer, block, done, hello, serving, welcome
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("soon")


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
def test_a_worker_that_stays_away_beyond_the_grace_loses_its_blocks(tmp_path: Path) -> None:
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
