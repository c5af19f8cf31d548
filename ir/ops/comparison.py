"""Ops on truth and bits: comparisons, logic, bitwise arithmetic, and the selection by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.core import (
    ANY,
    BITS,
    INTEGER,
    NUMBER,
    Custom,
    Discrete,
    Node,
    Op,
    elementwise,
    full,
    same_type,
    spread,
)  # fmt: skip
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.types import TensorType

equal = elementwise("equal", np.equal, "{0} == {1}", Discrete(), accepts=ANY, result="bool")
not_equal = elementwise("not_equal", np.not_equal, "{0} != {1}", Discrete(), accepts=ANY, result="bool")
less = elementwise("less", np.less, "{0} < {1}", Discrete(), accepts=NUMBER, result="bool")
less_equal = elementwise("less_equal", np.less_equal, "{0} <= {1}", Discrete(), accepts=NUMBER, result="bool")
greater = elementwise("greater", np.greater, "{0} > {1}", Discrete(), accepts=NUMBER, result="bool")
greater_equal = elementwise("greater_equal", np.greater_equal, "{0} >= {1}", Discrete(), accepts=NUMBER, result="bool")

isnan = elementwise("isnan", np.isnan, "{0} != {0}", Discrete(), result="bool")
isinf = elementwise("isinf", np.isinf, "isinf({0})", Discrete(), result="bool")
isfinite = elementwise("isfinite", np.isfinite, "isfinite({0})", Discrete(), result="bool")

# On booleans `&` is `and` without a branch. Numba's `~True` is an integer, hence `not`, and no `invert` of booleans.
logical_and = elementwise("logical_and", np.logical_and, "{0} & {1}", Discrete(), accepts="b")
logical_or = elementwise("logical_or", np.logical_or, "{0} | {1}", Discrete(), accepts="b")
logical_xor = elementwise("logical_xor", np.logical_xor, "{0} ^ {1}", Discrete(), accepts="b")
logical_not = elementwise("logical_not", np.logical_not, "not {0}", Discrete(), accepts="b")

bitwise_and = elementwise("bitwise_and", np.bitwise_and, "{0} & {1}", Discrete(), accepts=BITS)
bitwise_or = elementwise("bitwise_or", np.bitwise_or, "{0} | {1}", Discrete(), accepts=BITS)
bitwise_xor = elementwise("bitwise_xor", np.bitwise_xor, "{0} ^ {1}", Discrete(), accepts=BITS)
invert = elementwise("invert", np.invert, "~{0}", Discrete(), accepts=INTEGER, numpy=("invert", "bitwise_not"))
left_shift = elementwise(
    "left_shift", np.left_shift, "left_shift({0}, {1})", Discrete(), accepts=INTEGER, domain=(0, 6),
    note="0 where the shift is negative or at least the number of bits",
)  # fmt: skip
right_shift = elementwise(
    "right_shift", np.right_shift, "right_shift({0}, {1})", Discrete(), accepts=INTEGER, domain=(0, 6),
    note="0 (-1 below zero) where the shift is negative or at least the number of bits",
)  # fmt: skip

bitwise_count = elementwise(
    "bitwise_count", np.bitwise_count, "bitwise_count({0})", Discrete(), accepts=INTEGER, result="uint8",
    note="of the absolute value",
)  # fmt: skip


def _where_infer(condition: TensorType, yes: TensorType, no: TensorType) -> TensorType:
    same_type("where", (yes, no))
    if condition.dtype.kind != "b":
        raise DeclarationTypeError(f"where wants a bool condition, got {condition}", hint="compare it: x != 0")
    if condition.shape != yes.shape:
        raise DeclarationValueError(f"where wants a condition of its operands' shape, got {condition} and {yes}")
    return yes


def _where_jvp(node: Node, tangents: tuple[Node | None, ...]) -> Node:
    yes, no = (full(0, node.type) if tangent is None else tangent for tangent in tangents[1:])
    return where(node.operands[0], yes, no)


def _where_vjp(node: Node, ct: Node) -> tuple[Node | None, ...]:
    condition = node.operands[0]
    return None, where(condition, ct, full(0, ct.type)), where(condition, full(0, ct.type), ct)


where = Op(
    name="where", infer=_where_infer, evaluate=np.where, scalar="{1} if {0} else {2}",
    derivative=Custom(_where_jvp, _where_vjp), numpy=("where",),
    note="what is not selected does not reach the gradient, be it inf or nan",
)  # fmt: skip


def where_zero(value: Node, otherwise: Any) -> Node:
    """0 where `value` is 0, and `otherwise` where it is not: how rules fill a removable singularity."""
    return where(equal(value, spread(0, value)), full(0, value.type), spread(otherwise, value))
