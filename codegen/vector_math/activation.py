"""Activations that are stable at both ends: sigmoid, softplus, log_sigmoid; and logaddexp, which is a softplus."""

import math

from graphc.codegen.vector_math.exponential import exp_of_negative
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
