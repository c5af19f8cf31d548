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
from graphc.ir.core import Literal, Node, constant
from graphc.ir.dims import Dim, Extent, is_extent
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.ir.types import Shape
from graphc.layout import reshape, strided, transpose
from graphc.operands import (
    BOOL,
    INDEX,
    Operand,
    as_node,
    broadcast,
    broadcast_shapes,
    is_integer,
    told,
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


def getitem(x: Node, index: Any) -> Node:
    """``x[index]``."""
    entries = index_entries(index, x)
    if any(is_mask(entry) for entry in entries):
        raise DeclarationIndexError(
            f"a mask selects an unknown number of the elements of {x.type}",
            hint="write np.where(mask, x, 0) and reduce that; x.at[mask].set(v) is fine",
        )
    return select(x.shape, entries).read(x)


# from NumPy's index to a selection ------------------------------------------------------------------------------------


def index_entries(index: Any, x: Node) -> list[Any]:
    """One entry per axis (a mask stands for several), per None, and for a '...' that stands for no axis."""
    items = list(index) if isinstance(index, tuple) else [index]
    is_array = [isinstance(item, (list, tuple, range)) and not _has_nodes(item) for item in items]
    items = [np.asarray(item) if flag else item for item, flag in zip(items, is_array, strict=True)]
    dots = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise DeclarationIndexError("an index can have only one '...'")
    used = sum(_axes_used(item) for item in items)
    if used > len(x.shape):
        raise DeclarationIndexError(f"{used} indices for {x.type}, which has {len(x.shape)} axes")
    at = dots[0] if dots else len(items)
    missing: list[Any] = [slice(None)] * (len(x.shape) - used)
    items[at : at + 1] = missing or [Ellipsis] * len(dots)
    return [item if item is None or item is Ellipsis or isinstance(item, slice) else _checked(item) for item in items]


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
        what = node.type if node is not None else told(item)
        raise DeclarationIndexError(
            f"{what} is no index: expected ints, slices, None, '...', or arrays of integers",
            hint="stack a list of views with np.stack; cast floats with .astype('int64')",
        )
    return node


def is_mask(entry: Any) -> bool:
    """Whether an entry is an array of booleans."""
    return isinstance(entry, Node) and entry.dtype == BOOL


def select(shape: Shape, entries: list[Any]) -> Selection:
    """The selection that entries without masks mean."""
    advanced = any(isinstance(entry, Node) for entry in entries)
    windows: list[tuple[Extent, Extent, int]] = []
    axes: list[int] = []
    indices: list[Node] = []
    for entry in entries:
        if entry is None or entry is Ellipsis:
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
    """Where NumPy puts the axes of the index arrays: at the first of them if they stand together, else in front.

    A '...' between them sets them apart, even where it stands for no axis.
    """
    is_index = [not (entry is None or entry is Ellipsis or isinstance(entry, slice)) for entry in entries]
    arrays = any(isinstance(entry, Node) for entry in entries)
    places = [k for k, flag in enumerate(is_index) if flag] if arrays else []
    together = bool(places) and places[-1] - places[0] + 1 == len(places)
    result: list[Extent] = [] if together else list(indexed)
    sliced_before, axis = 0, 0
    for k, entry in enumerate(entries):
        if places and together and k == places[0]:
            result.extend(indexed)
        if entry is Ellipsis:
            continue
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
            f"a slice is bounded by ints and dims, not by {told(value)}",
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


def along(x: Node, places: Node, axis: int) -> Node:
    """The elements at positions along an axis that are known to lie in it."""
    at = [ops.iota(shape=places.shape, axis=k, dtype=INDEX) for k in range(len(places.shape))]
    at[axis] = places
    return ops.gather(x, *at, axes=tuple(range(len(at))))


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
