"""The cube root.

x = 8**k m with m in [1, 8): a polynomial for the root of m, one step of Halley's iteration, and one more with the root
in half the digits, whose square is exact (fdlibm's). Coefficients: Chebyshev fit by `mpmath.chebyfit` at 50 digits.
"""

import numpy as np

from graphc.codegen.vector_math.logarithmic import masked
from graphc.codegen.vector_math.lowering import (
    SINGLE,
    Number,
    absolute,
    bits,
    copy_sign,
    format_of,
    from_bits,
    polynomial,
    to_double,
    to_single,
    vectorizable,
    where,
)

# The cube root on [1, 8], to 1.4e-3.
_ROOT = (
    0.6084349186865862,
    0.48881233581505845,
    -0.11212010655657866,
    0.018251656689589422,
    -0.001596887337316374,
    5.655254894221102e-05,
)


@vectorizable
def cbrt(x: Number) -> Number:
    """The cube root, with the sign of x."""
    form = format_of(x)
    size = absolute(x)
    usual = (size > 0) & (size < np.inf)
    # Subnormal numbers are raised by a power of 8.
    tiny = size < form.smallest_normal
    lift = 3 * (form.mantissa // 3 + 1)
    m = where(tiny, size * 2.0**lift, size)
    # The exponent's third, rounded down: e * 21846 >> 16 is e // 3 for all e here.
    shift = -form.bias % 3
    k = (((bits(m) >> form.mantissa) + shift) * 21846 >> 16) - (form.bias + shift) // 3
    m = from_bits(bits(m) - ((3 * k) << form.mantissa))
    root = to_single(_halley(to_double(m))) if form is SINGLE else _last_digits(m, _halley(m))
    scale = from_bits((where(tiny, k - lift // 3, k) + form.bias) << form.mantissa)
    return copy_sign(where(usual, root * scale, size), x)


def _halley(m: Number) -> Number:
    """The cube root of m to 2e-9."""
    y = polynomial(m, _ROOT)
    cube = y * y * y
    return y * ((cube + 2 * m) / (2 * cube + m))


def _last_digits(m: Number, y: Number) -> Number:
    y = masked(y)
    quotient = m / (y * y)
    return y + y * ((quotient - y) / (2 * y + quotient))
