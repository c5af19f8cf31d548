"""NumPy's indexing on nodes: one `Selection` says which elements an index means, for reading and for writing.

A selection is a window (a strided slice per axis), then index arrays along some axes of that window, then the order and
shape in which NumPy presents the result. Integers are windows of one element, unless index arrays stand beside them:
then they are index arrays themselves, as in NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.core import Literal, Node, constant, full
from graphc.ir.dims import Dim, Extent, is_extent
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.ir.types import Shape
from graphc.layout import expand_dims, ravel, reshape, strided, transpose
from graphc.operands import (
    BOOL,
    INDEX,
    Operand,
    as_axis,
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    dtype_of,
    is_integer,
    is_weak,
    lift,
    number,
    shape_text,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """What an index selects of an array of `shape`.

    `start`, `size` and `step` are the window; `indices` are index nodes of one shape along the window's `axes`. What
    they gather (the indices' shape, then the window's other axes) is transposed by `order` and reshaped to `result`.
    """

    shape: Shape
    start: Shape
    size: Shape
    step: tuple[int, ...]
    axes: tuple[int, ...]
    indices: tuple[Node, ...]
    order: tuple[int, ...]
    result: Shape

    @property
    def is_whole(self) -> bool:
        """Whether the window is the whole array, in order."""
        return self.size == self.shape and all(step == 1 for step in self.step)

    def window(self, x: Node) -> Node:
        """The window of an array."""
        return x if self.is_whole else ops.slice_(x, start=self.start, size=self.size, step=self.step)

    def spread(self, window: Node) -> Node:
        """An array of `shape` that has `window` in its place and is zero (False) elsewhere."""
        return window if self.is_whole else ops.pad(window, start=self.start, step=self.step, shape=self.shape)

    def read(self, x: Node) -> Node:
        """The selected elements."""
        picked = self.window(x)
        if self.indices:
            picked = transpose(ops.gather(picked, *self.indices, axes=self.axes), self.order)
        return reshape(picked, self.result)

    def updates(self, value: Node) -> Node:
        """What is to be written, broadcast to the result and brought into the order of the scatter ops."""
        if not self.indices:
            return reshape(broadcast(value, self.result), self.size)
        rest = tuple(extent for axis, extent in enumerate(self.size) if axis not in self.axes)
        gathered = self.indices[0].shape + rest
        ordered = reshape(broadcast(value, self.result), tuple(gathered[axis] for axis in self.order))
        return transpose(ordered, tuple(self.order.index(axis) for axis in range(len(self.order))))

    def add(self, x: Node, value: Node) -> Node:
        """`x` with a value added to the selected elements."""
        updates = self.updates(value)
        if not self.indices:
            return ops.add(x, self.spread(updates))
        if self.is_whole:
            return ops.scatter_add(x, updates, *self.indices, axes=self.axes)
        zeros = full(0, x.type.with_shape(self.size))
        return ops.add(x, self.spread(ops.scatter_add(zeros, updates, *self.indices, axes=self.axes)))

    def set(self, x: Node, value: Node) -> Node:
        """`x` with the selected elements replaced."""
        new = self.updates(value)
        if self.indices:
            new = ops.scatter_set(self.window(x), new, *self.indices, axes=self.axes)
        if self.is_whole:
            return new
        inside = self.spread(full(True, new.type.with_dtype(BOOL)))
        return ops.where(inside, self.spread(new), x)


def getitem(x: Node, index: Any) -> Node:
    """``x[index]``."""
    entries = _entries(index, x)
    if any(_is_mask(entry) for entry in entries):
        raise DeclarationIndexError(
            f"a mask selects an unknown number of the elements of {x.type}",
            hint="write np.where(mask, x, 0) and reduce that; x.at[mask].set(v) is fine",
        )
    return _select(x.shape, entries).read(x)


def at_add(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].add(value)``: of duplicate indices all count."""
    return _write(x, index, value, "add")


def at_set(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].set(value)``: of duplicate indices the last wins."""
    return _write(x, index, value, "set")


def _write(x: Operand, index: Any, value: Operand, how: str) -> Node:
    base = as_node(x)
    new = _value(base, value)
    entries = _entries(index, base)
    masks = [entry for entry in entries if _is_mask(entry)]
    if not masks:
        selection = _select(base.shape, entries)
        return selection.add(base, new) if how == "add" else selection.set(base, new)
    place = next(axis for axis, entry in enumerate(entries) if entry is masks[0])
    if not all(entry == slice(None) for axis, entry in enumerate(entries) if axis != place):
        raise DeclarationIndexError("a mask beside other indices", hint="combine them into one mask of x's shape")
    mask = as_node(masks[0])
    masked = base.shape[place : place + len(mask.shape)]
    if mask.shape != masked:
        raise DeclarationIndexError(f"a mask of shape {shape_text(mask.shape)} does not fit {base.type}")
    mask = reshape(mask, mask.shape + (1,) * (len(base.shape) - place - len(mask.shape)))
    chosen = broadcast(mask, base.shape)
    added = broadcast(new, base.shape)
    return ops.where(chosen, ops.add(base, added) if how == "add" else added, base)


def _value(base: Node, value: Operand) -> Node:
    value = lift(value)
    if is_weak(value):
        kind = np.result_type(base.dtype, 0 if isinstance(value, Dim) else type(value)(0))
        if np.can_cast(kind, base.dtype, "same_kind"):
            return number(value, base.type.with_shape(()))
    elif np.can_cast(value.dtype, base.dtype, "same_kind"):
        return cast(value, base.dtype)
    name = value.type if isinstance(value, Node) else repr(value)
    raise DeclarationTypeError(f"{name} does not go into {base.type}", hint="cast one of them with .astype first")


# from NumPy's index to a selection ------------------------------------------------------------------------------------


def _entries(index: Any, x: Node) -> list[Any]:
    """One entry per axis (a mask stands for several) and per None, without Ellipsis; lists are arrays."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [np.asarray(item) if isinstance(item, list) and not _has_nodes(item) else item for item in items]
    dots = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise DeclarationIndexError("an index can have only one '...'")
    used = sum(_axes_used(item) for item in items)
    if used > len(x.shape):
        raise DeclarationIndexError(f"{used} indices for {x.type}, which has {len(x.shape)} axes")
    at = dots[0] if dots else len(items)
    items[at : at + 1] = [slice(None)] * (len(x.shape) - used)
    return [item if item is None or isinstance(item, slice) else _checked(item) for item in items]


def _has_nodes(items: Iterable[Any]) -> bool:
    return any(isinstance(item, Node) for item in items)


def _axes_used(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    is_bool = isinstance(item, bool) or getattr(item, "dtype", None) == BOOL
    return np.ndim(item) if is_bool and not isinstance(item, Node) else len(item.shape) if is_bool else 1


def _checked(item: Any) -> Any:
    """An int or dim, or a node of integers or booleans."""
    if isinstance(item, np.integer):
        return int(item)
    if is_extent(item):
        return item
    node = item if isinstance(item, Node) else None
    if isinstance(item, (np.ndarray, np.bool_, bool)):
        node = as_node(item.astype(INDEX) if isinstance(item, np.ndarray) and item.size == 0 else item)
    if node is None or not (is_integer(node) or node.dtype == BOOL):
        what = node.type if node is not None else f"{item!r}"
        raise DeclarationIndexError(
            f"{what} is no index: expected ints, slices, None, '...', or arrays of integers",
            hint="stack a list of views with np.stack; cast floats with .astype('int64')",
        )
    return node


def _is_mask(entry: Any) -> bool:
    return isinstance(entry, Node) and entry.dtype == BOOL


def _select(shape: Shape, entries: list[Any]) -> Selection:
    """The selection that entries without masks mean."""
    advanced = any(isinstance(entry, Node) for entry in entries)
    windows: list[tuple[Extent, Extent, int]] = []
    axes: list[int] = []
    indices: list[Node] = []
    for entry in entries:
        if entry is None:
            continue
        axis, extent = len(windows), shape[len(windows)]
        if isinstance(entry, slice):
            windows.append(_slice(entry, extent))
        elif advanced:
            axes.append(axis)
            indices.append(wrapped(entry, extent, axis))
            windows.append((0, extent, 1))
        else:
            windows.append((_position(entry, extent, axis), 1, 1))
    start, size, step = zip(*windows, strict=True) if windows else ((), (), ())
    indexed = broadcast_shapes(*(index.shape for index in indices))
    order, result = _presentation(entries, size, indexed)
    return Selection(
        shape, start, size, step, tuple(axes), tuple(broadcast(index, indexed) for index in indices), order, result
    )  # fmt: skip


def _presentation(entries: list[Any], size: Shape, indexed: Shape) -> tuple[tuple[int, ...], Shape]:
    """Where NumPy puts the axes of the index arrays: at the first of them if they stand together, else in front."""
    is_index = [not (entry is None or isinstance(entry, slice)) for entry in entries]
    arrays = any(isinstance(entry, Node) for entry in entries)
    places = [k for k, flag in enumerate(is_index) if flag] if arrays else []
    together = bool(places) and places[-1] - places[0] + 1 == len(places)
    result: list[Extent] = [] if together else list(indexed)
    sliced_before, axis = 0, 0
    for k, entry in enumerate(entries):
        if places and together and k == places[0]:
            result.extend(indexed)
        if entry is None:
            result.append(1)
            continue
        if isinstance(entry, slice):
            result.append(size[axis])
            sliced_before += bool(places) and k < places[0]
        axis += 1
    front = len(indexed)
    rest = [front + k for k in range(axis - len(places))]
    before = sliced_before if together else 0
    return (*rest[:before], *range(front), *rest[before:]), tuple(result)


def _slice(entry: slice, extent: Extent) -> tuple[Extent, Extent, int]:
    """The start, size and step of a slice; bounds on a symbolic extent are not clipped but guarded."""
    bounds: list[Any] = [_bound(value) for value in (entry.start, entry.stop)]
    step = 1 if entry.step is None else _bound(entry.step)
    if not isinstance(step, int) or step == 0:
        raise DeclarationValueError(f"a slice's step is a known int, and not 0: got {step}")
    if isinstance(extent, int) and not any(isinstance(bound, Dim) for bound in bounds):
        first, stop, step = slice(bounds[0], bounds[1], step).indices(extent)
        return first, len(range(first, stop, step)), step
    begin = _resolved(bounds[0], extent, 0 if step > 0 else extent - 1)
    end = _resolved(bounds[1], extent, extent if step > 0 else -1)
    return begin, strided(begin, end, step), step


def _bound(value: Any) -> Extent | None:
    if value is None or isinstance(value, Dim):
        return value
    try:
        return operator.index(value)
    except TypeError:
        raise DeclarationTypeError(
            f"a slice is bounded by ints and dims, not by {value!r}",
            hint="a start that is computed: x[start + np.arange(n)] with graphc.arange",
        ) from None


def _resolved(bound: Extent | None, extent: Extent, default: Extent) -> Extent:
    if bound is None:
        return default
    return extent + bound if _is_negative(bound) else bound


def _is_negative(bound: Extent) -> bool:
    """Whether a bound counts from the end: ``-2``, and ``-n`` of a dim."""
    if isinstance(bound, Dim):
        return all(coefficient < 0 for _, coefficient in bound.terms)
    return bound < 0


def _position(entry: Extent, extent: Extent, axis: int) -> Extent:
    position: Extent = extent + entry if _is_negative(entry) else entry
    if isinstance(extent, int) and isinstance(position, int) and not 0 <= position < extent:
        raise DeclarationIndexError(f"index {entry} is out of range for axis {axis} with {extent} elements")
    return position


def wrapped(index: Operand, extent: Extent, axis: int) -> Node:
    """Indices counted from the front: checked at once where they are known, else when the program runs."""
    node = as_node(index)
    if node.op is not constant or not isinstance(extent, int):
        return ops.wrap_index(node, extent=extent)
    known = node["value"].array
    wrong = known[(known >= extent) | (known < -extent)]
    if wrong.size:
        raise DeclarationIndexError(f"index {wrong.flat[0]} is out of range for axis {axis} with {extent} elements")
    positions = known.astype(INDEX)
    return constant(value=Literal(np.where(positions < 0, positions + extent, positions)), shape=node.shape)


# NumPy's functions of indices -----------------------------------------------------------------------------------------


def take(a: Operand, indices: Operand, axis: int | None = None, *, mode: str = "raise") -> Node:
    """The elements at some indices along an axis (of all, flattened, if it is None)."""
    if mode != "raise":
        raise DeclarationValueError(f"np.take of views has no mode {mode!r}", hint="clip the indices with np.clip")
    x = ravel(a) if axis is None else as_node(a)
    place = as_axis(0 if axis is None else axis, len(x.shape))
    return getitem(x, (*(slice(None),) * place, _index_node(indices)))


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
    places = [ops.iota(shape=index.shape, axis=k, dtype=INDEX) for k in range(len(index.shape))]
    places[axis] = wrapped(index, x.shape[axis], axis)
    return ops.gather(x, *places, axes=tuple(range(len(places))))


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
    index = _index_node(k)
    positions = expand_dims(wrapped(index, depth, len(index.shape)), -1)
    shape = (*index.shape, depth)
    hits = ops.equal(broadcast(positions, shape), ops.iota(shape=shape, axis=len(shape) - 1, dtype=INDEX))
    return cast(hits, dtype_of(dtype))
