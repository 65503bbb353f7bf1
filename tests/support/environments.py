"""Environments that see the packages of this one, so that nothing is fetched twice."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path


def new_environment(folder: Path) -> tuple[Path, Path]:
    """The Python and the site-packages of a new environment that also sees this one's packages.

    It has no pip of its own: to install that takes longer than what tests install with it.
    """
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # Without the checkout itself.
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outer.pth").write_text(f"import sys; sys.path += {outer!r}")
    return folder / "bin" / "python", site


def pip_install(python: str | Path, *words: object) -> None:
    """`pip install WORDS` for another interpreter; raises CalledProcessError if it fails."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    words = ("--quiet", "install", *words)
    subprocess.run([*pip, *map(str, words)], capture_output=True, text=True, check=True)
