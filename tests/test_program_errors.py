"""Errors of compiling and calling: their texts, and the built-in exceptions that they also are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import (
    CompileError,
    DifferentiationError,
    FeedError,
    Input,
    Param,
    Planner,
    cross_entropy,
    one_hot,
)
from graphc.ir.text import parse_graph


class Model(Planner):
    x = Input(("N", 3))
    target = Input(("N",))
    k = Input((), "int64")
    w = Param([0.5, -1.0, 2.0])
    y = x @ w
    loss = np.mean((y - target) ** 2) * k


X, T = np.ones((4, 3)), np.ones(4)
GOOD: dict[str, Any] = {"x": X, "target": T, "k": 1}


def check(call: Callable[[], Any], kind: type[Exception], also: type[Exception], text: str) -> None:
    """The error is of both kinds, and says exactly this."""
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, also)
    assert isinstance(caught.value, graphc.GraphcError)
    assert str(caught.value) == text


@pytest.fixture(scope="module", params=["interpret", "cpu"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(target: str) -> graphc.Program:
    return graphc.compile(Model.loss, wrt="params", target=target)


# feeds ----------------------------------------------------------------------------------------------------------------

NOT_CAST = "which does not cast by 'same_kind'\n  cast it where that is meant:"
NO_VIEW = (
    "{0} wants {1}, got a view, which has no values\n"
    "  compile the view and feed what that gives: {0}=graphc.compile(view)(...)"
)
FEEDS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "missing": ({"target": ...}, TypeError, "missing feed: target (float64 of shape (N,))\n  pass target=array"),
    "several missing": (
        {"target": ..., "k": ...}, TypeError,
        "missing feeds: target (float64 of shape (N,)), k (int64 of shape ())\n  pass target=array",
    ),
    "a view": ({"target": Model.y}, TypeError, NO_VIEW.format("target", "float64 of shape (N,)")),
    "a list of views": ({"target": [Model.k]}, TypeError, NO_VIEW.format("target", "float64 of shape (N,)")),
    "a view for a scalar": ({"k": Model.k}, TypeError, NO_VIEW.format("k", "int64 of shape ()")),
    "a view for a parameter": ({"w": Model.w}, TypeError, NO_VIEW.format("w", "float64 of shape (3,)")),
    "surplus": ({"xx": X}, TypeError, "no input named 'xx'; did you mean 'x'?"),
    "misspelt": ({"target": ..., "taget": T}, TypeError, "no input named 'taget'; did you mean 'target'?"),
    "unlike all": ({"bias": 1}, TypeError, "no input named 'bias'; there are x, target, k, w"),
    "rank": ({"x": T}, ValueError, "x wants float64 of shape (N, 3), got 1 dims: shape (4,)"),
    "rank of a scalar": ({"k": [1]}, ValueError, "k wants int64 of shape (), got 1 dims: shape (1,)"),
    "extent": ({"x": X[:, :2]}, ValueError, "x wants float64 of shape (N, 3), got shape (4, 2)"),
    "two sizes": ({"target": np.ones(5)}, ValueError, "x has N = 4, target has N = 5"),
    "complex": ({"x": X * 1j}, TypeError, f"x wants float64, got complex128, {NOT_CAST} x=value.astype('float64')"),
    "float for int": ({"k": 1.0}, TypeError, f"k wants int64, got float64, {NOT_CAST} k=value.astype('int64')"),
    "text": ({"x": "one"}, TypeError, f"x wants float64, got <U3, {NOT_CAST} x=value.astype('float64')"),
    "nothing": ({"k": None}, TypeError, f"k wants int64, got object, {NOT_CAST} k=value.astype('int64')"),
    "too large": ({"k": 2**63}, ValueError, "k wants int64: a value does not fit (9223372036854775808)"),
    "too small": ({"k": -(2**63) - 1}, ValueError, "k wants int64: a value does not fit (-9223372036854775809)"),
    "unsigned": ({"k": np.uint64(2**63)}, ValueError, "k wants int64: a value does not fit (9223372036854775808)"),
    "parameter's shape": ({"w": [1, 2]}, ValueError, "w wants float64 of shape (3,), got shape (2,)"),
    "parameter's dtype": (
        {"w": [1j, 2, 3]}, TypeError, f"w wants float64, got complex128, {NOT_CAST} w=value.astype('float64')"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FEEDS)
def test_feeds(model: graphc.Program, case: str) -> None:
    changes, also, text = FEEDS[case]
    feeds = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    for call in (model, model.value_and_grad, model.forward):
        check(lambda call=call: call(**feeds), FeedError, also, text)  # type: ignore[misc]


def test_ragged_lists(model: graphc.Program) -> None:
    with pytest.raises(FeedError, match=r"^x wants float64 of shape \(N, 3\), got what is no array: .*inhomogeneous"):
        model(**{**GOOD, "x": [[1, 2, 3], [4]]})


def test_two_names_of_one_input() -> None:
    class Aliased(Planner):
        x = Input(())
        data = x
        y = x * 2

    program = graphc.compile(Aliased.y, target="interpret")
    check(lambda: program(x=1, data=2), FeedError, TypeError, "x is fed twice: data is another name of it")


def test_parameters(model: graphc.Program) -> None:
    params = model.params

    def assign(name: str, value: Any) -> None:
        params[name] = value

    check(lambda: assign("w", [1, 2]), FeedError, ValueError, "w wants float64 of shape (3,), got shape (2,)")
    check(
        lambda: assign("w", [1j, 2, 3]), FeedError, TypeError,
        f"w wants float64, got complex128, {NOT_CAST} w=value.astype('float64')",
    )  # fmt: skip
    with pytest.raises(KeyError, match="no parameter named 'v'; there are w"):
        assign("v", 1)
    with pytest.raises(KeyError, match="no parameter named 'ww'; did you mean 'w'"):
        _ = params["ww"]
    with pytest.raises(TypeError, match="parameters are fixed: w cannot be removed"):
        del params["w"]
    np.testing.assert_array_equal(params["w"], [0.5, -1, 2])


def test_integers_that_do_not_fit_a_parameter() -> None:
    program = graphc.compile(Param(np.array([1, 2], "int8"), name="k") * 2, target="interpret")
    text = "k wants int8: a value does not fit (128)"
    check(lambda: program(k=[1, 128]), FeedError, ValueError, text)
    check(lambda: program.params.update(k=[1, 128]), FeedError, ValueError, text)
    np.testing.assert_array_equal(program.params["k"], [1, 2])


# indices --------------------------------------------------------------------------------------------------------------


def test_indices_out_of_range(target: str) -> None:
    x, i = Input(("N",), name="x"), Input(("M",), "int64", name="i")
    logits, labels = Input(("N", 3), name="logits"), Input(("N",), "int64", name="labels")
    views = [x[i], x.at[i].add(1.0), x.at[i].set(7.0), one_hot(i, 3), x[i] * 2]
    loss = cross_entropy(logits, labels)
    program = graphc.compile([np.sum(views[0]), *views], wrt=[x], target=target)
    losses = graphc.compile(loss, wrt=[logits], target=target)
    data = np.array([1.0, 2.0, 3.0])

    total, *results = program(x=data, i=[-1, 0, -3])  # from the end
    assert total == 5
    np.testing.assert_array_equal(results[0], [3, 1, 1])
    np.testing.assert_array_equal(results[1], [3, 2, 4])
    np.testing.assert_array_equal(results[2], [7, 2, 7])
    np.testing.assert_array_equal(results[3], [[0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert losses(logits=X, labels=[-1, -3, 2, 0]) == pytest.approx(np.log(3))

    for wrong in ([3], [0, -4], [0, 2**62], [-(2**63)]):
        for call in (program, program.value_and_grad, program.forward):
            with pytest.raises(FeedError, match="index out of range") as caught:
                call(x=data, i=wrong)
            assert isinstance(caught.value, IndexError)
    for labels_fed in ([0, 1, 3, 0], [0, -4, 1, 1]):
        for call in (losses, losses.value_and_grad, losses.forward):
            with pytest.raises(FeedError, match="index out of range") as caught:
                call(logits=X, labels=labels_fed)
            assert isinstance(caught.value, IndexError)
    assert program(x=data, i=[0])[0] == 1  # and it goes on working


def test_guards(target: str) -> None:
    x = Input(("N",), name="x")
    program = graphc.compile([x[5], x[-2]], target=target)
    text = "slice [5:6] on axis 0 of (N,) wants N >= 6, got N = 3"
    check(lambda: program(x=[1.0, 2, 3]), FeedError, ValueError, text)
    program = graphc.compile([np.max(x), np.argmax(x)], target=target)
    check(lambda: program(x=[]), FeedError, ValueError, "max over axis 0 of (N,) wants N >= 1, got N = 0")


# derivatives ----------------------------------------------------------------------------------------------------------

NO_SCALAR = (
    "the gradient of y wants a scalar, and it is f64[N]\n"
    "  sum it or take its mean first, or give a cotangent of its shape: program.backward(saved, cotangent)"
)
NO_PARAMS = "graph has no parameters, and was compiled with no other wrt\n  compile it with wrt=[view, ...]"
NO_WRT = 'Model.y was compiled without wrt\n  compile it with wrt="params" or wrt=[view, ...]'


def test_the_gradient_of_what_is_no_scalar(target: str) -> None:
    program = graphc.compile(Model.y, wrt="params", target=target)
    _, saved = program.forward(x=X)
    for call in (
        lambda: program.value_and_grad(x=X), lambda: program.njit, lambda: program.backward(saved),
        lambda: program.ir("emit"),
    ):  # fmt: skip
        check(call, DifferentiationError, ValueError, NO_SCALAR)

    def backward(cotangent: Any) -> Callable[[], Any]:
        return lambda: program.backward(saved, cotangent)

    check(
        backward(np.ones((4, 1))), FeedError, ValueError,
        "cotangent wants float64 of shape (N,), got 2 dims: shape (4, 1)",
    )  # fmt: skip
    check(backward(np.ones(5)), FeedError, ValueError, "x has N = 4, cotangent has N = 5")
    check(
        backward(1j * T), FeedError, TypeError,
        f"cotangent wants float64, got complex128, {NOT_CAST} cotangent=value.astype('float64')",
    )  # fmt: skip


def test_a_program_without_wrt() -> None:
    program = graphc.compile(Model.y)
    for call in (
        lambda: program.value_and_grad(x=X), lambda: program.forward(x=X), lambda: program.ir("emit", "joint"),
        lambda: program.graph("lower", "split"),
    ):  # fmt: skip
        check(call, DifferentiationError, ValueError, NO_WRT)
    for wrt in (None, "params", []):
        bare = graphc.compile(np.sum(FLAT), wrt=wrt)
        check(lambda bare=bare: bare.value_and_grad(x=[1, 2, 3]), DifferentiationError, ValueError, NO_PARAMS)


def test_derivatives_that_do_not_exist() -> None:
    class Discrete(Planner):
        x = Input(("N",))
        arg = np.argmax(x)
        count = np.sum(x > 0) * 1.0
        whole = np.sum(x.astype("int64").astype("float64"))

    leave_out = "which has no derivative\n  leave it out of wrt, or use a smooth function in its place"
    floats = "and only floats have one\n  declare it as 'float64', or cast it before its first use"
    cases: list[tuple[Any, Any, str]] = [
        (Model.loss, "k", f"no derivative with respect to k: it is i64[], {floats}"),
        (Model.loss, [Model.w, Model.k], f"no derivative with respect to k: it is i64[], {floats}"),
        (Discrete.arg, "x", f"no derivative of arg: it is i64[], {floats}"),
        (Discrete.count, "x", f"count depends on x only through greater, {leave_out}"),
        (Discrete.whole, [Discrete.x], f"whole depends on x only through cast, {leave_out}"),
    ]
    for output, wrt, text in cases:
        check(lambda: graphc.compile(output, wrt=wrt), DifferentiationError, TypeError, text)  # noqa: B023
    floor = graphc.compile(np.sum(np.floor(Discrete.x)), wrt="x", target="interpret")
    assert list(floor.value_and_grad(x=[1.5])[1]["x"]) == [0]  # piecewise constant: 0, and no error


# compile --------------------------------------------------------------------------------------------------------------

FLAT, W = Input((3,), name="x"), Param([1.0, 2.0, 3.0], name="w")
GRAPH = graphc.compile(Model.loss).graph("build")
COMPILE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"target": "cpuu"}, ValueError, "no target named 'cpuu'; did you mean 'cpu'?"),
    ({"target": None}, ValueError, "no target named 'None'; there are cpu, cuda, interpret"),
    ({"wrt": "los"}, ValueError, "no view is named 'los' here\n  did you mean 'loss'?"),
    ({"wrt": ["w", "qqq"]}, ValueError, "no view is named 'qqq' here\n  there are x, target, k, w, y, loss"),
    ({"wrt": [3]}, TypeError, "wrt is made of views or names, not 3"),
    ({"wrt": 3}, TypeError, "wrt is a view, a name, a list of them or 'params', got 3"),
    ({"outputs": 3}, TypeError, "compile wants a view, a list of views or an ir.Graph, got 3"),
    ({"outputs": []}, TypeError, "compile wants a view, a list of views or an ir.Graph, got []"),
    ({"outputs": [FLAT, 3]}, TypeError, "compile wants a view, a list of views or an ir.Graph, got [x, 3]"),
    ({"threads": -1}, ValueError, "threads is a number of threads or None, got -1"),
    ({"seed": "x"}, TypeError, "seed is an int, got 'x'"),
    ({"name": "a b"}, ValueError, "'a b' is no name: expected an identifier, or several joined by dots"),
    ({"params": 3}, TypeError, "params is a mapping, got 3"),
    ({"updates": [FLAT]}, TypeError, "updates is a mapping, got [x]"),
    ({"updates": {Model.x: Model.x}}, TypeError, "only parameters have updates, and x is none"),
    ({"updates": {Model.w: FLAT[0]}}, ValueError, "the update of w: f64[3] is of type f64[]"),
    (
        {"updates": {Model.w: FLAT.astype("float32")}}, ValueError,
        "the update of w: f64[3] is of type f32[3]\n  cast it: value.astype(param.dtype)",
    ),
    ({"outputs": GRAPH, "wrt": "ww"}, ValueError, "no node named 'ww'; did you mean 'w'?"),
    ({"outputs": GRAPH, "wrt": Model.w}, TypeError, "the wrt of an ir.Graph is made of names, not w"),
    (
        {"outputs": GRAPH, "updates": {Model.w: Model.w}}, TypeError,
        "an ir.Graph has its own updates\n  write them into the graph",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(COMPILE)))
def test_options_of_compile(case: int) -> None:
    options, also, text = COMPILE[case]
    if text.startswith("the update of") or text.startswith("updates"):
        options = {"outputs": Model.w * 2, **options}
    check(lambda: graphc.compile(**{"outputs": Model.loss, **options}), CompileError, also, text)


def test_values_to_start_from() -> None:
    def start(params: Any) -> Callable[[], Any]:
        return lambda: graphc.compile(Model.loss, params=params)

    check(start({"ww": 1}), FeedError, TypeError, "no parameter named 'ww'; did you mean 'w'?")
    check(start({"w": [1]}), FeedError, ValueError, "w wants float64 of shape (3,), got shape (1,)")
    check(
        start(graphc.compile(Param((4,), name="w") * 2).params), CompileError, ValueError,
        "the shared parameter w is float64[4], and this program's is float64[3]\n"
        "  share parameters between programs of one declaration, or rename one of them",
    )  # fmt: skip


def test_leaves_without_names_or_with_one_name() -> None:
    check_place(lambda: graphc.compile(Input((3,)) * 2), "the Input of type f64[3] has no name", "Input")
    check_place(lambda: graphc.compile(Param((3,)) * 2), "the Param of type f64[3] has no name", "Param")
    with pytest.raises(CompileError, match=r"two leaves are named 'x': the other is declared at .*\.py:\d+") as caught:
        graphc.compile(FLAT + Input((3,), name="x"))
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(__file__)
    assert str(caught.value).endswith("\n  rename one of them")


def check_place(call: Callable[[], Any], text: str, kind: str) -> None:
    with pytest.raises(CompileError) as caught:
        call()
    place, _, rest = str(caught.value).partition(": ")
    assert place.startswith(f"{__file__}:")
    assert rest == f'{text}\n  bind it to an attribute of a planner, or write {kind}(..., name="x")'


def test_stages_and_variants() -> None:
    program = graphc.compile(Model.loss, wrt="params")
    stages = ", ".join(program.stages)
    check(lambda: program.ir("emitt"), CompileError, ValueError, "no stage named 'emitt'; did you mean 'emit'?")
    check(lambda: program.graph("q"), CompileError, ValueError, f"no stage named 'q'; there are {stages}")
    check(
        lambda: program.ir("emit", "spilt"), CompileError, ValueError, "no variant named 'spilt'; did you mean 'split'?"
    )


def test_what_a_jitted_function_cannot_carry() -> None:
    program = graphc.compile(Model.loss, updates={Model.w: Model.w * 2})
    text = "Model.loss has updates, which only calls of the program store"
    check(lambda: program.njit, CompileError, ValueError, text)
    program = graphc.compile(np.sum(FLAT * np.array([1.0, 2.0, 3.0])))
    check(
        lambda: program.njit, CompileError, ValueError,
        "graph holds constant arrays (constant_0), which a jitted function cannot carry\n"
        "  declare them as an Input or a Param",
    )  # fmt: skip


def test_a_parsed_graph_has_the_same_errors() -> None:
    program = graphc.compile(parse_graph(graphc.compile(Model.loss).ir("build")), target="interpret")
    check(lambda: program(x=X, k=1), FeedError, TypeError, FEEDS["missing"][2])
    check(lambda: program(**{**GOOD, "target": np.ones(5)}), FeedError, ValueError, FEEDS["two sizes"][2])
