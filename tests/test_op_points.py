"""What single ops do where it is easy to be wrong: kinks, ties, poles, tails, infinities, duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from op_calls import apply, gradients, run, slope, value, x_of
from op_samples import FLOATS, tensor

from graphc.ir import ops
from graphc.ir.core import full
from graphc.passes.differentiate import pullback

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("op", "points", "expected"),
    [
        (ops.relu, [-1, 0, 2, -INF, INF], [0, 0, 1, 0, 1]),
        (ops.absolute, [-2, 0, -0.0, 3], [-1, 0, 0, 1]),
        (ops.sign, [-2, 0, 3], [0, 0, 0]),
        (ops.step, [-2, 0, 3], [0, 0, 0]),
        (ops.sqrt, [0, 4], [INF, 0.25]),
        (ops.log, [0, 2], [INF, 0.5]),
        (ops.tanh, [0, 200, -200], [1, 0, 0]),
        (ops.sigmoid, [0, 800, -800], [0.25, 0, 0]),
        (ops.softplus, [0, 800, -800, INF, -INF], [0.5, 1, 0, 1, 0]),
        (ops.log_sigmoid, [0, 800, -800, INF, -INF], [0.5, 0, 1, 0, 1]),
        (ops.arctan, [0, INF], [1, 0]),
        (ops.arcsinh, [0, 1e30, -1e30], [1, 1e-30, 1e-30]),
        (ops.arcsinh, [0.0, -0.0, 1e-45, -1e-40], [1, 1, 1, 1]),
        (ops.log1p, [0.0, -0.0, 1e-45, -1e-40, -1], [1, 1, 1, 1, INF]),
        (ops.expm1, [0.0, -0.0, 1e-45], [1, 1, 1]),
        (ops.cbrt, [0, 8, -8], [INF, 1 / 12, 1 / 12]),
        (ops.fraction, [-1.5, 0, 2], [1, 1, 1]),
        (ops.erfinv, [-1, 1], [INF, INF]),
        (ops.ndtri, [0, 1], [INF, INF]),
        (ops.logit, [0, 1], [INF, INF]),
        (ops.entr, [-1, 0, 1], [0, INF, -1]),
        (ops.log_ndtr, [-1000, 0, 50], [1000.001, 0.7978845608, 0]),
    ],
)
def test_slopes_at_special_points(op, points, expected, dtype):
    np.testing.assert_allclose(slope(op, np.array(points, dtype))[0], np.array(expected, dtype), rtol=1e-6)


def test_tails_keep_their_relative_precision():
    x = np.array([-40.0, -300.0, 40.0, 300.0])
    np.testing.assert_allclose(slope(ops.sigmoid, x)[0], np.exp(-np.abs(x)), rtol=1e-12)
    np.testing.assert_allclose(slope(ops.expm1, x)[0], np.exp(x), rtol=1e-12)
    np.testing.assert_allclose(slope(ops.softplus, x[:2])[0], np.exp(x[:2]), rtol=1e-12)
    np.testing.assert_allclose(slope(ops.log_sigmoid, x[2:])[0], np.exp(-x[2:]), rtol=1e-12)
    near_one = 1 - 2.0**-40
    np.testing.assert_allclose(slope(ops.arctanh, np.array([near_one]))[0], 2.0**40 / (1 + near_one), rtol=1e-15)


def test_maximum_and_minimum_share_ties_evenly():
    a, b = np.array([1.0, 2.0, 3.0, INF]), np.array([2.0, 2.0, 2.0, INF])
    left, right = slope(ops.maximum, a, b)
    np.testing.assert_array_equal(left, [0, 0.5, 1, 0.5])
    np.testing.assert_array_equal(right, [1, 0.5, 0, 0.5])
    left, right = slope(ops.minimum, a, b)
    np.testing.assert_array_equal(left, [1, 0.5, 0, 0.5])
    np.testing.assert_array_equal(right, [0, 0.5, 1, 0.5])


@pytest.mark.parametrize("op", [ops.max_, ops.min_])
def test_extrema_over_axes_share_ties_evenly(op):
    x = np.array([[3.0, 3.0, 3.0], [1.0, 1.0, 1.0], [3.0, 3.0, 3.0], [1.0, 1.0, 1.0]])
    won = x == (3 if op is ops.max_ else 1)
    np.testing.assert_array_equal(slope(op, x, axes=(0,))[0], won / 2)
    np.testing.assert_array_equal(slope(op, x, axes=(0, 1))[0], won / 6)


def test_power_at_zero():
    base, exponent = np.array([0, 0, 0, 2, 0, 3.0]), np.array([0, 1, 2, 0, 0.5, 2.0])
    np.testing.assert_array_equal(value(ops.power, base, exponent), [1, 0, 0, 1, 0, 9])
    by_base, by_exponent = slope(ops.power, base, exponent)
    np.testing.assert_array_equal(by_base, [0, 1, 0, 0, INF, 6])
    np.testing.assert_allclose(by_exponent, [0, 0, 0, np.log(2), 0, 9 * np.log(3)])


def test_powers_of_a_negative_base():
    base, exponent = np.array([-2.0, -2.0, -1.0]), np.array([3.0, -2.0, 0.0])
    np.testing.assert_array_equal(value(ops.power, base, exponent), [-8, 0.25, 1])
    by_base, by_exponent = slope(ops.power, base, exponent)
    np.testing.assert_array_equal(by_base, [12, 0.25, 0])
    assert np.isnan(by_exponent).all()  # the exponents beside it have no power
    assert slope(ops.integer_power, np.array([-2.0]), n=3)[0] == 12


def test_odd_functions_keep_subnormal_numbers_and_the_sign_of_zero():
    x = np.array([0.0, -0.0, 5e-324, -5e-324, 1e-310])
    for op in (ops.arcsinh, ops.log1p, ops.expm1, ops.sin, ops.tan, ops.arctanh, ops.fraction):
        found = value(op, x)
        np.testing.assert_array_equal(found, x)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(x))


def test_sigmoid_and_softplus_keep_their_tails():
    x = np.array([-700.0, -40.0])
    np.testing.assert_allclose(value(ops.sigmoid, x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(value(ops.softplus, x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(value(ops.log_sigmoid, -x), -np.exp(x), rtol=1e-15)
    np.testing.assert_array_equal(value(ops.softplus, -x), -x)


def test_integer_powers_at_zero():
    for n, expected in ((0, 0), (1, 1), (2, 0), (3, 0)):
        assert slope(ops.integer_power, np.zeros(1), n=n)[0] == expected
    assert value(ops.integer_power, np.zeros(1), n=0) == 1
    np.testing.assert_array_equal(value(ops.integer_power, np.array([2, -3], "int8"), n=5), np.array([32, 13], "int8"))


def test_hypot_and_norm_have_slope_zero_at_zero():
    zeros = np.zeros((2, 3))
    norms = (*slope(ops.norm, zeros, axes=(1,)), *slope(ops.norm, zeros, axes=(0, 1)))
    for found in (*slope(ops.hypot, zeros, zeros), *norms):
        np.testing.assert_array_equal(found, zeros)
    np.testing.assert_allclose(slope(ops.norm, np.array([3.0, 4.0]), axes=(0,))[0], [0.6, 0.8])


def test_second_order_of_norm_is_finite_at_zero():
    x = x_of((2,))
    (first,) = pullback((ops.norm(x, axes=(0,)),), (full(1, tensor(())),), (x,))
    np.testing.assert_array_equal(gradients(first, {x: np.zeros(2)})[0], [0, 0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_and_its_kin_are_stable_at_both_ends(dtype):
    x = np.array([[1e4, 1e4], [-1e4, 0], [3e38, 0], [-INF, 1]], dtype)
    one = np.array([[0.5, 0.5], [0, 1], [1, 0], [0, 1]], dtype)
    np.testing.assert_allclose(value(ops.softmax, x, axis=1), one)
    for op, attrs in ((ops.logsumexp, {"axes": (1,)}), (ops.softmax, {"axis": 1}), (ops.log_softmax, {"axis": 1})):
        node, feeds = apply(op, x, **attrs)
        np.testing.assert_allclose(*run([op.expand(node), node], feeds), rtol=1e-6)
    np.testing.assert_allclose(slope(ops.logsumexp, x, axes=(1,))[0], one)
    np.testing.assert_allclose(value(ops.log_softmax, x, axis=1)[[0, 3]], [[-np.log(2)] * 2, [-INF, 0]], rtol=1e-6)
    np.testing.assert_allclose(slope(ops.log_softmax, x, axis=1)[0], 1 - 2 * one)


def test_logsumexp_of_nothing_but_minus_infinity():
    x = np.full((2, 3), -INF)
    np.testing.assert_array_equal(value(ops.logsumexp, x, axes=(1,)), [-INF, -INF])
    np.testing.assert_array_equal(slope(ops.logsumexp, x, axes=(1,))[0], np.zeros((2, 3)))
    for found in slope(ops.logaddexp, x[0], x[0]):
        np.testing.assert_array_equal(found, [0, 0, 0])


def test_gradient_of_logsumexp_keeps_its_digits_for_large_float32():
    x = np.array([1e6, 1e6 + 1], "float32")
    np.testing.assert_allclose(slope(ops.logsumexp, x, axes=(0,))[0], [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)
    np.testing.assert_allclose(slope(ops.logaddexp, x[:1], x[1:])[0], [1 / (1 + np.e)], rtol=1e-6)


def test_nan_is_kept():
    nan = np.array([NAN])
    for op in (ops.relu, ops.step, ops.sign, ops.absolute, ops.sigmoid, ops.softplus, ops.floor):
        assert np.isnan(value(op, nan))
    for op in (ops.maximum, ops.minimum):
        assert np.isnan(value(op, nan, np.ones(1))) and np.isnan(value(op, np.ones(1), nan))
    assert np.isnan(value(ops.max_, np.array([1, NAN, 2]), axes=(0,)))


def test_where_keeps_infinite_slopes_out():
    x = x_of((3,))
    y = ops.where(ops.greater(x, full(0, x.type)), ops.sqrt(x), full(0, x.type))
    np.testing.assert_array_equal(gradients(y, {x: np.array([-1.0, 0.0, 4.0])})[0], [0, 0, 0.25])


def test_a_filled_singularity_has_a_finite_gradient():
    x = x_of((3,))
    zero = full(0, x.type)
    at_zero = ops.equal(x, zero)
    y = ops.where(at_zero, full(1, x.type), ops.sin(x) / x)
    slope_at_1 = np.cos(1) - np.sin(1)
    found = gradients(y, {x: np.array([0.0, 1.0, -1.0])})[0]
    np.testing.assert_allclose(found, [0, slope_at_1, -slope_at_1])


def test_remainder_and_floor_divide_have_numpys_signs_and_zeros():
    a, b = np.array([7, -7, 7, -7, 5, -128], "int8"), np.array([3, 3, -3, -3, 0, -1], "int8")
    np.testing.assert_array_equal(value(ops.remainder, a, b), [1, 2, -2, -1, 0, 0])
    np.testing.assert_array_equal(value(ops.floor_divide, a, b), [2, -3, -3, 2, 0, -128])


# layout and indexing against NumPy's own notation ---------------------------------------------------------------------


def test_slice_and_pad():
    x = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(value(ops.slice_, x, start=(3, 1), size=(2, 3), step=(-2, 2)), x[3::-2, 1:6:2])
    padded = value(ops.pad, np.ones(2), start=(3,), step=(-2,), shape=(5,))
    np.testing.assert_array_equal(padded, [0, 1, 0, 1, 0])


def test_gather_puts_the_indexed_axes_first():
    x, k, j = np.arange(24.0).reshape(2, 3, 4), np.array([2, 0, 2]), np.array([3, 1, 0])
    np.testing.assert_array_equal(value(ops.gather, x, k, axes=(1,)), np.moveaxis(x[:, k], 1, 0))
    np.testing.assert_array_equal(value(ops.gather, x, k, j, axes=(1, 2)), x[:, k, j].T)
    np.testing.assert_array_equal(value(ops.gather, x, np.array([[1]]), axes=(0,)), x[[[1]]])


def test_scatters_with_duplicates():
    k, updates = np.array([1, 0, 1]), np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(value(ops.scatter_add, np.ones(3), updates, k, axes=(0,)), [3, 6, 1])
    np.testing.assert_array_equal(value(ops.scatter_set, np.ones(3), updates, k, axes=(0,)), [2, 4, 1])
    base, kept, _ = *slope(ops.scatter_set, np.ones(3), updates, k, axes=(0,)), None
    np.testing.assert_array_equal(base, [0, 0, 1])
    np.testing.assert_array_equal(kept, [0, 1, 1])


def test_scatters_of_extrema_split_ties_evenly_and_keep_nan():
    k, updates = np.array([1, 1, 0, 2]), np.array([3.0, 3.0, NAN, 0.0])
    base = np.array([1.0, 2.0, 0.0, NAN])
    np.testing.assert_array_equal(value(ops.scatter_max, base, updates, k, axes=(0,)), [NAN, 3, 0, NAN])
    np.testing.assert_array_equal(value(ops.scatter_min, base, updates, k, axes=(0,)), [NAN, 2, 0, NAN])
    by_base, by_updates = slope(ops.scatter_max, base, updates, k, axes=(0,))
    np.testing.assert_array_equal(by_base, [0, 0, 0.5, 1])
    np.testing.assert_array_equal(by_updates, [0.5, 0.5, 1, 0.5])
    by_base, by_updates = slope(ops.scatter_min, base, updates, k, axes=(0,))
    np.testing.assert_array_equal(by_base, [0, 1, 0.5, 1])
    np.testing.assert_array_equal(by_updates, [0, 0, 1, 0.5])
    nothing = value(ops.scatter_max, base, np.zeros(0), np.zeros(0, "int64"), axes=(0,))
    np.testing.assert_array_equal(nothing, base)


def test_scatter_set_lets_the_last_win_whatever_the_memory_order_of_the_index():
    k, updates = np.asfortranarray([[0, 0], [1, 0]]), np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(value(ops.scatter_set, np.zeros(2), updates, k, axes=(0,)), [4, 3])


def test_wrap_index_counts_from_the_end_and_checks():
    node, feeds = apply(ops.wrap_index, np.array([-300, -1, 299], "int16"), extent=300)
    assert node.dtype == np.int64  # an int8 could not hold the result for 300 elements
    np.testing.assert_array_equal(run([node], feeds)[0], [0, 299, 299])
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"index out of range: {wrong} for an axis of 3 elements"):
            value(ops.wrap_index, np.array([0, wrong]), extent=3)


def test_float32_sums_are_rounded_once():
    tenth = np.float32(0.1)
    x, expected = np.full(1_000_001, tenth), np.float32(1_000_001 * float(tenth))
    assert value(ops.sum_, x, axes=(0,)) == expected
    assert value(ops.matmul, x[None, :], np.ones((x.size, 1), "float32")) == expected
