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
    """A weights file and its YAML, None if there is none; run and iteration if they are known."""

    weights: Path
    document: Path | None
    run: str | None
    iteration: int | None


def locate(path: Path, iteration: int | None, architecture: Path | None) -> Location:
    """Find the files of a checkpoint; raises CheckpointError if one is missing.

    `path` is a DaCapo run folder `BASE/RUN` (with its YAML at `BASE/configs/runs/RUN.yaml`), a
    folder with files `model_checkpoint_N`, a file inside one, or a file of bare weights.
    `iteration` selects one of a folder, by default the latest. An `architecture` file takes
    precedence over any YAML that is found.
    """
    if path.is_dir():
        return _locate_run(path.absolute(), iteration, architecture)
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path}: no such file or folder. Use a DaCapo run folder (BASE/RUN), "
            f"an iteration file, weights ({', '.join(BARE_SUFFIXES)}), a program (.ts, .pt2, "
            ".onnx) or a package."
        )
    if iteration is not None and _number(path) != iteration:
        raise CheckpointError(
            f"iteration {iteration} goes with a run folder, but checkpoint {path} is a file."
        )
    run_document = _document_above(path)
    document = architecture or run_document
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
    files = _numbered(iterations)
    unnamed = not files and (files := _numbered(folder))
    if not files:
        raise CheckpointError(
            f"checkpoint {folder}: no network found. It holds "
            f"{_listing(_names_in(folder)) or 'nothing'}; but a DaCapo run holds "
            "checkpoints/iterations/N, a folder of fly_organelles files model_checkpoint_N, one of "
            "cellmap-models metadata.json, and a bioimage.io package rdf.yaml or bioimageio.yaml. "
            "Name one of these, or a file."
        )
    chosen = max(files) if iteration is None else iteration
    if chosen not in files:
        closest = sorted(files, key=lambda number: abs(number - chosen))
        raise CheckpointError(
            f"iteration {chosen}: {folder} does not have it. Closest: {_listing(closest)}."
        )
    if unnamed:
        return Location(files[chosen], architecture, None, chosen)
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


def _numbered(folder: Path) -> dict[int, Path]:
    return {number: f for f in folder.glob("*") if (number := _number(f)) is not None}


def _names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def _number(file: Path) -> int | None:
    """The iteration of a file `N`, or `model_checkpoint_N` as gunpowder calls it."""
    number = file.name.removeprefix("model_checkpoint_")
    return int(number) if number.isdecimal() else None


def _listing(items: Sequence[object]) -> str:
    more = len(items) - _LISTED
    return ", ".join(map(str, items[:_LISTED])) + (f" and {more} more" if more > 0 else "")
