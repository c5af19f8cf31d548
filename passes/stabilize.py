"""Stable forms: finds logsumexp, softmax, log1p and their kin where users wrote them out.

These rules are equalities of real numbers, not of bits: they return what the written-out form would without overflow,
cancellation or a logarithm of zero. They run before differentiation, so that the stable form is what is differentiated,
and look through the broadcasts and reshapes that the builder inserts. The canonical form is kept: constants stand on
the right, ``a + -b`` is ``a - b``.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.core import Node, Op, add, multiply, negative, rebuild, subtract
from graphc.ir.graph import Graph
from graphc.ir.ops import (
    broadcast_to,
    constant,
    exp,
    expm1,
    gather,
    log,
    log1p,
    log_sigmoid,
    log_softmax,
    logaddexp,
    logsumexp,
    max_,
    reshape,
    sigmoid,
    slice_,
    softmax,
    softplus,
    stop_gradient,
    sum_,
    tanh,
    transpose,
)
from graphc.ir.types import Shape
from graphc.passes.canonicalize import CANONICAL, is_constant
from graphc.passes.rewrite import Rules, merge, rewrite


@dataclass(frozen=True)
class Stabilize:
    """Replace written-out formulas by ops that are stable at both ends."""

    name: str = "stabilize"

    def run(self, graph: Graph) -> Graph:
        """A graph of the same real numbers."""
        return rewrite(graph, STABLE)


# what the rules look for ----------------------------------------------------------------------------------------------


def argument(node: Node, op: Op) -> Node | None:
    """x where the node is op(x)."""
    return node.operands[0] if node.op is op else None


def plus_one(node: Node) -> Node | None:
    """x where the node is 1 + x."""
    return node.operands[0] if node.op is add and is_constant(node.operands[1], 1) else None


def one_minus(node: Node) -> Node | None:
    """x where the node is 1 - x."""
    return node.operands[1] if node.op is subtract and is_constant(node.operands[0], 1) else None


def reduced(node: Node, axes: tuple[int, ...]) -> Node | None:
    """The value without `axes` that the node spreads along them, by broadcasts and reshapes; None if it does not."""
    source = node.operands[0] if node.op is broadcast_to else node
    added = len(node.shape) - len(source.shape)
    aligned: Shape = (*(1,) * added, *source.shape)
    kept: Shape = tuple(extent for axis, extent in enumerate(node.shape) if axis not in axes)
    same = all(aligned[axis] == (1 if axis in axes else extent) for axis, extent in enumerate(node.shape))
    if not same:
        return None
    if source.op is reshape and source.operands[0].shape == kept:
        return source.operands[0]
    return source if source.shape == kept else None


def unshifted(x: Node, axes: tuple[int, ...]) -> Node | None:
    """z where x is z - max(z, axes), the user's own protection against overflow."""
    if x.op is not subtract:
        return None
    z, shift = x.operands
    return z if is_peak(reduced(shift, axes), z, axes) else None


def is_peak(node: Node | None, z: Node, axes: tuple[int, ...]) -> bool:
    """Whether a node is max(z, axes), its gradient stopped or not."""
    peak = node and (argument(node, stop_gradient) or node)
    return peak is not None and peak.op is max_ and peak.operands[0] is z and set(peak["axes"]) == set(axes)


# softmax and logsumexp ------------------------------------------------------------------------------------------------


def softmax_of_quotient(node: Node) -> Node | None:
    """exp(x) / sum(exp(x)) is softmax(x)."""
    weights, total = node.operands
    if weights.op is not exp:
        return None
    for axis in range(len(node.shape)):
        value = reduced(total, (axis,))
        if value is not None and value.op is sum_ and value.operands[0] is weights and value["axes"] == (axis,):
            return softmax(weights.operands[0], axis=axis)
    return None


def shifted_softmax(node: Node) -> Node | None:
    """softmax(x - max(x)) is softmax(x), and so is log_softmax."""
    x = unshifted(node.operands[0], (node["axis"],))
    return x and node.op(x, axis=node["axis"])


def log_of_sum(node: Node) -> Node | None:
    """log(sum(exp(x))) is logsumexp(x)."""
    total, = node.operands
    weights = argument(total, sum_)
    x = weights and argument(weights, exp)
    return x and logsumexp(x, axes=total["axes"])


def shifted_logsumexp(node: Node) -> Node | None:
    """logsumexp(x - max(x)) + max(x) is logsumexp(x), with or without the axes kept."""
    for term, shift in (node.operands, node.operands[::-1]):
        inner = argument(term, reshape) or term
        if inner.op is logsumexp and (z := unshifted(inner.operands[0], inner["axes"])) is not None:
            peak = argument(shift, reshape) if inner is not term else shift
            if is_peak(peak, z, inner["axes"]):
                whole = logsumexp(z, axes=inner["axes"])
                return whole if inner is term else reshape(whole, shape=node.shape)
    return None


def log_softmax_of_difference(node: Node) -> Node | None:
    """x - logsumexp(x) is log_softmax(x)."""
    x, total = node.operands
    for axis in range(len(node.shape)):
        value = reduced(total, (axis,))
        if value is not None and value.op is logsumexp and value.operands[0] is x and value["axes"] == (axis,):
            return log_softmax(x, axis=axis)
    return None


def log_of_softmax(node: Node) -> Node | None:
    """log(softmax(x)) is log_softmax(x)."""
    y, = node.operands
    return log_softmax(y.operands[0], axis=y["axis"]) if y.op is softmax else None


def log_of_layout(node: Node) -> Node | None:
    """The logarithm of elements of a softmax (sigmoid, sum of exponentials) are elements of its logarithm."""
    source, = node.operands
    while source.op in (reshape, transpose, gather, slice_, broadcast_to):
        source = source.operands[0]
    known = source.op in (softmax, sigmoid, exp) or (source.op is sum_ and source.operands[0].op is exp)
    if source is node.operands[0] or not known:
        return None
    layout = node.operands[0]
    return rebuild(layout, (log(layout.operands[0]), *layout.operands[1:]))


# exponentials and sigmoids --------------------------------------------------------------------------------------------


def log_of_exp(node: Node) -> Node | None:
    """log(exp(x)) is x."""
    return argument(node.operands[0], exp)


def log_of_one_plus(node: Node) -> Node | None:
    """log(1 + x) is log1p(x), and log(1 - x) is log1p(-x)."""
    if (x := plus_one(node.operands[0])) is not None:
        return log1p(x)
    return log1p(negative(x)) if (x := one_minus(node.operands[0])) is not None else None


def log_of_sum_of_exps(node: Node) -> Node | None:
    """log(exp(a) + exp(b)) is logaddexp(a, b)."""
    total, = node.operands
    if total.op is not add or any(operand.op is not exp for operand in total.operands):
        return None
    return logaddexp(*(operand.operands[0] for operand in total.operands))


def log1p_of_exp(node: Node) -> Node | None:
    """log1p(exp(x)) is softplus(x)."""
    x = argument(node.operands[0], exp)
    return x and softplus(x)


def log_of_sigmoid(node: Node) -> Node | None:
    """log(sigmoid(x)) is log_sigmoid(x)."""
    x = argument(node.operands[0], sigmoid)
    return x and log_sigmoid(x)


def log1p_of_minus_sigmoid(node: Node) -> Node | None:
    """log1p(-sigmoid(x)) is log_sigmoid(-x)."""
    y = argument(node.operands[0], negative)
    x = y and argument(y, sigmoid)
    return x and log_sigmoid(negative(x))


def exp_minus_one(node: Node) -> Node | None:
    """exp(x) - 1, also written exp(x) + -1, is expm1(x)."""
    a, b = node.operands
    return expm1(a.operands[0]) if a.op is exp and is_constant(b, 1 if node.op is subtract else -1) else None


def sigmoid_of_quotient(node: Node) -> Node | None:
    """1 / (1 + exp(-x)) and exp(x) / (1 + exp(x)) are sigmoid(x)."""
    top, bottom = node.operands
    weight = plus_one(bottom)
    if weight is None or weight.op is not exp:
        return None
    if is_constant(top, 1):
        return sigmoid(negative(weight.operands[0]))
    return sigmoid(weight.operands[0]) if top is weight else None


def sigmoid_of_reciprocal(node: Node) -> Node | None:
    """reciprocal(1 + exp(-x)) is sigmoid(x)."""
    weight = plus_one(node.operands[0])
    x = weight and argument(weight, exp)
    return x and sigmoid(negative(x))


def one_minus_sigmoid(node: Node) -> Node | None:
    """1 - sigmoid(x) is sigmoid(-x)."""
    y = one_minus(node)
    x = y and argument(y, sigmoid)
    return x and sigmoid(negative(x))


def tanh_of_quotient(node: Node) -> Node | None:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)) is tanh(x)."""
    top, bottom = node.operands
    if top.op is not subtract or bottom.op is not add or set(top.operands) != set(bottom.operands):
        return None
    x, y = (argument(operand, exp) for operand in top.operands)
    return tanh(x) if x is not None and y is not None and negates(x, y) else None


def negates(x: Node, y: Node) -> bool:
    """Whether y is -x, in canonical form: also where both are multiples of one value."""
    if argument(y, negative) is x or argument(x, negative) is y:
        return True
    if x.op is not multiply or y.op is not multiply or x.operands[0] is not y.operands[0]:
        return False
    a, b = x.operands[1], y.operands[1]
    return a.op is constant and b.op is constant and bool((a["value"].array == -b["value"].array).all())


STABLE: Rules = merge(
    {
        "add": (shifted_logsumexp, exp_minus_one),
        "subtract": (log_softmax_of_difference, exp_minus_one, one_minus_sigmoid),
        "divide": (softmax_of_quotient, sigmoid_of_quotient, tanh_of_quotient),
        "reciprocal": (sigmoid_of_reciprocal,),
        "softmax": (shifted_softmax,),
        "log_softmax": (shifted_softmax,),
        "log": (
            log_of_sum,
            log_of_softmax,
            log_of_sigmoid,
            log_of_exp,
            log_of_one_plus,
            log_of_sum_of_exps,
            log_of_layout,
        ),
        "log1p": (log1p_of_exp, log1p_of_minus_sigmoid),
    },
    CANONICAL,
)
