"""The package as it is installed, and the order of its imports."""

from __future__ import annotations

import ast
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from blockwise_predict.resources import resource_folder
from tests.shared import ROOT

# A module may import from its own layer and from those above it in this list.
LAYERS = [
    {"consent", "errors", "geometry", "lattice", "resources", "untrusted"},
    {"config_values"},
    {"config"},
    {"architectures"},
    {"checkpoint", "io", "engine"},
    {"memory"},
    {"tiling"},
    {"sizing", "plan"},
    {"layout"},
    {"planning"},
    {"estimate", "block", "provenance"},
    {"output_spec"},
    {"records"},
    {"processor"},
    {"scheduling", "probe"},
    {"job"},
    {"worker"},
    {"fleet"},
    {"result", "extension", "recompute"},
    {"run", "verify"},
    {"recorded", "workerlogs"},
    {"demo"},
    {"cli"},
    {"__main__"},
]


def layer_of(module: str) -> int:
    """Index of a module's layer, by its first name below the package."""
    name = module.split(".")[1] if "." in module else module
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def imports_of(file: Path) -> list[str]:
    """Modules of this package that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.startswith("blockwise_predict.")]


def test_imports_go_one_way() -> None:
    package = ROOT / "blockwise_predict"
    for file in package.rglob("*.py"):
        parts = file.relative_to(package).with_suffix("").parts
        if parts == ("__init__",):
            continue
        own = layer_of(parts[0])
        for imported in imports_of(file):
            assert layer_of(imported) <= own, f"{file.name} imports {imported}"


def test_modules_stay_readable() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in (ROOT / "blockwise_predict").rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 300
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
    # An environment that sees this one's packages, so that nothing is fetched.
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=False)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "parent.pth").write_text(f"import sys; sys.path += {outer_packages()!r}")
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", str(built)], check=True, capture_output=True
    )
    code = (
        "import blockwise_predict as b;"
        "from blockwise_predict.resources import resource_folder as f;"
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


def outer_packages() -> list[str]:
    """Folders of this interpreter's installed packages, without the checkout itself."""
    return [p for p in sys.path if p.endswith("site-packages")]
