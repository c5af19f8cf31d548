"""The notebooks run from top to bottom, and print what is stored in them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from printed import disagreement

from notebooks.execute import FOLDER, METADATA, executed

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def printed(cell: nbformat.NotebookNode) -> str:
    """Return what a code cell printed."""
    return "".join(output["text"] for output in cell.outputs)


def test_there_are_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path: Path) -> None:
    shown = nbformat.read(path, as_version=4)
    for before, after in zip(shown.cells, executed(path).cells, strict=True):
        if before.cell_type == "code":
            wrong = disagreement(printed(before), printed(after))
            assert wrong is None, f"{path.name}, cell {before.id}: {wrong}\nIs that right? python notebooks/execute.py"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor, notebook.metadata) == (4, 5, METADATA)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(cell.metadata for cell in notebook.cells)
    assert {(output.output_type, output.name) for cell in code for output in cell.outputs} == {("stream", "stdout")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_explains(path: Path) -> None:
    kinds = [cell.cell_type for cell in nbformat.read(path, as_version=4).cells]
    assert kinds[0] == kinds[-1] == "markdown"
    assert kinds.count("markdown") >= kinds.count("code") * 2 / 3
