"""NumPy's products of vectors, matrices and tensors on nodes, most by way of one batched matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.arithmetic import add, multiply, subtract, truth
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Dim, product
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.layout import (
    expand_dims,
    moveaxis,
    ravel,
    reshape,
    stack,
    transpose,
    window,
    zeros_like,
)
from graphc.operands import (
    BOOL,
    INDEX,
    Operand,
    as_axes,
    as_axis,
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    lift,
    result_dtype,
    told,
)


def _pair(a: Operand, b: Operand) -> tuple[Node, Node]:
    lifted = [lift(a), lift(b)]
    dtype = result_dtype(*lifted)
    left, right = (cast(as_node(value), dtype) for value in lifted)
    return left, right


def matmul(x1: Operand, x2: Operand) -> Node:
    """``x1 @ x2``: matrices are the last two axes, those before broadcast, vectors are rows or columns."""
    a, b = _pair(x1, x2)
    if not a.shape or not b.shape:
        raise DeclarationValueError(f"matmul wants arrays, got {a.type} and {b.type}", hint="use * for scalars")
    left = reshape(a, (1, *a.shape)) if len(a.shape) == 1 else a
    right = reshape(b, (*b.shape, 1)) if len(b.shape) == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise DeclarationValueError(
            f"matmul: the inner dims of {a.type} and {b.type} differ: {left.shape[-1]} is not {right.shape[-2]}"
        )
    batch = broadcast_shapes(left.shape[:-2], right.shape[:-2])
    matrices = broadcast(left, batch + left.shape[-2:]), broadcast(right, batch + right.shape[-2:])
    result = _any_of_both(*matrices) if left.dtype == BOOL else ops.matmul(*matrices)
    rows = result.shape[-2:-1] if len(a.shape) > 1 else ()
    columns = result.shape[-1:] if len(b.shape) > 1 else ()
    return reshape(result, batch + rows + columns)


def _any_of_both(left: Node, right: Node) -> Node:
    """The product of boolean matrices: "or" over "and"."""
    return truth(ops.matmul(cast(left, INDEX), cast(right, INDEX)))


def matvec(x1: Operand, x2: Operand) -> Node:
    """Matrices times vectors: the last two axes and the last one, those before broadcast."""
    matrices, vectors = _pair(x1, x2)
    if len(matrices.shape) < 2 or not vectors.shape:
        raise DeclarationValueError(f"np.matvec wants matrices and vectors, got {matrices.type} and {vectors.type}")
    return _without(matmul(matrices, expand_dims(vectors, -1)), -1)


def vecmat(x1: Operand, x2: Operand) -> Node:
    """Vectors times matrices: the last axis and the last two, those before broadcast."""
    vectors, matrices = _pair(x1, x2)
    if len(matrices.shape) < 2 or not vectors.shape:
        raise DeclarationValueError(f"np.vecmat wants vectors and matrices, got {vectors.type} and {matrices.type}")
    return _without(matmul(expand_dims(vectors, -2), matrices), -2)


def _without(x: Node, axis: int) -> Node:
    return reshape(x, tuple(extent for k, extent in enumerate(x.shape) if k != len(x.shape) + axis))


def dot(a: Operand, b: Operand) -> Node:
    """The sum over the last axis of `a` and the last but one of `b`; scalars multiply."""
    left, right = _pair(a, b)
    if not left.shape or not right.shape:
        return multiply(left, right)
    if len(left.shape) <= 2 and len(right.shape) <= 2:
        return matmul(left, right)
    return tensordot(left, right, ((-1,), (-min(2, len(right.shape)),)))


def inner(a: Operand, b: Operand) -> Node:
    """The sum over the last axes of both; scalars multiply."""
    left, right = _pair(a, b)
    return multiply(left, right) if not left.shape or not right.shape else tensordot(left, right, ((-1,), (-1,)))


def vdot(a: Operand, b: Operand) -> Node:
    """The dot product of both, flattened."""
    return matmul(ravel(a), ravel(b))


def vecdot(x1: Operand, x2: Operand, axis: int = -1) -> Node:
    """The sum of the products along an axis of each; the other axes broadcast."""
    left, right = _pair(x1, x2)
    if not left.shape or not right.shape:
        raise DeclarationValueError(f"np.vecdot wants vectors, got {left.type} and {right.type}")
    rows, columns = moveaxis(left, axis, -1), moveaxis(right, axis, -1)
    if rows.shape[-1] != columns.shape[-1]:
        raise DeclarationValueError(
            f"np.vecdot: the vectors of {left.type} and {right.type} along axis {axis} differ: "
            f"{rows.shape[-1]} is not {columns.shape[-1]}"
        )
    return _without(_without(matmul(expand_dims(rows, -2), expand_dims(columns, -1)), -1), -1)


def outer(a: Operand, b: Operand) -> Node:
    """The product of every element of `a` with every one of `b`, both flattened."""
    return multiply(expand_dims(ravel(a), 1), expand_dims(ravel(b), 0))


def tensordot(a: Operand, b: Operand, axes: Any = 2) -> Node:
    """The sum of products over some axes of both: their number (the last and the first), or a pair of axes."""
    left, right = _pair(a, b)
    if isinstance(axes, (int, np.integer)):
        if not 0 <= axes <= min(len(left.shape), len(right.shape)):
            raise DeclarationValueError(f"tensordot over {axes} axes of {left.type} and {right.type}")
        axes = (range(len(left.shape) - axes, len(left.shape)), range(axes))
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise DeclarationTypeError(f"tensordot wants a number of axes, or a pair of lists of them, got {told(axes)}")
    ours, theirs = (
        [as_axis(k, len(node.shape)) for k in (one if isinstance(one, (tuple, list, range)) else (one,))]
        for one, node in zip(axes, (left, right), strict=True)
    )
    for node, used in ((left, ours), (right, theirs)):
        as_axes(tuple(used), len(node.shape))  # each once
    shared = [left.shape[k] for k in ours]
    if shared != [right.shape[k] for k in theirs]:
        raise DeclarationValueError(f"tensordot: axes {ours} of {left.type} and {theirs} of {right.type} differ")
    rows = [k for k in range(len(left.shape)) if k not in ours]
    columns = [k for k in range(len(right.shape)) if k not in theirs]
    matrix = matmul(
        reshape(transpose(left, rows + ours), (product(left.shape[k] for k in rows), product(shared))),
        reshape(transpose(right, theirs + columns), (product(shared), product(right.shape[k] for k in columns))),
    )
    return reshape(matrix, (*(left.shape[k] for k in rows), *(right.shape[k] for k in columns)))


def linalg_outer(x1: Operand, x2: Operand) -> Node:
    """The product of every element of one vector with every one of another."""
    left, right = _pair(x1, x2)
    if len(left.shape) != 1 or len(right.shape) != 1:
        raise DeclarationValueError(f"np.linalg.outer wants vectors, got {left.type} and {right.type}")
    return outer(left, right)


def linalg_vecdot(x1: Operand, x2: Operand, *, axis: int = -1) -> Node:
    """The sum of the products along an axis."""
    return vecdot(x1, x2, axis)


def kron(a: Operand, b: Operand) -> Node:
    """Every element of `a` times the whole of `b`, put together in the order of `a`."""
    left, right = _pair(a, b)
    ndim = max(len(left.shape), len(right.shape))
    outside, inside = ((1,) * (ndim - len(node.shape)) + node.shape for node in (left, right))
    grid = multiply(
        reshape(left, tuple(extent for size in outside for extent in (size, 1))),
        reshape(right, tuple(extent for size in inside for extent in (1, size))),
    )
    return reshape(grid, tuple(one * other for one, other in zip(outside, inside, strict=True)))


def cross(
    a: Operand, b: Operand, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Node:
    """The cross product of vectors of three elements along an axis."""
    if axis is not None:
        axisa = axisb = axisc = axis
    left, right = _pair(a, b)
    if not left.shape or not right.shape:
        raise DeclarationValueError(f"np.cross wants vectors of 3 elements, got {left.type} and {right.type}")
    x, y = moveaxis(left, axisa, -1), moveaxis(right, axisb, -1)
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise DeclarationValueError(
            f"np.cross wants vectors of 3 elements, got {left.type} and {right.type} along axes {axisa} and {axisb}",
            hint="of plane vectors it is x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]",
        )
    (x0, x1, x2), (y0, y1, y2) = _components(x), _components(y)
    parts = [
        subtract(multiply(x1, y2), multiply(x2, y1)),
        subtract(multiply(x2, y0), multiply(x0, y2)),
        subtract(multiply(x0, y1), multiply(x1, y0)),
    ]
    return moveaxis(stack(parts, -1), -1, axisc)


def linalg_cross(x1: Operand, x2: Operand, *, axis: int = -1) -> Node:
    """The cross product of vectors of three elements along an axis."""
    return cross(x1, x2, axis=axis)


def _components(x: Node) -> list[Node]:
    """The three components along the last axis."""
    last = len(x.shape) - 1
    return [reshape(window(x, last, k, 1), x.shape[:-1]) for k in range(3)]


# chains and powers ----------------------------------------------------------------------------------------------------

# What a symbolic extent counts where the order of products is chosen.



def polyval(p: Operand, x: Operand) -> Node:
    """The polynomial with the coefficients `p`, the highest first, at `x`, by Horner's rule."""
    coefficients, at = as_node(p), as_node(x)
    if len(coefficients.shape) != 1 or isinstance(coefficients.shape[0], Dim):
        raise DeclarationValueError(
            f"np.polyval wants a vector of known length as coefficients, got {coefficients.type}",
            hint="of a symbolic length: np.sum(p[::-1] * x[..., None] ** np.arange(n), -1) with graphc.arange",
        )
    result = zeros_like(at)
    for k in range(coefficients.shape[0]):
        result = add(multiply(result, at), reshape(window(coefficients, 0, k, 1), ()))
    return result
