"""Matrix products, whose derivatives are matrix products with the other operand transposed."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.core import NUMBER, Bilinear, Node, Op
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.ops.checks import check_dtype
from graphc.ir.ops.layout import transpose
from graphc.ir.types import TensorType


def _matmul_infer(a: TensorType, b: TensorType) -> TensorType:
    check_dtype("matmul", a, NUMBER)
    if a.dtype != b.dtype:
        raise DeclarationTypeError(f"matmul wants operands of one dtype, got {a} and {b}")
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
        raise DeclarationValueError(f"matmul wants stacks of matrices with equal batch dims, got {a} and {b}")
    if a.shape[-1] != b.shape[-2]:
        raise DeclarationValueError(f"matmul: the inner dims of {a} and {b} differ: {a.shape[-1]} and {b.shape[-2]}")
    return a.with_shape((*a.shape[:-1], b.shape[-1]))


def _matmul_evaluate(a: np.ndarray, b: np.ndarray) -> Any:
    wide = np.float64 if a.dtype.kind == "f" else a.dtype  # as sums: see `sum`
    return np.matmul(a.astype(wide), b.astype(wide)).astype(a.dtype)


def matrix_transpose(x: Node) -> Node:
    """The last two axes swapped."""
    axes = tuple(range(len(x.shape)))
    return transpose(x, axes=(*axes[:-2], axes[-1], axes[-2]))


matmul: Op = Op(
    name="matmul",
    accepts=NUMBER,
    infer=_matmul_infer,
    evaluate=_matmul_evaluate,
    derivative=Bilinear(
        left=lambda node, ct: matmul(ct, matrix_transpose(node.operands[1])),
        right=lambda node, ct: matmul(matrix_transpose(node.operands[0]), ct),
    ),
    numpy=("matmul", "dot", "inner", "outer", "vecdot", "tensordot", "einsum"),
)
