"""Batching of every op from the registry: an op on stacks gives the stack of what it gives on each element."""

from __future__ import annotations

import numpy as np
import pytest
from op_calls import run
from op_samples import SAMPLES, Sample, draw, samples

from graphc.ir.core import INPUT, Node, leaf
from graphc.ir.interpret import interpret
from graphc.ir.ops import OPS, custom_vjp
from graphc.ir.ops.custom import cotangent
from graphc.ir.types import TensorType
from graphc.passes.batch import batch

SIZE = 2
WITH_OPERANDS = [name for name in SAMPLES if any(sample.node.operands for sample in samples(name))]


def stacked(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Stacks of other arrays like a sample's: indices and special values in another order."""

    def other(node: Node, array: np.ndarray) -> np.ndarray:
        if not sample.smooth or node.dtype.kind != "f":
            return rng.permutation(array.ravel()).reshape(array.shape)
        return draw(rng, node.type, sample.node.op.domain)

    pairs = list(zip(sample.node.operands, sample.arrays, strict=True))
    return tuple(np.stack([array, *(other(node, array) for _ in range(SIZE - 1))]) for node, array in pairs)


def subsets(count: int) -> list[tuple[int, ...]]:
    """Which operands are stacks: all, and each by itself."""
    return list(dict.fromkeys([tuple(range(count)), *((k,) for k in range(count))]))


@pytest.mark.parametrize("name", WITH_OPERANDS)
def test_an_op_on_stacks_is_the_stack_of_its_results(name: str) -> None:
    rng = np.random.default_rng(0)
    for sample in samples(name):
        if not sample.node.operands or sample.node.dtype.name not in ("float64", "int64", "bool"):
            continue
        arrays = stacked(sample, rng)
        if name == "searchsorted":
            arrays = (np.sort(arrays[0]), *arrays[1:])
        for chosen in subsets(len(arrays)):
            operands = sample.node.operands
            types = {k: TensorType(operands[k].dtype, (SIZE, *operands[k].shape)) for k in chosen}
            stacks = {operands[k]: leaf(INPUT, type) for k, type in types.items()}
            (found,) = batch([sample.node], stacks, SIZE)
            feeds = {stacks.get(node, node): arrays[k] if k in chosen else sample.arrays[k]
                     for k, node in enumerate(operands)}  # fmt: skip
            if found is None:  # the cotangents of a rule are not what it is computed from
                assert sample.node.op is custom_vjp and min(chosen) > len(operands) // 2
                continue
            assert found.type == TensorType(sample.node.dtype, (SIZE, *sample.node.shape))
            each = [
                interpret(sample.graph, {f"x{k}": arrays[k][row] if k in chosen else sample.arrays[k]
                                         for k in range(len(arrays))})[0]
                for row in range(SIZE)
            ]  # fmt: skip
            (result,) = run([found], feeds)
            np.testing.assert_allclose(result, np.stack(each), rtol=1e-12, atol=1e-12, err_msg=f"{sample} {chosen}")


def test_what_does_not_depend_on_a_stack_is_none() -> None:
    x, y = (leaf(INPUT, TensorType(np.dtype("float64"), (3,))) for _ in range(2))
    stack = leaf(INPUT, TensorType(np.dtype("float64"), (SIZE, 3)))
    assert batch([OPS["sin"](y)], {x: stack}, SIZE) == [None]


def test_a_rule_is_summed_for_an_argument_that_all_elements_share() -> None:
    x, w = (leaf(INPUT, TensorType(np.dtype("float64"), (3,))) for _ in range(2))
    mark = cotangent(dtype=x.dtype, shape=x.shape, level=0)
    node = custom_vjp(x * w, x, w, mark * w, mark * x, level=0)
    stack = leaf(INPUT, TensorType(np.dtype("float64"), (SIZE, 3)))
    (found,) = batch([node], {x: stack}, SIZE)
    assert [operand.shape for operand in found.operands] == [(SIZE, 3), (SIZE, 3), (3,), (SIZE, 3), (3,)]
    assert found.operands[-1].op is OPS["sum"]


def test_a_rule_that_no_stack_reaches_stays_as_it_is() -> None:
    x, w = (leaf(INPUT, TensorType(np.dtype("float64"), ())) for _ in range(2))
    mark = cotangent(dtype=x.dtype, shape=(), level=0)
    ruled = custom_vjp(OPS["exp"](w), w, mark * w, level=0)
    stack = leaf(INPUT, TensorType(np.dtype("float64"), (SIZE,)))
    (found,) = batch([ruled * x], {x: stack}, SIZE)
    assert ruled in found.operands[0].operands
