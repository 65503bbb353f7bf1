"""What a command imports: what is slow to import only where it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from blockwise_predict.cli import predict as predict_group
from tests.support.runs import recorded_run

# What options are declared, parsed and shown with.
LIGHT = {
    *("blockwise_predict", "click", "funlib", "yaml"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
}
# What takes long, and is for computing, scheduling or drawing.
HEAVY = {"torch", "daisy", "zarr", "dask", "scipy", "aiohttp", "cryptography", "rich", "PIL"}
RUN = """
import json, sys
{statement}
names = {{name.split(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
print()
print(json.dumps(sorted(names)))
"""
COMMAND = """
from blockwise_predict.cli import main
try:
    main()
except SystemExit as end:
    assert (end.code or 0) == {code}, end.code
"""


@cache
def imports_of(statement: str, *arguments: str) -> frozenset[str]:
    """Packages outside the standard library that a fresh interpreter has imported at the end."""
    code = RUN.format(statement=statement)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return frozenset(json.loads(result.stdout.splitlines()[-1]))


def imports_of_command(*arguments: object, code: int = 0) -> set[str]:
    """The packages that `predict ARGUMENTS` imports, which ends with a `code`."""
    # Without what an environment imports by itself when Python starts.
    return {*imports_of(COMMAND.format(code=code), *map(str, arguments))} - imports_of("")


def test_the_package_itself_imports_nothing() -> None:
    assert imports_of("import blockwise_predict") - imports_of("") == {"blockwise_predict"}


@pytest.mark.parametrize("name", [None, *predict_group.commands])
def test_help_imports_only_what_declares_options(name: str | None) -> None:
    imported = imports_of_command(*([name] if name else []), "--help")
    assert imported <= LIGHT | private(imported)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--border", "mirror"],
        ["run", "--checkpoint", "c", "--roi", "[1-2]"],
        ["plan", "none.yaml"],
        ["inspect", "volume.zarr", "--voxel-size", "4,four,4"],
        ["worker", ".", "--device", "gpu"],
    ],
)
def test_mistakes_of_form_are_found_as_quickly(words: list[str]) -> None:
    imported = imports_of_command(*words, code=2)
    assert imported <= LIGHT | private(imported)


def test_scripts_are_listed_and_copied_as_quickly(tmp_path: Path) -> None:
    for words in (["list"], ["copy", "slurm", tmp_path]):
        imported = imports_of_command("workers", *words)
        assert imported <= LIGHT | private(imported)


def test_records_and_arrays_are_read_without_what_computes(tmp_path: Path) -> None:
    config = recorded_run(tmp_path)
    # Nothing runs, so that there is nothing to scale.
    for words, code in (
        (("logs", config.output), 0),
        (("status", config.output), 0),
        (("scale", config.output, 3), 2),
        (("inspect", config.input), 0),
    ):
        assert imports_of_command(*words, code=code) & HEAVY == set(), words
    # It draws, and shows how far it is.
    assert imports_of_command("report", config.output) & HEAVY == {"PIL", "rich"}
    # That they would be seen.
    assert "torch" in imports_of_command(
        "inspect", config.checkpoint, "--architecture", config.architecture
    )


def private(names: set[str]) -> set[str]:
    """Helpers that compiled modules leave behind, `_cython_3_1_4` for example."""
    return {name for name in names if name.startswith("_") or name == "cython_runtime"}
