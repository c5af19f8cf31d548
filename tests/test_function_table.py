"""The function table of the documentation is what the functions do."""

from __future__ import annotations

from pathlib import Path

import graphc
from graphc.dispatch import FUNCTIONS, UFUNCS
from graphc.function_table import entries, function_table, rows

ROOT = Path(__file__).resolve().parents[1]


def test_the_file_is_current() -> None:
    assert (ROOT / "graphc" / "FUNCTIONS.md").read_text(encoding="utf-8") == f"{function_table()}\n", (
        "out of date: python -m graphc.function_table > graphc/FUNCTIONS.md"
    )


def test_every_function_is_in_it() -> None:
    listed = {entry.function for entry in entries()}
    assert sum(len(entry.names) for entry in entries()) > 300
    missing = {function for function in (*UFUNCS, *FUNCTIONS) if function not in listed}
    assert not missing, "NumPy has them under no public name"
    public = [getattr(graphc, name) for name in graphc.__all__]
    assert {one for one in public if getattr(one, "__module__", None) == "graphc.functions"} <= listed
    assert {graphc.gelu, graphc.mse, graphc.top_k} <= listed


def test_gradients() -> None:
    found = {name: row for row in rows() for name in row[0].replace("`", "").split(", ")}
    for name, gradient in (("np.tanh", "yes"), ("np.floor", "zero"), ("np.argmax", "none"), ("np.full_like", "none")):
        assert found[name][3] == gradient
    assert found["np.std"][1] == "sum, divide, subtract, square, sqrt"
    assert found["np.bitwise_and"][2] == "integers, bool"
