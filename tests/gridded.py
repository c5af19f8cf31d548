"""A graph on its way to a GPU: its program mapped to a grid, and its values from the kernels on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
from lowered import Case

from graphc.codegen.cache import load
from graphc.codegen.cuda.emit import emit_cuda
from graphc.codegen.cuda.host_text import device_results, index_checks
from graphc.codegen.host_text import host_name
from graphc.device import queue_at_hand, uploaded
from graphc.ir.dims import bind
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims
from graphc.ir.loops import Program
from graphc.passes.fuse import Fuse
from graphc.passes.grid import MapToGrid
from graphc.passes.lower import Lower
from graphc.passes.memory import PlanMemory


def on_grid(
    graph: Graph, blocks: int = 3, threads: int = 4, least: int = 0, deterministic: bool = False
) -> Program:
    """The program on a grid, every kernel on several blocks where that is possible, or worth it."""
    fused = Fuse(row_blocks=False, scan_pieces=4).run(Lower().run(graph))
    return PlanMemory(in_place=False).run(MapToGrid(blocks, threads, least, deterministic).run(fused))


def kernels(program: Program) -> dict[str, Any]:
    """The kernels of its module, by name."""
    module = load(f"{program.name}_cuda", emit_cuda(program))
    return {name: each for name, each in vars(module).items() if hasattr(each, "declared")}


def from_device(program: Program, case: Case) -> dict[str, np.ndarray]:
    """Its outputs and updated params from the kernels, on a device or in the simulator."""
    leaves = (*program.inputs, *program.params)
    arrays = {leaf.name: np.array(case.feeds[leaf.name], leaf.dtype) for leaf in leaves}
    sizes = bind_dims({leaf.name: leaf for leaf in leaves}, {name: array.shape for name, array in arrays.items()})
    given = {leaf: uploaded(arrays[leaf.name]) for leaf in leaves}
    constants = [uploaded(array) for _, array in program.constants]
    assert program.arena is not None
    queue = queue_at_hand()
    memory, results = (queue.empty(bind(size, sizes)) for size in (program.arena.size, device_results(program)[1]))
    faults = [queue.flags(len(checks))[1]] if (checks := index_checks(program)) else []
    module = load(f"{program.name}_cuda", emit_cuda(program))
    found = getattr(module, host_name(program))(*given.values(), *constants, memory, results, *faults, queue.stream)
    outputs = found if len(program.outputs) > 1 else (found,) if program.outputs else ()
    values = {f"{k}": queue.download(value) for k, value in enumerate(outputs)}
    return values | {leaf.name: queue.download(given[leaf]) for leaf in set(program.updated)}
