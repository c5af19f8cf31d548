"""Pack: one array per block of parameters, for their gradients and for their next values.

A call then takes a handful of arguments, an optimiser is one kernel over one array, and a flat vector for a solver is
free. Inside the graph each parameter is a slice of its packed leaf, reshaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.ir.core import PARAM, Node, full, leaf, rebuild
from graphc.ir.graph import Graph
from graphc.ir.ops import concatenate, reshape, slice_
from graphc.ir.types import DTYPES, TensorType


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an array lies in a packed one: ``packed[offset:offset + size].reshape(shape)``."""

    name: str
    offset: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def view(self, packed: Any) -> Any:
        """The array itself, a view of the packed one."""
        return packed[self.offset : self.offset + self.size].reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Block:
    """Parameters of one dtype in one array: slots in order and without gaps."""

    name: str
    dtype: np.dtype[Any]
    slots: tuple[Slot, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.slots[-1].offset + self.slots[-1].size

    @classmethod
    def layouts(cls, params: Iterable[tuple[str, np.dtype[Any], tuple[int, ...]]]) -> tuple[Block, ...]:
        """Blocks named ``params_f32``, ... for parameters given as (name, dtype, shape): one for each dtype."""
        slots: dict[np.dtype[Any], list[Slot]] = {}
        for name, dtype, shape in params:
            group = slots.setdefault(dtype, [])
            offset = group[-1].offset + group[-1].size if group else 0
            group.append(Slot(name, offset, shape))
        return tuple(cls(f"params_{DTYPES[dtype.name]}", dtype, tuple(group)) for dtype, group in slots.items())


def pack(graph: Graph, blocks: Sequence[Block], wrt: Sequence[tuple[Node, str]] = ()) -> Graph:
    """The graph with its params as slices of packed leaves, one for each block.

    Parameters
    ----------
    graph : Graph
        Differentiated (`graph.wrt` is empty), params of static shape.
    blocks : sequence of Block
        Where the params live. A block may hold more than this graph uses.
    wrt : sequence of (Node, str)
        The nodes whose gradients are the last outputs, in order, and their names.

    Returns
    -------
    Graph
        Its params are packed leaves, in the order of `blocks`. Its outputs are those that are no gradients of params,
        in order, then for each block with a param in `wrt` one packed array of gradients, zeros for all other slots.
    """
    names = {param: graph.names[param] for param in graph.params}
    homes = [leaf(PARAM, TensorType(block.dtype, (block.size,))) for block in blocks]
    parts = _parts(names, blocks, homes)
    new: dict[Node, Node] = {node: parts.get(node, node) for node in graph.leaves}
    for step in graph.steps:
        new[step] = rebuild(step, tuple(new[operand] for operand in step.operands))
    moved = graph.remap(new)

    plain = len(graph.outputs) - len(wrt)
    found = list(zip(wrt, moved.outputs[plain:], strict=True))
    gradients = {name: value for (node, name), value in found if node.op is PARAM}
    others = [value for (node, _), value in found if node.op is not PARAM]
    packed = [
        (block, _flat(block, gradients)) for block in blocks if any(slot.name in gradients for slot in block.slots)
    ]
    updates = {names[param]: value for param, value in moved.updates}
    result = replace(
        moved,
        params=tuple(homes),
        outputs=(*moved.outputs[:plain], *others, *(value for _, value in packed)),
        updates=tuple(
            (home, _flat(block, {slot.name: _part(home, slot) for slot in block.slots} | updates))
            for block, home in zip(blocks, homes, strict=True)
            if any(slot.name in updates for slot in block.slots)
        ),
    )
    labels = {home: block.name for block, home in zip(blocks, homes, strict=True)}
    labels.update((value, f"d_{block.name}") for block, value in packed if value not in result.leaves)
    return _named(result, labels)


def _parts(names: Mapping[Node, str], blocks: Sequence[Block], homes: Sequence[Node]) -> dict[Node, Node]:
    """Each param as a part of its packed leaf."""
    places = {slot.name: (home, slot) for block, home in zip(blocks, homes, strict=True) for slot in block.slots}
    return {param: _part(*places[name]) for param, name in names.items()}


def _part(home: Node, slot: Slot) -> Node:
    """One slot of a packed leaf."""
    whole = home.shape == (slot.size,)
    part = home if whole else slice_(home, start=(slot.offset,), size=(slot.size,), step=(1,))
    return part if part.shape == slot.shape else reshape(part, shape=slot.shape)


def _flat(block: Block, values: Mapping[str, Node]) -> Node:
    """The values of a block's slots, zeros where there is none, one after the other in one vector."""
    flat = []
    for slot in block.slots:
        value = values.get(slot.name) or full(0, TensorType(block.dtype, slot.shape))
        flat.append(value if len(value.shape) == 1 else reshape(value, shape=(slot.size,)))
    return flat[0] if len(flat) == 1 else concatenate(*flat, axis=0)


def _named(graph: Graph, labels: Mapping[Node, str]) -> Graph:
    """The graph with the names of what it contains, and labels where they are free."""
    kept = {*graph.leaves, *graph.steps}
    names = {node: name for node, name in graph.names.items() if node in kept}
    taken = set(names.values())
    for node, name in labels.items():
        taken.discard(names.get(node, ""))
        while name in taken:
            name += "_"
        names[node] = name
        taken.add(name)
    origins = {node: places for node, places in graph.origins.items() if node in kept}
    return replace(graph, names=names, origins=origins)
