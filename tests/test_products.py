"""Matrix products: which become loops, in which order, and that all of them keep their values."""

from __future__ import annotations

import numpy as np
import pytest
from lowered import assert_same, compiled, expected_values, stages
from op_samples import N
from test_lowering import affine, case_of, check, cross_entropy, joint, kernels, x_of

import graphc
from graphc.ir import ops
from graphc.ir.loops import Accumulate, Call, Loop, Program, walk
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower


def transposed(x):
    *batch, row, column = range(len(x.shape))
    return ops.transpose(x, axes=(*batch, column, row))


def product(left, right, flags="", dtype="float64"):
    """A product of new inputs; a "t" in `flags` for each operand that is transposed."""
    operands = []
    for shape, flag in zip((left, right), flags.ljust(2), strict=True):
        stored = (*shape[:-2], shape[-1], shape[-2]) if flag == "t" else shape
        x = x_of(stored, dtype)
        operands.append(transposed(x) if flag == "t" else x)
    return ops.matmul(*operands)


def calls(program: Program) -> list[Call]:
    return [step for step in program.steps if isinstance(step, Call) and step.routine == "matmul"]


def fused(*outputs):
    return Fuse().run(Lower().run(case_of("products", outputs).graph))


# which, and how -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "flags", "library"),
    [
        ((N, 500), (500, 5), "", False),
        ((N, 5), (5, 500), " t", False),
        ((500, N), (N, 5), "t", False),
        ((5, N), (N, 500), "t", False),
        ((N, N), (N, 1), "", False),
        ((25, N, 10), (25, 10, 10), " t", False),
        ((25, 10, N), (25, N, 10), "t", False),
        ((N, 3), (3, N), "", False),
        ((N, 17), (17, 17), "", True),
        ((4, 500), (500, 100), "", True),
        ((5, N), (N, 500), "", True),
        ((500, N), (N, 5), "tt", True),
        ((500, N), (N, 1), "tt", False),
        ((N, N), (N, N), "", True),
    ],
)
def test_products_with_a_short_side_are_loops(left, right, flags, library):
    assert bool(calls(fused(product(left, right, flags)))) == library


@pytest.mark.parametrize("flag", ["", "t"])
def test_a_single_row_is_a_vector_to_the_library(flag):
    case = case_of("row", [product((1, 40), (40, 30), f"{flag}{flag}")])
    (call,) = calls(check(case)["fuse"])
    assert [len(operand.shape) for operand in call.operands] == [1, 2, 1]


def orders(program: Program) -> list[list[str]]:
    """The extents of the loops around every accumulation, outer first."""
    found = []
    for kernel in kernels(program):
        loops: list[tuple[Loop, set[int]]] = [
            (statement, {id(inner) for inner in walk(statement.body)})
            for statement in walk(kernel.body)
            if isinstance(statement, Loop)
        ]
        found += [
            [str(loop.extent) for loop, inside in loops if id(statement) in inside]
            for statement in walk(kernel.body)
            if isinstance(statement, Accumulate)
        ]
    return found


def test_the_inner_loop_is_long_and_contiguous_or_short_enough_to_unroll():
    assert orders(fused(product((N, 500), (500, 5)))) == [["N", "5", "500"]]
    assert orders(fused(product((N, 5), (5, 500), " t"))) == [["N", "500", "5"]]
    assert orders(fused(product((500, N), (N, 5), "t"))) == [["N", "5", "500"]]
    assert orders(fused(product((5, N), (N, 500), "t"))) == [["N", "5", "500"]]
    assert orders(fused(product((25, 10, N), (25, N, 12), "t"))) == [["25", "N", "10", "12"]]


def test_the_operand_that_is_walked_again_and_again_is_copied_once():
    x, w, g = x_of((N, 30)), x_of((30, 8)), x_of((N, 8))
    program = check(case_of("shared", [ops.matmul(x, w), ops.matmul(g, transposed(w))]))["fuse"]
    assert [buffer.shape for buffer in program.buffers if buffer.space == "arena"] == [(8, 30)]


def test_short_transposed_operands_are_read_where_they_lie():
    program = fused(product((N, 30), (30, 4), " t"), product((N, 5), (5, 6), " t"))
    assert not [buffer for buffer in program.buffers if buffer.space == "arena"]


def test_a_product_and_its_adjoint_share_one_pass_over_the_rows():
    x, labels = x_of((N, 50), "float32"), x_of((N,), "int64")
    logits, params = affine(x, 5, "float32")
    program = Fuse().run(Lower().run(joint(case_of("softmax", [cross_entropy(logits, labels)]), params).graph))
    assert not calls(program)
    (kernel,) = (kernel for kernel in kernels(program) if any(load.name == "input0" for load in kernel.reads))
    assert [loop.kind for loop in kernel.body if isinstance(loop, Loop) and loop.extent == N] == ["reduce"]


def test_float32_products_accumulate_in_float32():
    program = fused(product((500, N), (N, 5), "t", "float32"))
    assert {buffer.dtype.name for buffer in program.buffers} == {"float32"}


# values ---------------------------------------------------------------------------------------------------------------

SHAPES = (
    ((N, 9), (9, 2)), ((N, 2), (2, 9)), ((N, 30), (30, 4)), ((N, 4), (4, 30)), ((30, N), (N, 4)), ((4, N), (N, 30)),
    ((N, 20), (20, 1)), ((20, N), (N, 1)), ((1, N), (N, 3)), ((N, 1), (1, 3)), ((2, N, 10), (2, 10, 10)),
    ((2, 10, N), (2, N, 9)), ((N, 3, 4), (N, 4, 2)), ((N, N), (N, 5)), ((N, 0), (0, 4)), ((0, 5), (5, 4)),
    ((5, 0), (0, 20)), ((1, 20), (20, 18)), ((N, 20), (20, 18)),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8"])
def test_values(dtype):
    outputs = [product(*shapes, flags, dtype) for shapes in SHAPES for flags in ("", "t", " t", "tt")]
    check(case_of("values", outputs))


def test_compiled_values():
    outputs = [product(*shapes, flags, dtype) for shapes, flags, dtype in zip(
        SHAPES, ("", " t", "t") * 7, ("float32", "float64", "int8", "float64") * 5, strict=False)]  # fmt: skip
    case = case_of("compiled products", outputs)
    assert_same(compiled(stages(case.graph)["memory"], case), expected_values(case), ulp=32, magnitude=10)


# long axes outermost --------------------------------------------------------------------------------------------------


def softmax_over_components(components=5):
    """A softmax over the leading axis, of distances, with its gradient."""
    x, means = x_of((N, 4)), x_of((components, 4))
    shape = (components, N, 4)
    centred = ops.broadcast_to(x, shape=shape) - ops.broadcast_to(
        ops.reshape(means, shape=(components, 1, 4)), shape=shape
    )
    terms = ops.sum_(ops.square(centred), axes=(2,)) * -0.5
    return joint(case_of("mixture", [ops.sum_(ops.logsumexp(terms, axes=(0,)), axes=(0,))]), [means])


def test_a_sum_over_a_short_leading_axis_does_not_split_the_pass_over_the_long_one():
    program = check(softmax_over_components())["fuse"]
    over_points = [
        kernel for kernel in kernels(program)
        if any(isinstance(each, Loop) and each.extent == N for each in walk(kernel.body))
    ]  # fmt: skip
    assert len(over_points) == 1
    assert not [buffer for buffer in program.buffers if buffer.space == "arena" and N in buffer.shape]


def test_only_what_needs_such_a_sum_is_turned():
    x = x_of((5, N))
    alone = check(case_of("alone", [ops.max_(x, axes=(0,)), ops.exp(x)]))["fuse"]
    assert [kernel.body[-1].extent for kernel in kernels(alone) if isinstance(kernel.body[-1], Loop)] == [5]
    wide = check(softmax_over_components(components=65))["fuse"]
    assert [buffer for buffer in wide.buffers if N in buffer.shape and buffer.space == "arena"]


def test_a_vector_times_no_columns_is_silent(capfd):
    a, matrix = graphc.Input(("N",), name="a"), graphc.Input(("N", "M"), name="matrix")
    product = graphc.compile(a @ matrix)
    assert product(a=np.ones(3), matrix=np.ones((3, 0))).shape == (0,)
    assert "illegal value" not in "".join(capfd.readouterr())
