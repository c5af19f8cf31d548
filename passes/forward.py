"""Forward mode: one walk from the leaves to the outputs gives every node its tangent, in graph ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.ir.core import (
    INPUT,
    Bilinear,
    Custom,
    Linear,
    Node,
    Partials,
    Rule,
    UserRule,
    full,
    leaf,
    rebuild,
    scalar_value,
)
from graphc.ir.errors import DifferentiationValueError
from graphc.ir.graph import toposort
from graphc.ir.ops import derivative_of
from graphc.passes.differentiate import pullback, times
from graphc.passes.reach import check_wrt, describe, flows


def pushforward(
    outputs: Sequence[Node],
    wrt: Sequence[Node],
    tangents: Sequence[Node | None],
    names: Mapping[Node, str] | None = None,
) -> list[Node | None]:
    """The tangents of `outputs` for given tangents of `wrt`.

    Parameters
    ----------
    outputs : sequence of Node
        Float nodes.
    wrt, tangents : sequence of Node
        Float nodes, leaves or not, and for each a node of its type, or None for zero. A tangent given for an inner
        node replaces the one that it would have.
    names : mapping from Node to str, optional
        What errors call the nodes.

    Returns
    -------
    list of Node or None
        None where the tangent is structurally zero.

    Raises
    ------
    DifferentiationTypeError
        Where a derivative does not exist (integers, discrete ops).
    DifferentiationValueError
        For a tangent that has not its node's type.
    """
    names = names or {}
    check_wrt(outputs, wrt, names)
    moving: dict[Node, Node] = {}
    for node, tangent in zip(wrt, tangents, strict=True):
        if tangent is not None and tangent.type != node.type:
            raise DifferentiationValueError(
                f"the tangent of {describe(node, names)} must be {node.type}, got {tangent.type}"
            )
        if tangent is not None:
            moving[node] = tangent
    given = set(wrt)
    for node in toposort(outputs):
        if node not in given:
            inner = [
                moving.get(operand) if flow else None for operand, flow in zip(node.operands, flows(node), strict=True)
            ]
            if any(tangent is not None for tangent in inner) and (result := _tangent(node, inner)) is not None:
                moving[node] = result
    return [moving.get(output) for output in outputs]


def _tangent(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """The tangent of a node from those of its operands, of which at least one is not zero."""
    match derivative_of(node):
        case Partials(rules):
            terms = [
                times(tangent, rule(node, *node.operands) if callable(rule) else rule)
                for rule, tangent in zip(rules, tangents, strict=True)
                if tangent is not None and rule is not None
            ]
        case Linear(operands=count):
            linear = len(node.operands) if count is None else count
            pairs = zip(tangents[:linear], node.operands[:linear], strict=True)
            moved = (full(0, operand.type) if tangent is None else tangent for tangent, operand in pairs)
            return rebuild(node, (*moved, *node.operands[linear:]))
        case Bilinear():
            terms = [
                rebuild(node, (*node.operands[:k], tangent, *node.operands[k + 1 :]))
                for k, tangent in enumerate(tangents)
                if tangent is not None
            ]
        case Custom(jvp=jvp):
            result: Node | None = jvp(node, tuple(tangents))
            return result
        case UserRule(vjp=vjp):
            return _transposed(node, vjp, tangents)
        case _:
            raise AssertionError(f"no tangent flows through {node}")
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _transposed(node: Node, vjp: Rule, tangents: Sequence[Node | None]) -> Node | None:
    """The tangent by a user's reverse rule, which is linear in the cotangent: the cotangent of that cotangent."""
    ct = leaf(INPUT, node.type)
    pairs = [
        (pulled, tangent)
        for pulled, tangent in zip(vjp(node, ct), tangents, strict=True)
        if pulled is not None and tangent is not None and scalar_value(pulled) != 0
    ]
    if not pairs:
        return None
    pulled, seeds = zip(*pairs, strict=True)
    depends = all(ct in toposort([each]) for each in pulled)
    (result,) = pullback(pulled, seeds, [ct]) if depends else (None,)
    if result is None or ct in toposort([result]):
        raise DifferentiationValueError(
            "a custom_vjp has no forward mode: its rule is not linear in the cotangent",
            hint="jvp, hvp, hessian and jacobian with more outputs than inputs need forward mode; grad and vjp do not",
        )
    return result
