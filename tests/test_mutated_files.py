"""Mutated files of every kind are opened, or refused with a message."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shared import ROOT


@pytest.mark.slow
def test_mutated_files_are_opened_or_refused(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "tests/support/fuzz_files.py", "--count", "40", "--save", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.dumps(result.stdout).count("MiB") >= 20
