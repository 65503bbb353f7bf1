"""Plans, runs and outputs from Python, beside what the command line gives."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

import blockwise_predict as bp
from blockwise_predict.records.status import Counts
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, stored_bytes
from tests.support.sabotage import POISON, SLOW, at_startup

OPTIONS = {
    "chunk_shape": "16,16,16",
    "block_shape": "16,16,16",
    "device": "cpu",
    "precision": "float32",
}


def opened(job: Job) -> tuple[bp.TrainedModel, bp.InputArray]:
    weights, architecture = save_network(job.folder)
    return bp.open_checkpoint(weights, architecture=architecture), bp.open_array(job.input)


def planned(job: Job, name: str, **options: object) -> bp.PlannedRun:
    return bp.plan(*opened(job), job.output(name), **{**OPTIONS, **options})


def test_a_run_from_python_writes_what_the_command_line_does(
    job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = stored_bytes(job.undisturbed())
    capfd.readouterr()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    plan = planned(job, "p")
    assert not Path(job.output("p")).exists()
    result = bp.run(plan, progress=False)
    assert result.complete
    assert not result.interrupted
    assert result.done == 27
    assert result.failures == ()
    assert result.seconds > 0
    assert stored_bytes(job.output("p")) == expected
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr() == ("", "")
    # The command line resumes it: nothing is left to do.
    assert "27 of 27 blocks are done" in predict("run", job.run_dir("p") / "config.yaml")


def test_what_is_opened_by_its_path_is_planned_alike(job: Job) -> None:
    weights, architecture = save_network(job.folder)
    given = {**OPTIONS, "architecture": architecture}
    plan = bp.plan(weights, job.input, job.output("p"), **given)
    assert plan.plan == planned(job, "p").plan


def test_a_plan_is_a_table_in_a_notebook(job: Job) -> None:
    plan = planned(job, "p", roi="[0:160,:,:]")
    text, table = repr(plan), plan._repr_html_()
    for value in ("[0:160,0:360,0:330]", "9 of 16 x 16 x 16", job.input):
        assert value in text
        assert value in table
    assert "<script" not in table


def test_a_network_with_markup_in_its_name_does_not_reach_the_notebook(job: Job) -> None:
    plan = bp.plan(*opened(job), f"{job.folder}/<b>.zarr/out", **OPTIONS)
    assert "<b>" not in plan._repr_html_().replace("<b>Warning:</b>", "")


def test_a_run_inside_a_running_event_loop_and_in_a_thread(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())

    async def notebook() -> bp.RunResult:
        return bp.run(planned(job, "loop"), progress=False)

    assert asyncio.run(notebook()).complete
    assert stored_bytes(job.output("loop")) == expected
    results: list[bp.RunResult] = []
    thread = threading.Thread(
        target=lambda: results.append(bp.run(planned(job, "thread"), progress=False))
    )
    thread.start()
    thread.join(200)
    assert results[0].complete
    assert stored_bytes(job.output("thread")) == expected


def test_a_run_can_be_stopped_from_its_reporter_and_resumed(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(monkeypatch, tmp_path, SLOW)
    stop = bp.StopRequest()

    class StopsAtThree(bp.Reporter):
        def progress(self, counts: Counts) -> None:
            if counts.done >= 3 and not stop.times:
                stop.request()

    result = bp.run(planned(job, "s"), progress=StopsAtThree(), stop=stop)
    assert result.interrupted
    assert not result.complete
    assert 3 <= result.done < 27
    monkeypatch.delenv("PYTHONPATH")
    assert bp.run(planned(job, "s"), progress=False).complete
    assert stored_bytes(job.output("s")) == expected


def test_blocks_that_failed_are_in_the_result_and_in_the_output(
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, POISON.format(action='raise ValueError("a poisoned block")'))
        with caplog.at_level(logging.WARNING, "blockwise_predict"):
            result = bp.run(planned(job, "f", retries=0), progress=False)
    assert not result.complete
    (failure,) = result.failures
    assert failure.roi == "[160:320,160:320,0:160]"
    assert "a poisoned block" in failure.error
    assert "a poisoned block" in caplog.text
    output = bp.open_output(job.output("f"))
    counts = output.blocks.counts
    assert {state: count for state, count in counts.items() if count} == {"done": 26, "failed": 1}
    (block,) = output.blocks.in_state("failed")
    assert (block.roi_nm, block.number) == (failure.roi, 12)
    assert "a poisoned block" in block.error
    assert output.blocks[12] == block
    assert output.blocks.grid.shape == (3, 3, 3)
    assert output.blocks.grid[1, 1, 0] == "failed"
    assert repr(output.blocks) == "<27 blocks: 26 done, 1 failed>"
    assert output.provenance["complete"] is False
    assert not bp.verify(job.output("f")).good
    # More workers than planned: sizes are planned again, and what failed is done.
    assert bp.run(planned(job, "f"), workers=2, only_failed=True, progress=False).complete
    assert bp.verify(job.output("f"), sample=3).good
    assert bp.open_output(job.output("f")).provenance["complete"] is True


@pytest.mark.parametrize("format_", ["zarr2", "zarr3", "n5"])
def test_an_output_knows_where_it_lies(format_: str, job: Job) -> None:
    path = f"{job.folder}/o.{'n5' if format_ == 'n5' else 'zarr'}/out"
    plan = bp.plan(*opened(job), path, **OPTIONS, format=format_, roi="[100:260,20:200,:]")
    bp.run(plan, progress=False)
    output = bp.open_output(path)
    assert output.voxel_size == (10, 10, 10)
    assert (tuple(output.roi.begin), tuple(output.roi.end)) == ((100, 20, 0), (260, 200, 330))
    assert output.channels == plan.plan.network.channel_names
    stored = read_output(path)
    np.testing.assert_array_equal(output.array[output.roi], stored)
    if format_ == "n5":
        with pytest.raises(bp.ArrayError, match="N5"):
            _ = output.zarr
    else:
        assert isinstance(output.zarr, zarr.Array)
        np.testing.assert_array_equal(output.zarr[:], stored)


def test_an_array_of_somebody_else_is_no_output(job: Job) -> None:
    with pytest.raises(bp.RunStateError, match="not made by predict run"):
        bp.open_output(job.input)


def test_mistakes_are_listed_by_the_names_of_python(job: Job) -> None:
    with pytest.raises(bp.ConfigError) as caught:
        bp.plan(*opened(job), job.output("m"), worker=2, precision="float99", roi="[5:1]")
    message = str(caught.value)
    for part in ("worker: there is no such key", "precision 'float99'", "roi '[5:1]'"):
        assert part in message
    assert "--" not in message
    with pytest.raises(bp.ConfigError, match=r"^workers -1: "):
        bp.run(planned(job, "m"), workers=-1)


def test_torch_is_as_it_was_after_a_prediction(job: Job) -> None:
    model, array = opened(job)
    before = (torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.is_grad_enabled())
    bp.predict(model, array, progress=False, device="cpu")
    after = (torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.is_grad_enabled())
    assert before == after
