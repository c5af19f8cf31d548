"""Products and scans: exact through zeros to second order, loops that run in order, NumPy's functions over dtypes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from lowered import Case, assert_same, compiled, expected_values, interpreted, stages
from op_calls import apply, gradients, run, slope, value, x_of
from op_samples import N

import graphc
from graphc import DeclarationError, FeedError, Input, grad
from graphc.ir import ops
from graphc.ir.core import full
from graphc.ir.graph import Graph
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Kernel, Let, Loop, walk
from graphc.passes.differentiate import pullback
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower
from graphc.passes.scans import kernel_scan, scan_kernel

INF, NAN = np.inf, np.nan
FORWARD = {"axis": 0, "reverse": False, "exclusive": False}
ZEROS = ([2.0, 3.0, 5.0, 7.0], [2.0, 0.0, 5.0, 7.0], [0.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 7.0])


def others(x, *places):
    """The product of all elements but some."""
    return np.prod(np.delete(x, places))


# products -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", ZEROS)
def test_the_slope_of_a_product_is_the_product_of_the_others(x):
    x = np.array(x)
    expected = [others(x, k) for k in range(4)]
    np.testing.assert_array_equal(slope(ops.prod, x, axes=(0,))[0], expected)
    np.testing.assert_array_equal(slope(ops.prod, x.reshape(2, 2), axes=(0, 1))[0], np.reshape(expected, (2, 2)))


def hessian_row(op, x, row, **attrs):
    """The gradient of one element of the gradient of the sum of an op's result."""
    node, feeds = apply(op, x, **attrs)
    (leaf,) = feeds
    (first,) = pullback((node,), (full(1, node.type),), (leaf,))
    element = ops.slice_(first, start=(row,), size=(1,), step=(1,))
    return gradients(element, feeds)[0]


@pytest.mark.parametrize("x", ZEROS)
def test_second_derivatives_of_a_product_are_exact_through_zeros(x):
    x = np.array(x)
    for row in range(4):
        expected = [0 if k == row else others(x, row, k) for k in range(4)]
        np.testing.assert_array_equal(hessian_row(ops.prod, x, row, axes=(0,)), expected)


def test_products_over_nothing_and_of_integers():
    np.testing.assert_array_equal(value(ops.prod, np.ones((0, 2)), axes=(0,)), [1, 1])
    assert slope(ops.prod, np.ones((0, 2)), axes=(0,))[0].shape == (0, 2)
    np.testing.assert_array_equal(value(ops.prod, np.array([100, 3], "int8"), axes=(0,)), np.int8(44))
    np.testing.assert_array_equal(slope(ops.prod, np.array([[2.0, 3.0], [4.0, 0.0]]), axes=(1,))[0], [[3, 2], [0, 4]])


# running products and sums --------------------------------------------------------------------------------------------


def running_jacobian(x, reverse, exclusive):
    """d y[k] / d x[i] of a running product, from its definition."""
    size = len(x)
    jacobian = np.zeros((size, size))
    for k in range(size):
        factors = [j for j in range(size) if (j > k if reverse else j < k) or (j == k and not exclusive)]
        for i in factors:
            jacobian[k, i] = np.prod([x[j] for j in factors if j != i])
    return jacobian


@pytest.mark.parametrize("x", ZEROS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_products_have_exact_gradients_through_zeros(x, reverse, exclusive):
    x = np.array(x)
    weights = np.array([1.0, 10.0, 100.0, 1000.0])
    node, feeds = apply(ops.cumprod, x, axis=0, reverse=reverse, exclusive=exclusive)
    (leaf,) = feeds
    ct = x_of((4,))
    (pulled,) = pullback((node,), (ct,), (leaf,))
    expected = weights @ running_jacobian(x, reverse, exclusive)
    np.testing.assert_array_equal(run([pulled], {**feeds, ct: weights})[0], expected)


def test_second_derivatives_of_running_products_are_exact_through_zeros():
    x = np.array([2.0, 0.0, 3.0, 0.0])
    # y = a + ab + abc + abcd by (a, b, c, d)
    a, b, c, d = x
    hessian = [
        [0, 1 + c + c * d, b + b * d, b * c],
        [1 + c + c * d, 0, a + a * d, a * c],
        [b + b * d, a + a * d, 0, a * b],
        [b * c, a * c, a * b, 0],
    ]
    for row in range(4):
        np.testing.assert_array_equal(hessian_row(ops.cumprod, x, row, **FORWARD), hessian[row])


def test_the_transpose_of_a_running_sum_runs_backwards():
    node, _ = apply(ops.cumsum, np.ones(3), axis=0, reverse=False, exclusive=True)
    ct = x_of((3,))
    (back,) = node.op.derivative.transpose(node, ct)
    assert back is ops.cumsum(ct, axis=0, reverse=True, exclusive=True)
    assert node.op.derivative.transpose(node, x_of((3,), "bool")) == (None,)


def test_scans_forward_backward_and_exclusive():
    x = np.array([1.0, 2.0, 4.0])
    for reverse, exclusive, sums, products in (
        (False, False, [1, 3, 7], [1, 2, 8]),
        (True, False, [7, 6, 4], [8, 8, 4]),
        (False, True, [0, 1, 3], [1, 1, 2]),
        (True, True, [6, 4, 0], [8, 4, 1]),
    ):
        attrs = {"axis": 0, "reverse": reverse, "exclusive": exclusive}
        np.testing.assert_array_equal(value(ops.cumsum, x, **attrs), sums)
        np.testing.assert_array_equal(value(ops.cumprod, x, **attrs), products)
    np.testing.assert_array_equal(value(ops.recurrence, np.array([9.0, 2.0, 3.0]), x, **FORWARD), [1, 4, 16])
    np.testing.assert_array_equal(
        value(ops.recurrence, np.array([2.0, 3.0, 9.0]), x, axis=0, reverse=True, exclusive=True), [14, 4, 0]
    )


def test_running_extrema_give_the_gradient_to_the_latest_of_equals():
    x = np.array([1.0, 3.0, 3.0, 2.0, NAN, 5.0])
    np.testing.assert_array_equal(value(ops.cummax, x, axis=0, reverse=False), [1, 3, 3, 3, NAN, NAN])
    np.testing.assert_array_equal(slope(ops.cummax, x, axis=0, reverse=False)[0], [1, 1, 2, 0, 2, 0])
    np.testing.assert_array_equal(slope(ops.cummin, x[:4], axis=0, reverse=True)[0], [1, 0, 0, 3])


def test_float32_scans_run_in_float64():
    x = np.full(200_001, 0.1, "float32")
    case = Case(Graph("sums", (leaf := x_of((N,), "float32"),), (), (ops.cumsum(leaf, **FORWARD),), names={leaf: "x"}),
                {"x": x})  # fmt: skip
    expected = np.cumsum(x, dtype="float64").astype("float32")
    np.testing.assert_array_equal(expected_values(case)["0"], expected)
    np.testing.assert_array_equal(compiled(stages(case.graph)["memory"], case)["0"], expected)


# loops ----------------------------------------------------------------------------------------------------------------


def scan_case(axis, dtype="float32"):
    x, a = x_of((N, 3, 4), dtype), x_of((N, 3, 4), dtype)
    outputs = (
        ops.cumsum(ops.exp(x) * 2 + a, axis=axis, reverse=False, exclusive=False),
        ops.recurrence(a * 2, ops.tanh(x), axis=axis, reverse=True, exclusive=True),
        ops.cummax(x - a, axis=axis, reverse=True),
    )
    graph = Graph("scans", (x, a), (), outputs, names={x: "x", a: "a"})
    rng = np.random.default_rng(0)
    return Case(graph, {name: rng.uniform(-1, 1, (5, 3, 4)).astype(dtype) for name in "xa"})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scans_after_every_stage(axis):
    case = scan_case(axis)
    expected = expected_values(case)
    for program in stages(case.graph).values():
        verify_program(program)
        assert print_program(parse_program(print_program(program))) == print_program(program)
        assert_same(interpreted(program, case), expected, 4, 4)
    assert_same(compiled(stages(case.graph)["memory"], case), expected, 8, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_a_scan_reads_is_inlined_and_the_refusal_says_why_no_more(axis):
    program = Fuse().run(Lower().run(scan_case(axis).graph))
    assert len(program.steps) == 3
    assert sum("a scan runs along its axis in order" in text for text in program.refusals) == 3
    for step in program.steps:
        assert isinstance(step, Kernel)
        loops = [each for each in walk(step.body) if isinstance(each, Loop)]
        assert loops[0].kind == ("serial" if axis == 0 else "parallel")
        # The innermost loop is the last axis: the scan itself, or a vector beside it.
        assert loops[-1].extent == 4
        # Along the last axis functions stand in a loop before the scan's.
        calls = any(isinstance(each, Let) and each.op in ("exp", "tanh") for each in walk(step.body))
        assert any(buffer.space == "row" for buffer in step.writes) == (axis != 2 or calls)
        assert len(loops) == (5 if axis == 0 else 4 if axis == 1 or calls else 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scan_is_read_back_from_its_kernel(axis):
    for step in Lower().run(scan_case(axis).graph).steps:
        if (stage := kernel_scan(step)) is not None:
            assert scan_kernel(stage) == step
    kernels = [step for step in Lower().run(scan_case(axis).graph).steps if kernel_scan(step) is not None]
    assert [kernel_scan(step).combine for step in kernels] == ["add", "add", "maximum"]


# NumPy's functions ----------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "prod": np.prod,
    "prod_axis": lambda x: np.prod(x, axis=0),
    "prod_axes": lambda x: np.prod(x, axis=(0, 1), keepdims=True),
    "prod_keywords": lambda x: np.prod(x, axis=0, initial=3, where=x > 0),
    "sum_keywords": lambda x: np.sum(x, axis=1, initial=5, where=x > 0),
    "max_initial": lambda x: np.max(x, axis=0, initial=1),
    "min_where": lambda x: np.min(x, axis=1, initial=1, where=x > 0),
    "mean_where": lambda x: np.mean(x, axis=1, where=x > 0),
    "any_where": lambda x: np.any(x, axis=1, where=x > 0),
    "all_where": lambda x: np.all(x, where=x > 0),
    "cumsum": np.cumsum,
    "cumprod": np.cumprod,
    "cumsum_axis": lambda x: np.cumsum(x, axis=1),
    "cumprod_axis": lambda x: np.cumprod(x, axis=0, dtype="float32"),
    "cumsum_bool": lambda x: np.cumsum(x, axis=1, dtype=bool),
    "cumprod_bool": lambda x: np.cumprod(x, axis=1, dtype=bool),
    "add_accumulate": np.add.accumulate,
    "multiply_accumulate": lambda x: np.multiply.accumulate(x, axis=1),
    "maximum_accumulate": lambda x: np.maximum.accumulate(x, axis=1),
    "minimum_accumulate": np.minimum.accumulate,
    "diff": np.diff,
    "diff_2": lambda x: np.diff(x, n=2, axis=0),
    "diff_0": lambda x: np.diff(x, n=0),
    "diff_ends": lambda x: np.diff(x, axis=0, prepend=1, append=x[:2]),
    "trapezoid": np.trapezoid,
    "trapezoid_axis": lambda x: np.trapezoid(x, np.array([0.0, 1.0, 4.0, 5.0]), axis=1),
    "trapezoid_points": lambda x: np.trapezoid(x, x + 2.0, axis=0),
    "trapezoid_dx": lambda x: np.trapezoid(x, dx=0.5),
}
if hasattr(np, "cumulative_sum"):
    FUNCTIONS["cumulative_sum"] = lambda x: np.cumulative_sum(x, axis=1, include_initial=True)
    FUNCTIONS["cumulative_prod"] = lambda x: np.cumulative_prod(x, axis=0)
OF_NUMBERS = {
    "ediff1d": lambda x: np.ediff1d(x, to_begin=x[0, :2], to_end=x[:, 1]),
    "gradient": lambda x: np.gradient(x, axis=1),
    "gradient_2": lambda x: np.gradient(x, 0.5, axis=0, edge_order=2),
}


def array(dtype):
    rng = np.random.default_rng(3)
    if dtype == "bool":
        return rng.random((3, 4)) > 0.5
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(3, 4)).astype(dtype)
    return rng.integers(0 if dtype == "uint8" else -4, 5, (3, 4)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "int64", "uint8", "bool"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_functions_are_numpys(dtype, symbolic):
    x = array(dtype)
    view = Input(("N", 4) if symbolic else (3, 4), dtype, "x")
    for name, function in (FUNCTIONS if dtype == "bool" else {**FUNCTIONS, **OF_NUMBERS}).items():
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            expected = np.asarray(function(x))
        found = graphc.compile(function(view), target="interpret")(x=x)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        rtol = 1e-5 if expected.dtype == "float32" else 1e-12
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol, err_msg=name)


def test_functions_over_empty_axes():
    view, x = Input((0, 3), name="x"), np.zeros((0, 3))
    for function in (
        np.prod, np.cumsum, np.cumprod, np.diff, lambda x: np.prod(x, axis=0), lambda x: np.cumsum(x, axis=0),
        lambda x: np.max(x, axis=0, initial=2), np.maximum.accumulate, lambda x: np.diff(x, axis=0),
    ):  # fmt: skip
        np.testing.assert_array_equal(graphc.compile(function(view), target="interpret")(x=x), function(x))


@pytest.mark.parametrize("function", [np.max, np.min])
def test_extrema_of_no_booleans_are_refused(function):
    x = np.array([[True, False, True], [True, False, False]])
    for shape in ((2, 3), ("N", 3)):
        program = graphc.compile(function(Input(shape, "bool", "x"), axis=0), target="interpret")
        np.testing.assert_array_equal(program(x=x), function(x, axis=0))
    with pytest.raises(graphc.FeedError, match="over axis 0 of"):
        program(x=x[:0])
    with pytest.raises(DeclarationError, match="over an empty axis has no value"):
        function(Input((0, 3), "bool", "x"), axis=0)
    assert function(Input((0, 3), "bool", "x"), axis=1).shape == (0,)


@pytest.mark.parametrize("function", [np.sum, np.prod, np.nansum, np.nanprod])
def test_sums_and_products_of_truth(function):
    x = np.array([[0, 1, 2], [0, 0, np.nan], [0.25, 1, 1]])
    mask = np.array([True, False, True])
    for keywords in ({}, {"axis": 0}, {"axis": 1}, {"axis": 1, "where": mask}, {"axis": 0, "initial": 3}):
        for given in (x, x > 0, x.astype("float32")):
            view = function(Input(("N", 3), given.dtype, "x"), dtype=bool, **keywords)
            want = function(given, dtype=bool, **keywords)
            found = graphc.compile(view, target="interpret")(x=given)
            assert found.dtype == want.dtype == bool
            np.testing.assert_array_equal(found, want)
    truth = graphc.compile(np.trace(Input((3, 3), name="x"), dtype=bool), target="interpret")
    assert truth(x=x) and not truth(x=np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda x: np.cumsum(x, axis=2), "axis 2 is not there: its axes are 0 to 1"),
        (lambda x: np.cumsum(x, out=np.zeros(3)), "np.cumsum of a view takes no out=\n  views are immutable"),
        (lambda x: np.add.accumulate(x, out=np.zeros(3)), "np.add.accumulate of a view takes no out="),
        (np.hypot.accumulate, "np.hypot.accumulate of a view is not there"),
        (lambda x: np.diff(x, n=-1), "np.diff wants an order n of at least 0, got -1"),
        (lambda x: np.diff(np.sum(x)), "np.diff of a scalar"),
        (lambda x: np.max(x, where=x > 0), "np.max over elements that where= chooses may find none\n  give initial="),
        (lambda x: np.sum(x, initial=x), "initial= of a reduction is one number, not f64[3,4]"),
        (lambda x: np.gradient(x, np.arange(3.0), axis=0), "np.gradient of views wants equal distances"),
        (lambda x: np.gradient(x, edge_order=3), "np.gradient has edge_order 1 or 2, not 3"),
        (lambda x: np.gradient(x[:1], axis=0), "np.gradient along axis 0 of (1, 4) wants at least 2 points"),
        (lambda x: np.ediff1d(x.astype("uint8"), to_end=3), "np.ediff1d of uint8 cannot begin or end with int64"),
        (lambda x: np.gradient(x > 0), "np.gradient of booleans"),
        (lambda x: np.gradient(x, axis=(0, -2)), "np.gradient wants each axis once, got axis=(0, -2)"),
        (lambda x: graphc.linear_recurrence(x, x, axis=2), "axis 2 is not there"),
    ],
)
def test_refusals_say_what_is_wrong(declare, text):
    with pytest.raises(DeclarationError) as caught:
        declare(Input((3, 4), name="x"))
    assert text in str(caught.value)


@pytest.mark.skipif(not hasattr(np, "cumulative_sum"), reason="this NumPy has no cumulative_sum")
def test_cumulative_sum_wants_an_axis():
    with pytest.raises(DeclarationError, match=r"np\.cumulative_sum of f64\[3,4\] wants an axis"):
        np.cumulative_sum(Input((3, 4), name="x"))


def test_differences_of_no_rows_are_guarded():
    program = graphc.compile(np.diff(Input(("N", 2), name="x"), axis=0), target="interpret")
    with pytest.raises(FeedError, match="wants N >= 1, got N = 0"):
        program(x=np.zeros((0, 2)))


def test_logcumsumexp_is_stable_at_both_ends():
    x = np.array([-INF, -1e4, 0.0, 1e4, 5e3, 1e4])
    view = Input(("N",), name="x")
    y = graphc.logcumsumexp(view)
    found = graphc.compile(y, target="interpret")(x=x)
    np.testing.assert_allclose(found, np.logaddexp.accumulate(x), rtol=1e-14)
    for special in ([INF, 1, 2], [0, INF, -INF, 3], [1, NAN, 2], [NAN, 1], [-INF, -INF, 1, INF], [-INF, NAN]):
        found = graphc.compile(y, target="interpret")(x=np.array(special))
        with np.errstate(invalid="ignore"):
            expected = np.logaddexp.accumulate(np.array(special, "float64"))
        np.testing.assert_allclose(found, expected, rtol=1e-15)
    slopes = graphc.compile(grad(y[-1:].sum(), view), target="interpret")(x=x)
    np.testing.assert_allclose(slopes, [0, 0, 0, 0.5, 0, 0.5])
    first = graphc.compile(grad(y[:1].sum(), view), target="interpret")(x=x)
    np.testing.assert_array_equal(first, np.zeros(6))
    z = np.random.default_rng(0).normal(size=7)
    slopes = graphc.compile(grad(y.sum(), view), target="interpret")(x=z)
    expected = [sum(np.exp(z[i]) / np.exp(z[: k + 1]).sum() for k in range(i, 7)) for i in range(7)]
    np.testing.assert_allclose(slopes, expected, rtol=1e-12)


def test_a_factor_that_is_a_number_and_terms_that_are_computed_before():
    x = np.random.default_rng(0).normal(size=(4, 9)).astype("float32")
    view = Input(("N", 9), "float32", "x")
    y = graphc.linear_recurrence(np.float32(0.5), np.exp(view), axis=1, reverse=True)
    expected = graphc.compile(y, target="interpret")(x=x)
    np.testing.assert_allclose(graphc.compile(y)(x=x), expected, rtol=1e-6)
    twice = np.cumsum(np.exp(view), axis=1) + graphc.linear_recurrence(np.exp(view), np.exp(view), axis=1)
    expected = graphc.compile(twice, target="interpret")(x=x)
    np.testing.assert_allclose(graphc.compile(twice)(x=x), expected, rtol=1e-6)


def test_linear_recurrence_is_a_loop_and_its_gradient_two():
    a, b = Input(("N",), name="a"), Input(("N",), name="b")
    y = graphc.linear_recurrence(a, b)
    rng = np.random.default_rng(0)
    graphc.check_grad(np.sum(y * y), [a, b], {"a": rng.normal(size=5), "b": rng.normal(size=5)})
    state, expected = 0.0, []
    feeds = {"a": rng.normal(size=50), "b": rng.normal(size=50)}
    for factor, term in zip(feeds["a"], feeds["b"], strict=True):
        state = factor * state + term
        expected.append(state)
    np.testing.assert_allclose(graphc.compile(y)(**feeds), expected, rtol=1e-12)


# products in float32 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_float32_products_are_multiplied_in_float64(axes):
    x = x_of((N, 70), "float32")
    outputs = (ops.prod(x, axes=axes), ops.sum_(ops.tanh(x), axes=axes))
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(70) < 35, 1e5, 1e-5)  # products of some leave the range of float32
    feeds = {"x": (scale * rng.uniform(0.9, 1.1, (4, 70))).astype("float32")}
    case = Case(Graph("products", (x,), (), outputs, names={x: "x"}), feeds)
    expected = expected_values(case)
    for program in stages(case.graph).values():
        verify_program(program)
        assert_same(interpreted(program, case), expected, 16)  # the sum is a float32 one
    found = compiled(stages(case.graph)["memory"], case)
    exact = np.prod(case.feeds["x"], axis=axes, dtype="float64").astype("float32")
    assert_same({"0": found["0"]}, {"0": np.asarray(exact)}, 1)
