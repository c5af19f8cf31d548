"""Products with logarithms and what they are for: xlogy, xlog1py, entr, rel_entr; and logit."""

import numpy as np

from graphc.codegen.vector_math.logarithmic import log, log1p, log1p_inside
from graphc.codegen.vector_math.lowering import Number, format_of, full_like, vectorizable, where


@vectorizable
def xlogy(x: Number, y: Number) -> Number:
    """x log(y), and 0 where x is 0 and y is no NaN."""
    return where((x == 0) & (y == y), 0, x * log(y))


@vectorizable
def xlog1py(x: Number, y: Number) -> Number:
    """x log(1 + y), and 0 where x is 0 and y is no NaN."""
    return where((x == 0) & (y == y), 0, x * log1p(y))


@vectorizable
def entr(x: Number) -> Number:
    """-x log(x); 0 at 0, -inf below."""
    return where(x == 0, 0, where(x < 0, -np.inf, -(x * log(x))))


@vectorizable
def rel_entr(x: Number, y: Number) -> Number:
    """x log(x / y); 0 at x = 0 <= y, inf where one is negative, or y alone 0."""
    ratio = x / y
    near = (ratio > 0.5) & (ratio < 2)
    normal = (ratio >= format_of(x).smallest_normal) & (ratio < np.inf)
    logarithm = where(
        near,
        log1p_inside(where(near, (x - y) / y, 0)),
        log(where(normal, ratio, x)) - log(where(normal, 1, y)),
    )
    inside = where((x > 0) & (y > 0), x * logarithm, where((x == 0) & (y >= 0), 0, full_like(x, np.inf)))
    return where((x == x) & (y == y), inside, x + y)


@vectorizable
def logit(x: Number) -> Number:
    """log(x / (1 - x)), the inverse of sigmoid; around 1/2, its zero, as log1p of a quotient that is exact there."""
    rest = 1 - x
    lost = (1 - rest) - x  # of rest: the quotient and its logarithm feel it
    near = (x > 0.3) & (x < 0.7)
    over = where(near, 2 * x - 1, x)
    ratio = over / rest
    correction = where(lost == 0, 0, lost * over / (x * rest))
    return where(near, log1p_inside(where(near, ratio, 0)), log(ratio)) - correction
