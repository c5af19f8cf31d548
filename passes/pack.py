"""Pack: one array per dtype for all parameters, for their gradients and for their next values.

A call then takes a handful of arguments, an optimiser is one kernel over one array, and a flat vector for a solver is
free. Inside the graph each parameter is a slice of the packed leaf, reshaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.ir.core import PARAM, Node, leaf, rebuild
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
        return int(np.prod(self.shape, dtype=int))

    def view(self, packed: Any) -> Any:
        """The array itself, a view of the packed one."""
        return packed[self.offset : self.offset + self.size].reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Packing:
    """How arrays are packed: for each dtype the slots, in order and without gaps."""

    slots: Mapping[np.dtype, tuple[Slot, ...]]

    @classmethod
    def of(cls, named: Mapping[Node, str]) -> Packing:
        """Pack values of static shape, each dtype in the order given."""
        slots: dict[np.dtype, list[Slot]] = {}
        for node, name in named.items():
            group = slots.setdefault(node.dtype, [])
            offset = group[-1].offset + group[-1].size if group else 0
            group.append(Slot(name, offset, tuple(int(extent) for extent in node.shape)))
        return cls({dtype: tuple(group) for dtype, group in slots.items()})

    def size(self, dtype: np.dtype) -> int:
        """The number of elements of one packed array."""
        last = self.slots[dtype][-1]
        return last.offset + last.size


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed graph, and how its params (``params_f32``) and gradients (``d_params_f32``) are packed.

    Its outputs are those of the graph that are no gradients of params, then one array of gradients per dtype.
    """

    graph: Graph
    params: Packing
    gradients: Packing


def pack(graph: Graph, gradients: Sequence[Node] = ()) -> Packed:
    """Pack the params of a graph.

    Parameters
    ----------
    graph : Graph
        Differentiated (`wrt` is empty), params of static shape.
    gradients : sequence of Node
        The wrt whose gradients are the last outputs of the graph, in order. Those that are params are packed.
    """
    names = {param: graph.names[param] for param in graph.params}
    layout = Packing.of(names)
    homes = {dtype: leaf(PARAM, TensorType(dtype, (layout.size(dtype),))) for dtype in layout.slots}
    parts = _parts(graph, layout, homes)
    new: dict[Node, Node] = {node: parts.get(node, node) for node in graph.leaves}
    for step in graph.steps:
        new[step] = rebuild(step, tuple(new[operand] for operand in step.operands))
    moved = graph.remap(new)

    plain = len(graph.outputs) - len(gradients)
    found = dict(zip(gradients, moved.outputs[plain:], strict=True))
    kept = [value for node, value in found.items() if node not in names]
    gradient_layout = Packing.of({param: name for param, name in names.items() if param in found})
    packed_gradients = {
        dtype: _flat([found[param] for param in graph.params if param in found and param.dtype == dtype])
        for dtype in gradient_layout.slots
    }
    labels = {home: f"params_{DTYPES[dtype.name]}" for dtype, home in homes.items()}
    labels.update((value, f"d_params_{DTYPES[dtype.name]}") for dtype, value in packed_gradients.items())
    result = replace(
        moved,
        params=tuple(homes.values()),
        outputs=(*moved.outputs[:plain], *kept, *packed_gradients.values()),
        updates=_updates(graph, dict(moved.updates), parts, homes),
    )
    return Packed(_named(result, labels), layout, gradient_layout)


def _parts(graph: Graph, layout: Packing, homes: Mapping[np.dtype, Node]) -> dict[Node, Node]:
    """Each param as a part of its packed leaf."""
    parts: dict[Node, Node] = {}
    for dtype, slots in layout.slots.items():
        params = (param for param in graph.params if param.dtype == dtype)
        for param, slot in zip(params, slots, strict=True):
            part = homes[dtype]
            if part.shape != (slot.size,):
                part = slice_(part, start=(slot.offset,), size=(slot.size,), step=(1,))
            parts[param] = part if part.shape == slot.shape else reshape(part, shape=slot.shape)
    return parts


def _flat(values: Sequence[Node]) -> Node:
    """Arrays one after the other, as one vector."""
    flat = [value if len(value.shape) == 1 else reshape(value, shape=(value.type.size,)) for value in values]
    return flat[0] if len(flat) == 1 else concatenate(*flat, axis=0)


def _updates(
    graph: Graph, updates: Mapping[Node, Node], parts: Mapping[Node, Node], homes: Mapping[np.dtype, Node]
) -> tuple[tuple[Node, Node], ...]:
    """One next value per packed leaf that changes; a param without an update keeps its part."""
    result = []
    for dtype, home in homes.items():
        params = [param for param in graph.params if param.dtype == dtype]
        if any(param in updates for param in params):
            result.append((home, _flat([updates.get(param, parts[param]) for param in params])))
    return tuple(result)


def _named(graph: Graph, labels: Mapping[Node, str]) -> Graph:
    """The graph with the names of what it contains, and labels where they are free."""
    kept = {*graph.leaves, *graph.steps}
    names = {node: name for node, name in graph.names.items() if node in kept}
    taken = set(names.values())
    for node, name in labels.items():
        while name in taken:
            name += "_"
        if node.op is PARAM or node not in names:
            names[node] = name
            taken.add(name)
    origins = {node: places for node, places in graph.origins.items() if node in kept}
    return replace(graph, names=names, origins=origins)
