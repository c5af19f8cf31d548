"""The table of edges in the documentation, row by row, as machine code and interpreted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphc
from graphc import Input, View

TABLE = Path(__file__).resolve().parents[1] / "ir" / "EDGES.md"

# What the table's expressions are. The names of one argument are those of graphc, or else of NumPy.
FUNCTIONS: dict[str, Callable[..., View]] = {
    "clip(x, 0, 1)": lambda x: np.clip(x, 0, 1),
    "x ** p": lambda x, p: x**p,
    "x ** 0": lambda x: x**0,
    "x ** 2": lambda x: x**2,
    "x ** 3": lambda x: x**3,
    "x / y": lambda x, y: x / y,
    "where(x > 0, sqrt(x), 0)": lambda x: np.where(x > 0, np.sqrt(x), 0),
    "where(x != 0, sin(x) / x, 1)": lambda x: np.where(x != 0, np.sin(x) / x, 1),
    "where(x > 0, log(x), 0)": lambda x: np.where(x > 0, np.log(x), 0),
    "where(x < 10, exp(x), 1)": lambda x: np.where(x < 10, np.exp(x), 1),
    "det(x)": np.linalg.det,
    "cholesky(x)": np.linalg.cholesky,
    "x.at[[0, 0]].max(y)": lambda x, y: x.at[[0, 0]].max(y),
    "x.at[[0, 0]].set(y)": lambda x, y: x.at[[0, 0]].set(y),
    "x.at[[0, 0]].add(y)": lambda x, y: x.at[[0, 0]].add(y),
}
CALL = re.compile(r"([a-z_0-9]+)\((?:x|x, y)\)")


class Row(NamedTuple):
    """One row: what is computed, of which arguments, what it is, and its slope by each of them."""

    text: str
    arguments: list[Any]
    value: Any
    slopes: list[Any]

    @property
    def function(self) -> Callable[..., View]:
        if self.text in FUNCTIONS:
            return FUNCTIONS[self.text]
        name = CALL.fullmatch(self.text)
        assert name is not None, f"no function {self.text}"
        found: Callable[..., View] = getattr(graphc, name[1], None) or getattr(np, name[1])
        return found


def numbers(cell: str) -> list[Any]:
    """What a cell says: JSON, with nan and inf, between semicolons; - is None."""
    parts = (re.sub(r"\binf\b", "Infinity", part).replace("nan", "NaN") for part in cell.split(";"))
    return [None if part.strip() == "-" else json.loads(part) for part in parts]


def rows() -> list[Row]:
    lines = (line.split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| `"))
    return [
        Row(text.removeprefix("| ").strip("`"), numbers(at), numbers(value)[0], numbers(slope.removesuffix(" |")))
        for text, at, value, slope in lines
    ]


ROWS = rows()


def test_the_table_is_read() -> None:
    assert len(ROWS) > 50
    assert FUNCTIONS.keys() <= {row.text for row in ROWS}
    assert all(len(row.arguments) == len(row.slopes) for row in ROWS)


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("interpret", "float64"), ("interpret", "float32"), ("cpu", "float64"),
     pytest.param("cpu", "float32", marks=pytest.mark.full)],
)
def test_the_table_is_true(target: str, dtype: str) -> None:
    feeds: dict[str, np.ndarray] = {}
    outputs: list[View] = []
    expected: list[tuple[str, Any]] = []
    for place, row in enumerate(ROWS):
        leaves = []
        for k, argument in enumerate(row.arguments):
            array = np.asarray(argument, dtype)
            leaves.append(Input(array.shape, dtype, name=f"x{place}_{k}"))
            feeds[f"x{place}_{k}"] = array
        y = row.function(*leaves)
        smooth = [leaf for leaf, slope in zip(leaves, row.slopes, strict=True) if slope is not None]
        outputs += [y, *graphc.grad(np.sum(y), smooth)]
        where = f"{row.text} at {row.arguments}"
        expected += [(where, row.value), *((f"slope of {where}", one) for one in row.slopes if one is not None)]
    found = graphc.compile(outputs, target=target, name="edges")(**feeds)
    rtol = 1e-12 if dtype == "float64" else 1e-6
    wrong = [
        f"{where} is {result}, not {want}"
        for result, (where, want) in zip(found, expected, strict=True)
        if not np.allclose(result, np.asarray(want, dtype), rtol=rtol, atol=0, equal_nan=True)
    ]
    assert not wrong, "\n".join(wrong)
