"""The logarithm and what is made of it: log, log1p, log2, log10.

As in fdlibm: x = 2**k (1 + f) with 1 + f within [sqrt(1/2), sqrt(2)], s = f / (2 + f), and
log(1 + f) = f - (f**2 / 2 - s (f**2 / 2 + R(s**2))). Coefficients: Chebyshev fits by `mpmath.chebyfit` at 60 digits.
"""

import numpy as np

from graphc.codegen.vector_math.exponential import LN2_PARTS
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Number,
    bits,
    copy_sign,
    format_of,
    from_bits,
    polynomial,
    to_float,
    vectorizable,
    where,
)

# (2 artanh(s) / s - 2) / z on 0 <= z = s**2 <= 0.0297
_LOG = {
    SINGLE: (0.66666687, 0.3998855, 0.29590318),
    DOUBLE: (
        0.666666666666667,
        0.3999999999989322,
        0.28571428628810996,
        0.22222210674238516,
        0.18182922513515942,
        0.15330617306743305,
        0.1463003136412286,
    ),
}
# 1 / ln(base) and log_base(2), each in two parts of which the first has half the digits.
_BASE_2 = {
    SINGLE: ((1.4423828125, 0.00031222838896340733), (1.0, 0.0)),
    DOUBLE: ((1.4426950216293335, 1.9259629911266175e-08), (1.0, 0.0)),
}
_BASE_10 = {
    SINGLE: ((0.4342041015625, 9.038034075182765e-05), (0.301025390625, 4.605038981195214e-06)),
    DOUBLE: ((0.4342944771051407, 4.798111141615973e-09), (0.3010299950838089, 5.801722962879576e-10)),
}


@vectorizable
def log(x: Number) -> Number:
    """The natural logarithm: -inf at both zeros, NaN below."""
    return _at_the_ends(x, _log_of_parts(*split(x)))


@vectorizable
def log1p(x: Number) -> Number:
    """log(1 + x), also where x is small."""
    return _at_the_ends(1 + x, log1p_inside(x))


@vectorizable
def log2(x: Number) -> Number:
    """The logarithm of base 2."""
    return _at_the_ends(x, _log_of_base(x, *_BASE_2[format_of(x)]))


@vectorizable
def log10(x: Number) -> Number:
    """The logarithm of base 10."""
    return _at_the_ends(x, _log_of_base(x, *_BASE_10[format_of(x)]))


def log1p_inside(x: Number) -> Number:
    """log1p for finite x > -1: 1 + x gives k, and f = 2**-k x + (2**-k - 1) keeps what rounding takes from 1 + x."""
    form = format_of(x)
    k = _exponent(1 + x)
    scale = from_bits((form.bias + 2 - k) << form.mantissa)  # 2**(2 - k): 2**-k may be subnormal
    return copy_sign(_log_of_parts(k, 0.25 * (x * scale) + (0.25 * scale - 1)), x)


def split(x: Number) -> tuple[Number, Number]:
    """k, an integer, and f of x = 2**k (1 + f), for finite x > 0."""
    form = format_of(x)
    lift = form.mantissa + 2
    tiny = x < form.smallest_normal
    x = where(tiny, x * 2.0**lift, x)
    k = _exponent(x)
    f = from_bits(bits(x) - (k << form.mantissa)) - 1
    return where(tiny, k - lift, k), f


def _exponent(x: Number) -> Number:
    """k of x = 2**k m with m within [sqrt(1/2), sqrt(2)], for normal x > 0."""
    form = format_of(x)
    return (bits(x) - int(np.sqrt(form.float_type.type(0.5)).view(form.int_type))) >> form.mantissa


def masked(x: Number) -> Number:
    """The upper half of the digits of x: the product of two such numbers is exact."""
    return from_bits(bits(x) & -(1 << (format_of(x).mantissa + 2) // 2))


def _tail(f: Number) -> tuple[Number, Number]:
    """h = f**2 / 2 and t with log(1 + f) = f - h + t."""
    s = f / (2 + f)
    z = s * s
    h = 0.5 * f * f
    return h, s * (h + z * polynomial(z, _LOG[format_of(f)]))


def _log_of_parts(k: Number, f: Number) -> Number:
    """log(2**k (1 + f))."""
    first, second = LN2_PARTS[format_of(f)]
    k = to_float(k)
    h, tail = _tail(f)
    return k * first - ((h - (tail + k * second)) - f)


def _log_of_base(x: Number, inverse: tuple[float, float], log_of_2: tuple[float, float]) -> Number:
    """k log_base(2) + log(1 + f) / ln(base), with both logarithms and the leading terms in two parts."""
    k, f = split(x)
    k = to_float(k)
    h, tail = _tail(f)
    high = masked(f - h)
    low = ((f - high) - h) + tail
    whole, part = k * log_of_2[0], high * inverse[0]
    total = whole + part
    return total + ((whole - total) + part + (k * log_of_2[1] + (low + high) * inverse[1] + low * inverse[0]))


def _at_the_ends(x: Number, y: Number) -> Number:
    """The logarithm of x, given that y is right for finite positive x."""
    y = where(x < np.inf, y, x)  # NaN too
    return where(x < 0, np.nan, where(x == 0, -np.inf, y))
