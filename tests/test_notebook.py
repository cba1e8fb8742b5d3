"""The tutorial notebook runs, and every explanation in it shows itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def executed():
    nbclient = pytest.importorskip("nbclient", reason="nbconvert is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_explanations(executed):
    data = [output.data for output in outputs(executed) if "data" in output]
    pages = [one["text/html"] for one in data if "text/html" in one]
    assert len(pages) == 4
    assert all('sandbox="allow-scripts"' in page and len(page) < 1_000_000 for page in pages)
    assert sum("image/png" in one for one in data) == 4
    (printed,) = re.findall(r"Grad-CAM +(\d+)%", "".join(o.get("text", "") for o in outputs(executed)))
    assert int(printed) > 50


def test_the_notebook_is_kept_without_its_outputs():
    import json

    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
