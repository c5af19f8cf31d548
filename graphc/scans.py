"""NumPy's functions along an axis in order: running sums, products and extrema, and differences of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.arithmetic import add, divide, multiply, subtract, truth, where
from graphc.indexing import along, getitem
from graphc.ir import ops
from graphc.ir.core import Node, Op, full
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.types import TensorType
from graphc.layout import concatenate, ravel, reshape
from graphc.operands import (
    BOOL,
    INDEX,
    Operand,
    as_axis,
    as_float,
    as_node,
    broadcast,
    cast,
    dtype_of,
    shape_text,
    told,
    unify,
)
from graphc.reductions import sum, widened

# running values -------------------------------------------------------------------------------------------------------


def _running(op: Op) -> Callable[..., Node]:
    def run(a: Operand, axis: int | None = None, dtype: Any = None) -> Node:
        x = widened(a, dtype)
        x, axis = (ravel(x), 0) if axis is None else (x, axis)
        return _numbers(op)(x, axis=as_axis(axis, len(x.shape)), reverse=False, exclusive=False)

    return run


def _numbers(op: Op) -> Callable[..., Node]:
    """The op, on numbers; of booleans (which must be asked for) sums are any, products all: in int8, then compared."""

    def apply(x: Node, **attrs: Any) -> Node:
        if x.dtype != BOOL:
            return op(x, **attrs)
        extremum = ops.cummax if op is ops.cumsum else ops.cummin
        whole = extremum(cast(x, np.dtype("int8")), axis=attrs["axis"], reverse=attrs["reverse"])
        return truth(whole)

    return apply


cumsum = _running(ops.cumsum)
cumprod = _running(ops.cumprod)


def _cumulative(name: str, run: Callable[..., Node], first: int) -> Callable[..., Node]:
    def cumulate(x: Operand, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Node:
        node = as_node(x)
        if axis is None and len(node.shape) != 1:
            raise DeclarationValueError(
                f"np.{name} of {node.type} wants an axis", hint="axis=None is for one axis: np.cumsum flattens"
            )
        axis = as_axis(0 if axis is None else axis, len(node.shape))
        found = run(node, axis, dtype)
        if not include_initial:
            return found
        shape = (*node.shape[:axis], 1, *node.shape[axis + 1 :])
        return concatenate([full(first, TensorType(found.dtype, shape)), found], axis)

    return cumulate


cumulative_sum = _cumulative("cumulative_sum", cumsum, 0)
cumulative_prod = _cumulative("cumulative_prod", cumprod, 1)


def add_accumulate(array: Operand, axis: int = 0, dtype: Any = None) -> Node:
    """``np.add.accumulate``: the running sum along an axis, the first one if none is given."""
    return cumsum(array, axis, dtype)


def multiply_accumulate(array: Operand, axis: int = 0, dtype: Any = None) -> Node:
    """``np.multiply.accumulate``: the running product along an axis, the first one if none is given."""
    return cumprod(array, axis, dtype)


def cummax(x: Operand, axis: int = 0, dtype: Any = None) -> Node:
    """The largest element so far along an axis; of equals the latest one has the gradient."""
    return _extremum(ops.cummax, x, axis, dtype)


def cummin(x: Operand, axis: int = 0, dtype: Any = None) -> Node:
    """The smallest element so far along an axis; of equals the latest one has the gradient."""
    return _extremum(ops.cummin, x, axis, dtype)


def _extremum(op: Op, x: Operand, axis: int, dtype: Any) -> Node:
    node = as_node(x)
    if dtype is not None:
        node = cast(node, dtype_of(dtype))
    axis = as_axis(axis, len(node.shape))
    if node.dtype == BOOL:
        return truth(op(cast(node, np.dtype("int8")), axis=axis, reverse=False))
    return op(node, axis=axis, reverse=False)


def logcumsumexp(x: Operand, axis: int = 0, dtype: Any = None) -> Node:
    """``log(cumsum(exp(x)))``, stable at both ends: sums are rescaled whenever there is a new maximum.

    The recurrence ``s[k] = exp(m[k - 1] - m[k]) s[k - 1] + exp(x[k] - m[k])`` of the sums over the running maximum m
    has factors of at most 1; no gradient flows through m, which cancels.
    """
    node = as_float(x) if dtype is None else as_float(cast(as_node(x), dtype_of(dtype)))
    axis = as_axis(axis, len(node.shape))
    highest = ops.cummax(ops.stop_gradient(node), axis=axis, reverse=False)
    peak = where(ops.isfinite(highest), highest, 0)
    factors = ops.exp(subtract(_shifted(highest, axis, -np.inf), peak))
    terms = ops.exp(subtract(node, peak))
    total = ops.recurrence(factors, terms, axis=axis, reverse=False, exclusive=False)
    positive = ops.not_equal(total, full(0, total.type))
    logarithm = ops.log(where(positive, total, 1))  # the slope of log at 0 stays out
    return where(positive, add(logarithm, peak), -np.inf)


def _shifted(x: Node, axis: int, first: float) -> Node:
    """Each element's predecessor along an axis; the first one's is given."""
    position = ops.iota(shape=x.shape, axis=axis, dtype=INDEX)
    before = along(x, ops.maximum(subtract(position, 1), full(0, position.type)), axis)
    return ops.where(ops.equal(position, full(0, position.type)), full(first, x.type), before)


def linear_recurrence(a: Operand, b: Operand, axis: int = 0, reverse: bool = False) -> Node:
    """``y[k] = a[k] * y[k - 1] + b[k]`` along an axis, from 0 on; from the end, if `reverse`."""
    factors, terms = (as_float(value) for value in (a, b))
    factors, terms = unify([factors, terms])
    axis = as_axis(axis, len(factors.shape))
    return ops.recurrence(factors, terms, axis=axis, reverse=reverse, exclusive=False)


# differences ----------------------------------------------------------------------------------------------------------


def part(x: Node, axis: int, start: Any = None, stop: Any = None) -> Node:
    """``x[start:stop]`` along an axis."""
    return getitem(x, (*(slice(None),) * axis, slice(start, stop)))


def diff(
    a: Operand, n: Any = 1, axis: int = -1, prepend: Operand = None, append: Operand = None
) -> Node:
    """The n-th differences of neighbours along an axis; of booleans whether they differ."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise DeclarationValueError(f"np.diff wants an order n of at least 0, got {told(n)}")
    x = as_node(a)
    if not x.shape:
        raise DeclarationValueError("np.diff of a scalar: it has no neighbours")
    axis = as_axis(axis, len(x.shape))
    if n == 0:
        return x
    ends = [_end(value, x, axis) for value in (prepend, append)]
    pieces = [piece for piece in (ends[0], x, ends[1]) if piece is not None]
    x = concatenate(pieces, axis) if len(pieces) > 1 else x
    for _ in range(n):
        right, left = part(x, axis, 1), part(x, axis, None, -1)
        x = ops.logical_xor(right, left) if x.dtype == BOOL else subtract(right, left)
    return x


def _end(value: Operand, x: Node, axis: int) -> Node | None:
    """What stands before or behind an axis: an array, or one number for all of it."""
    if value is None:
        return None
    node = as_node(value)
    return broadcast(node, (*x.shape[:axis], 1, *x.shape[axis + 1 :])) if not node.shape else node


def ediff1d(ary: Operand, to_end: Operand = None, to_begin: Operand = None) -> Node:
    """The differences of neighbours of the flattened array, between what is given to begin and to end with."""
    x = ravel(ary)
    differences = subtract(part(x, 0, 1), part(x, 0, None, -1))
    begin, end = (None if value is None else _fitting(ravel(value), x) for value in (to_begin, to_end))
    pieces = [piece for piece in (begin, differences, end) if piece is not None]
    return concatenate(pieces) if len(pieces) > 1 else differences


def _fitting(value: Node, x: Node) -> Node:
    if not np.can_cast(value.dtype, x.dtype, "same_kind"):
        raise DeclarationTypeError(f"np.ediff1d of {x.dtype} cannot begin or end with {value.dtype}", hint="cast it")
    return cast(value, x.dtype)


def trapezoid(y: Operand, x: Operand = None, dx: Operand = 1.0, axis: int = -1) -> Node:
    """The integral along an axis by the trapezoidal rule, over points x or at a distance dx."""
    values = as_node(y)
    axis = as_axis(axis, len(values.shape))
    distance = as_node(dx) if isinstance(dx, (np.ndarray, Node)) else dx
    if x is not None:
        points = as_node(x)
        along = diff(points) if len(points.shape) == 1 else diff(points, axis=axis)
        ones = (1,) * (len(values.shape) - axis - 1)
        distance = reshape(along, (*along.shape, *ones)) if len(points.shape) == 1 else along
    pairs = add(part(values, axis, 1), part(values, axis, None, -1))
    return sum(divide(multiply(distance, pairs), 2.0), axis)


def gradient(f: Operand, *varargs: Operand, axis: Any = None, edge_order: int = 1) -> Node | tuple[Node, ...]:
    """Central differences inside, one-sided ones of an order at both ends, of points at equal distances."""
    if as_node(f).dtype == BOOL:
        raise DeclarationTypeError("np.gradient of booleans: they have no differences", hint="f.astype('float64')")
    x = as_float(f)
    axes = axis if isinstance(axis, tuple) else range(len(x.shape)) if axis is None else (axis,)
    places = [as_axis(one, len(x.shape)) for one in axes]
    if len(set(places)) != len(places):
        raise DeclarationValueError(f"np.gradient wants each axis once, got axis={axis}")
    if edge_order not in (1, 2):
        raise DeclarationValueError(f"np.gradient has edge_order 1 or 2, not {told(edge_order)}")
    if len(varargs) not in (0, 1, len(places)):
        raise DeclarationTypeError(f"np.gradient wants a spacing, or one for each of {len(places)} axes")
    spacings = [*varargs] * (len(places) if len(varargs) == 1 else 1) if varargs else [1.0] * len(places)
    found = tuple(_central(x, place, h, edge_order) for place, h in zip(places, spacings, strict=True))
    return found[0] if len(found) == 1 else found


def _central(x: Node, axis: int, spacing: Operand, edge_order: int) -> Node:
    h = as_node(spacing)
    if h.shape:
        raise DeclarationValueError(
            f"np.gradient of views wants equal distances: one number, not {h.type}",
            hint="write np.diff(f) / np.diff(x) for points at other distances",
        )
    h = cast(h, x.dtype)
    if isinstance(x.shape[axis], int) and x.shape[axis] < edge_order + 1:
        raise DeclarationValueError(
            f"np.gradient along axis {axis} of {shape_text(x.shape)} wants at least {edge_order + 1} points"
        )
    inside = divide(subtract(part(x, axis, 2), part(x, axis, None, -2)), multiply(2.0, h))
    first, second = (part(x, axis, k, k + 1) for k in (0, 1))
    last, before = part(x, axis, -1), part(x, axis, -2, -1)
    if edge_order == 1:
        begin, end = subtract(second, first), subtract(last, before)
    else:
        begin = subtract(subtract(multiply(2, second), multiply(1.5, first)), multiply(0.5, part(x, axis, 2, 3)))
        end = add(subtract(multiply(1.5, last), multiply(2, before)), multiply(0.5, part(x, axis, -3, -2)))
    return concatenate([divide(begin, h), inside, divide(end, h)], axis)
