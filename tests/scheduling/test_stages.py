"""Blocks in stages: a stage begins when all blocks before it are done, and not before."""

from __future__ import annotations

import numpy as np

from blockwise_predict.records.ledger import State
from blockwise_predict.scheduling.stages import StagedBlocks

STAGES = (range(0, 3), range(3, 4), range(4, 6))


def test_a_stage_waits_for_the_blocks_before_it() -> None:
    states = np.zeros(6, np.uint8)
    blocks = StagedBlocks(states, STAGES)
    assert [blocks.next(0) for _ in range(4)] == [0, 1, 2, None]
    states[[0, 2]] = State.DONE
    assert blocks.next(0) is None
    assert not blocks.empty
    states[1] = State.DONE
    assert [blocks.next(0), blocks.next(0)] == [3, None]
    states[3] = State.DONE
    assert not blocks.empty
    assert [blocks.next(0), blocks.next(0)] == [4, 5]
    assert blocks.empty
    assert blocks.next(0) is None


def test_what_is_done_is_not_handed_out_again() -> None:
    states = np.array([State.DONE, 0, State.DONE, State.DONE, 0, State.DONE], np.uint8)
    blocks = StagedBlocks(states, STAGES)
    assert [blocks.next(0), blocks.next(0)] == [1, None]
    states[1] = State.DONE
    assert [blocks.next(0), blocks.empty] == [4, True]
    assert StagedBlocks(np.full(6, State.DONE, np.uint8), STAGES).empty


def test_nothing_is_made_of_a_block_that_was_given_up() -> None:
    states = np.zeros(6, np.uint8)
    blocks = StagedBlocks(states, STAGES)
    assert [blocks.next(0), blocks.next(0)] == [0, 1]
    states[0] = State.FAILED
    # The rest of its stage is made.
    assert [blocks.next(0), blocks.next(0)] == [2, None]
    assert blocks.empty
