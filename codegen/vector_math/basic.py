"""What the processor does in one step or two, with NumPy's results: square root, rounding, sign, maximum, minimum."""

import numpy as np

from graphc.codegen.vector_math.lowering import Number, intrinsic, vectorizable, where


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


@vectorizable
def sign(x: Number) -> Number:
    """-1, 0, 1 or NaN."""
    return where(x > 0, 1.0, where(x < 0, -1.0, where(x == 0, 0.0, x)))


@vectorizable
def sqrt(x: Number) -> Number:
    """The correctly rounded square root; NaN below 0."""
    return intrinsic("sqrt", np.sqrt, x)


@vectorizable
def trunc(x: Number) -> Number:
    """The integer part."""
    return intrinsic("trunc", np.trunc, x)


@vectorizable
def maximum(x: Number, y: Number) -> Number:
    """The larger of x and y; NaN if one is NaN."""
    return where((x >= y) | (x != x), x, y)


@vectorizable
def minimum(x: Number, y: Number) -> Number:
    """The smaller of x and y; NaN if one is NaN."""
    return where((x <= y) | (x != x), x, y)
