"""NumPy's grids on nodes: evenly and geometrically spaced numbers between bounds, and the grids that vectors span."""

from __future__ import annotations

from typing import Any

from graphc.arithmetic import absolute, add, divide, equal, multiply, power, subtract, where
from graphc.ir import ops
from graphc.ir.core import Node, scalar_value
from graphc.ir.dims import Extent, dim, dim_max
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.types import Shape, TensorType
from graphc.layout import moveaxis, reshape
from graphc.operands import (
    BOOL,
    FLOAT,
    INDEX,
    Operand,
    as_axis,
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    dtype_of,
    lift,
    number,
    result_dtype,
    told,
)

# spaces ---------------------------------------------------------------------------------------------------------------


def linspace(
    start: Operand, stop: Operand, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0,
) -> Node:  # fmt: skip
    """`num` evenly spaced numbers from `start` to `stop`, which is the last of them unless ``endpoint=False``."""
    if retstep:
        raise DeclarationTypeError("np.linspace of views takes no retstep=", hint="write (stop - start) / (num - 1)")
    count = _number_of("linspace", num)
    low, high = _bounds(start, stop)
    position, parts, shape = _positions(count, endpoint, low)
    steps = divide(subtract(high, low), parts)
    result = add(low, multiply(cast(position, low.dtype), steps))
    if endpoint:  # rounding does not move the end
        result = where(equal(position, parts), high, result)
    result = moveaxis(broadcast(result, shape), 0, as_axis(axis, len(shape)))
    if dtype is None:
        return result
    wanted = dtype_of(dtype)
    return cast(ops.floor(result) if wanted.kind in "iu" else result, wanted)  # NumPy rounds these down


def logspace(
    start: Operand, stop: Operand, num: Any = 50, endpoint: bool = True, base: Operand = 10.0, dtype: Any = None,
    axis: int = 0,
) -> Node:  # fmt: skip
    """`base` to the power of evenly spaced numbers."""
    result = power(base, linspace(start, stop, num, endpoint, axis=axis))
    return result if dtype is None else cast(result, dtype_of(dtype))


def geomspace(
    start: Operand, stop: Operand, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Node:
    """`num` numbers of a constant ratio from `start` to `stop`, both positive or both negative, in float64."""
    count = _number_of("geomspace", num)
    low, high = (cast(node, FLOAT) for node in _bounds(start, stop))
    if any(value is not None and value == 0 for value in map(scalar_value, (low, high))):
        raise DeclarationValueError("a geometric sequence cannot include 0")
    position, parts, shape = _positions(count, endpoint, low)
    ratios = divide(subtract(ops.log10(absolute(high)), ops.log10(absolute(low))), parts)
    exponents = add(ops.log10(absolute(low)), multiply(cast(position, FLOAT), ratios))
    result = multiply(ops.sign(low), power(10.0, exponents))
    result = where(equal(position, 0), low, result)
    if endpoint:
        result = where(equal(position, parts), high, result)
    result = moveaxis(broadcast(result, shape), 0, as_axis(axis, len(shape)))
    return result if dtype is None else cast(result, dtype_of(dtype))


def _number_of(function: str, num: Any) -> Extent:
    if isinstance(num, Node):
        text = f"{function} makes an int or a dim of numbers, not {told(num)}"
        raise DeclarationTypeError(text, hint="use x.shape[0]")
    return dim(num)


def _bounds(start: Operand, stop: Operand) -> tuple[Node, Node]:
    """Both bounds in the float dtype and the shape that they have together."""
    lifted = lift(start), lift(stop)
    dtype = result_dtype(*lifted, 0.0)
    low, high = (
        cast(value, dtype) if isinstance(value, Node) else number(value, TensorType(dtype)) for value in lifted
    )
    shape = broadcast_shapes(low.shape, high.shape)
    return broadcast(low, shape), broadcast(high, shape)


def _positions(count: Extent, endpoint: bool, low: Node) -> tuple[Node, Extent, Shape]:
    """The position of every number, in how many parts the range falls (at least 1), and the shape of the result."""
    column = (count, *(1,) * len(low.shape))
    parts = dim_max(count - 1, 1) if endpoint else dim_max(count, 1)
    return ops.iota(shape=column, axis=0, dtype=INDEX), parts, (count, *low.shape)


# grids ----------------------------------------------------------------------------------------------------------------


def meshgrid(*xi: Operand, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Node, ...]:
    """The grid that vectors span, as an array per vector; the first runs along the second axis for indexing "xy"."""
    if indexing not in ("xy", "ij"):
        raise DeclarationValueError(f"np.meshgrid wants indexing 'xy' or 'ij', got {told(indexing)}")
    nodes = [_vector("np.meshgrid", one) for one in xi]
    places = list(range(len(nodes)))
    if indexing == "xy" and len(nodes) > 1:
        places[:2] = [1, 0]
    grids = [
        reshape(node, tuple(node.shape[0] if axis == place else 1 for axis in range(len(nodes))))
        for node, place in zip(nodes, places, strict=True)
    ]
    if sparse:
        return tuple(grids)
    shape = broadcast_shapes(*(grid.shape for grid in grids))
    return tuple(broadcast(grid, shape) for grid in grids)


def ix_(*args: Operand) -> tuple[Node, ...]:
    """Vectors of integers as indices that select every combination: ``x[np.ix_(rows, columns)]``."""
    nodes = [as_node(one) for one in args]
    for node in nodes:
        if len(node.shape) != 1:
            raise DeclarationValueError(f"np.ix_ wants vectors, got {node.type}")
        if node.dtype == BOOL:
            raise DeclarationTypeError("a mask selects an unknown number of elements", hint="give the indices")
    ndim = len(nodes)
    return tuple(
        reshape(node, tuple(node.shape[0] if axis == place else 1 for axis in range(ndim)))
        for place, node in enumerate(nodes)
    )


def _vector(function: str, one: Operand) -> Node:
    x = as_node(one)
    if len(x.shape) > 1:
        raise DeclarationValueError(f"{function} wants vectors, got {x.type}", hint="np.ravel makes one of any array")
    return x if x.shape else reshape(x, (1,))
