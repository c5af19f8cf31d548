"""Shifts and divisions, with NumPy's results where the processor has none: by zero, too far, beyond the range."""

import numpy as np

from graphc.codegen.vector_math.lowering import (
    Number,
    copy_sign,
    divided,
    full_like,
    round_down,
    vectorizable_on,
    where,
)


@vectorizable_on("iuf")
def floor_divide(x: Number, y: Number) -> Number:
    """The largest integer not above x / y; of integers 0 where y is 0, and the least wraps around by -1."""
    return _floor_divide_floats(x, y) if x.dtype.kind == "f" else _divide_integers(x, y)[0]


@vectorizable_on("iuf")
def remainder(x: Number, y: Number) -> Number:
    """x - y floor(x / y), with the sign of y; of integers 0 where y is 0."""
    return _divide_floats(x, y)[1] if x.dtype.kind == "f" else _divide_integers(x, y)[1]


@vectorizable_on("iuf")
def fmod(x: Number, y: Number) -> Number:
    """x - y trunc(x / y), with the sign of x; of integers 0 where y is 0."""
    if x.dtype.kind == "f":
        return divided(x, y)[1]
    return divided(x, where(_traps(x, y), 1, y))[1]


@vectorizable_on("iu")
def left_shift(x: Number, y: Number) -> Number:
    """x 2**y; 0 where y is not within the number of bits."""
    fits = _within_bits(y)
    return where(fits, x << where(fits, y, 0), 0)


@vectorizable_on("iu")
def right_shift(x: Number, y: Number) -> Number:
    """x / 2**y, rounded down; where y is not within the number of bits, as if it were large."""
    fits = _within_bits(y)
    beyond = where(x < 0, full_like(x, -1), 0) if x.dtype.kind == "i" else 0
    return where(fits, x >> where(fits, y, 0), beyond)


def _within_bits(y: Number) -> Number:
    return (y >= 0) & (y < 8 * y.dtype.itemsize)


def _traps(x: Number, y: Number) -> Number:
    """Where processors trap: at y = 0, and at -1 where the quotient does not fit."""
    zero = y == 0
    return zero | ((y == -1) & (x == np.iinfo(x.dtype).min)) if x.dtype.kind == "i" else zero


def _divide_integers(x: Number, y: Number) -> tuple[Number, Number]:
    """Quotient, rounded down, and remainder."""
    quotient, rest = divided(x, where(_traps(x, y), 1, y))
    if x.dtype.kind == "i":
        down = (rest != 0) & ((rest ^ y) < 0)
        quotient, rest = where(down, quotient - 1, quotient), where(down, rest + y, rest)
    return where(y == 0, 0, quotient), rest


def _divide_floats(x: Number, y: Number) -> tuple[Number, Number]:
    """(x - r) / y, nearly an integer, and the remainder r, exact but for the addition of y: as Python's divmod."""
    rest = divided(x, y)[1]
    quotient = (x - rest) / y
    down = (rest != 0) & ((rest < 0) ^ (y < 0))
    signed = where(rest == 0, copy_sign(rest, y), rest)
    return where(down, quotient - 1, quotient), where(down, rest + y, signed)


def _floor_divide_floats(x: Number, y: Number) -> Number:
    quotient, _ = _divide_floats(x, y)
    whole = round_down(quotient)
    whole = where(quotient - whole > 0.5, whole + 1, whole)
    return where(y == 0, x / y, where(quotient == 0, copy_sign(quotient, x / y), whole))
