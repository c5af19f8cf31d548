"""Special functions in scipy.special's names: the error and gamma functions' families, and products with logarithms.

The reference evaluator asks SciPy, which is imported when it is first asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir.core import FLOAT, Node, Op, Partials, elementwise, full, same_type
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.ops.comparison import equal, greater, greater_equal, less_equal, logical_and, where, where_zero
from graphc.ir.ops.elementwise import exp, log, log1p, rounded, square
from graphc.ir.types import TensorType

SQRT_PI, SQRT_2PI = math.sqrt(math.pi), math.sqrt(2 * math.pi)
# Beyond some 170 the factorial leaves float64.
MOST_DERIVATIVES = 100


def scipys(name: str) -> Callable[..., Any]:
    """SciPy's function in float64, rounded once to the operands' dtype."""

    def evaluate(*operands: np.ndarray) -> Any:
        import scipy.special

        with np.errstate(all="ignore"):
            return getattr(scipy.special, name)(*operands)

    return rounded(evaluate)


def _zero(x: Node) -> Node:
    return equal(x, full(0, x.type))


# the error function's family ------------------------------------------------------------------------------------------

erfc = elementwise(
    "erfc", scipys("erfc"), "erfc({0})", Partials((lambda y, x: (-2 / SQRT_PI) * exp(-square(x)),)),
    note="keeps its digits where it is small",
)  # fmt: skip
erfcx: Op = elementwise(
    "erfcx", scipys("erfcx"), "erfcx({0})", Partials((lambda y, x: 2 * x * y - 2 / SQRT_PI,)),
    note="exp(x**2) erfc(x); the slope cancels far to the right",
)  # fmt: skip
erfinv = elementwise(
    "erfinv", scipys("erfinv"), "erfinv({0})", Partials((lambda y, x: (SQRT_PI / 2) * exp(square(y)),)),
    domain=(-0.9, 0.9), note="infinite, with slope inf, at -1 and 1; nan beyond",
)  # fmt: skip
ndtr = elementwise(
    "ndtr", scipys("ndtr"), "ndtr({0})", Partials((lambda y, x: (1 / SQRT_2PI) * exp(-0.5 * square(x)),)),
    note="the normal distribution function; keeps its digits where it is small",
)  # fmt: skip
# exp(-x**2 / 2 - y) would lose all digits far to the left.
log_ndtr = elementwise(
    "log_ndtr", scipys("log_ndtr"), "log_ndtr({0})",
    Partials((lambda y, x: (2 / SQRT_2PI) / erfcx(-math.sqrt(0.5) * x),)), note="about -x**2 / 2 far to the left",
)  # fmt: skip
ndtri = elementwise(
    "ndtri", scipys("ndtri"), "ndtri({0})", Partials((lambda y, p: SQRT_2PI * exp(0.5 * square(y)),)),
    domain=(0.05, 0.95), note="infinite, with slope inf, at 0 and 1; nan beyond",
)  # fmt: skip


# the gamma function's family ------------------------------------------------------------------------------------------


def _gammaln(x: np.ndarray) -> Any:
    # SciPy's is infinite already where only 1 / x is.
    tiny = np.abs(x) < 1e-200
    return np.where(tiny, -np.log(np.where(tiny, np.abs(x), 1)), scipys("gammaln")(x))


gammaln = elementwise(
    "gammaln", rounded(_gammaln), "gammaln({0})", Partials((lambda y, x: digamma(x),)), domain=(0.2, 4.0),
    note="log(abs(gamma(x))); inf at the poles, with slope nan (-inf at 0)",
)  # fmt: skip
digamma: Op = elementwise(
    "digamma", scipys("digamma"), "digamma({0})", Partials((lambda y, x: polygamma(x, n=1),)),
    numpy=("digamma", "psi"), domain=(0.2, 4.0), note="nan at the poles, -inf at 0",
)  # fmt: skip


def _polygamma_infer(x: TensorType, *, n: int) -> TensorType:
    same_type("polygamma", (x,), FLOAT)
    if isinstance(n, bool) or not isinstance(n, int):
        raise DeclarationTypeError(f"polygamma wants an integer order, got {n!r}")
    if not 1 <= n <= MOST_DERIVATIVES:
        raise DeclarationValueError(
            f"polygamma wants an order from 1 to {MOST_DERIVATIVES}, got {n}", hint="the order 0 is digamma(x)"
        )
    return x


def _polygamma_evaluate(x: np.ndarray, n: int) -> Any:
    def evaluate(x: np.ndarray) -> Any:
        import scipy.special

        with np.errstate(all="ignore"):
            # SciPy's sum has as many terms as x has units below 0.
            below = x < 0
            a = np.where(below, 1 - x, x)
            value = (-1.0) ** (n + 1) * math.factorial(n) * scipy.special.zeta(n + 1.0, a)
            reflected = (-1.0) ** n * value - _cotangent_slope(x, n)
            return np.where(below, np.where(x == np.rint(x), (-1.0) ** (n + 1) * np.inf, reflected), value)

    return rounded(evaluate)(x)


def _cotangent_slope(x: np.ndarray, n: int) -> Any:
    """The n-th derivative of pi cot(pi x), by the rule that the slope of c = cot(t) is -(1 + c**2)."""
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        polynomial = -polynomial.deriv() * np.polynomial.Polynomial([1.0, 0.0, 1.0])
    rest = x - np.rint(x)
    size = np.abs(rest)
    steep = size > 0.25  # there the cotangent is the tangent of what is left, to the last digit
    tangent = np.tan(np.pi * np.where(steep, 0.5 - size, size))
    return np.pi ** (n + 1) * polynomial(np.copysign(np.where(steep, tangent, 1 / tangent), rest))


polygamma: Op = Op(
    name="polygamma", accepts=FLOAT, infer=_polygamma_infer, evaluate=_polygamma_evaluate, scalar="polygamma({0}, {1})",
    derivative=Partials((lambda y, x: polygamma(x, n=y["n"] + 1),)), numpy=("polygamma",), domain=(0.4, 4.0),
    note="infinite at the poles; 0 where x**(n + 1) overflows",
)  # fmt: skip


# Bessel functions -----------------------------------------------------------------------------------------------------


def _bessel(name: str) -> Callable[..., Any]:
    """SciPy's function, which is nan at infinity, infinite a little before it has to be, and 0 at -0."""

    def evaluate(x: np.ndarray) -> Any:
        size = np.abs(x)
        half = np.exp(0.5 * size)
        far = np.where(size == np.inf, size, scipys(f"{name}e")(size) * half * half)
        value = np.where(size > 700, far, scipys(name)(size))
        return np.copysign(value, x) if name == "i1" else value

    return rounded(evaluate)


i0 = elementwise("i0", _bessel("i0"), "i0({0})", Partials((lambda y, x: i1(x),)), note="inf at both infinities")
i1: Op = elementwise(
    "i1", _bessel("i1"), "i1({0})",
    Partials((lambda y, x: where(_zero(x), full(0.5, x.type), i0(x) - y / x),)), note="slope 1/2 at 0",
)  # fmt: skip


# products with logarithms ---------------------------------------------------------------------------------------------


def _xlogy_by_x(y: Node, a: Node, b: Node) -> Node:
    filled = logical_and(_zero(a), less_equal(b, full(0, b.type)))
    return where(filled, full(0, a.type), log(b))


def _xlog1py_by_x(y: Node, a: Node, b: Node) -> Node:
    filled = logical_and(_zero(a), less_equal(b, full(-1, b.type)))
    return where(filled, full(0, a.type), log1p(b))


xlogy = elementwise(
    "xlogy", scipys("xlogy"), "xlogy({0}, {1})", Partials((_xlogy_by_x, lambda y, a, b: where_zero(a, a / b))),
    domain=(0.2, 3.0), note="0 at x = 0; the slope in x is log(y), but 0 at (0, y <= 0), that in y 0 at x = 0",
)  # fmt: skip
xlog1py = elementwise(
    "xlog1py", scipys("xlog1py"), "xlog1py({0}, {1})",
    Partials((_xlog1py_by_x, lambda y, a, b: where_zero(a, a / (1 + b)))),
    domain=(0.2, 3.0), note="0 at x = 0; the slope in x is log1p(y), but 0 at (0, y <= -1), that in y 0 at x = 0",
)  # fmt: skip
entr = elementwise(
    "entr", scipys("entr"), "entr({0})",
    Partials((lambda y, x: where(greater_equal(x, full(0, x.type)), -1 - log(x), full(0, x.type)),)),
    domain=(0.2, 3.0), note="0 with slope inf at 0, -inf with slope 0 below",
)  # fmt: skip


def _rel_entr_by_x(y: Node, a: Node, b: Node) -> Node:
    inside = logical_and(greater_equal(a, full(0, a.type)), greater(b, full(0, b.type)))
    return where(inside, log(a / b) + 1, full(0, a.type))


def _rel_entr_by_y(y: Node, a: Node, b: Node) -> Node:
    inside = logical_and(greater(a, full(0, a.type)), greater(b, full(0, b.type)))
    return where(inside, -(a / b), full(0, a.type))


rel_entr = elementwise(
    "rel_entr", scipys("rel_entr"), "rel_entr({0}, {1})", Partials((_rel_entr_by_x, _rel_entr_by_y)),
    domain=(0.2, 3.0), note="0 at x = 0 with slope -inf in x (0 at (0, 0)); inf with slope 0 beyond its domain",
)  # fmt: skip
logit = elementwise(
    "logit", scipys("logit"), "logit({0})", Partials((lambda y, x: 1 / (x * (1 - x)),)), domain=(0.05, 0.95),
    note="infinite, with slope inf, at 0 and 1; nan beyond",
)  # fmt: skip
