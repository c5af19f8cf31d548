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
    bitwise_count,
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
    cbrt,
    ceil,
    copysign,
    cos,
    cosh,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmod,
    fraction,
    hypot,
    integer_power,
    log,
    log1p,
    log2,
    log10,
    log_sigmoid,
    logaddexp,
    logaddexp2,
    maximum,
    minimum,
    nextafter,
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
from graphc.ir.ops.linalg import (
    cholesky,
    det_sign,
    log_abs_det,
    solve,
    triangular_solve,
)
from graphc.ir.ops.products import matmul
from graphc.ir.ops.reductions import (
    argmax,
    argmin,
    max_,
    min_,
    prod,
)
from graphc.ir.ops.scans import (
    cummax,
    cummin,
    cumprod,
    cumsum,
    recurrence,
)
from graphc.ir.ops.scatter import (
    scatter_max,
    scatter_min,
)
from graphc.ir.ops.sorting import (
    argsort,
    searchsorted,
)
from graphc.ir.ops.special import (
    digamma,
    entr,
    erfc,
    erfcx,
    erfinv,
    gammaln,
    i0,
    i1,
    log_ndtr,
    logit,
    ndtr,
    ndtri,
    polygamma,
    rel_entr,
    xlog1py,
    xlogy,
)
from graphc.ir.ops.spectra import (
    eigh,
    eigvalsh,
    qr,
    svd,
    svdvals,
)

# Leaves are not in it: they are fed, not computed.
OPS: dict[str, Op] = {
    op.name: op
    for op in (
        constant, extent, add, subtract, multiply, divide, negative,
        equal, not_equal, less, less_equal, greater, greater_equal, isnan, isinf, isfinite, logical_and, logical_or,
        logical_xor, logical_not, bitwise_and, bitwise_or, bitwise_xor, invert, left_shift, right_shift, where,
        bitwise_count, cast, anchor, stop_gradient,
        power, integer_power, square, sqrt, reciprocal, hypot, exp, exp2, expm1, log, log1p, log2, log10, logaddexp,
        sin, cos, tan, arcsin, arccos, arctan, arctan2, sinh, cosh, tanh, arcsinh, arccosh, arctanh, sigmoid,
        softplus, log_sigmoid, erf, relu, step, absolute, sign, maximum, minimum, floor, ceil, rint, trunc,
        floor_divide, remainder, cbrt, logaddexp2, copysign, fmod, fraction, nextafter,
        erfc, erfcx, erfinv, ndtr, log_ndtr, ndtri, gammaln, digamma, polygamma, xlogy, xlog1py, entr, rel_entr,
        logit, i0, i1,
        sum_, any_, all_, broadcast_to, transpose, reshape,
        slice_, pad, concatenate, gather, scatter_add, scatter_set, scatter_max, scatter_min, iota, wrap_index,
        max_, min_, argmax, argmin,
        prod, cumsum, cumprod, recurrence, cummax, cummin, argsort, searchsorted,
        matmul,
        softmax, log_softmax, logsumexp, norm,
        custom_vjp, cotangent,
        cholesky, triangular_solve, solve, log_abs_det, det_sign, eigh, eigvalsh, svd, svdvals, qr,
    )
}  # fmt: skip

__all__ = [
    "OPS", "absolute", "accumulate", "add", "all_", "anchor", "any_", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "bitwise_and", "bitwise_count", "bitwise_or",
    "bitwise_xor", "broadcast_to", "cast", "cbrt", "ceil", "cholesky", "concatenate", "constant", "copysign", "cos",
    "cosh", "cotangent", "cummax", "cummin", "cumprod", "cumsum", "custom_vjp", "derivative_of", "det_sign",
    "digamma", "divide", "eigh", "eigvalsh", "entr", "equal", "erf", "erfc", "erfcx", "erfinv", "exp", "exp2",
    "expm1", "extent", "floor", "floor_divide", "fmod", "fraction", "gammaln", "gather", "greater", "greater_equal",
    "hypot", "i0", "i1", "integer_power", "invert", "iota", "isfinite", "isinf", "isnan", "left_shift", "less",
    "less_equal", "log", "log1p", "log2", "log10", "log_abs_det", "log_ndtr", "log_sigmoid", "log_softmax",
    "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logsumexp",
    "matmul", "max_", "maximum", "min_", "minimum", "multiply", "ndtr", "ndtri", "negative", "nextafter", "norm",
    "not_equal", "pad", "polygamma", "power", "prod", "qr", "reciprocal", "recurrence", "rel_entr", "relu",
    "remainder", "reshape", "restore", "right_shift", "rint", "scatter_add", "scatter_max", "scatter_min",
    "scatter_set", "searchsorted", "sigmoid", "sign", "sin", "sinh", "slice_", "softmax", "softplus", "solve",
    "sqrt", "square", "step", "stop_gradient", "subtract", "sum_", "svd", "svdvals", "tan", "tanh", "transpose",
    "triangular_solve", "trunc", "where", "wrap_index", "xlog1py", "xlogy",
]  # fmt: skip
