"""Every op by name: the one table that tests, parser, documentation and passes read."""

from __future__ import annotations

from graphc.ir.core import (
    Op,
    add,
    constant,
    divide,
    extent,
    multiply,
    negative,
    subtract,
)
from graphc.ir.ops.comparison import (
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    invert,
    isfinite,
    isinf,
    isnan,
    left_shift,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    right_shift,
    where,
)
from graphc.ir.ops.composite import (
    log_softmax,
    logsumexp,
    norm,
    softmax,
)
from graphc.ir.ops.conversion import (
    anchor,
    cast,
    derivative_of,
    stop_gradient,
)
from graphc.ir.ops.custom import (
    cotangent,
    custom_vjp,
)
from graphc.ir.ops.elementwise import (
    absolute,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    ceil,
    cos,
    cosh,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    hypot,
    integer_power,
    log,
    log1p,
    log2,
    log10,
    log_sigmoid,
    logaddexp,
    maximum,
    minimum,
    power,
    reciprocal,
    relu,
    remainder,
    rint,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    step,
    tan,
    tanh,
    trunc,
)
from graphc.ir.ops.indexing import (
    concatenate,
    gather,
    iota,
    pad,
    scatter_add,
    scatter_set,
    slice_,
    wrap_index,
)
from graphc.ir.ops.layout import (
    accumulate,
    all_,
    any_,
    broadcast_to,
    reshape,
    restore,
    sum_,
    transpose,
)
from graphc.ir.ops.products import matmul
from graphc.ir.ops.reductions import (
    argmax,
    argmin,
    max_,
    min_,
)

# Leaves are not in it: they are fed, not computed.
OPS: dict[str, Op] = {
    op.name: op
    for op in (
        constant, extent, add, subtract, multiply, divide, negative,
        equal, not_equal, less, less_equal, greater, greater_equal, isnan, isinf, isfinite, logical_and, logical_or,
        logical_xor, logical_not, bitwise_and, bitwise_or, bitwise_xor, invert, left_shift, right_shift, where,
        cast, anchor, stop_gradient,
        power, integer_power, square, sqrt, reciprocal, hypot, exp, exp2, expm1, log, log1p, log2, log10, logaddexp,
        sin, cos, tan, arcsin, arccos, arctan, arctan2, sinh, cosh, tanh, arcsinh, arccosh, arctanh, sigmoid,
        softplus, log_sigmoid, erf, relu, step, absolute, sign, maximum, minimum, floor, ceil, rint, trunc,
        floor_divide, remainder,
        sum_, any_, all_, broadcast_to, transpose, reshape,
        slice_, pad, concatenate, gather, scatter_add, scatter_set, iota, wrap_index,
        max_, min_, argmax, argmin,
        matmul,
        softmax, log_softmax, logsumexp, norm,
        custom_vjp, cotangent,
    )
}  # fmt: skip

__all__ = [
    "OPS", "absolute", "accumulate", "add", "all_", "anchor", "any_", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "argmax", "argmin", "bitwise_and", "bitwise_or", "bitwise_xor", "broadcast_to",
    "cast", "ceil", "concatenate", "constant", "cos", "cosh", "cotangent", "custom_vjp", "derivative_of", "divide",
    "equal", "erf", "exp", "exp2", "expm1", "extent", "floor", "floor_divide", "gather", "greater", "greater_equal",
    "hypot", "integer_power", "invert", "iota", "isfinite", "isinf", "isnan", "left_shift", "less", "less_equal",
    "log", "log1p", "log2", "log10", "log_sigmoid", "log_softmax", "logaddexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logsumexp", "matmul", "max_", "maximum", "min_", "minimum", "multiply",
    "negative", "norm", "not_equal", "pad", "power", "reciprocal", "relu", "remainder", "reshape", "restore",
    "right_shift", "rint", "scatter_add", "scatter_set", "sigmoid", "sign", "sin", "sinh", "slice_", "softmax",
    "softplus", "sqrt", "square", "step", "stop_gradient", "subtract", "sum_", "tan", "tanh", "transpose", "trunc",
    "where", "wrap_index",
]  # fmt: skip
