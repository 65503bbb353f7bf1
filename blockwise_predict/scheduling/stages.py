"""Blocks in stages: those of a stage read what the blocks of the stages before have written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.records.ledger import PREDICTED, State


class StagedBlocks:
    """The blocks to do of consecutive `stages` of numbers, each once all those before are done.

    `states` are the ledger's, which records what becomes of the blocks that are handed out. After
    a stage with a block that was given up, there are no more.
    """

    def __init__(self, states: NDArray[np.uint8], stages: Sequence[range]) -> None:
        self._states = states
        self._stages = list(stages)
        self._waiting: Iterator[int] = iter(())
        # Of the current stage, the blocks that were not final when this was last looked at.
        self._open: NDArray[np.int64] = np.empty(0, np.int64)
        self._given_up = False
        self._upcoming: int | None = None
        self._advance()

    @property
    def empty(self) -> bool:
        """Whether all have been handed out that will be."""
        self._advance()
        return self._upcoming is None and (self._given_up or not self._stages)

    def next(self, worker: int) -> int | None:  # noqa: ARG002
        """The next block; None while there is none that can be begun."""
        self._advance()
        block, self._upcoming = self._upcoming, None
        return block

    def finish(self, block: int) -> None:
        """Nothing is held for a block that is final; the ledger says what became of it."""

    def close(self) -> None:
        """Nothing is to be released."""

    def _advance(self) -> None:
        """Find the next block, in a later stage if all of this one is done."""
        while self._upcoming is None and not self._given_up:
            self._upcoming = next(self._waiting, None)
            if self._upcoming is not None or not self._is_done() or not self._stages:
                return
            stage = self._stages.pop(0)
            states = self._states[stage.start : stage.stop]
            self._open = np.flatnonzero(~np.isin(states, PREDICTED)) + stage.start
            self._waiting = map(int, self._open)

    def _is_done(self) -> bool:
        """Whether every block of the current stage is done."""
        states = self._states[self._open]
        self._given_up = bool((states == State.FAILED).any())
        self._open = self._open[~np.isin(states, PREDICTED)]
        return not len(self._open)
