"""The whole pipeline: the literal tuple of passes from the graph that users declared to the source that runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphc.codegen.emit import EmitOptions, emit
from graphc.ir.core import Node
from graphc.ir.graph import Graph, naming
from graphc.ir.loop_text import print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Program
from graphc.passes.canonicalize import Canonicalize
from graphc.passes.differentiate import Differentiate
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower
from graphc.passes.manager import LANGUAGES as TENSOR_LANGUAGES
from graphc.passes.manager import Dump, Language, Observer, Pass, Snapshot, run_passes
from graphc.passes.memory import PlanMemory
from graphc.passes.pack import Block, pack
from graphc.passes.partition import split
from graphc.passes.simplify import Simplify
from graphc.passes.stabilize import Stabilize

LANGUAGES: Mapping[type, Language] = {
    **TENSOR_LANGUAGES,
    Program: Language(verify_program, print_program, ".loops"),
    str: Language(lambda source: None, str, ".py"),
}


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


@dataclass(frozen=True)
class Emit:
    """The last pass: a `loops.Program` becomes the text of a module."""

    options: EmitOptions = EmitOptions()
    name: str = "emit"

    def run(self, program: Program) -> str:
        """Print the module."""
        return emit(program, self.options)


def pipeline(
    graph: Graph,
    variant: str,
    n_outputs: int,
    blocks: Sequence[Block] | None,
    after_partition: Sequence[Pass] = (),
    options: EmitOptions = EmitOptions(),  # noqa: B008  # frozen
) -> tuple[Pass, ...]:
    """The passes of a variant ("forward", "joint" or "split") of a built graph, in order.

    `after_partition` are passes on the packed graph that no stage of its own shows: a trainer's updates.
    """
    split_after = n_outputs if variant == "split" else None
    packed = None if blocks is None else tuple(blocks)
    names = naming(graph)
    return (
        Canonicalize(),
        Stabilize(),
        Differentiate(seeded=variant != "split"),
        Simplify(),
        Partition(split_after, packed, tuple((node, names[node]) for node in graph.wrt)),
        *after_partition,
        Lower(),
        Fuse(),
        PlanMemory(),
        Emit(options),
    )


def compile_graph(graph: Graph, passes: Sequence[Pass]) -> tuple[Snapshot, ...]:
    """Run the passes, verified; with ``GRAPHC_DUMP=directory`` every stage is written there too."""
    observers: list[Observer] = []
    if directory := os.environ.get("GRAPHC_DUMP"):
        observers.append(Dump(Path(directory), LANGUAGES))
    return run_passes(graph, passes, observers, LANGUAGES)
