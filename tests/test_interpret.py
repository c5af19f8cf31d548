"""The reference evaluator: values, the binding of dims, and what it says about feeds that do not fit."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from op_samples import tensor

from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Op, PiecewiseConstant, leaf
from graphc.ir.dims import bind, dim, dim_max, dim_min
from graphc.ir.errors import FeedTypeError, FeedValueError
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims, evaluate_nodes, interpret

N, M = dim("N"), dim("M")


@pytest.fixture
def linear():
    """``relu(x @ w)`` and its sum."""
    x, w = leaf(INPUT, tensor((N, 2))), leaf(PARAM, tensor((2, 3)))
    y = ops.relu(ops.matmul(x, w))
    return Graph("Net.y", (x,), (w,), (y, ops.sum_(y, axes=(0, 1))), names={x: "x", w: "layer.w", y: "y"})


def feeds_of(n=4):
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(n, 2)), "layer.w": rng.normal(size=(2, 3))}


def leaves(**shapes):
    return {name: leaf(INPUT, tensor(shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("n", [4, 1, 0])
def test_outputs_are_numpys_values_of_the_declared_types(linear, n):
    feeds = feeds_of(n)
    y, total = interpret(linear, feeds)
    expected = np.maximum(feeds["x"] @ feeds["layer.w"], 0)
    np.testing.assert_array_equal(y, expected)
    assert total.shape == () and total.dtype == np.float64
    np.testing.assert_allclose(total, expected.sum())


def test_other_roots_and_all_values(linear):
    feeds = feeds_of()
    values = evaluate_nodes(linear, feeds)
    assert list(values) == [*linear.leaves, *linear.steps]
    product = linear.steps[0]
    (found,) = interpret(linear, feeds, roots=[product])
    np.testing.assert_array_equal(found, values[product])


def test_values_are_freed_after_their_last_use():
    alive = []

    def evaluate(x):
        result = x + 1
        alive.append(weakref.ref(result))
        assert sum(ref() is not None for ref in alive) <= 2
        return result

    count = Op(name="count", infer=lambda x: x, evaluate=evaluate, derivative=PiecewiseConstant())
    x = node = leaf(INPUT, tensor((2,)))
    for _ in range(10):
        node = count(node)
    (result,) = interpret(Graph("chain", (x,), (), (node,), names={x: "x"}), {"x": np.zeros(2)})
    np.testing.assert_array_equal(result, [10, 10])


def test_a_node_that_is_output_and_operand_and_an_output_that_is_a_leaf(linear):
    x = linear.inputs[0]
    y = ops.exp(x)
    graph = Graph("g", (x,), (), (x, y, ops.add(y, y), y), names={x: "x"})
    found = interpret(graph, {"x": np.zeros((1, 2))})
    assert [array.tolist() for array in found] == [[[0, 0]], [[1, 1]], [[2, 2]], [[1, 1]]]


def test_long_chains_need_no_recursion():
    x = node = leaf(INPUT, tensor((1,)))
    for _ in range(50_000):
        node = ops.negative(node)
    assert interpret(Graph("chain", (x,), (), (node,), names={x: "x"}), {"x": np.ones(1)})[0] == 1


def test_a_meaning_that_breaks_its_type_is_caught():
    wrong = Op(
        name="wrong", infer=lambda x: x, evaluate=lambda x: x.astype("float32"), derivative=PiecewiseConstant()
    )  # fmt: skip
    x = leaf(INPUT, tensor((2,)))
    with pytest.raises(AssertionError, match=r"wrong\(input\).*evaluated to float32\[2\]"):
        interpret(Graph("g", (x,), (), (wrong(x),), names={x: "x"}), {"x": np.ones(2)})


def test_dims_in_attributes_are_bound():
    x = leaf(INPUT, tensor((N,)))
    sizes = ops.extent(dim=2 * N + 1, dtype=x.dtype, shape=(N,))
    rows = ops.iota(shape=(N, 2), axis=0, dtype=np.dtype("int32"))
    found = interpret(Graph("g", (x,), (), (sizes, rows), names={x: "x"}), {"x": np.zeros(3)})
    assert [array.tolist() for array in found] == [[7, 7, 7], [[0, 0], [1, 1], [2, 2]]]


# binding dims ---------------------------------------------------------------------------------------------------------


def test_the_larger_of_zero_and_what_may_be_negative_is_not_known():
    n, m = dim("N"), dim("M")
    assert dim_max(dim_min(n, m), 0) == dim_min(n, m)
    assert dim_max(dim_max(n - 5, 0), 0) == dim_max(n - 5, 0)
    for extent in (dim_min(n - 5, m), (n - 1) // 2):
        assert bind(dim_max(extent, 0), {"N": 0, "M": 1}) == 0


def test_dims_are_bound_by_shapes_in_any_linear_form():
    assert bind_dims(leaves(x=(N, M)), {"x": (2, 0)}) == {"N": 2, "M": 0}
    assert bind_dims(leaves(x=(2 * N + 1,)), {"x": (7,)}) == {"N": 3}
    assert bind_dims(leaves(x=(N * M,), y=(N,), z=(M,)), {"x": (6,), "y": (2,), "z": (3,)}) == {"N": 2, "M": 3}
    assert bind_dims({}, {}) == {}


@pytest.mark.parametrize(
    ("declared", "fed", "text"),
    [
        ({"x": (N,), "y": (N,)}, {"x": (5,), "y": (4,)}, "x has N = 5, y has N = 4"),
        ({"x": (N, N)}, {"x": (5, 4)}, "x has N = 5, x has N = 4"),
        ({"x": (N, 64)}, {"x": (5, 63)}, "x wants shape (N, 64), got shape (5, 63)"),
        ({"x": (3,)}, {"x": (4,)}, "x wants shape (3,), got shape (4,)"),
        ({"x": (N, 64)}, {"x": (5,)}, "x wants shape (N, 64), 2 axes, got shape (5,), 1 axes"),
        ({"x": ()}, {"x": (1,)}, "x wants shape (), 0 axes, got shape (1,), 1 axes"),
        ({"x": (2 * N,)}, {"x": (5,)}, "x wants shape (2*N,), got shape (5,)"),
        ({"x": (N + 2,)}, {"x": (1,)}, "x wants shape (N + 2,), got shape (1,)"),
        ({"x": (N * M,), "y": (N,)}, {"x": (6,), "y": (2,)}, "x wants shape (M*N,) with N = 2, got shape (6,)"),
        ({"x": (N,), "y": (N + 1,)}, {"x": (4,), "y": (4,)}, "x has N = 4, y has N = 3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(declared, fed, text):
    with pytest.raises(FeedValueError) as caught:
        bind_dims(leaves(**declared), fed)
    assert str(caught.value) == text


def test_guards_are_checked_when_dims_are_bound():
    x = leaf(INPUT, tensor((N,)))
    first = ops.slice_(x, start=(0,), size=(5,), step=(1,))
    graph = Graph("g", (x,), (), (first,), names={x: "x"})
    assert interpret(graph, {"x": np.arange(5.0)})[0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(FeedValueError, match=r"slice \[0:5\] on axis 0 of \(N,\) wants N >= 5, got N = 4"):
        interpret(graph, {"x": np.arange(4.0)})
    halves = ops.reshape(x, shape=(2, N // 2))
    graph = Graph("g", (x,), (), (halves,), names={x: "x"})
    assert interpret(graph, {"x": np.arange(4.0)})[0].tolist() == [[0, 1], [2, 3]]
    with pytest.raises(FeedValueError, match=r"reshape of \(N,\) wants N == 2\*\(N // 2\), got N = 5"):
        interpret(graph, {"x": np.arange(5.0)})


# feeds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": None}, "missing feeds of Net.y: x; it takes x, layer.w"),
        ({"z": np.ones(2)}, "surplus feeds of Net.y: z; it takes x, layer.w"),
        ({"x": np.ones((4, 2), "float32")}, "x wants dtype float64, got float32"),
    ],
)
def test_wrong_feeds_are_refused(linear, change, text):
    feeds = {name: array for name, array in (feeds_of() | change).items() if array is not None}
    with pytest.raises(FeedTypeError) as caught:
        interpret(linear, feeds)
    assert str(caught.value) == text


def test_graphs_without_leaves():
    graph = Graph("g", (), (), (ops.iota(shape=(3,), axis=0, dtype=np.dtype("int64")),))
    assert interpret(graph, {})[0].tolist() == [0, 1, 2]
