"""The workers of a run in its report, whose numbers replacements and resumed runs take over."""

from __future__ import annotations

import numpy as np

from blockwise_predict.records.ledger import State
from blockwise_predict.records.ledger_file import record_dtype
from blockwise_predict.records.workerlogs import WorkerLog
from blockwise_predict.report.history import History, Presence
from blockwise_predict.report.trace import Trace
from blockwise_predict.report.workers import block_hosts, workers_of


def test_a_block_is_on_the_host_that_did_it() -> None:
    """Not on that of the worker's replacement."""
    stays = [(0, "a", 10, 20), (1, "b", 10, 60), (0, "c", 30, 60)]
    presences = [
        Presence(WorkerLog(number, "", None, host=host, device="cpu"), (begin, end))
        for number, host, begin, end in stays
    ]
    workers = workers_of(History(((10, 60),), tuple(presences)))
    records = np.zeros(6, record_dtype())
    records["state"] = State.DONE
    records["worker"] = [0, 1, 0, 0, 7, 0]
    records["ended"] = [20, 40, 40, 5, 40, 0]
    assert block_hosts(workers, Trace.of(records)) == ["a", "b", "c", "", "", ""]
    assert [worker.places for worker in workers] == ["a, cpu; c, cpu", "b, cpu"]
