"""What a worker's slots do: wait for a block, hold one, or have reported one."""

from __future__ import annotations

from collections.abc import Collection
from queue import SimpleQueue

from blockwise_predict.scheduling.transport.messages import Done, Failed, Message, Next


class Slots:
    """The slots of a worker, for the thread of its link; `answer` alone is for the slots' threads.

    `over`: there are no more blocks for them.
    """

    def __init__(self, count: int) -> None:
        self.over = False
        self._answers: list[SimpleQueue[int | None]] = [SimpleQueue() for _ in range(count)]
        self._asking: set[int] = set()
        # The slots of blocks in work.
        self._working: dict[int, int] = {}
        # Each slot's last report, until the scheduler's answer shows that it has arrived.
        self._reports: dict[int, Done | Failed] = {}

    @property
    def working(self) -> list[int]:
        """Blocks in work."""
        return list(self._working)

    @property
    def held(self) -> list[int]:
        """Blocks in work, and those whose report may not have arrived."""
        return [*self._working, *(report.block for report in self._reports.values())]

    @property
    def idle(self) -> bool:
        """Whether nothing is in work, and nothing will be."""
        return self.over and not self._working

    @property
    def reported(self) -> bool:
        """Whether all reports have arrived."""
        return not self._reports

    def answer(self, slot: int) -> int | None:
        """Wait for a slot's next block; None when there is none."""
        return self._answers[slot].get()

    def ask(self, slot: int) -> bool:
        """A slot wants a block. Whether the scheduler is to be asked."""
        if self.over:
            self._answers[slot].put(None)
        else:
            self._asking.add(slot)
        return not self.over

    def take(self, slot: int, block: int) -> bool:
        """A block came for a slot; False if that does not want it any more."""
        if slot not in self._asking:
            return False
        self._reports.pop(slot, None)
        self._asking.discard(slot)
        self._working[block] = slot
        self._answers[slot].put(block)
        return True

    def report(self, slot: int, report: Done | Failed) -> bool:
        """A slot has ended a block; False if that is not its own any more.

        After a reconnection, another slot may have been given the same block.
        """
        if self._working.get(report.block) != slot:
            return False
        del self._working[report.block]
        self._reports[slot] = report
        return True

    def resume(self, kept: Collection[int]) -> list[Message]:
        """Go on with those blocks that the scheduler `kept`; returns what it has to hear."""
        self._working = {b: slot for b, slot in self._working.items() if b in kept}
        self._reports = {slot: r for slot, r in self._reports.items() if r.block in kept}
        return [*self._reports.values(), *(Next(slot=slot) for slot in self._asking)]

    def forget_reports(self) -> None:
        """The scheduler has heard all."""
        self._reports.clear()

    def release(self) -> None:
        """There are no more blocks: slots that wait are told so, and those that ask."""
        self.over = True
        for slot in self._asking:
            self._answers[slot].put(None)
        self._asking.clear()

    def close(self) -> None:
        """Nobody hears a slot that asks from now on."""
        for answers in self._answers:
            answers.put(None)
