"""What the type rules of ops refuse, in what words, and which guards on symbolic dims they leave."""

from __future__ import annotations

import numpy as np
import pytest
from op_samples import N, tensor

from graphc.ir import ops
from graphc.ir.core import INPUT, leaf
from graphc.ir.dims import dim
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError

M = dim("M")


def x_of(shape, dtype="float64"):
    return leaf(INPUT, tensor(shape, dtype))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ops.exp(x_of((2,), "int32")), DeclarationTypeError, "exp wants float elements, got i32[2]"),
        (
            lambda: ops.add(x_of((2,), "bool"), x_of((2,), "bool")),
            DeclarationTypeError,
            "add wants float or integer or unsigned elements, got bool[2]",
        ),
        (
            lambda: ops.add(x_of((2,)), x_of((3,))),
            DeclarationValueError,
            "add wants operands of one type, got f64[2] and f64[3]",
        ),
        (
            lambda: ops.add(x_of((N,)), x_of((M,))),
            DeclarationValueError,
            "add wants operands of one type, got f64[N] and f64[M]",
        ),
        (
            lambda: ops.invert(x_of((2,), "bool")),
            DeclarationTypeError,
            "invert wants integer or unsigned elements, got bool[2]",
        ),
        (
            lambda: ops.where(x_of((2,)), x_of((2,)), x_of((2,))),
            DeclarationTypeError,
            "where wants a bool condition, got f64[2]",
        ),
        (
            lambda: ops.where(x_of((3,), "bool"), x_of((2,)), x_of((2,))),
            DeclarationValueError,
            "condition of its operands' shape, got bool[3] and f64[2]",
        ),
        (
            lambda: ops.integer_power(x_of((2,), "int64"), n=-1),
            DeclarationValueError,
            "integer_power of i64[2] wants an exponent of at least 0, got -1",
        ),
        (
            lambda: ops.integer_power(x_of((2,)), n=0.5),
            DeclarationTypeError,
            "integer_power wants an integer exponent, got 0.5",
        ),
        (
            lambda: ops.cast(x_of((2,)), dtype=np.dtype("complex128")),
            DeclarationTypeError,
            "cast to complex128: no such dtype",
        ),
        (
            lambda: ops.sum_(x_of((2, 3)), axes=(2,)),
            DeclarationIndexError,
            "sum: axis 2 is out of range for 2 axes",
        ),
        (lambda: ops.sum_(x_of((2, 3)), axes=(1, 1)), DeclarationValueError, "sum wants distinct axes, got (1, 1)"),
        (
            lambda: ops.sum_(x_of((2,), "bool"), axes=(0,)),
            DeclarationTypeError,
            "sum wants float or integer or unsigned elements, got bool[2]",
        ),
        (lambda: ops.any_(x_of((2,)), axes=(0,)), DeclarationTypeError, "any wants bool elements, got f64[2]"),
        (
            lambda: ops.max_(x_of((2, 0)), axes=(1,)),
            DeclarationValueError,
            "max over an empty axis has no value: axes (1,) of shape (2, 0)",
        ),
        (lambda: ops.argmax(x_of((0,)), axis=0), DeclarationValueError, "argmax over an empty axis has no value"),
        (
            lambda: ops.softmax(x_of((2,), "int64"), axis=0),
            DeclarationTypeError,
            "softmax wants float elements, got i64[2]",
        ),
        (
            lambda: ops.broadcast_to(x_of((2,)), shape=(3,)),
            DeclarationValueError,
            "broadcast_to: f64[2] does not broadcast to (3,)",
        ),
        (
            lambda: ops.broadcast_to(x_of((N,)), shape=(3,)),
            DeclarationValueError,
            "broadcast_to: f64[N] does not broadcast to (3,)",
        ),
        (
            lambda: ops.broadcast_to(x_of((2, 3)), shape=(3,)),
            DeclarationValueError,
            "broadcast_to: f64[2,3] does not broadcast to (3,)",
        ),
        (
            lambda: ops.transpose(x_of((2, 3)), axes=(0,)),
            DeclarationValueError,
            "transpose wants every axis of f64[2,3] once, got (0,)",
        ),
        (
            lambda: ops.reshape(x_of((2, 3)), shape=(5,)),
            DeclarationValueError,
            "reshape: f64[2,3] has 6 elements, (5,) has 5",
        ),
        (
            lambda: ops.reshape(x_of((N, 4)), shape=(N, 3)),
            DeclarationValueError,
            "reshape: f64[N,4] has 4*N elements, (N, 3) has 3*N",
        ),
        (
            lambda: ops.reshape(x_of((2,)), shape=(-2, -1)),
            DeclarationValueError,
            "reshape wants a shape without negative extents",
        ),
        (
            lambda: ops.slice_(x_of((4,)), start=(2,), size=(3,), step=(1,)),
            DeclarationIndexError,
            "slice: 2:5 is out of range for axis 0 of (4,)",
        ),
        (
            lambda: ops.slice_(x_of((4,)), start=(2,), size=(3,), step=(0,)),
            DeclarationValueError,
            "slice wants steps that are integers and not 0, got (0,)",
        ),
        (
            lambda: ops.slice_(x_of((4,)), start=(), size=(), step=()),
            DeclarationValueError,
            "slice wants a start, size and step for each axis of (4,)",
        ),
        (
            lambda: ops.pad(x_of((4,)), start=(0,), step=(2,), shape=(6,)),
            DeclarationIndexError,
            "pad: 0:8:2 is out of range for axis 0 of (6,)",
        ),
        (
            lambda: ops.concatenate(x_of((2, 3)), x_of((2, 4)), axis=0),
            DeclarationValueError,
            "differ along axis 0 alone, got f64[2,3] and f64[2,4]",
        ),
        (
            lambda: ops.concatenate(x_of((2,)), x_of((2,), "int64"), axis=0),
            DeclarationValueError,
            "got f64[2] and i64[2]",
        ),
        (lambda: ops.concatenate(axis=0), DeclarationValueError, "concatenate wants at least one operand"),
        (
            lambda: ops.gather(x_of((2, 3)), x_of((4,)), axes=(0,)),
            DeclarationTypeError,
            "gather index wants integer or unsigned elements, got f64[4]",
        ),
        (
            lambda: ops.gather(x_of((2, 3)), x_of((4,), "int64"), axes=(0, 1)),
            DeclarationValueError,
            "gather wants one index for each of the axes (0, 1), got 1",
        ),
        (
            lambda: ops.gather(x_of((2, 3)), x_of((4,), "int64"), x_of((5,), "int64"), axes=(0, 1)),
            DeclarationValueError,
            "indices of one type, got i64[4] and i64[5]",
        ),
        (
            lambda: ops.scatter_add(x_of((2, 3)), x_of((4,)), x_of((4,), "int64"), axes=(0,)),
            DeclarationValueError,
            "scatter_add wants updates of type f64[4,3] for f64[2,3], got f64[4]",
        ),
        (
            lambda: ops.scatter_max(x_of((2, 3), "bool"), x_of((4, 3), "bool"), x_of((4,), "int64"), axes=(0,)),
            DeclarationTypeError,
            "scatter_max wants float or integer or unsigned elements, got bool[2,3]",
        ),
        (
            lambda: ops.scatter_min(x_of((2, 3)), x_of((4, 2)), x_of((4,), "int64"), axes=(0,)),
            DeclarationValueError,
            "scatter_min wants updates of type f64[4,3] for f64[2,3], got f64[4,2]",
        ),
        (
            lambda: ops.iota(shape=(2,), axis=1, dtype=np.dtype("int64")),
            DeclarationIndexError,
            "iota: axis 1 is out of range for 1 axes",
        ),
        (
            lambda: ops.matmul(x_of((2, 3)), x_of((4, 5))),
            DeclarationValueError,
            "matmul: the inner dims of f64[2,3] and f64[4,5] differ: 3 and 4",
        ),
        (
            lambda: ops.matmul(x_of((3,)), x_of((3, 2))),
            DeclarationValueError,
            "matmul wants stacks of matrices with equal batch dims, got f64[3] and f64[3,2]",
        ),
        (
            lambda: ops.matmul(x_of((2, 3)), x_of((3, 2), "float32")),
            DeclarationTypeError,
            "matmul wants operands of one dtype, got f64[2,3] and f32[3,2]",
        ),
    ],
)
def test_refusals_name_the_op_and_what_was_expected(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)


def guard_texts(node):
    return [guard.text for guard in node.op.guards(node)]


def test_guards_say_what_the_dims_must_be():
    x = x_of((N, 4))
    first_five = ops.slice_(x, start=(0, 0), size=(5, 4), step=(1, 1))
    assert guard_texts(first_five) == ["slice [0:5] on axis 0 of (N, 4) wants N >= 5"]
    assert guard_texts(ops.slice_(x_of((N,)), start=(N - 1,), size=(N,), step=(-1,))) == []
    assert guard_texts(ops.max_(x, axes=(0, 1))) == ["max over axis 0 of (N, 4) wants N >= 1"]
    assert guard_texts(ops.softmax(x, axis=0)) == ["softmax over axis 0 of (N, 4) wants N >= 1"]
    assert guard_texts(ops.pad(x_of((N,)), start=(0,), step=(1,), shape=(5,)))[-1].endswith("wants N <= 5")
    assert guard_texts(ops.reshape(x, shape=(2, 4 * N // 3))) == ["reshape of (N, 4) wants 4*N == 2*((4*N) // 3)"]
    assert guard_texts(ops.reshape(x, shape=(4, N))) == []
