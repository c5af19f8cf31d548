"""The logarithm of the gamma function and its derivatives: gammaln, digamma, polygamma.

For positive x a quotient of polynomials in the middle, where the zeros are (as factors, exact), and Stirling's series
beyond; below, the reflection to 1 - x. The derivatives from the second on are sums by Euler and Maclaurin.
Coefficients: rational interpolation at Chebyshev nodes in log x and Chebyshev fits, in mpmath at 60 digits.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from graphc.codegen.intrinsics import lowers
from graphc.codegen.vector_math.exponentiation import log2_in_parts
from graphc.codegen.vector_math.logarithmic import log, masked
from graphc.codegen.vector_math.lowering import (
    DOUBLE,
    SINGLE,
    Format,
    Number,
    Value,
    absolute,
    full_like,
    in_double,
    intrinsic,
    polynomial,
    vectorizable,
    where,
)
from graphc.codegen.vector_math.trigonometric import of_half_turns

# log(gamma(x)) / ((x - 1) (x - 2)) - 1/2 on [0.4, 3]: quotients of polynomials, those below without cancellation
_GAMMALN_OVER = {
    SINGLE: (
        1.8836828041746128,
        23.52059669026424,
        35.227839827466994,
        -13.191007461159664,
        -15.937237832333517,
        -1.4898447654387565,
    ),
    DOUBLE: (
        2.395965131449275,
        121.06109141392808,
        1267.7443458917808,
        4107.165150610555,
        3951.9382812892445,
        -698.9712483342443,
        -2219.3222300143757,
        -765.2160335701763,
        -76.59806213526072,
        -1.7353735995451007,
    ),
}
_GAMMALN_UNDER = {
    SINGLE: (
        1.0,
        30.16797967928337,
        141.73812133105602,
        162.85492972989772,
        49.83382938912011,
        3.1090282679868055,
    ),
    DOUBLE: (
        1.0,
        91.74320701128812,
        1630.9289678384496,
        9676.396829681566,
        23305.80566624016,
        24679.111410976384,
        11716.494122664331,
        2383.9106691356465,
        180.8749462321649,
        3.52506963873786,
    ),
}
# x times what Stirling's formula lacks, as a function of 1 / x**2 <= 1/9
_STIRLING = {
    SINGLE: (
        0.08333333333139985,
        -0.0027777765182037516,
        0.0007935148822630074,
        -0.0005897124885236223,
        0.0007344743099148668,
        -0.0008228200554382351,
    ),
    DOUBLE: (
        0.08333333333333333,
        -0.002777777777767353,
        0.0007936507891020471,
        -0.0005952373063225196,
        0.0008416788625880287,
        -0.0019135564190696241,
        0.006266355063194953,
        -0.025917635346758477,
        0.11229667324426619,
        -0.4130293923391559,
        1.0364375980809413,
        -1.2591740902471142,
    ),
}
# digamma(x) / (x - root) - 1 on [0.75, 3], likewise
_DIGAMMA_OVER = {
    SINGLE: (
        14491.036238850325,
        16949.992614209463,
        -9105.054735253985,
        -6830.09439156905,
        -543.7122083335831,
    ),
    DOUBLE: (
        3648741365.50704,
        6848218108.130147,
        986794873.239006,
        -2928441843.608792,
        -1524375268.2560701,
        -261203446.76872432,
        -15835811.758096078,
        -245930.66832446377,
    ),
}
_DIGAMMA_UNDER = {
    SINGLE: (
        1.0,
        21172.306510576702,
        29048.518402167716,
        8980.73996165935,
        555.2404530979826,
    ),
    DOUBLE: (
        1.0,
        5333117655.217178,
        11077531597.858038,
        7830773347.713846,
        2392133283.6968684,
        322671311.091912,
        17118862.818556182,
        247425.9268183707,
    ),
}
# x**2 (log(x) - 1 / (2 x) - digamma(x)) as a function of 1 / x**2 <= 1/9
_DIGAMMA_FAR = {
    SINGLE: (
        0.08333333331152477,
        -0.008333319115243062,
        0.003966713857125634,
        -0.004103541134651733,
        0.006330336608107911,
        -0.007940507483978081,
    ),
    DOUBLE: (
        0.08333333333333331,
        -0.008333333333294637,
        0.00396825394841387,
        -0.0041666626108055735,
        0.0075753191412606955,
        -0.021063933354790367,
        0.08207335879892733,
        -0.40454069018231126,
        2.1721867503948165,
        -10.680672517748407,
        40.78053951867347,
        -101.31559922264974,
        119.19157239064806,
    ),
}
# The positive zero of digamma, in two parts.
_ROOT = (1.4616321449683622, 9.549995429965697e-17)
# A scale of Stirling's terms, lest they overflow before their sum does.
_SMALLER = 2.0**-12
# ln 2 in two parts, the first of half the digits.
_LN2 = (0.6931471675634384, 1.2996506893889889e-08)


@vectorizable
def gammaln(x: Number) -> Number:
    """log(|gamma(x)|); inf at the poles. Below 0, where it has zeros, to a few ULP of its terms."""
    return in_double(_gammaln, x)


def _gammaln(form: Format, x: Number) -> Number:
    left, low = x < 0, (x >= 0) & (x < 0.5)
    a = where(left, 1 - x, where(low, 1 + x, x))
    zeros = where(low, x * (x - 1), (a - 1) * (a - 2))
    quotient = polynomial(a, _GAMMALN_OVER[form]) / polynomial(a, _GAMMALN_UNDER[form])
    value = where(a < 3, 0.5 * zeros + zeros * quotient, _stirling(form, where(a < 3, 3.0, a)))
    # gamma(x) is gamma(1 + x) / x, and pi / sin(pi x) / gamma(1 - x).
    sine, _ = of_half_turns(x - intrinsic("rint", np.rint, x))
    logarithm = log(where(left, absolute(sine) * (1 / math.pi), x))
    value = where(left, -logarithm - value, where(low, value - logarithm, value))
    value = where(left & (sine == 0), np.inf, value + 0.0)  # no -0 at 1 and 2
    return where(absolute(x) == np.inf, x, value)


@vectorizable
def digamma(x: Number) -> Number:
    """The derivative of gammaln; NaN at its poles, but infinite at 0. Below 0, to a few ULP of its terms."""
    return in_double(_digamma, x)


def _digamma(form: Format, x: Number) -> Number:
    left, low = x < 0, (x >= 0) & (x < 0.75)
    a = where(left, 1 - x, where(low, 1 + x, x))
    zero = (a - _ROOT[0]) - _ROOT[1]
    middle = zero + zero * (polynomial(a, _DIGAMMA_OVER[form]) / polynomial(a, _DIGAMMA_UNDER[form]))
    far = where(a < 3, 3.0, a)
    inverse = 1 / far
    z = inverse * inverse
    value = where(a < 3, middle, log(far) - (0.5 * inverse + z * polynomial(z, _DIGAMMA_FAR[form])))
    # digamma(x) is digamma(1 + x) - 1 / x, and digamma(1 - x) - pi / tan(pi x).
    rest = x - intrinsic("rint", np.rint, x)
    sine, cosine = of_half_turns(rest)
    pole = where(left, math.pi * cosine, 1.0) / where(left, sine, x)
    value = where(left | low, value - pole, value)
    return where((x < 0) & ((rest == 0) | (x == -np.inf)), np.nan, value)


def _stirling(form: Format, a: Number) -> Number:
    """log(gamma(a)) for a >= 3: (a - 1/2) log(a) - a + log(2 pi) / 2 + w / a, the first term in two parts."""
    inverse = 1 / a
    small = _SMALLER * (0.5 * math.log(2 * math.pi) + inverse * polynomial(inverse * inverse, _STIRLING[form]))
    part = _SMALLER * a
    first, second = log2_in_parts(a)
    b = _SMALLER * (a - 0.5)
    b1 = masked(b)
    high, low = b1 * first, (b - b1) * first + b * second
    head = masked(high + low)
    tail = low - (head - high)
    main = head * _LN2[0]
    total = main - part
    lost = (main - total) - part
    return 1 / _SMALLER * (total + (lost + (head * _LN2[1] + tail * math.log(2) + small)))


# the higher derivatives -----------------------------------------------------------------------------------------------


def polygamma(x: Number, n: int) -> Number:
    """The n-th derivative of digamma, for an n >= 1 that the program's text says; infinite at the poles."""
    with np.errstate(all="ignore"):
        return in_double(_polygamma(int(n)), x if hasattr(x, "dtype") else np.asarray(x)[()])


@lowers(polygamma, literals=True)
def _polygamma_in_llvm(context: Any, x: Any, n: Any) -> Any:
    if not isinstance(n, types.IntegerLiteral) or not isinstance(x, types.Float) or n.literal_value < 1:
        return None
    body = _polygamma(n.literal_value)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: tuple[ir.Value, ...]) -> ir.Value:
        return in_double(body, Value(builder, np.dtype(x.name), args[0])).operand

    return x(x, n), generate


def _polygamma(n: int) -> Any:
    """polygamma(n, x) = (-1)**(n+1) n! sum over k of (x + k)**-(n+1), reflected below 0.

    The terms before x + k >= n + 10 are added one by one; the rest is an integral, half a term, and Bernoulli numbers.
    """

    def function(form: Format, x: Number) -> Number:
        left = x < 0
        a = where(left, 1 - x, x + 0.0)
        count = n + 10
        far = a + count
        inverse = 1 / far
        z = inverse * inverse
        series = 1 / n + 0.5 * inverse + z * polynomial(z, _euler_maclaurin(n))
        total = _raised(inverse, n) * series
        for k in range(count - 1, -1, -1):
            total = total + 1 / _raised(a + k, n + 1)
        value = (-1.0) ** (n + 1) * float(math.factorial(n)) * total
        rest = x - intrinsic("rint", np.rint, x)
        sine, cosine = of_half_turns(rest)
        slopes = math.pi ** (n + 1) * polynomial_of(cosine / sine, _cotangent(n))
        reflected = where((rest == 0) | (x == -np.inf), (-1.0) ** (n + 1) * np.inf, (-1.0) ** n * value - slopes)
        return where(left, reflected, value)

    return function


def polynomial_of(x: Number, coefficients: tuple[float, ...]) -> Number:
    """A polynomial of one parity: powers of x**2, times x where it is odd."""
    odd = coefficients[0] == 0
    kept = coefficients[odd::2]
    value = full_like(x, kept[0]) if len(kept) == 1 else polynomial(x * x, kept)
    return x * value if odd else value


def _raised(x: Number, n: int) -> Number:
    """x**n for n >= 1, by products."""
    result = None
    for bit in bin(n)[:1:-1]:
        if bit == "1":
            result = x if result is None else result * x
        x = x * x
    return result


def _euler_maclaurin(n: int) -> tuple[float, ...]:
    """Of B_2j / (2j)! (n + 1) ... (n + 2j - 1) for j = 1 .. 8."""
    return tuple(
        bernoulli / math.factorial(2 * j) * (math.factorial(n + 2 * j - 1) / math.factorial(n))
        for j, bernoulli in enumerate(_BERNOULLI, 1)
    )


def _cotangent(n: int) -> tuple[float, ...]:
    """The n-th derivative of cot as a polynomial in cot: each is -(1 + c**2) times the last one's slope."""
    coefficients = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-(a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return tuple(coefficients)


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
