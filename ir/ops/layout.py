"""Linear ops along axes: broadcasts and sums, which are each other's transposes, and changes of shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphc.ir.core import NUMBER, Discrete, Guard, Linear, Node, Op
from graphc.ir.dims import Dim, Extent, Opaque
from graphc.ir.errors import DeclarationValueError
from graphc.ir.ops.checks import check_axes, check_dtype, check_shape, show, without
from graphc.ir.types import Shape, TensorType


def _is_one(extent: Extent) -> bool:
    return isinstance(extent, int) and extent == 1


# sums -----------------------------------------------------------------------------------------------------------------


def reduction_infer(name: str, accepts: str) -> Any:
    """The type rule of reductions: the axes are dropped, the dtype stays."""

    def infer(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
        check_dtype(name, x, accepts)
        check_axes(name, axes, x.ndim)
        return x.with_shape(without(x.shape, axes))

    return infer


def _sum_evaluate(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    # float32 is summed in float64: the reference has no rounding to speak of
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    return np.sum(x, axis=axes, dtype=wide).astype(x.dtype)


sum_ = Op(
    name="sum", accepts=NUMBER, infer=reduction_infer("sum", NUMBER), evaluate=_sum_evaluate,
    derivative=Linear(lambda node, ct: (restore(ct, node["axes"], node.operands[0].shape),)), numpy=("sum",),
    note="0 over nothing; integers wrap around",
)  # fmt: skip
any_ = Op(
    name="any", accepts="b", infer=reduction_infer("any", "b"), evaluate=lambda x, axes: np.any(x, axis=axes),
    derivative=Discrete(), numpy=("any",), note="False over nothing",
)  # fmt: skip
all_ = Op(
    name="all", accepts="b", infer=reduction_infer("all", "b"), evaluate=lambda x, axes: np.all(x, axis=axes),
    derivative=Discrete(), numpy=("all",), note="True over nothing",
)  # fmt: skip


def accumulate(x: Node, axes: tuple[int, ...]) -> Node:
    """Gather along axes what a transpose brings together: the sum of numbers, any of booleans (of a support)."""
    if not axes:
        return x
    return any_(x, axes=axes) if x.dtype.kind == "b" else sum_(x, axes=axes)


def restore(x: Node, axes: tuple[int, ...], shape: Shape) -> Node:
    """Spread a reduced value over `shape` again, along the axes that were dropped."""
    kept: Shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return broadcast_to(reshape(x, shape=kept), shape=shape) if axes else x


# broadcast, transpose, reshape ----------------------------------------------------------------------------------------


def _broadcast_to_infer(x: TensorType, *, shape: Shape) -> TensorType:
    check_shape("broadcast_to", shape)
    added = len(shape) - x.ndim
    if added < 0 or any(not _is_one(old) and old != new for old, new in zip(x.shape, shape[added:], strict=True)):
        raise DeclarationValueError(
            f"broadcast_to: {x} does not broadcast to {show(shape)}",
            hint="dims must be equal, or 1 in the operand; add an axis with x[:, None]",
        )
    return x.with_shape(shape)


def _broadcast_to_transpose(node: Node, ct: Node) -> tuple[Node]:
    x = node.operands[0]
    added = len(node.shape) - len(x.shape)
    stretched = (
        axis + added
        for axis, (old, new) in enumerate(zip(x.shape, node.shape[added:], strict=True))
        if _is_one(old) and not _is_one(new)
    )
    return (reshape(accumulate(ct, (*range(added), *stretched)), shape=x.shape),)


def _broadcast_to_batch(node: Node, operands: tuple[Node], size: Extent) -> Node:
    (x,), shape = operands, node["shape"]
    added = (1,) * (len(shape) - len(x.shape) + 1)
    return broadcast_to(reshape(x, shape=(size, *added, *x.shape[1:])), shape=(size, *shape))


broadcast_to = Op(
    name="broadcast_to", infer=_broadcast_to_infer, evaluate=np.broadcast_to, batch=_broadcast_to_batch,
    derivative=Linear(_broadcast_to_transpose), numpy=("broadcast_to",), note="aligned at the last axis",
)  # fmt: skip


def one_further(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of an array, as those of a stack of them."""
    return tuple(axis + 1 for axis in axes)


def in_stack(x: Node, size: Extent) -> Node:
    """The same array `size` times, along a new leading axis."""
    return broadcast_to(x, shape=(size, *x.shape))


def _transpose_infer(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    check_axes("transpose", axes, x.ndim)
    if len(axes) != x.ndim:
        raise DeclarationValueError(f"transpose wants every axis of {x} once, got {axes}")
    return x.with_shape(tuple(x.shape[axis] for axis in axes))


def _transpose_transpose(node: Node, ct: Node) -> tuple[Node]:
    axes = node["axes"]
    return (transpose(ct, axes=tuple(axes.index(axis) for axis in range(len(axes)))),)


transpose: Op = Op(
    name="transpose", infer=_transpose_infer, evaluate=lambda x, axes: x.transpose(axes),
    derivative=Linear(_transpose_transpose),
    batch=lambda node, operands, size: transpose(*operands, axes=(0, *one_further(node["axes"]))),
    numpy=("transpose", "permute_dims", "swapaxes", "moveaxis", "matrix_transpose"),
)  # fmt: skip


def _reshape_difference(x: TensorType, shape: Shape) -> Extent:
    """What the number of elements differs by; symbolic where only the call can tell."""
    difference: Extent = x.size - x.with_shape(shape).size
    return difference


def _has_opaque_part(extent: Extent) -> bool:
    """Whether an extent contains a floor division, min or max, so that it may be 0 though it does not look so."""
    atoms = (atom for monomial, _ in extent.terms for atom in monomial) if isinstance(extent, Dim) else ()
    return any(isinstance(atom, Opaque) for atom in atoms)


def _reshape_infer(x: TensorType, *, shape: Shape) -> TensorType:
    check_shape("reshape", shape)
    difference = _reshape_difference(x, shape)
    if difference != 0 and not _has_opaque_part(difference):
        raise DeclarationValueError(
            f"reshape: {x} has {x.size} elements, {show(shape)} has {x.with_shape(shape).size}",
            hint="write symbolic dims as expressions: x.reshape(x.shape[0] * 4, 2)",
        )
    return x.with_shape(shape)


def _reshape_guards(node: Node) -> Iterator[Guard]:
    x = node.operands[0].type
    difference = _reshape_difference(x, node.shape)
    if isinstance(difference, Dim):
        yield Guard(difference, "==", f"reshape of {show(x.shape)} wants {x.size} == {node.type.size}")


reshape: Op = Op(
    name="reshape", infer=_reshape_infer, evaluate=lambda x, shape: x.reshape(shape), guards=_reshape_guards,
    derivative=Linear(lambda node, ct: (reshape(ct, shape=node.operands[0].shape),)),
    batch=lambda node, operands, size: reshape(*operands, shape=(size, *node["shape"])),
    numpy=("reshape", "ravel", "expand_dims", "squeeze"), note="in C order",
)  # fmt: skip
