"""What holds for the derivative of every op: the checks that samples of ops, and of wrong ops, are put through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from op_calls import or_zero, run
from op_samples import Sample, samples

from graphc.ir.core import INPUT, Discrete, Node, leaf
from graphc.ir.interpret import interpret
from graphc.ir.ops import derivative_of
from graphc.passes.differentiate import pullback
from graphc.passes.forward import pushforward

F64 = np.float64
STEP = 1e-6


@dataclass(frozen=True)
class Derivatives:
    """The float operands of a node, with a tangent for each and a cotangent of the node, and what they give."""

    floats: list[Node]
    tangents: list[Node]
    cotangent: Node
    feeds: dict[Node, np.ndarray]
    back: list[Node]
    forth: list[Node]


def smooth_samples(name: str, dtypes: Iterable[str]) -> list[Sample]:
    """The samples of an op that have derivatives."""
    return [
        case for case in samples(name)
        if case.smooth and case.node.dtype.name in dtypes and case.node.operands
        and not isinstance(derivative_of(case.node), Discrete)
    ]  # fmt: skip


def derivatives(case: Sample) -> Derivatives:
    """A sample's node pulled back and pushed forward along random directions."""
    rng = np.random.default_rng(1)
    floats = [operand for operand in case.node.operands if operand.type.is_float]
    *tangents, ct = (leaf(INPUT, operand.type) for operand in (*floats, case.node))
    feeds = dict(zip(case.node.operands, case.arrays, strict=True))
    (primal,) = interpret(case.graph, case.feeds)
    for operand, tangent in zip(floats, tangents, strict=True):
        feeds[tangent] = np.asarray(rng.uniform(-1, 1, feeds[operand].shape), operand.dtype)
    feeds[ct] = np.asarray(rng.uniform(-1, 1, primal.shape), case.node.dtype)
    back = or_zero(pullback((case.node,), (ct,), floats), [operand.type for operand in floats])
    forth = or_zero(pushforward((case.node,), floats, tangents), [case.node.type])
    return Derivatives(floats, tangents, ct, feeds, back, forth)


def check_adjoint(case: Sample) -> None:
    """<J'u, v> is <u, Jv>, to rounding."""
    found = derivatives(case)
    types = [node.type for node in (*found.back, *found.forth)]
    assert types == [*(operand.type for operand in found.floats), case.node.type]
    pulled, (pushed,) = run(found.back, found.feeds), run(found.forth, found.feeds)
    left = _inner(pulled, [found.feeds[tangent] for tangent in found.tangents])
    right = _inner([found.feeds[found.cotangent]], [pushed])
    scale = 1 + sum(np.abs(array).sum() for array in pulled)
    eps = max(np.finfo(node.dtype).eps for node in (case.node, *found.floats))
    assert abs(left - right) <= 20 * eps * scale, str(case)


def check_differences(case: Sample) -> None:
    """Forward mode is the limit of differences."""
    found = derivatives(case)
    if all(operand.dtype == F64 for operand in found.floats):
        _check_limit([case.node], found.forth, found, str(case))


def check_second_order(case: Sample) -> None:
    """Forward over reverse mode is the limit of differences of the gradient."""
    found = derivatives(case)
    if all(operand.dtype == F64 for operand in found.floats):
        second = or_zero(pushforward(found.back, found.floats, found.tangents), [node.type for node in found.back])
        _check_limit(found.back, second, found, str(case))


def _check_limit(outputs: Sequence[Node], tangents: Sequence[Node], about: Derivatives, text: str) -> None:
    """Central differences of some nodes along the directions against their tangents."""
    sides = []
    for sign in (1, -1):
        pairs = zip(about.floats, about.tangents, strict=True)
        moved = {operand: about.feeds[operand] + sign * STEP * about.feeds[tangent] for operand, tangent in pairs}
        sides.append(run(outputs, {**about.feeds, **moved}))
    for high, low, expected in zip(*sides, run(tangents, about.feeds), strict=True):
        np.testing.assert_allclose((high - low) / (2 * STEP), expected, rtol=2e-5, atol=2e-6, err_msg=text)


def _inner(left: Iterable[np.ndarray], right: Iterable[np.ndarray]) -> float:
    return sum(float(np.sum(a.astype(F64) * b.astype(F64))) for a, b in zip(left, right, strict=True))
