"""What a start does once, and only once: opening and hashing what may be large or far away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from blockwise_predict.checkpoint import load, trained, unet_model
from blockwise_predict.config.model import load_config
from blockwise_predict.io import InputArray, source
from blockwise_predict.records import RunDir
from blockwise_predict.run.execute import execute
from blockwise_predict.run.planned import plan_run
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.worker.setup import build_processor
from tests.support.jobs import Job

# Of the tiny network: seven convolutions and their biases.
TENSORS = 14
# A volume of 3 x 3 x 3 chunks has three on its diagonal, which are looked at.
SAMPLED_CHUNKS = 3


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often this process opens and hashes what."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(load, "read_weights")
    count(trained, "as_bytes")
    count(unet_model, "PredictionModel")
    count(source, "open_tensorstore")
    count(InputArray, "read")
    return counts


def run(job: Job) -> None:
    config = load_config({**job.given, "output": job.output("s"), "roi": "[:160,:160,:160]"})
    execute(plan_run(config), "predict run", report=Reporter(), stop=StopRequest())


def test_a_start_opens_and_hashes_everything_once(calls: Counter[str], tmp_path: Path) -> None:
    job = Job(tmp_path)
    run(job)
    opened = {"read_weights": 1, "as_bytes": TENSORS, "open_tensorstore": 1}
    assert {name: calls[name] for name in opened} == opened
    assert calls["PredictionModel"] == 1
    # At the end, too, to see whether it was changed. And once, in search of black frames.
    assert calls["read"] == 2 * SAMPLED_CHUNKS + 1

    calls.clear()
    run(job)
    assert {name: calls[name] for name in opened} == opened
    # Nothing was left to do, and whether there are black frames is recorded.
    assert calls["read"] == SAMPLED_CHUNKS


def test_a_worker_opens_and_hashes_everything_once(calls: Counter[str], tmp_path: Path) -> None:
    job = Job(tmp_path)
    run(job)
    records = RunDir(job.run_dir("s"))
    calls.clear()
    build_processor(records.plan(), torch.device("cpu"), records)
    # That the weights are those of the plan is seen by their hash.
    opened = {"read_weights": 1, "as_bytes": TENSORS, "open_tensorstore": 1, "PredictionModel": 1}
    assert {name: calls[name] for name in opened} == opened
