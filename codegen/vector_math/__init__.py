"""Vector math: elementary functions that compiled loops take in and vectorise, and that run in plain Python too.

Each takes and gives float32 or float64 and is within 2 ULP over its whole domain, with NumPy's special values (and
C's, for `power`), subnormals and the sign of zero. arcsinh, arccosh and arctanh, and the angles of sin, cos and tan
beyond 2**24 (2**27 in float32), are the C library's, as exact as that is.
"""

from graphc.codegen.vector_math.activation import log_sigmoid, logaddexp, sigmoid, softplus
from graphc.codegen.vector_math.basic import (
    absolute,
    ceil,
    floor,
    hypot,
    isfinite,
    isinf,
    maximum,
    minimum,
    reciprocal,
    relu,
    rint,
    sign,
    sqrt,
    trunc,
    unit_step,
)
from graphc.codegen.vector_math.division import floor_divide, left_shift, remainder, right_shift
from graphc.codegen.vector_math.error_function import erf
from graphc.codegen.vector_math.exponential import cosh, exp, exp2, expm1, sinh, tanh
from graphc.codegen.vector_math.exponentiation import integer_power, power
from graphc.codegen.vector_math.inverse_trigonometric import arccos, arcsin, arctan, arctan2
from graphc.codegen.vector_math.library import arccosh, arcsinh, arctanh
from graphc.codegen.vector_math.logarithmic import log, log1p, log2, log10
from graphc.codegen.vector_math.reduction import radd, rmax, rmin, rmul
from graphc.codegen.vector_math.trigonometric import cos, sin, tan

__all__ = [
    "absolute",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "hypot",
    "integer_power",
    "isfinite",
    "isinf",
    "left_shift",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_sigmoid",
    "logaddexp",
    "maximum",
    "minimum",
    "power",
    "radd",
    "reciprocal",
    "relu",
    "remainder",
    "right_shift",
    "rint",
    "rmax",
    "rmin",
    "rmul",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softplus",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "unit_step",
]
