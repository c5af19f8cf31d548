"""The C library's functions in compiled code: always, one element at a time, or rarely, beside a vectorised path."""

import numpy as np
from llvmlite import ir

from graphc.codegen.intrinsics import attribute
from graphc.codegen.vector_math.lowering import SINGLE, Number, Value, llvm_type, vectorizable

# The vector lengths that LLVM may choose for a loop.
_LANES = (2, 4, 8, 16)


@vectorizable
def arccosh(x: Number) -> Number:
    """The inverse hyperbolic cosine."""
    return _library("acosh", x)


@vectorizable
def arcsinh(x: Number) -> Number:
    """The inverse hyperbolic sine."""
    return _library("asinh", x)


@vectorizable
def arctanh(x: Number) -> Number:
    """The inverse hyperbolic tangent."""
    return _library("atanh", x)


def rarely(name: str, x: Number) -> Number:
    """The C library's function `name` of x, where x is almost always 0, which means: not wanted, and gives 0.

    A loop with a call in it does not vectorise unless LLVM is told of vector forms of the callee. So this defines
    some, which return at once where every lane is 0. Where LLVM has no use for them the loop is right, but scalar.
    """
    if not isinstance(x, Value):
        return np.where(x == 0, x, getattr(np, name)(x))[()]
    module, typed = x.builder.module, llvm_type(x.dtype)
    stem = f"graphc.{name}.{x.dtype.name}"
    callee = module.globals.get(stem)
    if callee is None:
        vectors = {lanes: _lanewise(module, f"{stem}.{lanes}", name, typed, lanes) for lanes in _LANES}
        callee = _lanewise(module, stem, name, typed, 1)
        # LLVM's "vector function ABI": N for unmasked, v for one vector operand.
        mapping = ",".join(f"_ZGV_LLVM_N{lanes}v_{stem}({vector.name})" for lanes, vector in vectors.items())
        attribute(callee, "vector-function-abi-variant", mapping)
    return Value(x.builder, x.dtype, x.builder.call(callee, [x.operand]))


def _library(name: str, x: Number) -> Number:
    if not isinstance(x, Value):
        return getattr(np, name)(x)
    callee = _declare(x.builder.module, name, llvm_type(x.dtype))
    return Value(x.builder, x.dtype, x.builder.call(callee, [x.operand]))


def _declare(module: ir.Module, name: str, typed: ir.Type) -> ir.Function:
    symbol = name + ("f" if typed == llvm_type(SINGLE.float_type) else "")
    return module.globals.get(symbol) or ir.Function(module, ir.FunctionType(typed, [typed]), symbol)


def _lanewise(module: ir.Module, symbol: str, name: str, typed: ir.Type, lanes: int) -> ir.Function:
    """Define the library function for `lanes` numbers; where all are 0 they are returned without a call."""
    operand = typed if lanes == 1 else ir.VectorType(typed, lanes)
    function = ir.Function(module, ir.FunctionType(operand, [operand]), symbol)
    function.linkage = "weak_odr"  # kept until vectorisation calls it, and equal definitions are one
    for flag in ("noinline", "nounwind", "readnone"):
        function.attributes.add(flag)
    callee, (x,) = _declare(module, name, typed), function.args
    builder = ir.IRBuilder(function.append_basic_block())
    wanted = builder.fcmp_unordered("!=", x, ir.Constant(operand, 0.0 if lanes == 1 else [0.0] * lanes))
    mask = ir.IntType(lanes)
    with builder.if_then(builder.icmp_unsigned("==", builder.bitcast(wanted, mask), ir.Constant(mask, 0))):
        builder.ret(x)
    if lanes == 1:
        builder.ret(builder.call(callee, [x]))
        return function
    result = x
    for lane in map(ir.IntType(32), range(lanes)):
        result = builder.insert_element(result, builder.call(callee, [builder.extract_element(x, lane)]), lane)
    builder.ret(result)
    return function
