"""A graph: leaves, outputs and the topologically sorted steps between them, with the user's names and places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from graphc.ir.core import INPUT, PARAM, Guard, Node, rebuild, scalar_value
from graphc.ir.dims import extent_names

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True, eq=False)
class Graph:
    """A computation: `outputs` as functions of `inputs` and `params`.

    Parameters
    ----------
    name : str
        The user's name for it, such as ``Digits.loss``.
    inputs, params : tuple of Node
        The leaves, in declaration order. A graph may have more leaves than its outputs use.
    outputs : tuple of Node
        What is returned.
    wrt : tuple of Node
        The nodes that `differentiate` takes derivatives with respect to; empty afterwards. Those that are not leaves
        are `anchor` nodes, which no rewrite opens.
    updates : tuple of (Node, Node)
        Pairs of a parameter and its next value, stored after the outputs are computed, all at once.
    names : mapping from Node to str
        Names of leaves and of the views that users named; unique. `naming` names the rest.
    origins : mapping from Node to tuple of str
        The user's ``file:line`` places; a merged node has several.
    """

    name: str
    inputs: tuple[Node, ...]
    params: tuple[Node, ...]
    outputs: tuple[Node, ...]
    wrt: tuple[Node, ...] = ()
    updates: tuple[tuple[Node, Node], ...] = ()
    names: Mapping[Node, str] = field(default_factory=dict)
    origins: Mapping[Node, tuple[str, ...]] = field(default_factory=dict)

    @property
    def roots(self) -> tuple[Node, ...]:
        """Every node that must be computed: outputs, wrt, next values of parameters."""
        return (*self.outputs, *self.wrt, *(value for _, value in self.updates))

    @cached_property
    def steps(self) -> tuple[Node, ...]:
        """The Wengert list: all nodes but the leaves, each after its operands, in deterministic order."""
        return tuple(node for node in toposort(self.roots) if node.op is not INPUT and node.op is not PARAM)

    @cached_property
    def guards(self) -> tuple[Guard, ...]:
        """The conditions on dims that the steps need, each once."""
        found = (guard for node in self.steps if node.op.guards for guard in node.op.guards(node))
        return tuple(dict.fromkeys(found))

    @property
    def leaves(self) -> tuple[Node, ...]:
        """Inputs, then params."""
        return (*self.inputs, *self.params)

    @cached_property
    def dim_names(self) -> tuple[str, ...]:
        """The symbolic dims of the inputs, in order of appearance."""
        names = (name for node in self.inputs for size in node.shape for name in sorted(extent_names([size])))
        return tuple(dict.fromkeys(names))

    def rewrite(self, change: Callable[[Node, tuple[Node, ...]], Node]) -> Graph:
        """The graph with every step replaced by ``change(step, new_operands)``, in order.

        Names and origins follow the nodes; of two names for one new node the first stays.
        """
        new: dict[Node, Node] = {leaf: leaf for leaf in self.leaves}
        for step in self.steps:
            new[step] = change(step, tuple(new[operand] for operand in step.operands))
        return self.remap(new)

    def remap(self, new: Mapping[Node, Node]) -> Graph:
        """The graph with its roots replaced by what `new` says; names and origins follow."""
        names: dict[Node, str] = {}
        origins: dict[Node, tuple[str, ...]] = {}
        for old, name in self.names.items():
            if (target := new.get(old)) is not None:
                names.setdefault(target, name)
        for old, places in self.origins.items():
            if (target := new.get(old)) is not None:
                origins[target] = tuple(dict.fromkeys((*origins.get(target, ()), *places)))
        # A leaf keeps its own name whatever was folded into it.
        names.update((leaf, self.names[leaf]) for leaf in self.leaves if leaf in self.names)
        return replace(
            self,
            outputs=tuple(new[node] for node in self.outputs),
            wrt=tuple(new[node] for node in self.wrt),
            updates=tuple((param, new[value]) for param, value in self.updates),
            names=names,
            origins=origins,
        )

    def to_networkx(self) -> networkx.DiGraph:
        """The graph as a `networkx.DiGraph` of `Node` objects, edges from operand to reader, names as attributes."""
        import networkx  # 0.1 s, imported when asked for

        result = networkx.DiGraph(name=self.name)
        names = naming(self)
        for node in (*self.leaves, *self.steps):
            result.add_node(node, name=names[node], op=node.op.name)
            result.add_edges_from((operand, node) for operand in node.operands)
        return result


def toposort(roots: Iterable[Node]) -> list[Node]:
    """All nodes that the roots need, operands first: depth first, left to right, without recursion."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, operands_done = stack.pop()
            if operands_done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((operand, False) for operand in reversed(node.operands) if operand not in seen)
    return order


def substitute(roots: Iterable[Node], replacement: Mapping[Node, Node]) -> list[Node]:
    """The roots with some nodes replaced wherever they occur below."""
    roots = list(roots)
    new: dict[Node, Node] = dict(replacement)
    for node in toposort(roots):
        if node not in new:
            new[node] = rebuild(node, tuple(new[operand] for operand in node.operands))
    return [new[root] for root in roots]


def naming(graph: Graph) -> dict[Node, str]:
    """A unique name for every node: the user's, or ``<view>_<k>`` after the view whose expression it is part of.

    An inner node belongs to the named node that reads it first; one that belongs to none is named after its op.
    Numbers, which print where they are read, are counted last.
    """
    owner: dict[Node, str] = {}
    for node in reversed(graph.steps):
        base = graph.names.get(node) or owner.get(node, "")
        for operand in node.operands:
            if operand not in graph.names:
                owner[operand] = base
    result = {node: graph.names[node] for node in (*graph.leaves, *graph.steps) if node in graph.names}
    taken = set(result.values())
    counters: dict[str, int] = {}
    for node in sorted((*graph.leaves, *graph.steps), key=lambda node: scalar_value(node) is not None):
        if node in result:
            continue
        base = owner.get(node) or (node.operands[0] if node.op.name == "anchor" else node).op.name
        while (name := f"{base}_{counters.get(base, 0)}") in taken:
            counters[base] = counters.get(base, 0) + 1
        taken.add(name)
        counters[base] = counters.get(base, 0) + 1
        result[node] = name
    return result
