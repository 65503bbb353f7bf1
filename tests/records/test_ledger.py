"""The ledger of blocks, and the other records: whole or recognised as damaged."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.errors import RunStateError
from blockwise_predict.records.atomic import read_record, write_atomically
from blockwise_predict.records.events import EventLog
from blockwise_predict.records.failures import Failure, FailureRecord
from blockwise_predict.records.ledger import (
    LedgerDamagedError,
    State,
    create_ledger,
    is_ledger,
    open_ledger,
    read_records,
    records_of,
)
from blockwise_predict.records.ledger_file import Work


def test_what_is_set_is_there_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    create_ledger(file, (2, 3))
    ledger = open_ledger(file, (2, 3))
    ledger.set(4, State.DONE, clipped=7, nonfinite=1)
    ledger.set(5, State.FILLED, clipped=2)
    ledger.set(0, State.FAILED)
    # Never closed: as if the process had been killed.
    again = open_ledger(file, (2, 3))
    assert again.states.tolist() == [2, 0, 0, 0, 1, 3]
    assert again.totals() == [(9, 1)]
    assert again.blocks(State.DONE, State.FILLED) == [4, 5]
    assert np.load(file)["state"].tolist() == [[2, 0, 0], [0, 1, 3]], "readable with numpy alone"


def test_setting_a_block_again_replaces_its_counts(tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    create_ledger(file, (2,))
    ledger = open_ledger(file, (2,))
    ledger.set(1, State.DONE, clipped=7)
    ledger.set(1, State.DONE, clipped=5)
    assert ledger.totals() == [(5, 0)]


def test_states_can_be_given(tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    create_ledger(file, (2, 2), records_of(np.array([[1, 0], [3, 1]], np.uint8)))
    assert open_ledger(file, (2, 2)).states.tolist() == [1, 0, 3, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["blocks.npy"]


@pytest.mark.parametrize("kept", [0, 5, 60, 127, 130, 160])
def test_a_ledger_that_is_cut_short_is_recognised(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    create_ledger(file, (20,))
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(LedgerDamagedError, match="is damaged"):
        open_ledger(file, (20,))


def test_a_ledger_that_is_missing_of_another_grid_or_scrambled_is_recognised(
    tmp_path: Path,
) -> None:
    file = tmp_path / "blocks.npy"
    with pytest.raises(LedgerDamagedError, match="is missing"):
        open_ledger(file, (2,))
    create_ledger(file, (3,))
    with pytest.raises(LedgerDamagedError, match="the run has"):
        open_ledger(file, (2,))
    content = bytearray(file.read_bytes())
    content[-1] = 77
    file.write_bytes(content)
    with pytest.raises(LedgerDamagedError, match=r"states \[77\]"):
        open_ledger(file, (3,))
    np.save(file, np.zeros(3, np.uint8))
    with pytest.raises(LedgerDamagedError):
        open_ledger(file, (3,))


def test_records_are_replaced_whole_and_damage_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    write_atomically(file, json.dumps({"a": 1}))
    assert read_record(file) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    file.write_text('{"a": ')
    with pytest.raises(RunStateError, match=r"plan.json is damaged \(not valid JSON"):
        read_record(file)
    file.write_text("[1]")
    with pytest.raises(RunStateError, match="not an object"):
        read_record(file)


def test_a_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_atomically(tmp_path / "server.json", "{}", mode=0o600)
    assert (tmp_path / "server.json").stat().st_mode & 0o777 == 0o600


def test_events_survive_a_cut_line_and_stay_bounded(tmp_path: Path) -> None:
    log = EventLog(tmp_path, max_bytes=2000)
    log.write("one")
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"event": "cut')
    log.write("two")
    assert [event["event"] for event in log.read()] == ["one", "two"]
    for number in range(1000):
        log.write("error", number=number, traceback="x" * 500)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 6000
    assert [event["number"] for event in log.read()][-1] == 999
    log.write("error", traceback="x" * 100_000)
    assert (tmp_path / "events.jsonl").stat().st_size < 10_000


def test_of_each_block_the_last_failure_is_kept(tmp_path: Path) -> None:
    record = FailureRecord(tmp_path / "failures.jsonl")
    for block, error in ((3, "first"), (5, "other"), (3, "last")):
        record.add(Failure(block, "[0:1]", 3, error, "", None))
    with open(tmp_path / "failures.jsonl", "a") as file:
        file.write('{"block": 7, "roi"')
    assert {b: f.error for b, f in record.read().items()} == {3: "last", 5: "other"}
    record.keep({5})
    assert list(record.read()) == [5]


def test_values_are_counted_for_each_array(tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    create_ledger(file, (2, 2), arrays=2)
    ledger = open_ledger(file, (2, 2), arrays=2)
    assert ledger.arrays == 2
    ledger.set(0, State.DONE, clipped=(7, 1), nonfinite=(0, 3))
    ledger.set(1, State.DONE, clipped=(2, 0), nonfinite=(0, 0))
    ledger.set(2, State.FAILED)
    with pytest.raises(ValueError, match="broadcast"):
        ledger.set(3, State.DONE, clipped=(1, 2, 3))
    ledger.close()
    again = open_ledger(file, (2, 2), arrays=2)
    assert again.states.tolist() == [1, 1, 2, 0]
    assert again.totals() == [(9, 0), (1, 3)]
    assert is_ledger(file)
    with pytest.raises(LedgerDamagedError, match="does not count the values of 1 arrays"):
        open_ledger(file, (2, 2))
    records = records_of(again.states.reshape(2, 2), 2)
    create_ledger(file, (2, 2), records)
    assert open_ledger(file, (2, 2), arrays=2).totals() == [(0, 0), (0, 0)]


WORK = Work(worker=3, ended=1.8e9, took=2.5, read=0.5, compute=1.0, write=0.25)


def test_the_work_on_a_block_is_recorded_until_its_state_changes(tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    create_ledger(file, (1, 2))
    ledger = open_ledger(file, (1, 2))
    ledger.set(1, State.DONE, clipped=4, work=WORK)
    assert np.load(file)[0, 1].item() == (4, 0, *astuple(WORK), 1)
    records = read_records(file, (1, 2))
    assert records["ended"].tolist() == [[0, 1.8e9]]
    np.testing.assert_array_equal(records, ledger.records())
    ledger.set(1, State.TODO)
    assert ledger.records()[0, 1].item() == (0, 0, *astuple(Work(0)), 0)


def test_a_ledger_of_an_earlier_version_goes_on_without_the_work(tmp_path: Path) -> None:
    file = tmp_path / "blocks.npy"
    earlier = np.zeros(2, [("clipped", "<u8"), ("nonfinite", "<u8"), ("state", "u1")])
    np.save(file, earlier)
    ledger = open_ledger(file, (2,))
    ledger.set(1, State.DONE, clipped=(3,), nonfinite=(1,), work=WORK)
    earlier[1] = (3, 1, 1)
    np.testing.assert_array_equal(np.load(file), earlier)
    assert ledger.totals() == [(3, 1)]
    assert ledger.records()[1].item() == (3, 1, *astuple(Work(0)), 1)
