"""Two-operand steps for elementwise kernels and reductions: maximum, minimum; radd, rmul, rmax, rmin.

A loop of `total = radd(total, x)` vectorises, for its additions may be regrouped, while all other arithmetic of the
kernel stays exact: fast-math flags belong to single instructions.
"""

from graphc.codegen.vector_math.lowering import (
    Number,
    add_in_any_order,
    multiply_in_any_order,
    nan_maximum,
    nan_minimum,
    vectorizable,
    where,
)


@vectorizable
def maximum(x: Number, y: Number) -> Number:
    """The larger of x and y; NaN if one is NaN."""
    return where((x >= y) | (x != x), x, y)


@vectorizable
def minimum(x: Number, y: Number) -> Number:
    """The smaller of x and y; NaN if one is NaN."""
    return where((x <= y) | (x != x), x, y)


@vectorizable
def radd(total: Number, x: Number) -> Number:
    """One step of a sum in any order."""
    return add_in_any_order(total, x)


@vectorizable
def rmul(total: Number, x: Number) -> Number:
    """One step of a product in any order."""
    return multiply_in_any_order(total, x)


@vectorizable
def rmax(total: Number, x: Number) -> Number:
    """One step of a maximum; NaN wins."""
    return nan_maximum(total, x)


@vectorizable
def rmin(total: Number, x: Number) -> Number:
    """One step of a minimum; NaN wins."""
    return nan_minimum(total, x)
