"""Writing a file that is there whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blockwise_predict.errors import ConfigError


def check_target(file: Path, *, overwrite: bool) -> None:
    """Raise ConfigError if a file has no folder, or exists and must not be replaced."""
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: {file.parent} is not a folder. Create it first.")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder. Give the name of a file.")
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} exists. Give another name, or --overwrite to replace it.")


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """A file of the same name in a temporary folder, which takes the place of `file` on success.

    Raises ConfigError if it cannot be written; then `file` is as it was before.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{file.name}.", dir=file.parent))
        temporary = folder / file.name
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # safetensors makes files that only their owner can read.
        temporary.chmod(mode)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror or error}).") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
