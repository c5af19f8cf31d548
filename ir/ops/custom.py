"""A user's own derivative rule, as an op: the value, what it is a function of, and the cotangents that the rule makes.

The rule is no closure but part of the graph: the cotangents are expressions in a node that stands for the cotangent of
the value, and a derivative puts the real one in its place. So a rule is printed, read back, batched and differentiated
like everything else.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphc.ir.core import Node, Op, PiecewiseConstant, UserRule, rebuild
from graphc.ir.errors import DeclarationValueError
from graphc.ir.graph import toposort
from graphc.ir.types import TensorType

# `level` tells the cotangent of a rule from those of the rules inside of it, which have lower ones.
cotangent = Op(
    name="cotangent",
    infer=lambda dtype, shape, level: TensorType(np.dtype(dtype), shape),
    evaluate=lambda dtype, shape, level: np.zeros(shape, dtype),
    derivative=PiecewiseConstant(),
    numpy=(),
    note="stands for the cotangent of a `custom_vjp` in its rule; 0 where nothing is differentiated",
)


def cotangent_of(node: Node) -> Node:
    """What stands for the cotangent of a `custom_vjp` in its rule."""
    return cotangent(dtype=node.dtype, shape=node.shape, level=node["level"])


def next_level(rules: Iterable[Node]) -> int:
    """The level of a rule that makes these cotangents: above all that are in it."""
    return max((node["level"] + 1 for node in toposort(rules) if node.op is cotangent), default=0)


def parts(node: Node) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """What a `custom_vjp` is a function of, and the rule's cotangent for each."""
    count = len(node.operands) // 2
    return node.operands[1 : 1 + count], node.operands[1 + count :]


def _infer(value: TensorType, *types: TensorType, level: int) -> TensorType:
    count = len(types) // 2
    if len(types) % 2 or types[:count] != types[count:]:
        raise DeclarationValueError(f"custom_vjp wants a cotangent of its type for each of {types[:count]}")
    return value


def _vjp(node: Node, ct: Node) -> tuple[Node | None, ...]:
    arguments, rules = parts(node)
    return None, *_applied(rules, cotangent_of(node), ct), *(None for _ in arguments)


def _applied(rules: tuple[Node, ...], mark: Node, ct: Node) -> list[Node]:
    """The rules with a cotangent in the place of its mark, but for the rules of other nodes that have the same mark.

    (What is enclosed in a rule has a lower level; what a stack was put into need not.)
    """
    new = {mark: ct}
    for node in toposort(rules):
        if node not in new:
            operands = tuple(new[operand] for operand in node.operands)
            if node.op is custom_vjp and node["level"] >= mark["level"]:
                count = len(node.operands) // 2 + 1
                operands = (*operands[:count], *node.operands[count:])
            new[node] = rebuild(node, operands)
    return [new[rule] for rule in rules]


def _flows(node: Node) -> tuple[bool, ...]:
    arguments, rules = parts(node)
    return False, *(argument.type.is_float for argument in arguments), *(False for _ in rules)


custom_vjp: Op = Op(
    name="custom_vjp",
    infer=_infer,
    evaluate=lambda value, *rest, level: value,
    derivative=UserRule(_vjp, _flows),
    numpy=("custom_vjp",),
    note="its first operand; the derivative is the rule's, which it need not agree with",
)
