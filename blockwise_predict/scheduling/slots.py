"""The states of a worker's slots: waiting for a block, holding one, or having reported one."""

from __future__ import annotations

from collections.abc import Collection
from queue import SimpleQueue

from blockwise_predict.scheduling.transport.messages import Done, Failed, Message, Next


class Slots:
    """The slots of a worker; `over` once there are no more blocks for them.

    Only `answer` may be called by the slots' threads; the rest belongs to the client's thread.
    """

    def __init__(self, count: int) -> None:
        self.over = False
        self._answers: list[SimpleQueue[int | None]] = [SimpleQueue() for _ in range(count)]
        self._asking: set[int] = set()
        # The slot of each block that is being processed.
        self._working: dict[int, int] = {}
        # Each slot's last report, until an answer of the scheduler shows that it has arrived.
        self._reports: dict[int, Done | Failed] = {}

    @property
    def working(self) -> list[int]:
        """Blocks being processed."""
        return list(self._working)

    @property
    def held(self) -> list[int]:
        """Blocks being processed, and those whose report may not have arrived."""
        return [*self._working, *(report.block for report in self._reports.values())]

    @property
    def idle(self) -> bool:
        """Whether no block is being processed, and none will be."""
        return self.over and not self._working

    @property
    def reported(self) -> bool:
        """Whether all reports have arrived."""
        return not self._reports

    def answer(self, slot: int) -> int | None:
        """Wait for a slot's next block; None when there is none."""
        return self._answers[slot].get()

    def ask(self, slot: int) -> bool:
        """A slot wants a block; returns whether to ask the scheduler."""
        if self.over:
            self._answers[slot].put(None)
        else:
            self._asking.add(slot)
        return not self.over

    def take(self, slot: int, block: int) -> bool:
        """Give a slot its block; False if the slot no longer wants one."""
        if slot not in self._asking:
            return False
        self._reports.pop(slot, None)
        self._asking.discard(slot)
        self._working[block] = slot
        self._answers[slot].put(block)
        return True

    def report(self, slot: int, report: Done | Failed) -> bool:
        """Keep a slot's report; False if the block no longer belongs to the slot.

        After a reconnection, another slot may have been given the same block.
        """
        if self._working.get(report.block) != slot:
            return False
        del self._working[report.block]
        self._reports[slot] = report
        return True

    def resume(self, kept: Collection[int]) -> list[Message]:
        """Go on with the blocks that the scheduler `kept`; returns the messages to send again."""
        self._working = {b: slot for b, slot in self._working.items() if b in kept}
        self._reports = {slot: r for slot, r in self._reports.items() if r.block in kept}
        return [*self._reports.values(), *(Next(slot=slot) for slot in self._asking)]

    def forget_reports(self) -> None:
        """Forget reports: the scheduler has received them all."""
        self._reports.clear()

    def release(self) -> None:
        """End the slots: those that wait or ask for a block get None."""
        self.over = True
        for slot in self._asking:
            self._answers[slot].put(None)
        self._asking.clear()

    def close(self) -> None:
        """Give None to every slot that asks from now on, since the client has ended."""
        for answers in self._answers:
            answers.put(None)
