"""A graph on its way to machine code: its program after each stage, and its values from each of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from op_samples import Sample

from graphc.codegen.cache import load
from graphc.codegen.emit import emit
from graphc.codegen.host_text import host_name
from graphc.ir.core import Node
from graphc.ir.graph import Graph, naming
from graphc.ir.interpret import bind_dims, evaluate_nodes
from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Program
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower
from graphc.passes.memory import PlanMemory

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
    kept = [replace(sample) for sample in samples]
    names, feeds = {}, {}
    for k, sample in enumerate(kept):
        for place, (operand, array) in enumerate(zip(sample.node.operands, sample.arrays, strict=True)):
            names[operand] = f"x{k}_{place}"
            feeds[f"x{k}_{place}"] = array
    graph = Graph(name, tuple(names), (), tuple(sample.node for sample in kept), names=names)
    return Case(graph, feeds)


def stages(graph: Graph) -> dict[str, Program]:
    """The program after lower, fuse and memory."""
    lowered = Lower().run(graph)
    fused = Fuse().run(lowered)
    return {"lower": lowered, "fuse": fused, "memory": PlanMemory().run(fused)}


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
    module = load(program.name, emit(program))
    arrays = {leaf.name: np.array(case.feeds[leaf.name], leaf.dtype) for leaf in (*program.inputs, *program.params)}
    updated = set(program.updated)
    passed = [
        arrays[leaf.name] if leaf.shape or leaf in updated else arrays[leaf.name][()]
        for leaf in (*program.inputs, *program.params)
    ]
    results = getattr(module, host_name(program))(*passed, *(array for _, array in program.constants))
    outputs = results if len(program.outputs) > 1 else (results,) if program.outputs else ()
    found = {f"{k}": np.asarray(value) for k, value in enumerate(outputs)}
    return found | {buffer.name: arrays[buffer.name] for buffer in program.updated}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any], ulp: float = 0, labels: Sequence[Any] = ()) -> None:
    """Equal dtypes, shapes, signs of zero, NaN and infinities; other floats within some units in the last place."""
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        got, label = found[name], labels[int(name)] if labels and name.isdigit() else name
        assert (got.dtype, got.shape) == (want.dtype, want.shape), label
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want, err_msg=str(label))
            continue
        eps = np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=ulp * eps, atol=ulp * np.finfo(want.dtype).tiny, err_msg=str(label))
        zero = want == 0
        np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero], err_msg=f"{label}: sign of zero")
