"""Where the dispatcher gets its blocks from."""

from __future__ import annotations

from typing import Protocol


class BlockSource(Protocol):
    """Blocks that have not been handed out yet."""

    @property
    def empty(self) -> bool:
        """Whether all have been handed out."""

    def next(self, worker: int) -> int | None:
        """The next block for a worker; None if there is none, or none before others are done."""

    def finish(self, block: int) -> None:
        """Release a block that is done or given up."""

    def close(self) -> None:
        """Release the source; no more blocks will be requested."""
