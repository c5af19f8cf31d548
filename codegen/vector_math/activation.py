"""Activations that are stable at both ends: sigmoid, softplus, log_sigmoid; and logaddexp and logaddexp2, which are
softplus again.
"""

import math

from graphc.codegen.vector_math.exponential import exp2_of_sum, exp_of_negative
from graphc.codegen.vector_math.logarithmic import log1p_inside
from graphc.codegen.vector_math.lowering import Number, absolute, vectorizable, where


@vectorizable
def sigmoid(x: Number) -> Number:
    """1 / (1 + exp(-x)), and e / (1 + e) with e = exp(x) for negative x: the left tail keeps its digits."""
    e = exp_of_negative(-absolute(x))
    denominator = 1 + e
    lost = e - (denominator - 1)
    quotient = where(x < 0, e, 1.0) / denominator
    return quotient - quotient * (lost * (1 - 0.5 * e))  # 1 / (1 + e), roughly: what the denominator lost is small


@vectorizable
def softplus(x: Number) -> Number:
    """log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|)): a sum of positive terms."""
    return _softplus(x)


@vectorizable
def log_sigmoid(x: Number) -> Number:
    """log(sigmoid(x)) = -softplus(-x)."""
    return -_softplus(-x)


def _softplus(x: Number) -> Number:
    return where(x > 0, x, 0.0) + log1p_inside(exp_of_negative(-absolute(x)))


@vectorizable
def logaddexp(x: Number, y: Number) -> Number:
    """log(exp(x) + exp(y)), as the larger of the two and log1p(exp(-|x - y|))."""
    larger = where((x >= y) | (x != x), x, y)
    return where(x == y, x + math.log(2), larger + log1p_inside(exp_of_negative(-absolute(x - y))))


@vectorizable
def logaddexp2(x: Number, y: Number) -> Number:
    """log2(2**x + 2**y), as the larger of the two and log2(1 + 2**-|x - y|)."""
    larger = where((x >= y) | (x != x), x, y)
    excess = log1p_inside(exp2_of_sum(-absolute(x - y), 0.0)) * (1 / math.log(2))
    return where(x == y, x + 1, larger + excess)
