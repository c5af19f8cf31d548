"""What instructions of PTX compute that is not one operation of NumPy: vectors over lanes, bit by bit as documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_ROUNDINGS: dict[str, Callable[..., Any]] = {"n": np.rint, "z": np.trunc, "m": np.floor, "p": np.ceil}
fused: dict[str, Callable[..., Any]] = {}  # multiply-add that rounds once, by the C library; set when it is loaded


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    shape = np.broadcast_shapes(np.shape(a), np.shape(b), np.shape(c))
    kind = np.asarray(a).dtype
    given = [np.ascontiguousarray(np.broadcast_to(each, shape)) for each in (a, b, c)]
    out = np.empty(shape, kind)
    fused[kind.char](out.size, *(each.ctypes.data for each in (*given, out)))
    return out


def sum_toward_zero(a: Any, b: Any) -> Any:
    """a + b of float32, rounded toward zero."""
    a, b = np.float64(a), np.float64(b)
    total = a + b
    part = total - a
    return toward_zero(total, (a - (total - part)) + (b - part))


def fma_toward_zero(a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32, rounded toward zero; the product is exact in float64."""
    return sum_toward_zero(np.float64(a) * np.float64(b), c)


def toward_zero(value: Any, rest: Any = 0.0) -> Any:
    """value + rest of float64, the rest below its last place, as float32 rounded toward zero."""
    found = np.float32(value)
    over = (np.abs(np.float64(found)) > np.abs(value)) | ((found == value) & (rest * np.sign(value) < 0))
    return np.where(over, np.nextafter(found, np.float32(0)), found)


def flushed(value: Any) -> Any:
    """Subnormal numbers as zeros of their sign."""
    return np.where(np.abs(value) < np.finfo(value.dtype).tiny, np.copysign(value.dtype.type(0), value), value)


def by_double(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that a GPU approximates, here to the last place."""
    return lambda value: function(np.float64(value)).astype(value.dtype)


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two floats, where one is NaN the other; -0 is less than 0."""
    return np.where((a == b) & np.signbit(a), a, np.fmin(a, b))


def larger(a: Any, b: Any) -> Any:
    """The larger of two floats, where one is NaN the other; -0 is less than 0."""
    return np.where((a == b) & np.signbit(b), a, np.fmax(a, b))


def quotient(a: Any, b: Any) -> Any:
    """a / b of integers, rounded toward zero; all bits where b is 0, as on GPUs."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    floor = a // safe
    inexact = (floor * safe != a) & ((a < 0) != (safe < 0))
    return np.where(b == 0, ~np.zeros_like(safe), np.where(inexact, floor + floor.dtype.type(1), floor))


def remainder(a: Any, b: Any) -> Any:
    """What `quotient` leaves."""
    return a - quotient(a, b) * b


def upper(a: Any, b: Any) -> Any:
    """The upper half of a product of integers."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}8")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(bits)).astype(a.dtype)
    unsigned = _upper_unsigned(a.view(np.uint64), b.view(np.uint64))
    if a.dtype.kind == "i":  # a negative one was read as larger by 2**64
        unsigned = unsigned - np.where(a < 0, b, 0).view(np.uint64) - np.where(b < 0, a, 0).view(np.uint64)
    return unsigned.view(a.dtype)


def _upper_unsigned(a: Any, b: Any) -> Any:
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    low, cross = (a & mask) * (b & mask), (a >> half) * (b & mask)
    middle = (a & mask) * (b >> half) + (low >> half) + (cross & mask)
    return (a >> half) * (b >> half) + (cross >> half) + (middle >> half)


def summed(a: Any, b: Any, carry: Any) -> tuple[Any, Any]:
    """a + b + carry of words, and the carry out."""
    total = a.astype(np.uint64) + b.astype(np.uint64) + carry.astype(np.uint64)
    return total.astype(np.uint32), (total >> np.uint64(32)).astype(np.uint32)


def subtracted(a: Any, b: Any, borrow: Any) -> tuple[Any, Any]:
    """a - b - borrow of words, and the borrow out."""
    total, carry = summed(a, ~b, np.uint32(1) - borrow)
    return total, np.uint32(1) - carry


def shifted_left(a: Any, by: Any) -> Any:
    """a << by, 0 where that is all bits or more."""
    bits = 8 * a.dtype.itemsize
    return np.where(by < bits, a << np.minimum(by, bits - 1).astype(a.dtype), a.dtype.type(0))


def shifted_right(a: Any, by: Any) -> Any:
    """a >> by, with what is shifted in repeated where that is all bits or more."""
    bits = 8 * a.dtype.itemsize
    found = a >> np.minimum(by, bits - 1).astype(a.dtype)
    return found if a.dtype.kind == "i" else np.where(by < bits, found, a.dtype.type(0))


def field_of(a: Any, start: Any, length: Any) -> Any:
    """`bfe`: some bits of an integer, with the sign of the last where it has one."""
    bits, start, length = 8 * a.dtype.itemsize, start.astype(np.int64) & 255, length.astype(np.int64) & 255
    length = np.minimum(length, np.maximum(bits - start, 0)) if a.dtype.kind == "u" else length
    top = shifted_left(a, np.maximum(bits - start - length, 0).astype(np.uint32))
    found = shifted_right(top, np.maximum(bits - length, start).astype(np.uint32))
    return np.where(length == 0, a.dtype.type(0), found)


def inserted(a: Any, b: Any, start: Any, length: Any) -> Any:
    """`bfi`: b with some bits from the lower end of a."""
    one = a.dtype.type(1)
    mask = shifted_left(shifted_left(np.broadcast_to(one, np.shape(length)), length & 255) - one, start & 255)
    return (b & ~mask) | (shifted_left(a, start & 255) & mask)


def permuted(a: Any, b: Any, selector: Any) -> Any:
    """`prmt`: four of the bytes of two words, or their signs."""
    pair, out = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32)), np.uint32(0)
    for place in range(4):
        choice = (selector >> np.uint32(4 * place)) & np.uint32(15)
        byte = ((pair >> ((choice & np.uint32(7)) * np.uint32(8)).astype(np.uint64)) & np.uint64(255)).astype(np.uint32)
        byte = np.where(choice & np.uint32(8), np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0)), byte)
        out = out | (byte.astype(np.uint32) << np.uint32(8 * place))
    return out


def products_of_bytes(a: Any, b: Any, c: Any) -> Any:
    """`dp4a`: c and the products of the bytes of two words, signed where the words are."""
    total = c.astype(np.int64)
    for place in range(4):
        pair = ((each >> each.dtype.type(8 * place)).astype(f"{each.dtype.kind}1") for each in (a, b))
        first, second = (each.astype(np.int64) for each in pair)
        total = total + first * second
    return total.astype(c.dtype)


def leading_zeros(a: Any) -> Any:
    """How many of an integer's bits above its first 1 are 0."""
    count, bits = np.zeros(np.shape(a), np.uint32), 8 * a.dtype.itemsize
    for place in range(bits):
        count = count + ((a >> a.dtype.type(place)) == 0).astype(np.uint32)
    return count


def reversed_bits(a: Any) -> Any:
    """Its bits from the other end."""
    out, bits = a ^ a, 8 * a.dtype.itemsize
    for place in range(bits):
        out = out | (((a >> a.dtype.type(place)) & a.dtype.type(1)) << a.dtype.type(bits - 1 - place))
    return out


def logic(a: Any, b: Any, c: Any, table: int) -> Any:
    """`lop3`: what a table says of three bits."""
    out = a ^ a
    for place in range(8):
        if table >> place & 1:
            out = out | ((a if place & 4 else ~a) & (b if place & 2 else ~b) & (c if place & 1 else ~c))
    return out


def converted(value: Any, kind: str, rounding: str, saturate: bool) -> Any:
    """`cvt` between numbers: floats to integers are clamped, and NaN has the value that the manual says."""
    to, source = np.dtype(kind), value.dtype
    if source.kind != "f" and to.kind != "f":
        if saturate:
            limits = np.iinfo(to)
            low = max(limits.min, int(np.iinfo(source).min))
            return np.clip(value, low, min(limits.max, int(np.iinfo(source).max))).astype(to)
        return value.astype(to)
    if source.kind != "f" or (to.kind == "f" and not rounding.endswith("i")):
        found = toward_zero(value) if rounding == "z" and (source.char, to.char) == ("d", "f") else value.astype(to)
        return np.where(np.isnan(found), 0, np.clip(found, 0, 1)).astype(to) if saturate else found
    whole = _ROUNDINGS[rounding[0]](value)
    if to.kind == "f":
        return whole.astype(to)
    limits = np.iinfo(to)
    nothing = (
        0 if source != np.float64 and to.itemsize < 8 else limits.min if to.kind == "i" else 1 << 8 * to.itemsize - 1
    )
    low, high = whole < float(limits.min), whole >= float(limits.max)
    found = np.where(np.isnan(whole) | low | high, 0, whole).astype(to)
    for where, bound in ((low, limits.min), (high, limits.max), (np.isnan(whole), nothing)):
        found = np.where(where, to.type(bound), found)
    return found
