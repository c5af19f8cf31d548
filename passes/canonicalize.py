"""The canonical form: rewrites that keep every bit of every value, NaN, infinities and the sign of zero included.

So ``x - x``, ``x / x``, ``x * 0`` and ``x + 0.0`` stay (the last changes -0.0); ``x * 1``, ``x + -0.0`` and ``x - 0.0``
go. Constants stand on the right of what commutes, and no rule changes a derivative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.core import Literal, Node, full, rebuild, scalar_value
from graphc.ir.dims import Dim, product
from graphc.ir.errors import GraphcError
from graphc.ir.graph import Graph
from graphc.ir.half import evaluate, finfo
from graphc.ir.ops import (
    absolute,
    add,
    anchor,
    broadcast_to,
    cast,
    constant,
    iota,
    logical_not,
    matmul,
    multiply,
    negative,
    reshape,
    slice_,
    square,
    subtract,
    sum_,
    transpose,
    where,
    wrap_index,
)
from graphc.ir.types import is_static, kind_of
from graphc.passes.rewrite import Rule, Rules, rewrite

# Constants of at most so many elements are computed; larger ones are cheaper to compute than to carry.
FOLDED_SIZE = 64


@dataclass(frozen=True)
class Canonicalize:
    """Bring the graph to canonical form."""

    name: str = "canonicalize"

    def run(self, graph: Graph) -> Graph:
        """An equal graph, bit by bit."""
        return rewrite(graph, CANONICAL)


def is_constant(node: Node, number: float) -> bool:
    """Whether a node holds this number everywhere, with this sign where it is zero."""
    value = scalar_value(node)
    return value is not None and bool(value == number) and math.copysign(1, value) == math.copysign(1, number)


# constants ------------------------------------------------------------------------------------------------------------


def fold_constants(node: Node) -> Node | None:
    """An op of constants alone is a constant."""
    if not node.operands or any(operand.op is not constant for operand in node.operands) or node.op is anchor:
        return None
    if any(isinstance(value, Dim) for _, value in node.attrs):  # an index along a symbolic axis
        return None
    pointwise = node.op.is_elementwise or node.op is cast
    if pointwise and all(scalar_value(operand) is not None for operand in node.operands):
        arrays = [operand["value"].array for operand in node.operands]
    elif _is_small(node) and all(_is_small(operand) for operand in node.operands):
        arrays = [constant.evaluate(**dict(operand.attrs)) for operand in node.operands]
    else:
        return None
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(evaluate(node.op, arrays, dict(node.attrs)), node.dtype)
    except GraphcError:  # an index out of range: the call says so
        return None
    return constant(value=Literal(_narrowed(value)), shape=node.shape)


def _is_small(node: Node) -> bool:
    size = product(node.shape)
    return is_static(node.shape) and isinstance(size, int) and 0 < size <= FOLDED_SIZE


def _narrowed(value: np.ndarray) -> np.ndarray:
    """The one element, where all have its bits."""
    first = value.ravel()[:1]
    return first.reshape(()) if value.tobytes() == first.tobytes() * value.size else value


def spread_constant(node: Node) -> Node | None:
    """A layout op of one number spread over a shape is that number spread over another shape."""
    value = scalar_value(node.operands[0])
    return None if value is None else full(value, node.type)


# arithmetic -----------------------------------------------------------------------------------------------------------


def constant_right(node: Node) -> Node | None:
    """c + x is x + c."""
    a, b = node.operands
    return node.op(b, a) if a.op is constant and b.op is not constant else None


def add_nothing(node: Node) -> Node | None:
    """x + -0.0 is x (0 for integers)."""
    a, b = node.operands
    return a if is_constant(b, -0.0 if node.type.is_float else 0) else None


def add_negative(node: Node) -> Node | None:
    """a + -b is a - b, and -a + b is b - a."""
    a, b = node.operands
    if b.op is negative:
        return subtract(a, b.operands[0])
    return subtract(b, a.operands[0]) if a.op is negative else None


def subtract_nothing(node: Node) -> Node | None:
    """x - 0 is x, and -0.0 - x is -x."""
    a, b = node.operands
    if is_constant(b, 0):
        return a
    return negative(b) if is_constant(a, -0.0 if node.type.is_float else 0) else None


def subtract_negative(node: Node) -> Node | None:
    """a - -b is a + b."""
    a, b = node.operands
    return add(a, b.operands[0]) if b.op is negative else None


def multiply_by_unit(node: Node) -> Node | None:
    """x * 1 is x, and x * -1 is -x."""
    a, b = node.operands
    if is_constant(b, 1):
        return a
    return negative(a) if node.dtype.kind != "u" and is_constant(b, -1) else None


def multiply_negatives(node: Node) -> Node | None:
    """-a * -b is a * b, and -a * c is a * -c."""
    a, b = node.operands
    if a.op is negative and b.op is negative:
        return multiply(a.operands[0], b.operands[0])
    return multiply(a.operands[0], negative(b)) if a.op is negative and b.op is constant else None


def divide_by_power_of_two(node: Node) -> Node | None:
    """x / c is x * (1 / c) where 1 / c is exact."""
    a, b = node.operands
    value = scalar_value(b)
    if value is None or value == 0 or not np.isfinite(value) or abs(math.frexp(value)[0]) != 0.5:
        return None
    inverse = node.dtype.type(1) / value
    smallest = finfo(node.dtype).smallest_normal
    return multiply(a, full(inverse, node.type)) if np.isfinite(inverse) and abs(inverse) >= smallest else None


def negative_of(node: Node) -> Node | None:
    """--x is x, and -(x * c) is x * -c."""
    x, = node.operands
    if x.op is negative:
        return x.operands[0]
    if x.op is multiply and x.operands[1].op is constant:
        return multiply(x.operands[0], negative(x.operands[1]))
    return None


def even(node: Node) -> Node | None:
    """An even function of -x or |x| is that of x."""
    x, = node.operands
    return node.op(x.operands[0]) if x.op in (negative, absolute) else None


def small_power(node: Node) -> Node | None:
    """x**1 is x, x**2 is square(x), and x**0 is 1, of NaN too."""
    x, = node.operands
    match node["n"]:
        case 0:
            return full(1, node.type)
        case 1:
            return x
        case 2:
            return square(x)
    return None


# choices --------------------------------------------------------------------------------------------------------------


def same_operands(node: Node) -> Node | None:
    """maximum(x, x), x and x, ... are x."""
    a, b = node.operands
    return a if a is b else None


def where_known(node: Node) -> Node | None:
    """A choice with a constant condition, or between equals."""
    condition, yes, no = node.operands
    value = scalar_value(condition)
    if value is not None:
        return yes if value else no
    return yes if yes is no else None


def where_not(node: Node) -> Node | None:
    """where(not c, a, b) is where(c, b, a)."""
    condition, yes, no = node.operands
    return where(condition.operands[0], no, yes) if condition.op is logical_not else None


def where_within(node: Node) -> Node | None:
    """Inside where(c, ...) a choice by c is decided."""
    condition, yes, no = node.operands
    if yes.op is where and yes.operands[0] is condition:
        return where(condition, yes.operands[1], no)
    if no.op is where and no.operands[0] is condition:
        return where(condition, yes, no.operands[2])
    return None


def double(node: Node) -> Node | None:
    """An op that undoes itself."""
    x, = node.operands
    return x.operands[0] if x.op is node.op else None


def idempotent(node: Node) -> Node | None:
    """An op that changes nothing the second time."""
    x, = node.operands
    return x if x.op is node.op and x.attrs == node.attrs else None


def neutral(which: bool) -> Rule:
    """The rule that drops a constant operand that decides nothing, and keeps one that decides all."""

    def neutral_operand(node: Node) -> Node | None:
        a, b = node.operands
        value = scalar_value(b)
        return None if value is None else (a if bool(value) is which else b)

    return neutral_operand


# casts ----------------------------------------------------------------------------------------------------------------


def cast_to_same(node: Node) -> Node | None:
    """A cast to the same dtype is nothing."""
    x, = node.operands
    return x if x.dtype == node.dtype else None


def cast_of_cast(node: Node) -> Node | None:
    """A detour over a dtype that holds every value of the first."""
    inner, = node.operands
    if inner.op is not cast or not holds(inner.operands[0].dtype, inner.dtype):
        return None
    # From float to integer what does not fit is undefined; between integers it wraps.
    if inner.type.is_float and node.dtype.kind in "iu" and not holds(inner.operands[0].dtype, node.dtype):
        return None
    return cast(inner.operands[0], dtype=node.dtype)


def holds(narrow: np.dtype, wide: np.dtype) -> bool:
    """Whether every value of one dtype is one of the other. (NumPy's "safe" lets int64 into float64.)"""
    if narrow.kind in "iu" and kind_of(wide) == "f":
        return bool(narrow.itemsize * 8 - (narrow.kind == "i") <= finfo(wide).nmant + 1)
    return np.can_cast(narrow, wide, "safe")


# layout ---------------------------------------------------------------------------------------------------------------


def same_type(node: Node) -> Node | None:
    """A reshape or broadcast to the same shape is nothing."""
    x, = node.operands
    return x if x.type == node.type else None


def last_shape(node: Node) -> Node | None:
    """Of two reshapes, or two broadcasts, the last one counts."""
    x, = node.operands
    return rebuild(node, x.operands) if x.op is node.op else None


def broadcast_of_reshape(node: Node) -> Node | None:
    """A broadcast adds leading axes of extent 1 by itself."""
    x, = node.operands
    if x.op is not reshape:
        return None
    source = x.operands[0]
    added = len(x.shape) - len(source.shape)
    leading = added > 0 and x.shape == (1,) * added + source.shape
    return broadcast_to(source, shape=node.shape) if leading else None


def transpose_of(node: Node) -> Node | None:
    """No permutation, or one of another."""
    x, = node.operands
    axes = node["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if x.op is transpose:
        return transpose(x.operands[0], axes=tuple(x["axes"][axis] for axis in axes))
    return None


def whole_window(node: Node) -> Node | None:
    """A slice or pad of everything is nothing."""
    x, = node.operands
    whole = x.shape == node.shape and all(is_zero(first) for first in node["start"])
    return x if whole and all(step == 1 for step in node["step"]) else None


def is_zero(extent: Any) -> bool:
    """Whether an extent is the int 0."""
    return not isinstance(extent, Dim) and bool(extent == 0)


def slice_of_slice(node: Node) -> Node | None:
    """A slice of a slice is one slice."""
    inner, = node.operands
    if inner.op is not slice_:
        return None
    axes = list(zip(inner["start"], inner["step"], node["start"], node["step"], strict=True))
    start = tuple(first + offset * stride for first, stride, offset, _ in axes)
    step = tuple(stride * again for _, stride, _, again in axes)
    return slice_(inner.operands[0], start=start, size=node["size"], step=step)


def concatenate_one(node: Node) -> Node | None:
    """Of one array, nothing."""
    return node.operands[0] if len(node.operands) == 1 else None


def no_axes(node: Node) -> Node | None:
    """A reduction over no axes is nothing; but a sum of floats adds 0.0, which changes -0.0."""
    exact = node.op is not sum_ or not node.type.is_float
    return node.operands[0] if node["axes"] == () and exact else None


def reduce_twice(node: Node) -> Node | None:
    """A reduction of a reduction, where the order does not matter: not of floats, nor of max, which counts its ties."""
    inner, = node.operands
    if inner.op is not node.op or node.type.is_float:
        return None
    source = inner.operands[0]
    left = [axis for axis in range(len(source.shape)) if axis not in inner["axes"]]
    axes = tuple(sorted((*inner["axes"], *(left[axis] for axis in node["axes"]))))
    return node.op(source, axes=axes)


def one_product_for_all(node: Node) -> Node | None:
    """A stack of products by one and the same matrix is one product, of all rows."""
    a, b = node.operands
    if b.op is not broadcast_to or a.op is transpose:  # (a transposed operand costs nothing until it is reshaped)
        return None
    (matrix,) = b.operands
    if matrix.shape != b.shape[-2:]:
        return None
    rows = reshape(a, shape=(product(a.shape[:-1]), a.shape[-1]))
    return reshape(matmul(rows, matrix), shape=node.shape)


def wrap_in_range(node: Node) -> Node | None:
    """A position that is known to be in range needs no wrapping."""
    k, = node.operands
    if k.op is wrap_index and k["extent"] == node["extent"]:
        return k
    if k.op is not iota or k.dtype != node.dtype:
        return None
    count, extent = k.shape[k["axis"]], node["extent"]
    fits = count == extent or (isinstance(count, int) and isinstance(extent, int) and count <= extent)
    return k if fits else None


CANONICAL: Rules = {
    "*": (fold_constants,),
    "add": (constant_right, add_nothing, add_negative),
    "subtract": (subtract_nothing, subtract_negative),
    "multiply": (constant_right, multiply_by_unit, multiply_negatives),
    "divide": (divide_by_power_of_two,),
    "negative": (negative_of,),
    "absolute": (idempotent, even),
    "square": (even,),
    "cos": (even,),
    "cosh": (even,),
    "integer_power": (small_power,),
    "maximum": (same_operands,),  # not constant_right: which zero NumPy returns depends on the order
    "minimum": (same_operands,),
    "logical_and": (constant_right, same_operands, neutral(True)),
    "logical_or": (constant_right, same_operands, neutral(False)),
    "logical_not": (double,),
    "where": (where_known, where_not, where_within),
    "cast": (cast_to_same, cast_of_cast),
    "stop_gradient": (idempotent,),
    "broadcast_to": (spread_constant, same_type, last_shape, broadcast_of_reshape),
    "reshape": (spread_constant, same_type, last_shape),
    "transpose": (spread_constant, transpose_of),
    "slice": (spread_constant, whole_window, slice_of_slice),
    "pad": (whole_window,),
    "concatenate": (concatenate_one,),
    "sum": (no_axes, reduce_twice),
    "max": (no_axes,),
    "min": (no_axes,),
    "any": (no_axes, reduce_twice),
    "all": (no_axes, reduce_twice),
    "matmul": (one_product_for_all,),
    "wrap_index": (wrap_in_range,),
}
