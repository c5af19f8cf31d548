"""Batch: a computation of one element as one of a whole stack, along a new leading axis of what depends on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from graphc.ir.core import Node
from graphc.ir.dims import Extent
from graphc.ir.graph import toposort
from graphc.ir.ops import sum_
from graphc.ir.ops.custom import cotangent, custom_vjp, parts
from graphc.ir.ops.layout import in_stack, one_further


def batch(roots: Sequence[Node], stacks: Mapping[Node, Node], size: Extent) -> list[Node | None]:
    """The roots for stacks of some nodes.

    Parameters
    ----------
    roots : sequence of Node
        What is computed.
    stacks : mapping from Node to Node
        For some of the nodes below a stack of them: a node of its dtype and shape after a leading axis.
    size : int or Dim
        The extent of that axis.

    Returns
    -------
    list of Node or None
        A stack for each root, None where it depends on none of the nodes.
    """
    new = dict(stacks)
    order = toposort(roots)
    moved = set(stacks)
    for node in order:
        if any(operand in moved for operand in node.operands):
            moved.add(node)
    for node in order:
        if node.op is cotangent:  # a rule is one of stacks wherever its value is
            new.setdefault(node, cotangent(dtype=node.dtype, shape=(size, *node.shape), level=node["level"]))
    for node in order:
        if node not in new and (result := _batched(node, new, moved, size)) is not None:
            new[node] = result
    return [new.get(root) for root in roots]


def _batched(node: Node, new: Mapping[Node, Node], moved: Collection[Node], size: Extent) -> Node | None:
    """A stack of a node, or None where none of its operands is one (of a user's rule: only its mark)."""
    if node.op is custom_vjp:
        read = node.operands[0], *parts(node)[0]
        return _custom(node, new, size) if node in moved or any(operand in new for operand in read) else None
    if not any(operand in new for operand in node.operands):
        return None
    operands = tuple(_stack(operand, new, size) for operand in node.operands)
    if node.op.batch is not None:
        result: Node = node.op.batch(node, operands, size)
        return result
    return node.op(*operands, **{name: _further(name, value) for name, value in node.attrs})


def _stack(node: Node, new: Mapping[Node, Node], size: Extent) -> Node:
    return new[node] if node in new else in_stack(node, size)


def _further(name: str, value: Any) -> Any:
    """An attribute of an op on arrays with one more leading axis."""
    if name == "axis":
        return value + 1
    return one_further(value) if name == "axes" else value


def _custom(node: Node, new: Mapping[Node, Node], size: Extent) -> Node:
    """A user's rule on stacks: an argument that is the same for all gets the sum of its cotangents."""
    arguments, rules = parts(node)
    value = _stack(node.operands[0], new, size)
    cotangents = (
        _stack(rule, new, size) if argument in new else sum_(_stack(rule, new, size), axes=(0,))
        for argument, rule in zip(arguments, rules, strict=True)
    )
    return custom_vjp(value, *(new.get(argument, argument) for argument in arguments), *cotangents, level=node["level"])
