"""What the processor does in a few steps, with NumPy's results: roots, rounding, sign, order, steps, tests."""

import numpy as np

from graphc.codegen.vector_math.lowering import (
    SINGLE,
    Number,
    bits,
    copy_sign,
    format_of,
    from_bits,
    full_like,
    intrinsic,
    ones_in,
    to_double,
    to_single,
    vectorizable,
    vectorizable_on,
    where,
)


@vectorizable
def absolute(x: Number) -> Number:
    """|x|."""
    return intrinsic("fabs", np.abs, x)


@vectorizable
def ceil(x: Number) -> Number:
    """The smallest integer not below x."""
    return intrinsic("ceil", np.ceil, x)


@vectorizable
def floor(x: Number) -> Number:
    """The largest integer not above x."""
    return intrinsic("floor", np.floor, x)


@vectorizable
def rint(x: Number) -> Number:
    """The nearest integer, the even one of two."""
    return intrinsic("rint", np.rint, x)


@vectorizable_on("iuf")
def sign(x: Number) -> Number:
    """-1, 0, 1 or NaN."""
    return where(x > 0, 1, where(x < 0, -1, where(x == 0, 0, x)))


@vectorizable
def sqrt(x: Number) -> Number:
    """The correctly rounded square root; NaN below 0."""
    return intrinsic("sqrt", np.sqrt, x)


@vectorizable
def hypot(x: Number, y: Number) -> Number:
    """sqrt(x**2 + y**2) without overflow on the way; infinite where one is."""
    width, height = intrinsic("fabs", np.abs, x), intrinsic("fabs", np.abs, y)
    infinite = (width == np.inf) | (height == np.inf)
    if format_of(x) is SINGLE:
        x, y = to_double(x), to_double(y)
        return where(infinite, np.inf, to_single(intrinsic("sqrt", np.sqrt, x * x + y * y)))
    size = where(width > height, width, height)
    # Powers of two, so that squares neither overflow nor lose digits below the normal numbers.
    up = where(size > 2.0**500, 2.0**-600, where(size < 2.0**-400, 2.0**600, full_like(x, 1)))
    down = where(size > 2.0**500, 2.0**600, where(size < 2.0**-400, 2.0**-600, full_like(x, 1)))
    x, y = x * up, y * up
    return where(infinite, np.inf, intrinsic("sqrt", np.sqrt, x * x + y * y) * down)


@vectorizable
def trunc(x: Number) -> Number:
    """The integer part."""
    return intrinsic("trunc", np.trunc, x)


@vectorizable_on("iuf")
def maximum(x: Number, y: Number) -> Number:
    """The larger of x and y; NaN if one is NaN."""
    return where((x >= y) | (x != x), x, y)


@vectorizable_on("iuf")
def minimum(x: Number, y: Number) -> Number:
    """The smaller of x and y; NaN if one is NaN."""
    return where((x <= y) | (x != x), x, y)


@vectorizable
def reciprocal(x: Number) -> Number:
    """1 / x."""
    return 1 / x


@vectorizable
def relu(x: Number) -> Number:
    """x where it is positive, else 0; NaN stays."""
    return where(x <= 0, 0, x)


@vectorizable
def unit_step(x: Number) -> Number:
    """0 below zero, else 1; NaN stays."""
    return where(x < 0, 0, where(x >= 0, 1, x))


@vectorizable_on("f", "bool")
def isinf(x: Number) -> Number:
    """Whether x is infinite."""
    return intrinsic("fabs", np.abs, x) == np.inf


@vectorizable_on("f", "bool")
def isfinite(x: Number) -> Number:
    """Whether x is neither infinite nor NaN."""
    return intrinsic("fabs", np.abs, x) < np.inf


@vectorizable
def copysign(x: Number, y: Number) -> Number:
    """|x| with the sign of y."""
    return copy_sign(x, y)


@vectorizable
def fraction(x: Number) -> Number:
    """What `trunc` leaves of x, with the sign of x; 0 of an infinity."""
    rest = x - intrinsic("trunc", np.trunc, x)
    return copy_sign(where(intrinsic("fabs", np.abs, x) == np.inf, 0, rest), x)


@vectorizable
def nextafter(x: Number, y: Number) -> Number:
    """The float next to x in the direction of y."""
    i = bits(x)
    away = (y > x) ^ (i < 0)  # from zero: its bits, taken for an integer, grow
    least = copy_sign(full_like(x, format_of(x).smallest_subnormal), y)
    step = where(x == 0, least, from_bits(where(away, i + 1, i - 1)))
    return where(x == y, y, where((x != x) | (y != y), x + y, step))


@vectorizable_on("iu", "uint8")
def bitwise_count(x: Number) -> Number:
    """How many bits of |x| are 1."""
    return ones_in(where(x < 0, 0 - x, x) if x.dtype.kind == "i" else x)
