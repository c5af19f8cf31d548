"""x to the power y, as 2**(y log2 |x|) with the logarithm and its product with y in two parts.

As in fdlibm: with s = f / (2 + f), ln(1 + f) = 2 s (1 + s**2 / 3 + s**4 L(s**2)); only L can do with one part. First
parts have half the digits, so their products are exact. Coefficients: Chebyshev fit by `mpmath.chebyfit` at 60 digits.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from graphc.codegen.intrinsics import lowers
from graphc.codegen.vector_math.exponential import exp2_of_sum
from graphc.codegen.vector_math.logarithmic import masked, split
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Number,
    Value,
    absolute,
    bits,
    format_of,
    full_like,
    polynomial,
    round_down,
    to_float,
    vectorizable,
    where,
)

# (artanh(s) / s - 1 - z / 3) / z**2 on 0 <= z = s**2 <= 0.0297
_POWER = {
    SINGLE: (0.20000008, 0.14281026, 0.11528326),
    DOUBLE: (
        0.20000000000000015,
        0.14285714285666468,
        0.11111111136808811,
        0.09090903919507896,
        0.07692802205884257,
        0.06642488984809952,
        0.06462831787555137,
    ),
}
# 2 / (3 ln 2) in two parts of which the first has half the digits.
_SCALE = {
    SINGLE: (0.961669921875, 0.0001267720509756049),
    DOUBLE: (0.9617966860532761, 7.872699542894897e-09),
}


@vectorizable
def power(x: Number, y: Number) -> Number:
    """x**y as in C: NaN for negative x and fractional y; 1 for y = 0 and for x = 1, whatever the other is."""
    return _power(x, y)


def _power(x: Number, y: Number) -> Number:
    size = absolute(x)
    result = where((size == 1) | (y == 0), 1.0, exp2_of_sum(*_times_log2(y, size)))
    fractional = round_down(y) != y
    odd = (round_down(0.5 * y) != 0.5 * y) & (round_down(y) == y)
    result = where(odd & (bits(x) < 0), -result, result)
    return where((x < 0) & (size < np.inf) & fractional, np.nan, result)


def integer_power(x: Number, n: int) -> Number:
    """x**n of integers, which wrap around, and floats, for an n that the program's text says.

    Up to 8, and down to -2, by products (at most 4 ULP), else as `power`.
    """
    with np.errstate(all="ignore"):
        return _integer_power(x if hasattr(x, "dtype") else np.asarray(x)[()], int(n))


@lowers(integer_power, literals=True)
def _integer_power_in_llvm(context: Any, x: Any, n: Any) -> Any:
    if not isinstance(n, types.IntegerLiteral) or not isinstance(x, types.Float | types.Integer):
        return None
    exponent: int = n.literal_value
    x = types.unliteral(x)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: tuple[ir.Value, ...]) -> ir.Value:
        return _integer_power(Value(builder, np.dtype(x.name), args[0]), exponent).operand

    return x(x, n), generate


def _integer_power(x: Number, n: int) -> Number:
    if x.dtype.kind == "f" and not -2 <= n <= 8:
        return _power(x, full_like(x, float(n)))
    base = 1 / x if n < 0 else x
    result = None
    for bit in bin(abs(n))[:1:-1]:
        if bit == "1":
            result = base if result is None else result * base
        base = base * base
    return full_like(x, 1) if result is None else result


def _times_log2(y: Number, size: Number) -> tuple[Number, Number]:
    """y log2(size) in two parts; where that is beyond all exponents, infinite or NaN, in one."""
    form = format_of(y)
    first, second = log2_in_parts(size)
    rough = y * where(size == 0, -np.inf, where(size < np.inf, first, size))
    usual = absolute(rough) < 4.0 * form.bias
    y_first = masked(y)
    high, low = y_first * first, (y - y_first) * first + y * second
    total = high + low
    return where(usual, total, rough), where(usual, low - (total - high), 0.0)


def log2_in_parts(x: Number) -> tuple[Number, Number]:
    """log2 of finite x > 0: the upper half of its digits, and the rest to as many again and some more."""
    form = format_of(x)
    k, f = split(x)
    k = to_float(k)
    denominator = 2 + f
    s = f / denominator
    s1, d1 = masked(s), masked(denominator)
    s2 = ((f - s1 * d1) - s1 * (f - (d1 - 2))) / denominator
    # t = 3 (1 + z / 3 + z**2 L(z)) with z = s1**2 + s2 (s + s1)
    z, z1 = s * s, s1 * s1
    rest = 3 * (z * z) * polynomial(z, _POWER[form]) + s2 * (s + s1)
    t1 = masked(3 + z1 + rest)
    t2 = rest - ((t1 - 3) - z1)
    # p = s t
    high, low = s1 * t1, s2 * t1 + t2 * s
    p1 = masked(high + low)
    p2 = low - (p1 - high)
    # k + p 2 / (3 ln 2)
    scale1, scale2 = _SCALE[form]
    high, low = p1 * scale1, p1 * scale2 + p2 * (scale1 + scale2)
    first = masked((high + low) + k)
    return first, low - ((first - k) - high)
