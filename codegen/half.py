"""Floats of 16 bits in compiled code: their bits, as uint16, to float32 and back in integer steps.

No processor is asked for instructions that it may lack, and loops over these functions vectorise. Rounding is to the
nearest, ties to even; what is too large becomes an infinity, what is small a subnormal, and a NaN stays one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable

from graphc.codegen.vector_math.lowering import DOUBLE, SINGLE, Number, Value, absolute, to_double, to_single, where
from graphc.codegen.vector_math.lowering import bits as signed_bits

__all__ = ["bfloat_to_float", "float_to_bfloat", "float_to_half", "half_to_float"]

_UINT16, _UINT32 = np.dtype(np.uint16), np.dtype(np.uint32)
_NUMBA = {_UINT16: types.uint16, SINGLE.float_type: types.float32, DOUBLE.float_type: types.float64}

# Of float32: the bits of infinity, of the sign; of float16 the exponent of all ones.
_INFINITY, _SIGN, _HALF_INFINITY = 0x7F800000, 0x80000000, 0x7C00


def _conversion(result: np.dtype[Any], *accepts: np.dtype[Any]) -> Callable[..., Callable[[Number], Number]]:
    """Make a decorator for functions of one number to one of dtype `result`, for Python and for Numba.

    As `vectorizable`, whose arguments and results are all of one float type.
    """

    def decorate(body: Callable[[Number], Number]) -> Callable[[Number], Number]:
        @wraps(body)
        def function(x: Number) -> Number:
            x = x if hasattr(x, "dtype") else np.asarray(x, accepts[-1])[()]
            with np.errstate(all="ignore"):
                return body(x)

        @type_callable(function)
        def type_of_call(context: Any) -> Callable[..., Any]:
            return lambda x: _NUMBA[result] if x in [_NUMBA[dtype] for dtype in accepts] else None

        def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: tuple[ir.Value, ...]) -> ir.Value:
            return body(Value(builder, np.dtype(signature.args[0].name), args[0])).operand

        for dtype in accepts:
            lower_builtin(function, _NUMBA[dtype])(lower)
        return function

    return decorate


@_conversion(SINGLE.float_type, _UINT16)
def half_to_float(h: Number) -> Number:
    """The float32 that is the float16 of these bits."""
    i = _wide(h)
    magnitude = (i & 0x7FFF) << 13
    # The exponent's bias is 15 instead of 127: a product mends that, and makes subnormals normal.
    finite = _bits(_float(magnitude) * 2.0**112)
    return _float(where((i & _HALF_INFINITY) == _HALF_INFINITY, magnitude | _INFINITY, finite) | (i & 0x8000) << 16)


@_conversion(_UINT16, SINGLE.float_type, DOUBLE.float_type)
def float_to_half(x: Number) -> Number:
    """The bits of the float16 nearest to x."""
    i = _bits(_single(x))
    magnitude = i & (_SIGN - 1)
    # Added to 0.5, of which the last bit counts 2**-24, a small number rounds to a subnormal.
    small = _bits(_float(magnitude) + 0.5) - 0x3F000000
    rebiased = magnitude - (112 << 23)
    normal = (rebiased + 0xFFF + (rebiased >> 13 & 1)) >> 13
    not_a_number = magnitude >> 13 & 0x3FF | 0x7E00
    large = where(magnitude > _INFINITY, not_a_number, magnitude & 0 | _HALF_INFINITY)
    rounded = where(magnitude < 113 << 23, small, where(magnitude < 143 << 23, normal, large))
    return _narrow(rounded | i >> 16 & 0x8000)


@_conversion(SINGLE.float_type, _UINT16)
def bfloat_to_float(b: Number) -> Number:
    """The float32 that is the bfloat16 of these bits."""
    return _float(_wide(b) << 16)


@_conversion(_UINT16, SINGLE.float_type, DOUBLE.float_type)
def float_to_bfloat(x: Number) -> Number:
    """The bits of the bfloat16 nearest to x."""
    i = _bits(_single(x))
    rounded = (i + 0x7FFF + (i >> 16 & 1)) >> 16
    return _narrow(where((i & (_SIGN - 1)) > _INFINITY, i >> 16 | 0x40, rounded))


def _single(x: Number) -> Number:
    """x as float32; a float64 that is none gets an odd last bit, so that what rounds it next rounds x itself."""
    if x.dtype == SINGLE.float_type:
        return x
    single = to_single(x)
    back, exact, i = absolute(to_double(single)), absolute(x), _bits(single)
    up, down = where(back < exact, (i & 0) + 1, i & 0), where(back > exact, (i & 0) + 1, i & 0)
    return _float(where((i & 1) == 0, i + up - down, i))


# numbers of one size, by their bits -----------------------------------------------------------------------------------


def _bits(x: Number) -> Number:
    """The bits of a float32 as uint32."""
    return Value(x.builder, _UINT32, signed_bits(x).operand) if isinstance(x, Value) else x.view(_UINT32)


def _float(i: Number) -> Number:
    """The float32 of these bits."""
    if not isinstance(i, Value):
        return i.view(SINGLE.float_type)
    return Value(i.builder, SINGLE.float_type, i.builder.bitcast(i.operand, ir.FloatType()))


def _wide(h: Number) -> Number:
    if not isinstance(h, Value):
        return h.astype(_UINT32)
    return Value(h.builder, _UINT32, h.builder.zext(h.operand, ir.IntType(32)))


def _narrow(i: Number) -> Number:
    if not isinstance(i, Value):
        return i.astype(_UINT16)
    return Value(i.builder, _UINT16, i.builder.trunc(i.operand, ir.IntType(16)))
