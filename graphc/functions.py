"""Functions of views beyond NumPy, in scipy.special's or the field's names, and new arrays over symbolic shapes."""

from __future__ import annotations

import math
import operator
from typing import Any

from graphc import layout, linear_algebra, picking, ranges, reductions, scans, sorting, triangles
from graphc.arithmetic import add, multiply, where
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Extent
from graphc.ir.errors import DeclarationTypeError
from graphc.operands import FLOAT, Operand, as_float, as_node, number, told, unify
from graphc.views import View, apply, public

# activations ----------------------------------------------------------------------------------------------------------


@public
def sigmoid(x: Operand) -> Node:
    """``1 / (1 + exp(-x))``, stable at both ends."""
    return ops.sigmoid(as_float(x))


@public
def relu(x: Operand) -> Node:
    """``max(x, 0)``; its slope at 0 is 0."""
    return ops.relu(as_float(x))


@public
def leaky_relu(x: Operand, slope: Operand = 0.01) -> Node:
    """x where it is positive, else ``slope * x``."""
    x = as_float(x)
    return where(_positive(x), x, multiply(slope, x))


@public
def elu(x: Operand, alpha: Operand = 1.0) -> Node:
    """x where it is positive, else ``alpha * (exp(x) - 1)`` (Clevert et al., 2016)."""
    x = as_float(x)
    return where(_positive(x), x, multiply(alpha, ops.expm1(x)))


@public
def gelu(x: Operand, approximate: bool = False) -> Node:
    """x times the normal distribution function of x, or its tanh approximation (Hendrycks and Gimpel, 2016)."""
    x = as_float(x)
    if approximate:
        inner = multiply(math.sqrt(2 / math.pi), add(x, multiply(0.044715, ops.integer_power(x, n=3))))
        return multiply(multiply(0.5, x), add(1, ops.tanh(inner)))
    return multiply(multiply(0.5, x), add(1, ops.erf(multiply(math.sqrt(0.5), x))))


@public
def silu(x: Operand) -> Node:
    """``x * sigmoid(x)``."""
    x = as_float(x)
    return multiply(x, ops.sigmoid(x))


@public
def softplus(x: Operand) -> Node:
    """``log(1 + exp(x))``, stable at both ends."""
    return ops.softplus(as_float(x))


@public
def log_sigmoid(x: Operand) -> Node:
    """``log(sigmoid(x))``, stable at both ends."""
    return ops.log_sigmoid(as_float(x))


@public
def step(x: Operand) -> Node:
    """1 where ``x >= 0``, else 0; its slope is 0 everywhere."""
    return ops.step(as_float(x))


@public
def erf(x: Operand) -> Node:
    """The error function."""
    return ops.erf(as_float(x))


# special functions ----------------------------------------------------------------------------------------------------


@public
def erfc(x: Operand) -> Node:
    """``1 - erf(x)``, with all its digits where it is small."""
    return ops.erfc(as_float(x))


@public
def erfcx(x: Operand) -> Node:
    """``exp(x**2) * erfc(x)``, without underflow."""
    return ops.erfcx(as_float(x))


@public
def erfinv(y: Operand) -> Node:
    """The inverse of `erf`: infinite at -1 and 1."""
    return ops.erfinv(as_float(y))


@public
def ndtr(x: Operand) -> Node:
    """The normal distribution function, with all its digits where it is small."""
    return ops.ndtr(as_float(x))


@public
def log_ndtr(x: Operand) -> Node:
    """The logarithm of `ndtr`, without its underflow."""
    return ops.log_ndtr(as_float(x))


@public
def ndtri(p: Operand) -> Node:
    """The inverse of `ndtr`: infinite at 0 and 1."""
    return ops.ndtri(as_float(p))


@public
def gammaln(x: Operand) -> Node:
    """``log(abs(gamma(x)))``."""
    return ops.gammaln(as_float(x))


@public
def digamma(x: Operand) -> Node:
    """The derivative of `gammaln`; scipy.special's `psi`."""
    return ops.digamma(as_float(x))


@public
def polygamma(n: int, x: Operand) -> Node:
    """The n-th derivative of `digamma`, for an int n."""
    try:
        order = operator.index(n)
    except TypeError:
        raise DeclarationTypeError(f"polygamma wants an order known at declaration, an int, not {told(n)}") from None
    return ops.polygamma(as_float(x), n=order) if order else ops.digamma(as_float(x))


@public
def i0(x: Operand) -> Node:
    """The modified Bessel function of order 0."""
    return ops.i0(as_float(x))


@public
def i1(x: Operand) -> Node:
    """The modified Bessel function of order 1, the slope of `i0`."""
    return ops.i1(as_float(x))


@public
def betaln(a: Operand, b: Operand) -> Node:
    """``log(abs(beta(a, b)))``, from `gammaln`: the terms cancel where one argument is much larger than the other."""
    x, y = _floats(a, b)
    return ops.gammaln(x) + ops.gammaln(y) - ops.gammaln(x + y)


@public
def expit(x: Operand) -> Node:
    """`sigmoid`, under scipy.special's name."""
    return ops.sigmoid(as_float(x))


@public
def logit(x: Operand) -> Node:
    """``log(x / (1 - x))``, the inverse of `sigmoid`: infinite at 0 and 1."""
    return ops.logit(as_float(x))


@public
def xlogy(x: Operand, y: Operand) -> Node:
    """``x * log(y)``, and 0 where x is 0; the slopes there are ``log(y)``, or 0 where that is infinite, and 0."""
    return ops.xlogy(*_floats(x, y))


@public
def xlog1py(x: Operand, y: Operand) -> Node:
    """``x * log1p(y)``, and 0 where x is 0; see `xlogy`."""
    return ops.xlog1py(*_floats(x, y))


@public
def entr(x: Operand) -> Node:
    """``-x * log(x)``: 0 at 0, -inf below."""
    return ops.entr(as_float(x))


@public
def rel_entr(x: Operand, y: Operand) -> Node:
    """``x * log(x / y)``: 0 at ``x = 0 <= y``, else inf where one of them is not positive."""
    return ops.rel_entr(*_floats(x, y))


@public
def kl_div(x: Operand, y: Operand) -> Node:
    """``rel_entr(x, y) - x + y``, which is not negative."""
    a, b = _floats(x, y)
    entropy = ops.rel_entr(a, b)
    return ops.where(ops.equal(entropy, number(math.inf, a.type)), entropy, entropy - a + b)


def _floats(*values: Operand) -> list[Node]:
    """Operands as float nodes of one type."""
    return [as_float(node) for node in unify(values)]


def _positive(x: Node) -> Node:
    return ops.greater(x, number(0, x.type))


# along axes -----------------------------------------------------------------------------------------------------------


@public
def softmax(x: Operand, axis: int = -1) -> Node:
    """``exp(x) / sum(exp(x))`` along an axis, without overflow."""
    return reductions.softmax(x, axis)


@public
def log_softmax(x: Operand, axis: int = -1) -> Node:
    """The logarithm of `softmax`, without its underflow."""
    return reductions.log_softmax(x, axis)


@public
def logsumexp(x: Operand, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Node:
    """``log(sum(exp(x)))`` over axes, without overflow."""
    return reductions.logsumexp(x, axis, keepdims=keepdims)


@public
def logcumsumexp(x: Operand, axis: int = 0) -> Node:
    """``log(cumsum(exp(x)))`` along an axis, without overflow; -inf, with gradient 0, where all so far is -inf."""
    return scans.logcumsumexp(x, axis)


@public
def cummax(x: Operand, axis: int = 0) -> Node:
    """The largest element so far along an axis; of equals the latest one has the gradient."""
    return scans.cummax(x, axis)


@public
def cummin(x: Operand, axis: int = 0) -> Node:
    """The smallest element so far along an axis; of equals the latest one has the gradient."""
    return scans.cummin(x, axis)


def top_k(x: Operand, k: int, axis: int = -1) -> tuple[View, View]:
    """The k largest elements along an axis, in descending order, and their positions.

    Of equal elements the first comes first; nan counts as the largest number.
    """
    values, places = apply("top_k", sorting.top_k, (x, k, axis))
    return values, places


@public
def linear_recurrence(a: Operand, b: Operand, axis: int = 0, reverse: bool = False) -> Node:
    """``y[k] = a[k] * y[k - 1] + b[k]`` along an axis, from 0 on; from the end, if `reverse`."""
    return scans.linear_recurrence(a, b, axis, reverse)


@public
def norm(x: Operand, ord: float = 2, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Node:
    """The vector norm over axes, which count as one (all of them, for None); the gradient of the 2-norm at 0 is 0."""
    return reductions.norm(x, ord, axis, keepdims=keepdims)


@public
def one_hot(k: Operand, depth: Extent, dtype: Any = "float64") -> Node:
    """1 at position k of a new last axis of `depth` elements, 0 elsewhere; a k out of range is an error at the call."""
    return picking.one_hot(k, depth, dtype)


@public
def stop_gradient(x: Operand) -> Node:
    """x itself, which derivatives take for a constant."""
    return ops.stop_gradient(as_node(x))


# matrices -------------------------------------------------------------------------------------------------------------


@public
def solve_triangular(
    a: Operand, b: Operand, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Node:
    """The solution of ``a @ x = b`` (``a.T @ x = b`` for trans=1), of which only a triangle of `a` is read.

    As `scipy.linalg.solve_triangular`, over stacks; nan where the diagonal has a zero. A `b` of one axis is a vector.
    """
    return linear_algebra.solve_triangular(a, b, trans, lower, unit_diagonal)


@public
def cho_solve(c_and_lower: tuple[Operand, bool], b: Operand) -> Node:
    """The solution of ``a @ x = b`` by a Cholesky factor of a: ``cho_solve((np.linalg.cholesky(a), True), b)``."""
    return linear_algebra.cho_solve(c_and_lower, b)


# new arrays -----------------------------------------------------------------------------------------------------------


@public
def zeros(shape: Any, dtype: Any = FLOAT) -> Node:
    """Zeros, over a shape of ints and dims."""
    return layout.zeros(shape, dtype)


@public
def ones(shape: Any, dtype: Any = FLOAT) -> Node:
    """Ones, over a shape of ints and dims."""
    return layout.ones(shape, dtype)


@public
def full(shape: Any, fill_value: Operand, dtype: Any = None) -> Node:
    """A value (a view too) spread over a shape of ints and dims."""
    return layout.full(shape, fill_value, dtype)


@public
def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = FLOAT) -> Node:
    """Ones on the k-th diagonal of an N x M matrix, zeros elsewhere."""
    return layout.eye(N, M, k, dtype)


@public
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Node:
    """``start, start + step, ...`` before `stop`, from 0 if there is one bound: ints, dims or known floats."""
    return layout.arange(start, stop, step, dtype)


@public
def identity(n: Any, dtype: Any = FLOAT) -> Node:
    """The identity matrix of n rows."""
    return layout.eye(n, dtype=dtype)


@public
def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = FLOAT) -> Node:
    """Ones on and below the k-th diagonal of an N x M matrix, zeros above."""
    return triangles.tri(N, M, k, dtype)


@public
def linspace(start: Operand, stop: Operand, num: Extent = 50, endpoint: bool = True, dtype: Any = None) -> Node:
    """`num` evenly spaced numbers from `start` to `stop` (views too), the last of them unless ``endpoint=False``."""
    return ranges.linspace(start, stop, num, endpoint, dtype=dtype)


@public
def logspace(
    start: Operand, stop: Operand, num: Extent = 50, endpoint: bool = True, base: Operand = 10.0, dtype: Any = None
) -> Node:
    """`base` to the power of evenly spaced numbers from `start` to `stop`."""
    return ranges.logspace(start, stop, num, endpoint, base, dtype)


@public
def geomspace(start: Operand, stop: Operand, num: Extent = 50, endpoint: bool = True, dtype: Any = None) -> Node:
    """`num` numbers of a constant ratio from `start` to `stop`, both positive or both negative."""
    return ranges.geomspace(start, stop, num, endpoint, dtype)
