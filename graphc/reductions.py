"""NumPy's reductions on nodes: sums, products, extrema and norms over any axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.arithmetic import (
    absolute,
    add,
    divide,
    equal,
    maximum,
    minimum,
    multiply,
    power,
    sqrt,
    square,
    subtract,
    truth,
)
from graphc.ir import ops
from graphc.ir.core import Node, Op
from graphc.ir.dims import Dim, product
from graphc.ir.errors import DeclarationValueError
from graphc.ir.half import SINGLE
from graphc.ir.ops.reductions import check_not_empty
from graphc.ir.types import TensorType, is_half, kind_of
from graphc.operands import (
    BOOL,
    INDEX,
    Operand,
    as_axes,
    as_axis,
    as_float,
    as_node,
    broadcast,
    cast,
    dtype_of,
    number,
    shape_text,
    told,
)

Axis = int | tuple[int, ...] | None


def keep(reduced: Node, axes: tuple[int, ...], x: Node, keepdims: bool) -> Node:
    """The result of a reduction of `x` with its axes dropped, or kept as 1."""
    if not keepdims:
        return reduced
    return ops.reshape(reduced, shape=tuple(1 if k in axes else extent for k, extent in enumerate(x.shape)))


def _reduce(op: Op, x: Node, axis: Axis, keepdims: bool) -> Node:
    axes = as_axes(axis, len(x.shape))
    return keep(op(x, axes=axes) if axes else x, axes, x, keepdims)


def widened(a: Operand, dtype: Any = None) -> Node:
    """What NumPy sums: another dtype if one is asked for, else 64 bits of booleans and small integers."""
    x = as_node(a)
    if dtype is not None:
        return cast(x, dtype_of(dtype))
    if x.dtype.kind in "bi":
        return cast(x, INDEX)
    return cast(x, np.dtype("uint64")) if x.dtype.kind == "u" else x


def chosen(x: Node, where: Operand, neutral: Any) -> Node:
    """The elements where a condition holds, and a neutral number elsewhere; all of them without a condition."""
    if where is None or where is True:
        return x
    condition = truth(where)
    return ops.where(broadcast(condition, x.shape), x, number(neutral, x.type))


def _initial(value: Operand, like: Node) -> Node:
    """What a reduction starts from, in its dtype."""
    node = as_node(value)
    if node.shape:
        raise DeclarationValueError(f"initial= of a reduction is one number, not {node.type}")
    return broadcast(cast(node, like.dtype), like.shape)


def sum(
    a: Operand, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Operand = None,
    where: Operand = None,
) -> Node:  # fmt: skip
    """The sum; booleans and small integers are summed in 64 bits, as NumPy does; of dtype=bool it is `any`."""
    x = chosen(widened(a, dtype), where, 0)
    total = _reduce(ops.any_ if x.dtype == BOOL else ops.sum_, x, axis, keepdims)
    return total if initial is None else add(total, _initial(initial, total))


def prod(
    a: Operand, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Operand = None,
    where: Operand = None,
) -> Node:  # fmt: skip
    """The product; booleans and small integers are multiplied in 64 bits, as NumPy does; of dtype=bool it is `all`."""
    x = chosen(widened(a, dtype), where, 1)
    total = _reduce(ops.all_ if x.dtype == BOOL else ops.prod, x, axis, keepdims)
    return total if initial is None else multiply(total, _initial(initial, total))


def mean(
    a: Operand, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, where: Operand = None
) -> Node:
    """The mean, of floats."""
    x = as_float(a) if dtype is None else cast(as_node(a), dtype_of(dtype))
    if is_half(x.dtype):  # whose sum may overflow where the mean does not
        return cast(mean(cast(x, SINGLE), axis, keepdims=keepdims, where=where), x.dtype)
    total = sum(x, axis, keepdims=keepdims, where=where)
    if where is None or where is True:
        return divide(total, product(x.shape[k] for k in as_axes(axis, len(x.shape))))
    return divide(total, cast(count_nonzero(broadcast(truth(where), x.shape), axis, keepdims=keepdims), total.dtype))


def var(
    a: Operand, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
    correction: float | None = None,
) -> Node:  # fmt: skip
    """The mean squared distance from the mean, in two passes; `ddof` (or `correction`) lowers the divisor."""
    x = as_float(a) if dtype is None else cast(as_node(a), dtype_of(dtype))
    if is_half(x.dtype):
        wide = var(cast(x, SINGLE), axis, ddof=ddof, keepdims=keepdims, correction=correction)
        return cast(wide, x.dtype)
    squares = square(subtract(x, mean(x, axis, keepdims=True)))
    count = product(x.shape[k] for k in as_axes(axis, len(x.shape)))
    divisor = subtract(number(count, TensorType(x.dtype)), ddof if correction is None else correction)
    return divide(sum(squares, axis, keepdims=keepdims), divisor)


def std(
    a: Operand, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
    correction: float | None = None,
) -> Node:  # fmt: skip
    """The square root of `var`."""
    x = as_float(a) if dtype is None else cast(as_node(a), dtype_of(dtype))
    wide = cast(x, SINGLE) if is_half(x.dtype) else x  # rounded once
    return cast(sqrt(var(wide, axis, ddof=ddof, keepdims=keepdims, correction=correction)), x.dtype)


def _extremum(op: Op, boolean: Op, combine: Callable[..., Node], lowest: bool) -> Callable[..., Node]:
    def reduce(
        a: Operand, axis: Axis = None, *, keepdims: bool = False, initial: Operand = None, where: Operand = None
    ) -> Node:
        x = as_node(a)
        if where is not None and where is not True:
            if initial is None:
                raise DeclarationValueError(
                    f"np.{op.name} over elements that where= chooses may find none",
                    hint=f"give initial=, the value over nothing: np.{op.name}(x, where=m, initial=0)",
                )
            x = chosen(x, where, extreme(x.dtype, lowest))
        if initial is None and x.dtype == BOOL:
            return _of_some(op, boolean, x, axis, keepdims)
        if initial is None:
            return _reduce(op, x, axis, keepdims)
        axes = as_axes(axis, len(x.shape))
        if 0 in (x.shape[k] for k in axes):
            kept = sum(cast(x, INDEX), axes, keepdims=keepdims)
            return _initial(initial, cast(kept, x.dtype))
        found = _reduce(boolean if x.dtype == BOOL else op, x, axis, keepdims)
        return combine(found, _initial(initial, found))

    return reduce


def _of_some(op: Op, boolean: Op, x: Node, axis: Axis, keepdims: bool) -> Node:
    """An extremum of booleans, which must be there: by numbers, whose op guards that, where an extent is symbolic."""
    axes = as_axes(axis, len(x.shape))
    check_not_empty(op.name, x.shape, axes)
    if [k for k in axes if isinstance(x.shape[k], Dim)]:
        return truth(_reduce(op, cast(x, np.dtype("uint8")), axis, keepdims))
    return _reduce(boolean, x, axis, keepdims)


def extreme(dtype: np.dtype[Any], lowest: bool) -> Any:
    """The lowest (or highest) value of a dtype."""
    if kind_of(dtype) == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)


def _truth(op: Op, neutral: bool) -> Callable[..., Node]:
    def reduce(a: Operand, axis: Axis = None, *, keepdims: bool = False, where: Operand = None) -> Node:
        return _reduce(op, chosen(truth(a), where, neutral), axis, keepdims)

    return reduce


max = _extremum(ops.max_, ops.any_, maximum, lowest=True)
min = _extremum(ops.min_, ops.all_, minimum, lowest=False)
any = _truth(ops.any_, neutral=False)
all = _truth(ops.all_, neutral=True)


def ptp(a: Operand, axis: Axis = None, *, keepdims: bool = False) -> Node:
    """The distance of the maximum from the minimum."""
    return subtract(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


def count_nonzero(a: Operand, axis: Axis = None, *, keepdims: bool = False) -> Node:
    """How many elements are not zero."""
    return sum(truth(a), axis, keepdims=keepdims)


def array_equal(a1: Operand, a2: Operand, equal_nan: bool = False) -> Node:
    """Whether two arrays have one shape and equal elements (nan too, if `equal_nan`)."""
    left, right = as_node(a1), as_node(a2)
    if len(left.shape) != len(right.shape):
        return number(False, TensorType(BOOL))
    for one, other in zip(left.shape, right.shape, strict=True):
        if one != other and isinstance(one, int) and isinstance(other, int):
            return number(False, TensorType(BOOL))
    if left.shape != right.shape:
        raise DeclarationValueError(
            f"np.array_equal: whether {left.type} and {right.type} have one shape is not known at the declaration",
            hint="use one dim name for sizes that are equal",
        )
    same = equal(left, right)
    if equal_nan and left.type.is_float and right.type.is_float:
        same = ops.logical_or(same, ops.logical_and(ops.isnan(left), ops.isnan(right)))
    return all(same)


def _position(op: Op) -> Callable[..., Node]:
    def locate(a: Operand, axis: int | None = None, *, keepdims: bool = False) -> Node:
        x = as_node(a)
        if axis is None:
            flat = ops.reshape(x, shape=(x.type.size,))
            return keep(op(flat, axis=0), as_axes(None, len(x.shape)), x, keepdims)
        axis = as_axis(axis, len(x.shape))
        return keep(op(x, axis=axis), (axis,), x, keepdims)

    return locate


argmax = _position(ops.argmax)
argmin = _position(ops.argmin)


def logsumexp(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Node:
    """``log(sum(exp(x)))``, stable at both ends."""
    return _reduce(ops.logsumexp, as_float(x), axis, keepdims)


def norm(x: Operand, ord: float | str | None = 2, axis: Axis = None, *, keepdims: bool = False) -> Node:
    """The vector norm of any order over any axes, which count as one."""
    node = as_float(x)
    if ord is None or ord == 2:
        return _reduce(ops.norm, node, axis, keepdims)
    if isinstance(ord, str) or not isinstance(ord, (int, float)):
        raise DeclarationValueError(f"norm of order {told(ord)}: expected a number", hint="np.inf is the maximum norm")
    if abs(ord) == np.inf:
        return (max if ord > 0 else min)(absolute(node), axis, keepdims=keepdims)
    if ord == 0:
        return cast(count_nonzero(node, axis, keepdims=keepdims), node.dtype)
    if ord == 1:
        return sum(absolute(node), axis, keepdims=keepdims)
    wide = cast(node, SINGLE) if is_half(node.dtype) else node  # the powers may overflow where the norm does not
    return cast(power(sum(power(absolute(wide), ord), axis, keepdims=keepdims), 1 / ord), node.dtype)


def linalg_norm(x: Operand, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Node:
    """NumPy's norm: of a matrix where two axes are meant and an order is given, else of a vector."""
    node = as_float(x)
    if ord is None and axis is None:
        return norm(node, 2, None, keepdims=keepdims)
    axes = as_axes(axis, len(node.shape))
    if len(axes) == 1 and not isinstance(ord, str):
        return norm(node, 2 if ord is None else ord, axes, keepdims=keepdims)
    if len(axes) == 2 and ord in (None, "fro", "f"):
        return norm(node, 2, axes, keepdims=keepdims)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        first, second = axis if isinstance(axis, tuple) else axes
        return _matrix_norm(node, ord, as_axis(first, len(node.shape)), as_axis(second, len(node.shape)), keepdims)
    if len(axes) == 2 and ord in (2, -2, "nuc"):
        return _spectral_norm(node, ord, axes, keepdims)
    if len(axes) == 2:
        raise DeclarationValueError(
            f"np.linalg.norm of matrices has no order {told(ord)}",
            hint="there are 'fro', 'nuc', 1, -1, 2, -2, inf and -inf",
        )
    raise DeclarationValueError(
        f"np.linalg.norm of order {told(ord)} takes one or two axes, got {axes} of {shape_text(node.shape)}",
        hint="give axis=, or use graphc.norm, which takes any axes as one",
    )


def _matrix_norm(x: Node, ord: Any, rows: int, columns: int, keepdims: bool) -> Node:
    """The largest (or, of a negative order, smallest) sum of magnitudes: of columns for 1, of rows for inf."""
    inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = sum(absolute(x), inner, keepdims=True)
    return keep((max if ord > 0 else min)(sums, (inner, outer)), tuple(sorted((rows, columns))), x, keepdims)


def _spectral_norm(x: Node, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Node:
    """The largest singular value, for -2 the smallest, for "nuc" their sum; the order of the two axes is no matter."""
    others = tuple(k for k in range(len(x.shape)) if k not in axes)
    matrices = x if axes == (len(others), len(others) + 1) else ops.transpose(x, axes=others + axes)
    values = ops.svdvals(matrices)
    found = (sum if ord == "nuc" else max if ord == 2 else min)(values, -1)
    return keep(found, axes, x, keepdims)


def softmax(x: Operand, axis: int = -1) -> Node:
    """``exp(x) / sum(exp(x))`` along an axis."""
    node = as_float(x)
    return ops.softmax(node, axis=as_axis(axis, len(node.shape)))


def log_softmax(x: Operand, axis: int = -1) -> Node:
    """The logarithm of `softmax`, without its underflow."""
    node = as_float(x)
    return ops.log_softmax(node, axis=as_axis(axis, len(node.shape)))
