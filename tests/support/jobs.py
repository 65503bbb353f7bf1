"""A tiny run, and where its files are."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from blockwise_predict.records import default_run_dir
from tests.support.forked import Forked, predict_forked
from tests.support.networks import save_network
from tests.support.runs import PATIENCE_S, blocks_done, command, events, write_volume

SMALL = ("--roi", "[:320,:160,:160]")
"""Two blocks of it."""
PEACEFUL: dict[str, str] = {}
"""Outputs of undisturbed runs, by the content of what they were made from."""


class Job:
    """A tiny run over a 40 x 36 x 33 volume: 27 blocks of 16^3."""

    def __init__(self, folder: Path, **volume: Any) -> None:
        self.folder = folder
        weights, architecture = save_network(folder)
        self.raw = np.random.default_rng(0).integers(0, 256, (40, 36, 33), np.uint8)
        self.input = write_volume(folder / "volume.zarr", self.raw, **volume)
        self.options: list[object] = [
            *("--checkpoint", weights, "--architecture", architecture, "--input", self.input),
            *("--chunk-shape", "16,16,16", "--block-shape", "16,16,16", "--device", "cpu"),
            *("--precision", "float32"),
        ]

    @property
    def given(self) -> dict[str, str]:
        """The options by the keys of a configuration file."""
        names = [str(word).removeprefix("--").replace("-", "_") for word in self.options[::2]]
        return dict(zip(names, map(str, self.options[1::2]), strict=True))

    def arguments(self, name: str, *more: object) -> list[object]:
        return ["run", *self.options, "--output", self.output(name), *more]

    def output(self, name: str) -> str:
        return str(self.folder / f"{name}.zarr" / "out")

    def run_dir(self, name: str) -> Path:
        return default_run_dir(self.output(name))

    def undisturbed(self) -> str:
        """The output of an undisturbed run; the same one for all tests with the same files."""
        files = sorted(p for p in self.folder.rglob("*") if p.is_file() and self._is_given(p))
        digest = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
        if digest not in PEACEFUL:
            kept = Path(tempfile.mkdtemp(prefix="undisturbed-"))
            atexit.register(shutil.rmtree, kept, ignore_errors=True)
            output = str(kept / "out.zarr" / "out")
            # Whatever else a test has every process do as it starts.
            peaceful = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
            words = [str(word) for word in ("run", *self.options, "--output", output)]
            code, said = predict_forked(words, peaceful, PATIENCE_S)
            assert code == 0, said
            PEACEFUL[digest] = output
        return PEACEFUL[digest]

    def _is_given(self, file: Path) -> bool:
        """Whether a file is the network or the input."""
        names = file.relative_to(self.folder).parts
        return names[0] in ("volume.zarr", "weights.pt", "architecture.yaml")

    def begin(self, name: str, *more: object) -> Forked:
        """Start a run in the background, without waiting for its first blocks."""
        return Forked([str(word) for word in self.arguments(name, *more)], os.environ)

    def begin_as_users_do(self, name: str, *more: object) -> subprocess.Popen[str]:
        """The same, but the run is a new interpreter, and its workers end when it is killed."""
        return subprocess.Popen(
            command(*self.arguments(name, *more)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self, name: str, *more: object) -> Forked:
        """Start a run in the background, and wait until its first blocks are done."""
        process = self.begin(name, *more)
        self.await_blocks(name, process)
        return process

    def await_blocks(self, name: str, process: Forked | subprocess.Popen[str]) -> None:
        """Wait until the first blocks of a run are done."""
        deadline = time.monotonic() + 100
        while self.blocks_done(name) < 2:
            assert time.monotonic() < deadline, process.communicate()[0]
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)

    def workers(self, name: str) -> list[psutil.Process]:
        """The local workers that have joined a run, and are still there."""
        names = [event["name"] for event in events(self.run_dir(name), "join")]
        numbers = [int(re.search(r"process (\d+)", named)[1]) for named in names]
        return [psutil.Process(number) for number in numbers if psutil.pid_exists(number)]

    def blocks_done(self, name: str) -> int:
        return blocks_done(self.run_dir(name))
