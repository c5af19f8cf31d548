"""NumPy's functions that take arrays apart and put pieces together: split, block, dstack, insert, delete."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphc.ir.core import Node
from graphc.ir.dims import Dim, Extent, floor_divide, is_extent
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.layout import (
    atleast_2d,
    concatenate,
    moveaxis,
    promoted,
    ravel,
    reshape,
    sheets,
    squeeze,
    transpose,
    whole_number,
    window,
)
from graphc.operands import Operand, as_axis, as_node, broadcast, cast, told
from graphc.tiling import at_known

# apart ----------------------------------------------------------------------------------------------------------------


def split(ary: Operand, indices_or_sections: Any, axis: int = 0) -> tuple[Node, ...]:
    """The array in so many equal parts along an axis, or cut at positions (ints, or dims); a tuple of them."""
    x = as_node(ary)
    axis = as_axis(axis, len(x.shape))
    if not is_extent(sections := _plain(indices_or_sections)):
        return _cut(x, sections, axis)
    extent, count = x.shape[axis], _sections("np.split", sections)
    size = floor_divide(extent, count)
    if size * count != extent:
        if isinstance(extent, Dim):
            raise DeclarationValueError(
                f"np.split: whether axis {axis} of {x.type} has {count} equal parts is not known at the declaration",
                hint="cut it at dims: np.split(x, [n, 2 * n]), or reshape it and index that",
            )
        raise DeclarationValueError(
            f"np.split: axis {axis} of {x.type} has no {count} equal parts", hint="np.array_split takes unequal ones"
        )
    return tuple(window(x, axis, k * size, size) for k in range(count))


def array_split(ary: Operand, indices_or_sections: Any, axis: int = 0) -> tuple[Node, ...]:
    """As `split`, but parts may differ by one element: the first ones are longer."""
    x = as_node(ary)
    axis = as_axis(axis, len(x.shape))
    if not is_extent(sections := _plain(indices_or_sections)):
        return _cut(x, sections, axis)
    extent, count = x.shape[axis], _sections("np.array_split", sections)
    if isinstance(extent, Dim):
        raise DeclarationValueError(
            f"np.array_split: the sizes of the parts of axis {axis} of {x.type} are not known here",
            hint="cut it at dims: np.split(x, [n, 2 * n])",
        )
    size, longer = divmod(extent, count)
    starts = [k * size + min(k, longer) for k in range(count + 1)]
    return tuple(window(x, axis, start, stop - start) for start, stop in pairwise(starts))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.integer)) else value


def _sections(function: str, value: Any) -> int:
    count = whole_number(function, "the number of parts", value)
    if count < 1:
        raise DeclarationValueError(f"{function} wants at least one part, got {count}")
    return count


def _cut(x: Node, positions: Any, axis: int) -> tuple[Node, ...]:
    """The array cut at positions, which are clipped to a known axis and guarded on a symbolic one."""
    if not isinstance(positions, (list, tuple)) or not all(is_extent(_plain(one)) for one in positions):
        raise DeclarationTypeError(f"a split is at ints and dims, not at {told(positions)}")
    extent = x.shape[axis]
    cuts: list[Extent | None] = [None, *(_plain(one) for one in positions), None]
    parts = []
    for start, stop in pairwise(cuts):
        if isinstance(extent, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
            first, last, _ = slice(start, stop).indices(extent)
            parts.append(window(x, axis, first, max(last - first, 0)))
        else:
            begin, end = _from_front(start, 0, extent), _from_front(stop, extent, extent)
            parts.append(window(x, axis, begin, end - begin))
    return tuple(parts)


def _from_front(position: Extent | None, default: Extent, extent: Extent) -> Extent:
    if position is None:
        return default
    return extent + position if isinstance(position, int) and position < 0 else position


def hsplit(ary: Operand, indices_or_sections: Any) -> tuple[Node, ...]:
    """A split along the second axis, of vectors along their only one."""
    x = _of_rank("np.hsplit", ary, 1)
    return split(x, indices_or_sections, 0 if len(x.shape) == 1 else 1)


def vsplit(ary: Operand, indices_or_sections: Any) -> tuple[Node, ...]:
    """A split along the first of two axes."""
    return split(_of_rank("np.vsplit", ary, 2), indices_or_sections, 0)


def dsplit(ary: Operand, indices_or_sections: Any) -> tuple[Node, ...]:
    """A split along the third axis."""
    return split(_of_rank("np.dsplit", ary, 3), indices_or_sections, 2)


def _of_rank(function: str, ary: Operand, least: int) -> Node:
    x = as_node(ary)
    if len(x.shape) < least:
        raise DeclarationValueError(f"{function} wants an array of at least {least} axes, got {x.type}")
    return x


def unstack(x: Operand, axis: int = 0) -> tuple[Node, ...]:
    """The slices of an array along a known axis, without it."""
    node = as_node(x)
    axis = as_axis(axis, len(node.shape))
    extent = node.shape[axis]
    if isinstance(extent, Dim):
        raise DeclarationValueError(
            f"np.unstack: how many slices axis {axis} of {node.type} has is not known at the declaration",
            hint="write the loop over them as array arithmetic",
        )
    return tuple(squeeze(window(node, axis, k, 1), axis) for k in range(extent))


# together -------------------------------------------------------------------------------------------------------------


def dstack(tup: Sequence[Operand]) -> Node:
    """Arrays one behind the other along the third axis."""
    return concatenate([sheets(node) for node in promoted(tup, "np.dstack")], 2)


def column_stack(tup: Sequence[Operand]) -> Node:
    """Vectors side by side as columns; matrices as they are."""
    nodes = promoted(tup, "np.column_stack")
    return concatenate([transpose(_rows(node)) if len(node.shape) < 2 else node for node in nodes], 1)


def _rows(node: Node) -> Node:
    result = atleast_2d(node)
    assert isinstance(result, Node)
    return result


def append(arr: Operand, values: Operand, axis: int | None = None) -> Node:
    """`values` behind `arr` along an axis (both flattened, if there is none)."""
    return concatenate([as_node(arr), as_node(values)], axis)


def block(arrays: Any) -> Node:
    """Nested lists of arrays put together: the innermost along the last axis, those outside along the ones before."""
    depth = _depth(arrays)
    leaves = [as_node(leaf) for leaf in _leaves(arrays, depth)]
    ndim = max(depth, *(len(leaf.shape) for leaf in leaves))
    return _joined(arrays, depth, ndim)


def _depth(arrays: Any) -> int:
    depth = 0
    while isinstance(arrays, list):
        if not arrays:
            raise DeclarationValueError("np.block: a list is empty")
        arrays, depth = arrays[0], depth + 1
    return depth


def _leaves(arrays: Any, depth: int) -> list[Any]:
    for _ in range(depth):
        if not all(isinstance(one, list) and one for one in arrays):
            break
        arrays = [inner for one in arrays for inner in one]
    level: list[Any] = arrays if isinstance(arrays, list) else [arrays]
    if any(isinstance(one, (list, tuple)) for one in level):
        raise DeclarationValueError("np.block wants lists (not tuples) that are nested equally deep everywhere")
    return level


def _joined(arrays: Any, depth: int, ndim: int) -> Node:
    """A nested list of `depth` levels as one array: as deep a recursion as the user's brackets."""
    if depth == 0:
        x = as_node(arrays)
        return reshape(x, (1,) * (ndim - len(x.shape)) + x.shape)
    return concatenate([_joined(one, depth - 1, ndim) for one in arrays], ndim - depth)


# in between -----------------------------------------------------------------------------------------------------------


def insert(arr: Operand, obj: Any, values: Operand, axis: int | None = None) -> Node:
    """`values` put before known positions along an axis (flattened, if there is none)."""
    x = as_node(arr)
    x, axis = (ravel(x), 0) if axis is None else (x, as_axis(axis, len(x.shape)))
    new, extent = cast(as_node(values), x.dtype), x.shape[axis]
    positions = _positions("np.insert", obj, extent)
    single = len(positions) == 1
    if single and not isinstance(obj, slice) and np.ndim(obj) == 0:
        new = reshape(new, (1,) * (len(x.shape) - len(new.shape)) + new.shape)
        new = moveaxis(new, 0, axis)
    elif len(new.shape) < len(x.shape):
        new = reshape(new, (1,) * (len(x.shape) - len(new.shape)) + new.shape)
    count = new.shape[axis] if single else len(positions)
    new = broadcast(new, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
    if single:
        at = _inside("np.insert", positions[0], extent, 0)
        return concatenate([window(x, axis, 0, at), new, window(x, axis, at, extent - at)], axis)
    return _interleaved(x, new, [_inside("np.insert", at, extent, 0) for at in positions], axis)


def _interleaved(x: Node, new: Node, places: list[Any], axis: int) -> Node:
    """The pieces of an array with rows of another before known places, each as often as it is named."""
    if any(isinstance(place, Dim) for place in places):
        raise DeclarationValueError("np.insert at several positions wants ints, none from the end of a symbolic axis")
    pieces, done = [], 0
    for k in sorted(range(len(places)), key=places.__getitem__):
        pieces += [window(x, axis, done, places[k] - done), window(new, axis, k, 1)]
        done = places[k]
    return concatenate([*pieces, window(x, axis, done, x.shape[axis] - done)], axis)


def delete(arr: Operand, obj: Any, axis: int | None = None) -> Node:
    """The array without known positions along an axis (flattened, if there is none)."""
    x = as_node(arr)
    x, axis = (ravel(x), 0) if axis is None else (x, as_axis(axis, len(x.shape)))
    extent = x.shape[axis]
    positions = _positions("np.delete", obj, extent)
    if isinstance(extent, int):
        for at in positions:
            _inside("np.delete", at, extent, 1)
        return at_known(x, np.delete(np.arange(extent), np.array(positions, dtype="int64")), axis)
    if len(positions) != 1:
        raise DeclarationValueError(f"np.delete of several positions wants a known axis, and axis {axis} is {extent}")
    at = _inside("np.delete", positions[0], extent, 1)
    return concatenate([window(x, axis, 0, at), window(x, axis, at + 1, extent - at - 1)], axis)


def _positions(function: str, obj: Any, extent: Extent) -> list[Any]:
    """Known positions, from an int, a dim, a slice, a list of ints, or a known mask."""
    if isinstance(obj, slice) and isinstance(extent, int):
        return list(range(*obj.indices(extent)))
    if is_extent(_plain(obj)):
        return [_plain(obj)]
    if not isinstance(obj, (Node, slice, bool)):
        known = np.asarray(obj)
        if known.dtype == bool and known.shape == (extent,):
            return np.flatnonzero(known).tolist()
        if known.ndim <= 1 and (known.dtype.kind in "iu" or known.size == 0):
            return known.astype("int64").ravel().tolist()
    raise DeclarationTypeError(
        f"{function} wants positions known at the declaration, ints or a list of them, got {told(obj)}",
        hint="np.where, np.concatenate and x[indices] take views",
    )


def _inside(function: str, position: Any, extent: Extent, least: int) -> Any:
    """A position counted from the front; of a known axis it must be one that is there (or `least` before its end)."""
    place = extent + position if isinstance(position, int) and position < 0 else position
    if isinstance(extent, int) and isinstance(place, int) and not 0 <= place <= extent - least:
        raise DeclarationIndexError(f"{function}: position {position} is out of range for an axis of {extent} elements")
    return place
