"""NumPy's functions of indices on nodes: take and its kin, and positions in flattened arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.arithmetic import add, floor_divide, maximum, minimum, multiply, remainder, subtract
from graphc.indexing import along, getitem, wrapped
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Extent, product
from graphc.ir.errors import DeclarationIndexError, DeclarationValueError
from graphc.layout import broadcast_arrays, expand_dims, promoted, ravel, squeeze, stack
from graphc.operands import (
    INDEX,
    Operand,
    as_axis,
    as_node,
    as_shape,
    broadcast,
    broadcast_shapes,
    cast,
    dtype_of,
    is_integer,
    shape_text,
    told,
)
from graphc.pieces import unstack


def take(a: Operand, indices: Operand, axis: int | None = None, *, mode: str = "raise") -> Node:
    """The elements at some indices along an axis (of all, flattened, if it is None).

    Indices out of range are errors, or by `mode` "wrap" around or "clip" to the first and the last element.
    """
    x = ravel(a) if axis is None else as_node(a)
    place = as_axis(0 if axis is None else axis, len(x.shape))
    return getitem(x, (*(slice(None),) * place, _held("np.take", _index_node(indices), x.shape[place], mode)))


def _held(function: str, index: Node, extent: Extent, mode: str) -> Node:
    """Indices brought into range as `mode` says."""
    match mode:
        case "raise":
            return index
        case "wrap":
            return remainder(cast(index, INDEX), extent)
        case "clip":
            return minimum(maximum(cast(index, INDEX), 0), subtract(extent, 1))
    raise DeclarationValueError(f"{function} has no mode {told(mode)}", hint="there are raise, wrap and clip")


def take_along_axis(arr: Operand, indices: Operand, axis: int | None = -1) -> Node:
    """The elements at indices that are given for every position of the other axes, which broadcast."""
    x, index = as_node(arr), _index_node(indices)
    if axis is None:
        x, axis = ravel(x), 0
    if len(x.shape) != len(index.shape):
        raise DeclarationValueError(f"take_along_axis wants indices of the rank of {x.type}, got {index.type}")
    axis = as_axis(axis, len(x.shape))
    others = broadcast_shapes(*((*t.shape[:axis], *t.shape[axis + 1 :]) for t in (x, index)))
    x, index = (broadcast(t, (*others[:axis], t.shape[axis], *others[axis:])) for t in (x, index))
    return along(x, wrapped(index, x.shape[axis], axis), axis)


def pick(x: Node, index: Node) -> Node:
    """The element at an index along the last axis, for every position of the others."""
    places = [ops.iota(shape=index.shape, axis=k, dtype=INDEX) for k in range(len(index.shape))]
    places.append(wrapped(index, x.shape[-1], len(places)))
    return ops.gather(x, *places, axes=tuple(range(len(places))))


def _index_node(indices: Operand) -> Node:
    node = as_node(indices)
    if not is_integer(node):
        raise DeclarationIndexError(f"indices are integers, not {node.type}", hint="cast them: k.astype('int64')")
    return node


def one_hot(k: Operand, depth: Extent, dtype: Any = "float64") -> Node:
    """1 at position k of a new last axis of `depth` elements, 0 elsewhere."""
    index, (depth,) = _index_node(k), as_shape((depth,))
    positions = expand_dims(wrapped(index, depth, len(index.shape)), -1)
    shape = (*index.shape, depth)
    hits = ops.equal(broadcast(positions, shape), ops.iota(shape=shape, axis=len(shape) - 1, dtype=INDEX))
    return cast(hits, dtype_of(dtype))


def choose(a: Operand, choices: Operand, *, mode: str = "raise") -> Node:
    """For every element the choice that `a` names: all are broadcast, and `a` counts from 0."""
    index = _index_node(a)
    given = choices if isinstance(choices, (list, tuple)) else unstack(choices)
    stacked = stack(broadcast_arrays(*promoted(list(given), "np.choose")))
    index = _held("np.choose", index, len(given), mode)
    if mode == "raise" and index.dtype.kind == "i":  # no counting from the end
        index = cast(index, np.dtype("uint64"))
    shape = broadcast_shapes(index.shape, stacked.shape[1:])
    picked = expand_dims(broadcast(index, shape), 0)
    return squeeze(take_along_axis(broadcast(stacked, (len(given), *shape)), picked, 0), 0)


def unravel_index(indices: Operand, shape: Any, order: str = "C") -> tuple[Node, ...]:
    """For positions in the flattened array the index along each axis of a shape; out of range is an error."""
    if order != "C":
        raise DeclarationValueError(f"np.unravel_index in order {told(order)}: views are in C order")
    extents = as_shape(shape)
    rest = _counted(_index_node(indices), product(extents))
    result: list[Node] = []
    for extent in reversed(extents):
        result.insert(0, remainder(rest, extent))
        rest = floor_divide(rest, extent)
    return tuple(result)


def ravel_multi_index(multi_index: Any, dims: Any, mode: str = "raise", order: str = "C") -> Node:
    """The position in the flattened array of shape `dims` for an index along each axis."""
    if order != "C" or not isinstance(mode, str):
        raise DeclarationValueError("np.ravel_multi_index of views is in C order, with one mode for all axes")
    extents = as_shape(dims)
    indices = multi_index if isinstance(multi_index, (list, tuple)) else unstack(multi_index)
    if len(indices) != len(extents):
        raise DeclarationValueError(f"np.ravel_multi_index: {len(indices)} indices for the shape {shape_text(extents)}")
    position: Node = as_node(np.int64(0))
    for index, extent in zip(indices, extents, strict=True):
        held = _held("np.ravel_multi_index", _index_node(index), extent, mode)
        position = add(multiply(position, extent), _counted(held, extent) if mode == "raise" else held)
    return position


def _counted(index: Node, extent: Extent) -> Node:
    """Indices checked to be in range, none from the end."""
    return wrapped(cast(index, np.dtype("uint64")) if index.dtype.kind == "i" else index, extent, 0)
