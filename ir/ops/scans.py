"""Scans: ops that go along one axis in order and keep every step, forward or from the end.

An exclusive scan keeps what there was before each step. The gradient of a running product is a linear recurrence, and
the gradients of a linear recurrence are linear recurrences: no derivative divides, so zeros do no harm, and none takes
more than a few passes over the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir.core import FLOAT, NUMBER, Custom, Linear, Node, Op, full, same_type
from graphc.ir.errors import DeclarationTypeError
from graphc.ir.ops.checks import check_axis, check_dtype
from graphc.ir.ops.comparison import equal, isnan, logical_or, where
from graphc.ir.ops.conversion import rules_in_single, stop_gradient
from graphc.ir.ops.indexing import INDEX, gather, iota, scatter_add
from graphc.ir.types import TensorType


def _check(name: str, x: TensorType, accepts: str, axis: int, *flags: bool) -> None:
    check_dtype(name, x, accepts)
    check_axis(name, axis, x.ndim)
    if not all(isinstance(flag, bool) for flag in flags):
        raise DeclarationTypeError(f"{name} wants reverse and exclusive to be True or False, got {flags}")


def _infer(name: str, accepts: str = NUMBER) -> Callable[..., TensorType]:
    def infer(x: TensorType, *, axis: int, reverse: bool, exclusive: bool) -> TensorType:
        _check(name, x, accepts, axis, reverse, exclusive)
        return x

    return infer


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _in_order(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    """The axis first, in the order of the scan."""
    moved = np.moveaxis(x, axis, 0)
    return moved[::-1] if reverse else moved


def _scanned(
    function: np.ufunc, initial: int, x: np.ndarray, axis: int, reverse: bool, exclusive: bool
) -> np.ndarray:
    """A ufunc accumulated; float32 in float64."""
    steps = _in_order(_wide(x), axis, reverse)
    found = np.empty_like(steps)
    if exclusive:
        found[:1] = initial
        function.accumulate(steps[:-1], axis=0, out=found[1:], dtype=steps.dtype)
    else:
        function.accumulate(steps, axis=0, out=found, dtype=steps.dtype)
    with np.errstate(over="ignore"):
        return np.moveaxis(found[::-1] if reverse else found, 0, axis).astype(x.dtype)


def _flags(node: Node) -> dict[str, Any]:
    return {"axis": node["axis"], "reverse": node["reverse"]}


# running sums ---------------------------------------------------------------------------------------------------------


def _cumsum_transpose(node: Node, ct: Node) -> tuple[Node | None]:
    if ct.dtype.kind == "b":
        return (None,)
    return (cumsum(ct, axis=node["axis"], reverse=not node["reverse"], exclusive=node["exclusive"]),)


cumsum = Op(
    name="cumsum",
    accepts=NUMBER,
    infer=_infer("cumsum"),
    evaluate=lambda x, axis, reverse, exclusive: _scanned(np.add, 0, x, axis, reverse, exclusive),
    derivative=Linear(_cumsum_transpose),
    numpy=("cumsum", "cumulative_sum"),
    note="exclusive: 0 first; reverse: from the end; float32 is summed in float64; integers wrap around",
)


# linear recurrences ---------------------------------------------------------------------------------------------------


def _recurrence_infer(a: TensorType, b: TensorType, *, axis: int, reverse: bool, exclusive: bool) -> TensorType:
    same_type("recurrence", (a, b), FLOAT)
    _check("recurrence", a, FLOAT, axis, reverse, exclusive)
    return a


def _recurrence_evaluate(a: np.ndarray, b: np.ndarray, axis: int, reverse: bool, exclusive: bool) -> np.ndarray:
    factors, terms = (_in_order(_wide(x), axis, reverse) for x in (a, b))
    found = np.zeros_like(factors)
    state = np.zeros(found.shape[1:])
    with np.errstate(all="ignore"):
        for k, (factor, term) in enumerate(zip(factors, terms, strict=True)):
            if exclusive:
                found[k] = state
            state = factor * state + term
            if not exclusive:
                found[k] = state
        return np.moveaxis(found[::-1] if reverse else found, 0, axis).astype(a.dtype)


def _before(node: Node) -> Node:
    """What there was before each step."""
    return node.op(*node.operands, **_flags(node), exclusive=True)


def _pulled(node: Node, a: Node, ct: Node) -> Node:
    """The cotangent of what each step adds: the recurrence the other way, with the factors of the steps in between."""
    back = {"axis": node["axis"], "reverse": not node["reverse"], "exclusive": True}
    if node["exclusive"]:
        return recurrence(a, ct, **back)
    return ct + recurrence(a, a * ct, **back)


def _recurrence_jvp(node: Node, tangents: tuple[Node | None, Node | None]) -> Node:
    a, b = node.operands
    by_a, by_b = tangents
    added = full(0, b.type) if by_b is None else by_b
    if by_a is not None:
        added = added + by_a * _before(node)
    return recurrence(a, added, **_flags(node), exclusive=node["exclusive"])


def _recurrence_vjp(node: Node, ct: Node) -> tuple[Node, Node]:
    pulled = _pulled(node, node.operands[0], ct)
    return pulled * _before(node), pulled


recurrence = Op(
    name="recurrence",
    accepts=FLOAT,
    infer=_recurrence_infer,
    evaluate=_recurrence_evaluate,
    derivative=rules_in_single(_recurrence_jvp, _recurrence_vjp),
    numpy=("linear_recurrence",),
    domain=(-1.0, 1.0),
    note="y[k] = a[k] * y[k - 1] + b[k] from 0; exclusive: y[k - 1]; reverse: from the end; float32 runs in float64",
)


# running products -----------------------------------------------------------------------------------------------------


def _cumprod_jvp(node: Node, tangents: tuple[Node]) -> Node:
    return recurrence(node.operands[0], tangents[0] * _before(node), **_flags(node), exclusive=node["exclusive"])


cumprod = Op(
    name="cumprod",
    accepts=NUMBER,
    infer=_infer("cumprod"),
    evaluate=lambda x, axis, reverse, exclusive: _scanned(np.multiply, 1, x, axis, reverse, exclusive),
    derivative=rules_in_single(_cumprod_jvp, lambda node, ct: (_pulled(node, node.operands[0], ct) * _before(node),)),
    numpy=("cumprod", "cumulative_prod"),
    note="exclusive: 1 first; reverse: from the end; no derivative divides: exact through zeros; integers wrap around",
)


def products_of_others(x: Node, axis: int) -> Node:
    """Of each element the product of all others along an axis: what is before it times what is behind it."""
    before, behind = (cumprod(x, axis=axis, reverse=reverse, exclusive=True) for reverse in (False, True))
    return before * behind


# running extrema ------------------------------------------------------------------------------------------------------


def _extremum_infer(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, *, axis: int, reverse: bool) -> TensorType:
        _check(name, x, NUMBER, axis, reverse)
        return x

    return infer


def _extremum_evaluate(function: np.ufunc) -> Callable[..., np.ndarray]:
    def evaluate(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        found = function.accumulate(_in_order(x, axis, reverse), axis=0)
        return np.moveaxis(found[::-1] if reverse else found, 0, axis)

    return evaluate


def _places(node: Node) -> tuple[Node, ...]:
    """Where the extremum of each step is: the latest element that reaches it, or the first nan."""
    (x,), axis = node.operands, node["axis"]
    x, y = stop_gradient(x), stop_gradient(node)
    hit = logical_or(equal(x, y), isnan(x))
    places = [iota(shape=x.shape, axis=k, dtype=INDEX) for k in range(len(x.shape))]
    if node["reverse"]:
        last = full(x.shape[axis], places[axis].type)
        places[axis] = cummin(where(hit, places[axis], last), **_flags(node))
    else:
        places[axis] = cummax(where(hit, places[axis], full(-1, places[axis].type)), **_flags(node))
    return tuple(places)


def _extremum_jvp(node: Node, tangents: tuple[Node]) -> Node:
    return gather(tangents[0], *_places(node), axes=tuple(range(len(node.shape))))


def _extremum_vjp(node: Node, ct: Node) -> tuple[Node]:
    return (scatter_add(full(0, ct.type), ct, *_places(node), axes=tuple(range(len(node.shape)))),)


def _extremum(name: str, function: np.ufunc) -> Op:
    return Op(
        name=name, infer=_extremum_infer(name), evaluate=_extremum_evaluate(function), accepts=NUMBER,
        derivative=Custom(_extremum_jvp, _extremum_vjp), numpy=(f"{function.__name__}.accumulate",),
        note="the gradient goes to the latest of equals; nan from the first nan on; reverse: from the end",
    )  # fmt: skip


cummax = _extremum("cummax", np.maximum)
cummin = _extremum("cummin", np.minimum)
