"""NumPy's functions that repeat the elements of an array or go on beyond its ends: tile, repeat, roll, pad, resize."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.core import Literal, Node, constant
from graphc.ir.dims import Dim, Extent, dim, dim_max, dim_min, floor_divide, is_extent, product
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.layout import concatenate, expand_dims, full, moveaxis, ravel, reshape, whole_number, window
from graphc.operands import Operand, as_axis, as_node, as_shape, broadcast, cast, lift, shape_text, told

# Known positions in at most so many runs are slices side by side, which fuse; others are a gather.
RUNS = 8

# repeats --------------------------------------------------------------------------------------------------------------


def tile(A: Operand, reps: Any) -> Node:
    """The whole array so many times along each axis; repetitions are ints or dims."""
    x = as_node(A)
    counts = [_count("np.tile", one) for one in (reps if isinstance(reps, (tuple, list, np.ndarray)) else (reps,))]
    ndim = max(len(x.shape), len(counts))
    counts = [*(1,) * (ndim - len(counts)), *counts]
    shape = (1,) * (ndim - len(x.shape)) + x.shape
    apart = reshape(x, tuple(extent for size in shape for extent in (1, size)))
    spread = broadcast(apart, tuple(extent for pair in zip(counts, shape, strict=True) for extent in pair))
    return reshape(spread, tuple(count * size for count, size in zip(counts, shape, strict=True)))


def repeat(a: Operand, repeats: Any, axis: int | None = None) -> Node:
    """Every element so many times in a row; a known list says how often for each along a known axis."""
    x = as_node(a)
    x, axis = (ravel(x), 0) if axis is None else (x, as_axis(axis, len(x.shape)))
    if not is_extent(repeats) and np.ndim(repeats) == 1 and not isinstance(repeats, Node):
        return _repeat_each(x, np.asarray(repeats), axis)
    count = _count("np.repeat", repeats)
    shape = (*x.shape[: axis + 1], count, *x.shape[axis + 1 :])
    merged = (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :])
    return reshape(broadcast(expand_dims(x, axis + 1), shape), merged)


def _repeat_each(x: Node, repeats: np.ndarray, axis: int) -> Node:
    extent = x.shape[axis]
    if repeats.size == 1:
        return repeat(x, repeats[0], axis)
    if repeats.dtype.kind not in "iu" or np.any(repeats < 0):
        raise DeclarationValueError(f"np.repeat wants repeats that are not negative ints, got {told(repeats.tolist())}")
    if not isinstance(extent, int) or repeats.size != extent:
        raise DeclarationValueError(
            f"np.repeat: {repeats.size} repeats for an axis of {extent} elements of {x.type}",
            hint="give one int for all, or as many as a known axis has",
        )
    return at_known(x, np.repeat(np.arange(extent), repeats), axis)


def _count(function: str, value: Any) -> Extent:
    """How often something is repeated."""
    if isinstance(value, Node) or (isinstance(value, np.ndarray) and value.ndim):
        raise DeclarationTypeError(f"{function} repeats by ints and dims, not by {told(value)}")
    return dim(value)


def resize(a: Operand, new_shape: Any) -> Node:
    """The elements in C order, over and over, as many as the shape takes."""
    x, shape = as_node(a), as_shape(new_shape)
    size, wanted = x.type.size, product(shape)
    if not isinstance(size, int) or not isinstance(wanted, int):
        raise DeclarationValueError(
            f"np.resize of {x.type} to {shape_text(shape)} is for known sizes", hint="np.tile and a slice take dims"
        )
    if size == 0:
        return full(shape, cast(as_node(0), x.dtype))
    flat = tile(ravel(x), math.ceil(wanted / size))
    return reshape(window(flat, 0, 0, wanted), shape)


def roll(a: Operand, shift: Any, axis: Any = None) -> Node:
    """The elements moved along axes (flattened, if there is none), those that leave at one end back at the other."""
    x = as_node(a)
    shifts, axes = _listed(shift), _listed(axis)
    if axis is None:
        flat = ravel(x)
        for amount in shifts:
            flat = _rolled(flat, amount, 0)
        return reshape(flat, x.shape)
    if len(shifts) == 1:
        shifts *= len(axes)
    if len(axes) == 1:
        axes *= len(shifts)
    if len(shifts) != len(axes):
        raise DeclarationValueError(f"np.roll: the shifts {shift} do not fit the axes {axis}")
    for amount, one in zip(shifts, axes, strict=True):
        x = _rolled(x, amount, as_axis(one, len(x.shape)))
    return x


def _rolled(x: Node, amount: Any, axis: int) -> Node:
    if isinstance(amount, Node):
        raise DeclarationTypeError(
            "np.roll moves by ints and dims, not by views", hint="x[(np.arange(n) - shift) % n] with graphc.arange"
        )
    extent = x.shape[axis]
    amount = amount if isinstance(amount, Dim) else whole_number("np.roll", "shift", amount)
    if isinstance(extent, Dim) and amount in (1, -1):  # one element, where there is any
        one = dim_min(extent, 1)
        moved = one if amount == 1 else extent - one
    else:
        cycle = dim_max(extent, 1)
        moved = amount - floor_divide(amount, cycle) * cycle
    if moved == 0:
        return x
    rest = extent - moved
    return concatenate([window(x, axis, rest, moved), window(x, axis, 0, rest)], axis)


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (tuple, list, np.ndarray)) and np.ndim(values) else [values]


# positions that are known ---------------------------------------------------------------------------------------------


def at_known(x: Node, positions: np.ndarray, axis: int) -> Node:
    """The elements at known positions along an axis: a few slices side by side, or a gather."""
    runs = list(_runs(positions.tolist()))
    if len(runs) > RUNS:
        index = constant(value=Literal(positions.astype("int64")), shape=positions.shape)
        return moveaxis(ops.gather(x, index, axes=(axis,)), 0, axis)
    pieces = [_run(x, axis, *run) for run in runs]
    return concatenate(pieces, axis) if pieces else window(x, axis, 0, 0)


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """The start, size and step of stretches of positions, from left to right."""
    at = 0
    while at < len(positions):
        end = at + 1
        step = positions[end] - positions[at] if end < len(positions) else 1
        while end < len(positions) and positions[end] - positions[end - 1] == step:
            end += 1
        yield positions[at], end - at, step
        at = end


def _run(x: Node, axis: int, start: Extent, size: Extent, step: int) -> Node:
    if step:
        return window(x, axis, start, size, step)
    one = window(x, axis, start, 1)
    return broadcast(one, (*x.shape[:axis], size, *x.shape[axis + 1 :]))


# pads -----------------------------------------------------------------------------------------------------------------


def pad(array: Operand, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Node:
    """The array with `pad_width` more elements at the ends of its axes.

    They are `constant_values` (0 unless given; views too), or for mode "edge" the outermost elements, for "reflect" and
    "symmetric" the array mirrored at its last element or behind it, and for "wrap" the array again.
    """
    x = as_node(array)
    known = {"constant": ("constant_values",), "reflect": ("reflect_type",), "symmetric": ("reflect_type",)}
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise DeclarationValueError(
            f"np.pad of views has no mode {told(mode)}", hint="there are constant, edge, reflect, symmetric and wrap"
        )
    for keyword in kwargs:
        if keyword not in known.get(mode, ()):
            raise DeclarationTypeError(f"np.pad of mode {mode!r} takes no {keyword}=")
    if kwargs.get("reflect_type", "even") != "even":
        raise DeclarationValueError("np.pad of views reflects evenly", hint="leave out reflect_type=")
    widths = _widths(pad_width, len(x.shape))
    if mode == "constant":
        return _pad_constant(x, widths, kwargs.get("constant_values", 0))
    for axis, (before, after) in enumerate(widths):
        if (before, after) != (0, 0):
            x = _pad_from_inside(x, axis, before, after, mode)
    return x


def _widths(pad_width: Any, ndim: int) -> list[tuple[Extent, Extent]]:
    """How many elements are added before and after each axis."""
    given = pad_width.tolist() if isinstance(pad_width, np.ndarray) else pad_width
    if isinstance(given, dict):
        by_axis = {as_axis(axis, ndim): width for axis, width in given.items()}
        given = [by_axis.get(axis, 0) for axis in range(ndim)]
        given = [width if isinstance(width, (tuple, list)) else (width, width) for width in given]
    pairs = _pairs(given, ndim, "pad_width")
    if any(not is_extent(width) or (isinstance(width, int) and width < 0) for pair in pairs for width in pair):
        raise DeclarationValueError(f"np.pad wants widths that are not negative ints, or dims, got {told(pad_width)}")
    return pairs


def _pairs(given: Any, ndim: int, name: str) -> list[tuple[Any, Any]]:
    """A value for both ends of every axis, from one for all, a pair for all, or a pair for each."""
    rows = list(given) if isinstance(given, (tuple, list)) else [given]
    if not any(isinstance(one, (tuple, list)) for one in rows):
        rows = [rows]
    pairs = [tuple(row) * 2 if len(row) == 1 else tuple(row) for row in map(_listed, rows)]
    if len(pairs) == 1:
        pairs *= ndim
    if len(pairs) != ndim or any(len(pair) != 2 for pair in pairs):
        raise DeclarationValueError(
            f"np.pad: {name}={told(given)} does not fit {ndim} axes",
            hint="give a number, a pair, or a pair for each axis",
        )
    return pairs


def _pad_constant(x: Node, widths: list[tuple[Extent, Extent]], constant_values: Any) -> Node:
    given = constant_values.tolist() if isinstance(constant_values, np.ndarray) else constant_values
    values = _pairs(given, len(x.shape), "constant_values")
    if all(isinstance(one, (int, float)) and one == 0 for pair in values for one in pair):
        shape = tuple(before + size + after for size, (before, after) in zip(x.shape, widths, strict=True))
        start = tuple(before for before, _ in widths)
        return x if shape == x.shape else ops.pad(x, start=start, step=(1,) * len(shape), shape=shape)
    for axis, (pair, ends) in enumerate(zip(widths, values, strict=True)):
        before, after = (
            full((*x.shape[:axis], width, *x.shape[axis + 1 :]), cast(as_node(lift(value)), x.dtype))
            for width, value in zip(pair, ends, strict=True)
        )
        x = concatenate([part for part in (before, x, after) if part is x or part.shape[axis] != 0], axis)
    return x


def _pad_from_inside(x: Node, axis: int, before: Extent, after: Extent, mode: str) -> Node:
    extent = x.shape[axis]
    if isinstance(extent, int) and isinstance(before, int) and isinstance(after, int):
        if extent == 0:
            raise DeclarationValueError(f"np.pad of mode {mode!r} cannot extend the empty axis {axis} of {x.type}")
        return at_known(x, np.pad(np.arange(extent), (before, after), mode=mode), axis)  # type: ignore[call-overload]
    left, right = {
        "edge": ((0, 0), (extent - 1, 0)),
        "reflect": ((before, -1), (extent - 2, -1)),
        "symmetric": ((before - 1, -1), (extent - 1, -1)),
        "wrap": ((extent - before, 1), (0, 1)),
    }[mode]  # the start and step of what is added; what is not there, a guard says
    parts = [_run(x, axis, left[0], before, left[1]), x, _run(x, axis, right[0], after, right[1])]
    return concatenate([part for part in parts if part.shape[axis] != 0], axis)
