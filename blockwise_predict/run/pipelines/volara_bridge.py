"""The other side of the volara plugin: plans and predicts, in blockwise-predict's environment.

    python -m blockwise_predict.run.pipelines.volara_bridge run CONFIG CONSENT
    python -m blockwise_predict.run.pipelines.volara_bridge work CONFIG CONSENT NUMBER WORKERS

Both exchange lines of JSON with the plugin (`volara.py`) over stdin and stdout, and end when stdin
does. `run` first describes the blocks of the run; for each line it reads, it begins or resumes the
run and answers with the blocks that are done. `work` reads the begin of a block (nm) per line,
predicts the block, and answers with its number, or with an error. CONSENT holds the options that
the configuration's file cannot (`config.consent`), as JSON. Everything else that would be printed
goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.errors import PredictError, RunFailedError
from blockwise_predict.plan.model import Plan
from blockwise_predict.run.pipelines.grid import TaskGrid, task_grid, task_rois
from blockwise_predict.run.pipelines.open_run import open_run, pass_for_open_run
from blockwise_predict.run.pipelines.worker import PipelineWorker
from blockwise_predict.run.planned import plan_run, run_dir_of
from blockwise_predict.worker.block import FatalError, describe

Send = Callable[[dict[str, Any]], None]


def serve_run(config: RunConfig, requests: TextIO, send: Send) -> None:
    """Plan a run, open it on each request, and hold its lock until `requests` ends."""
    run = plan_run(config)
    send(_description(run.plan, task_grid(run.plan, "nm")))
    for _ in requests:
        _, done = open_run(run, "blockwise-predict, a task of volara")
        send({"done": np.packbits(done).tobytes().hex()})


def serve_blocks(
    config: RunConfig, *, number: int, workers: int, requests: TextIO, send: Send
) -> None:
    """Predict the blocks that are requested, as worker `number` of `workers` on this machine."""
    config = config.absolute()
    worker_pass = pass_for_open_run(
        run_dir_of(config),
        workers,
        unsafe_load_pickle=config.unsafe_load_pickle,
        factory=config.factory,
    )
    worker = PipelineWorker(worker_pass, number)
    grid = task_grid(worker.plan, "nm")
    send({"ready": True})
    for line in requests:
        block = worker.plan.block_number(grid.voxel(json.loads(line)["begin"]))
        try:
            worker.process(block)
        except (FatalError, RunFailedError):
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever a block raises is that block's failure; volara decides about a retry.
            send({"error": describe(error)})
        else:
            send({"done": block})
    worker.close()


def _description(plan: Plan, grid: TaskGrid) -> dict[str, Any]:
    """Where blocks lie (nm): begin and shape of the ROI, number and shape of blocks, context."""
    rois = task_rois(plan, grid)
    written = grid.roi(plan.output.roi)
    return {
        "output": plan.output.path,
        "begin": list(written.begin),
        "shape": list(written.shape),
        "blocks": list(plan.blocks_per_axis),
        "block_shape": list(rois.write.shape),
        "context_low": list(rois.write.begin - rois.read.begin),
        "context_high": list(rois.read.end - rois.write.end),
    }


def main() -> int:
    """Run the command that the arguments name; returns the exit code."""
    # Libraries may print to stdout. Keep it for answers, and send everything else to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    command, file, consent, *numbers = sys.argv[1:]
    try:
        config = load_config(json.loads(consent), file)
        if command == "run":
            serve_run(config, sys.stdin, send)
        else:
            number, workers = map(int, numbers)
            serve_blocks(config, number=number, workers=workers, requests=sys.stdin, send=send)
    except (PredictError, FatalError) as error:
        send({"fatal": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
