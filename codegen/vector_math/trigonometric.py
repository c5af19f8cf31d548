"""Sine, cosine and tangent.

x = n pi/2 + r with pi/2 in parts so short that n times each is exact, the remainders summed without loss; then the
sine and cosine of |r| <= pi/4 by polynomials, of which n's two low bits choose one and its sign. sin and cos of one
angle share all but the choice. Angles so large that
n has more digits than this can bear are left to the C library. Coefficients: Chebyshev fits by `mpmath.chebyfit` at
60 digits.
"""

import math

from graphc.codegen.vector_math.library import rarely, sine_and_cosine_rarely
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Format,
    Number,
    absolute,
    bits,
    copy_sign,
    format_of,
    from_bits,
    low_bits,
    polynomial,
    to_double,
    to_single,
    vectorizable,
    where,
)

# Consecutive digits of pi/2, 29 each, the last rounded; n has 24.
_HALF_PI = (1.570796325802803, 9.920935774287987e-10, 2.2517417706346578e-18, 3.5215598651832e-27)
# The same for float32 in float64: 26 digits, for n has 27, and the next 53.
_HALF_PI_FOR_SINGLE = (1.5707963109016418, 1.5893254773528196e-08)
# Beyond them n has more digits; neighbouring float32 lie more than a period apart there.
LARGEST_ANGLE = {SINGLE: 2.0**27, DOUBLE: 2.0**24}
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
    n, r = _remainder(x)
    chosen = where((n & 1) == 0, _sine(r, format_of(x)), _cosine(r, format_of(x)))
    return _or_library("sin", x, where(x == 0, x, _with_sign_of_bit_1(n, chosen)))


@vectorizable
def cos(x: Number) -> Number:
    """The cosine of x."""
    n, r = _remainder(x)
    chosen = where((n & 1) == 0, _cosine(r, format_of(x)), _sine(r, format_of(x)))
    return _or_library("cos", x, _with_sign_of_bit_1(n + 1, chosen))


@vectorizable
def tan(x: Number) -> Number:
    """The tangent of x: the quotient of sine and cosine, of float32 in float64."""
    quotient = _tan(x) if format_of(x) is DOUBLE else to_single(_tan_of_single(x))
    return _or_library("tan", x, where(x == 0, x, quotient))


def _tan(x: Number) -> Number:
    """The quotient, corrected for what the remainder, sine and cosine lost to rounding."""
    n, r, low = _remainder_in_parts(x)
    z = r * r
    h = 0.5 * z
    w = 1 - h
    sine_rest = z * r * polynomial(z, _SIN[DOUBLE]) + low * w
    cosine_rest = ((1 - w) - h) + (z * z * polynomial(z, _COS[DOUBLE]) - r * low)
    sine, cosine = r + sine_rest, w + cosine_rest
    sine_lost, cosine_lost = sine_rest - (sine - r), cosine_rest - (cosine - w)
    even = (n & 1) == 0
    over, over_lost = where(even, sine, -cosine), where(even, sine_lost, -cosine_lost)
    under, under_lost = where(even, cosine, sine), where(even, cosine_lost, sine_lost)
    quotient = over / under
    return quotient + (over_lost - quotient * under_lost) / under


def _tan_of_single(x: Number) -> Number:
    n, r = _remainder_of_single(x)
    sine, cosine = _sine(r, SINGLE), _cosine(r, SINGLE)
    even = (n & 1) == 0
    return where(even, sine, -cosine) / where(even, cosine, sine)


def of_half_turns(r: Number) -> tuple[Number, Number]:
    """sin(pi r) and cos(pi r) for |r| <= 1/2, in float64: exact zeros at 0 and at 1/2."""
    size = absolute(r)
    steep = size > 0.25
    angle = math.pi * where(steep, 0.5 - size, size)
    sine, cosine = _sine(angle, DOUBLE), _cosine(angle, DOUBLE)
    return copy_sign(where(steep, cosine, sine), r), where(steep, sine, cosine)


def _or_library(name: str, x: Number, y: Number) -> Number:
    """y where |x| is at most `LARGEST_ANGLE` (or NaN), elsewhere the C library's result."""
    large = absolute(x) > LARGEST_ANGLE[format_of(x)]
    wanted = where(large, x, 0.0)
    if name == "tan" or format_of(x) is DOUBLE:
        return where(large, rarely(name, wanted), y)
    sine, cosine = sine_and_cosine_rarely(wanted)
    return where(large, sine if name == "sin" else cosine, y)


def _sine(r: Number, form: Format) -> Number:
    """sin(r) to the digits of a format."""
    z = r * r
    return r + z * r * polynomial(z, _SIN[form])


def _cosine(r: Number, form: Format) -> Number:
    """cos(r) to the digits of a format."""
    z = r * r
    return 1 + z * (z * polynomial(z, _COS[form]) - 0.5)


def _remainder(x: Number) -> tuple[Number, Number]:
    """n and r of x = n pi/2 + r, in the type of x; n is an integer whose low bits count."""
    if format_of(x) is DOUBLE:
        return _remainder_in_parts(x)[:2]
    n, r = _remainder_of_single(x)
    return low_bits(n), to_single(r)


def _remainder_in_parts(x: Number) -> tuple[Number, Number, Number]:
    """n and r for float64, r in two parts to twice the digits.

    x - n pi/2 up to a part is a multiple of the last place of n times the next: then Dekker's difference is exact,
    whichever is larger.
    """
    n, multiple = _nearest_multiple(x)
    first, second, third, fourth = _HALF_PI
    r, second_lost = _difference(x - n * first, n * second)
    r, third_lost = _difference(r, n * third)
    low = (second_lost + third_lost) - n * fourth
    total = r + low
    return multiple, total, (r - total) + low


def _remainder_of_single(x: Number) -> tuple[Number, Number]:
    """n and r for float32, both of 64 bits."""
    x = to_double(x)
    n, multiple = _nearest_multiple(x)
    first, second = _HALF_PI_FOR_SINGLE
    return multiple, (x - n * first) - n * second


def _nearest_multiple(x: Number) -> tuple[Number, Number]:
    """The integer nearest to x / (pi/2) as a float64, and as an int64 of which the low bits count."""
    shifted = x * (2 / math.pi) + DOUBLE.rounder
    return shifted - DOUBLE.rounder, bits(shifted)


def _difference(a: Number, b: Number) -> tuple[Number, Number]:
    """a - b rounded, and what rounding took (Dekker)."""
    d = a - b
    return d, (a - d) - b


def _with_sign_of_bit_1(n: Number, x: Number) -> Number:
    """-x where bit 1 of n is set, else x."""
    return from_bits(bits(x) ^ ((n & 2) << (format_of(x).sign_bit - 1)))
