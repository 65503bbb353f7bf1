"""The notebook in docs/ runs from its first cell to its last."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.shared import ROOT


@pytest.mark.slow
def test_the_notebook_of_the_api_runs() -> None:
    notebook = nbformat.read(ROOT / "docs" / "api.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
    text = "".join(
        output.get("text", "") or str(output.get("data", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    assert "precision 'float99'" in text
    assert "<table>" in text
