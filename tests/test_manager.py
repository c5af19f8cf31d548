"""The pass manager: states, verification, dumps, and the paranoid comparison that names a guilty pass."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.ir.core import INPUT, PARAM, Node, full, leaf
from graphc.ir.dims import dim
from graphc.ir.errors import CompileError
from graphc.ir.graph import Graph
from graphc.ir.ops import exp, gather, iota, log, matmul, max_, restore, slice_, sum_, tanh, wrap_index
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import TensorType
from graphc.passes.canonicalize import Canonicalize
from graphc.passes.differentiate import Differentiate
from graphc.passes.manager import (
    STAGES,
    VARIANTS,
    Dump,
    Paranoid,
    run_passes,
    sample_feed,
    sample_sizes,
)  # fmt: skip
from graphc.passes.pack import Block, pack
from graphc.passes.partition import Partition
from graphc.passes.simplify import Simplify
from graphc.passes.stabilize import Stabilize

F64 = np.dtype("float64")


def network() -> Graph:
    """Softmax regression by hand: what canonicalize, stabilize and simplify each have work in."""
    x, labels = leaf(INPUT, TensorType(F64, (dim("N"), 4))), leaf(INPUT, TensorType(np.dtype("int64"), (dim("N"),)))
    w = leaf(PARAM, TensorType(F64, (4, 3)))
    logits = matmul(x, w) * 1
    shifted = logits - restore(max_(logits, axes=(1,)), (1,), logits.shape)
    weights = exp(shifted)
    chances = weights / restore(sum_(weights, axes=(1,)), (1,), logits.shape)
    rows = iota(shape=(dim("N"),), axis=0, dtype=labels.dtype)
    loss = -sum_(log(gather(chances, rows, wrap_index(labels, extent=3), axes=(0, 1))), axes=(0,))
    names = {x: "x", labels: "labels", w: "w", logits: "logits", chances: "chances", loss: "loss"}
    return Graph("net", (x, labels), (w,), (loss, chances), wrt=(w,), names=names)


def start(variant: str) -> Graph:
    graph = network()
    return replace(graph, wrt=()) if variant == "forward" else graph


def graph_passes(variant: str, n_outputs: int = 1) -> tuple[Any, ...]:
    split_after = n_outputs if variant == "split" else None
    passes = (Canonicalize(), Stabilize(), Differentiate(seeded=variant != "split"), Simplify())
    return (*passes, Partition(split_after, None))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pipeline_with_every_observer(variant: str, tmp_path: Path) -> None:
    snapshots = run_passes(start(variant), graph_passes(variant, 2), [Dump(tmp_path), Paranoid()])
    assert tuple(snapshot.stage for snapshot in snapshots) == STAGES[: len(snapshots)] == STAGES[:6]
    assert [len(snapshot.state) for snapshot in snapshots] == [1] * 5 + [2 if variant == "split" else 1]
    assert all(snapshot.seconds >= 0 for snapshot in snapshots)
    assert {len(snapshots[k].state[0].outputs) for k in (0, 1, 2)} == {2}
    assert len(snapshots[4].state[0].outputs) == (2 if variant == "forward" else 3)
    assert not {"anchor", "scatter_add"} & {node.op.name for node in snapshots[4].state[0].steps}
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"{k:02d}-{stage}.gir" for k, stage in enumerate(STAGES[:6])]
    text = (tmp_path / "02-stabilize.gir").read_text()
    assert "log_softmax" in text
    assert print_graph(parse_graph(text)).rstrip() == text.rstrip()
    assert (tmp_path / "05-partition.gir").read_text().count("graph @") == len(snapshots[5].state)


def test_a_graph_of_which_nothing_is_asked_passes_through() -> None:
    x = leaf(INPUT, TensorType(F64, (3,)))
    graph = Graph("g", (x,), (), (tanh(x),), names={x: "x"})
    assert all(snapshot.state[0].outputs == graph.outputs for snapshot in run_passes(graph, graph_passes("forward")))


@dataclass(frozen=True)
class Replace:
    """A guilty pass: the first output becomes something else."""

    change: Any
    name: str = "sabotage"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, outputs=(self.change(graph.outputs[0]), *graph.outputs[1:]))


def test_paranoid_names_the_pass_that_changed_a_value() -> None:
    passes = (*graph_passes("joint"), Replace(lambda node: node * 1.001))
    with pytest.raises(CompileError, match=r"the pass sabotage changed the value of loss: \S+ before, \S+ after\n"):
        run_passes(network(), passes, [Paranoid()])
    run_passes(network(), passes)


def test_paranoid_looks_through_the_split() -> None:
    @dataclass(frozen=True)
    class Halve:
        name: str = "halve"

        def run(self, graph: Graph) -> Graph:
            if not graph.name.endswith(".backward"):
                return graph
            return replace(graph, outputs=tuple(node * 0.5 for node in graph.outputs))

    with pytest.raises(CompileError, match="the pass halve changed the value of"):
        run_passes(network(), (*graph_passes("split", 2), Halve()), [Paranoid()])


def test_what_does_not_verify_names_its_pass() -> None:
    stranger = leaf(INPUT, TensorType(F64, ()))
    with pytest.raises(CompileError, match="what sabotage made is not well-formed: the graph net is"):
        run_passes(network(), (Replace(lambda node: node + stranger),))
    graph = network()
    with pytest.raises(CompileError, match="what build made is not well-formed"):
        run_passes(replace(graph, inputs=()), ())


def test_passes_may_leave_the_graphs() -> None:
    @dataclass(frozen=True)
    class Print:
        name: str = "lower"

        def run(self, graph: Graph) -> str:
            return print_graph(graph)

    *_, last = run_passes(network(), (*graph_passes("split", 2), Print()), [Paranoid()])
    assert [text.split("(")[0] for text in last.state] == ["graph @net.forward", "graph @net.backward"]


def test_paranoid_leaves_passes_that_replace_leaves() -> None:
    @dataclass(frozen=True)
    class Pack:
        name: str = "pack"

        def run(self, graph: Graph) -> Graph:
            blocks = Block.layouts((graph.names[node], node.dtype, node.shape) for node in graph.params)
            return pack(graph, blocks, ((network().params[0], "w"),))

    *_, last = run_passes(network(), (*graph_passes("joint"), Pack()), [Paranoid()])
    assert [last.state[0].names[node] for node in last.state[0].params] == ["params_f64"]


def test_samples_meet_the_guards_and_depend_on_the_name_alone() -> None:
    x = leaf(INPUT, TensorType(F64, (dim("N"), 2)))
    graph = Graph("g", (x,), (), (slice_(x, start=(4, 0), size=(2, 2), step=(1, 1)),), names={x: "x"})
    assert sample_sizes(graph) == {"N": 6}
    assert sample_sizes(replace(graph, outputs=(x,))) == {"N": 3}
    other = leaf(INPUT, x.type)
    np.testing.assert_array_equal(sample_feed(x, "x", {"N": 4}), sample_feed(other, "x", {"N": 4}))
    assert not np.array_equal(sample_feed(x, "x", {"N": 4}), sample_feed(x, "y", {"N": 4}))
    kinds = sample_feed(leaf(INPUT, TensorType(np.dtype("int8"), (50,))), "k", {})
    assert set(kinds) == {0, 1} and kinds.dtype == np.int8


def test_paranoid_takes_nan_for_nan_and_rounding_for_equal() -> None:
    def run(change: Any) -> None:
        x = leaf(INPUT, TensorType(F64, (3,)))
        graph = Graph("g", (x,), (), (full(np.nan, x.type) + x,), names={x: "x"})
        run_passes(graph, (Replace(change),), [Paranoid()])

    run(lambda node: node * 2)
    with pytest.raises(CompileError, match="sabotage"):
        run(lambda node: full(1, node.type))


def test_no_pass_is_timed_as_another() -> None:
    seen: list[tuple[int, str, int]] = []

    def watch(index: int, before: tuple[Node, ...], snapshot: Any) -> None:
        seen.append((index, snapshot.stage, len(before)))

    run_passes(network(), graph_passes("split", 2), [watch])
    assert seen == [(k, stage, 1) for k, stage in enumerate(STAGES[:6])]
