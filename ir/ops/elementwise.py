"""Elementwise functions of numbers, each beside its derivative as a calculus book has it.

What the rules say at kinks and poles is part of the interface: 0 at the kink of relu and absolute, ties of maximum and
minimum halved, an infinite slope reported as inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir.core import NUMBER, Node, Op, Partials, PiecewiseConstant, elementwise, full, same_type
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.ops.comparison import equal, greater, less, logical_and, logical_or, where, where_zero
from graphc.ir.ops.conversion import cast, stop_gradient
from graphc.ir.types import TensorType

LN2, LN10 = math.log(2), math.log(10)


def rounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` computed in float64 and rounded once to the operands' dtype: the reference for float32."""

    def evaluate(*operands: np.ndarray) -> Any:
        return function(*(operand.astype(np.float64) for operand in operands)).astype(operands[0].dtype)

    return evaluate


def one_where(condition: Node, like: Node) -> Node:
    """1 where the condition holds, else 0, in the dtype of `like`.

    A slope that is such a step has slope 0 itself, which its condition says by `stop_gradient`; else it would count as
    discrete, and second derivatives of relu as an error.
    """
    return cast(condition, dtype=like.dtype)


# powers and roots -----------------------------------------------------------------------------------------------------


def _power_by_base(y: Node, x: Node, p: Node) -> Node:
    return where_zero(p, p * power(x, p - 1))


def _power_by_exponent(y: Node, x: Node, p: Node) -> Node:
    # 0**p is 0 on one side of p = 0 and inf on the other: no slope exists at 0**0, and 0 does least harm.
    at_corner = logical_and(equal(x, full(0, x.type)), equal(p, full(0, p.type)))
    flat = logical_or(equal(y, full(0, y.type)), at_corner)
    return where(flat, full(0, y.type), y * log(x))


power = elementwise(
    "power", np.power, "power({0}, {1})", Partials((_power_by_base, _power_by_exponent)),
    numpy=("power", "pow", "float_power"), domain=(0.2, 3.0),
    note="0**0 is 1; its slope in the base is 0 at exponent 0, in the exponent 0 at base 0 (exponent >= 0)",
)  # fmt: skip


def _integer_power_infer(x: TensorType, *, n: int) -> TensorType:
    same_type("integer_power", (x,), NUMBER)
    if isinstance(n, bool) or not isinstance(n, int):
        raise DeclarationTypeError(f"integer_power wants an integer exponent, got {n!r}")
    if n < 0 and not x.is_float:
        raise DeclarationValueError(
            f"integer_power of {x} wants an exponent of at least 0, got {n}", hint="cast it: x.astype('float64')"
        )
    return x


def _integer_power_partial(y: Node, x: Node) -> Node:
    n: int = y["n"]
    if n in (0, 1):
        return full(n, x.type)
    return n * (x if n == 2 else integer_power(x, n=n - 1))


integer_power = Op(
    name="integer_power", accepts=NUMBER, infer=_integer_power_infer, evaluate=lambda x, n: x**n,
    scalar="integer_power({0}, {1})", derivative=Partials((_integer_power_partial,)), numpy=("power",),
    note="x**0 is 1 everywhere, with slope 0",
)  # fmt: skip

square = elementwise("square", np.square, "{0} * {0}", Partials((lambda y, x: 2 * x,)), accepts=NUMBER)
sqrt = elementwise(
    "sqrt", np.sqrt, "sqrt({0})", Partials((lambda y, x: 0.5 / y,)), domain=(0.1, 3.0), note="slope inf at 0"
)
cbrt = elementwise(
    "cbrt", np.cbrt, "cbrt({0})", Partials((lambda y, x: 1 / (3 * square(y)),)), domain=(0.2, 3.0),
    note="slope inf at 0",
)  # fmt: skip
reciprocal = elementwise(
    "reciprocal", np.reciprocal, "reciprocal({0})", Partials((lambda y, x: -square(y),)), domain=(0.3, 3.0)
)
hypot = elementwise(
    "hypot", np.hypot, "hypot({0}, {1})",
    Partials((lambda y, a, b: where_zero(y, a / y), lambda y, a, b: where_zero(y, b / y))), note="slope 0 at (0, 0)",
)  # fmt: skip


# exponentials and logarithms ------------------------------------------------------------------------------------------

exp = elementwise("exp", np.exp, "exp({0})", Partials((lambda y, x: y,)))
exp2 = elementwise("exp2", np.exp2, "exp2({0})", Partials((lambda y, x: LN2 * y,)))
# exp(x), and not y + 1, which is 0 where exp(x) is small.
expm1 = elementwise("expm1", np.expm1, "expm1({0})", Partials((lambda y, x: exp(x),)))
log = elementwise("log", np.log, "log({0})", Partials((lambda y, x: 1 / x,)), domain=(0.1, 3.0))
log1p = elementwise("log1p", np.log1p, "log1p({0})", Partials((lambda y, x: 1 / (1 + x),)), domain=(-0.9, 3.0))
log2 = elementwise("log2", np.log2, "log2({0})", Partials((lambda y, x: (1 / LN2) / x,)), domain=(0.1, 3.0))
log10 = elementwise("log10", np.log10, "log10({0})", Partials((lambda y, x: (1 / LN10) / x,)), domain=(0.1, 3.0))


def _logaddexp_partial(y: Node, a: Node, b: Node) -> Node:
    # sigmoid(a - b) keeps what exp(a - y) rounds away for large a; -inf - -inf is nan where nothing flows.
    return where(equal(y, full(-math.inf, y.type)), full(0, y.type), sigmoid(a - b))


logaddexp = elementwise(
    "logaddexp", np.logaddexp, "logaddexp({0}, {1})",
    Partials((_logaddexp_partial, lambda y, a, b: _logaddexp_partial(y, b, a))), note="slope 0 at (-inf, -inf)",
)  # fmt: skip


def _logaddexp2_partial(y: Node, a: Node, b: Node) -> Node:
    return where(equal(y, full(-math.inf, y.type)), full(0, y.type), sigmoid(LN2 * (a - b)))


logaddexp2 = elementwise(
    "logaddexp2", np.logaddexp2, "logaddexp2({0}, {1})",
    Partials((_logaddexp2_partial, lambda y, a, b: _logaddexp2_partial(y, b, a))), note="slope 0 at (-inf, -inf)",
)  # fmt: skip


# circular and hyperbolic functions ------------------------------------------------------------------------------------

sin = elementwise("sin", np.sin, "sin({0})", Partials((lambda y, x: cos(x),)))
cos: Op = elementwise("cos", np.cos, "cos({0})", Partials((lambda y, x: -sin(x),)))
tan = elementwise("tan", np.tan, "tan({0})", Partials((lambda y, x: 1 + square(y),)), domain=(-1.2, 1.2))
# (1 - x)(1 + x) is exact to rounding near 1, where 1 - x*x is not; likewise below.
arcsin = elementwise(
    "arcsin", np.arcsin, "arcsin({0})", Partials((lambda y, x: 1 / sqrt((1 - x) * (1 + x)),)),
    numpy=("arcsin", "asin"), domain=(-0.9, 0.9),
)  # fmt: skip
arccos = elementwise(
    "arccos", np.arccos, "arccos({0})", Partials((lambda y, x: -1 / sqrt((1 - x) * (1 + x)),)),
    numpy=("arccos", "acos"), domain=(-0.9, 0.9),
)  # fmt: skip
arctan = elementwise(
    "arctan", np.arctan, "arctan({0})", Partials((lambda y, x: 1 / (1 + square(x)),)), numpy=("arctan", "atan")
)


def _arctan2_partial(numerator: Node, other: Node) -> Node:
    radius = hypot(numerator, other)  # divided by twice: its square may overflow
    return numerator / radius / radius


arctan2 = elementwise(
    "arctan2", np.arctan2, "arctan2({0}, {1})",
    Partials((lambda y, a, b: _arctan2_partial(b, a), lambda y, a, b: -_arctan2_partial(a, b))),
    numpy=("arctan2", "atan2"), note="slope nan at (0, 0)",
)  # fmt: skip
sinh = elementwise("sinh", np.sinh, "sinh({0})", Partials((lambda y, x: cosh(x),)))
cosh: Op = elementwise("cosh", np.cosh, "cosh({0})", Partials((lambda y, x: sinh(x),)))
# As precise as y itself; 1 / cosh(x)**2 would keep digits far out, where the slope is below the rounding of y, and cost
# an exponential and the operand.
tanh = elementwise("tanh", np.tanh, "tanh({0})", Partials((lambda y, x: 1 - square(y),)))
arcsinh = elementwise(
    "arcsinh", np.arcsinh, "arcsinh({0})", Partials((lambda y, x: 1 / hypot(full(1, x.type), x),)),
    numpy=("arcsinh", "asinh"),
)  # fmt: skip
arccosh = elementwise(
    "arccosh", np.arccosh, "arccosh({0})", Partials((lambda y, x: 1 / (sqrt(x - 1) * sqrt(x + 1)),)),
    numpy=("arccosh", "acosh"), domain=(1.2, 4.0),
)  # fmt: skip
arctanh = elementwise(
    "arctanh", np.arctanh, "arctanh({0})", Partials((lambda y, x: 1 / ((1 - x) * (1 + x)),)),
    numpy=("arctanh", "atanh"), domain=(-0.9, 0.9),
)  # fmt: skip


# activations ----------------------------------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def _erf(x: np.ndarray) -> Any:
    from scipy.special import erf

    return erf(x)


sigmoid: Op = elementwise("sigmoid", rounded(_sigmoid), "sigmoid({0})", Partials((lambda y, x: y * sigmoid(-x),)))
softplus = elementwise(
    "softplus", rounded(lambda x: np.logaddexp(0, x)), "softplus({0})", Partials((lambda y, x: sigmoid(x),))
)
log_sigmoid = elementwise(
    "log_sigmoid", rounded(lambda x: -np.logaddexp(0, -x)), "log_sigmoid({0})", Partials((lambda y, x: sigmoid(-x),))
)
erf = elementwise(
    "erf", rounded(_erf), "erf({0})", Partials((lambda y, x: (2 / math.sqrt(math.pi)) * exp(-square(x)),))
)
relu = elementwise(
    "relu", lambda x: np.maximum(x, 0), "relu({0})",
    Partials((lambda y, x: one_where(greater(stop_gradient(x), full(0, x.type)), x),)),
    note="slope 0 at 0; nan stays nan",
)  # fmt: skip


def _step(x: np.ndarray) -> Any:
    return np.heaviside(x, np.ones_like(x))


step = elementwise("step", _step, "unit_step({0})", PiecewiseConstant(), note="1 at 0; nan stays nan")


# magnitude, order and rounding ----------------------------------------------------------------------------------------

absolute = elementwise(
    "absolute", np.absolute, "abs({0})", Partials((lambda y, x: sign(x),)), accepts=NUMBER,
    numpy=("absolute", "abs", "fabs"), note="slope 0 at 0",
)  # fmt: skip
copysign: Op = elementwise(
    "copysign", np.copysign, "copysign({0}, {1})",
    Partials((lambda y, x, s: sign(x) * copysign(full(1, x.type), s), 0)), note="slope 0 where the magnitude is 0",
)  # fmt: skip
sign: Op = elementwise("sign", np.sign, "sign({0})", PiecewiseConstant(), accepts=NUMBER, note="0 at 0")


def _selected(above: Callable[[Node, Node], Node], a: Node, b: Node) -> Node:
    """1 where a is selected, 0 where b is, a half where they tie."""
    a, b = stop_gradient(a), stop_gradient(b)
    return where(equal(a, b), full(0.5, a.type), one_where(above(a, b), a))


maximum = elementwise(
    "maximum", np.maximum, "maximum({0}, {1})",
    Partials((lambda y, a, b: _selected(greater, a, b), lambda y, a, b: _selected(greater, b, a))),
    accepts=NUMBER, note="ties share the slope evenly; nan stays nan",
)  # fmt: skip
minimum = elementwise(
    "minimum", np.minimum, "minimum({0}, {1})",
    Partials((lambda y, a, b: _selected(less, a, b), lambda y, a, b: _selected(less, b, a))),
    accepts=NUMBER, note="ties share the slope evenly; nan stays nan",
)  # fmt: skip


def _whole(function: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    """A rounding, which leaves integers as they are (NumPy before 2.1 made them floats, and rint still does)."""
    return lambda x: function(x) if x.dtype.kind == "f" else x


floor = elementwise("floor", _whole(np.floor), "floor({0})", PiecewiseConstant(), accepts=NUMBER)
ceil = elementwise("ceil", _whole(np.ceil), "ceil({0})", PiecewiseConstant(), accepts=NUMBER)
rint = elementwise(
    "rint", _whole(np.rint), "rint({0})", PiecewiseConstant(), accepts=NUMBER, numpy=("rint", "round"),
    note="halves go to the even neighbour",
)  # fmt: skip
trunc = elementwise(
    "trunc", _whole(np.trunc), "trunc({0})", PiecewiseConstant(), accepts=NUMBER, numpy=("trunc", "fix")
)
floor_divide = elementwise(
    "floor_divide", np.floor_divide, "floor_divide({0}, {1})", PiecewiseConstant(), accepts=NUMBER, domain=(0.3, 9.0),
    note="an integer divided by 0 is 0",
)  # fmt: skip
remainder = elementwise(
    "remainder", np.remainder, "remainder({0}, {1})", Partials((1, lambda y, a, b: -floor_divide(a, b))),
    accepts=NUMBER, numpy=("remainder", "mod"), domain=(0.3, 9.0),
    note="has the divisor's sign; an integer modulo 0 is 0",
)  # fmt: skip
# The rounded quotient is the truncated one, exactly; a / b itself may be rounded up to it.
fmod = elementwise(
    "fmod", np.fmod, "fmod({0}, {1})", Partials((1, lambda y, a, b: -rint((a - y) / b))), accepts=NUMBER,
    domain=(0.3, 9.0), note="has the dividend's sign; an integer modulo 0 is 0",
)  # fmt: skip
fraction = elementwise(
    "fraction", lambda x: np.modf(x)[0], "fraction({0})", Partials((1,)), numpy=("modf",),
    note="what trunc leaves, with the sign of x; 0 at infinity; slope 1 everywhere",
)  # fmt: skip
nextafter = elementwise(
    "nextafter", np.nextafter, "nextafter({0}, {1})", Partials((1, 0)), note="the neighbour moves with x: slope 1 in it"
)
