"""Code that makes real workers, and real runs, misbehave."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest


def write_startup(folder: Path, body: str) -> None:
    """Put into a folder of PYTHONPATH what every interpreter runs when it starts.

    Python itself would only print an error in it and start all the same, undisturbed.
    """
    (folder / "sitecustomize.py").write_text(
        f"try:\n{indent(body, '    ')}\n"
        "except Exception:\n"
        "    import os, traceback\n"
        "    traceback.print_exc()\n"
        "    os._exit(70)\n"
    )


def at_startup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Have all interpreters that are started from now on run `body` first."""
    site = tmp_path / "site"
    site.mkdir()
    write_startup(site, body)
    monkeypatch.setenv("PYTHONPATH", str(site))


SLOW = """
import sys
if "worker" in sys.orig_argv:
    import time
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    def slow(self, roi, turn):
        time.sleep(0.2)
        return process(self, roi, turn)
    block.BlockProcessor.process = slow
"""
"""Workers that need 0.2 s more for each block."""

POISON = """
import sys
if "worker" in sys.orig_argv:
    import os
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    def poisoned(self, roi, turn):
        if tuple(roi.begin) == (16, 16, 0):
            {action}
        return process(self, roi, turn)
    block.BlockProcessor.process = poisoned
"""
"""Workers that do `action` at one block."""

PLANNING = """
import pathlib, sys, time
if "run" in sys.orig_argv:
    from blockwise_predict.run import execute
    def plan(*_):
        pathlib.Path({folder!r}, "planning").touch()
        time.sleep(60)
    execute.make_plan = plan
"""
"""Runs whose plan takes long."""

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


def misbehave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, body: str) -> None:
    """Have workers run `body` at each call of `BlockProcessor.{where}`, which is `real`."""
    at_startup(
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
