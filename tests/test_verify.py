"""The verifier accepts well formed graphs and names the step of a malformed one: a graph per rule."""

from dataclasses import replace

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Literal, Node, constant, leaf
from graphc.ir.dims import dim
from graphc.ir.errors import CompileValueError
from graphc.ir.graph import Graph
from graphc.ir.types import TensorType
from graphc.ir.verify import verify

F64 = np.dtype("float64")
MATRIX, VECTOR = TensorType(F64, (dim("N"), 3)), TensorType(F64, (3,))
X, Y, W = leaf(INPUT, MATRIX), leaf(INPUT, MATRIX), leaf(PARAM, VECTOR)
SUM = ops.sum_(ops.exp(X) * 2.0, axes=(0,))
GOOD = Graph("f", (X,), (W,), (SUM,), (W, ops.anchor(X)), ((W, W + SUM),), {X: "x", W: "w", SUM: "total"})


def step(op, *operands, type=MATRIX, **attrs):
    """A node that no type rule has seen."""
    return Node(op, operands, tuple(attrs.items()), type)


def with_output(*nodes):
    return replace(GOOD, outputs=nodes)


def test_a_good_graph_passes():
    verify(GOOD)
    verify(with_output(constant(value=Literal(np.float32(2)), shape=(dim("N"),)), X))


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        # leaves
        (replace(GOOD, inputs=(X, ops.exp(X))), "inputs lists a node of the op exp"),
        (replace(GOOD, inputs=(X, leaf(PARAM, MATRIX))), "inputs lists a node of the op param"),
        (replace(GOOD, params=(W, Y)), "params lists a node of the op input"),
        (replace(GOOD, inputs=(X, Node(INPUT, (), (("dtype", F64), ("shape", ())), MATRIX))),
         "a leaf of type f64[N,3] has the attributes of another"),
        (replace(GOOD, inputs=(X, Y, X)), "a leaf is declared twice"),
        (with_output(ops.exp(Y)), "the graph reads an undeclared input"),
        (replace(GOOD, params=()), "the graph reads an undeclared param"),
        # names
        (replace(GOOD, names={X: "x", SUM: "x"}), "two nodes are named x"),
        (replace(GOOD, names={X: ""}), "a name is empty"),
        # attributes
        (with_output(step(ops.transpose, X, axes=[1, 0])), "the attribute axes is [1, 0] (list)"),
        (with_output(step(ops.exp, X, axes=0.5)), "the attribute axes is 0.5 (float)"),
        (with_output(step(ops.sum_, X, axes=(np.int64(0),))), "the attribute axes is (np.int64(0),) (tuple)"),
        (with_output(step(ops.cast, X, dtype=np.dtype("complex64"))), "the attribute dtype is dtype('complex64')"),
        # types
        (with_output(step(ops.exp, X, type=VECTOR)), "exp gives f64[N,3], the step says f64[3]"),
        (with_output(step(ops.add, X, W)), "add does not take these operands: add wants operands of one type"),
        (with_output(step(ops.sum_, X)), "sum does not take these operands: "),
        (with_output(step(ops.sum_, X, axes=(7,))), "sum does not take these operands: sum: axis 7 is out of range"),
        # outputs, wrt
        (replace(GOOD, outputs=(), updates=()), "it has neither outputs nor updates"),
        (replace(GOOD, wrt=(SUM,)), "wrt lists a step that is no anchor"),
        # updates
        (replace(GOOD, updates=((X, X),)), "an update goes to what is no parameter of the graph"),
        (replace(GOOD, updates=((W, X),)), "the next value of a parameter f64[3] is f64[N,3]"),
        (replace(GOOD, updates=((W, SUM), (W, W))), "a parameter is updated twice"),
    ],
)  # fmt: skip
def test_a_malformed_graph_is_refused(graph, problem):
    with pytest.raises(CompileValueError) as caught:
        verify(graph)
    assert str(caught.value).startswith(f"the graph f is malformed: {problem}")


def test_the_step_is_shown_among_its_neighbours():
    bad = step(ops.exp, X * 2.0, type=VECTOR)
    graph = with_output(ops.sin(bad))
    graph = replace(graph, names={X: "x", bad: "bad", graph.outputs[0]: "y", bad.operands[0]: "twice"})
    with pytest.raises(CompileValueError) as caught:
        verify(graph)
    assert str(caught.value) == (
        "the graph f is malformed: exp gives f64[N,3], the step says f64[3]\n"
        "  %twice = multiply(%x, 2.0) : f64[N,3]\n"
        "> %bad = exp(%twice) : f64[3]\n"
        "  %y = sin(%bad) : f64[3]"
    )
