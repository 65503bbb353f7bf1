"""Which files of a repository a checkpoint needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from blockwise_predict.checkpoint.locate import BARE_SUFFIXES
from blockwise_predict.checkpoint.packages.cellmap import METADATA, PROGRAMS
from blockwise_predict.checkpoint.packages.package import PROGRAM_SUFFIXES
from blockwise_predict.errors import CheckpointError

_LISTED = 8


@dataclass(frozen=True)
class Chosen:
    """Files by their names in the repository, and the one, or their folder, to be opened."""

    files: tuple[str, ...]
    entry: str


def choose_files(names: Sequence[str], path: str | None, where: str, *, bare: bool) -> Chosen:
    """The files to download: one that `path` names, else what its folder holds.

    names: of all files of the repository. bare: choose weights, for which an architecture is given.
    Raises CheckpointError, which lists what there is, unless exactly one checkpoint is found.
    """
    if path is not None and path in names:
        return Chosen((path,), path)
    folder = path or "."
    places = [(PurePosixPath(name), name) for name in names]
    inside = {place.name: name for place, name in places if str(place.parent) == folder}
    if METADATA in inside and not bare:
        programs = [name for name in PROGRAMS if name in inside]
        if programs:
            return Chosen((inside[METADATA], inside[programs[0]]), folder)
    suffixes = BARE_SUFFIXES if bare else (*BARE_SUFFIXES, *PROGRAM_SUFFIXES)
    candidates = [full for name, full in inside.items() if PurePosixPath(name).suffix in suffixes]
    if len(candidates) == 1:
        return Chosen((candidates[0],), candidates[0])
    listed = ", ".join(sorted(candidates or names)[:_LISTED]) or "nothing"
    kinds = ", ".join(suffixes)
    problem = "has several networks" if candidates else f"has no network ({kinds}) there"
    raise CheckpointError(
        f"checkpoint {where}: the repository {problem}: it holds {listed}. Name a file: "
        "hf://OWNER/REPO@REVISION/FILE."
    )
