"""Run the notebooks, and store what they print without machine or time: ``python notebooks/execute.py``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

FOLDER = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a copy of a notebook from top to bottom, in an empty folder; raises where a cell does."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=300, kernel_name="python3", record_timing=False, coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()  # fmt: skip
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def main() -> None:
    """Run and store every notebook."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        text = nbformat.writes(executed(path), indent=1, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
