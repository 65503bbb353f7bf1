"""The example at the top of docs/api.md, as a user pastes it into a fresh interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.shared import ROOT


def test_the_first_example_of_the_api_runs_as_it_stands(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    # Isolated: the current folder, which is not the checkout, is not on the path either.
    done = subprocess.run(
        [sys.executable, "-I", "-c", example.group(1)],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, complete, good = done.stdout.splitlines()
    assert (complete, good) == ("True", "True")
    (output,) = tmp_path.glob("*/affinities.zarr/affs")
    assert (output / "zarr.json").exists()
