"""Ops called on arrays: their values and gradients, by the reference evaluator."""

from __future__ import annotations

import numpy as np
from op_samples import tensor

from graphc.ir.core import INPUT, full, leaf
from graphc.ir.graph import Graph
from graphc.ir.interpret import interpret
from graphc.passes.differentiate import pullback


def x_of(shape, dtype="float64"):
    """A new input."""
    return leaf(INPUT, tensor(shape, dtype))


def run(outputs, feeds):
    """The values of nodes for a mapping from leaf to array."""
    names = {node: f"v{k}" for k, node in enumerate(feeds)}
    graph = Graph("test", tuple(feeds), (), tuple(outputs), names=names)
    return interpret(graph, {names[node]: array for node, array in feeds.items()})


def gradients(output, feeds):
    """The values of the cotangents of the float leaves, zeros where there is none."""
    wrt = [node for node in feeds if node.type.is_float]
    found = pullback((output,), (full(1, output.type),), wrt)
    return run(or_zero(found, [node.type for node in wrt]), feeds)


def apply(op, *arrays, **attrs):
    """An op on inputs, and their arrays."""
    arrays = [np.asarray(array) for array in arrays]
    leaves = [x_of(array.shape, array.dtype) for array in arrays]
    node = op(*leaves, **attrs)
    return node, dict(zip(leaves, arrays, strict=True))


def value(op, *arrays, **attrs):
    """The value of an op on arrays."""
    node, feeds = apply(op, *arrays, **attrs)
    return run([node], feeds)[0]


def slope(op, *arrays, **attrs):
    """The gradients of the sum of an op's result at some arrays."""
    node, feeds = apply(op, *arrays, **attrs)
    return gradients(node, feeds)


def or_zero(found, types):
    """Derivatives with structural zeros written out."""
    return [full(0, type) if node is None else node for node, type in zip(found, types, strict=True)]
