"""Ops with a rule of their own that expand into simpler ones before lowering: softmax and its kin, and the norm.

They are ops because their derivatives, and their stable forms, are known as a whole and lost in the pieces.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.core import FLOAT, Node, Op, full
from graphc.ir.ops.checks import check_axis, check_dtype
from graphc.ir.ops.comparison import isfinite, where, where_zero
from graphc.ir.ops.conversion import rules_in_single, stop_gradient
from graphc.ir.ops.elementwise import exp, log, sqrt, square
from graphc.ir.ops.layout import reduction_infer, restore, sum_
from graphc.ir.ops.reductions import check_not_empty, max_, not_empty_guards
from graphc.ir.types import TensorType


def _total(x: Node, axes: tuple[int, ...], shape: Any) -> Node:
    """The sum along axes, spread over the shape again."""
    return restore(sum_(x, axes=axes), axes, shape)


def _peak(x: Node, axes: tuple[int, ...]) -> Node:
    """The maximum where it is finite, else 0: what to subtract so that exp neither overflows nor meets inf - inf."""
    highest = max_(x, axes=axes)
    return where(isfinite(highest), highest, full(0, highest.type))


def wide(x: np.ndarray) -> np.ndarray:
    """An array in float64: the reference has no rounding to speak of."""
    return x.astype(np.float64)


def _peak_of(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    highest = np.max(x, axis=axes, keepdims=True)
    return np.where(np.isfinite(highest), highest, 0)


# softmax and log_softmax ----------------------------------------------------------------------------------------------


def _along_axis_infer(name: str) -> Any:
    def infer(x: TensorType, *, axis: int) -> TensorType:
        check_dtype(name, x, FLOAT)
        check_axis(name, axis, x.ndim)
        check_not_empty(name, x.shape, (axis,))
        return x

    return infer


def _softmax_evaluate(x: np.ndarray, axis: int) -> Any:
    weights = np.exp(wide(x) - _peak_of(x, (axis,)))
    return (weights / np.sum(weights, axis=axis, keepdims=True)).astype(x.dtype)


def _softmax_expand(node: Node) -> Node:
    x, axes = node.operands[0], (node["axis"],)
    weights = exp(x - restore(_peak(x, axes), axes, x.shape))
    return weights / _total(weights, axes, x.shape)


def _softmax_product(node: Node, direction: Node) -> Node:
    """The Jacobian, which is symmetric, times a direction: y (d - <y, d>)."""
    return node * (direction - _total(node * direction, (node["axis"],), node.shape))


softmax = Op(
    name="softmax",
    accepts=FLOAT,
    infer=_along_axis_infer("softmax"),
    evaluate=_softmax_evaluate,
    derivative=rules_in_single(
        jvp=lambda node, tangents: _softmax_product(node, tangents[0]),
        vjp=lambda node, ct: (_softmax_product(node, ct),),
    ),
    expand=_softmax_expand,
    guards=not_empty_guards,
    numpy=("softmax",),
    note="shifted by the maximum; nan where every element is -inf",
)


def _log_softmax_evaluate(x: np.ndarray, axis: int) -> Any:
    shifted = wide(x) - _peak_of(x, (axis,))
    return (shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))).astype(x.dtype)


def _log_softmax_expand(node: Node) -> Node:
    x, axes = node.operands[0], (node["axis"],)
    shifted = x - restore(_peak(x, axes), axes, x.shape)
    return shifted - restore(log(sum_(exp(shifted), axes=axes)), axes, x.shape)


log_softmax = Op(
    name="log_softmax",
    accepts=FLOAT,
    infer=_along_axis_infer("log_softmax"),
    evaluate=_log_softmax_evaluate,
    derivative=rules_in_single(
        jvp=lambda node, tangents: tangents[0] - _total(exp(node) * tangents[0], (node["axis"],), node.shape),
        vjp=lambda node, ct: (ct - exp(node) * _total(ct, (node["axis"],), node.shape),),
    ),
    expand=_log_softmax_expand,
    guards=not_empty_guards,
    numpy=("log_softmax",),
    note="shifted by the maximum; nan where every element is -inf",
)


# logsumexp ------------------------------------------------------------------------------------------------------------


def _logsumexp_infer(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    result: TensorType = reduction_infer("logsumexp", FLOAT)(x, axes=axes)
    check_not_empty("logsumexp", x.shape, axes)
    return result


def _logsumexp_evaluate(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    peak = _peak_of(x, axes)
    total = np.log(np.sum(np.exp(wide(x) - peak), axis=axes))
    return (total + peak.reshape(total.shape)).astype(x.dtype)


def _logsumexp_expand(node: Node) -> Node:
    x, axes = node.operands[0], node["axes"]
    peak = _peak(x, axes)
    return log(sum_(exp(x - restore(peak, axes, x.shape)), axes=axes)) + peak


def _softmax_parts(node: Node) -> tuple[Node, Node]:
    """The softmax as numerator and sum, shifted as in the expansion; exp(x - y) would round y away for large x.

    No gradient of theirs flows through the shift, which cancels. The sum is 0 only where every element is -inf.
    """
    x, axes = node.operands[0], node["axes"]
    weights = exp(x - restore(stop_gradient(_peak(x, axes)), axes, x.shape))
    return weights, sum_(weights, axes=axes)


def _logsumexp_jvp(node: Node, tangents: tuple[Node]) -> Node:
    weights, total = _softmax_parts(node)
    return where_zero(total, sum_(weights * tangents[0], axes=node["axes"]) / total)


def _logsumexp_vjp(node: Node, ct: Node) -> tuple[Node]:
    weights, total = _softmax_parts(node)
    return (weights * restore(where_zero(total, ct / total), node["axes"], weights.shape),)


logsumexp = Op(
    name="logsumexp",
    accepts=FLOAT,
    infer=_logsumexp_infer,
    evaluate=_logsumexp_evaluate,
    derivative=rules_in_single(_logsumexp_jvp, _logsumexp_vjp),
    expand=_logsumexp_expand,
    guards=not_empty_guards,
    numpy=("logsumexp",),
    note="shifted by the maximum; -inf, with gradient 0, where every element is -inf",
)


# norm -----------------------------------------------------------------------------------------------------------------


def _norm_jvp(node: Node, tangents: tuple[Node]) -> Node:
    return where_zero(node, sum_(node.operands[0] * tangents[0], axes=node["axes"]) / node)


def _norm_vjp(node: Node, ct: Node) -> tuple[Node]:
    x = node.operands[0]
    return (x * restore(where_zero(node, ct / node), node["axes"], x.shape),)


norm = Op(
    name="norm",
    accepts=FLOAT,
    infer=reduction_infer("norm", FLOAT),
    evaluate=lambda x, axes: np.sqrt(np.sum(np.square(wide(x)), axis=axes)).astype(x.dtype),
    derivative=rules_in_single(_norm_jvp, _norm_vjp),
    expand=lambda node: sqrt(sum_(square(node.operands[0]), axes=node["axes"])),
    numpy=("norm", "linalg.norm"),
    note="gradient 0 at 0",
)
