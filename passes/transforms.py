"""Derivatives of views: differentiate a sub-graph in its stable form, and say the result in the caller's own nodes.

What comes back can be differentiated again, with respect to the same nodes: the rewritten steps are replaced by those
they stand for, and the conditions that a rule compared by (the mask of a relu) are held fixed, so that a second
derivative through one is zero and not an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphc.ir.core import INPUT, PARAM, Node, constant, full, leaf, rebuild
from graphc.ir.dims import nominal
from graphc.ir.graph import substitute, toposort
from graphc.ir.ops import anchor, cast, equal, iota, reshape, stop_gradient, transpose
from graphc.ir.types import Shape, TensorType
from graphc.passes.batch import batch
from graphc.passes.canonicalize import CANONICAL
from graphc.passes.differentiate import check_scalar, pullback
from graphc.passes.forward import pushforward
from graphc.passes.rewrite import normalize
from graphc.passes.stabilize import STABLE


def gradient(
    y: Node, wrt: Sequence[Node], seed: Node | None = None, names: Mapping[Node, str] | None = None
) -> list[Node | None]:
    """The cotangents of `wrt` for the cotangent `seed` of `y` (1 for a scalar).

    Parameters
    ----------
    y : Node
        What is differentiated.
    wrt : sequence of Node
        Leaves or inner nodes of y; each counts as independent, and none is opened by a rewrite.
    seed : Node, optional
        The cotangent, of y's type; needed unless y is a scalar.
    names : mapping from Node to str, optional
        What errors call the nodes.

    Returns
    -------
    list of Node or None
        None where the derivative is structurally zero.

    Raises
    ------
    DifferentiationTypeError
        Where a derivative does not exist (integers, discrete ops).
    DifferentiationValueError
        For a `y` that is no scalar without a seed, or a seed of another type.
    """
    if seed is None:
        check_scalar(y, names or {})
        seed = full(1, y.type)
    stable = _Stable([y], wrt, names or {})
    return stable.restore(pullback(stable.outputs, [seed], stable.wrt, stable.names))


def tangent(
    outputs: Sequence[Node],
    wrt: Sequence[Node],
    tangents: Sequence[Node | None],
    names: Mapping[Node, str] | None = None,
) -> list[Node | None]:
    """The tangents of `outputs` for those of `wrt`; otherwise as `gradient`."""
    stable = _Stable(outputs, wrt, names or {})
    return stable.restore(pushforward(stable.outputs, stable.wrt, tangents, stable.names))


def jacobian(y: Node, wrt: Sequence[Node], names: Mapping[Node, str] | None = None) -> list[Node | None]:
    """The derivative of every element of `y` by every element of each `wrt`, of shape ``y.shape + wrt.shape``.

    Products with all unit vectors at once: with the Jacobian where `wrt` has fewer elements than y, else with its
    transpose (a symbolic dim counts as many). Otherwise as `gradient`.
    """
    fewer = [nominal(node.type.size) <= nominal(y.type.size) and y.shape != () for node in wrt]
    backward = iter(_rows(y, [node for node, few in zip(wrt, fewer, strict=True) if not few], names))
    return [_columns(y, node, names) if few else next(backward) for node, few in zip(wrt, fewer, strict=True)]


def _rows(y: Node, wrt: Sequence[Node], names: Mapping[Node, str] | None) -> list[Node | None]:
    """Jacobians by reverse mode: a cotangent for each element of y."""
    if y.shape == () or not wrt:
        return gradient(y, wrt, None, names) if wrt else []
    seed = leaf(INPUT, y.type)
    found = gradient(y, wrt, seed, names)
    kept = [one for one in found if one is not None]
    stacks = iter(batch(kept, {seed: _unit_vectors(y.type)}, y.type.size))
    return [
        None if one is None else _unstacked(next(stacks), y.shape, node.shape)
        for one, node in zip(found, wrt, strict=True)
    ]


def _columns(y: Node, x: Node, names: Mapping[Node, str] | None) -> Node | None:
    """A Jacobian by forward mode: a tangent for each element of x."""
    direction = leaf(INPUT, x.type)
    (found,) = tangent([y], [x], [direction], names)
    if found is None:
        return None
    (stack,) = batch([found], {direction: _unit_vectors(x.type)}, x.type.size)
    columns = _unstacked(stack, x.shape, y.shape)
    rank = len(x.shape)
    order = (*range(rank, rank + len(y.shape)), *range(rank))
    return None if columns is None else transpose(columns, axes=order)


def _unit_vectors(type: TensorType) -> Node:
    """All arrays of a type that are 1 at one element and 0 elsewhere, in C order along a new leading axis."""
    square = (type.size, type.size)
    row, column = (iota(shape=square, axis=axis, dtype=np.dtype("int64")) for axis in (0, 1))
    return reshape(cast(equal(row, column), dtype=type.dtype), shape=(type.size, *type.shape))


def _unstacked(stack: Node | None, leading: Shape, shape: Shape) -> Node | None:
    """A stack of arrays of a shape, one for each element of another array, with that array's axes."""
    return None if stack is None else reshape(stack, shape=(*leading, *shape))


class _Stable:
    """A sub-graph in stable form, with the way back."""

    def __init__(self, outputs: Sequence[Node], wrt: Sequence[Node], names: Mapping[Node, str]) -> None:
        self.primal = toposort(outputs)
        known = set(self.primal)
        inner = [node for node in wrt if node.operands and node in known]
        # Every wrt becomes an anchor of itself, on top of one another, and the whole is normalized with anchors shut.
        anchored = _anchored(self.primal, set(inner))
        normal = normalize([anchored[node] for node in outputs], CANONICAL)
        stable = normalize(normal.values(), STABLE)
        form = {node: stable[normal[anchored[node]]] for node in self.primal}
        self.outputs = [form[node] for node in outputs]
        self.wrt = [form.get(node, node) for node in wrt]
        self.names = {form.get(node, node): name for node, name in names.items()}
        self._back: dict[Node, Node] = {}
        for node in self.primal:
            if form[node] is not node and form[node] not in known and form[node].op is not constant:
                self._back.setdefault(form[node], node)
        self._back.update((form[node], node) for node in inner)

    def restore(self, results: Sequence[Node | None]) -> list[Node | None]:
        """The results in the caller's nodes, their masks held fixed."""
        found = [result for result in results if result is not None]
        held = iter(_hold(substitute(found, self._back), self.primal))
        return [None if result is None else next(held) for result in results]


def _anchored(order: Sequence[Node], anchors: set[Node]) -> dict[Node, Node]:
    """Every node of an order with some nodes replaced by an anchor of what they become."""
    new: dict[Node, Node] = {}
    for node in order:
        moved = rebuild(node, tuple(new[operand] for operand in node.operands))
        new[node] = anchor(moved) if node in anchors else moved
    return new


def _hold(results: Sequence[Node], primal: Sequence[Node]) -> list[Node]:
    """The results, with a stopped gradient wherever a new float step reads something discrete that floats decide."""
    known = set(primal)
    new: dict[Node, Node] = {}
    decided: set[Node] = set()
    for node in toposort(results):
        is_source = node.op in (INPUT, PARAM) and node.type.is_float
        if is_source or any(operand in decided for operand in node.operands):
            decided.add(node)
        operands = [new[operand] for operand in node.operands]
        if node not in known and node.type.is_float:
            operands = [
                stop_gradient(moved) if operand in decided and not operand.type.is_float else moved
                for operand, moved in zip(node.operands, operands, strict=True)
            ]
        new[node] = rebuild(node, tuple(operands))
    return [new[result] for result in results]
