"""Lower: from tensor nodes to loops, one kernel per node that computes something, one call per matrix product.

Layout ops become kernels that copy with another index; `fuse` dissolves them into their readers. What is already
contiguous costs nothing at all: reshapes are aliases, and the pieces of a leading-axis concatenation are written where
they belong ("homes"). How each op becomes loops stands in `loop_forms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Node, constant, extent, full, rebuild, scalar_value
from graphc.ir.dims import Extent
from graphc.ir.graph import Graph, naming
from graphc.ir.half import SINGLE, computes_wide
from graphc.ir.loops import Buffer, Call, Index, Load, Program, Step, Straight, Value
from graphc.ir.types import Shape, is_half
from graphc.passes.loop_forms import LOOP_FORMS, literal, pointwise
from graphc.passes.products import settle_sums
from graphc.passes.stages import Axes, Stage, axes_of, free_name, identity, stage_kernel

# What is there before anything is computed.
GIVEN = (INPUT, PARAM, constant, extent)


@dataclass(frozen=True)
class Lower:
    """The pass: `Graph` in, `Program` of unfused kernels out.

    Products of floats are loops where a side is short; with `smallest` only those with a matrix of so few elements.
    """

    smallest: int | None = None
    name: str = "lower"

    def run(self, graph: Graph) -> Program:
        """Lower a graph without wrt (differentiate first)."""
        return Lowering(widen_halves(expand_composites(widen_halves(graph))), self.smallest).program()


def widen_halves(graph: Graph) -> Graph:
    """The graph with every op that computes on halves in float32: operands converted to it, the result rounded back.

    What is a composite is rounded as a whole, hence once before `expand_composites`. Kernels then see halves in loads,
    stores and conversions alone.
    """
    return graph.rewrite(_widened)


def _widened(step: Node, operands: tuple[Node, ...]) -> Node:
    if not computes_wide(step.op, [operand.dtype for operand in operands]):
        return rebuild(step, operands)
    result = step.op(*map(_single, operands), **dict(step.attrs))
    return result if result.dtype == step.dtype else ops.cast(result, dtype=step.dtype)


def _single(node: Node) -> Node:
    """A half as float32; other nodes as they are."""
    if not is_half(node.dtype):
        return node
    number = scalar_value(node)
    return ops.cast(node, dtype=SINGLE) if number is None else full(number, node.type.with_dtype(SINGLE))


def expand_composites(graph: Graph) -> Graph:
    """The graph in primitive ops: every op that declares `expand` replaced by what it says."""
    while any(step.op.expand for step in graph.steps):
        graph = graph.rewrite(_expanded)
    return graph


def _expanded(step: Node, operands: tuple[Node, ...]) -> Node:
    node = rebuild(step, operands)
    return node.op.expand(node) if node.op.expand else node


@dataclass
class Lowering:
    """The state of one lowering: the buffer of every node so far, and the steps."""

    graph: Graph
    smallest: int | None = None
    names: dict[Node, str] = field(init=False)
    taken: set[str] = field(init=False)
    buffers: dict[Node, Buffer] = field(default_factory=dict)
    homes: dict[Node, Buffer] = field(default_factory=dict)
    constants: list[tuple[Buffer, np.ndarray]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    factors: dict[Node, Buffer] = field(default_factory=dict)  # LU of matrices that several nodes solve with
    called: set[Buffer] = field(default_factory=set)  # what library calls store to
    addends: dict[Node, Node] = field(default_factory=dict)  # of a sum of products, the one that is added to the other

    def __post_init__(self) -> None:
        self.names = naming(self.graph)
        self.taken = set(self.names.values())

    def program(self) -> Program:
        """Lower everything: leaves, steps, outputs, updates."""
        graph = self.graph
        for node in graph.leaves:
            space = "input" if node.op is INPUT else "param"
            self.buffers[node] = Buffer(self.names[node], node.dtype, node.shape, space)
        outputs = self._settle_homes()
        settle_sums(self)
        for node in graph.steps:
            self.lower(node)
        for node, buffer in zip(graph.outputs, outputs, strict=True):
            if self.buffers.get(node) != buffer:
                self.copy(node, buffer)
        inputs, params = (tuple(self.buffers[node] for node in leaves) for leaves in (graph.inputs, graph.params))
        self._store_updates()
        return Program(
            graph.name,
            graph.dim_names,
            inputs,
            params,
            outputs,
            live_steps(self.steps),
            constants=tuple(self.constants),
        )

    def call(self, *step: Any) -> None:
        """Add a library call."""
        self.steps.append(Call(*step))
        self.called.update(buffer.root for buffer in self.steps[-1].writes)

    def _store_updates(self) -> None:
        """Store the next values of parameters, all at once: what stands in memory to be overwritten is saved first."""
        updates = [(self.buffers[param], value) for param, value in self.graph.updates]
        overwritten = {buffer for buffer, _ in updates}
        for _, value in updates:
            if value in self.buffers and self.buffers[value].root in overwritten:
                saved = Buffer(self.new_name(f"{self.names[value]}_old"), value.dtype, value.shape, "arena")
                self.copy(value, saved)
                self.buffers[value] = saved
        for buffer, value in updates:
            self.copy(value, buffer)

    # where values live --------------------------------------------------------------------------------------

    def _settle_homes(self) -> tuple[Buffer, ...]:
        """Decide which values are computed in place: outputs, and (through reshapes) pieces of concatenations."""
        outputs: list[Buffer] = []
        for node in self.graph.outputs:
            elsewhere = node.op in GIVEN or node in self.homes
            name = self.new_name(f"{self.names[node]}_out") if elsewhere else self.names[node]
            outputs.append(Buffer(name, node.dtype, node.shape, "output"))
            self._house(node, outputs[-1])
        for node in reversed(self.graph.steps):
            if node.op is ops.concatenate and node["axis"] == 0:
                whole = self.homes.setdefault(node, Buffer(self.names[node], node.dtype, node.shape, "arena"))
                offset: Extent = 0
                for piece in node.operands:
                    self._house(piece, self.part(whole, piece.shape, offset))
                    offset = offset + piece.type.size
        return tuple(outputs)

    def _house(self, node: Node, home: Buffer) -> None:
        """Let `node` be computed in `home`, where it has none yet and is computed at all."""
        while node not in self.homes and node.op not in GIVEN:
            space = home.space if home.base is None and home.shape == node.shape else "alias"
            base = None if space != "alias" else home.base or home
            self.homes[node] = Buffer(self.names[node], node.dtype, node.shape, space, base, home.offset)
            if node.op is not ops.reshape:
                return
            node = node.operands[0]

    def part(self, whole: Buffer, shape: Shape, offset: Extent = 0) -> Buffer:
        """A contiguous part of a buffer."""
        return Buffer(self.new_name(f"{whole.name}_part"), whole.dtype, shape, "alias", whole, offset)

    def new_name(self, name: str) -> str:
        """A name that no value and no other buffer has."""
        free = free_name(name, self.taken)
        self.taken.add(free)
        return free

    def home(self, node: Node) -> Buffer:
        """The buffer that a node is computed into."""
        return self.homes.get(node) or Buffer(self.names[node], node.dtype, node.shape, "arena")

    def settle(self, node: Node) -> Buffer:
        """Remember that a node is computed into its home, from now on."""
        return self.buffers.setdefault(node, self.home(node))

    # making steps -------------------------------------------------------------------------------------------

    def lower(self, node: Node, name: str = "") -> None:
        """Add the steps of a node, once; `name` is for one that a loop form made and the graph does not have."""
        if node in self.buffers:
            return
        if node not in self.names:
            self.names[node] = self.new_name(name)
        LOOP_FORMS.get(node.op.name, pointwise)(self, node)

    def stage(self, node: Node, axes: Axes, body: list[Straight], value: Value, **reduction: Any) -> None:
        """Add the kernel of one stage and remember its buffer."""
        self.store(node, self.settle(node), axes, body, value, **reduction)

    def store(
        self, node: Node, buffer: Buffer, axes: Axes, body: list[Straight], value: Value, **reduction: Any
    ) -> None:
        """Add the kernel of a stage that computes a value into any buffer."""
        self.steps.append(stage_kernel(Stage(buffer, axes, tuple(body), value, origin=self.names[node], **reduction)))

    def copy(self, node: Node, buffer: Buffer) -> None:
        """Store a value a second time: an output that lives elsewhere, the next value of a parameter."""
        axes = axes_of(node)
        body: list[Straight] = []
        value = self.read(node, identity(axes), body, f"{buffer.name}_next")
        self.store(node, buffer, axes, body, value)

    def read(self, node: Node, index: Index, body: list[Straight], name: str = "", mask: str | None = None) -> Value:
        """The element of a value at an index: a number where it is one, else a load added to the body."""
        if (number := literal(node)) is not None and mask is None:
            return number
        name = name or self.names[node]
        taken = {getattr(statement, "name", "") for statement in body}
        name = free_name(name, taken)
        body.append(Load(name, self.materialised(node), index, mask))
        return name

    def is_in_memory(self, node: Node) -> bool:
        """Whether a value stands in memory anyhow, from the caller or a library: another view of it costs nothing."""
        if node not in self.buffers:
            return False
        root = self.buffers[node].root
        return root.space in ("input", "param", "constant") or root in self.called

    def materialised(self, node: Node) -> Buffer:
        """The buffer that holds a value; numbers that a call wants as an array are filled in here."""
        if node not in self.buffers:
            number = literal(node)
            assert number is not None
            self.stage(node, axes_of(node), [], number)
        return self.buffers[node]


def live_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that somebody reads, that store results, or that check (a transpose folded into a flag is dead)."""
    read: set[Buffer] = set()
    kept: list[Step] = []
    for step in reversed(steps):
        roots = [buffer.root for buffer in step.writes]
        if not roots or any(root in read or root.space in ("output", "param") for root in roots):
            read.update(buffer.root for buffer in step.reads)
            kept.append(step)
    return tuple(reversed(kept))
