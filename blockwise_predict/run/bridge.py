"""The far side of the plugin for volara, in an environment of this package's own.

    python -m blockwise_predict.run.bridge run CONFIG
    python -m blockwise_predict.run.bridge work CONFIG NUMBER WORKERS

Both talk in lines of JSON, and end when their stdin does. `run` says how the run's blocks lie; for
each line that it reads, it begins or resumes the run, and says which blocks are done. `work` reads
where blocks begin (nm), and answers each when it is done, or with what went wrong. What they would
print otherwise goes to stderr.
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
from blockwise_predict.run.external import ExternalWorker, open_run, pass_of
from blockwise_predict.run.pipeline import TaskGrid, task_grid, task_rois
from blockwise_predict.run.planned import plan_run, run_dir_of
from blockwise_predict.worker.block import FatalError, describe

Say = Callable[[dict[str, Any]], None]


def serve_run(config: RunConfig, lines: TextIO, say: Say) -> None:
    """Plan a run, open it when asked to, and hold its lock until `lines` end."""
    run = plan_run(config)
    say(_description(run.plan, task_grid(run.plan, "nm")))
    for _line in lines:
        _, done = open_run(run, "blockwise-predict, a task of volara")
        say({"done": np.packbits(done).tobytes().hex()})


def serve_blocks(config: RunConfig, *, number: int, workers: int, lines: TextIO, say: Say) -> None:
    """Work on the run that is open, as one of so many workers of this machine, on the blocks that
    `lines` name."""
    worker = ExternalWorker(pass_of(run_dir_of(config.absolute()), workers), number)
    grid = task_grid(worker.plan, "nm")
    say({"ready": True})
    for line in lines:
        block = worker.plan.block_number(grid.voxel(json.loads(line)["begin"]))
        try:
            worker.process(block)
        except (FatalError, RunFailedError):
            raise
        except Exception as error:  # noqa: BLE001
            # The block's own, and told to who handed it out.
            say({"error": describe(error)})
        else:
            say({"done": block})
    worker.close()


def _description(plan: Plan, grid: TaskGrid) -> dict[str, Any]:
    """How blocks lie, in nm: the first one's begin, how many, their shape, and what they read."""
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
    """What the module's text says. Returns an exit code."""
    # Libraries print to stdout as they please; from here on that is stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    kind, file, *numbers = sys.argv[1:]
    try:
        config = load_config({}, file)
        if kind == "run":
            serve_run(config, sys.stdin, say)
        else:
            number, workers = map(int, numbers)
            serve_blocks(config, number=number, workers=workers, lines=sys.stdin, say=say)
    except (PredictError, FatalError) as error:
        say({"fatal": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
