"""Each fault of a worker or a block, with what the user is told, and no wrong voxel."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import State
from tests.support.jobs import SMALL, Job
from tests.support.runs import events, predict, read_output, stored_bytes, until
from tests.support.sabotage import POISON, SLOW, at_startup, fail_writes, misbehave


@pytest.mark.slow
def test_worker_killed_is_replaced_and_nothing_is_lost(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(monkeypatch, tmp_path, SLOW)
    process = job.start("w", "--workers", "2")
    for _ in range(2):
        until(lambda: bool(job.workers("w")))
        job.workers("w")[0].kill()
        time.sleep(1)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert stored_bytes(job.output("w")) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "message"),
    [
        ('raise ValueError("a poisoned block")', "ValueError: a poisoned block"),
        ("os.kill(os.getpid(), 9)", "its worker was lost"),
    ],
)
def test_a_poison_block_fails_alone_and_is_named(
    action: str, message: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = read_output(job.undisturbed())
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, POISON.format(action=action))
        output = predict(*job.arguments("p", "--retries", "0"), code=1)
    assert "1 of 27 blocks failed" in output
    assert f"[160:320,160:320,0:160]: {message}" in output
    if "raise" in action:
        assert "Traceback (most recent call last)" in output
        assert str(RunDir(job.run_dir("p")).log_file(0)) in output
    got = read_output(job.output("p"))
    healthy = np.ones(got.shape, bool)
    healthy[:, 16:32, 16:32, :16] = False
    np.testing.assert_array_equal(got[healthy], expected[healthy])
    # The next run takes the failed block up again, and only it.
    output = predict(*job.arguments("p"))
    assert "Resuming: 26 of 27" in output
    np.testing.assert_array_equal(read_output(job.output("p")), expected)


def test_a_worker_that_cannot_start_ends_the_run_with_its_error(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(
        monkeypatch,
        tmp_path,
        'import sys\nif "worker" in sys.orig_argv:\n'
        '    raise SystemExit("ImportError: libcudart.so.13: cannot open shared object file")',
    )
    output = predict(*job.arguments("x"), code=1)
    assert "3 workers in a row died before their first block" in output
    assert "libcudart.so.13" in output
    assert "worker-0000.log" in output


@pytest.mark.slow
def test_a_killed_worker_is_told_and_replaced(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, SLOW.replace("0.2", "0.5"))
    process = job.start("k")
    job.workers("k")[0].kill()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert (
        "Warning: worker 0 was killed by SIGKILL (often the system's or the cluster's memory "
        "limit); another one is started."
    ) in output


@pytest.mark.slow
def test_a_stopped_worker_is_noticed_ended_and_replaced(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(
        monkeypatch,
        tmp_path,
        SLOW.replace("0.2", "0.5")
        + "\nif 'run' in sys.orig_argv:\n"
        + "    from blockwise_predict.scheduling import worker_server\n"
        + "    from blockwise_predict.scheduling.transport import gate\n"
        + "    gate.HEARTBEAT_S = worker_server.GRACE_S = 2.0\n",
    )
    process = job.start("s")
    worker = job.workers("s")[0]
    worker.suspend()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert re.search(
        r"worker 0 \(\S+, process \d+\) has not been heard of for \d s: terminating it. "
        r"2 of its blocks will be done again.",
        output,
    )
    assert not worker.is_running()
    assert stored_bytes(job.output("s")) == expected


@pytest.mark.slow
def test_a_block_that_hangs_is_ended_and_named(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    misbehave(monkeypatch, tmp_path, "process", "time.sleep(99 if arguments[0].begin[0] else 0)")
    options = (*SMALL, "--block-timeout", "10", "--retries", "0")
    output = predict(*job.arguments("h", *options), code=1)
    assert "took longer than --block-timeout (10 s) for a block: terminating it" in output
    assert "[160:320,0:160,0:160]: it took longer than --block-timeout (10 s)" in output


@pytest.mark.parametrize(
    "error", ["MemoryError()", "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')"]
)
def test_without_memory_a_worker_goes_on_with_smaller_tiles(
    error: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    roi = ("--roi", "[:160,:320,:320]", "--block-shape", "16,32,32")
    predict(*job.arguments("whole", *roi))
    misbehave(monkeypatch, tmp_path, "_predict", f"if len(calls) == 1: raise {error}")
    predict(*job.arguments("m", *roi))
    log = RunDir(job.run_dir("m")).log_file(0).read_text()
    assert re.search(r"out of memory: tiles are \(.*\) instead of \(.*\) input voxels", log)
    np.testing.assert_allclose(
        read_output(job.output("m")), read_output(job.output("whole")), atol=1e-6
    )


@pytest.mark.parametrize(
    ("where", "stage"), [("_read", "reading"), ("_predict", "computing"), (None, "writing")]
)
def test_an_error_says_in_which_part_of_the_work_it_came_up(
    where: str | None, stage: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if where is not None:
        misbehave(monkeypatch, tmp_path, where, "raise ValueError('broken')")
    else:
        fail_writes(monkeypatch, tmp_path, "broken")
    output = predict(*job.arguments("x", *SMALL, "--retries", "0"), code=1)
    assert "2 of 2 blocks failed" in output
    assert f"[0:160,0:160,0:160]: {stage}: ValueError: broken" in output
    assert f"failed for good: {stage}: ValueError: broken" in output
    assert "Traceback (most recent call last)" in output
    if stage != "writing":
        return
    monkeypatch.delenv("PYTHONPATH")
    # Only the failed ones are taken up by retry; and they are done.
    assert "Done: " in predict("retry", job.output("x"))
    assert "2 blocks: 2 complete" in predict("verify", job.output("x"), "--sample", "2")


def test_an_error_in_every_block_stops_the_run_early(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    misbehave(monkeypatch, tmp_path, "_predict", "raise ValueError(f'bug {len(calls)}')")
    output = predict(*job.arguments("b"), code=1)
    assert "10 different blocks failed with the same error: computing: ValueError: bug" in output
    assert len(events(job.run_dir("b"), "error")) < 27


def test_retry_takes_up_failed_blocks_and_no_others(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        misbehave(patch, tmp_path, "process", "if arguments[0].begin[2]: raise ValueError('no')")
        predict(*job.arguments("r", "--roi", "[:160,:160,:]", "--retries", "0"), code=1)
    run_dir = RunDir(job.run_dir("r"))
    plan = run_dir.plan()
    with closing(run_dir.ledger(plan)) as ledger:
        assert ledger.states.tolist() == [State.DONE, State.FAILED, State.FAILED]
        ledger.set(0, State.TODO)
        ledger.set(2, State.TODO)
    report = json.loads(predict("verify", job.output("r"), "--json", code=1))
    assert (report["counts"]["failed"], report["counts"]["missing"]) == (1, 2)
    output = predict("retry", job.output("r"), code=1)
    assert "2 of 3 blocks are still to do" in output
    with closing(run_dir.ledger(plan)) as ledger:
        assert ledger.states.tolist() == [State.TODO, State.DONE, State.TODO]
