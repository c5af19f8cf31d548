"""Build turns views into a graph: leaves, names, places, anchors, updates, and how parameters start."""

import numpy as np
import pytest

import graphc
from graphc import Dense, Input, Param, Planner
from graphc.build import build
from graphc.initializers import INITIALIZERS, Initial, initial_value
from graphc.ir.core import PARAM
from graphc.ir.errors import CompileTypeError, CompileValueError, DeclarationError
from graphc.ir.interpret import interpret


class Fit(Planner):
    x = Input(("N", 3))
    y = Input(("N",), "int64")
    w = Param((3, 2), "normal")
    h = x @ w
    twin = x @ w
    loss = graphc.cross_entropy(h, y)


def test_the_graph_of_a_view() -> None:
    graph = build([Fit.loss]).graph
    assert graph.name == "Fit.loss"
    assert [graph.names[node] for node in graph.inputs] == ["x", "y"]
    assert [graph.names[node] for node in graph.params] == ["w"]
    assert graph.outputs == (Fit.loss.node,)
    assert graph.dim_names == ("N",)
    assert build([Fit.loss + 1]).graph.name == "graph"
    assert build([Fit.loss + 1], name="mine").graph.name == "mine"


def test_names_are_unique_and_equal_expressions_are_one() -> None:
    built = build([Fit.loss, Fit.twin])
    assert list(built.graph.names.values()) == ["x", "y", "w", "h", "loss"]
    assert built.aliases == {"twin": "h"}


def test_places_are_the_lines_of_the_declaration() -> None:
    graph = build([Fit.loss, Fit.twin]).graph
    lines = {name: graph.origins[node] for node, name in graph.names.items()}
    (first,), (second,) = lines["x"], lines["loss"]
    assert first.startswith("test_build.py:")
    assert int(second.split(":")[1]) == int(first.split(":")[1]) + 5
    assert len(lines["h"]) == 2
    assert all(graph.origins[step] for step in graph.steps)


def test_an_inner_wrt_is_anchored_wherever_it_is_used() -> None:
    built = build([Fit.loss], wrt=["h", Fit.w])
    graph = built.graph
    assert built.wrt == {"h": 0, "w": 1}
    assert [node.op.name for node in graph.wrt] == ["anchor", "param"]
    anchor = graph.wrt[0]
    assert graph.names[anchor] == "h"
    assert all(anchor is step or Fit.h.node not in step.operands for step in graph.steps)
    assert all(graph.origins[step] for step in graph.steps)


def test_nested_anchors() -> None:
    x = Input((), name="x")
    a = np.sin(x)
    b = np.cos(a) * a
    graph = build([b + a], wrt=[a, b, x]).graph
    outer, inner, leaf = graph.wrt[1], graph.wrt[0], graph.wrt[2]
    assert leaf is x.node
    assert inner in outer.operands[0].operands
    (result,) = interpret(graph, {"x": np.float64(0.3)})
    np.testing.assert_allclose(result, np.cos(np.sin(0.3)) * np.sin(0.3) + np.sin(0.3))


def test_two_names_of_one_value_share_its_gradient() -> None:
    built = build([Fit.loss], wrt=[Fit.h, Fit.twin])
    assert built.wrt == {"h": 0, "twin": 0}
    assert len(built.graph.wrt) == 1


def test_wrt_params_and_what_the_output_does_not_use() -> None:
    assert build([Fit.loss], wrt="params").wrt == {"w": 0}
    other = Param(2, name="other")
    built = build([Fit.loss], wrt=[other])
    assert built.wrt == {"other": 0}
    assert [built.graph.names[node] for node in built.graph.params] == ["w", "other"]


def test_wrong_wrt() -> None:
    with pytest.raises(CompileValueError, match=r"no view is named 'ww' here\n  did you mean 'w'\?"):
        build([Fit.loss], wrt=["ww"])
    with pytest.raises(CompileTypeError, match="wrt is made of views or names, not 3"):
        build([Fit.loss], wrt=[3])  # type: ignore[list-item]
    with pytest.raises(CompileTypeError, match="expected a view, got 3"):
        build([3])  # type: ignore[list-item]


def test_updates() -> None:
    graph = build([Fit.loss], updates={Fit.w: Fit.w * 0.5}).graph
    ((param, value),) = graph.updates
    assert param.op is PARAM
    assert value in graph.steps
    with pytest.raises(CompileValueError, match=r"the update of w: f64\[3,2\] is of type f32\[3,2\]\n  cast it"):
        build([Fit.loss], updates={Fit.w: Fit.w.astype("float32")})
    with pytest.raises(CompileTypeError, match="only parameters have updates, and x is none"):
        build([Fit.loss], updates={Fit.x: Fit.x})


def test_an_input_that_only_its_shape_is_read_of_is_kept() -> None:
    x = Input(("N",), name="x")
    assert build([np.zeros_like(x)]).graph.inputs == (x.node,)


def test_gradients_find_their_names() -> None:
    class Slope(Planner):
        x = Input(())
        w = Param(2.0)
        y = w * x
        dy = graphc.grad(y, w)

    built = build([Slope.dy])
    assert [built.graph.names[node] for node in built.graph.leaves] == ["x", "w"]
    assert built.aliases == {"dy": "x"}
    assert built.graph.outputs == (Slope.x.node,)


# parameters -----------------------------------------------------------------------------------------------------------


def test_what_a_param_is_declared_by() -> None:
    declared = {
        Param(3): ((3,), "float64"), Param((2, 3), dtype="float32"): ((2, 3), "float32"), Param(()): ((), "float64"),
        Param(2.5): ((), "float64"), Param([1, 2]): ((2,), "float64"), Param([[1.0, 2.0]]): ((1, 2), "float64"),
        Param(np.ones((2, 2), "float32")): ((2, 2), "float32"), Param(np.arange(3)): ((3,), "int64"),
        Param([1, 2], dtype="int32"): ((2,), "int32"), Param(np.float32(1)): ((), "float32"),
    }  # fmt: skip
    for param, (shape, dtype) in declared.items():
        assert (param.shape, param.dtype) == (shape, dtype)
        value = initial_value(param.initial, 0, "p")
        assert (value.shape, value.dtype) == (shape, dtype)
        assert value.flags.writeable
    assert initial_value(Param([1, 2]).initial, 0, "p").tolist() == [1, 2]


def test_a_given_array_is_copied() -> None:
    array = np.ones(2)
    param = Param(array)
    array[0] = 7
    assert initial_value(param.initial, 0, "p").tolist() == [1, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("N", 2), "the shape of a Param is known: ('N', 2) is symbolic"),
        (True, "a Param is declared by a shape (ints) or a value (an array, list or float), not True"),
        ((-1,), "a dim is not negative: (-1,)"),
        ([1j], "no dtype 'complex128' in graphs"),
    ],
)
def test_wrong_params(given: object, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        Param(given)
    assert message in str(caught.value)
    assert "test_build.py:" in str(caught.value)


def test_wrong_initialisers() -> None:
    with pytest.raises(DeclarationError, match=r"no initialiser 'glorot'\n  did you mean 'glorot_"):
        Param(3, "glorot")
    with pytest.raises(DeclarationError, match="a Param with a value takes no init='ones'"):
        Param([1.0], "ones")
    with pytest.raises(DeclarationError, match="no initialiser 'nrmal'"):
        Dense(3, init="nrmal")


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    initial = Initial((50, 30), np.dtype("float64"), "glorot_uniform")
    value = initial_value(initial, 0, "w")
    np.testing.assert_array_equal(value, initial_value(initial, 0, "w"))
    assert np.all(value != initial_value(initial, 1, "w"))
    assert np.all(value != initial_value(initial, 0, "v"))
    as_float32 = initial_value(Initial((50, 30), np.dtype("float32"), "glorot_uniform"), 0, "w")
    np.testing.assert_array_equal(as_float32, value.astype("float32"))


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / 80), ("glorot_normal", 2 / 80), ("he_uniform", 2 / 50), ("he_normal", 2 / 50),
        ("lecun_uniform", 1 / 50), ("lecun_normal", 1 / 50), ("normal", 0.0025), ("uniform", 0.0025),
    ],
)  # fmt: skip
def test_initialisers_have_their_variance(name: str, variance: float) -> None:
    value = initial_value(Initial((400, 50, 30), np.dtype("float64"), name), 0, "w")
    scale = 1 if name in ("normal", "uniform") else 400  # a kernel of 400 positions
    np.testing.assert_allclose(np.var(value), variance / scale, rtol=0.01)


def test_constant_initialisers() -> None:
    for name, expected in (("zeros", 0), ("ones", 1)):
        value = initial_value(Initial((2, 3), np.dtype("float32"), name), 0, "w")
        assert np.all(value == expected)
        assert value.dtype == "float32"
    assert len(INITIALIZERS) == 10
