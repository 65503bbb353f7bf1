"""Each fault of a long run, with what the user is told, and no wrong voxel."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr

from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import State
from tests.run.test_run import SLOW, Job, slow_blocks
from tests.support.disks import small_disk
from tests.support.runs import blocks_done, events, predict, read_output, stored_bytes

WAITING = """
import sys
if "worker" in sys.orig_argv:
    import pathlib, time
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    blocks = []
    def waiting(self, roi, turn):
        blocks.append(roi)
        while len(blocks) > 4 and not pathlib.Path({folder!r}, "go").exists():
            time.sleep(0.05)
        time.sleep(0.05)
        return process(self, roi, turn)
    block.BlockProcessor.process = waiting
"""
"""Workers that do some blocks at once, and the others when there is a file `go`."""

SMALL = ("--roi", "[:320,:160,:160]")
"""Two blocks."""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def misbehave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, body: str) -> None:
    """Have workers run `body` at each call of `BlockProcessor.{where}`, which is `real`."""
    slow_blocks(
        monkeypatch,
        tmp_path,
        "import sys\n"
        'if "worker" in sys.orig_argv:\n'
        "    import os, time, torch\n"
        "    from blockwise_predict.worker import block\n"
        f"    real = block.BlockProcessor.{where}\n"
        "    calls = []\n"
        "    def replaced(self, *arguments):\n"
        "        calls.append(1)\n"
        f"        {body}\n"
        "        return real(self, *arguments)\n"
        f"    block.BlockProcessor.{where} = replaced\n",
    )


@pytest.mark.slow
def test_a_killed_worker_is_told_and_replaced(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow_blocks(monkeypatch, tmp_path, SLOW.replace("0.2", "0.5"))
    process = job.start("k")
    psutil.Process(process.pid).children()[0].kill()
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
    slow_blocks(
        monkeypatch,
        tmp_path,
        SLOW.replace("0.2", "0.5")
        + "\nif 'run' in sys.orig_argv:\n"
        + "    from blockwise_predict.scheduling import worker_server\n"
        + "    from blockwise_predict.scheduling.transport import gate\n"
        + "    gate.HEARTBEAT_S = worker_server.GRACE_S = 2.0\n",
    )
    process = job.start("s")
    worker = psutil.Process(process.pid).children()[0]
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
        slow_blocks(
            monkeypatch,
            tmp_path,
            "import sys\n"
            'if "worker" in sys.orig_argv:\n'
            "    from blockwise_predict.io.output import OutputArray\n"
            "    def broken(self, *arguments):\n"
            "        raise ValueError('broken')\n"
            "    OutputArray.start_write = broken\n",
        )
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
    assert "2 more blocks are still to do" in output
    with closing(run_dir.ledger(plan)) as ledger:
        assert ledger.states.tolist() == [State.TODO, State.DONE, State.TODO]


class Input:
    """Ways to spoil the input of a job: chunks of 16^3."""

    def __init__(self, job: Job) -> None:
        self.array = Path(job.input)

    def chunk(self, *index: int) -> Path:
        return next(
            p
            for p in self.array.rglob("*")
            if re.sub(r"\D+", ".", str(p.relative_to(self.array))).strip(".")
            == ".".join(map(str, index))
        )


def blank(job: Job) -> None:
    """Set the first chunk of a job's input to zeros, and store it all the same."""
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(job.input)[:16, :16, :16] = 0


def test_a_damaged_chunk_fails_the_blocks_that_need_it_and_can_be_put_back(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())
    chunk = Input(job).chunk(0, 0, 0)
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    output = predict(*job.arguments("d", "--retries", "0"), code=1)
    assert re.search(r"\[0:160,0:160,0:160\]: reading: \S+volume.zarr/raw: .*Error reading", output)
    assert "8 of 27 blocks failed" in output
    chunk.write_bytes(content)
    assert "Done: " in predict("retry", job.output("d"))
    assert stored_bytes(job.output("d")) == expected


def test_a_damaged_chunk_can_be_filled_and_that_is_recorded(job: Job) -> None:
    from blockwise_predict.io import read_attributes

    blank(job)
    expected = read_output(job.undisturbed())
    chunk = Input(job).chunk(0, 0, 0)
    chunk.write_bytes(b"torn")
    output = predict(*job.arguments("f", "--bad-input", "fill"))
    assert "8 blocks hold values predicted from the fill value" in output
    np.testing.assert_array_equal(read_output(job.output("f")), expected)
    record = read_attributes(job.output("f"))["blockwise_predict"]
    assert record["filled_blocks"] == 8
    assert record["filled_rois_nm"][0] == "[0:160,0:160,0:160]"
    report = predict("verify", job.output("f"))
    assert "19 complete, 8 filled" in report


def test_chunks_that_are_not_stored_fail_their_blocks_unless_that_is_allowed(job: Job) -> None:
    blank(job)
    expected = read_output(job.undisturbed())
    Input(job).chunk(0, 0, 0).unlink()
    output = predict(*job.arguments("m"), code=1)
    assert "the chunk at voxel (0, 0, 0) is not stored" in output
    assert "run again with --bad-input fill-missing" in output
    output = predict(*job.arguments("m", "--bad-input", "fill-missing"))
    assert "8 blocks hold values predicted from the fill value" in output
    np.testing.assert_array_equal(read_output(job.output("m")), expected)


def test_blocks_with_bad_input_can_be_left_out(job: Job) -> None:
    chunk = Input(job).chunk(0, 0, 0)
    content = chunk.read_bytes()
    chunk.write_bytes(b"torn")
    output = predict(*job.arguments("l", "--bad-input", "skip"))
    assert (
        "8 blocks are left out, since their input could not be read: [0:160,0:160,0:160]" in output
    )
    assert "holds 19 blocks of" in output
    assert "19 complete, 8 skipped" in predict("verify", job.output("l"))
    chunk.write_bytes(content)
    # Without the option they are done.
    assert "Resuming: 19 of 27" in predict(*job.arguments("l"))
    assert "27 complete" in predict("verify", job.output("l"))


@pytest.mark.slow
def test_a_full_disk_ends_the_run_cleanly_and_it_goes_on_later(job: Job, tmp_path: Path) -> None:
    expected = stored_bytes(job.undisturbed())
    with small_disk(tmp_path / "disk", "2m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2_000_000))
        job.output = lambda name: str(disk / f"{name}.zarr" / "out")  # type: ignore[method-assign]
        records = ("--run-dir", tmp_path / "records")
        output = predict(*job.arguments("full", *records), code=1)
        assert "the output cannot be written:" in output
        assert "No space left on device" in output
        assert "Make room, then run the same command again." in output
        assert not events(tmp_path / "records", "failed"), "no block is to blame"
        ballast.unlink()
        predict(*job.arguments("full", *records))
        got = {k: v for k, v in stored_bytes(job.output("full")).items() if "__lock" not in k}
        assert got == expected


@pytest.mark.parametrize(
    "reason", ["Disk quota exceeded [OS error 122: EDQUOT]", "Read-only file system"]
)
def test_a_used_up_quota_is_told_as_such(
    reason: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow_blocks(
        monkeypatch,
        tmp_path,
        "import sys\n"
        'if "worker" in sys.orig_argv:\n'
        "    from blockwise_predict.io.output import OutputArray\n"
        "    def full(self, *arguments):\n"
        f"        raise ValueError({reason!r})\n"
        "    OutputArray.start_write = full\n",
    )
    output = predict(*job.arguments("q"), code=1)
    assert f"the output cannot be written: ValueError: {reason.split(' [')[0]}" in output


@pytest.mark.slow
def test_input_that_is_changed_under_the_run_ends_it(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        slow_blocks(patch, tmp_path, SLOW.replace("0.2", "0.5"))
        process = job.start("c")
        metadata = next(Path(job.input).glob(".zarray"), Path(job.input) / "zarr.json")
        content = metadata.read_text()
        metadata.write_text(content.replace("16", "8", 1))
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 1, output
    assert "has been changed while the run went on: it is not stored as it was" in output
    output = predict(*job.arguments("c"), code=2)
    assert "input metadata (sha256): was" in output
    metadata.write_text(content)
    predict(*job.arguments("c"))


def test_input_whose_values_are_others_now_is_refused_on_resume(job: Job) -> None:
    predict(*job.arguments("v", *SMALL))
    zarr.open_array(job.input)[...] = 7
    output = predict(*job.arguments("v", *SMALL), code=2)
    assert re.search(r"input: the values of the chunk at voxel \([\d,]+\) have changed", output)


@pytest.mark.slow
def test_a_scheduler_that_died_on_another_host_is_succeeded(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    with monkeypatch.context() as patch:
        slow_blocks(patch, tmp_path, WAITING.format(folder=str(tmp_path)))
        process = job.start("h")
        output = predict(*job.arguments("h"), code=2)
        assert f"is in use by process {process.pid} on {socket.gethostname()} since 20" in output
        process.kill()
        process.wait()
    # As if it had run elsewhere: what it left says so.
    lock = job.run_dir("h") / "lock"
    lock.write_text(lock.read_text().replace(f'"{socket.gethostname()}"', '"login-node-7"'))
    assert "login-node-7" in lock.read_text()
    output = predict(*job.arguments("h"))
    assert f"was last used by process {process.pid} on login-node-7 since 20" in output
    assert "waiting up to 15 s to see whether that is alive" in output
    assert "the lock of process" in output
    assert "is stale: it is not running any more" in output
    assert stored_bytes(job.output("h")) == expected


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    slow_blocks(
        monkeypatch,
        tmp_path,
        "import sys\n"
        'if {"run", "worker"} & set(sys.orig_argv):\n'
        "    import random, time\n"
        "    real = time.time\n"
        "    time.time = lambda: real() + random.choice([-86400, -60, 0, 3600, 864000])\n",
    )
    output = predict(*job.arguments("t", "--workers", "2"))
    assert "Warning" not in output
    assert stored_bytes(job.output("t")) == expected


def test_logs_stay_small(tmp_path: Path) -> None:
    code = (
        "from blockwise_predict.worker import process as worker\n"
        "worker.MAX_LOG_BYTES = 100_000\n"
        "for number in range(1000):\n"
        "    print('x' * 1000, flush=True)\n"
        "    worker._bound_log()\n"
        "print('last', flush=True)\n"
    )
    log = tmp_path / "worker.log"
    with open(log, "ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert log.stat().st_size < 110_000
    assert "were here, and were removed" in log.read_text()
    assert log.read_text().endswith("last\n")


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("plan.json", 100, "plan.json is damaged (not valid JSON"),
        ("identity.json", 100, "identity.json is damaged"),
        ("blocks-*.npy", 140, "is damaged"),
        ("blocks-*.npy", None, "is missing"),
    ],
)
def test_a_damaged_record_is_recognised_and_explained(
    name: str, cut: int | None, message: str, job: Job
) -> None:
    predict(*job.arguments("z", *SMALL))
    expected = stored_bytes(job.output("z"))
    (file,) = job.run_dir("z").glob(name)
    if cut is None:
        file.unlink()
    else:
        os.truncate(file, cut)
    output = predict(*job.arguments("z", *SMALL), code=2)
    assert message in output
    if name.startswith("blocks"):
        assert f"predict verify {job.output('z')} --repair" in output
        assert "was written anew" in predict("verify", job.output("z"), "--repair")
        assert "Resuming: 2 of 2" in predict(*job.arguments("z", *SMALL))
    else:
        assert "--overwrite" in output
        predict(*job.arguments("z", *SMALL, "--overwrite"))
    assert stored_bytes(job.output("z")) == expected


def test_verify_tells_apart_what_it_finds_and_repair_mends_it(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())
    predict(*job.arguments("v"))
    output = Path(job.output("v"))
    chunk = output / "c" / "0"
    # A block of zeros is complete: nothing is missing in it.
    (chunk / "0/0/0").unlink()
    content = (chunk / "0/0/1").read_bytes()
    (chunk / "0/0/1").write_bytes(content[:-20])
    # Another block's values decode, and are wrong.
    shutil.copy(chunk / "1/1/1", chunk / "0/1/0")
    report = predict("verify", output, "--sample", "27", code=1)
    assert "27 blocks: 24 complete, 2 damaged, 1 different" in report
    assert "damaged [0:160,0:160,0:320] nm (2 blocks): a chunk is not stored" in report
    assert "different [0:160,160:320,0:160] nm (1 block): computed again, values differ" in report
    found = json.loads(predict("verify", output, "--sample", "27", "--json", "--repair", code=1))
    assert found["good"] is False
    assert found["repaired"] == 3
    assert blocks_done(job.run_dir("v")) == 24
    predict(*job.arguments("v"))
    assert stored_bytes(str(output)) == expected
    report = predict("verify", output, "--sample", "3")
    assert "27 blocks: 27 complete." in report
    assert "3 blocks were computed again and compared" in report


def test_zeros_are_not_missing(job: Job) -> None:
    predict(*job.arguments("0", *SMALL, "--output-dtype", "uint8", "--output-range", "900,901"))
    assert not read_output(job.output("0")).any()
    assert "2 blocks: 2 complete" in predict("verify", job.output("0"), "--sample", "2")


def test_mistakes_of_verify_are_short_messages(job: Job, tmp_path: Path) -> None:
    assert "nowhere.zarr/out" in predict("verify", tmp_path / "nowhere.zarr" / "out", code=2)
    assert "was not made by predict run" in predict("verify", job.input, code=2)
    predict(*job.arguments("n", *SMALL))
    shutil.rmtree(job.run_dir("n"))
    assert "Say where it is with --run-dir" in predict("verify", job.output("n"), code=2)
