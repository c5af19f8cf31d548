"""Vector math: elementary and special functions that compiled loops take in and vectorise, and plain Python runs too.

Each takes and gives float32 or float64 and is within 2 ULP over its whole domain, with NumPy's special values (SciPy's,
and C's for `power`), subnormals and the sign of zero. Not as close are log_ndtr, erfcx, i0 and i1 (3 ULP), polygamma
(half an ULP for each factor of its power), and gammaln, digamma and polygamma below 0, where they are within 4 ULP of
the terms whose difference they are. arcsinh, arccosh and arctanh, and the angles of sin, cos and tan beyond 2**24
(2**27 in float32), are the C library's, as exact as that is.
"""

from graphc.codegen.vector_math.activation import log_sigmoid, logaddexp, logaddexp2, sigmoid, softplus
from graphc.codegen.vector_math.basic import (
    absolute,
    bitwise_count,
    ceil,
    copysign,
    floor,
    fraction,
    hypot,
    isfinite,
    isinf,
    maximum,
    minimum,
    nextafter,
    reciprocal,
    relu,
    rint,
    sign,
    sqrt,
    trunc,
    unit_step,
)
from graphc.codegen.vector_math.bessel import i0, i1
from graphc.codegen.vector_math.complementary_error import erfc, erfcx, log_ndtr, ndtr
from graphc.codegen.vector_math.division import floor_divide, fmod, left_shift, remainder, right_shift
from graphc.codegen.vector_math.entropy import entr, logit, rel_entr, xlog1py, xlogy
from graphc.codegen.vector_math.error_function import erf
from graphc.codegen.vector_math.exponential import cosh, exp, exp2, expm1, sinh, tanh
from graphc.codegen.vector_math.exponentiation import integer_power, power
from graphc.codegen.vector_math.gamma import digamma, gammaln, polygamma
from graphc.codegen.vector_math.inverse_trigonometric import arccos, arcsin, arctan, arctan2
from graphc.codegen.vector_math.library import arccosh, arcsinh, arctanh
from graphc.codegen.vector_math.logarithmic import log, log1p, log2, log10
from graphc.codegen.vector_math.quantile import erfinv, ndtri
from graphc.codegen.vector_math.reduction import radd, rmax, rmin, rmul
from graphc.codegen.vector_math.roots import cbrt
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
    "bitwise_count",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "fraction",
    "gammaln",
    "hypot",
    "i0",
    "i1",
    "integer_power",
    "isfinite",
    "isinf",
    "left_shift",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_ndtr",
    "log_sigmoid",
    "logaddexp",
    "logaddexp2",
    "logit",
    "maximum",
    "minimum",
    "ndtr",
    "ndtri",
    "nextafter",
    "polygamma",
    "power",
    "radd",
    "reciprocal",
    "rel_entr",
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
    "xlog1py",
    "xlogy",
]
