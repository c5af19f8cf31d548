"""Arc sine, cosine and tangent, by polynomials after a reduction to small arguments.

arctan(x) = pi/2 - arctan(1 / x) for x above 1; arcsin(x) = pi/2 - 2 arcsin(sqrt((1 - x) / 2)) for x above 1/2.
Coefficients: Chebyshev fits by `mpmath.chebyfit` at 60 digits.
"""

import numpy as np

from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Number,
    absolute,
    bits,
    copy_sign,
    format_of,
    full_like,
    intrinsic,
    polynomial,
    vectorizable,
    where,
)

# (arctan(x) / x - 1) / x**2 as a function of x**2 <= 1
_ARCTAN = {
    SINGLE: (
        -0.3333333,
        0.1999974,
        -0.14278568,
        0.110337645,
        -0.0865688,
        0.06250169,
        -0.03587154,
        0.013507771,
        -0.0023869972,
    ),
    DOUBLE: (
        -0.3333333333333333,
        0.1999999999999753,
        -0.14285714285384132,
        0.11111111093490827,
        -0.09090908590891934,
        0.07692298971033217,
        -0.06666564699289104,
        0.05881506877793656,
        -0.052579733342841106,
        0.04737749579527779,
        -0.04260356632601652,
        0.03749486812535247,
        -0.031277189066996385,
        0.023696731580048622,
        -0.015535152475414177,
        0.008368931178450162,
        -0.0034958859739163094,
        0.0010496035084968515,
        -0.00019996189377901382,
        1.806195461861215e-05,
    ),
}
# (arcsin(x) / x - 1) / x**2 as a function of x**2 <= 1/4
_ARCSIN = {
    SINGLE: (0.16666666, 0.07500094, 0.044599403, 0.031100662, 0.017149238, 0.033690847),
    DOUBLE: (
        0.16666666666666669,
        0.07499999999998433,
        0.04464285714635543,
        0.030381944138531247,
        0.02237217294214989,
        0.017352392720869973,
        0.013971212973552933,
        0.011479177415184906,
        0.01032281435018578,
        0.005457506718640358,
        0.01740087944269402,
        -0.014851887071247204,
        0.028757851367421566,
    ),
}
# pi/2 in two parts.
_HALF_PI = {
    SINGLE: (1.5707963705062866, -4.371139000186241e-08),
    DOUBLE: (1.5707963267948966, 6.123233995736766e-17),
}


@vectorizable
def arctan(x: Number) -> Number:
    """The angle within [-pi/2, pi/2] whose tangent is x."""
    form = format_of(x)
    first, second = _HALF_PI[form]
    size = absolute(x)
    large = size > 1
    t = where(large, 1 / size, size)
    z = t * t
    excess = t * (z * polynomial(z, _ARCTAN[form]))
    return copy_sign(where(large, first - (t - (second - excess)), t + excess), x)


@vectorizable
def arctan2(y: Number, x: Number) -> Number:
    """The angle within [-pi, pi] of the point (x, y), with the sign of y; a zero x has a sign too."""
    form = format_of(x)
    first, second = _HALF_PI[form]
    height, width, left = absolute(y), absolute(x), bits(x) < 0
    steep = height > width
    t = where(steep, width, height) / where(steep, height, width)
    t = where(height == width, where(height == 0, height, 1), t)  # not 0 / 0, not inf / inf
    t = where((x != x) | (y != y), np.nan, t)
    excess = t * (t * t * polynomial(t * t, _ARCTAN[form]))
    # The angle from the nearest axis, which stands at a multiple of pi/2, is added or taken away.
    axis = where(steep, 1, where(left, 2, full_like(t, 0)))
    away = (steep & left) | ((steep | left) ^ True)
    t, excess = where(away, t, -t), where(away, excess, -excess)
    return copy_sign(axis * first + (t + (axis * second + excess)), y)


@vectorizable
def arcsin(x: Number) -> Number:
    """The angle within [-pi/2, pi/2] whose sine is x; NaN beyond 1."""
    first, second = _HALF_PI[format_of(x)]
    large, s, excess = _reduced_arcsin(absolute(x))
    return copy_sign(where(large, first - (2 * s - (second - 2 * excess)), s + excess), x)


@vectorizable
def arccos(x: Number) -> Number:
    """The angle within [0, pi] whose cosine is x; NaN beyond 1."""
    first, second = _HALF_PI[format_of(x)]
    large, s, excess = _reduced_arcsin(absolute(x))
    near_zero = 2 * (s + excess)
    near_pi = 2 * (first - (s - (second - excess)))
    s, excess = copy_sign(s, x), copy_sign(excess, x)
    return where(large, where(x > 0, near_zero, near_pi), first - (s - (second - excess)))


def _reduced_arcsin(size: Number) -> tuple[Number, Number, Number]:
    """Whether `size` is above 1/2; s, which is `size` or the root; and arcsin(s) - s."""
    large = size > 0.5
    z = where(large, 0.5 * (1 - size), size * size)
    s = where(large, intrinsic("sqrt", np.sqrt, z), size)
    return large, s, s * (z * polynomial(z, _ARCSIN[format_of(size)]))
