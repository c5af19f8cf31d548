"""Quantiles of the normal distribution: ndtri and erfinv.

Of y = p - 1/2 and q = min(p, 1 - p): near the centre y times a polynomial in L = -log(4 p (1 - p)) (Giles, 2010), else
s - N(s) / (s D(s)) with s = sqrt(-2 log q), the leading term of the tail. Coefficients: Chebyshev fit and rational
interpolation at Chebyshev nodes in log s, in mpmath at 50 digits.
"""

import math

import numpy as np

from graphc.codegen.vector_math.logarithmic import log
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Format,
    Number,
    absolute,
    copy_sign,
    in_double,
    intrinsic,
    polynomial,
    vectorizable,
    where,
)

# x / (p - 1/2) as a function of L = -log(4 p (1 - p)) <= 2.5
_CENTRAL = {
    SINGLE: (
        2.506628274773235,
        0.6562337364033571,
        0.032666621427334085,
        -0.006605426154305971,
        -0.00036018798852124754,
        0.00012890504453796662,
        8.351732284387442e-06,
        -4.311730861857582e-06,
        3.533146003897717e-07,
        -1.903872362507175e-09,
    ),
    DOUBLE: (
        2.5066282746310007,
        0.6562337477384362,
        0.032666472293938105,
        -0.006604664820980003,
        -0.00036216113610487233,
        0.00013183710808648954,
        5.713245992689912e-06,
        -2.8636162648914053e-06,
        -1.0599268812662139e-07,
        6.505562347039102e-08,
        1.6317209236563933e-09,
        -1.1643610820643876e-09,
        -1.935622276711174e-10,
        8.307940779503905e-11,
        -9.319414498427245e-12,
        2.942952578493408e-13,
        1.0246014994967553e-14,
    ),
}
# s (s - x), a quotient of polynomials in s = sqrt(-2 log p) from 2.5 on
_TAIL_OVER = {
    SINGLE: (
        0.06641106041972367,
        2.6598528271153,
        4.547098226699816,
        1.2116110273262641,
        0.06739260860580168,
        0.0005923047189301146,
    ),
    DOUBLE: (
        0.03695274547751794,
        2.9730694563986546,
        10.870576387765189,
        11.74336609019983,
        5.9614825058125405,
        1.671142208297857,
        0.2446567804127704,
        0.017274714074636523,
        0.0005531553044327566,
        7.345369295224092e-06,
        3.356031395095441e-08,
        3.233432750906639e-11,
    ),
}
_TAIL_UNDER = {
    SINGLE: (
        1.0,
        3.1908316267050405,
        2.1762079229459634,
        0.3522747862456667,
        0.013531481159507565,
        7.98553385507886e-05,
    ),
    DOUBLE: (
        1.0,
        5.757966115059989,
        9.405668490935726,
        6.83508160216973,
        2.705739314754781,
        0.606525868933669,
        0.07172654572619808,
        0.004169558140213619,
        0.00011160738087403824,
        1.2430172010153688e-06,
        4.680954838064437e-09,
        3.437350794519597e-12,
    ),
}
# x / (p - 1/2) and erfinv(x) / x at their zeros, each in two parts
_FIRST_OF_NDTRI = (2.5066282746310007, -1.8328579980459167e-16)
_FIRST_OF_ERFINV = (0.886226925452758, -3.8332932499128993e-17)
# |p - 1/2| where L is 2.5.
_EDGE = 0.479


@vectorizable
def ndtri(p: Number) -> Number:
    """The x whose `ndtr` is p; NaN outside of [0, 1]."""
    return in_double(_ndtri, p)


def _ndtri(form: Format, p: Number) -> Number:
    y = p - 0.5
    return _quantile(form, y, 2 * absolute(y), where(p > 0.5, 1 - p, p), _FIRST_OF_NDTRI, 1.0)


@vectorizable
def erfinv(x: Number) -> Number:
    """The inverse of erf; NaN beyond 1."""
    return in_double(_erfinv, x)


def _erfinv(form: Format, x: Number) -> Number:
    size = absolute(x)
    return _quantile(form, x, size, 0.5 * (1 - size), _FIRST_OF_ERFINV, math.sqrt(0.5))


def _quantile(form: Format, y: Number, size: Number, q: Number, first: tuple[float, float], scale: float) -> Number:
    """The quantile of q, times `scale`, with the sign of y; size is 1 - 2 q, and first[0] y what it is near 0."""
    central = size < 2 * _EDGE
    twice = -log(where(central, (1 - size) * (1 + size), q))
    leading, *others = _CENTRAL[form]
    bend = twice * polynomial(twice, tuple(others))
    near = y * first[0] + y * (first[1] + first[0] / leading * bend)
    end = q == 0
    s = where(end | central, 3.0, intrinsic("sqrt", np.sqrt, 2 * twice))
    far = s - polynomial(s, _TAIL_OVER[form]) / (s * polynomial(s, _TAIL_UNDER[form]))
    return where(central, near, copy_sign(where(end, np.inf, scale * far), y))
