"""Finds the weights file of a checkpoint and the YAML document that describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blockwise_predict.errors import CheckpointError

BARE_SUFFIXES = (".pt", ".pth", ".safetensors")
_LISTED = 12


@dataclass(frozen=True)
class Location:
    """A weights file and its YAML; run and iteration are None for bare weights."""

    weights: Path
    document: Path
    run: str | None
    iteration: int | None


def locate(path: Path, iteration: int | None, architecture: Path | None) -> Location:
    """Find the files of a checkpoint; raises CheckpointError if one is missing.

    `path` is a DaCapo run folder `BASE/RUN` (with its YAML at `BASE/configs/runs/RUN.yaml`), a file
    inside one, or a file of bare weights. `iteration` selects one of a run folder, by default the
    latest. An `architecture` file takes precedence over any YAML that is found.
    """
    if path.is_dir():
        return _locate_run(path.absolute(), iteration, architecture)
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path}: no such file or folder. Use a DaCapo run folder (BASE/RUN), "
            f"an iteration file, or weights ({', '.join(BARE_SUFFIXES)})."
        )
    if iteration is not None and path.name != str(iteration):
        raise CheckpointError(
            f"iteration {iteration} goes with a run folder, but checkpoint {path} is a file."
        )
    run_document = _document_above(path)
    document = architecture or run_document
    if document is None:
        raise CheckpointError(
            f"checkpoint {path}: its architecture is unknown. Describe it with --architecture "
            "arch.yaml (architecture= in Python), for example the YAML of its DaCapo run."
        )
    run = None if run_document is None else run_document.stem
    return Location(path, document, run, _number(path))


def _locate_run(folder: Path, iteration: int | None, architecture: Path | None) -> Location:
    runs = folder / "configs" / "runs"
    if runs.is_dir():
        names = sorted(file.stem for file in runs.glob("*.yaml"))
        raise CheckpointError(
            f"checkpoint {folder} is a DaCapo base folder. Use one of its runs: "
            f"{_listing([str(folder / name) for name in names])}."
        )
    iterations = folder / "checkpoints" / "iterations"
    files = {number: f for f in iterations.glob("*") if (number := _number(f)) is not None}
    if not files:
        raise CheckpointError(
            f"checkpoint {folder}: no iterations in {iterations}. "
            "A DaCapo run folder is BASE/RUN and contains checkpoints/iterations/N."
        )
    chosen = max(files) if iteration is None else iteration
    if chosen not in files:
        closest = sorted(files, key=lambda number: abs(number - chosen))
        raise CheckpointError(
            f"iteration {chosen}: {folder} does not have it. Closest: {_listing(closest)}."
        )
    document = architecture or folder.parent / "configs" / "runs" / f"{folder.name}.yaml"
    if not document.is_file():
        raise CheckpointError(
            f"checkpoint {folder}: its configuration {document} is missing. "
            "Name the run's YAML with --architecture (architecture= in Python)."
        )
    return Location(files[chosen], document, folder.name, chosen)


def _document_above(file: Path) -> Path | None:
    """The YAML of the run folder that contains a file, if one does."""
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
