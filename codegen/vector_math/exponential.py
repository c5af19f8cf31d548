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
# (tanh(x) / x - 1) / x**2 as a function of x**2 <= 0.3026
_TANH = {
    SINGLE: (-0.3333333, 0.13333113, -0.053909376, 0.021309063, -0.006609614),
    DOUBLE: (
        -0.3333333333333333,
        0.13333333333332714,
        -0.05396825396743174,
        0.021869488493563037,
        -0.008863234395418095,
        0.003592110347096177,
        -0.0014556615775702365,
        0.0005889348072447028,
        -0.00023463104528300406,
        8.510707927354112e-05,
        -2.0598556673275166e-05,
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
    return scale(*_exp_parts(clip(x, *_EXP_RANGE[format_of(x)])))


@vectorizable
def exp2(x: Number) -> Number:
    """2**x."""
    return exp2_of_sum(x, 0.0)


@vectorizable
def expm1(x: Number) -> Number:
    """exp(x) - 1, also where x is small: 2 (s p + (s - 1/2)) with s = 2**(n-1) and p = exp(r) - 1."""
    form = format_of(x)
    n, r, excess = _reduce(clip(x, *_EXPM1_RANGE[form]))
    p = r + excess
    s = from_bits((n + (form.bias - 1)) << form.mantissa)
    return copy_sign(where(n == 0, p, 2 * (s * p + (s - 0.5))), x)


@vectorizable
def tanh(x: Number) -> Number:
    """The hyperbolic tangent: a polynomial below 0.55, else 1 - 2 / (exp(2 |x|) + 1)."""
    form = format_of(x)
    size = absolute(x)
    size = where(size > _TANH_MOST[form], _TANH_MOST[form], size)
    z = size * size
    near = size + size * (z * polynomial(z, _TANH[form]))
    far = 1 - 2 / (scale(*_exp_parts(size + size)) + 1)
    return copy_sign(where(size < 0.55, near, far), x)


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
    return scale(*_exp_parts(where(x < low, low, x)))


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


def _half_exp(x: Number) -> Number:
    """exp(x) / 2 for x >= 0, which overflows where sinh and cosh do."""
    high = _EXP_RANGE[format_of(x)][1]
    value, n = _exp_parts(where(x > high, high, x))
    return scale(value, n - 1)


def _exp_parts(x: Number) -> tuple[Number, Number]:
    """p and n of exp(x) = p 2**n."""
    n, r, excess = _reduce(x)
    return 1 + (r + excess), n


def _reduce(x: Number) -> tuple[Number, Number, Number]:
    """n, r and exp(r) - 1 - r of Cody and Waite's reduction; n is an integer, and what r lost is in the last part."""
    form = format_of(x)
    first, second = LN2_PARTS[form]
    shifted = x * math.log2(math.e) + form.rounder
    n = shifted - form.rounder
    exact, rest = x - n * first, n * second
    r = exact - rest
    lost = (exact - r) - rest
    return bits(shifted) - form.rounder_bits, r, r * r * polynomial(r, _EXP[form]) + lost
