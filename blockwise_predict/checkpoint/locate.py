"""From what the user calls a checkpoint to its weights file and the document that describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blockwise_predict.errors import CheckpointError

BARE_SUFFIXES = (".pt", ".pth", ".safetensors")
_LISTED = 12


@dataclass(frozen=True)
class Location:
    """A weights file, its YAML, and the run and iteration if it is DaCapo's."""

    weights: Path
    document: Path
    run: str | None
    iteration: int | None


def locate(path: Path, iteration: int | None, architecture: Path | None) -> Location:
    """Find the files of a checkpoint. Raises CheckpointError that says what is missing.

    `path` is a DaCapo run folder `BASE/RUN` (its YAML at `BASE/configs/runs/RUN.yaml`; `iteration`
    says which, the latest by default), a file below one, or a file of bare weights. An
    `architecture` file goes before any YAML that is found.
    """
    if path.is_dir():
        return _locate_run(path.absolute(), iteration, architecture)
    if not path.is_file():
        raise CheckpointError(
            f"--checkpoint {path}: no such file or folder. Give a DaCapo run folder (BASE/RUN), "
            f"an iteration file, or weights ({', '.join(BARE_SUFFIXES)})."
        )
    if iteration is not None and path.name != str(iteration):
        raise CheckpointError(
            f"--iteration {iteration} goes with a run folder, but --checkpoint {path} is a file."
        )
    run_document = _document_above(path)
    document = architecture or run_document
    if document is None:
        raise CheckpointError(
            f"--checkpoint {path}: nothing beside it says what its architecture is. Give it with "
            "--architecture arch.yaml, the YAML of its DaCapo run for example."
        )
    run = None if run_document is None else run_document.stem
    return Location(path, document, run, _number(path))


def _locate_run(folder: Path, iteration: int | None, architecture: Path | None) -> Location:
    runs = folder / "configs" / "runs"
    if runs.is_dir():
        names = sorted(file.stem for file in runs.glob("*.yaml"))
        raise CheckpointError(
            f"--checkpoint {folder} is a DaCapo base folder. Give one of its runs: "
            f"{_listing([str(folder / name) for name in names])}."
        )
    iterations = folder / "checkpoints" / "iterations"
    files = {number: f for f in iterations.glob("*") if (number := _number(f)) is not None}
    if not files:
        raise CheckpointError(
            f"--checkpoint {folder}: no iterations in {iterations}. "
            "A DaCapo run folder is BASE/RUN, with checkpoints/iterations/N in it."
        )
    chosen = max(files) if iteration is None else iteration
    if chosen not in files:
        there = sorted(files, key=lambda number: abs(number - chosen))
        raise CheckpointError(
            f"--iteration {chosen}: {folder} does not have it, but {_listing(there)}."
        )
    document = architecture or folder.parent / "configs" / "runs" / f"{folder.name}.yaml"
    if not document.is_file():
        raise CheckpointError(
            f"--checkpoint {folder}: its configuration {document} is missing. "
            "Give the run's YAML with --architecture."
        )
    return Location(files[chosen], document, folder.name, chosen)


def _document_above(file: Path) -> Path | None:
    """The run's YAML of a file in a run folder, found by walking up from it."""
    for folder in file.absolute().parents:
        document = folder.parent / "configs" / "runs" / f"{folder.name}.yaml"
        if document.is_file():
            return document
    return None


def _number(file: Path) -> int | None:
    return int(file.name) if file.name.isdecimal() else None


def _listing(items: Sequence[object]) -> str:
    more = len(items) - _LISTED
    return ", ".join(map(str, items[:_LISTED])) + (f" and {more} more" if more > 0 else "")
