"""NumPy's functions on nodes that move elements: shapes, axes, joining, and new arrays of a given shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.arithmetic import add, equal, multiply
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Dim, Extent, dim, floor_divide, product
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.types import TensorType
from graphc.operands import (
    FLOAT,
    INDEX,
    Operand,
    as_axes,
    as_axis,
    as_node,
    as_shape,
    broadcast,
    broadcast_shapes,
    cast,
    dtype_of,
    lift,
    number,
    refuse_views,
    result_dtype,
    shape_text,
    told,
)  # fmt: skip

# shapes ---------------------------------------------------------------------------------------------------------------


def reshape(a: Operand, /, shape: Any, order: str = "C") -> Node:
    """The elements in C order in another shape; one extent may be -1."""
    if order != "C":
        raise DeclarationValueError(f"reshape in order {told(order)}: views are in C order", hint="transpose first")
    refuse_views(shape)
    x = as_node(a)
    extents = [shape] if isinstance(shape, (str, Dim)) or not isinstance(shape, Sequence) else list(shape)
    unknown = [axis for axis, extent in enumerate(extents) if isinstance(extent, (int, np.integer)) and extent == -1]
    if len(unknown) > 1:
        raise DeclarationValueError(f"reshape to {tuple(extents)}: only one extent can be -1")
    for axis in unknown:
        rest = product(dim(extent) for k, extent in enumerate(extents) if k != axis)
        if rest == 0:
            raise DeclarationValueError(f"reshape of {x.type} to {tuple(extents)}: nothing fixes the extent -1")
        extents[axis] = floor_divide(x.type.size, rest)
    target = tuple(dim(extent) for extent in extents)
    return x if target == x.shape else ops.reshape(x, shape=target)


def ravel(a: Operand, order: str = "C") -> Node:
    """All elements along one axis."""
    return reshape(a, (-1,), order) if 0 not in (x := as_node(a)).shape else reshape(x, (0,))


def expand_dims(a: Operand, axis: Any) -> Node:
    """The array with axes of extent 1 inserted where they are in the result."""
    x = as_node(a)
    added = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = as_axes(axis, len(x.shape) + added)
    rest = iter(x.shape)
    return ops.reshape(x, shape=tuple(1 if k in axes else next(rest) for k in range(len(x.shape) + added)))


def squeeze(a: Operand, axis: Any = None) -> Node:
    """The array without its axes of the literal extent 1, or without the given ones of them."""
    x = as_node(a)
    axes = [k for k, extent in enumerate(x.shape) if extent == 1] if axis is None else as_axes(axis, len(x.shape))
    for k in axes:
        if x.shape[k] != 1:
            raise DeclarationValueError(f"squeeze: axis {k} of {shape_text(x.shape)} is not 1")
    return reshape(x, tuple(extent for k, extent in enumerate(x.shape) if k not in axes))


def broadcast_to(array: Operand, shape: Any) -> Node:
    """The array repeated along axes that are 1 or new."""
    return broadcast(as_node(array), as_shape(shape))


def atleast_1d(*arys: Operand) -> Node | tuple[Node, ...]:
    """A scalar as an array of one element; arrays as they are. A tuple of several."""
    return each(row, arys)


def atleast_2d(*arys: Operand) -> Node | tuple[Node, ...]:
    """A scalar or vector as a matrix of one row; arrays as they are. A tuple of several."""
    return each(lambda a: x if len((x := row(a)).shape) > 1 else expand_dims(x, 0), arys)


def atleast_3d(*arys: Operand) -> Node | tuple[Node, ...]:
    """A vector as ``[1, n, 1]`` and a matrix as ``[n, m, 1]``; arrays as they are. A tuple of several."""
    return each(sheets, arys)


def row(a: Operand) -> Node:
    """A scalar as an array of one element; arrays as they are."""
    x = as_node(a)
    return x if x.shape else reshape(x, (1,))


def sheets(a: Operand) -> Node:
    """An array of at least three axes, as `np.atleast_3d` adds them."""
    x = row(a)
    x = expand_dims(x, 0) if len(x.shape) == 1 else x
    return expand_dims(x, -1) if len(x.shape) == 2 else x


def each(function: Callable[[Operand], Node], arys: Sequence[Operand]) -> Node | tuple[Node, ...]:
    """The function of one array, or a tuple of it of several."""
    results = tuple(function(a) for a in arys)
    return results[0] if len(results) == 1 else results


def size(a: Operand, axis: Any = None) -> Extent:
    """The number of elements, or that along axes."""
    x = as_node(a)
    return product(x.shape[k] for k in as_axes(axis, len(x.shape)))


def copy(a: Operand) -> Node:
    """The array itself: nothing changes it."""
    return as_node(a)


def broadcast_arrays(*args: Operand) -> tuple[Node, ...]:
    """Arrays spread over the shape that all broadcast to, each in its own dtype."""
    nodes = [as_node(a) for a in args]
    shape = broadcast_shapes(*(node.shape for node in nodes))
    return tuple(broadcast(node, shape) for node in nodes)


# axes -----------------------------------------------------------------------------------------------------------------


def transpose(a: Operand, axes: Any = None) -> Node:
    """The axes in another order, reversed if none is given."""
    x = as_node(a)
    ndim = len(x.shape)
    if axes is not None and not isinstance(axes, (tuple, list, np.ndarray, range)):
        raise DeclarationTypeError(f"transpose of {x.type} wants a tuple of its axes, got {told(axes)}")
    order = tuple(reversed(range(ndim))) if axes is None else tuple(as_axis(axis, ndim) for axis in axes)
    if sorted(order) != list(range(ndim)):
        raise DeclarationValueError(f"transpose of {x.type} wants each of its {ndim} axes once, got {axes}")
    return x if order == tuple(range(ndim)) else ops.transpose(x, axes=order)


def swapaxes(a: Operand, axis1: int, axis2: int) -> Node:
    """Two axes in each other's place."""
    x = as_node(a)
    order = list(range(len(x.shape)))
    first, second = as_axis(axis1, len(order)), as_axis(axis2, len(order))
    order[first], order[second] = second, first
    return transpose(x, order)


def matrix_transpose(x: Operand) -> Node:
    """The last two axes swapped."""
    return swapaxes(x, -1, -2)


def moveaxis(a: Operand, source: Any, destination: Any) -> Node:
    """Axes moved to other places; the rest keep their order."""
    x = as_node(a)
    ndim = len(x.shape)
    sources, targets = (
        [as_axis(k, ndim) for k in (axes if isinstance(axes, (tuple, list)) else (axes,))]
        for axes in (source, destination)
    )
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise DeclarationValueError(f"moveaxis wants as many distinct places as axes, got {source} and {destination}")
    placed = dict(zip(targets, sources, strict=True))
    rest = (k for k in range(ndim) if k not in sources)
    return transpose(x, [placed[k] if k in placed else next(rest) for k in range(ndim)])


def rollaxis(a: Operand, axis: int, start: int = 0) -> Node:
    """An axis moved before the one that stands at `start` (which may be the number of axes)."""
    x = as_node(a)
    ndim = len(x.shape)
    start = whole_number("np.rollaxis", "start", start)
    axis, place = as_axis(axis, ndim), as_axis(start, ndim + 1 if start >= 0 else ndim)
    return moveaxis(x, axis, place - (axis < place))


def rot90(m: Operand, k: int = 1, axes: Any = (0, 1)) -> Node:
    """The plane of two axes turned `k` times by a quarter, from the first towards the second."""
    x = as_node(m)
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise DeclarationValueError(f"np.rot90 turns a plane of two axes, got axes={told(axes)}")
    first, second = (as_axis(axis, len(x.shape)) for axis in axes)
    if first == second:
        raise DeclarationValueError(f"np.rot90 turns a plane of two different axes, got axes={axes}")
    match whole_number("np.rot90", "k", k) % 4:
        case 0:
            return x
        case 1:
            return swapaxes(flip(x, second), first, second)
        case 2:
            return flip(x, (first, second))
        case _:
            return flip(swapaxes(x, first, second), second)


def whole_number(function: str, name: str, value: Any) -> int:
    """An argument that must be an int known at the declaration."""
    if isinstance(value, (bool, Node)) or not hasattr(value, "__index__") or isinstance(value, Dim):
        raise DeclarationTypeError(f"{function} wants {name} as an int known at the declaration, got {told(value)}")
    result: int = value.__index__()
    return result


def window(x: Node, axis: int, start: Extent, size: Extent, step: int = 1) -> Node:
    """The elements ``start, start + step, ...`` along one axis."""
    if start == 0 and size == x.shape[axis] and step == 1:
        return x
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    starts = tuple(start if k == axis else 0 for k in range(len(shape)))
    return ops.slice_(x, start=starts, size=shape, step=tuple(step if k == axis else 1 for k in range(len(shape))))


def flip(m: Operand, axis: Any = None) -> Node:
    """The elements in reverse order along axes (all, if none is given)."""
    x = as_node(m)
    axes = as_axes(axis, len(x.shape))
    if not axes:
        return x
    start = tuple(extent - 1 if k in axes else 0 for k, extent in enumerate(x.shape))
    return ops.slice_(x, start=start, size=x.shape, step=tuple(-1 if k in axes else 1 for k in range(len(start))))


# joining --------------------------------------------------------------------------------------------------------------


def concatenate(arrays: Sequence[Operand], axis: int | None = 0) -> Node:
    """Arrays one after the other along an axis (flattened, if it is None)."""
    nodes = promoted(arrays, "np.concatenate")
    if axis is None:
        nodes, axis = [ravel(node) for node in nodes], 0
    ranks = {len(node.shape) for node in nodes}
    if len(ranks) > 1 or 0 in ranks:
        types = ", ".join(str(node.type) for node in nodes)
        raise DeclarationValueError(
            f"np.concatenate wants arrays of one rank, at least 1, got {types}", hint="np.stack joins along a new axis"
        )
    return nodes[0] if len(nodes) == 1 else ops.concatenate(*nodes, axis=as_axis(axis, ranks.pop()))


def stack(arrays: Sequence[Operand], axis: int = 0) -> Node:
    """Arrays of one shape side by side along a new axis."""
    nodes = promoted(arrays, "np.stack")
    if len({node.shape for node in nodes}) > 1:
        raise DeclarationValueError(
            f"np.stack wants arrays of one shape, got {', '.join(str(node.type) for node in nodes)}"
        )
    return concatenate([expand_dims(node, axis) for node in nodes], as_axis(axis, len(nodes[0].shape) + 1))


def hstack(tup: Sequence[Operand]) -> Node:
    """Arrays one after the other along the second axis, vectors along their only one."""
    nodes = [row(node) for node in promoted(tup, "np.hstack")]
    return concatenate(nodes, 0 if len(nodes[0].shape) == 1 else 1)


def vstack(tup: Sequence[Operand]) -> Node:
    """Arrays one below the other; vectors are rows."""
    nodes = [row(node) for node in promoted(tup, "np.vstack")]
    return concatenate([expand_dims(node, 0) if len(node.shape) == 1 else node for node in nodes], 0)


def promoted(arrays: Any, name: str) -> list[Node]:
    """Arrays to be joined, in their common dtype."""
    if not isinstance(arrays, (list, tuple)) or not arrays:
        raise DeclarationTypeError(f"{name} wants a list or tuple of at least one array, got {told(arrays)}")
    lifted = [lift(array) for array in arrays]
    dtype = result_dtype(*lifted)
    return [cast(as_node(value), dtype) for value in lifted]


# new arrays -----------------------------------------------------------------------------------------------------------


def full(shape: Any, fill_value: Operand, dtype: Any = None) -> Node:
    """A value spread over a shape; its dtype unless one is given."""
    value = as_node(fill_value)
    return broadcast(value if dtype is None else cast(value, dtype_of(dtype)), as_shape(shape))


def zeros(shape: Any, dtype: Any = FLOAT) -> Node:
    """Zeros."""
    return number(0, TensorType(dtype_of(dtype), as_shape(shape)))


def ones(shape: Any, dtype: Any = FLOAT) -> Node:
    """Ones."""
    return number(1, TensorType(dtype_of(dtype), as_shape(shape)))


def full_like(a: Operand, fill_value: Operand, dtype: Any = None, *, shape: Any = None) -> Node:
    """A value in the shape and dtype of another array."""
    x = as_node(a)
    return full(x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype)


def zeros_like(a: Operand, dtype: Any = None, *, shape: Any = None) -> Node:
    """Zeros in the shape and dtype of another array."""
    return full_like(a, 0, dtype, shape=shape)


def ones_like(a: Operand, dtype: Any = None, *, shape: Any = None) -> Node:
    """Ones in the shape and dtype of another array."""
    return full_like(a, 1, dtype, shape=shape)


def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = FLOAT) -> Node:
    """Ones on the k-th diagonal."""
    shape = as_shape((N, N if M is None else M))
    rows, columns = (ops.iota(shape=shape, axis=axis, dtype=INDEX) for axis in (0, 1))
    return cast(equal(add(rows, k), columns), dtype_of(dtype))


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Node:
    """``start, start + step, ...`` before `stop`; ``arange(n)`` counts from 0. Ints and dims, or known floats."""
    if stop is None:
        start, stop = 0, start
    bounds = [dim(value) if isinstance(value, str) else value for value in (start, stop, step)]
    for bound in bounds:
        if isinstance(bound, Node) or not isinstance(bound, (int, float, Dim, np.number)):
            raise DeclarationTypeError(f"arange wants ints, floats or dims, got {told(bound)}")
    start, stop, step = bounds
    if not isinstance(step, Dim) and step == 0:
        raise DeclarationValueError("arange wants a step that is not 0")
    positions = ops.iota(shape=(_count(start, stop, step),), axis=0, dtype=INDEX)
    result = add(start, multiply(step, positions))
    return result if dtype is None else cast(result, dtype_of(dtype))


def _count(start: Any, stop: Any, step: Any) -> Extent:
    if not any(isinstance(value, Dim) for value in (start, stop, step)):
        count: int = math.ceil((stop - start) / step)
        return max(0, count)
    if any(isinstance(value, (float, np.floating)) for value in (start, stop, step)) or isinstance(step, Dim):
        raise DeclarationTypeError("arange up to a symbolic dim wants integers, and a step that is a plain int")
    return strided(start, stop, step)


def strided(start: Extent, stop: Extent, step: int) -> Extent:
    """How many of ``start, start + step, ...`` come before `stop`; whether that is negative, a guard says."""
    distance: Extent = stop - start if step > 0 else start - stop
    count: Extent = floor_divide(distance + abs(step) - 1, abs(step))
    return max(count, 0) if isinstance(count, int) else count
