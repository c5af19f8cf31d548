"""The C library's functions in compiled code: always, one element at a time, or rarely, beside a vectorised path."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from llvmlite import ir

from graphc.codegen.intrinsics import attribute
from graphc.codegen.vector_math.lowering import (
    Number,
    Value,
    call_library,
    from_bits,
    llvm_type,
    low_bits,
    on_device,
    vectorizable,
)

# The vector lengths that LLVM may choose for a loop.
_LANES = (2, 4, 8, 16)

# What emits a function of one number.
Body: TypeAlias = "Callable[[ir.IRBuilder, ir.Value], ir.Value]"


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
    result = _call(x, name, llvm_type(x.dtype), lambda builder, operand: call_library(builder, name, operand))
    return Value(x.builder, x.dtype, result)


def sine_and_cosine_rarely(x: Number) -> tuple[Number, Number]:
    """The C library's sine and cosine of a float32, as `rarely`, which makes no sense of them where x is 0.

    Both are the result of one call: where a loop has both, LLVM calls once. (A call costs a loop over vectors 5 ns,
    since it must save them all.)
    """
    if not isinstance(x, Value):
        return np.sin(x), np.cos(x)
    pair = Value(x.builder, np.dtype(np.int64), _call(x, "sin_and_cos", ir.IntType(64), _packed))
    return from_bits(low_bits(pair)), from_bits(low_bits(pair >> 32))


def _packed(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The bits of the sine of a float32, and in the upper half those of its cosine."""
    half, whole = ir.IntType(32), ir.IntType(64)
    values = (call_library(builder, name, x) for name in ("sin", "cos"))
    sine, cosine = (builder.zext(builder.bitcast(value, half), whole) for value in values)
    return builder.or_(sine, builder.shl(cosine, ir.Constant(whole, 32)))


def _call(x: Value, name: str, result: ir.Type, body: Body) -> ir.Value:
    """A call of the function that a body makes of x, with vector forms beside it; 0 where x is."""
    if on_device(x.builder):  # there are no vectors to spoil
        return _unless_zero(x, result, body)
    module = x.builder.module
    stem = f"graphc.{name}.{x.dtype.name}"
    callee = module.globals.get(stem)
    if callee is None:
        typed = llvm_type(x.dtype)
        vectors = {lanes: _lanewise(module, f"{stem}.{lanes}", body, typed, result, lanes) for lanes in _LANES}
        callee = _lanewise(module, stem, body, typed, result, 1)
        # LLVM's "vector function ABI": N for unmasked, v for one vector operand.
        mapping = ",".join(f"_ZGV_LLVM_N{lanes}v_{stem}({vector.name})" for lanes, vector in vectors.items())
        attribute(callee, "vector-function-abi-variant", mapping)
    return x.builder.call(callee, [x.operand])


def _unless_zero(x: Value, result: ir.Type, body: Body) -> ir.Value:
    """What a body makes of x, in a branch of its own; 0 where x is."""
    builder, before = x.builder, x.builder.block
    with builder.if_then(builder.fcmp_unordered("!=", x.operand, ir.Constant(x.operand.type, 0.0)), likely=False):
        value, called = body(builder, x.operand), builder.block
    chosen = builder.phi(result)
    chosen.add_incoming(ir.Constant(result, None), before)
    chosen.add_incoming(value, called)
    return chosen


def _library(name: str, x: Number) -> Number:
    if not isinstance(x, Value):
        return getattr(np, name)(x)
    return Value(x.builder, x.dtype, call_library(x.builder, name, x.operand))


def _lanewise(
    module: ir.Module, symbol: str, body: Body, typed: ir.Type, result: ir.Type, lanes: int
) -> ir.Function:
    """Define what a body makes of each of some numbers; where all are 0 that is 0, without a call."""
    operand, made = (each if lanes == 1 else ir.VectorType(each, lanes) for each in (typed, result))
    function = ir.Function(module, ir.FunctionType(made, [operand]), symbol)
    function.linkage = "weak_odr"  # kept until vectorisation calls it, and equal definitions are one
    for flag in ("noinline", "nounwind", "readnone"):
        function.attributes.add(flag)
    (x,) = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    wanted = builder.fcmp_unordered("!=", x, ir.Constant(operand, 0.0 if lanes == 1 else [0.0] * lanes))
    mask = ir.IntType(lanes)
    with builder.if_then(builder.icmp_unsigned("==", builder.bitcast(wanted, mask), ir.Constant(mask, 0))):
        builder.ret(ir.Constant(made, None))
    if lanes == 1:
        builder.ret(body(builder, x))
        return function
    values = ir.Constant(made, ir.Undefined)
    for lane in map(ir.IntType(32), range(lanes)):
        values = builder.insert_element(values, body(builder, builder.extract_element(x, lane)), lane)
    builder.ret(values)
    return function
