"""Floats of 16 bits: arrays are stored in them, and every op computes in float32 and rounds its result once.

That is what NumPy does in float16. What only moves elements keeps their bits, and a conversion rounds once, from
float64 too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir.types import is_half

if TYPE_CHECKING:
    from graphc.ir.core import Op

SINGLE = np.dtype("float32")
DOUBLE = np.dtype("float64")

# The ops that compute nothing: they choose elements and place them. (One that is not named here gives the same numbers,
# by way of float32.)
MOVES = frozenset((
    "anchor", "broadcast_to", "cast", "concatenate", "constant", "cotangent", "custom_vjp", "extent", "gather", "iota",
    "pad", "reshape", "scatter_set", "slice", "stop_gradient", "transpose", "where",
))  # fmt: skip


def computes_wide(op: Op, dtypes: Sequence[np.dtype[Any]]) -> bool:
    """Whether an op on operands of these dtypes is computed in float32 for the sake of a half among them."""
    return op.name not in MOVES and any(map(is_half, dtypes))


def evaluate(op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
    """What an op means in NumPy, halves included."""
    dtypes = [operand.dtype for operand in operands]
    if not computes_wide(op, dtypes):
        return op.evaluate(*operands, **attrs)
    half = next(dtype for dtype in dtypes if is_half(dtype))
    wide = (x.astype(SINGLE) if is_half(x.dtype) else x for x in operands)
    result = np.asarray(op.evaluate(*wide, **attrs))
    return result.astype(half) if result.dtype == SINGLE else result


def converted(x: Any, dtype: np.dtype[Any]) -> Any:
    """An array or NumPy scalar in another dtype, rounded once."""
    if dtype.kind == "V" and x.dtype != SINGLE and not is_half(x.dtype):  # ml_dtypes goes by way of float32
        x = _rounded_to_odd(x.astype(DOUBLE))
    return x.astype(dtype)


def _rounded_to_odd(x: Any) -> Any:
    """float64 as float32, where what is not exact gets an odd last bit: rounding that is rounding x itself."""
    with np.errstate(all="ignore"):
        single = x.astype(SINGLE)
    bits, back = single.view(np.int32), np.abs(single.astype(DOUBLE))
    step = np.where(back < np.abs(x), 1, np.where(back > np.abs(x), -1, 0)).astype(np.int32)
    return (bits + np.where(bits & 1, 0, step).astype(np.int32)).view(SINGLE)


def finfo(dtype: np.dtype[Any]) -> Any:
    """`np.finfo`, of bfloat16 too."""
    if dtype.kind != "V":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)
