"""Compiling and calling programs: what `graphc.compile` promises, on both targets."""

import gc
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import graphc
from graphc import Dense, GraphcWarning, Input, Param, Planner, cross_entropy, sigmoid
from graphc.ir.graph import Graph
from graphc.ir.loops import Program as LoopProgram
from graphc.ir.text import parse_graph

RNG = np.random.default_rng(11)
X, T = RNG.normal(size=(4, 3)), RNG.normal(size=4)


class Model(Planner):
    x = Input(("N", 3))
    t = Input(("N",))
    w = Param([0.5, -1.0, 2.0])
    b = Param(0.25)
    y = x @ w + b
    error = y - t
    loss = np.mean(error**2)
    also = loss


@pytest.fixture(params=["interpret", "cpu"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def by_hand(w: Any = (0.5, -1.0, 2.0), b: Any = 0.25) -> tuple[float, dict[str, np.ndarray]]:
    error = X @ np.asarray(w) + b - T
    return float(np.mean(error**2)), {"w": 2 * X.T @ error / len(X), "b": 2 * np.mean(error)}


def assert_gradients(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert list(found) == list(expected)
    for name in expected:
        assert np.shape(found[name]) == np.shape(expected[name])
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-11, atol=1e-13, err_msg=name)


# outputs --------------------------------------------------------------------------------------------------------------


def test_a_view_gives_a_value_and_a_list_a_tuple(target: str) -> None:
    value = graphc.compile(Model.loss, target=target)(x=X, t=T)
    assert value == pytest.approx(by_hand()[0])
    several = graphc.compile([Model.y, Model.loss], target=target)(x=X, t=T)
    assert isinstance(several, tuple)
    np.testing.assert_allclose(several[0], X @ [0.5, -1, 2] + 0.25)
    assert several[1] == value
    assert graphc.compile([Model.loss], target=target)(x=X, t=T) == (value,)
    assert graphc.compile((Model.loss,), target=target)(x=X, t=T) == (value,)


def test_a_graph_gives_what_its_views_do(target: str) -> None:
    text = graphc.compile(Model.loss, wrt="params").ir("build")
    program = graphc.compile(parse_graph(text), wrt=["w", "error"], target=target)
    program.params["w"] = [0.5, -1, 2]
    program.params["b"] = 0.25
    value, grads = program.value_and_grad(x=X, t=T)
    expected, gradients = by_hand()
    assert value == pytest.approx(expected)
    assert_gradients(grads, {"w": gradients["w"], "error": 2 * (X @ [0.5, -1, 2] + 0.25 - T) / 4})
    assert list(graphc.compile(parse_graph(text), wrt="params").value_and_grad(x=X, t=T)[1]) == ["w", "b"]
    assert isinstance(graphc.compile(program.graph("build", "forward"))(x=X, t=T), np.float64)


def test_scalars_are_numpy_scalars_of_the_dtype(target: str) -> None:
    x = Input(("N",), "float32", name="x")
    k = Input((), "int8", name="k")
    views = [np.sum(x), k + 1, np.argmax(x), np.all(x > 0), x[0], np.sum(x.astype("float64")), k / 2, x * 2]
    *scalars, array = graphc.compile(views, target=target)(x=[1, 3, 2], k=127)
    types = [np.float32, np.int8, np.int64, np.bool_, np.float32, np.float64, np.float64]
    assert [type(value) for value in scalars] == types
    assert scalars == [6, -128, 1, True, 1, 6, 63.5]
    assert type(array) is np.ndarray and array.dtype == np.float32


def test_results_are_fresh_and_the_callers(target: str) -> None:
    x, w = Input(("N", 2), name="x"), Param([[1.0, 2.0]], name="w")
    double = x * 2
    program = graphc.compile([x, w, x.T, x.reshape(-1), w[0], double, double, double[:1]], target=target)
    feed = np.ones((3, 2))
    results = program(x=feed)
    everything = [feed, program.params["w"], *results, *program(x=feed)]
    for k, one in enumerate(everything):
        assert one.flags.writeable
        for other in everything[:k]:
            assert not np.shares_memory(one, other)
    for one in results:
        one[...] = -1
    np.testing.assert_array_equal(feed, np.ones((3, 2)))
    np.testing.assert_array_equal(program.params["w"], [[1, 2]])
    np.testing.assert_array_equal(program(x=feed)[5], 2 * feed)


def test_gradients_are_fresh_too(target: str) -> None:
    program = graphc.compile(np.sum(Model.y), wrt=["w", "x", "y"], target=target)
    _, first = program.value_and_grad(x=X)
    _, second = program.value_and_grad(x=X)
    for gradient, other in zip(first.values(), second.values(), strict=True):
        assert gradient.flags.writeable
        assert not np.shares_memory(gradient, other)
        gradient[...] = 7
    assert_gradients(second, {"w": X.sum(0), "x": np.tile([0.5, -1.0, 2.0], (4, 1)), "y": np.ones(4)})


def test_programs_without_inputs_or_parameters(target: str) -> None:
    one, two = graphc.compile([graphc.ones((2, 3)), np.sum(graphc.full((4,), 0.5))], target=target)()
    np.testing.assert_array_equal(one, np.ones((2, 3)))
    assert two == 2


def test_constant_arrays(target: str) -> None:
    table = np.arange(6.0).reshape(2, 3)
    x = Input(("N", 3), name="x")
    program = graphc.compile(np.sum((x @ table.T) ** 2), wrt=[x], target=target)
    table_then, table[...] = table.copy(), 0  # the program has its own
    value, grads = program.value_and_grad(x=X)
    assert value == pytest.approx(np.sum((X @ table_then.T) ** 2))
    np.testing.assert_allclose(grads["x"], 2 * X @ table_then.T @ table_then)


# names ----------------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert graphc.compile(Model.loss).graph("build").name == "Model.loss"
    assert graphc.compile(Model.loss, name="other").graph("build").name == "other"
    x = Input((), name="x")
    assert graphc.compile(x * 2).graph("build").name == "graph"


def test_aliases_are_names_too() -> None:
    class Aliased(Planner):
        x = Input(("N",))
        data = x
        w = Param(2.0)
        weight = w
        inner = x * w
        product = inner
        total = np.sum(product)

    for names in (["w", "inner"], ["weight", "product"]):
        program = graphc.compile(Aliased.total, wrt=names, target="interpret")
        assert program(data=[1, 2]) == program(x=[1, 2]) == 6
        value, grads = program.value_and_grad(data=[1, 2], weight=3.0)
        assert value == 9
        assert [np.sum(gradient) for gradient in grads.values()] == [3, 2]


# wrt ------------------------------------------------------------------------------------------------------------------


def test_wrt_is_a_view_a_name_a_list_or_params(target: str) -> None:
    value, expected = by_hand()
    error = X @ [0.5, -1, 2] + 0.25 - T
    expected |= {"t": -error / 2, "y": error / 2}
    forms: list[tuple[Any, list[str]]] = [
        ("params", ["w", "b"]),
        (Model.b, ["b"]),
        ("w", ["w"]),
        ("error", ["error"]),
        ([Model.y, "b", Model.t, "w"], ["y", "b", "t", "w"]),
        ((Model.w, Model.w), ["w"]),
    ]
    for wrt, names in forms:
        found, grads = graphc.compile(Model.loss, wrt=wrt, target=target).value_and_grad(x=X, t=T)
        assert found == pytest.approx(value)
        assert_gradients(grads, {name: expected.get(name, error / 2) for name in names})


def test_equal_expressions_are_one_value() -> None:
    class Twins(Planner):
        x = Input(())
        a = 2 * x
        b = 2 * x
        f = a + 3 * b

    assert graphc.compile(Twins.f, wrt="a", target="interpret").value_and_grad(x=1)[1] == {"a": 4}
    grads = graphc.compile(Twins.f, wrt=[Twins.a, Twins.b, Twins.x]).value_and_grad(x=1)[1]
    assert list(grads.values()) == [4, 4, 8]
    assert graphc.compile(Twins.f, wrt=Twins.b, target="interpret").value_and_grad(x=1)[1] == {"b": 4}


def test_an_inner_view_is_opaque(target: str) -> None:
    class Opaque(Planner):
        x = Input(("N",))
        p = np.exp(x)
        total = np.sum(p)
        y = np.log(total)  # without wrt, this becomes a logsumexp
        z = sigmoid(x)
        loss = y + np.sum(np.log(z))

    x = np.array([0.5, -1, 2])
    _, grads = graphc.compile(Opaque.loss, wrt=["p", "total", "z", "x"], target=target).value_and_grad(x=x)
    p, z = np.exp(x), 1 / (1 + np.exp(-x))
    expected = {"p": np.full(3, 1 / p.sum()), "total": 1 / p.sum(), "z": 1 / z, "x": p / p.sum() + 1 - z}
    assert_gradients(grads, expected)


def test_a_view_that_the_output_does_not_depend_on(target: str) -> None:
    class Loose(Planner):
        x = Input((2,))
        unused = Param([1.0, 2.0])
        w = Param(3.0)
        inner = np.exp(x)
        loss = np.sum(w * x)

    with pytest.warns(GraphcWarning) as caught:
        program = graphc.compile(Loose.loss, wrt=[Loose.w, Loose.unused, Loose.inner], target=target)
    assert [str(one.message) for one in caught] == [
        "loss does not depend on unused: its gradient is zeros",
        "loss does not depend on inner: its gradient is zeros",
    ]
    assert {one.filename for one in caught} == {__file__}
    value, grads = program.value_and_grad(x=[1, 2])
    assert value == 9
    assert_gradients(grads, {"w": np.float64(3), "unused": np.zeros(2), "inner": np.zeros(2)})
    assert list(graphc.compile(Loose.loss, wrt="params").params) == ["w"]  # "params": those that it depends on


def test_the_first_of_several_outputs_is_differentiated(target: str) -> None:
    program = graphc.compile([Model.loss, Model.y], wrt="params", target=target)
    (value, y), grads = program.value_and_grad(x=X, t=T)
    assert value == pytest.approx(by_hand()[0])
    np.testing.assert_allclose(y, X @ [0.5, -1, 2] + 0.25)
    assert_gradients(grads, by_hand()[1])
    (again, _), saved = program.forward(x=X, t=T)
    assert again == pytest.approx(value)
    assert_gradients(program.backward(saved), grads)


# forward and backward -------------------------------------------------------------------------------------------------


def test_forward_and_backward_with_a_cotangent(target: str) -> None:
    class Layer(Planner):
        x = Input(("N", 3))
        out = x | Dense(2) | np.tanh

    program = graphc.compile(Layer.out, wrt=["x", "out.dense.weight", "out.dense.bias"], target=target)
    weight = program.params["out.dense.weight"]
    saved = {}
    for size in (4, 2):
        out, saved[size] = program.forward(x=X[:size])
        np.testing.assert_allclose(out, np.tanh(X[:size] @ weight), rtol=1e-13)
    for size in (4, 2, 4):  # saved values can be used again, in any order
        cotangent = RNG.normal(size=(size, 2)).astype("float32")
        inner = cotangent * (1 - np.tanh(X[:size] @ weight) ** 2)
        expected = {"x": inner @ weight.T, "out.dense.weight": X[:size].T @ inner, "out.dense.bias": inner.sum(0)}
        found = program.backward(saved[size], cotangent)
        assert_gradients(found, expected)


def test_backward_sees_the_parameters_of_its_forward(target: str) -> None:
    program = graphc.compile(Model.loss, wrt=["w", "b", "x"], target=target)
    value, saved = program.forward(x=X, t=T, w=[1.0, 1.0, 1.0])
    expected, gradients = by_hand(w=[1, 1, 1])
    gradients["x"] = np.outer(X.sum(1) + 0.25 - T, [1, 1, 1]) / 2
    assert value == pytest.approx(expected)
    assert_gradients(program.backward(saved), gradients)
    assert_gradients(program.backward(saved, 2), {name: 2 * gradient for name, gradient in gradients.items()})


# parameters -----------------------------------------------------------------------------------------------------------


def test_params_are_live(target: str) -> None:
    program = graphc.compile(Model.loss, wrt="params", target=target)
    assert list(program.params) == ["w", "b"]
    assert "w" in program.params and "x" not in program.params and len(program.params) == 2
    program.params["w"][1] = 3.0
    program.params["b"] = 7
    assert program(x=X, t=T) == pytest.approx(by_hand([0.5, 3, 2], 7)[0])
    assert_gradients(program.value_and_grad(x=X, t=T)[1], by_hand([0.5, 3, 2], 7)[1])
    source = np.array([1, 2, 3], "float32")
    program.params["w"] = source
    source[...] = 0  # assignment copies in
    program.params["w"] *= 2
    np.testing.assert_array_equal(program.params["w"], [2, 4, 6])
    assert program.params["w"].dtype == np.float64 and program.params["b"].shape == ()
    assert repr(program.params) == "Parameters:\n  w: float64[3]\n  b: float64[]"


def test_a_parameter_fed_for_one_call(target: str) -> None:
    program = graphc.compile(Model.loss, wrt="params", target=target)
    before = program(x=X, t=T)
    value, grads = program.value_and_grad(x=X, t=T, w=[1, 2, 3])
    expected, gradients = by_hand([1, 2, 3])
    assert value == pytest.approx(expected)
    assert_gradients(grads, gradients)
    assert program(x=X, t=T) == before
    np.testing.assert_array_equal(program.params["w"], [0.5, -1, 2])


class Pair(Planner):
    x = Input(("N", 3))
    logits = x | Dense(2)
    loss = np.sum(logits**2)
    scale = Param([1.5])
    other = np.sum(logits) * scale[0]


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    first, second = graphc.compile(Pair.loss, target="interpret"), graphc.compile(Pair.other)
    assert list(second.params) == ["logits.dense.weight", "logits.dense.bias", "scale"]
    for name in first.params:
        np.testing.assert_array_equal(first.params[name], second.params[name])
        assert not np.shares_memory(first.params[name], second.params[name])
    twins = graphc.compile(Param(3, "normal", name="u") + Param(3, "normal", name="v")).params
    assert np.all(twins["u"] != twins["v"])
    other = graphc.compile(Pair.loss, seed=1)
    weight = other.params["logits.dense.weight"]
    assert np.all(weight != first.params["logits.dense.weight"]) and np.all(np.abs(weight) < 1.1)
    np.testing.assert_array_equal(weight, graphc.compile(Pair.logits, seed=1).params["logits.dense.weight"])


def test_sharing_parameters(target: str) -> None:
    first = graphc.compile(Pair.loss, wrt="params", target=target)
    first.params["logits.dense.weight"][1] = 5
    second = graphc.compile(Pair.other, wrt="params", params=first.params, target=target)  # has one more
    third = graphc.compile(Pair.loss, wrt=["x"], params=second.params, target=target)  # has one less
    assert "scale" not in first.params and "scale" not in third.params
    for program in (first, second, third):  # sharing leaves the values alone
        np.testing.assert_array_equal(program.params["logits.dense.weight"][1], [5, 5])
    first.params["logits.dense.bias"] = [1, 2]
    second.params["logits.dense.weight"] = np.ones((3, 2))
    third.params["logits.dense.weight"][0] = [2, 3]
    weight = np.array([[2, 3], [1, 1], [1, 1]])
    logits = X @ weight + [1, 2]
    for program in (first, third):
        assert program(x=X) == pytest.approx(np.sum(logits**2))
    assert second(x=X) == pytest.approx(1.5 * np.sum(logits))
    assert_gradients(
        first.value_and_grad(x=X)[1],
        {"logits.dense.weight": 2 * X.T @ logits, "logits.dense.bias": 2 * logits.sum(0)},
    )
    assert_gradients(
        second.value_and_grad(x=X)[1],
        {
            "logits.dense.weight": 1.5 * X.T @ np.ones((4, 2)),
            "logits.dense.bias": np.full(2, 6.0),
            "scale": np.array([np.sum(logits)]),
        },
    )
    _, saved = second.forward(x=X)
    assert_gradients(second.backward(saved), second.value_and_grad(x=X)[1])
    assert_gradients(third.value_and_grad(x=X)[1], {"x": 2 * logits @ weight.T})


def test_starting_from_a_mapping() -> None:
    start = {"w": np.array([1, 2, 3], "float32"), "b": 4}
    program = graphc.compile(Model.loss, params=start, target="interpret")
    start["w"][...] = 0
    np.testing.assert_array_equal(program.params["w"], [1, 2, 3])
    assert program.params["b"] == 4
    partly = graphc.compile(Model.loss, params={"b": 4}, target="interpret")
    np.testing.assert_array_equal(partly.params["w"], [0.5, -1, 2])


def test_parameters_of_several_dtypes(target: str) -> None:
    a, k = Param(np.float32([1, 2]), name="a"), Param(np.array([3, 4]), name="k")
    c, m = Param([5.0, 6.0], name="c"), Param(np.array([True, False]), name="m")
    program = graphc.compile(np.sum(np.where(m, a * k * c, c)), wrt=[c, a], target=target)
    value, grads = program.value_and_grad()
    assert value == 1 * 3 * 5 + 6
    assert_gradients(grads, {"c": np.array([3.0, 1.0]), "a": np.float32([15, 0])})
    assert grads["a"].dtype == np.float32
    program.params["m"] = [True, True]
    assert program() == 15 + 48


# updates --------------------------------------------------------------------------------------------------------------


class Swap(Planner):
    step = Input(())
    a = Param([1.0, 2.0])
    b = Param([3.0, 4.0])
    n = Param(np.array(0))
    loss = np.sum(a * b) + step


UPDATES = {Swap.a: Swap.b, Swap.b: Swap.a + Swap.step, Swap.n: Swap.n + 1}


def test_updates_are_made_all_at_once(target: str) -> None:
    program = graphc.compile([Swap.loss, Swap.a], wrt=[Swap.a], updates=UPDATES, target=target)
    loss, a = program(step=10)
    assert loss == 21
    np.testing.assert_array_equal(a, [1, 2])  # the outputs see the old values
    np.testing.assert_array_equal(program.params["a"], [3, 4])
    np.testing.assert_array_equal(program.params["b"], [11, 12])
    (loss, a), grads = program.value_and_grad(step=0)
    assert loss == 33 + 48
    np.testing.assert_array_equal(grads["a"], [11, 12])
    np.testing.assert_array_equal(program.params["a"], [11, 12])
    np.testing.assert_array_equal(program.params["b"], [3, 4])
    assert program.params["n"] == 2
    _, saved = program.forward(step=0)
    program.backward(saved)
    assert program.params["n"] == 2  # only calls and value_and_grad store


def test_updates_where_a_parameter_is_fed(target: str) -> None:
    program = graphc.compile(Swap.loss, updates=UPDATES, target=target)
    assert program(step=1, a=[5, 6]) == 15 + 24 + 1
    np.testing.assert_array_equal(program.params["a"], [3, 4])
    np.testing.assert_array_equal(program.params["b"], [6, 7])
    assert program.params["n"] == 1
    only_b = graphc.compile(Swap.loss, updates={Swap.b: Swap.b + Swap.a}, target=target)
    only_b(step=0, a=[5, 6])
    np.testing.assert_array_equal(only_b.params["a"], [1, 2])
    np.testing.assert_array_equal(only_b.params["b"], [8, 10])


# njit -----------------------------------------------------------------------------------------------------------------


def test_njit_is_called_from_jitted_code() -> None:
    program = graphc.compile(Model.loss, wrt=["w", "b"])
    value_and_grad, value = program.njit, graphc.compile(Model.loss).njit

    @numba.njit
    def descend(x: Any, t: Any, w: Any, b: Any, steps: int) -> Any:
        for _ in range(steps):
            _, d_w, d_b = value_and_grad(x, t, w, b)
            w = w - 0.1 * d_w
            b = b - 0.1 * d_b
        return value(x, t, w, b)

    w, b = np.array([0.5, -1, 2]), np.float64(0.25)
    for _ in range(3):
        gradients = by_hand(w, b)[1]
        w, b = w - 0.1 * gradients["w"], b - 0.1 * gradients["b"]
    start = (program.params["w"], np.float64(0.25))
    assert descend(X, T, *start, 3) == pytest.approx(by_hand(w, b)[0])
    found, d_w, d_b = value_and_grad(X, T, *start)  # and from Python
    assert found == pytest.approx(by_hand()[0])
    assert_gradients({"w": d_w, "b": d_b}, by_hand()[1])
    read_only = X.copy()
    read_only.flags.writeable = False
    assert value(read_only, T, *start) == pytest.approx(found)
    np.testing.assert_array_equal(program.params["w"], [0.5, -1, 2])


# feeds ----------------------------------------------------------------------------------------------------------------


class Casts(Planner):
    f = Input(("N", 2), "float32")
    k = Input(("M",), "int8")
    u = Input((), "uint8")
    s = Input((), "float32")
    m = Input((), "bool")


@pytest.fixture(scope="module")
def casts() -> Any:
    return graphc.compile([Casts.f, Casts.k, Casts.u, Casts.s, Casts.m])


FITTING: dict[str, list[Any]] = {
    "f": [
        [[1, 2], [3, 4]],
        ((1, 2.5), (3, 4)),
        np.arange(4.0).reshape(2, 2),
        np.arange(4).reshape(2, 2),
        np.arange(4.0, dtype="float32").reshape(2, 2).T,
        np.arange(16.0, dtype="float32").reshape(4, 4)[1:3, ::2],
        np.arange(4.0, dtype=">f4").reshape(2, 2),
        np.frombuffer(b"\0" + np.arange(4.0, dtype="float32").tobytes(), "float32", 4, 1).reshape(2, 2),
        np.array([[True, False]]),
        np.zeros((0, 2)),
        np.broadcast_to(np.float32([1, 2]), (3, 2)),
    ],
    "k": [[1, -128, 127], np.arange(3), [], np.zeros(0, "int64"), [True, 1], np.array([True]), np.uint8([100])],
    "u": [255, 0, np.uint8(3), np.array(7, "uint8"), np.uint16(255), True],
    "s": [1, 2.5, np.float64(0.1), np.array(3.0), np.float16(2), np.nan, True],
    "m": [True, np.bool_(False), np.array(True)],
}
PLAIN: dict[str, Any] = {"f": [[1, 2]], "k": [1], "u": 1, "s": 1, "m": True}


@pytest.mark.parametrize("name", FITTING)
def test_feeds_that_cast(casts: Any, name: str) -> None:
    position = list(PLAIN).index(name)
    view = getattr(Casts, name)
    for value in FITTING[name]:
        result = casts(**{**PLAIN, name: value})[position]
        with np.errstate(over="ignore"):
            expected = np.asarray(value).astype(view.dtype)
        assert result.dtype == view.dtype and result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)


def test_read_only_feeds_are_neither_copied_nor_written() -> None:
    feed = X.copy()
    feed.flags.writeable = False
    program = graphc.compile(Model.loss, wrt=["x"])
    expected = program.value_and_grad(x=X, t=T)
    value, grads = program.value_and_grad(x=feed, t=T)
    assert value == expected[0]
    np.testing.assert_array_equal(grads["x"], expected[1]["x"])
    _, saved = program.forward(x=feed, t=T)
    assert saved.values["x"] is feed


def test_no_rows_and_one_row(target: str) -> None:
    class Rows(Planner):
        x = Input(("N", 3))
        y = Input(("N",), "int64")
        logits = x | Dense(4)
        hidden = logits | np.tanh
        total = np.sum(hidden)
        loss = cross_entropy(logits, y)

    program = graphc.compile([Rows.total, Rows.hidden], ["x", "logits.dense.weight"], target)
    weight = program.params["logits.dense.weight"]
    for size in (0, 1):
        (total, hidden), grads = program.value_and_grad(x=X[:size])
        assert hidden.shape == (size, 4)
        assert total == pytest.approx(np.sum(np.tanh(X[:size] @ weight)))
        assert grads["x"].shape == (size, 3)
        inner = 1 - np.tanh(X[:size] @ weight) ** 2
        np.testing.assert_allclose(grads["logits.dense.weight"], X[:size].T @ inner, atol=1e-15)
        _, saved = program.forward(x=X[:size])
        assert program.backward(saved)["x"].shape == (size, 3)
    loss = graphc.compile(Rows.loss, wrt="params", target=target)
    value, grads = loss.value_and_grad(x=X[:0], y=[])
    assert np.isnan(value)  # the mean of nothing, as NumPy has it
    assert loss(x=X[:1], y=[-1]) == loss(x=X[:1], y=[3])


def generated_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("graphc._generated")}


def test_one_program_serves_every_size_without_compiling_again() -> None:
    program = graphc.compile(Model.loss, wrt="params")
    for size in (4, 1, 2):
        run = [program(x=X[:size], t=T[:size]), program.value_and_grad(x=X[:size], t=T[:size])[0]]
        run.append(program.forward(x=X[:size], t=T[:size])[0])
        if size == 4:
            modules = generated_modules()
        error = X[:size] @ [0.5, -1, 2] + 0.25 - T[:size]
        np.testing.assert_allclose(run, np.mean(error**2))
    assert generated_modules() == modules


def test_a_guard_is_checked_when_the_size_is_known(target: str) -> None:
    x = Input(("N",), name="x")
    program = graphc.compile(np.sum(x[:5]), target=target)
    assert program(x=np.arange(6.0)) == 10
    for _ in range(2):  # not only the first time
        with pytest.raises(graphc.FeedError, match=r"slice \[0:5\] on axis 0 of \(N,\) wants N >= 5, got N = 3"):
            program(x=np.arange(3.0))


# threads --------------------------------------------------------------------------------------------------------------


def test_programs_are_called_from_many_threads() -> None:
    class Threads(Planner):
        x = Input(("N", 3))
        w = Param([0.5, -1.0, 2.0])
        loss = np.sum(np.tanh(x @ w) ** 2)

    program = graphc.compile(Threads.loss, wrt="params")
    sizes = [1 + k % 7 for k in range(40)]
    feeds = [RNG.normal(size=(size, 3)) for size in sizes]
    found: dict[int, Any] = {}
    barrier = threading.Barrier(4)

    def work(first: int) -> None:
        barrier.wait()  # all ask for the same functions, which nobody has compiled yet
        for k in range(first, len(feeds), 4):
            out, saved = program.forward(x=feeds[k])
            found[k] = (program.value_and_grad(x=feeds[k]), program(x=feeds[k]), out, program.backward(saved))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(feeds)
    for k, ((value, grads), again, out, grads_again) in found.items():
        inner = np.tanh(feeds[k] @ [0.5, -1, 2])
        np.testing.assert_allclose([value, again, out], np.sum(inner**2))
        for gradient in (grads["w"], grads_again["w"]):
            np.testing.assert_allclose(gradient, feeds[k].T @ (2 * inner * (1 - inner**2)), atol=1e-13)


# what is printed ------------------------------------------------------------------------------------------------------


def texts(program: graphc.Program) -> dict[tuple[str, str], str]:
    return {
        (stage, variant): program.ir(stage, variant)
        for variant in ("split", "forward", "joint")
        for stage in program.stages
    }


def test_every_stage_of_every_variant_is_text() -> None:
    fresh = texts(graphc.compile(Model.loss, wrt="params", target="interpret"))
    used = graphc.compile(Model.loss, wrt="params")
    used.value_and_grad(x=X, t=T)
    used.njit(X, T, used.params["w"], 0.25)
    used.forward(x=X, t=T)
    used(x=X, t=T, w=[1, 2, 3])
    assert texts(used) == fresh
    assert all(text.endswith("\n") for text in fresh.values())
    assert used.ir("emit") == used.source == fresh["emit", "joint"]
    assert used.ir("lower") == fresh["lower", "joint"]
    assert graphc.compile(Model.loss).source == graphc.compile(Model.loss).ir("emit", "forward")
    split = [fresh["build", "split"], fresh["differentiate", "split"], fresh["partition", "split"]]
    assert [text.count("graph @") for text in split] == [1, 1, 2]
    assert fresh["emit", "split"].count("def Model_loss") == 2


def test_printing_compiles_no_machine_code() -> None:
    before = generated_modules()
    program = graphc.compile(np.sum(Model.y**3), wrt="params")
    assert "def graph(" in program.source
    assert generated_modules() == before
    program(x=X)
    assert len(generated_modules()) == len(before) + 1


def test_graphs_of_every_stage() -> None:
    program = graphc.compile(Model.loss, wrt="params")
    assert program.stages == (
        "build", "canonicalize", "stabilize", "differentiate", "simplify", "partition", "lower", "fuse", "memory",
        "emit",
    )  # fmt: skip
    kinds = [Graph] * 6 + [LoopProgram] * 3 + [str]
    assert [type(program.graph(stage)) for stage in program.stages] == kinds
    assert [type(program.graph(stage, "forward")) for stage in program.stages] == kinds
    pairs = [program.graph(stage, "split") for stage in program.stages[5:]]
    assert [tuple(map(type, pair)) for pair in pairs] == [(kind, kind) for kind in kinds[5:]]
    assert isinstance(program.graph("simplify", "split"), Graph)


def test_a_dump_writes_every_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path / "dump"))
    program = graphc.compile(Model.loss, wrt="params")
    source = program.source
    monkeypatch.delenv("GRAPHC_DUMP")
    files = {path.name: path.read_text() for path in (tmp_path / "dump").rglob("*.*")}
    for k, stage in enumerate(program.stages):
        suffix = ".gir" if k < 6 else ".py" if stage == "emit" else ".loops"
        assert files[f"{k:02d}-{stage}{suffix}"] == program.ir(stage)
    assert files["09-emit.py"] == source


def test_nothing_is_left_behind() -> None:
    program = graphc.compile(Model.loss, wrt="params")
    program.value_and_grad(x=X, t=T)
    gone = weakref.ref(program)
    del program
    gc.collect()
    assert gone() is None
