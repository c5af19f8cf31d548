"""The exponential and what is made of it: exp, exp2, expm1, sinh, cosh, tanh.

Cody and Waite's reduction: x = n ln 2 + r with |r| <= ln(2)/2, ln 2 in two parts of which the first times n is exact;
then 2**n (1 + r + r**2 q(r)). Coefficients: Chebyshev fits of q by `mpmath.chebyfit` at 60 digits.
"""

import math

from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Number,
    absolute,
    bits,
    copy_sign,
    format_of,
    from_bits,
    polynomial,
    vectorizable,
    where,
)

# ln 2 in two parts (fdlibm's): the first has as many trailing zeros as n has bits.
LN2_PARTS = {
    SINGLE: (0.693145751953125, 1.42860677e-06),
    DOUBLE: (0.6931471803691238, 1.9082149292705877e-10),
}
# (exp(r) - 1 - r) / r**2 on |r| < 0.35
_EXP = {
    SINGLE: (0.5, 0.16666667, 0.041666456, 0.0083333105, 0.0013934532, 0.0001989197),
    DOUBLE: (
        0.5,
        0.1666666666666667,
        0.04166666666666667,
        0.008333333333325551,
        0.0013888888888883332,
        0.00019841269876840357,
        2.480158732699005e-05,
        2.755725286336732e-06,
        2.755727183153613e-07,
        2.5106262550879078e-08,
        2.0915433598076003e-09,
    ),
}
# (2**r - 1) / r on |r| < 0.503
_EXP2 = {
    SINGLE: (0.6931472, 0.2402265, 0.05550411, 0.009618055, 0.0013333501, 0.00015462143, 1.5297861e-05),
    DOUBLE: (
        0.6931471805599453,
        0.24022650695910072,
        0.05550410866482163,
        0.00961812910762848,
        0.0013333558146405393,
        0.000154035303933702,
        1.5252733842927813e-05,
        1.3215486809384193e-06,
        1.017805638683966e-07,
        7.054896957232018e-09,
        4.455941768362237e-10,
        2.572993724936093e-11,
    ),
}
# Beyond these exp is 0 or infinite, expm1 is -1, tanh is 1.
_EXP_RANGE = {SINGLE: (-104.0, 89.0), DOUBLE: (-746.0, 710.0)}
_EXPM1_LEAST = {SINGLE: -18.0, DOUBLE: -40.0}
_TANH_MOST = {SINGLE: 10.0, DOUBLE: 20.0}


@vectorizable
def exp(x: Number) -> Number:
    """e**x; subnormal results are rounded twice, else within 1 ULP."""
    low, high = _EXP_RANGE[format_of(x)]
    n, r, excess = _reduce(clip(x, low, high))
    return scale(1 + (r + excess), n)


@vectorizable
def exp2(x: Number) -> Number:
    """2**x."""
    return exp2_of_sum(x, 0.0)


@vectorizable
def expm1(x: Number) -> Number:
    """exp(x) - 1, also where x is small."""
    return _expm1(clip(x, _EXPM1_LEAST[format_of(x)], _EXP_RANGE[format_of(x)][1]))


@vectorizable
def tanh(x: Number) -> Number:
    """The hyperbolic tangent: with t = expm1(2 |x|), t / (t + 2) where x is small and 1 - 2 / (t + 2) elsewhere."""
    size = absolute(x)
    size = where(size > _TANH_MOST[format_of(x)], _TANH_MOST[format_of(x)], size)
    t = _expm1(size + size)
    large = size > 0.55
    quotient = where(large, 2.0, t) / (t + 2)
    return copy_sign(where(large, 1 - quotient, quotient), x)


@vectorizable
def sinh(x: Number) -> Number:
    """(t + t / (t + 1)) / 2 with t = expm1 |x|; the same as t - t**2 / (2 (t + 1)) below 1; near overflow exp(|x|/2)**2 / 2."""
    low, high = _EXP_RANGE[format_of(x)]
    size = absolute(x)
    t = _expm1(where(size > high - 2, high - 2, size))
    n, r, excess = _reduce(clip(0.5 * size, low, high))
    half = scale(1 + (r + excess), n)
    small = size < 1
    quotient = where(small, t * t, t) / (t + 1)
    both = where(small, 2 * t - quotient, t + quotient)
    return copy_sign(where(size < high - 2, 0.5 * both, 0.5 * half * half), x)


@vectorizable
def cosh(x: Number) -> Number:
    """(e + 1 / e) / 2 with e = exp |x|; near overflow exp(|x|/2)**2 / 2."""
    low, high = _EXP_RANGE[format_of(x)]
    size = absolute(x)
    n, r, excess = _reduce(clip(0.5 * size, low, high))
    half = scale(1 + (r + excess), n)
    n, r, excess = _reduce(clip(size, low, high - 2))
    whole = scale(1 + (r + excess), n)
    return where(size < high - 2, 0.5 * whole + 0.5 / whole, 0.5 * half * half)


def exp_of_negative(x: Number) -> Number:
    """exp for x <= 0, without exp's upper bound."""
    low = _EXP_RANGE[format_of(x)][0]
    n, r, excess = _reduce(where(x < low, low, x))
    return scale(1 + (r + excess), n)


def exp2_of_sum(high: Number, low: Number) -> Number:
    """2**(high + low), where `low` is at most an ULP of `high`."""
    form = format_of(high)
    high = clip(high, 3.0 - 2 * form.mantissa - form.bias, form.bias + 2.0)
    shifted = high + form.rounder
    r = (high - (shifted - form.rounder)) + low
    return scale(1 + r * polynomial(r, _EXP2[form]), bits(shifted) - form.rounder_bits)


def scale(x: Number, n: Number) -> Number:
    """x * 2**n in two steps, so that x in [0.5, 2] may become infinite, subnormal or 0."""
    form = format_of(x)
    half = n >> 1
    return x * from_bits((half + form.bias) << form.mantissa) * from_bits((n - half + form.bias) << form.mantissa)


def clip(x: Number, low: float, high: float) -> Number:
    """x within [low, high]; NaN stays."""
    x = where(x > high, high, x)
    return where(x < low, low, x)


def _reduce(x: Number) -> tuple[Number, Number, Number]:
    """n, r and exp(r) - 1 - r of Cody and Waite's reduction; n is an integer."""
    form = format_of(x)
    first, second = LN2_PARTS[form]
    shifted = x * math.log2(math.e) + form.rounder
    n = shifted - form.rounder
    r = (x - n * first) - n * second
    return bits(shifted) - form.rounder_bits, r, r * r * polynomial(r, _EXP[form])


def _expm1(x: Number) -> Number:
    """2 (s p + (s - 1/2)) with s = 2**(n-1) and p = exp(r) - 1: no overflow before the result's own."""
    form = format_of(x)
    n, r, excess = _reduce(x)
    p = r + excess
    s = from_bits((n + (form.bias - 1)) << form.mantissa)
    return copy_sign(where(n == 0, p, 2 * (s * p + (s - 0.5))), x)
