"""Verify a graph: what every pass may rely on, checked anew; a failure shows the step among its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Literal, Node
from graphc.ir.dims import Dim
from graphc.ir.errors import CompileValueError
from graphc.ir.graph import Graph, naming, toposort
from graphc.ir.text import step_text
from graphc.ir.types import DTYPES

# How many readers of a failing step are shown.
READERS = 3


def verify(graph: Graph) -> None:
    """Check that a graph is well formed: leaves, names, attributes, types, outputs, wrt and updates.

    Raises
    ------
    CompileValueError
        At the first rule broken, with the step that breaks it between what it reads and what reads it.
    """
    for rule in RULES:
        for node, problem in rule(graph):
            shown = f"\n{_neighbours(graph, node)}" if node is not None else ""
            raise CompileValueError(f"the graph {graph.name} is malformed: {problem}{shown}")


# the rules: each yields the node it is about (or None) and what is wrong ----------------------------------------------

Problems = Iterator[tuple[Node | None, str]]


def _leaves(graph: Graph) -> Problems:
    """Leaves are declared, once, as what they are; whatever is reached is declared."""
    for role, op, leaves in (("inputs", INPUT, graph.inputs), ("params", PARAM, graph.params)):
        for leaf in leaves:
            if leaf.op is not op or leaf.operands:
                yield leaf, f"{role} lists a node of the op {leaf.op.name}"
            if leaf.attrs != (("dtype", leaf.dtype), ("shape", leaf.shape)):
                yield leaf, f"a leaf of type {leaf.type} has the attributes of another"
    if len(set(graph.leaves)) < len(graph.leaves):
        yield next(leaf for leaf in graph.leaves if graph.leaves.count(leaf) > 1), "a leaf is declared twice"
    declared = set(graph.leaves)
    for node in toposort(graph.roots):
        if node.op in (INPUT, PARAM) and node not in declared:
            yield node, f"the graph reads an undeclared {node.op.name}"


def _names(graph: Graph) -> Problems:
    """No two nodes have one name."""
    seen: dict[str, Node] = {}
    for node, name in graph.names.items():
        if not name:
            yield node, "a name is empty"
        if seen.setdefault(name, node) is not node:
            yield node, f"two nodes are named {name}"


def _attributes(graph: Graph) -> Problems:
    """Attributes are values of the kinds that print and compare: no lists, arrays or Python floats."""
    for node in (*graph.leaves, *graph.steps):
        for attribute, value in node.attrs:
            if not _is_attribute(value):
                yield node, f"the attribute {attribute} is {value!r} ({type(value).__name__})"


def _is_attribute(value: Any) -> bool:
    todo = [value]
    for item in todo:
        if isinstance(item, tuple):
            todo.extend(item)
        elif isinstance(item, np.dtype):
            if item.name not in DTYPES:
                return False
        elif item is not None and type(item) not in (int, bool, str, Dim, Literal):
            return False
    return True


def _types(graph: Graph) -> Problems:
    """Every step has the type that its op infers."""
    for step in graph.steps:
        try:
            inferred = step.op.infer(*(operand.type for operand in step.operands), **dict(step.attrs))
        except Exception as error:  # on a malformed step a type rule may raise anything
            yield step, f"{step.op.name} does not take these operands: {error}"
            continue
        if inferred != step.type:
            yield step, f"{step.op.name} gives {inferred}, the step says {step.type}"


def _roots(graph: Graph) -> Problems:
    """Something is computed; wrt are leaves or anchors."""
    if not graph.outputs and not graph.updates:
        yield None, "it has neither outputs nor updates"
    for node in graph.wrt:
        if node.op is not ops.anchor and node.op not in (INPUT, PARAM):
            yield node, "wrt lists a step that is no anchor"


def _updates(graph: Graph) -> Problems:
    """Updates go to parameters of the graph, once each, and keep their types."""
    params, seen = set(graph.params), set[Node]()
    for param, value in graph.updates:
        if param not in params:
            yield param, "an update goes to what is no parameter of the graph"
        if value.type != param.type:
            yield value, f"the next value of a parameter {param.type} is {value.type}"
        if param in seen:
            yield param, "a parameter is updated twice"
        seen.add(param)


RULES: tuple[Callable[[Graph], Problems], ...] = (_leaves, _names, _attributes, _types, _roots, _updates)


# the neighbours -----------------------------------------------------------------------------------------------------


def _neighbours(graph: Graph, node: Node) -> str:
    """The text of a node, marked, after its operands and before the first steps that read it."""
    names = _all_names(graph)
    readers = [step for step in graph.steps if node in step.operands][:READERS]
    shown = dict.fromkeys((*node.operands, node, *readers))
    return "\n".join(f"{'> ' if line is node else '  '}{_line(line, names)}" for line in shown)


def _line(node: Node, names: dict[Node, str]) -> str:
    return f"%{names[node]}: {node.type}" if node.op in (INPUT, PARAM) else step_text(node, names)


def _all_names(graph: Graph) -> dict[Node, str]:
    """The names of everything reached, undeclared leaves too."""
    names = naming(graph)
    for node in (*toposort(graph.roots), *graph.names):
        names.setdefault(node, f"undeclared_{node.op.name}")
    return names
