"""What a worker reports on a block, whatever kind of block it is."""

from __future__ import annotations

import logging
import traceback
from typing import Protocol

from blockwise_predict.engine.compute_queue import Compute
from blockwise_predict.scheduling.transport.messages import MAX_TEXT, Done, Failed
from blockwise_predict.worker.block import BlockReport, FatalError, StageError, describe

_log = logging.getLogger(__name__)


class Processor(Protocol):
    """Makes the blocks of a run, or of a pyramid. Several threads may use it."""

    @property
    def name(self) -> str:
        """What it does, for logs."""

    def process_number(self, number: int, compute: Compute) -> BlockReport:
        """Make the block with a number; returns when it is committed."""


def report_on(processor: Processor, number: int, compute: Compute) -> Done | Failed:
    """Make a block; what is to be reported on it."""
    try:
        report = processor.process_number(number, compute)
    except Exception as error:  # noqa: BLE001
        # Whatever a block raises is that block's failure, and reported as such.
        trace = traceback.format_exc()
        # At this level workers log it, and threads of another program do not print it.
        _log.info("block %d failed:\n%s", number, trace)
        has_stage = isinstance(error, (StageError, FatalError))
        return Failed(
            block=number,
            fatal=isinstance(error, FatalError),
            error=(str(error) if has_stage else describe(error))[:MAX_TEXT],
            traceback=trace[-MAX_TEXT:],
        )
    return Done(
        block=number,
        read=report.read,
        compute=report.compute,
        write=report.write,
        clipped=list(report.clipped),
        nonfinite=list(report.nonfinite),
        filled=report.filled,
        skipped=report.skipped,
        empty=report.empty,
        note=report.note[:MAX_TEXT],
    )
