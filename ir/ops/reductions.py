"""Products, and reductions by order: extrema, whose ties share the gradient evenly, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphc.ir.core import ANY, NUMBER, Discrete, Guard, Node, Op, full
from graphc.ir.dims import product
from graphc.ir.errors import DeclarationValueError
from graphc.ir.ops.checks import at_least_zero, check_axis, check_dtype, show, without
from graphc.ir.ops.comparison import equal, isnan, logical_or, where
from graphc.ir.ops.conversion import cast, rules_in_single, stop_gradient
from graphc.ir.ops.indexing import iota
from graphc.ir.ops.layout import reduction_infer, reshape, restore, sum_, transpose
from graphc.ir.ops.scans import products_of_others
from graphc.ir.types import Shape, TensorType


def check_not_empty(name: str, shape: Shape, axes: tuple[int, ...]) -> None:
    """Refuse to reduce over an axis that has no element."""
    if any(isinstance(shape[axis], int) and shape[axis] == 0 for axis in axes):
        raise DeclarationValueError(f"{name} over an empty axis has no value: axes {axes} of shape {show(shape)}")


def not_empty_guards(node: Node) -> Iterator[Guard]:
    """The guards that what `node` reduces over has an element."""
    shape = node.operands[0].shape
    attrs = dict(node.attrs)
    for axis in attrs["axes"] if "axes" in attrs else (attrs["axis"],):
        yield from at_least_zero(shape[axis] - 1, f"{node.op.name} over axis {axis} of {show(shape)}")


# products -------------------------------------------------------------------------------------------------------------


def _prod_evaluate(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    with np.errstate(over="ignore"):
        return np.prod(x, axis=axes, dtype=wide).astype(x.dtype)


def _slopes(node: Node) -> Node:
    """The derivative by each element: the product of the others along the axes, which count as one."""
    (x,), axes = node.operands, node["axes"]
    if len(axes) == 1:
        return products_of_others(x, axes[0])
    order = (*(k for k in range(len(x.shape)) if k not in axes), *axes)
    turned = transpose(x, axes=order)
    flat = reshape(turned, shape=(*node.shape, product(x.shape[k] for k in axes)))
    others = reshape(products_of_others(flat, len(node.shape)), shape=turned.shape)
    return transpose(others, axes=tuple(order.index(k) for k in range(len(order))))


prod = Op(
    name="prod",
    accepts=NUMBER,
    infer=reduction_infer("prod", NUMBER),
    evaluate=_prod_evaluate,
    derivative=rules_in_single(
        jvp=lambda node, tangents: sum_(_slopes(node) * tangents[0], axes=node["axes"]),
        vjp=lambda node, ct: (_slopes(node) * restore(ct, node["axes"], node.operands[0].shape),),
    ),
    numpy=("prod",),
    note="1 over nothing; integers wrap around; each slope is the product of the others, so zeros do no harm",
)


# max and min ----------------------------------------------------------------------------------------------------------


def _winners(node: Node) -> tuple[Node, Node]:
    """Which elements reach the extremum, and how many along the axes: constants to a second derivative."""
    x, = node.operands
    winners = equal(stop_gradient(x), restore(stop_gradient(node), node["axes"], x.shape))
    return winners, sum_(cast(winners, dtype=x.dtype), axes=node["axes"])


def _extremum_jvp(node: Node, tangents: tuple[Node]) -> Node:
    tangent, = tangents
    winners, count = _winners(node)
    return sum_(where(winners, tangent, full(0, tangent.type)), axes=node["axes"]) / count


def _extremum_vjp(node: Node, ct: Node) -> tuple[Node]:
    x, = node.operands
    winners, count = _winners(node)
    return (where(winners, restore(ct / count, node["axes"], x.shape), full(0, x.type)),)


def _extremum(name: str, function: Callable[..., Any]) -> Op:
    check = reduction_infer(name, NUMBER)

    def infer(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
        result: TensorType = check(x, axes=axes)
        check_not_empty(name, x.shape, axes)
        return result

    return Op(
        name=name, infer=infer, evaluate=lambda x, axes: function(x, axis=axes), guards=not_empty_guards,
        accepts=NUMBER,
        derivative=rules_in_single(_extremum_jvp, _extremum_vjp), numpy=(name, f"a{name}"),
        note="ties share the gradient evenly; nan stays nan; an empty axis is an error",
    )  # fmt: skip


max_ = _extremum("max", np.max)
min_ = _extremum("min", np.min)


# argmax and argmin ----------------------------------------------------------------------------------------------------


def _position(name: str, function: Callable[..., Any], extremum: Op) -> Op:
    def infer(x: TensorType, *, axis: int) -> TensorType:
        check_dtype(name, x, ANY)
        check_axis(name, axis, x.ndim)
        check_not_empty(name, x.shape, (axis,))
        return TensorType(np.dtype("int64"), without(x.shape, (axis,)))

    def expand(node: Node) -> Node:
        """The least position that holds the extremum, or a nan."""
        (x,), axis = node.operands, node["axis"]
        if x.dtype.kind == "b":
            x = cast(x, dtype=np.dtype("int8"))
        hit = equal(x, restore(extremum(x, axes=(axis,)), (axis,), x.shape))
        if x.type.is_float:
            hit = logical_or(hit, isnan(x))
        position = iota(shape=x.shape, axis=axis, dtype=node.dtype)
        return min_(where(hit, position, full(x.shape[axis], position.type)), axes=(axis,))

    return Op(
        name=name, infer=infer, evaluate=lambda x, axis: function(x, axis=axis), guards=not_empty_guards, expand=expand,
        derivative=Discrete(), numpy=(name,), note="the first of equals; the first nan where there is one",
    )  # fmt: skip


argmax = _position("argmax", np.argmax, max_)
argmin = _position("argmin", np.argmin, min_)
