"""The report of a run of a million blocks."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np

from blockwise_predict.records.ledger import State
from blockwise_predict.report.compose import page_values
from blockwise_predict.report.page.render import render
from blockwise_predict.report.quality.check import Quality
from blockwise_predict.report.record import read_run
from blockwise_predict.report.trace import trace_rows
from tests.support.invented import invented_records, invented_run, write_events
from tests.support.pages import Page
from tests.support.runs import tiny_config

SHAPE, WORKERS = (1600, 1600, 1600), 200


def test_a_million_blocks_make_a_small_page_in_seconds(tmp_path: Path) -> None:
    run = invented_run(tiny_config(tmp_path, (20, 20, 20)))
    source = run.plan.input.model_copy(update={"shape": SHAPE})
    output = run.plan.output.model_copy(update={"shape": SHAPE, "roi_begin": (0, 0, 0)})
    sizes = {"input": source, "output": output, "block_shape": (16, 16, 16)}
    plan = run.plan.model_copy(update=sizes)
    records = invented_records(plan, WORKERS).reshape(-1)
    records["state"][::1000] = State.FAILED
    run.run_dir.replace_ledger(plan, records.reshape(plan.blocks_per_axis))
    write_events(run.run_dir, plan.num_blocks, WORKERS)
    begin = time.process_time()
    record = read_run(run.run_dir, plan)
    nothing = Quality([], [], 0, [], [])
    text = render(page_values(record, nothing, price=None, reload=None, trace_name="trace.csv"))
    # 4 s, with room for a busy machine.
    assert time.process_time() - begin < 20
    assert len(text) < 5e6
    page = Page(text)
    assert page.tags.count("rect") < 15_000
    assert "And 136 more workers" in page.text
    assert "999,000 of 1,000,000" in page.text
    rows = list(itertools.islice(trace_rows(record.trace, record.grid, record.block_hosts), 3))
    assert rows[2].startswith('1,"[0:160,0:160,160:320]",done,1,"node1",1700000000.000,')
    assert np.isclose(record.trace.wait, 0.375).all()
