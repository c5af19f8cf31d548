"""NumPy's functions of matrices by the place of their elements: diagonals, triangles, traces, powers in columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.arithmetic import add, equal, greater_equal, power
from graphc.ir import ops
from graphc.ir.core import Node, full
from graphc.ir.dims import Dim, Extent, dim_max, dim_min
from graphc.ir.errors import DeclarationValueError
from graphc.ir.types import Shape
from graphc.layout import expand_dims, moveaxis, ravel, reshape, stack, whole_number, window
from graphc.operands import FLOAT, INDEX, Operand, as_axis, as_node, as_shape, broadcast, cast, common_dtype, dtype_of
from graphc.reductions import sum as sum_over

# diagonals ------------------------------------------------------------------------------------------------------------


def diagonal(a: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The diagonal of two axes, as the last axis: elements ``[i, i + offset]``."""
    return _diagonal("np.diagonal", a, offset, axis1, axis2)


def _diagonal(function: str, a: Operand, offset: int, axis1: int, axis2: int) -> Node:
    x = _plane_last(function, a, axis1, axis2)
    rows, columns = x.shape[-2:]
    offset = whole_number(function, "offset", offset)
    down, right = max(-offset, 0), max(offset, 0)
    length = dim_min(dim_max(rows - down, 0), dim_max(columns - right, 0))
    if isinstance(columns, int) and isinstance(rows, int):
        # The elements of a row and one more, in memory, are the distance of two neighbours on the diagonal.
        flat = reshape(x, (*x.shape[:-2], rows * columns))
        first = down * columns + right if length != 0 else 0
        return window(flat, len(flat.shape) - 1, first, length, columns + 1)
    position = ops.iota(shape=(length,), axis=0, dtype=INDEX)
    ndim = len(x.shape)
    picked = ops.gather(x, add(position, down), add(position, right), axes=(ndim - 2, ndim - 1))
    return moveaxis(picked, 0, -1)


def linalg_diagonal(x: Operand, *, offset: int = 0) -> Node:
    """The diagonals of the matrices in the last two axes."""
    return _diagonal("np.linalg.diagonal", x, offset, -2, -1)


def _plane_last(function: str, a: Operand, axis1: int, axis2: int) -> Node:
    """An array with two axes moved to the end."""
    x = as_node(a)
    if len(x.shape) < 2:
        raise DeclarationValueError(f"{function} wants an array of at least two axes, got {x.type}")
    axes = as_axis(axis1, len(x.shape)), as_axis(axis2, len(x.shape))
    if axes[0] == axes[1]:
        raise DeclarationValueError(f"{function} wants two different axes, got {axis1} and {axis2} of {x.type}")
    return moveaxis(x, axes, (-2, -1))


def trace(a: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Node:
    """The sum of a diagonal; booleans and small integers are summed in 64 bits."""
    return sum_over(_diagonal("np.trace", a, offset, axis1, axis2), -1, dtype)


def linalg_trace(x: Operand, *, offset: int = 0, dtype: Any = None) -> Node:
    """The traces of the matrices in the last two axes."""
    return sum_over(_diagonal("np.linalg.trace", x, offset, -2, -1), -1, dtype)


def diag(v: Operand, k: int = 0) -> Node:
    """The k-th diagonal of a matrix, or the matrix that has a vector there and is zero elsewhere."""
    x = as_node(v)
    if len(x.shape) == 2:
        return _diagonal("np.diag", x, whole_number("np.diag", "k", k), 0, 1)
    if len(x.shape) != 1:
        raise DeclarationValueError(f"np.diag wants a vector or a matrix, got {x.type}", hint="np.diagonal takes axes")
    k = whole_number("np.diag", "k", k)
    size: Extent = x.shape[0] + abs(k)
    longer = ops.pad(x, start=(0,), step=(1,), shape=(size,)) if k else x
    spread = broadcast(expand_dims(longer, 1 if k >= 0 else 0), (size, size))
    rows, columns = positions((size, size))
    return ops.where(equal(add(rows, k), columns), spread, full(0, spread.type))


def diagflat(v: Operand, k: int = 0) -> Node:
    """The matrix that has the elements of an array on its k-th diagonal."""
    return diag(ravel(v), k)


# triangles ------------------------------------------------------------------------------------------------------------


def positions(shape: Shape) -> tuple[Node, Node]:
    """The row and the column of every element of a matrix."""
    return ops.iota(shape=shape, axis=0, dtype=INDEX), ops.iota(shape=shape, axis=1, dtype=INDEX)


def _lower(shape: Shape, k: int) -> Node:
    """Whether an element stands on or below the k-th diagonal."""
    rows, columns = positions(shape)
    return greater_equal(add(rows, k), columns)


def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = FLOAT) -> Node:
    """Ones on and below the k-th diagonal, zeros above."""
    shape = as_shape((N, N if M is None else M))
    return cast(_lower(shape, whole_number("graphc.tri", "k", k)), dtype_of(dtype))


def tril(m: Operand, k: int = 0) -> Node:
    """Matrices (the last two axes) with zeros above the k-th diagonal."""
    x = _matrices("np.tril", m)
    below = broadcast(_lower(x.shape[-2:], whole_number("np.tril", "k", k)), x.shape)
    return ops.where(below, x, full(0, x.type))


def triu(m: Operand, k: int = 0) -> Node:
    """Matrices (the last two axes) with zeros below the k-th diagonal."""
    x = _matrices("np.triu", m)
    below = broadcast(_lower(x.shape[-2:], whole_number("np.triu", "k", k) - 1), x.shape)
    return ops.where(below, full(0, x.type), x)


def _matrices(function: str, m: Operand) -> Node:
    """An array of matrices; a vector stands for the matrix that has it in each row."""
    x = as_node(m)
    if not x.shape:
        raise DeclarationValueError(f"{function} wants an array of at least one axis, got {x.type}")
    return broadcast(x, (x.shape[0], x.shape[0])) if len(x.shape) == 1 else x


def diag_indices_from(arr: Operand) -> tuple[Node, ...]:
    """Indices of the main diagonal of an array whose axes are equal."""
    x = as_node(arr)
    if len(x.shape) < 2 or len(set(x.shape)) > 1:
        raise DeclarationValueError(f"np.diag_indices_from wants equal axes, at least two, got {x.type}")
    return (ops.iota(shape=x.shape[:1], axis=0, dtype=INDEX),) * len(x.shape)


def tril_indices_from(arr: Operand, k: int = 0) -> tuple[Node, ...]:
    """Indices of a matrix of known sizes on and below its k-th diagonal."""
    rows, columns = _known_sizes("np.tril_indices_from", arr)
    k = whole_number("np.tril_indices_from", "k", k)
    return tuple(as_node(places) for places in np.nonzero(np.tri(rows, columns, k)))


def triu_indices_from(arr: Operand, k: int = 0) -> tuple[Node, ...]:
    """Indices of a matrix of known sizes on and above its k-th diagonal."""
    rows, columns = _known_sizes("np.triu_indices_from", arr)
    k = whole_number("np.triu_indices_from", "k", k)
    return tuple(as_node(places) for places in np.nonzero(np.tri(rows, columns, k - 1) == 0))


def _known_sizes(function: str, arr: Operand) -> list[int]:
    x = as_node(arr)
    sizes = [extent for extent in x.shape if isinstance(extent, int)]
    if len(x.shape) != 2 or len(sizes) != 2:
        raise DeclarationValueError(f"{function} wants a matrix of known sizes, got {x.type}", hint="np.tril, np.triu")
    return sizes


# powers ---------------------------------------------------------------------------------------------------------------


def vander(x: Operand, N: int | None = None, increasing: bool = False) -> Node:
    """The powers of a vector's elements as columns, the highest first unless they are `increasing`."""
    vector = as_node(x)
    if len(vector.shape) != 1:
        raise DeclarationValueError(f"np.vander wants a vector, got {vector.type}")
    given = vector.shape[0] if N is None else N
    if isinstance(given, Dim):
        raise DeclarationValueError(
            f"np.vander of {vector.type} wants its number of columns known at the declaration", hint="give N="
        )
    count = whole_number("np.vander", "N", given)
    vector = cast(vector, common_dtype([vector.dtype, INDEX]))
    if count <= 0:
        return full(0, vector.type.with_shape((*vector.shape, 0)))
    exponents = range(count) if increasing else range(count - 1, -1, -1)
    return stack([power(vector, n) for n in exponents], 1)
