"""Elementary functions against the tables that NumPy validates its own by, and their slopes by complex steps.

The tables are part of NumPy's wheel: arguments with results of another, exact library, as the bits of floats, and how
many ULP NumPy allows itself.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from op_calls import slope

import graphc
from graphc import Input
from graphc.ir.core import Op, Partials
from graphc.ir.ops import OPS

TABLES = Path(np.__file__).parent / "_core" / "tests" / "data"
NAMES = sorted(path.stem.removeprefix("umath-validation-set-") for path in TABLES.glob("umath-validation-set-*.csv"))
MOST_ULP = 2
# The C library's.
MOST_ULP_OF_LIBRARY = {"arcsinh": 4, "arccosh": 4, "arctanh": 4}
BITS = {"float32": np.uint32, "float64": np.uint64}


@cache
def table(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arguments, results, and the ULP allowed, of one dtype."""
    rows = []
    for line in (TABLES / f"umath-validation-set-{name}.csv").read_text().splitlines():
        kind, *fields = line.split(",")
        if kind == f"np.{dtype}":
            rows.append([int(field, 16) for field in fields[:2]] + [int(fields[2])])
    argument, result, ulp = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    x, y = (bits.astype(BITS[dtype]).view(dtype) for bits in (argument, result))
    return x, y, ulp.astype(np.int64)


def ordered(x: np.ndarray) -> np.ndarray:
    """The bits of floats as integers that count them in order: neighbours differ by 1, and both zeros are 0."""
    bits = x.view(np.int32 if x.dtype == np.float32 else np.int64).astype(object)
    lowest = -(2 ** (8 * x.dtype.itemsize - 1))
    return np.array([bit if bit >= 0 else lowest - bit for bit in bits.tolist()], object)


@pytest.mark.skipif(not NAMES, reason="this NumPy wheel has no validation tables")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_functions_keep_to_numpys_tables(dtype: str) -> None:
    tables = {name: table(name, dtype) for name in NAMES}
    assert len(tables) >= 15
    views = {name: Input((x.size,), dtype, name) for name, (x, _, _) in tables.items()}
    program = graphc.compile([getattr(np, name)(view) for name, view in views.items()])
    results = program(**{name: x for name, (x, _, _) in tables.items()})
    for (name, (x, expected, ulp)), found in zip(tables.items(), results, strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=name)
        known = ~np.isnan(expected)
        distance = np.abs(ordered(found[known]) - ordered(expected[known]))
        allowed = np.maximum(ulp[known], MOST_ULP_OF_LIBRARY.get(name, MOST_ULP))
        worst = np.argmax(distance - allowed)
        assert distance[worst] <= allowed[worst], f"{name}({x[known][worst]!r}) is off by {distance[worst]} ULP"


# Analytic on the real line where they are sampled, with NumPy functions that take complex numbers. Compositions as
# NumPy has them stand in where its function does not.
COMPLEX = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "arccos": np.arccos,
    "arctan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "arcsinh": np.arcsinh,
    "arccosh": np.arccosh, "arctanh": np.arctanh, "sqrt": np.sqrt, "square": np.square, "reciprocal": np.reciprocal,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "softplus": lambda z: np.log1p(np.exp(z)),
    "log_sigmoid": lambda z: -np.log1p(np.exp(-z)), "logit": lambda z: np.log(z) - np.log1p(-z),
    "entr": lambda z: -z * np.log(z), "cbrt": lambda z: np.exp(np.log(z) / 3),
}  # fmt: skip
# Where the formula in complex numbers rounds more than the slope does.
DIGITS = {"cbrt": 4e-15, "logit": 2e-15, "entr": 4e-15}


@pytest.mark.parametrize("name", COMPLEX)
def test_slopes_are_those_of_complex_steps(name: str) -> None:
    """f'(x) = Im f(x + ih) / h to full precision for h so small that its square is nothing: no difference is taken."""
    op: Op = OPS[name]
    assert isinstance(op.derivative, Partials)
    low, high = op.domain
    x, h = np.random.default_rng(4).uniform(low, high, 200), 1e-30
    expected = COMPLEX[name](x + 1j * h).imag / h
    scale = np.abs(expected) + (1 if name in ("entr", "tanh") else 0)  # their slopes have zeros, or saturate
    np.testing.assert_array_less(np.abs(slope(op, x)[0] - expected) / scale, DIGITS.get(name, 1e-15))
