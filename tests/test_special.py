"""Special functions of views: SciPy's values and promotion, exact edges, slopes where one has to choose, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
from test_pointwise import second_slope, slope
from test_views import A, B, K, S, evaluate

import graphc
from graphc import DeclarationError, Input, View

INF, NAN = np.inf, np.nan
EDGES = np.array([-INF, -3.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 30.0, INF, NAN])
PAIRS = [grid.ravel() for grid in np.meshgrid(EDGES, EDGES)]
UNARY = [
    "erfc", "erfcx", "erfinv", "ndtr", "log_ndtr", "ndtri", "gammaln", "digamma", "expit", "logit", "entr", "i0", "i1",
]  # fmt: skip


def check(name: str, *arrays: np.ndarray) -> None:
    """A function of views against scipy.special's, in float64."""
    views = [Input(array.shape, array.dtype, name=f"x{k}") for k, array in enumerate(arrays)]
    view = getattr(graphc, name)(*views)
    assert view.dtype == np.result_type(*arrays, *([] if arrays[0].dtype.kind == "f" else [np.float64]))
    found = evaluate(view, **{f"x{k}": array for k, array in enumerate(arrays)})
    with np.errstate(all="ignore"):
        expected = getattr(scipy.special, name)(*(array.astype(np.float64) for array in arrays))
    if name in ("i0", "i1"):  # SciPy's are nan at infinity
        expected = np.where(np.isinf(arrays[0]), np.inf if name == "i0" else arrays[0], expected)
    tolerance = 1e-6 if view.dtype == np.float32 else 1e-14
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_operand(name: str) -> None:
    for array in (A, S, EDGES, EDGES.astype("float32"), K + 6):
        check(name, array)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "rel_entr", "betaln"])
def test_functions_of_two_operands(name: str) -> None:
    for left, right in ((A, B), (S, A), (K + 6, A), (A, B[0])):
        check(name, left, right)
    if name != "betaln":
        check(name, *PAIRS)


def test_kl_div() -> None:
    check("kl_div", A, B)
    finite = np.isfinite(PAIRS[0]) & np.isfinite(PAIRS[1])
    check("kl_div", *(array[finite] for array in PAIRS))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_polygamma(n: int) -> None:
    x = Input((4, 3), name="x")
    array = np.array([[0.1, 0.5, 1], [2, 10, 100], [-0.5, -1.25, -2.9], [-1, -2, 0]], float)
    found = evaluate(graphc.polygamma(n, x), x=array)
    exact = [[float(mpmath.polygamma(n, value)) for value in row] for row in array[:3].tolist()]
    np.testing.assert_allclose(found[:3], exact, rtol=1e-12)
    if n:
        np.testing.assert_array_equal(found[3], (-1.0) ** (n + 1) * INF)


def test_polygamma_refuses_what_is_no_order() -> None:
    x = Input((2,), name="x")
    for n, text in (
        (0.5, "an order known at declaration, an int, not 0.5"),
        (x, "an order known at declaration"),
        (-1, "an order from 1 to 100, got -1"),
        (101, "an order from 1 to 100, got 101"),
    ):
        with pytest.raises(DeclarationError, match=text):
            graphc.polygamma(n, x)


@pytest.mark.parametrize(
    ("name", "points", "slopes"),
    [
        ("erfinv", [-1, 0, 1], [INF, np.sqrt(np.pi) / 2, INF]),
        ("ndtri", [0, 0.5, 1], [INF, np.sqrt(2 * np.pi), INF]),
        ("logit", [0, 0.5, 1], [INF, 4, INF]),
        ("entr", [-1, 0, 1], [0, INF, -1]),
        ("erfc", [-INF, 0, INF], [0, -2 / np.sqrt(np.pi), 0]),
        ("ndtr", [-INF, 0, INF], [0, 1 / np.sqrt(2 * np.pi), 0]),
        ("log_ndtr", [-1e5, 0, 40, INF], [1e5, np.sqrt(2 / np.pi), 0, 0]),
        ("gammaln", [1, 2, -1], [-np.euler_gamma, 1 - np.euler_gamma, NAN]),
        ("digamma", [1], [np.pi**2 / 6]),
        ("expit", [0, 800], [0.25, 0]),
    ],
)
def test_slopes_at_edges(name: str, points: list[float], slopes: list[float]) -> None:
    with np.errstate(all="ignore"):
        found = slope(getattr(graphc, name), np.array(points, float))
    np.testing.assert_allclose(found, slopes, rtol=1e-9, atol=1e-300)


def test_products_with_logarithms_at_zero() -> None:
    """The slope in x is the logarithm wherever that is finite, as the mathematics has it."""
    x, y = np.zeros(4), np.array([0, 2.0, -1.0, INF])
    with np.errstate(all="ignore"):
        by_x = slope(lambda x: graphc.xlogy(x, y), x)
        by_y = slope(lambda y: graphc.xlogy(x, y), y)
        plus_by_x = slope(lambda x: graphc.xlog1py(x, y - 1), x)
        plus_by_y = slope(lambda y: graphc.xlog1py(x, y - 1), y)
        entropy = slope(lambda x: graphc.rel_entr(x, y), x)
        entropy_by_y = slope(lambda y: graphc.rel_entr(x, y), y)
    for found in (by_x, plus_by_x):
        np.testing.assert_array_equal(found, [0, np.log(2), 0, INF])
    np.testing.assert_array_equal(entropy, [0, -INF, 0, -INF])
    for found in (by_y, plus_by_y, entropy_by_y):
        np.testing.assert_array_equal(found, [0, 0, 0, 0])


# name -> where to take derivatives, and mpmath's function
SMOOTH: dict[str, tuple[list[float], Callable[[Any], Any]]] = {
    "erfc": ([-2.0, 0.3, 5.0], mpmath.erfc),
    "erfcx": ([-1.0, 0.3, 2.0], lambda x: mpmath.exp(x * x) * mpmath.erfc(x)),
    "erfinv": ([-0.9, 0.1, 0.7], mpmath.erfinv),
    "ndtr": ([-6.0, 0.3, 2.0], lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2),
    "log_ndtr": ([-6.0, 0.3, 2.0], lambda x: mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2)),
    "ndtri": ([0.1, 0.4, 0.8], lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)),
    "gammaln": ([0.1, 1.5, 40.0, -1.3], lambda x: mpmath.log(abs(mpmath.gamma(x)))),
    "digamma": ([0.1, 1.5, 40.0, -1.3], mpmath.digamma),
    "i0": ([-3.0, 0.0, 0.3, 20.0], lambda x: mpmath.besseli(0, x)),
    "i1": ([-3.0, 0.0, 0.3, 20.0], lambda x: mpmath.besseli(1, x)),
    "logit": ([0.1, 0.4, 0.8], lambda x: mpmath.log(x / (1 - x))),
    "entr": ([0.1, 0.4, 3.0], lambda x: -x * mpmath.log(x)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_first_and_second_derivatives_are_mpmaths(name: str) -> None:
    points, exact = SMOOTH[name]
    function, x = getattr(graphc, name), np.array(points)
    with mpmath.workdps(40):
        for order, found in ((1, slope(function, x)), (2, second_slope(function, x))):
            expected = [float(mpmath.diff(exact, mpmath.mpf(value), order)) for value in points]
            np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_a_compiled_loss_of_special_functions() -> None:
    """The log-likelihood of a negative binomial, value and gradient, compiled against the interpreter."""
    k, r, p = Input(("N",), "float32", "k"), Input((), "float64", "r"), Input((), "float64", "p")
    loss = -np.mean(
        graphc.gammaln(k + r) - graphc.gammaln(r) - graphc.gammaln(k + 1) + graphc.xlogy(k, 1 - p) + r * np.log(p)
    )
    feeds = {"k": np.arange(9, dtype="float32"), "r": 2.5, "p": 0.3}

    def run(target: str) -> tuple[Any, Any]:
        return graphc.compile(loss, wrt=[r, p], target=target).value_and_grad(**feeds)

    (value, slopes), (expected, expected_slopes) = run("cpu"), run("interpret")
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    for name, found in slopes.items():
        np.testing.assert_allclose(found, expected_slopes[name], rtol=1e-12)


def test_numbers_and_integers_are_floats() -> None:
    view: View = graphc.gammaln(Input((2,), "int32", name="x"))
    assert view.dtype == np.float64
    assert graphc.xlogy(2, Input((2,), "float32", name="y")).dtype == np.float32
