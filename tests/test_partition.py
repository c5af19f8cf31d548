"""The split into forward and backward, and the packing of parameters."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphc.ir.core import INPUT, PARAM, Node, full, leaf
from graphc.ir.dims import dim
from graphc.ir.graph import Graph, naming, toposort
from graphc.ir.interpret import interpret
from graphc.ir.ops import (
    broadcast_to,
    cast,
    exp,
    greater,
    log_softmax,
    matmul,
    relu,
    reshape,
    sin,
    square,
    sum_,
    tanh,
    where,
)
from graphc.ir.types import TensorType
from graphc.ir.verify import verify
from graphc.passes.differentiate import Differentiate
from graphc.passes.pack import Block, Slot, pack
from graphc.passes.partition import Partition, split
from graphc.passes.simplify import Simplify

F32, F64, I64 = np.dtype("float32"), np.dtype("float64"), np.dtype("int64")


def variable(*shape: int | str, op: Any = INPUT, dtype: np.dtype = F64) -> Node:
    return leaf(op, TensorType(dtype, tuple(dim(size) for size in shape)))


def network() -> Graph:
    """A tanh layer and a softmax over it."""
    x, w, b, v = variable("N", 4), *(variable(*shape, op=PARAM) for shape in ((4, 8), (8,), (8, 3)))
    pre = matmul(x, w) + broadcast_to(b, shape=(dim("N"), 8))
    hidden = tanh(pre)
    logits = matmul(hidden, v)
    loss = sum_(square(log_softmax(logits, axis=1)), axes=(0, 1))
    named = {"x": x, "w": w, "b": b, "v": v, "pre": pre, "hidden": hidden, "logits": logits, "loss": loss}
    names = {node: name for name, node in named.items()}
    origins = {hidden: ("net.py:4",), loss: ("net.py:6",)}
    return Graph("net", (x,), (w, b, v), (loss,), wrt=(w, b, v, x), names=names, origins=origins)


def joint_of(graph: Graph) -> Graph:
    return Simplify().run(Differentiate(seeded=False).run(graph))


def sample(graph: Graph, sizes: Mapping[str, int] = {"N": 5}) -> dict[str, np.ndarray]:
    names = naming(graph)
    random = np.random.default_rng(3)
    feeds = {}
    for node in graph.leaves:
        shape = [size if isinstance(size, int) else size.bind(sizes) for size in node.shape]
        feeds[names[node]] = random.uniform(-1, 1, shape).astype(node.dtype)
    return feeds


def run_split(joint: Graph, n_outputs: int, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    forward, backward = split(joint, n_outputs)
    verify(forward)
    verify(backward)
    names = naming(forward)
    values = interpret(forward, {names[node]: feeds[names[node]] for node in forward.leaves})
    known = {**feeds, **{names[node]: value for node, value in zip(forward.outputs, values, strict=True)}}
    returned = interpret(backward, {naming(backward)[node]: known[naming(backward)[node]] for node in backward.leaves})
    return [*values[:n_outputs], *returned]


def saved(joint: Graph, n_outputs: int = 1) -> list[str]:
    forward, _ = split(joint, n_outputs)
    return [naming(forward)[node] for node in forward.outputs[n_outputs:]]


# the split ------------------------------------------------------------------------------------------------------------


def test_forward_then_backward_is_the_joint_graph() -> None:
    joint = joint_of(network())
    feeds = sample(joint)
    for left, right in zip(run_split(joint, 1, feeds), interpret(joint, feeds), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-13)


def test_what_is_saved() -> None:
    joint = joint_of(network())
    forward, backward = split(joint, 1)
    # hidden (tanh is saved rather than its input, which would cost the same and a tanh), and the log of the softmax.
    assert [naming(forward)[node] for node in forward.outputs] == ["loss", "hidden", "loss_0"]
    assert [backward.names[node] for node in backward.inputs] == ["x", "hidden", "loss_0", "d_loss"]
    assert [backward.names[node] for node in backward.params] == ["w", "v"]
    assert forward.inputs == joint.inputs[:1]
    assert forward.params == joint.params
    assert (forward.name, backward.name) == ("net.forward", "net.backward")


def test_products_and_reductions_are_never_computed_twice() -> None:
    joint = joint_of(network())
    forward, backward = split(joint, 1)
    primal = set(forward.steps)
    assert not [node for node in backward.steps if node in primal and node.op in (matmul, sum_, log_softmax)]


def test_cheap_chains_of_leaves_are_recomputed() -> None:
    x = variable("N")
    y = sum_(sin(exp(square(x))), axes=(0,))
    graph = Graph("g", (x,), (), (y,), wrt=(x,), names={x: "x", y: "y"})
    joint = joint_of(graph)
    assert saved(joint) == []
    feeds = sample(joint)
    for left, right in zip(run_split(joint, 1, feeds), interpret(joint, feeds), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-14)


def test_a_mask_is_saved_rather_than_the_numbers() -> None:
    x, w = variable("N", 4), variable(4, 6, op=PARAM)
    y = sum_(relu(matmul(x, w)), axes=(0, 1))
    joint = joint_of(Graph("g", (x,), (w,), (y,), wrt=(w,), names={x: "x", w: "w", y: "y"}))
    forward, _ = split(joint, 1)
    assert [node.dtype.name for node in forward.outputs] == ["float64", "bool"]


def test_a_narrow_waist_is_saved() -> None:
    x, w = variable("N", 64), variable(64, 64, op=PARAM)
    wide = matmul(x, w)
    small = sum_(wide, axes=(1,))
    y = sum_(square(broadcast_to(exp(small), shape=(64, dim("N")))), axes=(0, 1))
    joint = joint_of(Graph("g", (x,), (w,), (y,), wrt=(w,), names={x: "x", w: "w", y: "y"}))
    forward, _ = split(joint, 1)
    assert forward.outputs[1].shape == (dim("N"),)


def test_backward_binds_dims_that_only_shapes_know() -> None:
    x = variable("N", 3)
    y = sum_(x, axes=(0, 1))
    joint = joint_of(Graph("g", (x,), (), (y,), wrt=(x,), names={x: "x", y: "y"}))
    _, backward = split(joint, 1)
    assert [backward.names[node] for node in backward.inputs] == ["x", "d_y"]
    np.testing.assert_array_equal(run_split(joint, 1, sample(joint))[0 + 1].shape, (5, 3))


def test_backward_binds_dims_that_a_saved_product_of_them_does_not() -> None:
    x, b = variable("N", "M", 4), variable(op=PARAM)
    size = dim("N") * dim("M")
    flat = reshape(sum_(x, axes=(2,)), shape=(size,))
    y = sum_(sin(broadcast_to(b, shape=(size,)) * flat), axes=(0,))
    joint = joint_of(Graph("g", (x,), (b,), (y,), wrt=(b,), names={x: "x", b: "b", y: "y", flat: "flat"}))
    _, backward = split(joint, 1)
    assert [backward.names[node] for node in backward.inputs] == ["x", "flat", "d_y"]
    run_split(joint, 1, sample(joint, {"N": 2, "M": 3}))


def test_a_gradient_without_the_cotangent_and_a_saved_output() -> None:
    x, other = variable("N"), variable(2, op=PARAM)
    y = exp(sum_(x, axes=(0,)))
    graph = Graph("g", (x,), (other,), (y,), wrt=(x, other), names={x: "x", other: "other", y: "y"})
    joint = joint_of(graph)
    feeds = sample(joint)
    found = run_split(joint, 1, feeds)
    np.testing.assert_allclose(found[0], np.exp(feeds["x"].sum()))
    np.testing.assert_allclose(found[1], np.full(5, feeds["d_y"] * found[0]))
    np.testing.assert_array_equal(found[2], [0, 0])


def test_places_and_names_follow_into_both_halves() -> None:
    forward, backward = split(joint_of(network()), 1)
    assert ("net.py:4",) in forward.origins.values()
    assert ("net.py:4",) in backward.origins.values()
    assert {"d_hidden", "d_w", "d_b", "d_v"} <= set(backward.names.values())
    assert set(backward.names) <= {*backward.leaves, *backward.steps}


def test_the_pass_splits_only_when_asked() -> None:
    joint = joint_of(network())
    assert Partition(None, None).run(joint) == (joint,)
    parts = Partition(1, None).run(joint)
    assert isinstance(parts, tuple) and len(parts) == 2


def test_thousands_of_values_in_seconds() -> None:
    x, w = variable("N", 8), variable(8, 8, op=PARAM)
    y = x
    for _ in range(500):
        y = tanh(matmul(y, w)) + y
    joint = joint_of(Graph("g", (x,), (w,), (sum_(y, axes=(0, 1)),), wrt=(w,), names={x: "x", w: "w"}))
    began = time.perf_counter()
    forward, _ = split(joint, 1)
    assert time.perf_counter() - began < 20
    assert len(forward.outputs) >= 500


# packing --------------------------------------------------------------------------------------------------------------


def trained() -> Graph:
    """A joint graph of params of two dtypes with gradients of some, and updates of two."""
    x = variable("N", 2)
    w, b = variable(2, 3, op=PARAM), variable(3, op=PARAM)
    scale, frozen = variable(op=PARAM, dtype=F32), variable(4, op=PARAM)
    hidden = tanh(matmul(x, w) + broadcast_to(b, shape=(dim("N"), 3)))
    loss = sum_(hidden, axes=(0, 1)) * cast(scale, dtype=F64) + sum_(frozen, axes=(0,))
    graph = Graph(
        "net", (x,), (w, b, scale, frozen), (loss,), wrt=(b, x, w, scale),
        names={x: "x", w: "w", b: "b", scale: "scale", frozen: "frozen", hidden: "hidden", loss: "loss"},
    )  # fmt: skip
    joint = Simplify().run(Differentiate().run(graph))
    return replace(joint, updates=((w, w - 0.1 * joint.outputs[3]), (b, 2 * b)))


def blocks_of(graph: Graph) -> tuple[Block, ...]:
    return Block.layouts((graph.names[node], node.dtype, node.shape) for node in graph.params)


def test_the_layout_is_one_block_a_dtype_without_gaps() -> None:
    double, single = blocks_of(trained())
    assert double == Block("params_f64", F64, (Slot("w", 0, (2, 3)), Slot("b", 6, (3,)), Slot("frozen", 9, (4,))))
    assert single == Block("params_f32", F32, (Slot("scale", 0, ()),))
    assert (double.size, single.size) == (13, 1)


def test_packing_replaces_params_by_parts_of_one_array() -> None:
    joint = trained()
    x, (w, b, scale, _) = joint.inputs[0], joint.params
    double, single = blocks_of(joint)
    packed = pack(joint, (double, single), wrt=[(node, joint.names[node]) for node in (b, x, w, scale)])
    verify(packed)
    assert [packed.names[node] for node in packed.params] == ["params_f64", "params_f32"]
    assert {"w", "b", "x", "hidden", "d_params_f64"} <= set(packed.names.values())

    feeds = sample(joint)
    loss, by_b, by_x, by_w, by_scale = interpret(joint, feeds)
    flat = np.concatenate([feeds["w"].ravel(), feeds["b"], feeds["frozen"]])
    fed = {"x": feeds["x"], "params_f64": flat, "params_f32": feeds["scale"].reshape(1)}
    expected = (loss, by_x, np.concatenate([by_w.ravel(), by_b, np.zeros(4)]), by_scale.reshape(1))
    for left, right in zip(interpret(packed, fed), expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-14)
    (home, following), = packed.updates
    assert home is packed.params[0]
    new, = interpret(packed, fed, roots=[following])
    views = [slot.view(new) for slot in double.slots]
    for left, right in zip(views, (feeds["w"] - 0.1 * by_w, 2 * feeds["b"], feeds["frozen"]), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-14)


def test_a_block_may_hold_more_than_a_graph_uses() -> None:
    w = variable(3, op=PARAM)
    blocks = Block.layouts([("b", F64, (2,)), ("other", F32, (4,)), ("w", F64, (3,))])
    packed = pack(Graph("g", (), (w,), (square(w),), names={w: "w"}), blocks)
    assert [node.type for node in packed.params] == [TensorType(F64, (5,)), TensorType(F32, (4,))]
    feeds = {"params_f64": np.arange(5.0), "params_f32": np.zeros(4, F32)}
    np.testing.assert_array_equal(interpret(packed, feeds)[0], [4, 9, 16])


def test_a_single_vector_is_its_own_packing() -> None:
    w = variable(3, op=PARAM)
    graph = Graph("g", (), (w,), (square(w),), names={w: "w"})
    packed = pack(graph, blocks_of(graph))
    assert [node.op.name for node in packed.steps] == ["square"]


def test_a_view_of_a_slot_shares_memory() -> None:
    flat = np.arange(10.0)
    part = Slot("w", 2, (2, 3)).view(flat)
    part[:] = 0
    assert flat.sum() == 0 + 1 + 8 + 9


def test_a_name_that_is_taken_is_left_to_its_owner() -> None:
    w, v, x = variable(3, op=PARAM), variable(3, op=PARAM), variable(3)
    graph = Graph("g", (x,), (w, v), (w + v + x,), names={w: "w", v: "v", x: "params_f64"})
    packed = pack(graph, blocks_of(graph))
    assert packed.names[packed.params[0]] == "params_f64_"


@pytest.mark.parametrize("masked", [True, False])
def test_split_graphs_share_no_leaf_but_the_declared(masked: bool) -> None:
    x, w = variable("N", 4), variable(4, 4, op=PARAM)
    z = matmul(x, w)
    y = sum_(where(greater(z, full(0, z.type)), square(z), z) if masked else exp(z), axes=(0, 1))
    joint = joint_of(Graph("g", (x,), (w,), (y,), wrt=(x, w), names={x: "x", w: "w", y: "y"}))
    _, backward = split(joint, 1)
    reached = {node for node in toposort(backward.outputs) if not node.operands and node.op in (INPUT, PARAM)}
    assert reached <= set(backward.leaves)
    feeds = sample(joint)
    for left, right in zip(run_split(joint, 1, feeds), interpret(joint, feeds), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-13)
