"""What probing found out, kept for the next time in the user's cache folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from pydantic import ValidationError

from blockwise_predict.config.untrusted import MalformedError, read_bounded
from blockwise_predict.geometry.probed import Probed

# To be increased where the same network would be described differently.
_VERSION = 2
_MAX_BYTES = 1 << 16


def cached(sha256: str) -> Probed | None:
    """What is known of a program; None if it has not been probed, or the record is damaged."""
    try:
        return Probed.model_validate_json(read_bounded(_file(sha256), _MAX_BYTES))
    except (OSError, MalformedError, ValidationError):
        return None


def keep(sha256: str, probed: Probed) -> None:
    """Keep what was found out; without effect if the cache folder cannot be written."""
    file = _file(sha256)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as target:
            target.write(probed.model_dump_json(indent=1))
        os.replace(target.name, file)
    except OSError:
        return


def _file(sha256: str) -> Path:
    """See the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = f"{_VERSION}-torch-{torch.__version__}"
    return Path(base) / "blockwise-predict" / "probed" / version / f"{sha256}.json"
