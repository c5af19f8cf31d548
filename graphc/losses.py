"""Losses and metrics: means over all elements, of classes over all axes but the last."""

from __future__ import annotations

from graphc.arithmetic import add, equal, multiply, square, subtract
from graphc.indexing import wrapped
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.operands import Operand, as_float, as_node, broadcast_shapes, cast, is_integer
from graphc.picking import pick
from graphc.reductions import argmax, log_softmax, logsumexp, mean, sum
from graphc.views import public


@public
def cross_entropy(logits: Operand, labels: Operand) -> Node:
    """The mean of ``-log(softmax(logits))`` at the labels.

    Parameters
    ----------
    logits : View
        Of shape (..., classes).
    labels : View
        Integers of shape (...), or one-hot rows (any probabilities) of the shape of `logits`. Negative integers count
        from the last class; one out of range raises `FeedError` at the call.
    """
    logits, labels = as_float(logits), as_node(labels)
    if _are_indices(logits, labels):
        return mean(subtract(logsumexp(logits, -1), pick(logits, labels)))
    weights = labels if labels.type.is_float else cast(labels, logits.dtype)
    return mean(ops.negative(sum(multiply(weights, log_softmax(logits)), -1)))


@public
def binary_cross_entropy(logits: Operand, labels: Operand) -> Node:
    """The mean of ``-log(sigmoid(logits))`` where labels are 1, ``-log(sigmoid(-logits))`` where they are 0.

    Labels in between weigh both.
    """
    logits, labels = as_float(logits), as_node(labels)
    _check_target(logits, labels)
    weights = labels if labels.type.is_float else cast(labels, logits.dtype)
    # Both terms are exact at both ends; softplus(z) - y * z would cancel for large z.
    positive = multiply(weights, ops.softplus(ops.negative(logits)))
    return mean(add(positive, multiply(subtract(1, weights), ops.softplus(logits))))


@public
def mse(prediction: Operand, target: Operand) -> Node:
    """The mean squared difference."""
    prediction = as_float(prediction)
    if isinstance(target, Node):
        _check_target(prediction, target)
    return mean(square(subtract(prediction, target)))


@public
def accuracy(logits: Operand, labels: Operand) -> Node:
    """The share of rows whose largest logit is at the label, in the logits' dtype; labels as for `cross_entropy`."""
    logits, labels = as_float(logits), as_node(labels)
    if _are_indices(logits, labels):
        expected = wrapped(labels, logits.shape[-1], len(logits.shape) - 1)
    else:
        expected = argmax(labels, -1)
    return mean(cast(equal(argmax(logits, -1), expected), logits.dtype))


def _are_indices(logits: Node, labels: Node) -> bool:
    """Whether labels are class numbers, and not rows of probabilities."""
    if not logits.shape:
        raise DeclarationValueError(f"logits have a class axis, the last: got {logits.type}")
    if labels.shape == logits.shape:
        return False
    if labels.shape != logits.shape[:-1]:
        raise DeclarationValueError(
            f"labels {labels.type} do not fit logits {logits.type}",
            hint="expected integers of the logits' shape without its last axis, or one-hot labels of its whole shape",
        )
    if not is_integer(labels):
        raise DeclarationTypeError(
            f"class labels are integers, got {labels.type}", hint="declare them so: Input(('N',), 'int64')"
        )
    return True


def _check_target(prediction: Node, target: Node) -> None:
    """Refuse (N, 1) beside (N,), which would broadcast to N x N elements."""
    if broadcast_shapes(prediction.shape, target.shape) != prediction.shape:
        raise DeclarationValueError(
            f"a target {target.type} does not fit the prediction {prediction.type}",
            hint="they have one shape: reshape one of them, as in prediction[:, 0]",
        )
