"""A plan as one task of a volara pipeline.

volara needs daisy 1 and this package needs daisy 2, so no environment can hold both. This module
runs in volara's environment and imports nothing else from this package. Planning and predicting are
left to processes in the other environment (`volara_bridge`).
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

# The process that holds a run's lock, by Python, configuration and consent. It reads from a pipe of
# this process, and ends with it. Not an attribute of the task, which volara copies and pickles.
_runs: dict[tuple[str, ...], _Run] = {}


class Predict(BlockwiseTask):
    """Predict with a configuration of `predict run` (see docs/pipelines.md of blockwise-predict).

    Blocks, input and output are those of the configuration, and the run's own records say which
    blocks are done. `num_workers` is volara's option.
    """

    task_type: Literal["blockwise-predict"] = "blockwise-predict"
    config: Path
    """
    The YAML file for `predict run`. The task is named after it.
    """
    python: str = sys.executable
    """
    The Python of an environment in which blockwise-predict is installed.
    """
    factory: str | None = None
    """
    As the option `--factory` of `predict run`: the function that builds the network, which executes
    its code. `config` cannot name it.
    """
    unsafe_load_pickle: bool = False
    """
    As the option `--unsafe-load-pickle` of `predict run`: allows the checkpoint to execute code.
    """
    num_cache_workers: None = None
    """
    Each worker computes one block at a time.
    """
    fit: Literal["overhang"] = "overhang"
    read_write_conflict: Literal[False] = False

    @property
    def task_name(self) -> str:
        """The configuration's name and the task's type."""
        return f"{self.config.stem}-{self.task_type}"

    @property
    def write_roi(self) -> Roi:
        """The output's ROI in nm."""
        run = self._run.description
        return Roi(run["begin"], run["shape"])

    @property
    def write_size(self) -> Coordinate:
        """The shape of a block in nm."""
        return Coordinate(self._run.description["block_shape"])

    @property
    def context_size(self) -> tuple[Coordinate, Coordinate]:
        """Context read before and after a block, in nm."""
        run = self._run.description
        return Coordinate(run["context_low"]), Coordinate(run["context_high"])

    def init(self) -> None:
        """Begin or resume the run, whose lock is then held until this process ends."""
        self._run.open()

    def check_block_func(self) -> Callable[[daisy.Block], bool]:
        """A function that says whether a block was done when `init` opened the run."""
        done, begin, size = self._run.done, self.write_roi.begin, self.write_size

        def check_block(block: daisy.Block) -> bool:
            return bool(done[tuple((block.write_roi.begin - begin) / size)])

        return check_block

    @contextmanager
    def process_block_func(self) -> Iterator[Callable[[daisy.Block], None]]:
        """A function that has a block predicted, by a process started for this worker."""
        numbers = (str(_worker_number()), str(self.num_workers))
        arguments = ("work", str(self.config), self._consent, *numbers)
        # Started with the first block, so that an error at the start fails that block, which is
        # retried, and not the whole pipeline.
        worker: _Bridge | None = None

        def process_block(block: daisy.Block) -> None:
            nonlocal worker
            if worker is None or not worker.alive:
                # None was started yet; or it was killed, or ended with a fatal error.
                worker = _Bridge(self.python, arguments)
            answer = worker.ask({"begin": list(block.write_roi.begin)})
            if "error" in answer:
                raise RuntimeError(answer["error"])

        yield process_block
        if worker is not None and not worker.alive:
            # It was killed while idle. A new one is needed to record the end of the run.
            worker = _Bridge(self.python, arguments)
        if worker is not None:
            worker.close()

    def drop_artifacts(self) -> None:
        """Raise NotImplementedError: only `predict run --overwrite` deletes a run's output."""
        raise NotImplementedError(
            f"volara does not delete {self._run.description['output']} and its records. "
            f"`predict run {self.config} --overwrite` does."
        )

    @property
    def _run(self) -> _Run:
        key = (self.python, str(self.config.absolute()), self._consent)
        if key not in _runs or not _runs[key].alive:
            _runs[key] = _Run(self.python, ("run", *key[1:]))
        return _runs[key]

    @property
    def _consent(self) -> str:
        """What the user allows, as the bridge's argument."""
        given = {"unsafe_load_pickle": self.unsafe_load_pickle, "factory": self.factory}
        return json.dumps({key: value for key, value in given.items() if value})


class _Bridge:
    """A process in the other environment. `description` is the first message it sent.

    Raises RuntimeError with its error if it does not start.
    """

    def __init__(self, python: str, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "blockwise_predict.run.pipelines.volara_bridge", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description = self._answer()

    @property
    def alive(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises RuntimeError if the process ends instead."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It has ended; `_answer` reads its last message, which says why.
            pass
        return self._answer()

    def close(self) -> None:
        """Close its stdin and wait for it to end. Raises RuntimeError if it fails."""
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
    """The process that plans a run and holds its lock.

    `done` (bool, on the block grid) are the blocks that were done when the run was opened.
    """

    def open(self) -> None:
        """Begin or resume the run. Raises RuntimeError with the reason if that is not possible."""
        packed = np.frombuffer(bytes.fromhex(self.ask({"open": True})["done"]), np.uint8)
        grid = tuple(self.description["blocks"])
        self.done = np.unpackbits(packed, count=int(np.prod(grid))).astype(bool).reshape(grid)


def _worker_number() -> int:
    """The number of this process among the task's workers; 0 if volara runs without workers."""
    try:
        return int(daisy.Context.from_env()["worker_id"])
    except KeyError:
        return 0
