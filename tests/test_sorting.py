"""Sorting and what is built on it: NumPy's values over dtypes, ties and NaN; gradients that follow the permutation."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from lowered import Case, compiled, expected_values, interpreted, stages
from op_calls import run, value, x_of
from op_samples import N, tensor

import graphc
from graphc import DeclarationError, FeedError, Input, Planner, grad
from graphc.codegen.sorting import RUN, argsort, searchsorted
from graphc.ir import ops
from graphc.ir.errors import CompileValueError
from graphc.ir.graph import Graph
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Buffer, Call
from graphc.ir.ops import OPS
from graphc.task_text import tasks_text

INF, NAN = np.inf, np.nan
SPECIAL = np.array([0.0, NAN, -0.0, INF, 1.0, -INF, NAN, 1.0, 0.0, -INF, -2.5, INF])


def values(view, target="interpret", **feeds):
    return graphc.compile(view, target=target)(**feeds)


# the ops and the routines ---------------------------------------------------------------------------------------------


def test_sorting_is_stable_with_nan_last():
    order = value(ops.argsort, SPECIAL, axis=0)
    np.testing.assert_array_equal(order, [5, 9, 10, 0, 2, 8, 4, 7, 3, 11, 1, 6])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("count", [0, 1, 2, RUN - 1, RUN, RUN + 1, 2 * RUN + 3, 4 * RUN, 5 * RUN + 7])
def test_the_merge_sort_is_numpys_stable_sort(count, dtype):
    rng = np.random.default_rng(count)
    keys = np.round(rng.uniform(0, 5, (3, count))).astype(dtype)
    if np.dtype(dtype).kind == "f" and count:
        keys[rng.random((3, count)) < 0.2] = NAN
        keys[0] = np.sort(keys[0])
        keys[1] = keys[0, ::-1]
    places, scratch = np.full((3, count), -1), np.full(count, -1)
    argsort(keys, scratch, places)
    np.testing.assert_array_equal(places, np.argsort(keys, axis=-1, kind="stable"))


def test_a_small_sort_of_every_permutation():
    places, scratch = np.zeros(4, "int64"), np.zeros(4, "int64")
    for keys in itertools.product([0, 1, 2, 3], repeat=4):
        argsort(np.array(keys), scratch, places)
        np.testing.assert_array_equal(places, np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("right", [False, True])
def test_the_binary_search_is_numpys(right):
    keys, places = np.sort(SPECIAL), np.zeros(SPECIAL.size + 1, "int64")
    wanted = np.append(SPECIAL, 0.5)
    searchsorted(keys, wanted, places, right=right)
    np.testing.assert_array_equal(places, np.searchsorted(keys, wanted, "right" if right else "left"))
    searchsorted(keys[:0], wanted, places, right=right)
    np.testing.assert_array_equal(places, np.zeros(wanted.size))


def sorting_case():
    x, v = x_of((N, 40)), x_of((N, 5))
    keys = ops.slice_(x, start=(0, 0), size=(1, 40), step=(1, 1))
    outputs = (
        ops.argsort(x * 2, axis=1),
        ops.argsort(x, axis=0),
        ops.searchsorted(ops.reshape(keys, shape=(40,)), v, right=True),
    )
    rng = np.random.default_rng(0)
    rows = np.sort(np.round(rng.normal(size=(7, 40)), 1), axis=1)
    rows[1:] = rng.permuted(rows[1:], axis=1)
    rows[3, ::3] = NAN
    graph = Graph("sorting", (x, v), (), outputs, names={x: "x", v: "v"})
    return Case(graph, {"x": rows, "v": rng.normal(size=(7, 5))})


def test_sorting_after_every_stage():
    case = sorting_case()
    expected = expected_values(case)
    for program in stages(case.graph).values():
        verify_program(program)
        assert print_program(parse_program(print_program(program))) == print_program(program)
        for name, array in interpreted(program, case).items():
            np.testing.assert_array_equal(array, expected[name])
    for name, array in compiled(stages(case.graph)["memory"], case).items():
        np.testing.assert_array_equal(array, expected[name])


def call_of(routine):
    program = stages(sorting_case().graph)["memory"]
    place = next(k for k, step in enumerate(program.steps) if isinstance(step, Call) and step.routine == routine)
    return program, place, program.steps[place]


@pytest.mark.parametrize(
    ("routine", "change", "text"),
    [
        ("argsort", lambda a, b, c: (a, b), "argsort wants three buffers"),
        ("argsort", lambda a, b, c: (a, c, b), "does not give"),
        ("argsort", lambda a, b, c: (a, replace(b, shape=(39,)), c), "argsort wants scratch of the length and dtype"),
        ("argsort", lambda a, b, c: (c, b, c), "argsort stores to"),
        ("searchsorted", lambda a, b, c: (b, b, c), "searchsorted wants a vector of float64"),
        ("searchsorted", lambda a, b, c: (a, a, c), "searchsorted of"),
    ],
)
def test_malformed_calls_are_found(routine, change, text):
    program, place, call = call_of(routine)
    wrong = replace(call, operands=change(*call.operands))
    steps = (*program.steps[:place], wrong, *program.steps[place + 1 :])
    with pytest.raises(CompileValueError) as caught:
        verify_program(replace(program, steps=steps, arena=None))
    assert text in str(caught.value)


def test_a_sort_writes_its_scratch_and_reads_its_keys():
    _, _, call = call_of("argsort")
    keys, scratch, out = call.operands
    assert call.reads == (keys,) and call.writes == (scratch, out)
    assert isinstance(scratch, Buffer) and scratch.space == "arena"


# NumPy's functions ----------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "sort": np.sort,
    "sort_axis": lambda x: np.sort(x, axis=0, kind="mergesort"),
    "sort_flat": lambda x: np.sort(x, axis=None),
    "argsort": lambda x: np.argsort(x, stable=True),
    "argsort_axis": lambda x: np.argsort(x, axis=0, kind="stable"),
    "argsort_flat": lambda x: np.argsort(x, axis=None, kind="stable"),
    "median": np.median,
    "median_even": lambda x: np.median(x, axis=1),
    "median_axes": lambda x: np.median(x, axis=(0, 1), keepdims=True),
    "searchsorted": lambda x: np.searchsorted([-1.0, 0.0, 0.5, 0.5, 2.0], x),
    "searchsorted_right": lambda x: np.searchsorted([-1, 0, 0, 1], x, side="right"),
    "digitize": lambda x: np.digitize(x, [-1, 0, 1]),
    "digitize_right": lambda x: np.digitize(x, [-1, 0, 1], right=True),
    "digitize_falling": lambda x: np.digitize(x, [1, 0, -1]),
    "digitize_falling_right": lambda x: np.digitize(x, [1, 0, -1], right=True),
    "histogram": lambda x: np.histogram(x, bins=5, range=(-1, 1))[0],
    "histogram_edges": lambda x: np.histogram(x, bins=5, range=(-1, 1))[1],
    "histogram_bins": lambda x: np.histogram(x, bins=[-1, 0, 0.5, 1.5], weights=x)[0],
    "histogram_density": lambda x: np.histogram(x, bins=4, range=(-2, 2), density=True)[0],
}
OF_NUMBERS = {
    "quantile": lambda x: np.quantile(x, 0.3),
    "quantiles": lambda x: np.quantile(x, [0, 0.25, 0.5, 1], axis=1),
    "quantile_shape": lambda x: np.quantile(x, [[0.1, 0.2]], axis=(0, 1), keepdims=True),
    "quantile_whole": lambda x: np.quantile(x, 1, axis=0),
    "percentile": lambda x: np.percentile(x, 37.0, axis=0),
    "percentile_array": lambda x: np.percentile(x, np.array(50, "float32"), axis=0),
    "percentile_whole": lambda x: np.percentile(x, 100),
    **{
        method: (lambda x, method=method: np.quantile(x, [0, 1 / 3, 0.5, 0.75, 1], axis=1, method=method))
        for method in ("lower", "higher", "nearest", "midpoint")
    },
}


def array(dtype):
    rng = np.random.default_rng(2)
    if dtype == "bool":
        return rng.random((3, 4)) > 0.5
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(3, 4)).round(1).astype(dtype)
    return rng.integers(0 if dtype == "uint8" else -3, 4, (3, 4)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "int64", "uint8", "bool"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_functions_are_numpys(dtype, symbolic):
    x = array(dtype)
    view = Input(("N", 4) if symbolic else (3, 4), dtype, "x")
    for name, function in (FUNCTIONS if dtype == "bool" else {**FUNCTIONS, **OF_NUMBERS}).items():
        if name == "histogram_bins" and dtype == "bool":
            continue  # NumPy counts weights of True as True
        with warnings.catch_warnings(action="ignore"):  # that a histogram of booleans is one of integers
            expected = np.asarray(function(x))
        found = values(function(view), x=x)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        rtol = 2e-6 if dtype == "float32" else 1e-14  # NumPy takes some distances in float32
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10, err_msg=name)


@pytest.mark.parametrize("symbolic", [False, True])
def test_nan_makes_a_median_and_a_quantile_nan(symbolic):
    x = np.array([[1.0, NAN, 3.0], [1.0, 2.0, INF], [-INF, 5.0, INF]])
    view = Input((3, "N") if symbolic else (3, 3), name="x")
    np.testing.assert_array_equal(values(np.median(view, axis=1), x=x), [NAN, 2, 5])
    # An element is itself, also beside an infinity (where NumPy's is nan); between, the distance is infinite.
    found = values(np.quantile(view, [0, 0.25, 0.5, 1], axis=1), x=x)
    np.testing.assert_array_equal(found, [[NAN, 1, -INF], [NAN, 1.5, -INF], [NAN, 2, 5], [NAN, INF, INF]])


def test_medians_of_large_and_infinite_middles():
    huge = np.array([1.7e308, 1.7e308, 1.0])
    assert values(np.median(Input(("N",), name="x")), x=huge) == 1.7e308
    assert values(np.median(Input((2,), name="x")), x=np.array([INF, INF])) == INF


def test_top_k_has_the_first_of_equals_first():
    x = np.array([[3.0, 1.0, 3.0, NAN], [2.0, 2.0, 2.0, 1.0]])
    for shape in ((2, 4), (2, "N")):
        largest, places = graphc.top_k(Input(shape, name="x"), 3)
        np.testing.assert_array_equal(values(places, x=x), [[3, 0, 2], [0, 1, 2]])
        np.testing.assert_array_equal(values(largest, x=x), [[NAN, 3, 3], [2, 2, 2]])
    largest, _ = graphc.top_k(Input((2, 4), "uint8", "x"), 1, axis=0)
    x = np.array([[0, 1, 2, 3], [3, 1, 0, 255]], "uint8")
    np.testing.assert_array_equal(values(largest, x=x), [[3, 1, 2, 255]])


def test_bincount_counts_below_its_length():
    k, w = np.array([1, 4, 1, 0]), np.array([0.5, 1.0, 2.0, 4.0])
    view, weights = Input(("N",), "int64", "k"), Input(("N",), name="w")
    np.testing.assert_array_equal(values(np.bincount(view, minlength=6), k=k), np.bincount(k, minlength=6))
    np.testing.assert_array_equal(values(np.bincount(view, weights, 5), k=k, w=w), np.bincount(k, w))
    truth = np.bincount(Input(("N",), "bool", "m"), weights, 3)
    np.testing.assert_array_equal(values(truth, m=k > 0, w=w), np.bincount(k > 0, w, 3))
    known = np.bincount(k, Input((4,), name="w"))
    np.testing.assert_array_equal(values(known, w=w), np.bincount(k, w))
    slopes = values(grad(np.sum(known * np.arange(5)), known.args[0]), w=w)
    np.testing.assert_array_equal(slopes, k)
    for wrong in (-1, 6):
        for target in ("interpret", "cpu"):
            with pytest.raises(FeedError, match="out of range"):
                values(np.bincount(view, minlength=6), target, k=np.array([wrong]))


def test_boolean_weights_count_the_true_ones():
    x = np.array([0.5, 1.5, 1.7, 2.5])
    mask = np.array([True, True, True, False])
    counts, _ = np.histogram(Input((4,), name="x"), 3, (0, 3), weights=Input((4,), "bool", "m"))
    found = values(counts, x=x, m=mask)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [1, 2, 0])


# gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, None])
def test_the_gradient_of_a_sort_is_its_permutation(axis):
    x = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    weights = np.arange(6.0).reshape(2, 3) + 1 if axis is not None else np.arange(6.0) + 1
    view = Input((2, 3), name="x")
    slopes = values(grad(np.sum(np.sort(view, axis=axis) * weights), view), "cpu", x=x)
    order = np.argsort(x, axis=axis, kind="stable")
    expected = np.zeros(6 if axis is None else (2, 3))
    if axis is None:
        expected[order] = weights
        expected = expected.reshape(2, 3)
    else:
        np.put_along_axis(expected, order, weights, axis)
    np.testing.assert_array_equal(slopes, expected)


def test_positions_of_the_other_axes_are_loops_and_no_arrays():
    view = Input(("N", 5), name="x")
    text = graphc.compile(grad(np.sum(np.sort(view, axis=1) ** 2), view)).ir("fuse")
    assert "x[i, argsort_0]" in text
    assert "scatter_add_0[a0, argsort_0] += multiply_0" in text
    assert "index(" not in text


def test_ties_keep_their_order_and_positions_have_no_gradient():
    view = Input((4,), name="x")
    x = np.array([2.0, 1.0, 2.0, 1.0])
    slopes = values(grad(np.sum(np.sort(view) * np.array([1.0, 2.0, 3.0, 4.0])), view), x=x)
    np.testing.assert_array_equal(slopes, [3, 1, 4, 2])
    with pytest.raises(graphc.DifferentiationError):
        grad(np.sum(np.argsort(view).astype("float64")), view)


def test_gradients_of_order_statistics():
    view, x = Input((5,), name="x"), np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    for y, expected in (
        (np.median(view), [0, 0, 0, 0, 1]),
        (np.median(view[:4]), [0, 0, 0.5, 0.5, 0]),
        (np.quantile(view, 0), [0, 1, 0, 0, 0]),
        (np.quantile(view, 1), [1, 0, 0, 0, 0]),
        (np.quantile(view, 0.25), [0, 0, 0, 1, 0]),
        (np.quantile(view, 0.3), [0, 0, 0, 0.8, 0.2]),
        (np.percentile(view, 95), [0.8, 0, 0.2, 0, 0]),
        (np.quantile(view, 0.3, method="higher"), [0, 0, 0, 0, 1]),
        (graphc.top_k(view, 2)[0].sum(), [1, 0, 1, 0, 0]),
    ):
        np.testing.assert_allclose(values(grad(y, view), x=x), expected, rtol=1e-12)


def test_sorts_have_second_derivatives():
    view = Input(("N",), name="x")
    graphc.check_grad(np.sum(np.sort(view) ** 3 * np.array(2.0)), [view], {"x": np.array([0.3, -1.0, 2.0])})
    first = grad(np.sum(np.sort(view)[-1:] ** 3), view)
    second = grad(np.sum(first), view)
    np.testing.assert_allclose(values(second, x=np.array([0.5, 3.0, 1.0])), [0, 18, 0])


def test_compiled_programs_sort():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 33)).astype("float32")
    view = Input(("N", 33), "float32", "x")
    found = values(np.sort(np.exp(view), axis=1), "cpu", x=x)
    np.testing.assert_allclose(found, np.exp(np.sort(x, axis=1)), rtol=1e-6)
    assert np.all(np.diff(found, axis=1) >= 0)
    np.testing.assert_allclose(values(np.median(view, axis=0), "cpu", x=x), np.median(x, axis=0), rtol=1e-6)
    found = values(np.searchsorted(np.sort(view[0]), 0.25), "cpu", x=x)
    assert found == np.searchsorted(np.sort(x[0]), np.float32(0.25))


# errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda x: np.sort(x, axis=2), "axis 2 is not there: its axes are 0 to 1"),
        (lambda x: np.sort(x, kind="bogo"), "np.sort has no kind 'bogo'\n  all of quicksort, mergesort"),
        (lambda x: np.argsort(x, order="field"), "np.argsort of a view takes no order=\n  views have no fields"),
        (lambda x: np.sort(np.sum(x)), "axis -1 is not there: it is a scalar"),
        (lambda x: np.partition(x, 4), "np.partition: kth 4 is out of range for an axis of 4 elements"),
        (lambda x: np.median(x[:, :0], axis=1), "np.median over an empty axis has no value: axes (1,) of (3, 0)"),
        (lambda x: np.quantile(x, 1.5), "np.quantile wants q between 0 and 1, got 1.5"),
        (lambda x: np.percentile(x, -1), "np.percentile wants q between 0 and 100, got -1"),
        (lambda x: np.quantile(x, x), "np.quantile wants a q that is known, not a view"),
        (lambda x: np.quantile(x > 0, 0.5), "np.quantile of booleans"),
        (lambda x: np.quantile(x, 0.5, method="hazen"), "np.quantile has no method 'hazen' here\n  there are linear"),
        (lambda x: np.quantile(x, 0.5, weights=x), "np.quantile of a view takes no weights="),
        (lambda x: np.searchsorted(x, 1.0), "np.searchsorted looks in a vector, not in f64[3,4]"),
        (lambda x: np.searchsorted(x[0], 1.0, side="up"), "np.searchsorted has sides 'left' and 'right', not 'up'"),
        (lambda x: np.digitize(x, [0, 2, 1]), "np.digitize wants a vector of bins in ascending or descending order"),
        (lambda x: np.digitize(x, x[0]), "np.digitize of views wants bins that are known"),
        (lambda x: np.bincount(x[0]), "np.bincount counts integers along one axis, got f64[4]"),
        (lambda x: np.bincount(x[0].astype("int64")), "depends on its values\n  give minlength="),
        (lambda x: np.bincount([-1], x[0, :1]), "np.bincount counts numbers of at least 0, got -1"),
        (lambda x: np.bincount([1], x[0]), "np.bincount wants a weight for each of i64[1], got f64[4]"),
        (np.histogram, "np.histogram of a view wants edges that do not depend on its values\n  give range="),
        (np.unique, "np.unique of a view has a shape that depends on its values\n  np.sort(x)"),
        (np.nonzero, "np.nonzero of a view has a shape that depends on its values\n  keep the mask"),
        (np.flatnonzero, "np.flatnonzero of a view has a shape that depends on its values"),
        (np.argwhere, "np.argwhere of a view has a shape that depends on its values"),
        (lambda x: graphc.top_k(x, 1.5), "graphc.top_k wants k as an int known at the declaration, got 1.5"),
        (lambda x: np.bincount(x[0].astype("int64"), None, "a"), "np.bincount wants minlength as an int known at the"),
        (lambda x: np.partition(x, True), "np.partition wants kth as an integer, or several, got True"),
        (lambda x: np.histogram(x, 3, (0, 1), weights=x[0]), "np.histogram wants a weight for each of f64[3,4], got"),
        (lambda x: np.histogram(x, 3, (1, 0)), "np.histogram has no bins 3 in the range (1, 0): max must be larger"),
        (lambda x: np.histogram(x, 3, (0, np.inf)), "np.histogram has no bins 3 in the range (0, inf)"),
        (lambda x: np.histogram(x, [2, 1]), "np.histogram has no bins [2, 1] in the range None: `bins` must"),
        (lambda x: graphc.top_k(x, 5), "top_k: there are no 5 elements along axis 1 of (3, 4)"),
    ],
)
def test_refusals_say_what_is_wrong(declare, text):
    with pytest.raises(DeclarationError) as caught:
        declare(Input((3, 4), name="x"))
    assert text in str(caught.value)


def test_ops_refuse_what_cannot_be_searched():
    with pytest.raises(DeclarationError, match="searchsorted wants a vector, and values of its dtype"):
        ops.searchsorted(x_of((2, 2)), x_of((3,)), right=False)
    with pytest.raises(DeclarationError, match="searchsorted wants right to be True or False, got 1"):
        ops.searchsorted(x_of((2,)), x_of((3,)), right=1)
    assert run([ops.searchsorted(x := x_of((2,)), x, right=True)], {x: np.array([1.0, 2.0])})[0].tolist() == [1, 2]
    assert OPS["argsort"].infer(tensor((2, 3), "bool"), axis=0) == tensor((2, 3), "int64")


def test_a_median_over_no_row_is_guarded():
    with pytest.raises(FeedError, match="wants N >= 1, got N = 0"):
        values(np.median(Input(("N",), name="x")), x=np.zeros(0))
    with pytest.raises(FeedError, match="wants N >= 1, got N = 0"):
        values(np.quantile(Input(("N",), name="x"), 0.5), x=np.zeros(0))


# words ----------------------------------------------------------------------------------------------------------------


def test_tasks_say_what_is_sorted_and_searched():
    text = tasks_text(stages(sorting_case().graph)["memory"])
    assert "the order of multiply_0 along its last axis, by a stable merge sort\n   reads multiply_0: f64[N,40]" in text
    assert "by binary search" in text
    assert "call searchsorted(" in text


class Ordered(Planner):
    x = Input(("N", 4))
    running = np.add.accumulate(x, axis=1)
    product = x.prod(axis=0) + x.cumprod(0)[0] + x.cumsum(1).sum()
    order = x.argsort(axis=0)
    place = x[0].searchsorted(0.5, "right")
    best, where = graphc.top_k(x, 2)


def test_views_show_as_they_were_written(capsys):
    assert Ordered().main(["ordered", "--list"]) in (0, None)
    text = capsys.readouterr().out
    assert "np.add.accumulate(x, axis=1)" in text
    assert "np.argsort(x, 0)" in text
    assert "np.searchsorted(x[0], 0.5, 'right')" in text
    assert "top_k(x, 2, -1)[1]" in text
