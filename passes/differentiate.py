"""Reverse mode: one walk from the outputs back to the leaves gives every node its cotangent, in graph ops.

A cotangent carries, beside its value, the boolean support outside of which it is zero whatever the partials are: a
zero times an infinite partial would be NaN. `where` sets the support, elementwise rules select on it, linear ops carry
it through their transpose. Everywhere the value is already zero outside the support, so cotangents simply add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphc.ir.core import (
    INPUT,
    Bilinear,
    Custom,
    Linear,
    Node,
    Partials,
    UserRule,
    constant,
    full,
    leaf,
    scalar_value,
)
from graphc.ir.errors import DifferentiationValueError
from graphc.ir.graph import Graph, naming, toposort
from graphc.ir.ops import derivative_of, divide, logical_and, logical_not, logical_or, multiply, where
from graphc.passes.origins import Origins
from graphc.passes.reach import active_nodes, check_wrt, describe, flows


@dataclass(frozen=True, slots=True)
class Cotangent:
    """The derivative of the outputs by a node; `value` is zero wherever `support` (if any) is false."""

    value: Node
    support: Node | None = None

    def __add__(self, other: Cotangent) -> Cotangent:
        value = self.value + other.value
        if self.support is None or other.support is None:
            return Cotangent(value)
        return Cotangent(value, logical_or(self.support, other.support))


@dataclass(frozen=True, slots=True)
class Adjoint:
    """What the reverse walk leaves: the cotangent of every active node, and what each node's rule made, in order."""

    cotangents: dict[Node, Cotangent] = field(default_factory=dict)
    made: dict[Node, list[Cotangent]] = field(default_factory=dict)

    def of(self, node: Node) -> Node | None:
        """The cotangent's value, or None where it is structurally zero."""
        return self.cotangents[node].value if node in self.cotangents else None


def pullback(
    outputs: Sequence[Node], seeds: Sequence[Node | None], wrt: Sequence[Node], names: Mapping[Node, str] | None = None
) -> list[Node | None]:
    """The cotangents of `wrt` for given cotangents of `outputs`.

    Parameters
    ----------
    outputs, seeds : sequence of Node
        Float nodes, and for each a node of its type, or None for zero.
    wrt : sequence of Node
        Float nodes, leaves or not; each is taken as independent of the others.
    names : mapping from Node to str, optional
        What errors call the nodes.

    Returns
    -------
    list of Node or None
        None where the derivative is structurally zero: nothing depends on the node, or an op says so.

    Raises
    ------
    DifferentiationTypeError
        Where a derivative does not exist (integers, discrete ops).
    DifferentiationValueError
        For a seed that has not its output's type.
    """
    names = names or {}
    check_wrt(outputs, wrt, names)
    for output, seed in zip(outputs, seeds, strict=True):
        if seed is not None and seed.type != output.type:
            raise DifferentiationValueError(
                f"the cotangent of {describe(output, names)} must be {output.type}, got {seed.type}"
            )
    adjoint = reverse_walk(outputs, seeds, wrt)
    return [adjoint.of(node) for node in wrt]


def reverse_walk(outputs: Sequence[Node], seeds: Sequence[Node | None], wrt: Sequence[Node]) -> Adjoint:
    """Walk once from the outputs back, over the nodes between them and `wrt` alone."""
    order = toposort(outputs)
    active = active_nodes(order, wrt)
    adjoint = Adjoint()
    cotangents = adjoint.cotangents
    waiting: dict[Node, Cotangent] = {}

    def contribute(node: Node, cotangent: Cotangent) -> None:
        waiting[node] = waiting[node] + cotangent if node in waiting else cotangent

    for output, seed in zip(outputs, seeds, strict=True):
        if seed is not None and output in active:
            contribute(output, Cotangent(seed))
    for node in reversed(order):
        if node not in waiting:
            continue
        cotangents[node] = waiting.pop(node)
        wanted = [flow and operand in active for flow, operand in zip(flows(node), node.operands, strict=True)]
        if any(wanted):
            parts = _transposed(node, cotangents[node], wanted)
            adjoint.made[node] = [part for part in parts if part is not None]
            for operand, part in zip(node.operands, parts, strict=True):
                if part is not None:
                    contribute(operand, part)
    return adjoint


# one node's rule ------------------------------------------------------------------------------------------------------


def _transposed(node: Node, cotangent: Cotangent, wanted: Sequence[bool]) -> list[Cotangent | None]:
    """The contribution of a node to the cotangent of each wanted operand."""
    if node.op is where:
        return _where(node, cotangent, wanted)
    match derivative_of(node):
        case Partials(rules):
            return [
                _times(cotangent, rule(node, *node.operands) if callable(rule) else rule)
                if want and rule is not None
                else None
                for rule, want in zip(rules, wanted, strict=True)
            ]
        case Linear(transpose=transpose):
            values = transpose(node, cotangent.value)
            supports = transpose(node, cotangent.support) if cotangent.support is not None else [None] * len(values)
            return [
                Cotangent(value, support) if want and value is not None else None
                for value, support, want in zip(values, supports, wanted, strict=True)
            ]
        case Bilinear(left, right):
            return [
                Cotangent(rule(node, cotangent.value)) if want else None
                for rule, want in zip((left, right), wanted, strict=True)
            ]
        case Custom(vjp=vjp) | UserRule(vjp=vjp):
            return [
                Cotangent(value) if want and value is not None else None
                for value, want in zip(vjp(node, cotangent.value), wanted, strict=True)
            ]
    raise AssertionError(f"no cotangent flows through {node}")


def _where(node: Node, cotangent: Cotangent, wanted: Sequence[bool]) -> list[Cotangent | None]:
    condition, zero = node.operands[0], full(0, node.type)

    def within(chosen: Node) -> Node:
        return chosen if cotangent.support is None else logical_and(cotangent.support, chosen)

    return [
        None,
        Cotangent(where(condition, cotangent.value, zero), within(condition)) if wanted[1] else None,
        Cotangent(where(condition, zero, cotangent.value), within(logical_not(condition))) if wanted[2] else None,
    ]


def _times(cotangent: Cotangent, partial: Node | float) -> Cotangent:
    """The cotangent times a partial, kept zero outside its support."""
    value = times(cotangent.value, partial)
    number = scalar_value(partial) if isinstance(partial, Node) else partial
    if cotangent.support is not None and not (number is not None and np.isfinite(number)):
        value = where(cotangent.support, value, full(0, value.type))
    return Cotangent(value, cotangent.support)


def times(value: Node, partial: Node | float) -> Node:
    """``value * partial``, written as a person would: nothing for 1, a sign for -1, a quotient for a reciprocal."""
    number = scalar_value(partial) if isinstance(partial, Node) else partial
    if number is not None and number in (1, -1):
        return value if number == 1 else -value
    if isinstance(partial, Node):
        if scalar_value(value) == 1:
            return partial
        if is_reciprocal(partial):
            return value / partial.operands[1]
        if partial.op is multiply and is_reciprocal(partial.operands[1]):  # both slopes of a / b read one quotient
            return partial.operands[0] * (value / partial.operands[1].operands[1])
    return value * partial


def is_reciprocal(node: Node) -> bool:
    """Whether a node is 1 / b."""
    return node.op is divide and scalar_value(node.operands[0]) == 1


# the pass -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differentiate:
    """Append to the outputs the gradients of the first one with respect to `graph.wrt`, which is empty afterwards.

    Where the first output does not depend on a wrt, its gradient is zeros (`unreached` names those). The cotangent of
    a node named ``h`` is named ``d_h``, and an adjoint step has the place of the step whose rule made it.

    Parameters
    ----------
    seeded : bool
        True: the first output is a scalar, and its cotangent is 1. False: the cotangent is one more input, the last,
        of the output's type and named ``d_<output>``: what `partition` needs.
    """

    seeded: bool = True
    name: str = "differentiate"

    def run(self, graph: Graph) -> Graph:
        """The joint graph; a graph without wrt is returned as it is."""
        if not graph.wrt:
            return graph
        output = graph.outputs[0]
        check_wrt(graph.outputs[:1], graph.wrt, graph.names)
        if self.seeded:
            check_scalar(output, graph.names)
        seed = full(1, output.type) if self.seeded else leaf(INPUT, output.type)
        adjoint = reverse_walk((output,), (seed,), graph.wrt)
        gradients = tuple(adjoint.of(node) or full(0, node.type) for node in graph.wrt)
        names = _adjoint_names(graph, adjoint)
        if not self.seeded or (seed not in graph.steps and _is_step(seed, toposort(gradients), gradients)):
            names.setdefault(seed, _free_name(f"d_{graph.names.get(output, 'output')}", set(names.values())))
        return replace(
            graph,
            inputs=graph.inputs if self.seeded else (*graph.inputs, seed),
            outputs=(*graph.outputs, *gradients),
            wrt=(),
            names=names,
            origins=_adjoint_origins(graph, adjoint),
        )


def check_scalar(output: Node, names: Mapping[Node, str]) -> None:
    """Raise unless the cotangent 1 makes sense."""
    if output.shape != ():
        raise DifferentiationValueError(
            f"the gradient of {describe(output, names)} wants a scalar, and it is {output.type}",
            hint="sum it or take its mean first, or give a cotangent of its shape: program.backward(saved, cotangent)",
        )


def unreached(graph: Graph) -> tuple[str, ...]:
    """The names of the wrt that the first output does not depend on at all: their gradients are zeros."""
    below = set(toposort(graph.outputs[:1]))
    return tuple(describe(node, graph.names) for node in graph.wrt if node not in below)


def _adjoint_names(graph: Graph, adjoint: Adjoint) -> dict[Node, str]:
    """The names of a joint graph: the cotangent of ``h`` is ``d_h``; one of several is named after a wrt, or the last.

    What users named comes first, then the steps in between, by the names that they print with: from here on a step
    keeps its name, so that ``d_h_2`` stays the cotangent of ``h_2``.
    """
    names = {node: name for node, name in naming(graph).items() if scalar_value(node) is None}
    taken = set(names.values())
    printed = dict(names)
    order = dict.fromkeys((*graph.wrt, *adjoint.cotangents))
    for node in sorted(order, key=lambda node: node not in graph.names):
        value = adjoint.of(node)
        name = f"d_{printed.get(node, '')}"
        if value is not None and value not in names and value.op is not constant and name not in taken:
            names[value] = name
            taken.add(name)
    return names


def _adjoint_origins(graph: Graph, adjoint: Adjoint) -> Mapping[Node, tuple[str, ...]]:
    seeds = list(adjoint.cotangents.values())[:1]
    origins = Origins(graph.origins, (*graph.leaves, *graph.steps, *(seed.value for seed in seeds)))
    for node, parts in adjoint.made.items():
        origins.attribute([part.value for part in parts], graph.origins.get(node, ()))
    return origins.places


def _is_step(number: Node, order: Sequence[Node], roots: Sequence[Node]) -> bool:
    """Whether a number prints as a step: it is returned, or read where nothing else settles its dtype."""
    return number in roots or any(
        number in step.operands
        and not (step.op.is_elementwise and any(scalar_value(operand) is None for operand in step.operands))
        for step in order
    )


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
