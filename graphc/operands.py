"""What operands may be, and how they meet: NumPy's promotion and broadcasting, made explicit in the graph.

Everything here and in the modules of NumPy's functions (`arithmetic`, `reductions`, `layout`, `products`, `indexing`)
works on IR nodes; `View` wraps the results. Python numbers and dims are weak: they take the dtype of what they meet.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.ir import ops
from graphc.ir.core import Literal, Node, constant, full, scalar_value
from graphc.ir.dims import Dim, Extent, dim
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.ir.half import SINGLE, converted
from graphc.ir.types import DTYPES, Shape, TensorType, is_half, named_dtype

Operand: TypeAlias = Any  # a Node, a Python or NumPy number, an array or nested list of numbers, or a Dim

INDEX = np.dtype("int64")
FLOAT = np.dtype("float64")
BOOL = np.dtype("bool")


class AxisError(DeclarationValueError, DeclarationIndexError):
    """An axis that is not there; like NumPy's, both a ValueError and an IndexError."""


# dtypes ---------------------------------------------------------------------------------------------------------------


def dtype_of(value: Any) -> np.dtype[Any]:
    """One of the dtypes of graphs, from whatever NumPy accepts as a dtype."""
    try:
        name: str = np.dtype(value).name
    except TypeError:
        name = str(value)
    if name not in DTYPES:
        raise DeclarationTypeError(f"no dtype {name!r} in graphs", hint=f"there are {', '.join(DTYPES)}")
    return named_dtype(name)


def is_weak(value: Operand) -> bool:
    """Whether an operand takes the dtype of what it meets."""
    return isinstance(value, (bool, int, float, Dim)) and not isinstance(value, np.generic)


def weak_type(value: Operand) -> type:
    """The Python type of a weak operand; a dim is an integer."""
    return int if isinstance(value, Dim) else type(value)


def result_dtype(*values: Operand) -> np.dtype[Any]:
    """NumPy's common dtype of lifted operands (see `lift`), Python numbers and dims being weak."""
    return common_dtype([weak_type(value)(0) if is_weak(value) else value.dtype for value in values])


def common_dtype(given: Sequence[Any]) -> np.dtype[Any]:
    """`np.result_type` of dtypes and Python numbers; float32 of float16 and bfloat16, since neither holds the other.

    Raises
    ------
    DeclarationError
        Where NumPy has no promotion: of bfloat16 with integers of more than 8 bits.
    """
    halves = {value.name: value for value in given if isinstance(value, np.dtype) and is_half(value)}
    if len(halves) > 1:
        given = [SINGLE if value in halves.values() else value for value in given]
    elif "bfloat16" in halves:  # to which NumPy does not know Python's numbers to be weak
        given = [value for value in given if isinstance(value, np.dtype)]
    try:
        return dtype_of(np.result_type(*given))
    except TypeError:
        names = " and ".join(dict.fromkeys(getattr(value, "name", type(value).__name__) for value in given))
        raise DeclarationTypeError(
            f"{names} have no common dtype", hint="cast one of them: x.astype('float32')"
        ) from None


def as_float(value: Operand) -> Node:
    """A node of float elements: integers become float64."""
    node = as_node(value)
    return node if node.type.is_float else cast(node, FLOAT)


# values ---------------------------------------------------------------------------------------------------------------


def lift(value: Operand) -> Any:
    """A node, or a weak number unchanged.

    Raises
    ------
    DeclarationError
        For what cannot be an operand: text, None, complex numbers, a list that contains views.
    """
    if isinstance(value, Node) or is_weak(value):
        return value
    if not isinstance(value, (np.ndarray, np.generic, list, tuple)):
        raise DeclarationTypeError(f"{told(value)} ({type(value).__name__}) cannot be part of a view")
    if isinstance(value, (list, tuple)) and _contains_node(value):
        raise DeclarationTypeError("a list of views is no operand", hint="stack them: np.stack([a, b])")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DeclarationValueError(f"{told(value)} is not an array: {error}") from None
    return constant(value=Literal(array.astype(dtype_of(array.dtype))), shape=array.shape)


def as_node(value: Operand) -> Node:
    """A node; a weak number becomes a bool, int64 or float64 scalar."""
    value = lift(value)
    if isinstance(value, Node):
        return value
    return number(value, TensorType(np.dtype(weak_type(value))))


def number(value: Any, type: TensorType) -> Node:
    """A Python number or dim spread over a type, in its dtype, which must be able to hold it."""
    try:
        return full(value, type)
    except OverflowError:
        raise DeclarationValueError(f"{value} does not fit {type.dtype}") from None


def cast(node: Node, dtype: np.dtype[Any]) -> Node:
    """The node in another dtype; itself if it has it."""
    if node.dtype == dtype:
        return node
    if (value := scalar_value(node)) is not None:
        return constant(value=Literal(converted(np.asarray(value), dtype)), shape=node.shape)
    return ops.cast(node, dtype=dtype)


def is_integer(node: Node) -> bool:
    """Whether the elements are signed or unsigned integers."""
    return node.dtype.kind in "iu"


def known_array(node: Node) -> np.ndarray:
    """The array that a constant is."""
    shape: Any = node.shape
    return np.array(np.broadcast_to(node["value"].array, shape))


# shapes ---------------------------------------------------------------------------------------------------------------


def as_shape(shape: Any) -> Shape:
    """A shape from an extent or a sequence of extents; names are symbolic dims."""
    refuse_views(shape)
    extents = (shape,) if isinstance(shape, (str, Dim)) or not isinstance(shape, Iterable) else shape
    return tuple(dim(extent) for extent in extents)


def refuse_views(shape: Any) -> None:
    """Raise for a shape that is a view, or has one in it."""
    if isinstance(shape, Node) or (isinstance(shape, (list, tuple)) and _contains_node(shape)):
        raise DeclarationTypeError("a shape is made of ints and dims, not of views", hint="write x.shape, not x")


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all broadcast to: aligned at the right, extents are equal or one of them is the literal 1."""
    result: list[Extent] = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for axis, extent in enumerate(shape, len(result) - len(shape)):
            if result[axis] == 1:
                result[axis] = extent
            elif extent not in (1, result[axis]):
                raise _mismatch(shapes, result[axis], extent)
    return tuple(result)


def _mismatch(shapes: Iterable[Shape], left: Extent, right: Extent) -> DeclarationValueError:
    symbolic = isinstance(left, Dim) or isinstance(right, Dim)
    return DeclarationValueError(
        f"shapes {' and '.join(map(shape_text, shapes))} do not broadcast: {left} is not {right}",
        hint="a symbolic dim meets itself or the literal 1: use one name for extents that are equal" if symbolic else
        "extents must be equal, or one of them 1: np.expand_dims or x[:, None] adds an axis",
    )  # fmt: skip


def shape_text(shape: Shape) -> str:
    """A shape as it prints in errors: ``(N, 64)``, ``(3,)``."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def broadcast(node: Node, shape: Shape) -> Node:
    """The node spread over a shape that it broadcasts to."""
    if node.shape == shape:
        return node
    if broadcast_shapes(node.shape, shape) != shape:
        raise DeclarationValueError(f"{node.type} does not broadcast to {shape_text(shape)}")
    if (value := scalar_value(node)) is not None:
        return full(value, node.type.with_shape(shape))
    if node.op is ops.extent:
        return full(node["dim"], node.type.with_shape(shape))
    return ops.broadcast_to(node, shape=shape)


def unify(values: Sequence[Operand], dtype: np.dtype[Any] | None = None) -> list[Node]:
    """Operands as nodes of one type: promoted (to `dtype` if given), broadcast."""
    lifted = [lift(value) for value in values]
    if dtype is None:
        dtype = result_dtype(*lifted)
    shape = broadcast_shapes(*(value.shape for value in lifted if isinstance(value, Node)))
    target = TensorType(dtype, shape)
    return [
        broadcast(cast(value, dtype), shape) if isinstance(value, Node) else number(value, target) for value in lifted
    ]


# axes -----------------------------------------------------------------------------------------------------------------


def as_axis(axis: Any, ndim: int) -> int:
    """An axis counted from the front; negative ones count from the end."""
    try:
        result = operator.index(axis)
    except TypeError:
        raise DeclarationTypeError(f"an axis is an int, not {told(axis)}") from None
    if not -ndim <= result < ndim:
        axes = f"its axes are 0 to {ndim - 1}" if ndim else "it is a scalar"
        raise AxisError(f"axis {axis} is not there: {axes}")
    return result % ndim


def as_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Sorted axes counted from the front, from an int, a tuple of ints, or None for all."""
    if axis is None:
        return tuple(range(ndim))
    axes = [as_axis(one, ndim) for one in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    if len(set(axes)) != len(axes):
        raise DeclarationValueError(f"axis={axis} names an axis twice")
    return tuple(sorted(axes))


def told(value: Any) -> str:
    """What was given, as it stands in errors: nodes by their type."""
    if isinstance(value, Node):
        return str(value.type)
    if type(value) in (list, tuple) and _contains_node(value):
        opening, closing = "[]" if isinstance(value, list) else "()"
        return f"{opening}{', '.join(map(told, value))}{',' if len(value) == 1 and closing == ')' else ''}{closing}"
    return repr(value)


def _contains_node(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Node):
            return True
        if isinstance(item, (list, tuple)):
            pending.extend(item)
    return False
