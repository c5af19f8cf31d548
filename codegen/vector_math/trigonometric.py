"""Sine, cosine and tangent.

x = n pi/2 + r with pi/2 in parts so short that n times each is exact, the remainders summed without loss; then the
sine and cosine of |r| <= pi/4 by polynomials, of which n's two low bits choose one and its sign. Angles so large that
n has more digits than this can bear are left to the C library. Coefficients: Chebyshev fits by `mpmath.chebyfit` at
60 digits.
"""

import math

from graphc.codegen.vector_math.library import rarely
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Number,
    absolute,
    bits,
    format_of,
    from_bits,
    low_bits,
    polynomial,
    to_double,
    to_single,
    vectorizable,
    where,
)

# Consecutive digits of pi/2, 26 each, the last rounded; n has 27.
_HALF_PI = (
    1.5707963109016418,
    1.5893254712295857e-08,
    6.123233601181349e-17,
    3.945554081778929e-24,
    8.4784276603689e-32,
)
# The same for float32 in float64: three parts do, of which the products with n need be exact for two only.
_HALF_PI_FOR_SINGLE = (1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17)
# Beyond it n has more digits; neighbouring float32 lie more than a period apart.
LARGEST_ANGLE = 2.0**27
# (sin(r) / r - 1) / r**2 and (cos(r) - 1 + r**2 / 2) / r**4 as functions of r**2
_SIN = {
    SINGLE: (-0.16666664, 0.008332725, -0.00019582856),
    DOUBLE: (
        -0.16666666666666666,
        0.0083333333333307,
        -0.00019841269836387345,
        2.755731591191116e-06,
        -2.5051092507061385e-08,
        1.59153232122714e-10,
    ),
}
_COS = {
    SINGLE: (0.041666664, -0.0013888279, 2.4542896e-05),
    DOUBLE: (
        0.041666666666666664,
        -0.0013888888888887241,
        2.4801587298533456e-05,
        -2.755731715246704e-07,
        2.087612165887116e-09,
        -1.1380876948169717e-11,
    ),
}


@vectorizable
def sin(x: Number) -> Number:
    """The sine of x."""
    n, (sine, _), (cosine, _) = _sin_cos_of_remainder(x)
    return _or_library("sin", x, where(x == 0, x, _with_sign_of_bit_1(n, where((n & 1) == 0, sine, cosine))))


@vectorizable
def cos(x: Number) -> Number:
    """The cosine of x."""
    n, (sine, _), (cosine, _) = _sin_cos_of_remainder(x)
    return _or_library("cos", x, _with_sign_of_bit_1(n + 1, where((n & 1) == 0, cosine, sine)))


@vectorizable
def tan(x: Number) -> Number:
    """The tangent of x: the quotient, corrected for what sine and cosine lost to rounding."""
    n, (sine, sine_lost), (cosine, cosine_lost) = _sin_cos_of_remainder(x)
    even = (n & 1) == 0
    over, over_lost = where(even, sine, -cosine), where(even, sine_lost, -cosine_lost)
    under, under_lost = where(even, cosine, sine), where(even, cosine_lost, sine_lost)
    quotient = over / under
    return _or_library("tan", x, where(x == 0, x, quotient + (over_lost - quotient * under_lost) / under))


def _or_library(name: str, x: Number, y: Number) -> Number:
    """y where |x| is at most `LARGEST_ANGLE` (or NaN), elsewhere the C library's result."""
    large = absolute(x) > LARGEST_ANGLE
    return where(large, rarely(name, where(large, x, 0.0)), y)


def _sin_cos_of_remainder(x: Number) -> tuple[Number, tuple[Number, Number], tuple[Number, Number]]:
    """n, sin(r) and cos(r) for x = n pi/2 + r, both with what rounding took; n is an integer whose low bits count."""
    form = format_of(x)
    n, r, low = _remainder(x) if form is DOUBLE else _remainder_of_single(x)
    z = r * r
    h = 0.5 * z
    w = 1 - h
    sine_rest = z * r * polynomial(z, _SIN[form]) + low * w
    cosine_rest = ((1 - w) - h) + (z * z * polynomial(z, _COS[form]) - r * low)
    sine, cosine = r + sine_rest, w + cosine_rest
    return n, (sine, sine_rest - (sine - r)), (cosine, cosine_rest - (cosine - w))


def _remainder(x: Number) -> tuple[Number, Number, Number]:
    """n and r of x = n pi/2 + r for float64, r in two parts to twice the digits."""
    n, multiple = _nearest_multiple(x)
    first, *middle, last = _HALF_PI
    r, low = x - n * first, 0.0
    for part in middle:
        r, error = _difference(r, n * part)
        low = error + low
    low = low - n * last
    total = r + low
    return multiple, total, (r - total) + low


def _remainder_of_single(x: Number) -> tuple[Number, Number, Number]:
    """The same for float32, through float64."""
    x = to_double(x)
    n, multiple = _nearest_multiple(x)
    first, second, third = _HALF_PI_FOR_SINGLE
    r = ((x - n * first) - n * second) - n * third
    rounded = to_single(r)
    return low_bits(multiple), rounded, to_single(r - to_double(rounded))


def _nearest_multiple(x: Number) -> tuple[Number, Number]:
    """The integer nearest to x / (pi/2) as a float64, and as an int64 of which the low bits count."""
    shifted = x * (2 / math.pi) + DOUBLE.rounder
    return shifted - DOUBLE.rounder, bits(shifted)


def _difference(a: Number, b: Number) -> tuple[Number, Number]:
    """a - b rounded, and what rounding took (Knuth)."""
    d = a - b
    v = d - a
    return d, (a - (d - v)) - (b + v)


def _with_sign_of_bit_1(n: Number, x: Number) -> Number:
    """-x where bit 1 of n is set, else x."""
    return from_bits(bits(x) ^ ((n & 2) << (format_of(x).sign_bit - 1)))
