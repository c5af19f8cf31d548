"""NumPy's pointwise functions on views: its values and dtypes, its edges, and the slopes where one has to choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_views import A, B, K, M, S, check

import graphc
from graphc import DeclarationError, Input, View

INF, NAN = np.inf, np.nan
EDGES = np.array([NAN, INF, -INF, 0.0, -0.0, 1, -1, 0.5, -2.5, 3.0, 1e300, -5e-324, np.finfo(np.float64).max])
PAIRS = [grid.ravel() for grid in np.meshgrid(EDGES, EDGES)]
BITS = np.array([-128, -1, 0, 1, 5, 127], "int8")


def slope(function: Callable[[View], View], x: Any) -> np.ndarray:
    """The derivative of a function of one view at some points."""
    view = Input(np.shape(x), np.asarray(x).dtype, name="x")
    total = np.sum(function(view))
    return graphc.compile(total, wrt=[view], target="interpret").value_and_grad(x=x)[1]["x"]


def second_slope(function: Callable[[View], View], x: Any) -> np.ndarray:
    """The second derivative."""
    return slope(lambda view: graphc.grad(np.sum(function(view)), view), x)


@pytest.mark.parametrize(
    "name", ["cbrt", "deg2rad", "radians", "rad2deg", "degrees", "signbit", "isposinf", "isneginf", "fix", "sinc"]
)
def test_functions_of_one_operand(name: str) -> None:
    for array in (A, S, K, EDGES):
        check(getattr(np, name), array)


@pytest.mark.parametrize(
    "name", ["copysign", "fmod", "heaviside", "logaddexp2", "fmax", "fmin", "nextafter", "isclose"]
)
def test_functions_of_two_operands(name: str) -> None:
    function = getattr(np, name)
    for left, right in ((A, B), (S, A), (K, K + 20), (A, K), PAIRS, (K.astype("int16"), A[0])):
        check(function, left, right)
    check(lambda x: function(x, np.float32(2)), S)


def test_the_bessel_function() -> None:
    for array in (A, S, K, 10 * A):
        check(np.i0, array)


def test_functions_of_integers() -> None:
    check(np.bitwise_count, BITS)
    check(np.bitwise_count, BITS.view("uint8"))
    check(np.bitwise_count, K)
    check(np.fmod, BITS[:, None], BITS)
    check(np.fmax, M, ~M)
    check(np.fmin, BITS, BITS[::-1])
    with pytest.raises(DeclarationError, match="bitwise_count is not defined for float64"):
        np.bitwise_count(Input((2,), name="x"))


def test_spacing() -> None:
    check(np.spacing, EDGES)
    check(np.spacing, S)


def test_neighbours_of_halves_are_refused() -> None:
    for dtype in ("float16", "int8", "uint8", "bool"):
        x = Input((2,), dtype, name="x")
        for declare in (np.spacing, lambda x: np.nextafter(x, x)):
            with pytest.raises(DeclarationError, match=f"of {dtype} is one of float16, whose neighbours") as caught:
                declare(x)
            assert "cast it: x.astype('float32')" in str(caught.value)
    x = Input((2,), "float16", name="x")
    assert np.nextafter(x, np.float32(1)).dtype == np.spacing(Input((2,), "int16", name="k")).dtype == np.float32


def test_functions_with_two_results() -> None:
    for array in (A - 0.5, S, K, EDGES):
        for part in (0, 1):
            check(lambda x, p=part: np.modf(x)[p], array)
    for left, right in ((A, B), (K, K[::-1]), (S, 0.25)):
        for part in (0, 1):
            check(lambda x, y, p=part: np.divmod(x, y)[p], left, right)


@pytest.mark.parametrize("decimals", [0, 1, 3, -1, -2])
def test_rounding_to_decimals(decimals: int) -> None:
    for array in (A, S, 100 * A, 1000 * K, np.array([0.5, 1.5, 2.675, 1.005, 15, 25])):
        check(lambda x: np.round(x, decimals), array)
    check(lambda x: x.round(decimals), A)


def test_rounding_wants_known_decimals() -> None:
    x = Input((2,), name="x")
    with pytest.raises(DeclarationError, match=r"np.round wants decimals known at declaration, not 0\.5"):
        np.round(x, 0.5)  # type: ignore[call-overload]


def test_nan_to_num() -> None:
    for array in (EDGES, EDGES[:3].astype("float32"), K):
        check(np.nan_to_num, array)
        check(lambda x: np.nan_to_num(x, nan=1.5, posinf=3, neginf=-4), array)
    np.testing.assert_array_equal(slope(np.nan_to_num, np.array([NAN, INF, 2.0])), [0, 0, 1])


def test_closeness_and_equality() -> None:
    near = EDGES + np.array([0, 0, 0, 1e-9, 1e-3, 1e-6, 1e-4, 0, 0, 0, 0, 0, 0])
    for keep in (False, True):
        check(lambda x, y, k=keep: np.isclose(x, y, equal_nan=k), near, EDGES)
        for right in (EDGES, near):
            check(lambda x, y, k=keep: np.allclose(x, y, equal_nan=k), EDGES, right)
            check(lambda x, y, k=keep: np.array_equal(x, y, equal_nan=k), EDGES, right)
    check(lambda x, y: np.isclose(x, y, rtol=0.5, atol=0), A, B)
    check(np.array_equal, A, A[:2])
    check(np.array_equal, K, K.astype("float32"))


def test_complex_notation_of_reals() -> None:
    for function in (np.real, np.imag, np.conj, np.conjugate):
        check(function, A)
        check(function, K)


def test_select() -> None:
    check(lambda x: np.select([x > 0.7, x > 0.4], [x, 2 * x], -1), A)
    check(lambda x: np.select([x > 0, x > -3], [x, 2]), K)
    x = Input((3,), name="x")
    with pytest.raises(DeclarationError, match=r"np.select: condition 1 is f64\[3\], not bool"):
        np.select([x > 0, x], [1, 2])
    with pytest.raises(DeclarationError, match="got 2 conditions and 1 choices"):
        np.select([x > 0, x > 1], [1])


KNOTS = np.array([-1.0, 0.0, 0.5, 2.0])
VALUES = np.array([3.0, 1.0, 2.0, -1.0])
POINTS = np.array([[-2, -1, -0.5, 0], [0.25, 0.5, 1.9, 2], [2.1, INF, -INF, NAN]])


def test_interp() -> None:
    check(lambda x: np.interp(x, KNOTS, VALUES), POINTS)
    check(lambda x: np.interp(x, KNOTS, VALUES, left=-7, right=NAN), POINTS)
    check(np.interp, POINTS, KNOTS, VALUES, symbolic=True)
    check(np.interp, S, KNOTS, VALUES)
    for count in (1, 2):
        check(np.interp, POINTS, KNOTS[:count], VALUES[:count])
    check(lambda x: np.interp(0.3, x, VALUES), KNOTS)


def test_slopes_of_interp() -> None:
    points = np.array([-2.0, -1.0, -0.5, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(slope(lambda x: np.interp(x, KNOTS, VALUES), points), [0, -2, -2, 2, -2, 0])
    found = slope(lambda fp: np.interp(np.array([-9.0, 0.25, 1.25, 9.0]), KNOTS, fp), VALUES)
    np.testing.assert_allclose(found, [1, 0.5, 1, 1.5])
    (moved,) = (slope(lambda xp: np.interp(np.array([0.25]), xp, VALUES), KNOTS),)
    np.testing.assert_allclose(moved, [0, -1, -1, 0])


STEEP = [
    [-1e308, 1e308, 4], [0, 1, INF], [0, 1, NAN], [INF, INF, 2], [INF, 1, 2], [-INF, INF, 1], [NAN, 1, 1],
    [1, -INF, -INF],
]  # fmt: skip


@pytest.mark.parametrize("fp", STEEP, ids=str)
def test_interp_is_numpys_beside_what_is_not_finite(fp: list[float]) -> None:
    points = np.array([NAN, -INF, -1, 0, 0.25, 0.5, 1, 1.5, 2, 3, INF])
    check(np.interp, points, np.arange(3.0), np.array(fp))
    check(np.interp, points, np.array([0.0, 1, 1]), np.array(fp))


def test_slopes_of_interp_are_finite_where_it_is() -> None:
    points, knots, steep = np.array([-INF, 0, 1, 2, 3]), np.arange(3.0), np.array([-1e308, 1e308, 4])
    np.testing.assert_array_equal(slope(lambda x: np.interp(x, knots, steep), points)[[0, 1, 3, 4]], 0)
    np.testing.assert_array_equal(slope(lambda fp: np.interp(points, knots, fp), steep), [2, 1, 2])
    np.testing.assert_array_equal(slope(lambda fp: np.interp(points, knots, fp), np.array([0, 1, INF])), [2, 1, 2])
    assert np.isfinite(slope(lambda xp: np.interp(points, xp, steep), knots)).all()


def test_interp_through_any_number_of_points_from_one_on() -> None:
    x, xp, fp = (Input((extent,), name=name) for name, extent in (("x", 4), ("xp", "N"), ("fp", "N")))
    program = graphc.compile(np.interp(x, xp, fp), target="interpret")
    points = np.array([-9.0, 1, 1.5, 9])
    for count in (1, 2, 3):
        knots, values = np.arange(1.0, 1 + count), np.array([3.0, -1, 5])[:count]
        np.testing.assert_array_equal(program(x=points, xp=knots, fp=values), np.interp(points, knots, values))


def test_interp_refuses_what_it_does_not_do() -> None:
    x, knots = Input((3,), name="x"), Input((4,), name="knots")
    with pytest.raises(DeclarationError, match=r"np\.interp of a view takes no period="):
        np.interp(x, knots, VALUES, period=4)
    with pytest.raises(DeclarationError, match=r"xp and fp of one length, at least 1: got f64\[4\] and f64\[3\]"):
        np.interp(x, knots, x)


def test_sinc_and_its_derivatives_keep_their_digits_at_zero() -> None:
    x = np.array([0, 1e-300, 1e-12, 1e-3, 0.25, 0.499999, 0.5, 1.0, -0.3])
    z = np.pi * x
    with np.errstate(all="ignore"):
        first = np.where(np.abs(x) < 0.01, np.pi * (-z / 3 + z**3 / 30), np.pi * (z * np.cos(z) - np.sin(z)) / z**2)
    np.testing.assert_allclose(slope(np.sinc, x), first, rtol=1e-11)
    np.testing.assert_allclose(second_slope(np.sinc, x[:3]), -np.pi**2 / 3)
    h, at = 1e-5, np.array([0.3, 0.49, 0.7])
    middle = (slope(np.sinc, at + h) - slope(np.sinc, at - h)) / (2 * h)
    np.testing.assert_allclose(second_slope(np.sinc, at), middle, rtol=1e-8)


def test_slopes_where_one_has_to_choose() -> None:
    x = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(slope(lambda x: np.heaviside(x, 0.5), x), [0, 0, 0])
    np.testing.assert_array_equal(slope(lambda y: np.heaviside(x, y), np.ones(3)), [0, 1, 0])
    np.testing.assert_array_equal(slope(lambda x: np.copysign(x, np.array([1.0, -1, -1])), x), [-1, 0, -1])
    np.testing.assert_array_equal(slope(lambda y: np.copysign(x, y), np.ones(3)), [0, 0, 0])
    np.testing.assert_array_equal(slope(np.cbrt, np.array([0, 8.0, -8.0])), [INF, 1 / 12, 1 / 12])
    np.testing.assert_array_equal(slope(lambda x: np.modf(x)[0], x), [1, 1, 1])
    np.testing.assert_array_equal(slope(lambda x: np.round(x, 2), x), [0, 0, 0])
    np.testing.assert_array_equal(slope(lambda x: np.fmod(x, 2.0), np.array([-5.0, 7.0])), [1, 1])
    np.testing.assert_array_equal(slope(lambda y: np.fmod(np.array([-5.0, 7.0, 2.5]), y), np.full(3, 2.0)), [2, -3, -1])
    np.testing.assert_array_equal(slope(np.spacing, x), [0, 0, 0])


def test_fmax_and_fmin_pass_nan_by() -> None:
    left, right = np.array([NAN, 1.0, 2.0, NAN, 3.0]), np.array([1.0, NAN, 2.0, NAN, 4.0])
    np.testing.assert_array_equal(slope(lambda x: np.fmax(x, right), left)[[0, 1, 2, 4]], [0, 1, 0.5, 0])
    np.testing.assert_array_equal(slope(lambda x: np.fmin(x, right), left)[[0, 1, 2, 4]], [0, 1, 0.5, 1])
