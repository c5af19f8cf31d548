"""Scalar functions of integers and of several numbers: NumPy's values over all dtypes, compiled and in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.special
from numba import njit
from numba.core.errors import TypingError

from graphc.codegen import vector_math

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
ULP = 4

# name -> NumPy's function, the number of arguments, the dtypes
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, tuple[str, ...]]] = {
    "floor_divide": (np.floor_divide, 2, (*INTEGERS, *FLOATS)),
    "remainder": (np.remainder, 2, (*INTEGERS, *FLOATS)),
    "fmod": (np.fmod, 2, (*INTEGERS, *FLOATS)),
    "bitwise_count": (np.bitwise_count, 1, INTEGERS),
    "left_shift": (np.left_shift, 2, INTEGERS),
    "right_shift": (np.right_shift, 2, INTEGERS),
    "maximum": (np.maximum, 2, INTEGERS),
    "minimum": (np.minimum, 2, INTEGERS),
    "sign": (np.sign, 1, INTEGERS),
    "hypot": (np.hypot, 2, FLOATS),
    "arctan2": (np.arctan2, 2, FLOATS),
    "logaddexp": (np.logaddexp, 2, FLOATS),
    "logaddexp2": (np.logaddexp2, 2, FLOATS),
    "copysign": (np.copysign, 2, FLOATS),
    "nextafter": (np.nextafter, 2, FLOATS),
    "fraction": (lambda x: np.modf(x)[0], 1, FLOATS),
    "xlogy": (scipy.special.xlogy, 2, FLOATS),
    "xlog1py": (scipy.special.xlog1py, 2, FLOATS),
    "rel_entr": (scipy.special.rel_entr, 2, FLOATS),
    "reciprocal": (np.reciprocal, 1, FLOATS),
    "relu": (lambda x: np.where(x <= 0, x.dtype.type(0), x), 1, FLOATS),
    "unit_step": (lambda x: np.heaviside(x, np.ones_like(x)), 1, FLOATS),
    "isinf": (np.isinf, 1, FLOATS),
    "isfinite": (np.isfinite, 1, FLOATS),
}
CASES = [(name, dtype) for name, (_, _, dtypes) in FUNCTIONS.items() for dtype in dtypes]
SPECIAL = (
    np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 0.5, -2.5, 3, 7.5, 88, -88, 1e-30, 1e30,
    5e-324, -1e-310, 1e-200, 1e-160, 1e155, -1e300, np.finfo(np.float64).max, np.finfo(np.float32).max,
)  # fmt: skip


def points(dtype: str) -> np.ndarray:
    """Numbers at the edges of a dtype, and some between."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        random = np.random.default_rng(0)
        with np.errstate(over="ignore"):
            return np.array([*SPECIAL, *random.normal(size=20) * 10 ** random.uniform(-3, 3, 20)]).astype(kind)
    info = np.iinfo(kind)
    numbers = {info.min, info.min + 1, 0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 31, 32, 63, 64, 65, 100, info.max - 1, info.max}
    return np.array(sorted(numbers | ({-1, -2, -3, -7, -100} if info.min else set())), kind)


def arguments(dtype: str, count: int) -> list[np.ndarray]:
    """Every combination of points."""
    return [grid.ravel() for grid in np.meshgrid(*[points(dtype)] * count)]


@cache
def loop(function: Callable[..., Any], count: int) -> Any:
    """A compiled loop over arrays."""
    if count == 1:

        def unary(x: Any, out: Any) -> None:
            for i in range(x.shape[0]):
                out[i] = function(x[i])

        return njit(fastmath={"contract"}, error_model="numpy")(unary)

    def binary(x: Any, y: Any, out: Any) -> None:
        for i in range(x.shape[0]):
            out[i] = function(x[i], y[i])

    return njit(fastmath={"contract"}, error_model="numpy")(binary)


def assert_numpys(found: np.ndarray, expected: np.ndarray, magnitude: float = 0) -> None:
    """Equal dtypes, NaN, infinities and signs of zero; other floats to a few units in the last place.

    Where terms of size `magnitude` cancel, to units of that.
    """
    assert found.dtype == expected.dtype
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    info = np.finfo(expected.dtype)
    atol = ULP * (info.smallest_subnormal + magnitude * info.eps)
    np.testing.assert_allclose(found, expected, rtol=ULP * info.eps, atol=atol)
    zero = (expected == 0) & (found == 0)
    np.testing.assert_array_equal(np.signbit(found)[zero], np.signbit(expected)[zero])


@pytest.mark.parametrize(("name", "dtype"), CASES)
@np.errstate(all="ignore")
def test_values_are_numpys(name, dtype):
    reference, count, _ = FUNCTIONS[name]
    function = getattr(vector_math, name)
    args = arguments(dtype, count)
    expected = reference(*args)
    compiled = np.empty_like(expected)
    loop(function, count)(*args, compiled)
    magnitude = 1 if name == "logaddexp2" else 0  # -a + log2(1 + ...)
    assert_numpys(compiled, expected, magnitude)
    assert_numpys(function(*args), expected, magnitude)
    assert type(function(*(arg[3] for arg in args))) is expected.dtype.type


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8, 13, -1, -2, -3])
@np.errstate(all="ignore")
def test_integer_powers(n):
    power = vector_math.integer_power

    @njit(fastmath={"contract"}, error_model="numpy")
    def raised(x, out):
        for i in range(x.shape[0]):
            out[i] = power(x[i], n)

    for dtype in (*(INTEGERS if n >= 0 else ()), *FLOATS):
        x = points(dtype)
        compiled = np.empty_like(x)
        raised(x, compiled)
        assert_numpys(compiled, x**n)
        assert_numpys(power(x, n), x**n)


def test_a_large_integer_power_does_not_lose_digits():
    x = np.linspace(0.9, 1.1, 101)
    np.testing.assert_allclose(vector_math.integer_power(x, 1000), x**1000, rtol=1e-15)


def test_plain_numbers_have_pythons_types():
    assert type(vector_math.floor_divide(7, -2)) is np.int64
    assert vector_math.floor_divide(7, -2) == -4
    assert vector_math.remainder(7.5, -2.0) == -0.5


def test_operands_are_of_one_accepted_dtype():
    left_shift, isinf, power = vector_math.left_shift, vector_math.isinf, vector_math.integer_power
    for x, y in ((1.0, 2.0), (np.int8(1), 2)):
        with pytest.raises(TypingError, match="left_shift"):
            njit(lambda x, y: left_shift(x, y))(x, y)  # noqa: PLW0108  # Numba compiles Python functions
    with pytest.raises(TypingError, match="isinf"):
        njit(lambda x: isinf(x))(1)  # noqa: PLW0108
    with pytest.raises(TypingError, match="integer_power"):
        njit(lambda x, n: power(x, n))(2.0, 3)  # noqa: PLW0108  # the exponent is part of the program's text
