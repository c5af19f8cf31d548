"""NumPy's ufuncs on nodes: which op each builds, in the dtypes that NumPy's own loops would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.core import Node, Op, scalar_value
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.operands import (
    BOOL,
    FLOAT,
    Operand,
    as_node,
    broadcast,
    broadcast_shapes,
    cast,
    common_dtype,
    dtype_of,
    is_integer,
    is_weak,
    lift,
    unify,
    weak_type,
)  # fmt: skip


def elementwise(ufunc: np.ufunc, op: Op, boolean: Op | None = None) -> Callable[..., Node]:
    """The function that applies `op` as NumPy applies `ufunc`; `boolean` is the op for bool operands, if another."""

    def apply(*operands: Operand) -> Node:
        if len(operands) != ufunc.nin:
            raise DeclarationTypeError(f"np.{ufunc.__name__} takes {ufunc.nin} operands, got {len(operands)}")
        lifted = [lift(operand) for operand in operands]
        dtype = loop_dtype(ufunc, lifted)
        return (boolean if boolean is not None and dtype == BOOL else op)(*unify(lifted, dtype))

    apply.__name__ = ufunc.__name__
    return apply


def loop_dtype(ufunc: np.ufunc, lifted: list[Any]) -> np.dtype[Any]:
    """The one dtype that NumPy converts the operands of `ufunc` to."""
    kinds = [weak_type(value) if is_weak(value) else value.dtype for value in lifted]
    alone = all(is_weak(value) for value in lifted)
    # A Python bool is no weaker than NumPy's, and numbers among themselves are NumPy's defaults.
    given: tuple[Any, ...] = tuple(np.dtype(kind) if alone or kind is bool else kind for kind in kinds)
    if any(isinstance(kind, np.dtype) and kind.kind == "V" for kind in given):
        return _loop_dtype_of_bfloat(ufunc, given)
    try:
        dtypes = ufunc.resolve_dtypes((*given, *(None,) * ufunc.nout))[: ufunc.nin]
    except TypeError:
        raise _undefined(ufunc, given) from None
    return common_dtype(dtypes)  # (NumPy has loops for comparisons of mixed integers)


def _loop_dtype_of_bfloat(ufunc: np.ufunc, given: Sequence[Any]) -> np.dtype[Any]:
    """The loop's dtype where an operand is bfloat16, for which NumPy has no weak numbers: that of float16."""
    dtype = common_dtype([kind if isinstance(kind, np.dtype) else kind(0) for kind in given])
    stand_in = np.dtype("float16") if dtype.kind == "V" else dtype
    try:
        loop = ufunc.resolve_dtypes((*[stand_in] * ufunc.nin, *[None] * ufunc.nout))[0]
    except TypeError:
        raise _undefined(ufunc, given) from None
    return dtype if loop == stand_in else dtype_of(loop)


def _undefined(ufunc: np.ufunc, given: Sequence[Any]) -> DeclarationTypeError:
    names = " and ".join(getattr(dtype, "name", None) or dtype.__name__ for dtype in given)
    return DeclarationTypeError(f"np.{ufunc.__name__} is not defined for {names}", hint="cast it: x.astype('float64')")


def astype(x: Operand, dtype: Any, /, *, copy: bool = True) -> Node:
    """The elements converted to another dtype."""
    return cast(as_node(x), dtype_of(dtype))


def identity(x: Operand) -> Node:
    """The operand itself, as `np.positive` and `np.conjugate` give it."""
    return as_node(x)


def _whole(ufunc: np.ufunc, op: Op) -> Callable[[Operand], Node]:
    """A function that leaves integers and booleans as they are where the op is for floats or numbers."""
    apply = elementwise(ufunc, op)
    return lambda x: node if (node := as_node(x)).dtype == BOOL else apply(node)


def _classify(op: Op) -> Callable[[Operand], Node]:
    """Of isnan and its kin, which integers and booleans answer as their float values would."""

    def apply(x: Operand) -> Node:
        node = as_node(x)
        return op(node if node.type.is_float else cast(node, FLOAT))

    return apply


def truth(x: Operand) -> Node:
    """Whether elements are not zero."""
    node = as_node(x)
    return node if node.dtype == BOOL else ops.not_equal(*unify([node, 0]))


def _ordered(ufunc: np.ufunc, op: Op) -> Callable[..., Node]:
    """A comparison by order, which booleans take part in as 0 and 1."""
    apply = elementwise(ufunc, op)
    return lambda *operands: apply(*(cast(x, np.dtype("int8")) if _is_bool(x) else x for x in map(lift, operands)))


def _is_bool(value: Operand) -> bool:
    return isinstance(value, Node) and value.dtype == BOOL


def _logical(op: Op) -> Callable[..., Node]:
    return lambda *operands: op(*unify([truth(operand) for operand in operands]))


def power(base: Operand, exponent: Operand) -> Node:
    """``base ** exponent``; an integer exponent that is known gives an integer power, defined for negative bases."""
    lifted = [lift(base), lift(exponent)]
    dtype = loop_dtype(np.power, lifted)
    n = _known_integer(lifted[1])
    base_node, exponent_node = unify(lifted, dtype)
    if n is None:
        if is_integer(base_node):
            raise DeclarationTypeError(
                f"an integer power of {base_node.type} needs an exponent known at declaration",
                hint="cast one of them: x.astype('float64') ** k",
            )
        return ops.power(base_node, exponent_node)
    if n < 0 and is_integer(base_node):
        raise DeclarationValueError(
            f"{base_node.type} to the negative power {n} is no integer", hint="cast it: x.astype('float64')"
        )
    return ops.square(base_node) if n == 2 else ops.integer_power(base_node, n=n)


def _known_integer(exponent: Any) -> int | None:
    value = scalar_value(exponent) if isinstance(exponent, Node) else exponent
    return int(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else None


def where(condition: Operand, x: Operand = None, y: Operand = None) -> Node:
    """`x` where the condition holds, else `y`."""
    if x is None or y is None:
        raise DeclarationTypeError(
            "np.where with a condition alone has a result of unknown shape", hint="write np.where(condition, x, y)"
        )
    chosen, (a, b) = truth(condition), unify([x, y])
    shape = broadcast_shapes(chosen.shape, a.shape)
    return ops.where(*(broadcast(value, shape) for value in (chosen, a, b)))


def clip(a: Operand, a_min: Operand = None, a_max: Operand = None, *, min: Operand = None, max: Operand = None) -> Node:
    """`a` held between bounds, either of which may be None."""
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    result = identity(a)
    if low is not None:
        result = maximum(result, low)
    return result if high is None else minimum(result, high)


def float_power(base: Operand, exponent: Operand) -> Node:
    """``base ** exponent`` in float64."""
    base_node, exponent_node = unify([base, exponent], FLOAT)
    return power(base_node, exponent_node if (n := _known_integer(lift(exponent))) is None else n)


add = elementwise(np.add, ops.add, ops.logical_or)
subtract = elementwise(np.subtract, ops.subtract)
multiply = elementwise(np.multiply, ops.multiply, ops.logical_and)
divide = elementwise(np.divide, ops.divide)
maximum = elementwise(np.maximum, ops.maximum, ops.logical_or)
minimum = elementwise(np.minimum, ops.minimum, ops.logical_and)
square = elementwise(np.square, ops.square)
sqrt = elementwise(np.sqrt, ops.sqrt)
absolute = _whole(np.absolute, ops.absolute)
rint = elementwise(np.rint, ops.rint)
floor_divide = elementwise(np.floor_divide, ops.floor_divide)
remainder = elementwise(np.remainder, ops.remainder)
equal = elementwise(np.equal, ops.equal)
greater = _ordered(np.greater, ops.greater)
greater_equal = _ordered(np.greater_equal, ops.greater_equal)

# The ufuncs whose op has their name, for operands of the dtype that NumPy chooses.
_PLAIN: tuple[np.ufunc, ...] = (
    np.exp, np.expm1, np.exp2, np.log, np.log1p, np.log2, np.log10, np.sin, np.cos, np.tan, np.arcsin, np.arccos,
    np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh, np.arctanh, np.hypot, np.arctan2, np.logaddexp,
    np.negative, np.sign, np.floor_divide, np.remainder, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift,
    np.right_shift, np.not_equal, np.cbrt, np.logaddexp2, np.copysign, np.fmod, np.bitwise_count,
)  # fmt: skip

# Every ufunc that views support but matmul, and what it builds.
UFUNCS: dict[np.ufunc, Callable[..., Node]] = {
    **{ufunc: elementwise(ufunc, ops.OPS[ufunc.__name__]) for ufunc in _PLAIN},
    **{ufunc: _whole(ufunc, ops.OPS[ufunc.__name__]) for ufunc in (np.floor, np.ceil, np.trunc)},
    **{ufunc: _ordered(ufunc, ops.OPS[ufunc.__name__]) for ufunc in (np.less, np.less_equal)},
    **{
        ufunc: _logical(ops.OPS[ufunc.__name__])
        for ufunc in (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
    },
    **{ufunc: _classify(ops.OPS[ufunc.__name__]) for ufunc in (np.isnan, np.isinf, np.isfinite)},
    np.add: add,
    np.subtract: subtract,
    np.multiply: multiply,
    np.divide: divide,
    np.maximum: maximum,
    np.minimum: minimum,
    np.square: square,
    np.sqrt: sqrt,
    np.absolute: absolute,
    np.fabs: elementwise(np.fabs, ops.absolute),
    np.rint: rint,
    np.equal: equal,
    np.greater: greater,
    np.greater_equal: greater_equal,
    np.power: power,
    np.float_power: float_power,
    np.reciprocal: elementwise(np.reciprocal, ops.reciprocal),
    np.positive: identity,
    np.conjugate: identity,
    np.invert: elementwise(np.invert, ops.invert, ops.logical_not),
}
