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
    SINGLE: (0.5, 0.16666667, 0.04166646, 0.0083333105, 0.001393409, 0.0001989148),
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
# (sinh(x) / x - 1) / x**2 as a function of x**2 <= 1
_SINH = {
    SINGLE: (0.16666667, 0.008333339, 0.00019838102, 2.8062802e-06),
    DOUBLE: (
        0.16666666666666666,
        0.008333333333333299,
        0.00019841269841324198,
        2.7557319191381816e-06,
        2.5052117695907823e-08,
        1.6057679623801638e-10,
        7.746178593018827e-13,
    ),
}
# Beyond these the results are 0 or infinite (exp, with some room for sinh), -1 or infinite (expm1), 1 (tanh).
_EXP_RANGE = {SINGLE: (-104.0, 90.0), DOUBLE: (-746.0, 711.0)}
_EXPM1_RANGE = {SINGLE: (-18.0, 89.0), DOUBLE: (-40.0, 710.0)}
_TANH_MOST = {SINGLE: 10.0, DOUBLE: 20.0}


@vectorizable
def exp(x: Number) -> Number:
    """e**x."""
    return scaled_exp(clip(x, *_EXP_RANGE[format_of(x)]))


@vectorizable
def exp2(x: Number) -> Number:
    """2**x."""
    return exp2_of_sum(x, 0.0)


@vectorizable
def expm1(x: Number) -> Number:
    """exp(x) - 1, also where x is small: 2 (s p + (s - 1/2)) with s = 2**(n-1), which does not overflow."""
    p, half = _expm1_parts(clip(x, *_EXPM1_RANGE[format_of(x)]), -1)
    return copy_sign(where(half == 0.5, p, 2 * (half * p + (half - 0.5))), x)


@vectorizable
def tanh(x: Number) -> Number:
    """The hyperbolic tangent: e / (e + 2) with e = exp(2 |x|) - 1."""
    form = format_of(x)
    most = 2 * _TANH_MOST[form]
    exponent = 2 * absolute(x)
    # float32 stays within 1.91 ULP without what rounding takes from r.
    p, power = _expm1_parts(where(exponent > most, most, exponent), 0, exact=form is DOUBLE)
    e = power * p + (power - 1)
    denominator = e + 2
    lost = where(e < 2, e, 2.0) - (denominator - where(e < 2, 2.0, e))
    quotient = e / denominator
    return copy_sign(quotient - (quotient * lost) * (0.5 - 0.5 * quotient), x)  # 1 / (e + 2) is the last factor


@vectorizable
def sinh(x: Number) -> Number:
    """The hyperbolic sine: a polynomial below 1, else h - 1 / (4 h) with h = exp(|x|) / 2."""
    size = absolute(x)
    z = size * size
    near = size + size * (z * polynomial(z, _SINH[format_of(x)]))
    half = _half_exp(size)
    return copy_sign(where(size < 1, near, half - 0.25 / half), x)


@vectorizable
def cosh(x: Number) -> Number:
    """The hyperbolic cosine: h + 1 / (4 h) with h = exp(|x|) / 2."""
    half = _half_exp(absolute(x))
    return half + 0.25 / half


def exp_of_negative(x: Number) -> Number:
    """exp for x <= 0, without exp's upper bound."""
    low = _EXP_RANGE[format_of(x)][0]
    return scaled_exp(where(x < low, low, x))


def exp_of_sum(high: Number, low: Number) -> Number:
    """exp(high + low), where `low` is small."""
    form = format_of(high)
    n, r, lost = _reduce(clip(high, *_EXP_RANGE[form]), 2 * form.bias)
    r = r + (lost + low)
    return _scale(1 + (r + r * r * polynomial(r, _EXP[form])), n)


def exp2_of_sum(high: Number, low: Number) -> Number:
    """2**(high + low), where `low` is at most an ULP of `high`."""
    form = format_of(high)
    high = clip(high, 3.0 - 2 * form.mantissa - form.bias, form.bias + 2.0)
    rounder = form.rounder + 2 * form.bias
    shifted = high + rounder
    r = (high - (shifted - rounder)) + low
    return _scale(1 + r * polynomial(r, _EXP2[form]), bits(shifted))


def clip(x: Number, low: float, high: float) -> Number:
    """x within [low, high]; NaN stays."""
    x = where(x > high, high, x)
    return where(x < low, low, x)


def _half_exp(x: Number) -> Number:
    """exp(x) / 2 for x >= 0, which overflows where sinh and cosh do."""
    high = _EXP_RANGE[format_of(x)][1]
    return scaled_exp(where(x > high, high, x), -1)


def scaled_exp(x: Number, offset: int = 0) -> Number:
    """exp(x) 2**offset for x that is not far beyond the range of exp."""
    form = format_of(x)
    n, r, _ = _reduce(x, 2 * form.bias + offset)
    return _scale(1 + (r + r * r * polynomial(r, _EXP[form])), n)


def _expm1_parts(x: Number, offset: int, exact: bool = True) -> tuple[Number, Number]:
    """p and s of exp(x) - 1 = 2**-offset (s p + s) - 1, where s is a power of 2."""
    form = format_of(x)
    n, r, lost = _reduce(x, form.bias + offset)
    bend = r * r * polynomial(r, _EXP[form])
    return r + (bend + lost if exact else bend), _power_of_2(n)


def _reduce(x: Number, offset: int) -> tuple[Number, Number, Number]:
    """n + offset, an integer of which the low bits count, and r of x = n ln 2 + r with what rounding took from it."""
    form = format_of(x)
    first, second = LN2_PARTS[form]
    rounder = form.rounder + offset
    shifted = x * math.log2(math.e) + rounder
    n = shifted - rounder
    exact, rest = x - n * first, n * second
    r = exact - rest
    return bits(shifted), r, (exact - r) - rest


def _scale(x: Number, n: Number) -> Number:
    """x * 2**(n - 2 bias) in two steps, so that x in [0.5, 2] may become infinite, subnormal or 0."""
    half = n >> 1
    return x * _power_of_2(half) * _power_of_2(n - half)


def _power_of_2(n: Number) -> Number:
    """2**(n - bias), for an integer n of which the low bits count."""
    return from_bits(n << format_of(n).mantissa)
