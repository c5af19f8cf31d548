"""The rewrite engine: tables of local rules, applied bottom-up to a fixed point, in near linear time.

A rule is a function from a node to an equal node, or None where it does not apply. A table maps op names to the rules
tried on nodes of that op, first to last; those under ``"*"`` are tried on every op, before its own. A rule sees
operands that are already in normal form. Rules must lead downhill: no table may hold a rule and its inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from graphc.ir.core import Node, rebuild
from graphc.ir.graph import Graph
from graphc.passes.origins import Origins

Rule: TypeAlias = Callable[[Node], Node | None]
Rules: TypeAlias = Mapping[str, tuple[Rule, ...]]


def merge(*tables: Rules) -> Rules:
    """One table with the rules of all, those of earlier tables tried first."""
    merged: dict[str, tuple[Rule, ...]] = {}
    for table in tables:
        for op, rules in table.items():
            merged[op] = (*merged.get(op, ()), *rules)
    return merged


def normalize(roots: Iterable[Node], rules: Rules, opaque: Mapping[Node, Node] | None = None) -> dict[Node, Node]:
    """The normal form of every node below `roots`.

    Parameters
    ----------
    roots : iterable of Node
        The nodes that are needed.
    rules : mapping from str to tuple of callables
        The table.
    opaque : mapping from Node to Node, optional
        Nodes whose normal form is given: no rule is tried on them, and nothing below them is looked at.
    """
    everywhere = rules.get("*", ())
    table = {op: (*everywhere, *own) for op, own in rules.items()}
    normal: dict[Node, Node] = dict(opaque or {})
    better: dict[Node, Node] = {}  # an equal node, one step closer to the normal form of the key
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in normal:
                stack.pop()
            elif node in better:  # its better form has been normalized since
                normal[node] = normal[better[node]]
            elif pending := [operand for operand in node.operands if operand not in normal]:
                stack.extend(reversed(pending))
            else:
                new = _step(node, normal, table.get(node.op.name, everywhere))
                if new is node:
                    normal[node] = node
                else:
                    better[node] = new
                    stack.append(new)
    return normal


def rewrite(graph: Graph, rules: Rules) -> Graph:
    """The graph in normal form; new steps stand where the step they replace stood."""
    normal = normalize(graph.roots, rules, {leaf: leaf for leaf in graph.leaves})
    result = graph.remap(normal)
    origins = Origins(result.origins, (*graph.leaves, *graph.steps))
    for node in graph.steps:
        if normal[node] is not node:
            origins.attribute([normal[node]], graph.origins.get(node, ()))
    kept = {*result.leaves, *result.steps}
    return replace(
        result,
        names={node: name for node, name in result.names.items() if node in kept},
        origins={node: places for node, places in origins.places.items() if node in kept},
    )


def _step(node: Node, normal: Mapping[Node, Node], rules: tuple[Rule, ...]) -> Node:
    """One step: operands replaced by their normal forms, or else the first rule that applies."""
    moved = rebuild(node, tuple(normal[operand] for operand in node.operands))
    if moved is not node:
        return moved
    for rule in rules:
        new = rule(node)
        if new is not None and new is not node:
            assert new.type == node.type, f"{rule.__name__} made {new.type} of {node.type}"
            return new
    return node
