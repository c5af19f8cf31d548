"""Partition: split a joint graph into forward and backward by a minimum cut over what could be saved between them.

Leaves are free to reference and cheap steps may be recomputed; what is saved is the least number of bytes through which
every expensive step (products, reductions) reaches the backward graph. The recomputation idea is the one of "Min-cut
optimal recomputation" in functorch's partitioners.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from graphc.ir.core import INPUT, Node, leaf, rebuild
from graphc.ir.dims import Extent, extent_names, linear_form, nominal
from graphc.ir.graph import Graph, naming, toposort
from graphc.ir.ops import (
    all_,
    any_,
    argmax,
    argmin,
    cholesky,
    det_sign,
    eigh,
    eigvalsh,
    log_abs_det,
    log_softmax,
    logsumexp,
    matmul,
    max_,
    min_,
    norm,
    qr,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_set,
    softmax,
    solve,
    sum_,
    svd,
    svdvals,
    triangular_solve,
)
from graphc.passes.pack import Block, pack

# Never computed twice.
EXPENSIVE = frozenset({
    matmul, sum_, max_, min_, any_, all_, argmax, argmin, softmax, log_softmax, logsumexp, norm,
    scatter_add, scatter_set, scatter_max, scatter_min,
    cholesky, triangular_solve, solve, log_abs_det, det_sign, eigh, eigvalsh, svd, svdvals, qr,
})  # fmt: skip


@dataclass(frozen=True)
class Partition:
    """Split the joint graph into forward and backward where that is asked for, and pack the parameters.

    Parameters
    ----------
    split_after : int or None
        How many outputs are primal ones; None keeps the graph whole.
    blocks : sequence of Block or None
        Where the parameters live; None leaves each by itself.
    wrt : tuple of (Node, str)
        The nodes whose gradients are the last outputs of the joint graph, and their names.
    """

    split_after: int | None
    blocks: tuple[Block, ...] | None
    wrt: tuple[tuple[Node, str], ...] = ()
    name: str = "partition"

    def run(self, graph: Graph) -> tuple[Graph, ...]:
        """One graph, or forward and backward."""
        if self.split_after is None:
            return (self._packed(graph, self.wrt),)
        forward, backward = split(graph, self.split_after)
        return self._packed(forward, ()), self._packed(backward, self.wrt)

    def _packed(self, graph: Graph, wrt: tuple[tuple[Node, str], ...]) -> Graph:
        return graph if self.blocks is None else pack(graph, self.blocks, wrt)


def split(joint: Graph, n_outputs: int) -> tuple[Graph, Graph]:
    """The forward and the backward graph of a joint graph.

    Parameters
    ----------
    joint : Graph
        With `n_outputs` primal outputs, then gradients. Inputs that the primal outputs do not need and the gradients
        do are cotangents.
    n_outputs : int
        The number of primal outputs.

    Returns
    -------
    forward : Graph
        Of the joint graph's inputs (but cotangents) and params; returns the primal outputs, then the saved values.
    backward : Graph
        Returns the gradients. Its inputs are the joint inputs it uses, then the saved values, in the order and by the
        names in which forward returns them, then the cotangents.
    """
    outputs, gradients = joint.outputs[:n_outputs], joint.outputs[n_outputs:]
    primal = set(toposort(outputs))
    below = toposort(gradients)
    late = set(below) - primal
    cotangents = [node for node in joint.inputs if node in late]
    saved = _minimum_cut(below, gradients, cotangents)
    names = naming(joint)
    labels = {node: names[node] for node in saved}
    forward = _pruned(
        replace(
            joint,
            name=f"{joint.name}.forward",
            inputs=tuple(node for node in joint.inputs if node not in cotangents),
            outputs=(*outputs, *saved),
            updates=(),
            names={**joint.names, **labels},
        )
    )
    return forward, _backward(joint, gradients, labels, cotangents)


def _backward(joint: Graph, gradients: tuple[Node, ...], labels: dict[Node, str], cotangents: list[Node]) -> Graph:
    leaves = {node: leaf(INPUT, node.type) for node in labels}
    renamed = replace(joint, outputs=gradients, updates=(), names={**joint.names, **labels})
    moved = renamed.rewrite(lambda step, operands: leaves[step] if step in leaves else rebuild(step, operands))
    used = set(toposort(moved.outputs))
    primal_inputs = [node for node in joint.inputs if node not in cotangents]
    inputs = [node for node in primal_inputs if node in used]
    known = [*inputs, *leaves.values(), *cotangents]
    inputs += _binders(used, known, primal_inputs)
    inputs.sort(key=joint.inputs.index)
    return _pruned(
        replace(
            moved,
            name=f"{joint.name}.backward",
            inputs=(*inputs, *leaves.values(), *cotangents),
            params=tuple(node for node in joint.params if node in used),
        )
    )


def _binders(used: Iterable[Node], known: list[Node], candidates: list[Node]) -> list[Node]:
    """Further inputs, whose shapes alone are needed: they settle dims that no other input of backward does."""
    found: list[Node] = []
    missing = set(extent_names(extent for node in used for extent in _extents(node)))
    missing -= {name for node in known for name in _settled(node)}
    for node in candidates:
        if missing & _settled(node):
            missing -= _settled(node)
            found.append(node)
    return found


def _settled(leaf: Node) -> set[str]:
    """The dims that the shape of an array settles: the extent N * M settles neither."""
    return {form[0] for extent in leaf.shape if (form := linear_form(extent)) is not None}


def _extents(node: Node) -> Iterable[Extent]:
    yield from node.shape
    if node.op.name == "extent":
        yield node["dim"]


def _pruned(graph: Graph) -> Graph:
    """Without the names and places of nodes that are not in the graph."""
    kept = {*graph.leaves, *graph.steps}
    return replace(
        graph,
        names={node: name for node, name in graph.names.items() if node in kept},
        origins={node: places for node, places in graph.origins.items() if node in kept},
    )


# the cut --------------------------------------------------------------------------------------------------------------


def _minimum_cut(below: list[Node], gradients: tuple[Node, ...], cotangents: list[Node]) -> list[Node]:
    """The values to save, in topological order.

    A value is an edge from (node, "in") to (node, "out") that costs its bytes; the source feeds expensive steps, the
    sink drains what backward reads. Only steps between the two matter.
    """
    late = set(cotangents)
    for node in below:
        if any(operand in late for operand in node.operands):
            late.add(node)
    early = [node for node in below if node not in late]
    read = {operand for node in below if node in late for operand in node.operands} | set(gradients)
    wanted = _needed(early, read)
    costly: set[Node] = set()
    for node in early:
        if node.op in EXPENSIVE or any(operand in costly for operand in node.operands):
            costly.add(node)
    between = [node for node in early if node in costly and node in wanted]
    if not between:
        return []
    return _cut(between, read)


def _needed(early: list[Node], read: set[Node]) -> set[Node]:
    """What backward reads, and what it takes to recompute that."""
    wanted: set[Node] = set()
    for node in reversed(early):
        if node in read:
            wanted.add(node)
        if node in wanted and node.op not in EXPENSIVE:
            wanted.update(node.operands)
    return wanted


def _cut(between: list[Node], read: set[Node]) -> list[Node]:
    import networkx

    network = networkx.DiGraph()
    inside = set(between)
    for node in between:
        network.add_edge((node, "in"), (node, "out"), capacity=_nominal_bytes(node))
        if node in read:
            network.add_edge((node, "out"), "backward")
        if node.op in EXPENSIVE:
            network.add_edge("forward", (node, "in"))
            continue
        for operand in node.operands:
            if operand in inside:
                network.add_edge((operand, "out"), (node, "in"))
    if "forward" not in network or "backward" not in network:
        return []
    # Of equally small cuts this is the one nearest to the backward graph, which recomputes least.
    _, (early_side, late_side) = networkx.minimum_cut(network, "forward", "backward")
    return [node for node in between if (node, "in") in early_side and (node, "out") in late_side]


def _nominal_bytes(node: Node) -> int:
    return max(nominal(node.type.size), 1) * node.dtype.itemsize
