"""NumPy's functions of order on nodes: sorting, searching, and counting in bins.

All sorts are stable and complete. A sorted array is gathered by `argsort`, so its gradient goes back where each element
came from; of equal elements the first in the array is the first in the sorted one. Positions have no derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.arithmetic import divide, subtract
from graphc.indexing import along
from graphc.ir import ops
from graphc.ir.core import Node, constant, full
from graphc.ir.dims import product
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.ir.half import SINGLE
from graphc.ir.types import TensorType, is_half, kind_of
from graphc.layout import flip, moveaxis, ravel, reshape, whole_number
from graphc.operands import (
    BOOL,
    FLOAT,
    INDEX,
    Operand,
    as_axis,
    as_node,
    cast,
    common_dtype,
    is_integer,
    known_array,
    shape_text,
    told,
    unify,
)
from graphc.picking import take
from graphc.scans import part

KINDS = ("quicksort", "mergesort", "heapsort", "stable")


# sorting --------------------------------------------------------------------------------------------------------------


def argsort(
    a: Operand, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None
) -> Node:
    """The positions of the elements in sorted order along an axis (of all, flattened, if it is None)."""
    x, axis = _to_sort("np.argsort", a, axis, kind, order)
    return ops.argsort(x, axis=axis)


def sort(
    a: Operand, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None
) -> Node:
    """The elements in ascending order along an axis (all, flattened, if it is None), NaN last."""
    x, axis = _to_sort("np.sort", a, axis, kind, order)
    return along(x, ops.argsort(x, axis=axis), axis)


def partition(
    a: Operand, kth: int | tuple[int, ...], axis: int | None = -1, kind: str = "introselect", order: None = None
) -> Node:
    """The array sorted along an axis, which puts its kth elements where a partition would."""
    x, axis = _to_sort("np.partition", a, axis, None if kind == "introselect" else kind, order)
    _check_kth("np.partition", kth, x, axis)
    return along(x, ops.argsort(x, axis=axis), axis)


def argpartition(
    a: Operand, kth: int | tuple[int, ...], axis: int | None = -1, kind: str = "introselect", order: None = None
) -> Node:
    """The positions of the elements in sorted order along an axis, which is one of a partition's."""
    x, axis = _to_sort("np.argpartition", a, axis, None if kind == "introselect" else kind, order)
    _check_kth("np.argpartition", kth, x, axis)
    return ops.argsort(x, axis=axis)


def top_k(x: Operand, k: int, axis: int = -1) -> tuple[Node, Node]:
    """The k largest elements along an axis, in descending order, and their positions: the first of equals first."""
    node = as_node(x)
    axis = as_axis(axis, len(node.shape))
    extent = node.shape[axis]
    count = whole_number("graphc.top_k", "k", k)
    if count < 0 or (isinstance(extent, int) and count > extent):
        raise DeclarationValueError(f"top_k: there are no {k} elements along axis {axis} of {shape_text(node.shape)}")
    places = flip(ops.argsort(flip(node, axis), axis=axis), axis)  # behind each other equals are in order again
    places = part(subtract(full(extent - 1, places.type), places), axis, None, count)
    return along(node, places, axis), places


def _to_sort(name: str, a: Operand, axis: int | None, kind: str | None, order: None) -> tuple[Node, int]:
    if kind is not None and kind not in KINDS:
        raise DeclarationValueError(f"{name} has no kind {told(kind)}", hint=f"all of {', '.join(KINDS)} are stable")
    if order is not None:
        raise DeclarationTypeError(f"{name} of a view takes no order=", hint="views have no fields to order by")
    x = as_node(a)
    if axis is None:
        return ravel(x), 0
    return x, as_axis(axis, len(x.shape))


def _check_kth(name: str, kth: Any, x: Node, axis: int) -> None:
    extent = x.shape[axis]
    for place in kth if isinstance(kth, (tuple, list)) else (kth,):
        if isinstance(place, bool) or not isinstance(place, (int, np.integer)):
            raise DeclarationTypeError(f"{name} wants kth as an integer, or several, got {told(place)}")
        if isinstance(extent, int) and not -extent <= place < extent:
            raise DeclarationIndexError(f"{name}: kth {place} is out of range for an axis of {extent} elements")


# order statistics -----------------------------------------------------------------------------------------------------


def median(a: Operand, axis: Any = None, *, keepdims: bool = False) -> Node:
    """The middle of the sorted elements over axes, or the mean of both; nan where one of them is."""
    x = as_node(a)
    x = x if x.type.is_float else cast(x, FLOAT)
    if is_half(x.dtype):  # whose sum of two may overflow where their mean does not
        return cast(median(cast(x, SINGLE), axis, keepdims=keepdims), x.dtype)
    rows, axes = _rows("np.median", x, axis)
    count = rows.shape[-1]
    ordered = along(rows, ops.argsort(rows, axis=len(rows.shape) - 1), len(rows.shape) - 1)
    low, high = (_element(ordered, place) for place in ((count - 1) // 2, count // 2))
    if not isinstance(count, int):  # either way: both halves are exact
        middle = ops.add(*(ops.multiply(each, full(0.5, each.type)) for each in (low, high)))
    else:
        middle = low if count % 2 else divide(ops.add(low, high), 2)
    return _kept(_or_nan(middle, ordered), axes, x, 0, keepdims)


def quantile(a: Operand, q: Operand, axis: Any = None, *, method: str = "linear", keepdims: bool = False) -> Node:
    """The values below which fractions q of the elements over axes lie; nan where an element is.

    q is a number or an array that is known. Between two elements lies what `method` says; at an element it is that one,
    whatever its neighbour (NumPy's is nan beside an infinity).
    """
    return _quantile("np.quantile", a, q, 1, axis, method, keepdims)


def percentile(a: Operand, q: Operand, axis: Any = None, *, method: str = "linear", keepdims: bool = False) -> Node:
    """The values below which q per cent of the elements over axes lie: `quantile` at q / 100."""
    return _quantile("np.percentile", a, q, 100, axis, method, keepdims)


_METHODS = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile(name: str, a: Operand, q: Operand, whole: int, axis: Any, method: str, keepdims: bool) -> Node:
    x = as_node(a)
    if x.dtype.kind == "b":
        raise DeclarationTypeError(f"{name} of booleans: there is nothing between them", hint="x.astype('float64')")
    if method not in _METHODS:
        there_are = f"there are {', '.join(_METHODS)}"
        raise DeclarationValueError(f"{name} has no method {told(method)} here", hint=there_are)
    fractions, dtype = _fractions(name, q, whole, x)
    rows, axes = _rows(name, x, axis)
    last = len(rows.shape) - 1
    ordered = along(rows, ops.argsort(rows, axis=last), last)
    low, high, share = _places(fractions, ordered, method)
    lower = ops.gather(ordered, low, axes=(last,))
    if method in ("linear", "midpoint"):
        upper = ops.gather(ordered, high, axes=(last,))
        found = _between(cast(lower, dtype), cast(upper, dtype), cast(share, dtype))
    else:
        found = lower
    return _kept(_or_nan(found, ordered), axes, x, fractions.ndim, keepdims)


def _fractions(name: str, q: Operand, whole: int, x: Node) -> tuple[np.ndarray, np.dtype[Any]]:
    """Known fractions, and the dtype of what lies between elements."""
    if isinstance(q, Node) and q.op is not constant:
        raise DeclarationTypeError(f"{name} wants a q that is known, not a view", hint="a number, or an array")
    try:
        given = known_array(q) if isinstance(q, Node) else np.asarray(q)
        fractions = given.astype(FLOAT) / whole
    except (TypeError, ValueError):
        raise DeclarationTypeError(f"{name} wants a number or an array of numbers as q, got {told(q)}") from None
    if not np.all((fractions >= 0) & (fractions <= 1)):
        raise DeclarationValueError(f"{name} wants q between 0 and {whole}, got {told(q)}")
    weak = type(q) in (int, float)
    between = common_dtype([x.dtype, type(q)(0) if weak else given.dtype])
    return fractions, between if whole == 1 or kind_of(between) == "f" else common_dtype([x.dtype, FLOAT])


def _places(fractions: np.ndarray, ordered: Node, method: str) -> tuple[Node, Node, Node]:
    """The positions that fractions lie between, and how far on the way from one to the other."""
    count = ordered.shape[-1]
    type_ = TensorType(FLOAT, fractions.shape)
    at = ops.multiply(full(count - 1, type_), as_node(fractions))
    if method == "nearest":
        at = ops.rint(at)
    low = ops.ceil(at) if method == "higher" else ops.floor(at)
    share = ops.subtract(at, low)
    if method == "midpoint":
        share = cast(ops.greater(share, full(0, type_)), FLOAT) * 0.5
    places = cast(low, INDEX)
    end = full(count - 1, places.type)
    return places, ops.minimum(places + 1, end), share


def _between(low: Node, high: Node, share: Node) -> Node:
    """``low + share * (high - low)``, taken from the nearer end; low itself where there is no share."""
    share = reshape(share, (*share.shape, *(1,) * (len(low.shape) - len(share.shape))))
    share = ops.broadcast_to(share, shape=low.shape)
    distance = ops.subtract(high, low)
    zero, half = full(0, share.type), full(0.5, share.type)
    near_low = ops.add(low, ops.multiply(distance, share))
    near_high = ops.subtract(high, ops.multiply(distance, ops.subtract(full(1, share.type), share)))
    between = ops.where(ops.less(share, half), near_low, near_high)
    return ops.where(ops.equal(share, zero), low, between)


def _rows(name: str, x: Node, axis: Any) -> tuple[Node, tuple[int, ...]]:
    """The array with the elements over some axes along one axis, the last."""
    chosen = axis if isinstance(axis, (tuple, list)) else range(len(x.shape)) if axis is None else (axis,)
    axes = tuple(sorted({as_axis(one, len(x.shape)) for one in chosen}))
    kept = tuple(extent for k, extent in enumerate(x.shape) if k not in axes)
    rows = moveaxis(x, axes, tuple(range(len(kept), len(x.shape))))
    rows = rows if len(axes) == 1 else reshape(rows, (*kept, product(x.shape[k] for k in axes)))
    if rows.shape[-1] == 0:
        raise DeclarationValueError(f"{name} over an empty axis has no value: axes {axes} of {shape_text(x.shape)}")
    return rows, axes


def _element(x: Node, place: Any) -> Node:
    """One element along the last axis."""
    last = len(x.shape) - 1
    start = (*(0 for _ in range(last)), place)
    return ops.reshape(ops.slice_(x, start=start, size=(*x.shape[:-1], 1), step=(1,) * (last + 1)), shape=x.shape[:-1])


def _or_nan(found: Node, ordered: Node) -> Node:
    """What was found, but nan where there is one (it is the last); that there is a last element is a guard."""
    highest = _element(ordered, ordered.shape[-1] - 1)
    if not highest.type.is_float:
        return found
    missing = ops.isnan(highest)
    missing = missing if missing.shape == found.shape else ops.broadcast_to(missing, shape=found.shape)
    return ops.where(missing, full(np.nan, found.type), found)


def _kept(found: Node, axes: tuple[int, ...], x: Node, front: int, keepdims: bool) -> Node:
    """The result, with 1 for the axes that are gone behind `front` others."""
    if not keepdims:
        return found
    shape = tuple(1 if k in axes else extent for k, extent in enumerate(x.shape))
    return reshape(found, (*found.shape[:front], *shape))


# searching and counting -----------------------------------------------------------------------------------------------


def searchsorted(a: Operand, v: Operand, side: str = "left", sorter: Operand = None) -> Node:
    """Where values belong in a sorted vector: before their equals, or behind them (side="right")."""
    if side not in ("left", "right"):
        raise DeclarationValueError(f"np.searchsorted has sides 'left' and 'right', not {told(side)}")
    keys, values = as_node(a), as_node(v)
    if len(keys.shape) != 1:
        raise DeclarationValueError(f"np.searchsorted looks in a vector, not in {keys.type}")
    if sorter is not None:
        keys = take(keys, sorter)
    dtype = common_dtype([keys.dtype, values.dtype])
    keys, values = cast(keys, dtype), cast(values, dtype)
    found = ops.searchsorted(keys, values if values.shape else reshape(values, (1,)), right=side == "right")
    return reshape(found, values.shape)


def digitize(x: Operand, bins: Operand, right: bool = False) -> Node:
    """The bin of each element: how many edges, ascending or descending, lie before it."""
    edges = _known("np.digitize", "bins", bins)
    steps = np.diff(edges) if edges.ndim == 1 else edges
    if edges.ndim != 1 or not (np.all(steps >= 0) or np.all(steps <= 0)):
        raise DeclarationValueError(f"np.digitize wants a vector of bins in ascending or descending order, got {edges}")
    side = "left" if right else "right"
    if np.all(steps >= 0):
        return searchsorted(edges, x, side)
    return subtract(len(edges), searchsorted(edges[::-1], x, side))


def bincount(x: Operand, weights: Operand = None, minlength: int = 0) -> Node:
    """How often each number below `minlength` occurs, or the sum of the weights where it does.

    The length of the result is `minlength`; a number that is not below it, or negative, is an error at the call.
    (Without views the largest number of a known x counts, as in NumPy.)
    """
    node = as_node(x)
    if len(node.shape) != 1 or not (is_integer(node) or node.dtype == BOOL):
        raise DeclarationTypeError(f"np.bincount counts integers along one axis, got {node.type}")
    length = whole_number("np.bincount", "minlength", minlength)
    if node.op is constant:
        known = known_array(node)
        if known.size and known.min() < 0:
            raise DeclarationValueError(f"np.bincount counts numbers of at least 0, got {known.min()}")
        length = max(length, int(known.max()) + 1 if known.size else 0)
    elif length < 1:
        raise DeclarationValueError(
            "np.bincount of a view has a length that depends on its values",
            hint="give minlength=, the number of bins: every number must be below it",
        )
    places = ops.wrap_index(cast(node, np.dtype("uint64")), extent=length)  # negative ones are too large
    if weights is None:
        counted = full(1, TensorType(INDEX, node.shape))
    else:
        counted = cast(as_node(weights), FLOAT)
        if counted.shape != node.shape:
            raise DeclarationValueError(f"np.bincount wants a weight for each of {node.type}, got {counted.type}")
    return ops.scatter_add(full(0, TensorType(counted.dtype, (length,))), counted, places, axes=(0,))


def histogram(
    a: Operand, bins: Any = 10, range: tuple[float, float] | None = None, density: bool | None = None,
    weights: Operand = None,
) -> tuple[Node, Node]:  # fmt: skip
    """How many elements lie in each bin, or the sum of their weights, and the edges, which are known beforehand."""
    if range is None and np.ndim(bins) == 0:
        raise DeclarationValueError(
            "np.histogram of a view wants edges that do not depend on its values", hint="give range=(low, high)"
        )
    ends: Any = range
    if ends is not None and not (
        isinstance(ends, (list, tuple)) and [isinstance(end, (int, float, np.number)) for end in ends] == [True, True]
    ):
        raise DeclarationTypeError("np.histogram wants range=(low, high), two known numbers")
    values = ravel(a)
    values = cast(values, np.dtype("uint8")) if values.dtype.kind == "b" else values
    known_bins = _known("np.histogram", "bins", bins)
    is_count = known_bins.ndim == 0 and known_bins.dtype.kind in "iu" and known_bins > 0
    if not is_count and (known_bins.ndim != 1 or known_bins.size < 2):
        raise DeclarationValueError(f"np.histogram wants a number of bins, or two edges or more, got {told(bins)}")
    try:
        edges = np.histogram_bin_edges(np.zeros(0, values.dtype), known_bins[()], range)
    except ValueError as error:  # that are not in order, or not finite
        raise DeclarationValueError(f"np.histogram has no bins {told(bins)} in the range {range!r}: {error}") from None
    # Places 0 and the last one are outside; the last bin has its right edge.
    inside = ops.minimum(*unify([searchsorted(edges, values, "right"), len(edges) - 1]))
    beyond = ops.greater(*unify([cast(values, common_dtype([values.dtype, edges.dtype])), edges[-1]]))
    known = ops.logical_not(ops.isnan(values)) if values.type.is_float else full(True, beyond.type)
    outside = ops.logical_or(beyond, ops.logical_not(known))
    places = ops.where(outside, full(0, inside.type), inside)
    counted = full(1, TensorType(INDEX, values.shape)) if weights is None else _weights(as_node(a), as_node(weights))
    zeros = full(0, TensorType(counted.dtype, (len(edges),)))
    counts = part(ops.scatter_add(zeros, counted, places, axes=(0,)), 0, 1)
    if density:
        total = ops.sum_(cast(counts, FLOAT), axes=(0,))
        counts = divide(divide(counts, np.diff(edges)), total)
    return counts, as_node(edges)


def _weights(x: Node, weights: Node) -> Node:
    """What each element of a histogram counts; True is 1."""
    if weights.shape != x.shape:
        raise DeclarationValueError(f"np.histogram wants a weight for each of {x.type}, got {weights.type}")
    return ravel(cast(weights, INDEX) if weights.dtype == BOOL else weights)


def _known(name: str, what: str, value: Any) -> np.ndarray:
    node = as_node(value)
    if node.op is not constant:
        raise DeclarationTypeError(f"{name} of views wants {what} that are known, not a view")
    return known_array(node)
