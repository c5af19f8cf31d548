"""A graph on its way to machine code: its program after each stage, and its values from each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from op_samples import Sample

from graphc.codegen.cache import load
from graphc.codegen.emit import emit
from graphc.codegen.host_text import host_name
from graphc.codegen.threads import launch
from graphc.ir.graph import Graph, naming
from graphc.ir.interpret import evaluate_nodes
from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loops import Program
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower
from graphc.passes.memory import PlanMemory
from graphc.passes.threads import Split

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A graph and what it is fed."""

    graph: Graph
    feeds: Feeds

    def __str__(self) -> str:
        return self.graph.name


def combined(name: str, samples: Iterable[Sample]) -> Case:
    """One graph with an output per sample."""
    kept = list(samples)
    names, feeds = {}, {}
    for k, sample in enumerate(kept):
        for place, (operand, array) in enumerate(zip(sample.node.operands, sample.arrays, strict=True)):
            names[operand] = f"x{k}_{place}"
            feeds[f"x{k}_{place}"] = array
    graph = Graph(name, tuple(names), (), tuple(sample.node for sample in kept), names=names)
    return Case(graph, feeds)


def stages(graph: Graph) -> dict[str, Program]:
    """The program after lower, fuse and memory, and for three threads."""
    lowered = Lower().run(graph)
    fused = Fuse().run(lowered)
    split = Split(3, least=0).run(fused)
    return {
        "lower": lowered, "fuse": fused, "memory": PlanMemory().run(fused), "threads": PlanMemory().run(split)
    }  # fmt: skip


def expected_values(case: Case) -> dict[str, np.ndarray]:
    """What the interpreter of tensors says of every output and every updated param, by the names of buffers."""
    graph = case.graph
    values = evaluate_nodes(graph, case.feeds)
    names = naming(graph)
    found = {f"{k}": values[node] for k, node in enumerate(graph.outputs)}
    return found | {names[param]: values[value] for param, value in graph.updates}


def interpreted(program: Program, case: Case) -> dict[str, np.ndarray]:
    """The same values from a program, by the interpreter of loops."""
    values = interpret_program(program, case.feeds)
    found = {f"{k}": values[buffer.name] for k, buffer in enumerate(program.outputs)}
    return found | {buffer.name: values[buffer.name] for buffer in program.updated}


def compiled(program: Program, case: Case) -> dict[str, np.ndarray]:
    """The same values from machine code."""
    launch()  # what runs in threads needs them, whichever test is the first of its process
    module = load(program.name, emit(program))
    arrays = {leaf.name: np.array(case.feeds[leaf.name], leaf.dtype) for leaf in (*program.inputs, *program.params)}
    updated = set(program.updated)
    passed = [
        arrays[leaf.name] if leaf.shape or leaf in updated else arrays[leaf.name][()]
        for leaf in (*program.inputs, *program.params)
    ]
    results = getattr(module, host_name(program))(*passed, *(array for _, array in program.constants))
    outputs = results if len(program.outputs) > 1 else (results,) if program.outputs else ()
    # Numba gives Python a float for a float32.
    pairs = enumerate(zip(outputs, program.outputs, strict=True))
    found = {f"{k}": np.asarray(value, None if buffer.shape else buffer.dtype) for k, (value, buffer) in pairs}
    return found | {buffer.name: arrays[buffer.name] for buffer in program.updated}


def assert_same(
    found: Mapping[str, Any], expected: Mapping[str, Any], ulp: float = 0, magnitude: float = 0, zeros: bool = True
) -> None:
    """Equal dtypes, shapes, NaN, infinities and signs of zero (`zeros`); other floats within units in the last place.

    A sum of terms as large as `magnitude` may be off by units of that.
    """
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        got = found[name]
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want, err_msg=name)
            continue
        info = np.finfo(want.dtype)
        rtol, atol = ulp * info.eps, ulp * (info.smallest_subnormal + info.eps * magnitude)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=name)
        if zeros and not magnitude:
            zero = (want == 0) & (got == 0)
            np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero], err_msg=f"{name}: signs")
