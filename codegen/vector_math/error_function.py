"""The error function.

Below 1: x + x p(x**2); above: 1 - exp(q(|x| - 1)), q fitted to log(erfc) with weight erfc, which is what its error
costs the result. Coefficients: Chebyshev and Lawson's weighted least squares fits in mpmath at 60 digits.
"""

from graphc.codegen.vector_math.exponential import exp_of_negative
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Format,
    Number,
    absolute,
    copy_sign,
    format_of,
    polynomial,
    vectorizable,
    where,
)

# erf(x) / x - 1 as a function of x**2 <= 1
_ERF = {
    SINGLE: (0.12837912, -0.37612343, 0.11280317, -0.026715055, 0.004921762, -0.000564806),
    DOUBLE: (
        0.12837916709551256,
        -0.37612638903183543,
        0.11283791670945006,
        -0.02686617064323777,
        0.0052239776071164225,
        -0.0008548325975389692,
        0.00012055294904839707,
        -1.492473690741966e-05,
        1.6447424703317362e-06,
        -1.6208483801871705e-07,
        1.3720064546777686e-08,
        -7.795898827002142e-10,
    ),
}
# log(erfc(1 + t)) on 0 <= t <= _ONE - 1
_LOG_ERFC = {
    SINGLE: (
        -1.8496056,
        -2.6389675,
        -0.8431071,
        -0.041563313,
        0.010046063,
        -0.0020115497,
        0.00028932083,
        -2.1648206e-05,
    ),
    DOUBLE: (
        -1.8496055099332482,
        -2.638967514234774,
        -0.8431072563594818,
        -0.04156109802385319,
        0.010033825166627259,
        -0.0019779011377424787,
        0.00023731611822159346,
        2.6297198773453144e-05,
        -2.72006579780386e-05,
        9.673713961659078e-06,
        -2.134294540172308e-06,
        2.0654393146499045e-07,
        5.708504093907124e-08,
        -3.303574826083851e-08,
        8.423702580202442e-09,
        -1.3023162197331212e-09,
        1.1757022082957704e-10,
        -4.782793977549171e-12,
    ),
}
# From here on erf is 1 to the last digit.
_ONE = {SINGLE: 4.0, DOUBLE: 6.0}


@vectorizable
def erf(x: Number) -> Number:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    form = format_of(x)
    size = absolute(x)
    size = where(size > _ONE[form], _ONE[form], size)
    near = erf_near_zero(form, size)
    far = 1 - exp_of_negative(polynomial(size - 1, _LOG_ERFC[form]))
    return copy_sign(where(size < 1, near, far), x)


def erf_near_zero(form: Format, x: Number) -> Number:
    """erf for |x| <= 1, to the digits of a format."""
    return x + x * polynomial(x * x, _ERF[form])
