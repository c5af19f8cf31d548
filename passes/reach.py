"""How derivatives flow: which operands of a node carry them, and by what kind of path an output depends on a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.core import Discrete, Linear, Node, Partials, PiecewiseConstant, UserRule
from graphc.ir.errors import DifferentiationTypeError
from graphc.ir.graph import toposort
from graphc.ir.ops import derivative_of


@dataclass(frozen=True, slots=True)
class Reach:
    """The best path from an output down to a node.

    `rank` is 2 where derivatives flow, 1 where an op on the path says that its gradient is 0, and 0 where every path
    leads through a discrete op: `through` names the one nearest to the node.
    """

    rank: int
    through: str = ""


SMOOTH = Reach(2)
FLAT = Reach(1)


def flows(node: Node) -> tuple[bool, ...]:
    """For each operand whether a derivative flows between it and the node."""
    derivative = derivative_of(node)
    if not node.type.is_float or isinstance(derivative, Discrete | PiecewiseConstant):
        return (False,) * len(node.operands)
    floats = tuple(operand.type.is_float for operand in node.operands)
    match derivative:
        case Partials(rules):
            return tuple(is_float and rule is not None for is_float, rule in zip(floats, rules, strict=True))
        case Linear(operands=int(count)):
            return tuple(is_float and k < count for k, is_float in enumerate(floats))
        case UserRule(flows=marked):
            return tuple(marked(node))
    return floats


def active_nodes(order: Iterable[Node], wrt: Iterable[Node]) -> set[Node]:
    """The nodes of a topological order that some `wrt` has a derivative flow to, with the `wrt` themselves."""
    active = set(wrt)
    for node in order:
        if node not in active and any(
            flow and operand in active for flow, operand in zip(flows(node), node.operands, strict=True)
        ):
            active.add(node)
    return active


def reached(outputs: Sequence[Node]) -> dict[Node, Reach]:
    """How the outputs depend on every node below them."""
    best = dict.fromkeys(outputs, SMOOTH)
    for node in reversed(toposort(outputs)):
        for operand, flow in zip(node.operands, flows(node), strict=True):
            found = best[node] if flow else _below(node, best[node])
            if operand not in best or found.rank > best[operand].rank:
                best[operand] = found
    return best


def _below(node: Node, above: Reach) -> Reach:
    """How an operand is reached that no derivative flows to."""
    if above is FLAT or isinstance(derivative_of(node), PiecewiseConstant):
        return FLAT
    return Reach(0, node.op.name)


def check_wrt(outputs: Sequence[Node], wrt: Sequence[Node], names: Mapping[Node, str]) -> None:
    """Raise where the derivative of some output by some `wrt` does not exist.

    Raises
    ------
    DifferentiationTypeError
        For an output or a `wrt` that is not float, and for a `wrt` reached only through a discrete op.
    """
    for node in (*outputs, *wrt):
        if not node.type.is_float:
            relation = "with respect to" if node in wrt else "of"
            raise DifferentiationTypeError(
                f"no derivative {relation} {describe(node, names)}: it is {node.type}, and only floats have one",
                hint="declare it as 'float64', or cast it before its first use",
            )
    best = reached(outputs)
    for node in wrt:
        if node in best and best[node].rank == 0:
            raise DifferentiationTypeError(
                f"{describe(outputs[0], names)} depends on {describe(node, names)} only through "
                f"{best[node].through}, which has no derivative",
                hint="leave it out of wrt, or use a smooth function in its place",
            )


def describe(node: Node, names: Mapping[Node, str]) -> str:
    """The user's name of a node, or what it is."""
    return names.get(node) or f"a value of {node.op.name} : {node.type}"
