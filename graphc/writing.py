"""Writing through an index: ``x.at[index].set(v)`` and its kin, each a new array with some elements changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.arithmetic import add, maximum, minimum, multiply
from graphc.indexing import Selection, index_entries, is_mask, select
from graphc.ir import ops
from graphc.ir.core import Node, Op, constant, full
from graphc.ir.dims import Dim
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.layout import reshape
from graphc.operands import BOOL, Operand, as_node, broadcast, cast, is_weak, known_array, lift, number, shape_text

Write = Callable[[Selection, Node, Node], Node]


def at_set(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].set(value)``: of duplicate indices the last wins."""
    return _write(x, index, value, _set, lambda old, new: new)


def at_add(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].add(value)``: of duplicate indices all count."""
    return _write(x, index, value, _add, add)


def at_multiply(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].multiply(value)``, where no element is meant twice."""
    return _write(x, index, value, _multiply, multiply)


def at_max(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].max(value)``: of duplicate indices all count."""
    return _write(x, index, value, _extremum("max", ops.scatter_max, maximum), maximum)


def at_min(x: Operand, index: Any, value: Operand) -> Node:
    """``x.at[index].min(value)``: of duplicate indices all count."""
    return _write(x, index, value, _extremum("min", ops.scatter_min, minimum), minimum)


# What the methods of `At` build.
CHANGES: dict[str, Callable[[Operand, Any, Operand], Node]] = {
    "set": at_set, "add": at_add, "multiply": at_multiply, "max": at_max, "min": at_min,
}  # fmt: skip


def _write(x: Operand, index: Any, value: Operand, write: Write, combine: Callable[[Node, Node], Node]) -> Node:
    base = as_node(x)
    new = _value(base, value)
    entries = index_entries(index, base)
    if not any(is_mask(entry) for entry in entries):
        return write(select(base.shape, entries), base, new)
    return ops.where(_mask(base, entries), combine(base, broadcast(new, base.shape)), base)


def _value(base: Node, value: Operand) -> Node:
    """What is written, in the dtype of the base."""
    value = lift(value)
    if is_weak(value):
        kind = np.result_type(base.dtype, 0 if isinstance(value, Dim) else type(value)(0))
        if np.can_cast(kind, base.dtype, "same_kind"):
            return number(value, base.type.with_shape(()))
    elif np.can_cast(value.dtype, base.dtype, "same_kind"):
        return cast(value, base.dtype)
    name = value.type if isinstance(value, Node) else repr(value)
    raise DeclarationTypeError(f"{name} does not go into {base.type}", hint="cast one of them with .astype first")


def _mask(base: Node, entries: Sequence[Any]) -> Node:
    """The one mask of an index, spread over the base."""
    entries = [entry for entry in entries if entry is not Ellipsis]
    masks = [entry for entry in entries if is_mask(entry)]
    place = next(axis for axis, entry in enumerate(entries) if entry is masks[0])
    if not all(entry == slice(None) for axis, entry in enumerate(entries) if axis != place):
        raise DeclarationIndexError("a mask beside other indices", hint="combine them into one mask of x's shape")
    mask = as_node(masks[0])
    masked = base.shape[place : place + len(mask.shape)]
    if mask.shape != masked:
        raise DeclarationIndexError(f"a mask of shape {shape_text(mask.shape)} does not fit {base.type}")
    return broadcast(reshape(mask, mask.shape + (1,) * (len(base.shape) - place - len(mask.shape))), base.shape)


# through a selection --------------------------------------------------------------------------------------------------


def _placed(selection: Selection, x: Node, window: Node) -> Node:
    """`x` with another window."""
    if selection.is_whole:
        return window
    inside = selection.spread(full(True, window.type.with_dtype(BOOL)))
    return ops.where(inside, selection.spread(window), x)


def _set(selection: Selection, x: Node, value: Node) -> Node:
    new = selection.updates(value)
    if selection.indices:
        new = ops.scatter_set(selection.window(x), new, *selection.indices, axes=selection.axes)
    return _placed(selection, x, new)


def _add(selection: Selection, x: Node, value: Node) -> Node:
    updates = selection.updates(value)
    if not selection.indices:
        return add(x, selection.spread(updates))
    if selection.is_whole:
        return ops.scatter_add(x, updates, *selection.indices, axes=selection.axes)
    zeros = full(0, x.type.with_shape(selection.size))
    return add(x, selection.spread(ops.scatter_add(zeros, updates, *selection.indices, axes=selection.axes)))


def _multiply(selection: Selection, x: Node, value: Node) -> Node:
    if not selection.indices:
        return _placed(selection, x, multiply(selection.window(x), selection.updates(value)))
    if not _are_distinct(selection.indices):
        raise DeclarationValueError(
            "x.at[index].multiply wants indices that are known, and none of them twice",
            hint="of distinct ones it is x.at[index].set(x[index] * value)",
        )
    window = selection.window(x)
    old = ops.gather(window, *selection.indices, axes=selection.axes)
    new = multiply(old, selection.updates(value))
    return _placed(selection, x, ops.scatter_set(window, new, *selection.indices, axes=selection.axes))


def _are_distinct(indices: tuple[Node, ...]) -> bool:
    """Whether indices are known, and mean no element twice."""
    if any(index.op is not constant for index in indices):
        return False
    places = [known_array(index).ravel() for index in indices]
    return len(set(zip(*places, strict=True))) == places[0].size


def _extremum(name: str, scatter: Op, combine: Callable[[Node, Node], Node]) -> Write:
    def write(selection: Selection, x: Node, value: Node) -> Node:
        if x.dtype == BOOL and selection.indices:
            raise DeclarationTypeError(f"x.at[indices].{name} is not for {x.type}", hint="cast it: x.astype('int8')")
        updates, window = selection.updates(value), selection.window(x)
        if not selection.indices:
            return _placed(selection, x, combine(window, updates))
        return _placed(selection, x, scatter(window, updates, *selection.indices, axes=selection.axes))

    return write
