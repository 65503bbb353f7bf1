"""What a verification finds: one finding per block, and the report on all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """The condition of a block.

    COMPLETE: recorded as done, and all its chunks are stored and can be decoded. FILLED: complete,
    but unreadable input was replaced by the fill value. SKIPPED: left out, since its input could
    not be read. MASKED: left out by the mask. EMPTY: left out, since its input is nothing but the
    fill value. OUTSIDE: left out, since no ROI touches it. FAILED: used up its attempts. MISSING:
    not done yet. DAMAGED: recorded as done, but a chunk is not stored or cannot be decoded.
    DIFFERENT: other values than those that were computed again. UNCHECKED: complete, but chosen for
    the sample and could not be computed again.
    """

    COMPLETE = "complete"
    FILLED = "filled"
    SKIPPED = "skipped"
    MASKED = "masked"
    EMPTY = "empty"
    OUTSIDE = "outside"
    FAILED = "failed"
    MISSING = "missing"
    DAMAGED = "damaged"
    DIFFERENT = "different"
    UNCHECKED = "unchecked"


# Findings of blocks that are as they should be: of these only the number is reported.
EXPECTED = (Finding.COMPLETE, Finding.MASKED, Finding.EMPTY, Finding.OUTSIDE)
GOOD = (*EXPECTED, Finding.FILLED, Finding.SKIPPED)
# Findings of blocks that need not be done again.
STORED = (*GOOD, Finding.UNCHECKED)


@dataclass(frozen=True)
class BlockRange:
    """A row of adjacent blocks with the same finding.

    `roi` is their ROI in the report's `units`, `blocks` their number, and `detail` what is wrong
    with the first.
    """

    finding: Finding
    roi: str
    blocks: int
    detail: str


@dataclass(frozen=True)
class LevelFinding:
    """A downsampled level: of its `blocks`, `wrong` are not what the level below says.

    `detail` is what is wrong with the first of them.
    """

    path: str
    blocks: int
    wrong: int
    detail: str


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    `counts` are the numbers of blocks by finding; `ranges` lists the blocks that are not EXPECTED.
    `sampled` blocks were computed again; `sample_problem` says why none could be. `ledger_problem`
    says what is wrong with the record of finished blocks. `repaired` blocks were marked to be done
    again; it is None if no repair was asked for. `levels` are the levels of the output's
    arrays. `units` are those of ROIs: `nm`, or one for each axis if the first of them is time.
    """

    counts: dict[Finding, int]
    ranges: tuple[BlockRange, ...]
    sampled: int
    sample_problem: str | None
    ledger_problem: str | None
    repaired: int | None
    levels: tuple[LevelFinding, ...] = ()
    units: str = "nm"

    @property
    def good(self) -> bool:
        """Whether nothing is wrong and nothing is left to do."""
        bad = sum(n for finding, n in self.counts.items() if finding not in GOOD)
        records = self.ledger_problem is None or self.repaired is not None
        levels = not any(level.wrong for level in self.levels)
        return not bad and levels and records and self.sample_problem is None

    @property
    def needs_repair(self) -> bool:
        """Whether something is wrong that the next run does not fix by itself."""
        bad = self.counts[Finding.DAMAGED] + self.counts[Finding.DIFFERENT]
        return bool(bad or self.ledger_problem or any(level.wrong for level in self.levels))
