"""A plan as one task of a volara pipeline.

volara needs daisy 1, and this package daisy 2, so that no environment holds both. This module
imports nothing of this package, to be used where volara is installed; what is planned and predicted
is planned and predicted by a process of another environment (`bridge`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import daisy
import numpy as np
from funlib.geometry import Coordinate, Roi
from volara.blockwise import BlockwiseTask

# Processes that hold a run's lock, by Python and configuration; they end with this one, whose pipe
# they read. Not in the task, which volara copies and pickles.
_runs: dict[tuple[str, str], _Run] = {}


class Predict(BlockwiseTask):
    """Predict the output of a configuration of `predict run` (see blockwise-predict's docs).

    Blocks, input and output are the configuration's; which blocks are done, the run's own records
    say. `num_workers` is volara's.
    """

    task_type: Literal["blockwise-predict"] = "blockwise-predict"
    config: Path
    """
    The YAML file that `predict run` takes. Its name names the task.
    """
    python: str = sys.executable
    """
    The Python of an environment in which blockwise-predict is installed.
    """
    num_cache_workers: None = None
    """
    Each worker computes one block at a time.
    """
    fit: Literal["overhang"] = "overhang"
    read_write_conflict: Literal[False] = False

    @property
    def task_name(self) -> str:
        """The configuration's name, and what is done with it."""
        return f"{self.config.stem}-{self.task_type}"

    @property
    def write_roi(self) -> Roi:
        """The output's ROI, nm."""
        run = self._run.description
        return Roi(run["begin"], run["shape"])

    @property
    def write_size(self) -> Coordinate:
        """The shape of a block, nm."""
        return Coordinate(self._run.description["block_shape"])

    @property
    def context_size(self) -> tuple[Coordinate, Coordinate]:
        """What is read before and after a block, nm."""
        run = self._run.description
        return Coordinate(run["context_low"]), Coordinate(run["context_high"])

    def init(self) -> None:
        """Begin or resume the run: from now on, until this process ends, its lock is held."""
        self._run.open()

    def check_block_func(self) -> Callable[[daisy.Block], bool]:
        """Whether a block was done when the run was begun or resumed."""
        done, begin, size = self._run.done, self.write_roi.begin, self.write_size

        def check_block(block: daisy.Block) -> bool:
            return bool(done[tuple((block.write_roi.begin - begin) / size)])

        return check_block

    @contextmanager
    def process_block_func(self) -> Iterator[Callable[[daisy.Block], None]]:
        """What has blocks predicted, by a process of its own."""
        arguments = ("work", str(self.config), str(_worker_number()), str(self.num_workers))
        # Started with the first block: whatever goes wrong there fails a block, which is tried
        # again, and not the whole pipeline.
        worker: _Bridge | None = None

        def process_block(block: daisy.Block) -> None:
            nonlocal worker
            if worker is None or not worker.alive:
                worker = _Bridge(self.python, arguments)
            answer = worker.ask({"begin": list(block.write_roi.begin)})
            if "error" in answer:
                raise RuntimeError(answer["error"])

        yield process_block
        if worker is not None and not worker.alive:
            # It was killed while it waited; another one records the end of the run.
            worker = _Bridge(self.python, arguments)
        if worker is not None:
            worker.close()

    def drop_artifacts(self) -> None:
        """Raise NotImplementedError: what a run wrote is deleted where it is recorded."""
        raise NotImplementedError(
            f"{self._run.description['output']} and its records are deleted by "
            f"`predict run {self.config} --overwrite`, and not by volara."
        )

    @property
    def _run(self) -> _Run:
        key = (self.python, str(self.config.absolute()))
        if key not in _runs or not _runs[key].alive:
            _runs[key] = _Run(self.python, ("run", key[1]))
        return _runs[key]


class _Bridge:
    """A process of the other environment; `description` is what it says first.

    Raises RuntimeError that says what keeps it from starting.
    """

    def __init__(self, python: str, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "blockwise_predict.run.bridge", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description = self._answer()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Its answer to a question. Raises RuntimeError if it ends instead."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # What it said last says why.
            pass
        return self._answer()

    def close(self) -> None:
        """Wait for its end. Raises RuntimeError unless that was a good one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        last = self._process.stdout.read()
        if self._process.wait():
            raise RuntimeError(last.strip() or f"ended with code {self._process.returncode}")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        if not answer or "fatal" in answer:
            raise RuntimeError(answer.get("fatal") or f"ended with code {self._process.wait()}")
        return answer


class _Run(_Bridge):
    """The process that plans a run and holds its lock; `done` (bool, in the shape of the block
    grid) says which blocks were when it was opened."""

    def open(self) -> None:
        """Begin or resume the run. Raises RuntimeError that says why it cannot be."""
        packed = np.frombuffer(bytes.fromhex(self.ask({"open": True})["done"]), np.uint8)
        grid = tuple(self.description["blocks"])
        self.done = np.unpackbits(packed, count=int(np.prod(grid))).astype(bool).reshape(grid)


def _worker_number() -> int:
    """Which of the task's workers this process is; 0 where volara works without any."""
    try:
        return int(daisy.Context.from_env()["worker_id"])
    except KeyError:
        return 0
