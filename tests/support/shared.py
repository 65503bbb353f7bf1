"""Where the tests find data that is too large, or not ours, to be in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_path(relative: str) -> Path:
    """Path of a shared test file, or skip the test with the reason.

    `BLOCKWISE_PREDICT_SHARED` names the folder; the default is `shared` beside the checkout.
    """
    folder = Path(os.environ.get("BLOCKWISE_PREDICT_SHARED", ROOT.parent / "shared"))
    path = folder / relative
    if not path.exists():
        pytest.skip(f"needs {relative}: set BLOCKWISE_PREDICT_SHARED to the folder that holds it")
    return path
