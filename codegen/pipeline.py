"""The whole pipeline: the literal tuple of passes from the graph that users declared to the source that runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graphc.codegen.cuda.emit import CudaOptions, emit_cuda
from graphc.codegen.emit import EmitOptions, emit
from graphc.ir.graph import Graph, naming
from graphc.ir.loop_text import print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Program
from graphc.passes.canonicalize import Canonicalize
from graphc.passes.differentiate import Differentiate
from graphc.passes.fuse import Fuse
from graphc.passes.grid import MapToGrid
from graphc.passes.lower import Lower
from graphc.passes.manager import LANGUAGES as TENSOR_LANGUAGES
from graphc.passes.manager import Dump, Language, Observer, Paranoid, Pass, Snapshot, State, run_passes
from graphc.passes.memory import PlanMemory
from graphc.passes.pack import Block
from graphc.passes.partition import Partition
from graphc.passes.simplify import Simplify
from graphc.passes.stabilize import Stabilize
from graphc.passes.threads import Split

# Elements of a matrix from which on a GPU's library multiplies better than a kernel that does other things too.
SMALLEST_MATRIX = 64
# In how many pieces a GPU runs a long scan: enough threads to keep memory busy, and few enough totals for one of them.
# (Not measured.)
SCAN_PIECES = 1024
LANGUAGES: Mapping[type, Language] = {
    **TENSOR_LANGUAGES,
    Program: Language(verify_program, print_program, ".loops"),
    str: Language(lambda source: None, str, ".py"),
}


@dataclass(frozen=True)
class Emit:
    """The last pass: a `loops.Program` becomes the text of a module."""

    options: EmitOptions = field(default_factory=EmitOptions)
    name: str = "emit"

    def run(self, program: Program) -> str:
        """Print the module."""
        return emit(program, self.options)


@dataclass(frozen=True)
class EmitCuda:
    """The last pass for CUDA: a `loops.Program` mapped to a grid becomes the text of a module."""

    precision: str
    name: str = "emit"

    def run(self, program: Program) -> str:
        """Print the module."""
        return emit_cuda(program, self.precision)


def pipeline(
    graph: Graph,
    variant: str,
    n_outputs: int,
    blocks: Sequence[Block] | None,
    after_partition: Sequence[Pass] = (),
    options: EmitOptions = EmitOptions(),  # noqa: B008  # frozen
    threads: int = 1,
    cuda: CudaOptions | None = None,
) -> tuple[Pass, ...]:
    """The passes of a variant ("forward", "joint" or "split") of a built graph, in order.

    `after_partition` are passes on the packed graph that no stage of its own shows: a trainer's updates. Kernels are
    split for more than one of `threads`, and never in what users call from compiled code (`options.standalone`). With
    `cuda` they are a GPU's.
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
        Lower() if cuda is None else Lower(smallest=SMALLEST_MATRIX),
        *(_for_cpu(options, threads) if cuda is None else _for_cuda(cuda)),
    )


def _for_cpu(options: EmitOptions, threads: int) -> tuple[Pass, ...]:
    return Fuse(), *([Split(threads)] if threads > 1 else []), PlanMemory(), Emit(options)


def _for_cuda(options: CudaOptions) -> tuple[Pass, ...]:
    at_once = options.grid.blocks * options.grid.threads
    fuse = Fuse(row_blocks=False, scan_pieces=min(SCAN_PIECES, at_once))
    grid = MapToGrid(options.grid.blocks, options.grid.threads, deterministic=options.deterministic)
    return fuse, grid, PlanMemory(in_place=False), EmitCuda(options.matmul_precision)


def compile_graph(graph: Graph, passes: Sequence[Pass]) -> tuple[Snapshot, ...]:
    """Run the passes, verified.

    With ``GRAPHC_DUMP=directory`` every stage is written there too (for several threads, into a folder of its own,
    ``threads-<n>``), with ``fusion.txt`` (what was not fused, and why) and ``repro.py`` (a program that compiles and
    runs the graph by itself). With ``GRAPHC_PARANOID=1`` every graph is interpreted before and after each pass.
    """
    observers: list[Observer] = []
    if directory := os.environ.get("GRAPHC_DUMP"):
        folder = Path(directory).joinpath(*(f"threads-{each.threads}" for each in passes if isinstance(each, Split)))
        folder.mkdir(parents=True, exist_ok=True)
        observers += [Dump(folder, LANGUAGES), DumpFusion(folder), DumpRepro(folder, bool(graph.wrt))]
    if os.environ.get("GRAPHC_PARANOID", "0") != "0":
        observers.append(Paranoid())
    return run_passes(graph, passes, observers, LANGUAGES)


@dataclass(frozen=True)
class DumpFusion:
    """Writes ``fusion.txt``: each refusal of the fuser, with its reason."""

    directory: Path

    def __call__(self, index: int, before: State, snapshot: Snapshot) -> None:
        """Write it after `fuse`."""
        if snapshot.stage == "fuse":
            lines = [line for program in snapshot.state for line in (f"{program.name}:", *program.refusals)]
            (self.directory / "fusion.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class DumpRepro:
    """Writes ``repro.py``: reads the graph that stands beside it, compiles it and calls it with sampled feeds."""

    directory: Path
    differentiated: bool

    def __call__(self, index: int, before: State, snapshot: Snapshot) -> None:
        """Write it after `build`."""
        if snapshot.stage == "build":
            call = "value_and_grad" if self.differentiated else "__call__"
            (self.directory / "repro.py").write_text(REPRO.format(call=call), encoding="utf-8")


REPRO = '''"""Compile and call the graph in 00-build.gir."""

from pathlib import Path

import graphc
from graphc.ir.text import parse_graph
from graphc.passes.manager import sample_feed, sample_sizes

graph = parse_graph((Path(__file__).parent / "00-build.gir").read_text(encoding="utf-8"))
sizes = sample_sizes(graph)
feeds = {{graph.names[node]: sample_feed(node, graph.names[node], sizes) for node in graph.leaves}}
program = graphc.compile(graph)
print(program.{call}(**feeds))
'''
