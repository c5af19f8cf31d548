"""Statistics against NumPy: weighted means, covariances, and reductions that leave NaN out, with their gradients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import graphc
from graphc import DeclarationError, Input, grad

NAN = np.nan
ROWS = np.array([[1.0, NAN, 3.0, -2.0], [NAN, NAN, NAN, NAN], [0.5, 2.0, -1.0, 4.0], [NAN, 7.0, NAN, NAN]])


def values(view, **feeds):
    return graphc.compile(view, target="interpret")(**feeds)


def numpys(function, *arrays):
    """NumPy's value, without its warnings about rows of nothing."""
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        return np.asarray(function(*arrays))


NAN_FUNCTIONS = {
    "nansum": lambda x: np.nansum(x, axis=1),
    "nansum_keywords": lambda x: np.nansum(x, axis=1, initial=2, where=x > 0),
    "nanprod": lambda x: np.nanprod(x, axis=0, keepdims=True),
    "nanmean": lambda x: np.nanmean(x, axis=1),
    "nanvar": lambda x: np.nanvar(x, axis=1),
    "nanvar_ddof": lambda x: np.nanvar(x, axis=1, ddof=1),
    "nanstd": lambda x: np.nanstd(x, axis=0, keepdims=True),
    "nanmax": lambda x: np.nanmax(x, axis=1),
    "nanmin": np.nanmin,
    "nancumsum": np.nancumsum,
    "nancumprod": lambda x: np.nancumprod(x, axis=0),
}


@pytest.mark.parametrize("name", NAN_FUNCTIONS)
def test_nan_is_left_out_and_rows_of_nothing_else_are_nan(name):
    function = NAN_FUNCTIONS[name]
    for dtype in ("float64", "float32"):
        x = ROWS.astype(dtype)
        expected = numpys(function, x)
        for shape in ((4, 4), ("N", 4)):
            found = values(function(Input(shape, dtype, "x")), x=x)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_allclose(found, expected, rtol=2e-6 if dtype == "float32" else 1e-14)
    integers = np.arange(12).reshape(3, 4) % 5 - 1
    expected, found = numpys(function, integers), values(function(Input((3, 4), "int64", "x")), x=integers)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("name", [name for name in NAN_FUNCTIONS if name != "nanstd"])
def test_no_gradient_is_nan_and_that_of_nan_is_zero(name):
    x = Input((4, 4), name="x")
    slopes = values(grad(np.sum(NAN_FUNCTIONS[name](x)), x), x=ROWS)
    assert np.all(np.isfinite(slopes))
    assert np.all(slopes[np.isnan(ROWS)] == 0)
    if name == "nanmean":
        np.testing.assert_allclose(slopes[0], [1 / 3, 0, 1 / 3, 1 / 3])
    if name == "nanmax":
        np.testing.assert_array_equal(slopes, [[0, 0, 1, 0], [0] * 4, [0, 0, 0, 1], [0, 1, 0, 0]])


def test_positions_of_extrema_without_nan():
    x = Input((4, 4), name="x")
    for function in (np.nanargmax, np.nanargmin):
        found = values(function(x, axis=1), x=ROWS)
        assert found[1] == 0  # NumPy raises there
        np.testing.assert_array_equal(found[[0, 2, 3]], function(ROWS[[0, 2, 3]], axis=1))
        assert values(function(x), x=ROWS) == function(ROWS)


def test_averages_with_weights():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 4)), rng.uniform(1, 2, (3, 4))
    view, weights, along = Input((3, 4), name="x"), Input((3, 4), name="w"), Input((4,), name="v")
    for axis in (None, 0, 1, (0, 1)):
        found = values(np.average(view, axis, weights), x=x, w=w)
        np.testing.assert_allclose(found, np.average(x, axis, w), rtol=1e-14)
    found = values(np.average(view, 1, along, keepdims=True), x=x, v=w[0])
    np.testing.assert_allclose(found, np.average(x, 1, w[0], keepdims=True), rtol=1e-14)
    found = values(np.average(view, 0, [1, 2, 3]), x=x)
    np.testing.assert_allclose(found, np.average(x, 0, [1, 2, 3]), rtol=1e-14)
    assert np.average(Input((3,), "float32", "y"), weights=Input((3,), "float32", "u")).dtype == np.float32
    assert np.average(Input((3,), "int32", "y"), weights=Input((3,), "float32", "u")).dtype == np.float64
    graphc.check_grad(np.sum(np.average(view, 0, weights) ** 2), [view, weights], {"x": x, "w": w})


def test_weights_of_no_sum_give_no_number():
    assert np.isnan(values(np.average(Input((2,), name="x"), weights=[0.0, 0.0]), x=np.ones(2)))


@pytest.mark.parametrize(
    "function",
    [
        np.cov,
        lambda x: np.cov(x, rowvar=False),
        lambda x: np.cov(x, bias=True),
        lambda x: np.cov(x, ddof=2),
        lambda x: np.cov(x[0]),
        lambda x: np.cov(x[0], x[1]),
        lambda x: np.cov(x, x[:1]),
        np.corrcoef,
        lambda x: np.corrcoef(x, rowvar=False),
        lambda x: np.corrcoef(x[0]),
        lambda x: np.corrcoef(x[0], x[2]),
    ],
)
def test_covariances_are_numpys(function):
    x = np.random.default_rng(1).normal(size=(3, 5))
    for dtype in ("float64", "float32"):
        expected = np.asarray(function(x.astype(dtype)))  # NumPy's are float64 at least
        found = values(function(Input((3, 5), dtype, "x")), x=x.astype(dtype))
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    view = Input((3, 5), name="x")
    if function is not np.corrcoef:
        return
    upper = function(view)[0, 1] + function(view)[1, 2] * 2
    graphc.check_grad(upper, [view], {"x": x})


def test_covariances_over_a_symbolic_count():
    x = np.random.default_rng(1).normal(size=(3, 5))
    np.testing.assert_allclose(values(np.cov(Input((3, "N"), name="x")), x=x), np.cov(x), rtol=1e-13)
    assert np.isnan(values(np.cov(Input(("N",), name="x")), x=x[0, :1]))  # nothing to divide by


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda x: np.average(x, weights=x[0]), "weights of (4,) for (4, 4) want one axis, got None\n  give weights"),
        (lambda x: np.average(x, 1, weights=x[0, :2]), "weights of (2,) do not fit axis 1 of (4, 4)"),
        (lambda x: np.cov(x[None]), "covariances are of one or two axes, not of f64[1,4,4]"),
        (lambda x: np.cov(x, fweights=[1, 2, 3, 4]), "np.cov of a view takes no fweights="),
        (lambda x: np.nanmax(x, axis=1, out=np.zeros(4)), "np.nanmax of a view takes no out="),
    ],
)
def test_refusals_say_what_is_wrong(declare, text):
    with pytest.raises(DeclarationError) as caught:
        declare(Input((4, 4), name="x"))
    assert text in str(caught.value)
