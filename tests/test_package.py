"""The package as it is installed, and the order of its imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from blockwise_predict.config.resources import resource_folder
from tests.support.environments import new_environment, pip_install
from tests.support.shared import ROOT

# A module may import from its own folder and from those below it in this list, anywhere in it.
FOLDERS = [
    "cli",
    "view",
    "report",
    "run",
    "worker",
    "fleet",
    "scheduling",
    "records",
    "plan",
    "io",
    "engine",
    "checkpoint",
    "config",
    "geometry",
    "architectures",
    "demo",
]
PACKAGE = ROOT / "blockwise_predict"
TESTS = ROOT / "tests"


def module_name(file: Path) -> str:
    """`blockwise_predict.io.source` of its file."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, package: str = PACKAGE.name) -> set[str]:
    """Modules of a package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == package}


def is_module(name: str) -> bool:
    """Whether a dotted name is one of this checkout's modules."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def test_three_files_and_sixteen_folders() -> None:
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "errors.py"}
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FOLDERS)


def test_imports_go_one_way() -> None:
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).parts[0]
        for imported in imports_of(file):
            # The package itself is the way in, and errors.py imports nothing of it.
            place = (imported.split(".")[1:] or ["__init__"])[0]
            below = FOLDERS[FOLDERS.index(own) :] if own in FOLDERS else FOLDERS
            assert own != "errors.py", f"{file.name} imports {imported}"
            assert place in (*below, "errors"), f"{file.relative_to(ROOT)} imports {imported}"


def test_no_modules_import_each_other() -> None:
    graph = {module_name(file): imports_of(file) - {PACKAGE.name} for file in PACKAGE.rglob("*.py")}
    # A folder's own name stands for what it hands out, which its modules do not import.
    graph = {name: imported - {name} for name, imported in graph.items()}
    TopologicalSorter(graph).prepare()


def test_no_test_imports_another_one() -> None:
    """What several tests need is in conftest.py or tests/support, which imports no test either."""
    for file in TESTS.rglob("*.py"):
        for imported in imports_of(file, TESTS.name) - {TESTS.name}:
            assert imported.startswith("tests.support"), f"{file.relative_to(ROOT)}: {imported}"
        # Nor in the code that a test hands to another interpreter.
        assert not re.search(r"(from|import) tests\.(?!support)", file.read_text()), file


def test_modules_stay_readable() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for folder, most in ((PACKAGE, 300), (TESTS, 350))
        for file in folder.rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > most
    }
    assert not long


def test_shipped_folders_are_found_from_the_checkout() -> None:
    assert (resource_folder("workers") / "README.md").exists()
    assert (resource_folder("configs") / "local.yaml").exists()


def test_python_m_is_the_same_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "blockwise_predict", "--version"], capture_output=True, text=True
    )
    assert result.stdout.startswith("predict, version ")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_built_package_holds_what_it_ships(kind: str, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, f"--{kind}", str(ROOT)], check=True, capture_output=True)
    built = next(tmp_path.glob("*.whl" if kind == "wheel" else "*.tar.gz"))
    python, site = new_environment(tmp_path / "env")
    pip_install(python, "--no-deps", "--no-build-isolation", built)
    code = (
        "import blockwise_predict as b;"
        "from blockwise_predict.config.resources import resource_folder as f;"
        "print(b.__file__); print((f('workers') / 'local.sh').exists());"
        "print((f('configs') / 'local.yaml').exists())"
    )
    result = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert result.stdout.split() == [str(site / "blockwise_predict/__init__.py"), "True", "True"]
    if kind == "wheel":
        names = zipfile.ZipFile(built).namelist()
        assert not [name for name in names if name.startswith(("tests", "benchmarks"))]
        assert any(name.endswith(".safetensors") for name in names)
