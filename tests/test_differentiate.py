"""Reverse and forward mode against central differences, closed forms and each other."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from graphc.ir.core import INPUT, PARAM, Node, Partials, full, leaf
from graphc.ir.dims import dim
from graphc.ir.errors import DifferentiationTypeError, DifferentiationValueError
from graphc.ir.graph import Graph, toposort
from graphc.ir.interpret import interpret
from graphc.ir.ops import (
    anchor,
    argmax,
    broadcast_to,
    cast,
    concatenate,
    cos,
    exp,
    floor,
    gather,
    greater,
    less,
    log,
    logsumexp,
    matmul,
    max_,
    maximum,
    norm,
    not_equal,
    pad,
    power,
    relu,
    reshape,
    scatter_add,
    sigmoid,
    sin,
    slice_,
    softmax,
    sqrt,
    square,
    step,
    stop_gradient,
    sum_,
    tanh,
    transpose,
    where,
    wrap_index,
)  # fmt: skip
from graphc.ir.text import print_graph
from graphc.ir.types import TensorType
from graphc.passes.differentiate import Differentiate, pullback, unreached
from graphc.passes.forward import pushforward
from graphc.passes.transforms import gradient, tangent

F64 = np.dtype("float64")
I64 = np.dtype("int64")
SCALAR = TensorType(F64)


def variable(*shape: int | str, dtype: np.dtype = F64) -> Node:
    return leaf(INPUT, TensorType(dtype, tuple(dim(extent) for extent in shape)))


def value(outputs: Sequence[Node], feeds: Mapping[Node, object]) -> tuple[np.ndarray, ...]:
    leaves = tuple(feeds)
    graph = Graph("test", leaves, (), tuple(outputs), names={node: f"v{k}" for k, node in enumerate(leaves)})
    return interpret(graph, {f"v{k}": np.asarray(feeds[node], node.dtype) for k, node in enumerate(leaves)})


def total(node: Node) -> Node:
    return sum_(node, axes=tuple(range(len(node.shape)))) if node.shape else node


def one() -> Node:
    return full(1, SCALAR)


def differences(y: Node, wrt: Node, feeds: Mapping[Node, object], h: float = 1e-6) -> np.ndarray:
    """The gradient of a scalar by central differences."""
    point = np.asarray(feeds[wrt], F64)
    result = np.zeros(point.shape)
    for index in np.ndindex(point.shape):
        ends = []
        for sign in (1, -1):
            moved = point.copy()
            moved[index] += sign * h
            ends.append(value([y], {**feeds, wrt: moved})[0])
        result[index] = (ends[0] - ends[1]) / (2 * h)
    return result


def check(y: Node, feeds: Mapping[Node, object], wrt: Sequence[Node] | None = None) -> None:
    """Reverse against differences, and forward against reverse, for a random projection of y."""
    random = np.random.default_rng(0)
    wrt = wrt or [node for node in feeds if node.type.is_float]
    weights = random.uniform(0.5, 1.5, value([y], feeds)[0].shape)
    seed = variable(*y.shape)
    projection = total(y * seed)
    feeds = {**feeds, seed: weights}
    cotangents = pullback([y], [seed], wrt)
    results = value([node for node in cotangents if node is not None], feeds)
    for node, result in zip(wrt, results, strict=True):
        np.testing.assert_allclose(result, differences(projection, node, feeds), rtol=2e-6, atol=1e-7)
    directions = {node: variable(*node.shape) for node in wrt}
    moves = {direction: random.uniform(-1, 1, np.shape(feeds[node])) for node, direction in directions.items()}
    moved, = pushforward([y], wrt, [directions[node] for node in wrt])
    assert moved is not None
    along = value([moved], {**feeds, **moves})[0]
    inner = sum(np.sum(result * moves[directions[node]]) for node, result in zip(wrt, results, strict=True))
    np.testing.assert_allclose(np.sum(along * weights), inner, rtol=1e-12)


# closed forms ---------------------------------------------------------------------------------------------------------


def test_the_lecture_function_to_second_order() -> None:
    x, z = variable(), variable()
    y = exp(x * z) + x * z / log(x) + sin(log(x)) / (x * z)
    feeds = {x: 2.0, z: 3.0}
    by_x, by_z = gradient(y, [x, z])
    assert by_x is not None and by_z is not None
    expected = 2 * np.exp(6) + 2 / np.log(2) - np.sin(np.log(2)) / 18
    np.testing.assert_allclose(value([by_z], feeds)[0], expected, rtol=1e-14)
    second, = gradient(by_z, [z])
    assert second is not None
    np.testing.assert_allclose(value([second], feeds)[0], 4 * np.exp(6) + np.sin(np.log(2)) / 27, rtol=1e-14)
    check(by_x, feeds)


def test_a_value_used_twice_gets_the_sum() -> None:
    x1, x2 = variable(), variable()
    grads = pullback([square(x1 + x1 + x2)], [one()], [x1, x2])
    assert value([node for node in grads if node], {x1: 2.0, x2: 3.0}) == (28, 14)


def test_inner_nodes_are_independent() -> None:
    x = variable()
    h = anchor(2 * x)
    y = h + 3 * h
    by_h, by_x = pullback([y], [one()], [h, x])
    assert value([node for node in (by_h, by_x) if node], {x: 1.0}) == (4, 8)


# every kind of rule ---------------------------------------------------------------------------------------------------


CASES: dict[str, Callable[[Node], Node]] = {
    "elementwise": lambda x: tanh(x) * sigmoid(x) / (1 + square(x)) - power(x, cos(x)),
    "transpose, reshape": lambda x: square(reshape(transpose(x, axes=(1, 0)), shape=(2, 6))),
    "broadcast": lambda x: exp(broadcast_to(x, shape=(2, 3, 4))),
    "slice": lambda x: exp(slice_(x, start=(2, 1), size=(2, 2), step=(-2, 2))),
    "pad": lambda x: exp(pad(x, start=(1, 0), step=(2, 1), shape=(7, 5))),
    "concatenate": lambda x: square(concatenate(x, sin(x), x, axis=1)),
    "sum, max": lambda x: sum_(square(x), axes=(0,)) * max_(x, axes=(0,)),
    "softmax": lambda x: softmax(x, axis=1),
    "logsumexp": lambda x: logsumexp(x, axes=(0, 1)),
    "matmul": lambda x: matmul(x, transpose(sin(x), axes=(1, 0))),
    "norm": lambda x: norm(x, axes=(1,)),
    "where": lambda x: where(greater(x, full(1, x.type)), square(x), maximum(x, cos(x))),
}


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name: str) -> None:
    x = variable(3, 4)
    check(CASES[name](x), {x: np.random.default_rng(1).uniform(0.3, 1.9, (3, 4))})


@pytest.mark.parametrize("name", CASES)
def test_second_order_against_differences(name: str) -> None:
    x = variable(3, 4)
    first, = gradient(total(square(CASES[name](x))), [x])
    assert first is not None
    check(first, {x: np.random.default_rng(2).uniform(0.3, 1.9, (3, 4))})


def test_gather_and_scatter() -> None:
    x, updates = variable("N", 3), variable("M")
    rows, columns = variable("M", dtype=I64), variable("M", dtype=I64)
    at = (wrap_index(rows, extent=dim("N")), wrap_index(columns, extent=3))
    feeds = {rows: [0, -1, 0, 2], columns: [1, 2, 1, -3], x: np.arange(9.0).reshape(3, 3), updates: np.ones(4)}
    check(exp(gather(x, *at, axes=(0, 1))), feeds, [x])
    check(square(scatter_add(x, updates, *at, axes=(0, 1))), feeds, [x, updates])


def test_a_float32_detour_rounds_and_passes_cotangents() -> None:
    x = variable(3)
    grad, = pullback([total(square(cast(cast(x, dtype=np.dtype("float32")), dtype=F64)))], [one()], [x])
    assert grad is not None and grad.dtype == F64
    np.testing.assert_array_equal(value([grad], {x: [1.0, 2.0, 3.0]})[0], [2, 4, 6])


def test_constant_partials_cost_nothing() -> None:
    x, y = variable(4), variable(4)
    seed = variable(4)
    by_x, by_y = pullback([x - y], [seed], [x, y])
    assert by_x is seed
    assert by_y is -seed
    by_x, = pullback([log(x)], [seed], [x])
    assert by_x is seed / x


# where and NaN --------------------------------------------------------------------------------------------------------


def test_where_keeps_infinite_slopes_out() -> None:
    x = variable(4)
    zero = full(0, x.type)
    root = where(greater(x, zero), sqrt(x), zero)
    sinc = where(not_equal(x, zero), sin(x) / x, full(1, x.type))
    feeds = {x: [-1.0, 0.0, 1.0, 4.0]}
    by_root, by_sinc = (gradient(total(y), [x])[0] for y in (root, sinc))
    assert by_root is not None and by_sinc is not None
    np.testing.assert_array_equal(value([by_root], feeds)[0], [0, 0, 0.5, 0.25])
    found = value([by_sinc], feeds)[0]
    np.testing.assert_allclose(found[[0, 2, 3]], [0.301168678939757, -0.301168678939757, -0.116110749], rtol=1e-8)
    assert found[1] == 0


def test_support_passes_linear_ops_and_is_joined_where_cotangents_add() -> None:
    x = variable(2, 3)
    zero = full(0, x.type)
    spread = broadcast_to(reshape(sqrt(x), shape=(2, 1, 3)), shape=(2, 4, 3))
    positive = broadcast_to(reshape(greater(x, zero), shape=(2, 1, 3)), shape=(2, 4, 3))
    safe = where(positive, spread, full(0, spread.type))
    large = where(greater(x, full(1, x.type)), sqrt(x), zero)
    grad, = gradient(total(safe) + total(large), [x])
    assert grad is not None
    found = value([grad], {x: [[0.0, 0.25, 4.0], [-1.0, 0.0, 1.0]]})[0]
    np.testing.assert_array_equal(found, [[0, 4, 1.25], [0, 0, 2]])


def test_an_honest_infinity_stays() -> None:
    x = variable()
    grad, = gradient(sqrt(x), [x])
    assert grad is not None
    assert value([grad], {x: 0.0})[0] == np.inf


# zeros and errors -----------------------------------------------------------------------------------------------------


def test_structural_zeros() -> None:
    x, other = variable(), variable()
    assert pullback([floor(x) + step(x)], [one()], [x]) == [None]
    assert pullback([2 * x], [one()], [other]) == [None]
    assert pullback([stop_gradient(x)], [one()], [x]) == [None]
    assert pushforward([floor(x)], [x], [one()]) == [None]


def test_the_mask_of_a_relu_is_held_fixed() -> None:
    x = variable(3)
    for y in (relu(x), maximum(x, full(0, x.type)), where(greater(x, full(0, x.type)), x, -x)):
        first, = gradient(total(y), [x])
        assert first is not None
        assert gradient(total(first), [x]) == [None]
        assert tangent([total(first)], [x], [full(1, x.type)]) == [None]


def test_a_wrt_reached_only_through_a_discrete_op() -> None:
    x = variable("N", 3)
    y = total(cast(argmax(tanh(x), axis=1), dtype=F64))
    with pytest.raises(DifferentiationTypeError, match="loss depends on x only through argmax, which has no"):
        pullback([y], [one()], [x], {y: "loss", x: "x"})
    hit = total(cast(less(x, full(0, x.type)), dtype=F64))
    with pytest.raises(DifferentiationTypeError, match="only through less"):
        pushforward([hit], [x], [full(1, x.type)])
    pullback([y + total(x)], [one()], [x])


def test_integers_have_no_derivative() -> None:
    k = variable(3, dtype=I64)
    y = total(cast(k, dtype=F64))
    with pytest.raises(DifferentiationTypeError, match=r"with respect to labels: it is i64\[3\], and only floats"):
        pullback([y], [one()], [k], {k: "labels"})
    with pytest.raises(DifferentiationTypeError, match=r"no derivative of a value of sum : i64\[\]"):
        pullback([sum_(k, axes=(0,))], [full(1, TensorType(I64))], [k])


def test_a_gradient_wants_a_scalar_or_a_cotangent() -> None:
    x = variable("N", 2)
    y = square(x)
    with pytest.raises(DifferentiationValueError, match=r"gradient of y wants a scalar, and it is f64\[N,2\]\n  sum"):
        gradient(y, [x], names={y: "y"})
    with pytest.raises(DifferentiationValueError, match=r"cotangent of .* must be f64\[N,2\], got f64\[\]"):
        gradient(y, [x], one())
    with pytest.raises(DifferentiationValueError, match=r"tangent of .* must be f64\[N,2\], got f64\[\]"):
        tangent([y], [x], [one()])
    grad, = gradient(y, [x], full(3, y.type))
    assert grad is not None
    np.testing.assert_array_equal(value([grad], {x: [[1.0, 2.0]]})[0], [[6, 12]])


def test_a_mutated_rule_is_caught() -> None:
    wrong = replace(tanh, derivative=Partials((lambda y, x: 1 + square(y),)))
    x = variable(3)
    check(tanh(x), {x: [0.1, 0.2, 0.3]})
    with pytest.raises(AssertionError, match="Mismatched elements: 3 / 3"):
        check(wrong(x), {x: [0.1, 0.2, 0.3]})


# gradients of views ---------------------------------------------------------------------------------------------------


def test_gradient_differentiates_the_stable_form_and_speaks_of_the_callers_nodes() -> None:
    x = variable(3)
    peak = log(total(exp(x)))
    y = square(peak)
    first, = gradient(y, [x])
    assert first is not None
    assert peak in toposort([first])
    by_peak, = gradient(total(first), [peak])
    assert by_peak is not None
    big = value([gradient(peak, [x])[0] or x], {x: [1000.0, 1000.0, 0.0]})[0]
    np.testing.assert_array_equal(big, [0.5, 0.5, 0])


def test_an_inner_view_survives_two_derivatives() -> None:
    x = variable()
    h = x * 1
    first, = gradient(square(h) * h, [h])
    assert first is not None
    second, = gradient(first, [h])
    assert second is not None
    assert value([second], {x: 2.0})[0] == 12


# the pass -------------------------------------------------------------------------------------------------------------


def regression() -> Graph:
    x, w, b, spare = variable("N", 3), *(leaf(PARAM, TensorType(F64, shape)) for shape in ((3, 2), (2,), (4,)))
    shape = (dim("N"), 2)
    hidden = tanh(matmul(x, w) + broadcast_to(b, shape=shape))
    loss = total(square(hidden))
    return Graph(
        "net", (x,), (w, b, spare), (loss, hidden), wrt=(w, b, spare),
        names={x: "x", w: "w", b: "b", spare: "spare", hidden: "hidden", loss: "loss"},
        origins={hidden: ("net.py:3",), loss: ("net.py:4",)},
    )  # fmt: skip


FEEDS = {"x": np.linspace(-1, 1, 6).reshape(2, 3), "w": np.linspace(0, 1, 6).reshape(3, 2), "b": np.ones(2)}


def test_the_pass_appends_gradients_with_names_and_places() -> None:
    graph = regression()
    joint = Differentiate().run(graph)
    assert joint.outputs[:2] == graph.outputs
    assert joint.wrt == ()
    by_w, by_b, by_spare = joint.outputs[2:]
    assert (by_w.shape, by_b.shape, by_spare.shape) == ((3, 2), (2,), (4,))
    assert {joint.names[node] for node in (by_w, by_b)} == {"d_w", "d_b"}
    assert "d_hidden" in joint.names.values()
    adjoint = [node for node in joint.steps if node not in graph.steps and node.op.name != "constant"]
    places = {node: joint.origins.get(node) for node in adjoint}
    assert set(places.values()) >= {("net.py:3",), ("net.py:4",)}
    loss, _, found, *_, zeros = interpret(joint, {**FEEDS, "spare": np.ones(4)})
    np.testing.assert_array_equal(zeros, np.zeros(4))
    moved = {**FEEDS, "w": FEEDS["w"] + 1e-6 * np.eye(3, 2), "spare": np.ones(4)}
    np.testing.assert_allclose((interpret(joint, moved)[0] - loss) / 1e-6, found[0, 0] + found[1, 1], rtol=1e-5)


def test_the_cotangent_of_the_output_is_named_where_it_is_a_step() -> None:
    x = leaf(INPUT, TensorType(F64))
    y = x - sin(x)
    joint = Differentiate().run(Graph("g", (x,), (), (y,), wrt=(x,), names={x: "x", y: "y"}))
    assert "%d_y = constant(value=f64(1.0), shape=[])" in print_graph(joint)
    logarithm = log(x)
    joint = Differentiate().run(Graph("g", (x,), (), (logarithm,), wrt=(x,), names={x: "x", logarithm: "y"}))
    assert "%d_x = divide(1.0, %x)" in print_graph(joint)


def test_unreached_names_what_the_output_does_not_depend_on() -> None:
    assert unreached(regression()) == ("spare",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Differentiate().run(regression())


def test_the_cotangent_as_an_input() -> None:
    graph = regression()
    names = {**graph.names, graph.outputs[0]: "energy"}
    joint = Differentiate(seeded=False).run(replace(graph, names=names))
    assert joint.names[joint.inputs[-1]] == "d_energy"
    seeded = interpret(Differentiate().run(graph), {**FEEDS, "spare": np.ones(4)})
    fed = interpret(joint, {**FEEDS, "spare": np.ones(4), "d_energy": np.float64(2)})
    for left, right in zip(seeded[2:], fed[2:], strict=True):
        np.testing.assert_allclose(2 * left, right)


def test_the_pass_wants_a_scalar_and_leaves_graphs_without_wrt() -> None:
    graph = regression()
    swapped = replace(graph, outputs=graph.outputs[::-1])
    with pytest.raises(DifferentiationValueError, match=r"gradient of hidden wants a scalar, and it is f64\[N,2\]"):
        Differentiate().run(swapped)
    joint = Differentiate(seeded=False).run(swapped)
    assert joint.inputs[-1].type == graph.outputs[1].type
    assert Differentiate().run(joint) is joint


# scale ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "walk", [lambda y, x: pullback([y], [one()], [x]), lambda y, x: pushforward([y], [x], [one()])]
)
def test_a_chain_of_50000_steps(walk: Callable[[Node, Node], list[Node | None]]) -> None:
    x = variable()
    y = x
    for _ in range(25_000):
        y = sin(y) + x
    began = time.perf_counter()
    grad, = walk(y, x)
    assert grad is not None
    assert time.perf_counter() - began < 20
