"""The public names: all there, documented, typed, and cheap to import."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

import blockwise_predict as bp
from blockwise_predict import errors
from tests.support.shared import ROOT


@pytest.mark.parametrize("name", bp.__all__)
def test_each_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(bp, name)
    assert name in dir(bp)
    if name != "__version__":
        assert value.__doc__
    if callable(value) and not isinstance(value, type):
        text = (ROOT / "docs" / "api.md").read_text()
        assert re.search(rf"\bbp\.{name}\(", text), f"docs/api.md does not show bp.{name}"


def test_errors_are_named_as_the_user_writes_them() -> None:
    public = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PredictError)
    ]
    for error in public:
        assert getattr(bp, error.__name__) is error
        assert error.__module__ == "blockwise_predict"
        assert f"{error.__name__}" in (errors.__doc__ or "")


def test_functions_keep_their_names_beside_folders_of_the_same_name() -> None:
    code = """
        import blockwise_predict as bp
        from blockwise_predict.plan.model import Plan
        import blockwise_predict.run.execute
        assert callable(bp.plan) and callable(bp.run)
        from blockwise_predict.run.stop import StopRequest
        assert bp.StopRequest is StopRequest
        assert callable(bp.plan) and callable(bp.run)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, blockwise_predict; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "zarr", "tensorstore", "daisy", "pydantic", "rich"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prediction'"):
        _ = bp.prediction  # type: ignore[attr-defined]


def test_types_are_shipped() -> None:
    assert (ROOT / "blockwise_predict" / "py.typed").exists()
