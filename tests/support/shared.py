"""Where the tests find data that is too large, or not ours, to be in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_path(relative: str) -> Path:
    """Path of a file of real data; skips the test where it is not there.

    `BLOCKWISE_PREDICT_SHARED` names the folder; the default is `shared` beside the checkout.
    """
    folder = Path(os.environ.get("BLOCKWISE_PREDICT_SHARED", ROOT.parent / "shared"))
    path = folder / relative
    if not path.exists():
        pytest.skip(
            f"needs {relative}, which is not in the repository: "
            "set BLOCKWISE_PREDICT_SHARED to the folder that holds it"
        )
    return path
