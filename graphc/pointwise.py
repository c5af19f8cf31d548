"""NumPy's pointwise functions that are no ufuncs, and the ufuncs that are composed of other ones."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import indexing, picking, reductions
from graphc.arithmetic import UFUNCS as PLAIN
from graphc.arithmetic import (
    add,
    divide,
    greater,
    identity,
    loop_dtype,
    maximum,
    minimum,
    multiply,
    rint,
    subtract,
    where,
)  # fmt: skip
from graphc.ir import ops
from graphc.ir.core import Node, full
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.half import finfo
from graphc.ir.types import is_half
from graphc.layout import expand_dims, zeros_like
from graphc.operands import BOOL, FLOAT, Operand, as_float, as_node, cast, is_integer, lift, told, unify

# sin(pi x) / (pi x) by powers of (pi x)**2, to all digits (and those of its derivatives) below 1/2.
_SINC = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(13))

less, less_equal = PLAIN[np.less], PLAIN[np.less_equal]


# ufuncs ---------------------------------------------------------------------------------------------------------------


def _floats(ufunc: np.ufunc, operands: Sequence[Operand]) -> list[Node]:
    lifted = [lift(operand) for operand in operands]
    return unify(lifted, loop_dtype(ufunc, lifted))


def heaviside(x1: Operand, x2: Operand) -> Node:
    """0 below zero, 1 above, `x2` at it."""
    x, at_zero = _floats(np.heaviside, (x1, x2))
    return ops.where(ops.equal(x, full(0, x.type)), at_zero, ops.step(x))


def fmax(x1: Operand, x2: Operand) -> Node:
    """The larger operand; of a number and NaN the number."""
    return _but_nan(maximum(x1, x2), *unify([x1, x2]))


def fmin(x1: Operand, x2: Operand) -> Node:
    """The smaller operand; of a number and NaN the number."""
    return _but_nan(minimum(x1, x2), *unify([x1, x2]))


def _but_nan(extreme: Node, a: Node, b: Node) -> Node:
    if not extreme.type.is_float:
        return extreme
    return ops.where(ops.isnan(a), b, ops.where(ops.isnan(b), a, extreme))


def deg2rad(x: Operand) -> Node:
    """Degrees as radians."""
    (node,) = _floats(np.deg2rad, (x,))
    return node * (math.pi / 180)


def rad2deg(x: Operand) -> Node:
    """Radians as degrees."""
    (node,) = _floats(np.rad2deg, (x,))
    return node * (180 / math.pi)


def signbit(x: Operand) -> Node:
    """Whether the sign is minus, that of zero and of NaN too."""
    (node,) = _floats(np.signbit, (x,))
    return ops.less(ops.copysign(full(1, node.type), node), full(0, node.type))


def _neighbours(ufunc: np.ufunc, operands: Sequence[Operand]) -> list[Node]:
    """Operands of a function of neighbouring floats; halves are computed in float32, whose neighbours are others."""
    nodes = _floats(ufunc, operands)
    if is_half(nodes[0].dtype):
        given = " and ".join(dict.fromkeys(as_node(operand).dtype.name for operand in operands))
        raise DeclarationTypeError(
            f"np.{ufunc.__name__} of {given} is one of {nodes[0].dtype.name}, whose neighbours are not known here",
            hint="cast it: x.astype('float32')",
        )
    return nodes


def nextafter(x1: Operand, x2: Operand) -> Node:
    """The float next to `x1` in the direction of `x2`."""
    return ops.nextafter(*_neighbours(np.nextafter, (x1, x2)))


def spacing(x: Operand) -> Node:
    """The distance to the next float away from 0, with the sign of x; piecewise constant."""
    (node,) = _neighbours(np.spacing, (x,))
    fixed = ops.stop_gradient(node)
    size = ops.absolute(fixed)
    up = ops.nextafter(size, full(math.inf, node.type)) - size
    return ops.where(ops.less(fixed, full(0, node.type)), -up, up)


def modf(x: Operand) -> tuple[Node, Node]:
    """The fractional and the whole part, both with the sign of x."""
    (node,) = _floats(np.modf, (x,))
    return ops.fraction(node), ops.trunc(node)


def divmod(x1: Operand, x2: Operand) -> tuple[Node, Node]:
    """The quotient rounded down, and the remainder."""
    a, b = _floats(np.divmod, (x1, x2))
    return ops.floor_divide(a, b), ops.remainder(a, b)


# functions ------------------------------------------------------------------------------------------------------------


def around(a: Operand, decimals: int = 0) -> Node:
    """The nearest number of so many decimals (negative: of tens, hundreds, ...), halves to even; as NumPy scales it."""
    try:
        places = operator.index(decimals)
    except TypeError:
        raise DeclarationTypeError(f"np.round wants decimals known at declaration, not {told(decimals)}") from None
    node = as_node(a)
    if not node.type.is_float:
        if places >= 0 or not is_integer(node):
            return node
        return cast(around(cast(node, FLOAT), places), node.dtype)
    if places == 0:
        return rint(node)
    scale = 10.0 ** abs(places)
    return divide(rint(multiply(node, scale)), scale) if places > 0 else multiply(rint(divide(node, scale)), scale)


def sinc(x: Operand) -> Node:
    """``sin(pi x) / (pi x)``, 1 at 0; all its derivatives keep their digits there."""
    node = as_float(x)
    angle = multiply(math.pi, node)
    near = ops.less(ops.absolute(node), full(0.5, node.type))
    one = full(1, node.type)
    z, series = ops.square(angle), full(_SINC[-1], node.type)
    for coefficient in _SINC[-2::-1]:
        series = series * z + coefficient
    return ops.where(near, series, ops.sin(angle) / ops.where(near, one, angle))


def nan_to_num(
    x: Operand, copy: bool = True, nan: Operand = 0.0, posinf: Operand = None, neginf: Operand = None
) -> Node:
    """x with NaN and the infinities replaced: by 0 and the largest finite numbers, unless said otherwise."""
    node = as_node(x)
    if not node.type.is_float:
        return node
    most = finfo(node.dtype).max
    high, low = (most if posinf is None else posinf), (-most if neginf is None else neginf)
    for condition, value in ((ops.isnan(node), nan), (isposinf(node), high), (isneginf(node), low)):
        node = where(condition, cast(as_node(value), node.dtype), node)
    return node


def isposinf(x: Operand) -> Node:
    """Whether elements are +inf."""
    node = as_float(x)
    return ops.equal(node, full(math.inf, node.type))


def isneginf(x: Operand) -> Node:
    """Whether elements are -inf."""
    node = as_float(x)
    return ops.equal(node, full(-math.inf, node.type))


def isclose(a: Operand, b: Operand, rtol: Operand = 1e-05, atol: Operand = 1e-08, equal_nan: bool = False) -> Node:
    """Whether ``abs(a - b) <= atol + rtol * abs(b)``; infinities are close to themselves, NaN if `equal_nan`."""
    x, y = unify([a, b])
    if not x.type.is_float:
        x, y = cast(x, FLOAT), cast(y, FLOAT)
    slack = add(atol, multiply(rtol, ops.absolute(y)))
    close = ops.logical_and(ops.isfinite(y), less_equal(ops.absolute(x - y), slack))
    close = ops.logical_or(close, ops.equal(x, y))
    return ops.logical_or(close, ops.logical_and(ops.isnan(x), ops.isnan(y))) if equal_nan else close


def allclose(a: Operand, b: Operand, rtol: Operand = 1e-05, atol: Operand = 1e-08, equal_nan: bool = False) -> Node:
    """Whether all elements are close (see `isclose`)."""
    return reductions.all(isclose(a, b, rtol, atol, equal_nan))


def real(val: Operand) -> Node:
    """The operand itself: there are no complex numbers in graphs."""
    return identity(val)


def imag(val: Operand) -> Node:
    """Zeros: there are no complex numbers in graphs."""
    return zeros_like(val)


def select(condlist: Sequence[Operand], choicelist: Sequence[Operand], default: Operand = 0) -> Node:
    """Of each element the first choice whose condition holds, else `default`."""
    if not all(isinstance(given, (list, tuple)) for given in (condlist, choicelist)):
        raise DeclarationTypeError("np.select wants lists: np.select([condition, ...], [value, ...], default)")
    if len(condlist) != len(choicelist) or not condlist:
        raise DeclarationValueError(
            f"np.select wants as many choices as conditions, and at least one: got {len(condlist)} conditions and "
            f"{len(choicelist)} choices"
        )
    conditions = [as_node(condition) for condition in condlist]
    for place, condition in enumerate(conditions):
        if condition.dtype != BOOL:
            raise DeclarationTypeError(
                f"np.select: condition {place} is {condition.type}, not bool", hint="compare it: x != 0"
            )
    *choices, result = unify([*choicelist, default])
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = where(condition, choice, result)
    return result


def interp(
    x: Operand, xp: Operand, fp: Operand, left: Operand = None, right: Operand = None, period: Operand = None
) -> Node:
    """The piecewise linear function through the points (xp, fp), with xp increasing, in float64 as NumPy has it.

    Outside it is `left` and `right`: the first and the last of `fp`, unless said otherwise. The slope at a point is
    that of the piece on its right. Every xp is compared with every x.
    """
    if period is not None:
        raise DeclarationValueError(
            "np.interp of a view takes no period=", hint="write np.interp(x % period, ...) with points for one period"
        )
    at, knots, values = (cast(as_node(value), FLOAT) for value in (x, xp, fp))
    if len(knots.shape) != 1 or values.shape != knots.shape or knots.shape == (0,):
        raise DeclarationValueError(
            f"np.interp wants xp and fp of one length, at least 1: got {knots.type} and {values.type}"
        )
    first, last = (indexing.getitem(knots, place) for place in (0, -1))
    low = indexing.getitem(values, 0) if left is None else left
    high = indexing.getitem(values, -1) if right is None else right
    below, above = less(at, first), greater(at, last)
    if knots.shape == (1,):
        inner = indexing.getitem(values, 0)
    else:
        inner = _between(where(ops.logical_or(below, above), first, at), knots, values)
    return where(below, low, where(above, high, inner))


def _between(x: Node, knots: Node, values: Node) -> Node:
    """The interpolated value: from the left knot, where that is nan from the right one, where both agree theirs."""
    passed = reductions.sum(less_equal(knots, expand_dims(x, -1)), axis=-1)
    piece = maximum(subtract(passed, 1), 0)
    following = minimum(add(piece, 1), subtract(knots.shape[0], 1))
    x0, x1, y0, y1 = (picking.take(points, place) for points in (knots, values) for place in (piece, following))
    is_last, rise, run = ops.equal(x, x1), y1 - y0, x1 - x0
    # A knot has its own value, and a finite gradient, whatever slope begins there.
    is_steep = ops.logical_and(ops.equal(x, x0), ops.logical_not(ops.isfinite(rise / run)))
    rise = where(ops.logical_or(is_last, is_steep), 0.0, rise)
    slope = rise / where(is_last, 1.0, run)
    from_left, from_right = y0 + slope * (x - x0), y1 + slope * (x - x1)
    level = ops.logical_and(ops.equal(y0, y1), ops.logical_not(ops.isnan(x)))
    from_right = where(ops.logical_and(ops.isnan(from_right), level), y0, from_right)
    inner = where(ops.logical_and(ops.isnan(from_left), ops.logical_not(is_steep)), from_right, from_left)
    return where(is_last, y1, inner)


UFUNCS: dict[np.ufunc, Callable[..., Node | tuple[Node, ...]]] = {
    np.heaviside: heaviside,
    np.fmax: fmax,
    np.fmin: fmin,
    np.deg2rad: deg2rad,
    np.radians: deg2rad,
    np.rad2deg: rad2deg,
    np.degrees: rad2deg,
    np.signbit: signbit,
    np.nextafter: nextafter,
    np.spacing: spacing,
    np.modf: modf,
    np.divmod: divmod,
}

FUNCTIONS: dict[Callable[..., Any], Callable[..., Node]] = {
    np.round: around,
    np.around: around,
    np.fix: PLAIN[np.trunc],
    np.sinc: sinc,
    np.nan_to_num: nan_to_num,
    np.isposinf: isposinf,
    np.isneginf: isneginf,
    np.isclose: isclose,
    np.allclose: allclose,
    np.real: real,
    np.imag: imag,
    np.select: select,
    np.interp: interp,
    np.i0: lambda x: ops.i0(as_float(x)),
}
