"""Linear ops that pick and place elements: slice and pad, concatenate, gather and scatter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphc.ir.core import ANY, INTEGER, NUMBER, Discrete, Guard, Linear, Node, Op, PiecewiseConstant, full
from graphc.ir.dims import Extent, product
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError, FeedIndexError
from graphc.ir.ops.checks import at_least_zero, check_axes, check_axis, check_dtype, check_shape, show, without
from graphc.ir.ops.comparison import equal, where
from graphc.ir.ops.layout import broadcast_to, in_stack, one_further, reshape, transpose
from graphc.ir.types import Shape, TensorType

INDEX = np.dtype("int64")


# slice and pad --------------------------------------------------------------------------------------------------------


def _conditions(start: Shape, size: Shape, step: tuple[int, ...], shape: Shape) -> Iterator[tuple[int, Extent]]:
    """Per axis the extents that must not be negative for ``start + k * step``, k < size, to lie within `shape`."""
    for axis, (first, count, stride, extent) in enumerate(zip(start, size, step, shape, strict=True)):
        yield axis, count
        if count != 0:
            last = first + (count - 1) * stride
            low, high = (first, last) if stride > 0 else (last, first)
            yield axis, low
            yield axis, extent - 1 - high


def _section(first: Extent, count: Extent, stride: int) -> str:
    stop = first + count * stride
    return f"{first}:{stop}" + (f":{stride}" if stride != 1 else "")


def _check_window(name: str, start: Shape, size: Shape, step: tuple[Any, ...], shape: Shape) -> None:
    if not len(start) == len(size) == len(step) == len(shape):
        raise DeclarationValueError(f"{name} wants a start, size and step for each axis of {show(shape)}")
    if any(isinstance(stride, bool) or not isinstance(stride, int) or stride == 0 for stride in step):
        raise DeclarationValueError(f"{name} wants steps that are integers and not 0, got {step}")
    for axis, extent in _conditions(start, size, step, shape):
        if isinstance(extent, int) and extent < 0:
            raise DeclarationIndexError(
                f"{name}: {_section(start[axis], size[axis], step[axis])} is out of range for axis {axis} "
                f"of {show(shape)}"
            )


def _window_guards(node: Node, size: Shape, shape: Shape) -> Iterator[Guard]:
    for axis, extent in _conditions(node["start"], size, node["step"], shape):
        section = _section(node["start"][axis], size[axis], node["step"][axis])
        yield from at_least_zero(extent, f"{node.op.name} [{section}] on axis {axis} of {show(shape)}")


def _window(start: tuple[int, ...], size: tuple[int, ...], step: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return np.ix_(*(first + np.arange(count) * stride for first, count, stride in zip(start, size, step, strict=True)))


def _slice_infer(x: TensorType, *, start: Shape, size: Shape, step: tuple[int, ...]) -> TensorType:
    _check_window("slice", start, size, step, x.shape)
    return x.with_shape(size)


slice_: Op = Op(
    name="slice",
    infer=_slice_infer,
    evaluate=lambda x, start, size, step: x[_window(start, size, step)],
    derivative=Linear(
        lambda node, ct: (pad(ct, start=node["start"], step=node["step"], shape=node.operands[0].shape),)
    ),
    guards=lambda node: _window_guards(node, node["size"], node.operands[0].shape),
    batch=lambda node, operands, size: slice_(
        *operands, start=(0, *node["start"]), size=(size, *node["size"]), step=(1, *node["step"])
    ),
    numpy=("x[start:stop:step]", "split", "flip"),
    note="element k along an axis is start + k * step",
)


def _pad_infer(x: TensorType, *, start: Shape, step: tuple[int, ...], shape: Shape) -> TensorType:
    check_shape("pad", shape)
    _check_window("pad", start, x.shape, step, shape)
    return x.with_shape(shape)


def _pad_evaluate(x: np.ndarray, start: tuple[int, ...], step: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    result = np.zeros(shape, x.dtype)
    result[_window(start, x.shape, step)] = x
    return result


pad: Op = Op(
    name="pad",
    infer=_pad_infer,
    evaluate=_pad_evaluate,
    derivative=Linear(
        lambda node, ct: (slice_(ct, start=node["start"], size=node.operands[0].shape, step=node["step"]),)
    ),
    guards=lambda node: _window_guards(node, node.operands[0].shape, node.shape),
    batch=lambda node, operands, size: pad(
        *operands, start=(0, *node["start"]), step=(1, *node["step"]), shape=(size, *node["shape"])
    ),
    numpy=("pad",),
    note="zeros (False) around and between the elements",
)


# concatenate ----------------------------------------------------------------------------------------------------------


def _concatenate_infer(*types: TensorType, axis: int) -> TensorType:
    if not types:
        raise DeclarationValueError("concatenate wants at least one operand")
    first = types[0]
    check_axis("concatenate", axis, first.ndim)
    for other in types[1:]:
        if other.dtype != first.dtype or without(other.shape, (axis,)) != without(first.shape, (axis,)) or (
            other.ndim != first.ndim
        ):
            raise DeclarationValueError(
                f"concatenate wants operands that differ along axis {axis} alone, got {first} and {other}"
            )
    total: Any = sum((type.shape[axis] for type in types[1:]), first.shape[axis])
    return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concatenate_transpose(node: Node, ct: Node) -> tuple[Node, ...]:
    axis, offset = node["axis"], 0
    parts = []
    for operand in node.operands:
        start = tuple(offset if k == axis else 0 for k in range(len(node.shape)))
        parts.append(slice_(ct, start=start, size=operand.shape, step=(1,) * len(start)))
        offset = offset + operand.shape[axis]
    return tuple(parts)


concatenate = Op(
    name="concatenate",
    infer=_concatenate_infer,
    evaluate=lambda *xs, axis: np.concatenate(xs, axis),
    derivative=Linear(_concatenate_transpose),
    numpy=("concatenate", "concat", "stack", "vstack", "hstack"),
)


# gather and scatter ---------------------------------------------------------------------------------------------------


def _check_indices(name: str, x: TensorType, indices: tuple[TensorType, ...], axes: tuple[int, ...]) -> Shape:
    """The shape that indexing `x` along `axes` gives: that of the indices, then what remains of x."""
    check_axes(name, axes, x.ndim)
    if not indices or len(indices) != len(axes):
        raise DeclarationValueError(f"{name} wants one index for each of the axes {axes}, got {len(indices)}")
    for index in indices:
        check_dtype(f"{name} index", index, INTEGER)
        if index != indices[0]:
            raise DeclarationValueError(f"{name} wants indices of one type, got {indices[0]} and {index}")
    return (*indices[0].shape, *without(x.shape, axes))


def _gather_infer(x: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
    return x.with_shape(_check_indices("gather", x, indices, axes))


def axes_first(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """An array with some axes moved to the front."""
    return np.moveaxis(x, axes, range(len(axes)))


def _gather_transpose(node: Node, ct: Node) -> tuple[Node | None, ...]:
    x, *indices = node.operands
    if ct.dtype.kind == "b":
        return (None,) * len(node.operands)
    zeros = full(0, ct.type.with_shape(x.shape))
    return scatter_add(zeros, ct, *indices, axes=node["axes"]), *(None for _ in indices)


def in_each(node: Node, operands: tuple[Node, ...], size: Extent) -> Node:
    """An indexed op on stacks: the position in the stack is one more index."""
    count = len(node["axes"])
    arrays, indices = operands[:-count], operands[-count:]
    position = iota(shape=indices[0].shape, axis=0, dtype=indices[0].dtype)
    result: Node = node.op(*arrays, position, *indices, axes=(0, *one_further(node["axes"])))
    return result


def _gather_batch(node: Node, operands: tuple[Node, ...], size: Extent) -> Node:
    """One array for all indices, or the same indices for all arrays, needs no index for the position in the stack."""
    (x, *indices), (stack, *stacked) = node.operands, operands
    if stack is in_stack(x, size):
        return gather(x, *stacked, axes=node["axes"])
    if any(each is not in_stack(index, size) for index, each in zip(indices, stacked, strict=True)):
        return in_each(node, operands, size)
    picked, depth = gather(stack, *indices, axes=one_further(node["axes"])), len(indices[0].shape)
    return transpose(picked, axes=(depth, *without(tuple(range(len(picked.shape))), (depth,))))


gather = Op(
    name="gather",
    infer=_gather_infer,
    evaluate=lambda x, *indices, axes: axes_first(x, axes)[indices],
    derivative=Linear(_gather_transpose, operands=1),
    batch=_gather_batch,
    numpy=("x[indices]", "take", "take_along_axis"),
    note="the indexed axes come first, as one block of the indices' shape",
)


def scatter_infer(name: str, accepts: str) -> Any:
    """The type rule of scatters: updates have the shape that reading at the indices gives."""

    def infer(base: TensorType, updates: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
        check_dtype(name, base, accepts)
        expected = base.with_shape(_check_indices(name, base, indices, axes))
        if updates != expected:
            raise DeclarationValueError(f"{name} wants updates of type {expected} for {base}, got {updates}")
        return base

    return infer


def _scatter_add_evaluate(base: np.ndarray, updates: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> Any:
    wide = np.float64 if base.dtype.kind == "f" else base.dtype
    result = base.astype(wide)
    np.add.at(axes_first(result, axes), indices, updates)
    return result.astype(base.dtype)


def _scatter_set_evaluate(base: np.ndarray, updates: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> Any:
    result = base.copy()
    rows = axes_first(result, axes)
    # One flat C-ordered index, because of duplicates the last must win.
    flat = tuple(np.ravel(index, order="C") for index in indices)
    rows[flat] = updates.reshape(flat[0].size, *rows.shape[len(axes) :])
    return result


def _scatter_add_transpose(node: Node, ct: Node) -> tuple[Node | None, ...]:
    indices = node.operands[2:]
    return ct, gather(ct, *indices, axes=node["axes"]), *(None for _ in indices)


def _is_kept(node: Node) -> Node:
    """Of a scatter_set which updates are kept: those that no later one at the same place overwrites."""
    base, updates, *indices = node.operands
    shape = indices[0].shape
    order = reshape(iota(shape=(product(shape),), axis=0, dtype=INDEX), shape=shape)
    places = TensorType(INDEX, tuple(base.shape[axis] for axis in node["axes"]))
    axes = tuple(range(len(indices)))
    last = gather(scatter_set(full(0, places), order, *indices, axes=axes), *indices, axes=axes)
    remaining = len(updates.shape) - len(shape)
    kept = reshape(equal(last, order), shape=(*shape, *(1,) * remaining))
    return broadcast_to(kept, shape=updates.shape)


def _scatter_set_transpose(node: Node, ct: Node) -> tuple[Node | None, ...]:
    _, updates, *indices = node.operands
    nothing = full(0, ct.type.with_shape(updates.shape))
    picked = where(_is_kept(node), gather(ct, *indices, axes=node["axes"]), nothing)
    return scatter_set(ct, nothing, *indices, axes=node["axes"]), picked, *(None for _ in indices)


scatter_add = Op(
    name="scatter_add",
    accepts=NUMBER,
    infer=scatter_infer("scatter_add", NUMBER),
    evaluate=_scatter_add_evaluate,
    derivative=Linear(_scatter_add_transpose, operands=2),
    batch=in_each,
    numpy=("x.at[indices].add",),
    note="duplicates all count",
)
scatter_set = Op(
    name="scatter_set",
    infer=scatter_infer("scatter_set", ANY),
    evaluate=_scatter_set_evaluate,
    derivative=Linear(_scatter_set_transpose, operands=2),
    batch=in_each,
    numpy=("x.at[indices].set",),
    note="of duplicates the last wins, and it alone has a gradient",
)


# positions ------------------------------------------------------------------------------------------------------------


def _iota_infer(*, shape: Shape, axis: int, dtype: np.dtype) -> TensorType:
    check_shape("iota", shape)
    check_axis("iota", axis, len(shape))
    if np.dtype(dtype).kind == "b":
        raise DeclarationTypeError("iota wants a number dtype, got bool")
    return TensorType(np.dtype(dtype), shape)


def _iota_evaluate(shape: tuple[int, ...], axis: int, dtype: np.dtype) -> np.ndarray:
    positions = np.arange(shape[axis]).astype(dtype)
    return np.broadcast_to(positions.reshape(-1, *(1,) * (len(shape) - axis - 1)), shape)


iota = Op(
    name="iota", infer=_iota_infer, evaluate=_iota_evaluate, derivative=PiecewiseConstant(), accepts=NUMBER,
    numpy=("arange",), note="the position along an axis",
)  # fmt: skip


def _wrap_index_infer(k: TensorType, *, extent: Extent) -> TensorType:
    check_dtype("wrap_index", k, INTEGER)
    check_shape("wrap_index", (extent,))
    return k.with_dtype(INDEX)  # an int8 cannot count from the end of 300 elements


def _wrap_index_evaluate(k: np.ndarray, extent: int) -> Any:
    wrong = (k >= extent) | (k < -extent) if k.dtype.kind == "i" else k >= extent
    if np.any(wrong):
        raise FeedIndexError(f"index out of range: {k[wrong].flat[0]} for an axis of {extent} elements")
    position = k.astype(INDEX)
    return np.where(position < 0, position + extent, position)


wrap_index = Op(
    name="wrap_index", infer=_wrap_index_infer, evaluate=_wrap_index_evaluate, derivative=Discrete(), accepts=INTEGER,
    numpy=(), note="an index from the end where negative; out of range is an error; the result is int64",
)  # fmt: skip
