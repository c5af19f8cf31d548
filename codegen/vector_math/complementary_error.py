"""Tails of the error function and of the normal distribution: erfc, erfcx, ndtr, log_ndtr.

erfc(x) = exp(-x**2) erfcx(x) for x >= 0, with x**2 in two parts and erfcx by a polynomial in (x - 4) / (x + 4), which
reaches to infinity (Shepherd and Laframboise, 1981). Coefficients: Chebyshev fits by `mpmath.chebyfit` at 50 digits.
"""

import math

import numpy as np

from graphc.codegen.vector_math.error_function import erf_near_zero
from graphc.codegen.vector_math.exponential import exp_of_sum
from graphc.codegen.vector_math.logarithmic import log, log1p_inside, masked
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Format,
    Number,
    absolute,
    full_like,
    in_double,
    polynomial,
    vectorizable,
    where,
)

# (1 + 2 x) exp(x**2) erfc(x) as a function of t = (x - 4) / (x + 4), -1 <= t <= 1
_ERFCX = {
    SINGLE: (
        1.2329951186255526,
        -0.13962108431457343,
        0.015379683653270457,
        0.06809613205416176,
        -0.10103995084812757,
        0.09374044379277174,
        -0.06632325953594628,
        0.037139916895707926,
        -0.016222274556440326,
        0.005082809154341805,
        -0.0007163394718890914,
        -0.0002486322974476492,
        0.00011660799658166694,
    ),
    DOUBLE: (
        1.2329951186255526,
        -0.1396211168405625,
        0.015379652102610162,
        0.0680970542546862,
        -0.10103906603585294,
        0.09373283499865172,
        -0.06633036582050367,
        0.0371675155318432,
        -0.01619773397992426,
        0.005031970032548695,
        -0.0007577737141838885,
        -0.00019925700412184815,
        0.0001506231178516207,
        -2.439811794207995e-05,
        -1.1225140354449658e-05,
        5.707239573693257e-06,
        2.980596055322769e-07,
        -8.218020654813044e-07,
        7.111912428010423e-08,
        1.0683442926744586e-07,
        -1.6357383982124768e-08,
        -1.2544825403855518e-08,
        1.5712153638319064e-09,
        9.655408225482863e-10,
    ),
}
# What the first coefficient for float64 has beyond its last digit.
_ERFCX_LOW = -1.1960822084360052e-17
# sqrt(1/2) in two parts, the first of half the digits.
_ROOT = (0.7071067690849304, 1.210161710447897e-08)
# Beyond it erfc underflows.
_FAR = 40.0


@vectorizable
def erfc(x: Number) -> Number:
    """1 - erf(x), to its last digits where it is small."""
    return in_double(_erfc, x)


def _erfc(form: Format, x: Number) -> Number:
    size = absolute(x)
    high, low = _square(where(size > _FAR, _FAR, size))
    factor, lost = _scaled_tail(form, size, 0.0)
    tail = exp_of_sum(-high, lost - low) * factor
    near = 1 - erf_near_zero(form, size)
    tail = where(size < 0.5, near, tail)
    return where(x < 0, 2 - tail, tail)


@vectorizable
def erfcx(x: Number) -> Number:
    """exp(x**2) erfc(x), which neither underflows nor, for positive x, overflows."""
    return in_double(_erfcx, x)


def _erfcx(form: Format, x: Number) -> Number:
    factor, lost = _scaled_tail(form, absolute(x), 0.0)
    factor = factor + factor * lost
    size = where(x < 0, -x, 0.0)
    high, low = _square(where(size > _FAR, _FAR, size))
    return where(x < 0, 2 * exp_of_sum(high, low) - factor, factor)


@vectorizable
def ndtr(x: Number) -> Number:
    """The normal distribution function, (1 + erf(x / sqrt(2))) / 2, to its last digits where it is small."""
    return in_double(_ndtr, x)


def _ndtr(form: Format, x: Number) -> Number:
    tail = _normal_tail(form, absolute(x))
    return where(x > 0, 1 - tail, tail)


@vectorizable
def log_ndtr(x: Number) -> Number:
    """The logarithm of `ndtr`, without its underflow."""
    return in_double(_log_ndtr, x)


def _log_ndtr(form: Format, x: Number) -> Number:
    size = absolute(x)
    right = log1p_inside(-_normal_tail(form, size))
    factor, lost = _scaled_tail(form, *_over_sqrt_2(size))
    return where(x > 0, right, (log(0.5 * factor) + lost) - 0.5 * x * x)


def _normal_tail(form: Format, size: Number) -> Number:
    """ndtr(-size)."""
    high, low = _square(where(size > _FAR, _FAR, size))
    root, rest = _over_sqrt_2(size)
    factor, lost = _scaled_tail(form, root, rest)
    near = 0.5 - 0.5 * erf_near_zero(form, root)
    return where(size < 0.7, near, exp_of_sum(-0.5 * high, lost - 0.5 * low) * (0.5 * factor))


def _scaled_tail(form: Format, size: Number, rest: Number) -> tuple[Number, Number]:
    """erfcx of size + rest, and nearly its relative error: what rounding took from its numerator and denominator."""
    infinite = size == np.inf
    t = where(infinite, 1.0, (size - 4) / where(infinite, 1.0, size + 4))
    first, *others = _ERFCX[form]
    bend = t * polynomial(t, tuple(others))
    over = first + bend
    under = 0.5 + size  # halves of both, lest it overflow
    quotient = 0.5 * over / under
    if form is SINGLE:
        return quotient, full_like(size, 0)
    over_lost = (bend - (over - first)) + _ERFCX_LOW
    under_lost = where(size < 0.5, size - (under - 0.5), 0.5 - (under - size)) + rest
    lost = 0.9 * (over_lost - 2 * quotient * under_lost)  # over is between 1 and 1.24
    return quotient, where(infinite, 0.0, lost)


def _over_sqrt_2(x: Number) -> tuple[Number, Number]:
    """x / sqrt(2) in two parts."""
    size, half = math.sqrt(0.5) * x, masked(x)
    return size, ((half * _ROOT[0] - size) + (x - half) * _ROOT[0]) + x * _ROOT[1]


def _square(x: Number) -> tuple[Number, Number]:
    """x**2 in two parts, the first exact."""
    half = masked(x)
    return half * half, (x - half) * (x + half)
