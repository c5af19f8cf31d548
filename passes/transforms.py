"""Derivatives of views: differentiate a sub-graph in its stable form, and say the result in the caller's own nodes.

What comes back can be differentiated again, with respect to the same nodes: the rewritten steps are replaced by those
they stand for, and the conditions that a rule compared by (the mask of a relu) are held fixed, so that a second
derivative through one is zero and not an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphc.ir.core import INPUT, PARAM, Linear, Node, constant, full, leaf, rebuild
from graphc.ir.dims import nominal
from graphc.ir.graph import substitute, toposort
from graphc.ir.ops import (
    accumulate,
    add,
    anchor,
    cast,
    divide,
    equal,
    iota,
    logical_or,
    multiply,
    negative,
    reshape,
    stop_gradient,
    subtract,
    sum_,
    transpose,
    where,
)
from graphc.ir.ops.layout import in_stack
from graphc.ir.types import TensorType
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
    stacks = iter(_for_unit_vectors(kept, seed))
    return [
        None if one is None else reshape(next(stacks), shape=(*y.shape, *node.shape))
        for one, node in zip(found, wrt, strict=True)
    ]


def _columns(y: Node, x: Node, names: Mapping[Node, str] | None) -> Node | None:
    """A Jacobian by forward mode: a tangent for each element of x."""
    direction = leaf(INPUT, x.type)
    (found,) = tangent([y], [x], [direction], names)
    if found is None:
        return None
    (stack,) = _for_unit_vectors([found], direction)
    rank = len(x.shape)
    order = (*range(rank, rank + len(y.shape)), *range(rank))
    return transpose(reshape(stack, shape=(*x.shape, *y.shape)), axes=order)


def _for_unit_vectors(results: Sequence[Node], direction: Node) -> list[Node]:
    """Results that are linear in a direction, for all arrays that are 1 at one element and 0 elsewhere, in C order
    along a new leading axis. Where a direction is 0 so is what elementwise ops make of it, be a slope inf or nan."""
    type, size = direction.type, direction.type.size
    row, column = (iota(shape=(size, size), axis=axis, dtype=np.dtype("int64")) for axis in (0, 1))
    diagonal = equal(row, column)
    numbers = TensorType(type.dtype, diagonal.shape)
    units = reshape(where(diagonal, full(1, numbers), full(0, numbers)), shape=(size, *type.shape))
    support = {units: reshape(diagonal, shape=units.shape)}
    stacks = [
        in_stack(result, size) if stack is None else stack
        for result, stack in zip(results, batch(results, {direction: units}, size), strict=True)
    ]
    new: dict[Node, Node] = {}
    for node in toposort(stacks):
        operands = tuple(new[operand] for operand in node.operands)
        new[node] = moved = node if node in support else rebuild(node, operands)
        given = [support.get(operand) for operand in node.operands]
        if node in support or (mask := _support(node, given)) is None:
            continue
        support[node] = mask
        if node.op in (multiply, divide):
            new[node] = where(mask, moved, full(0, moved.type))
    return [new[stack] for stack in stacks]


def _support(node: Node, given: Sequence[Node | None]) -> Node | None:
    """Where the result of a linear op may differ from 0, from where its operands may; None where that is not known."""
    known = [mask for mask in given if mask is not None]
    if not known:
        return None
    if node.op is divide:
        return given[0] if given[1] is None else None
    if node.op is multiply:
        return known[0] if len(known) == 1 else None
    if len(known) < len(given):
        return None
    if node.op in (add, subtract):
        return logical_or(*known)
    if node.op in (negative, cast):
        return known[0]
    if node.op is sum_:
        return accumulate(known[0], node["axes"])
    derivative = node.op.derivative
    moves = isinstance(derivative, Linear) and derivative.operands is None and "b" in node.op.accepts
    return node.op(*known, **dict(node.attrs)) if moves else None  # a mask moves as the elements do


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
