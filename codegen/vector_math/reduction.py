"""The steps of reductions: radd, rmul, rmax, rmin.

A loop of `total = radd(total, x)` vectorises, for its additions may be regrouped, while all other arithmetic of the
kernel stays exact: fast-math flags belong to single instructions. rmax and rmin vectorise with NaN kept, which
`maximum` and `minimum` do only elementwise.
"""

import numpy as np

from graphc.codegen.vector_math.lowering import (
    Number,
    add_in_any_order,
    intrinsic,
    multiply_in_any_order,
    vectorizable,
)


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
    return intrinsic("maximum", np.maximum, total, x)


@vectorizable
def rmin(total: Number, x: Number) -> Number:
    """One step of a minimum; NaN wins."""
    return intrinsic("minimum", np.minimum, total, x)
