"""Matrices factorised to solve with: Cholesky, triangular and general systems, determinants.

Derivatives are solves with the same matrices, so they reuse the factors, and are differentiable again. They hold for
what is read: of a symmetric matrix one triangle, so the other has gradient 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import factorizations
from graphc.ir.core import FLOAT, Custom, Node, Op, PiecewiseConstant, full
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.ops.checks import check_dtype
from graphc.ir.ops.comparison import equal, greater, greater_equal, where
from graphc.ir.ops.composite import wide
from graphc.ir.ops.indexing import iota
from graphc.ir.ops.layout import restore, sum_
from graphc.ir.ops.products import matmul, matrix_transpose
from graphc.ir.types import TensorType

INDEX = np.dtype("int64")


# what type rules check ------------------------------------------------------------------------------------------------


def check_matrix(name: str, a: TensorType) -> None:
    """Check that an operand is a matrix of floats, or a stack of them."""
    check_dtype(name, a, FLOAT)
    if a.ndim < 2:
        raise DeclarationValueError(f"{name} wants a matrix, or a stack of them, got {a}", hint="add axes: x[:, None]")


def check_square(name: str, a: TensorType) -> None:
    """Check that an operand is a square matrix of floats, or a stack of them."""
    check_matrix(name, a)
    if a.shape[-2] != a.shape[-1]:
        raise DeclarationValueError(
            f"{name} wants a square matrix, or a stack of them, got {a}: {a.shape[-2]} is not {a.shape[-1]}",
            hint="a symbolic dim equals itself alone: use one name for extents that are equal",
        )


def _system_infer(name: str) -> Any:
    """The type rule of a system of equations: the solution is as the right-hand side."""

    def infer(a: TensorType, b: TensorType, **flags: bool) -> TensorType:
        check_square(name, a)
        if a.dtype != b.dtype:
            raise DeclarationTypeError(f"{name} wants operands of one dtype, got {a} and {b}")
        if a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
            raise DeclarationValueError(f"{name} wants stacks of matrices with equal batch dims, got {a} and {b}")
        if a.shape[-1] != b.shape[-2]:
            raise DeclarationValueError(
                f"{name}: {a} has {a.shape[-1]} unknowns, {b} has {b.shape[-2]} rows of right-hand sides"
            )
        for flag, value in flags.items():
            if not isinstance(value, bool):
                raise DeclarationTypeError(f"{name} wants {flag} to be True or False, got {value!r}")
        return b

    return infer


# triangles and diagonals ----------------------------------------------------------------------------------------------


def _places(x: Node) -> tuple[Node, Node]:
    """The row and the column of every element."""
    rank = len(x.shape)
    rows, columns = (iota(shape=x.shape, axis=axis, dtype=INDEX) for axis in (rank - 2, rank - 1))
    return rows, columns


def below(x: Node, otherwise: Node | None = None, diagonal: bool = True) -> Node:
    """A matrix with its lower triangle (with or without the diagonal); elsewhere 0, or `otherwise`."""
    rows, columns = _places(x)
    kept = greater_equal(rows, columns) if diagonal else greater(rows, columns)
    return where(kept, x, full(0, x.type) if otherwise is None else otherwise)


def on_diagonal(x: Node, otherwise: Node) -> Node:
    """A matrix with the diagonal of one and the rest of another."""
    return where(equal(*_places(x)), x, otherwise)


def diagonal(x: Node) -> Node:
    """The diagonal of a square matrix, as a vector."""
    return sum_(on_diagonal(x, full(0, x.type)), axes=(len(x.shape) - 1,))


def as_diagonal(x: Node, otherwise: Node) -> Node:
    """A matrix with a vector as its diagonal and the rest of another."""
    return on_diagonal(along_rows(x, otherwise), otherwise)


def along_rows(x: Node, like: Node) -> Node:
    """A vector repeated as every row of a matrix: element [i, j] is x[j]."""
    return restore(x, (len(like.shape) - 2,), like.shape)


def along_columns(x: Node, like: Node) -> Node:
    """A vector repeated as every column of a matrix: element [i, j] is x[i]."""
    return restore(x, (len(like.shape) - 1,), like.shape)


def symmetric(x: Node) -> Node:
    """The symmetric matrix that a lower triangle stands for."""
    return below(x, matrix_transpose(x))


def triangle_of(x: Node) -> Node:
    """The transpose of `symmetric`: what a cotangent of the whole matrix is to the lower triangle that was read."""
    return below(x + matrix_transpose(x), on_diagonal(x, full(0, x.type)), diagonal=False)


def _halved(x: Node) -> Node:
    """The lower triangle, the diagonal halved: of a symmetric X + Xᵀ it gives back a lower triangular X."""
    return below(x, on_diagonal(x / 2, full(0, x.type)), diagonal=False)


# triangular systems ---------------------------------------------------------------------------------------------------


def _triangular_evaluate(
    a: np.ndarray, b: np.ndarray, lower: bool, transpose: bool, unit_diagonal: bool
) -> Any:
    return factorizations.triangular_solve(wide(a), wide(b), lower, transpose, unit_diagonal).astype(b.dtype)


def _read_of(node: Node, x: Node) -> Node:
    """The part of a matrix that a triangular system reads, as it reads it."""
    inner = not node["unit_diagonal"]
    if node["lower"]:
        return below(x, diagonal=inner)
    return matrix_transpose(below(matrix_transpose(x), diagonal=inner))


def _triangular_jvp(node: Node, tangents: tuple[Node | None, ...]) -> Node:
    da, db = tangents
    if da is not None:
        moved = _read_of(node, da)
        moved = matmul(matrix_transpose(moved) if node["transpose"] else moved, node)
        db = -moved if db is None else db - moved
    assert db is not None
    return triangular_solve(node.operands[0], db, **dict(node.attrs))


def _triangular_vjp(node: Node, ct: Node) -> tuple[Node, Node]:
    db = triangular_solve(node.operands[0], ct, **(dict(node.attrs) | {"transpose": not node["transpose"]}))
    pair = (node, db) if node["transpose"] else (db, node)
    return _read_of(node, -matmul(pair[0], matrix_transpose(pair[1]))), db


triangular_solve: Op = Op(
    name="triangular_solve",
    accepts=FLOAT,
    infer=_system_infer("triangular_solve"),
    evaluate=_triangular_evaluate,
    derivative=Custom(_triangular_jvp, _triangular_vjp),
    numpy=("solve_triangular", "cho_solve"),
    note="reads one triangle of the matrix, which alone has a gradient; nan where its diagonal has a zero",
)


# Cholesky -------------------------------------------------------------------------------------------------------------


def _cholesky_infer(a: TensorType) -> TensorType:
    check_square("cholesky", a)
    return a


def _lower_solve(factor: Node, b: Node, transpose: bool = False) -> Node:
    return triangular_solve(factor, b, lower=True, transpose=transpose, unit_diagonal=False)


def _cholesky_jvp(node: Node, tangents: tuple[Node]) -> Node:
    """L phi(L⁻¹ da L⁻ᵀ), phi being `_halved` (I. Murray, Differentiation of the Cholesky decomposition, 2016)."""
    left = _lower_solve(node, symmetric(tangents[0]))
    return matmul(node, _halved(_lower_solve(node, matrix_transpose(left))))


def _cholesky_vjp(node: Node, ct: Node) -> tuple[Node]:
    """Its transpose, L⁻ᵀ phi(Lᵀ ct) L⁻¹; the zeros above the diagonal of L are no results."""
    inner = _halved(matmul(matrix_transpose(node), below(ct)))
    left = _lower_solve(node, inner, transpose=True)
    return (triangle_of(_lower_solve(node, matrix_transpose(left), transpose=True)),)


cholesky: Op = Op(
    name="cholesky",
    accepts=FLOAT,
    infer=_cholesky_infer,
    evaluate=lambda a: factorizations.cholesky(wide(a)).astype(a.dtype),
    derivative=Custom(_cholesky_jvp, _cholesky_vjp),
    numpy=("linalg.cholesky",),
    note="reads the lower triangle, which alone has a gradient; the lower triangle is nan where the matrix is not "
    "positive definite",
)


# general systems and determinants -------------------------------------------------------------------------------------


def _solve_evaluate(a: np.ndarray, b: np.ndarray, transpose: bool) -> Any:
    return factorizations.lu_solve(factorizations.lu(wide(a)), wide(b), transpose).astype(b.dtype)


def _solve_jvp(node: Node, tangents: tuple[Node | None, ...]) -> Node:
    da, db = tangents
    if da is not None:
        moved = matmul(matrix_transpose(da) if node["transpose"] else da, node)
        db = -moved if db is None else db - moved
    assert db is not None
    return solve(node.operands[0], db, transpose=node["transpose"])


def _solve_vjp(node: Node, ct: Node) -> tuple[Node, Node]:
    db = solve(node.operands[0], ct, transpose=not node["transpose"])
    pair = (node, db) if node["transpose"] else (db, node)
    return -matmul(pair[0], matrix_transpose(pair[1])), db


solve: Op = Op(
    name="solve",
    accepts=FLOAT,
    infer=_system_infer("solve"),
    evaluate=_solve_evaluate,
    derivative=Custom(_solve_jvp, _solve_vjp),
    numpy=("linalg.solve", "linalg.inv"),
    note="nan where the matrix is singular (a pivot is exactly zero)",
)


def _determinant_infer(name: str) -> Any:
    def infer(a: TensorType) -> TensorType:
        check_square(name, a)
        return a.with_shape(a.shape[:-2])

    return infer


def _log_abs_det_jvp(node: Node, tangents: tuple[Node]) -> Node:
    """The trace of a⁻¹ da."""
    rank = len(tangents[0].shape)
    change = solve(node.operands[0], tangents[0], transpose=False)
    return sum_(on_diagonal(change, full(0, change.type)), axes=(rank - 2, rank - 1))


def _log_abs_det_vjp(node: Node, ct: Node) -> tuple[Node]:
    """The inverse, transposed."""
    a = node.operands[0]
    rank = len(a.shape)
    scaled = on_diagonal(restore(ct, (rank - 2, rank - 1), a.shape), full(0, a.type))
    return (solve(a, scaled, transpose=True),)


log_abs_det = Op(
    name="log_abs_det",
    accepts=FLOAT,
    infer=_determinant_infer("log_abs_det"),
    evaluate=lambda a: factorizations.log_abs_det(factorizations.lu(wide(a))).astype(a.dtype),
    derivative=Custom(_log_abs_det_jvp, _log_abs_det_vjp),
    numpy=("linalg.slogdet", "linalg.det"),
    note="-inf, with gradient nan, where the matrix is singular; 0 of an empty one",
)
det_sign = Op(
    name="det_sign",
    accepts=FLOAT,
    infer=_determinant_infer("det_sign"),
    evaluate=lambda a: factorizations.det_sign(factorizations.lu(wide(a))).astype(a.dtype),
    derivative=PiecewiseConstant(),
    numpy=("linalg.slogdet", "linalg.det"),
    note="0 where the matrix is singular; 1 of an empty one",
)
