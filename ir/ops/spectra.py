"""Matrices factorised into orthogonal parts: eigenvalues of symmetric matrices, singular values, QR.

A factorisation has several parts and a node one result: its parts are packed, flat, along the last axis, and
`eigh_parts` and its kin take them out. So it is one node, one library call, and one rule.
"""

from __future__ import annotations

from typing import Any

from graphc.ir import factorizations
from graphc.ir.core import FLOAT, Custom, Node, Op, full
from graphc.ir.dims import Dim, Extent, product
from graphc.ir.errors import DeclarationValueError
from graphc.ir.ops.checks import at_least_zero
from graphc.ir.ops.comparison import equal, logical_and, where
from graphc.ir.ops.indexing import concatenate, slice_
from graphc.ir.ops.layout import reshape
from graphc.ir.ops.linalg import (
    along_columns,
    along_rows,
    as_diagonal,
    below,
    check_matrix,
    check_square,
    diagonal,
    on_diagonal,
    symmetric,
    triangle_of,
    triangular_solve,
)
from graphc.ir.ops.products import matmul, matrix_transpose
from graphc.ir.types import Shape, TensorType

# packing --------------------------------------------------------------------------------------------------------------


def _parts(packed: Node, *shapes: Shape) -> list[Node]:
    """What is packed along the last axis, in these shapes."""
    batch, start = packed.shape[:-1], 0
    found: list[Node] = []
    for shape in shapes:
        size: Extent = product(shape)
        flat = slice_(
            packed, start=(*(0 for _ in batch), start), size=(*batch, size), step=(1,) * len(packed.shape)
        )
        found.append(flat if len(shape) == 1 else reshape(flat, shape=(*batch, *shape)))
        start = start + size
    return found


def _pack(batch: Shape, *parts: Node) -> Node:
    """The parts, flat, along one axis."""
    rank = len(batch)
    flat = [
        part if len(part.shape) == rank + 1 else reshape(part, shape=(*batch, product(part.shape[rank:])))
        for part in parts
    ]
    return concatenate(*flat, axis=rank)


def _quotient(x: Node, gap: Node) -> Node:
    """``x / gap`` off the diagonal, 0 on it, and where both are 0: equal values that nothing tells apart."""
    nothing, one = full(0, x.type), full(1, x.type)
    settled = logical_and(equal(x, nothing), equal(gap, nothing))
    return on_diagonal(nothing, x / where(settled, one, on_diagonal(one, gap)))


# eigenvalues ----------------------------------------------------------------------------------------------------------


def _eigh_infer(a: TensorType) -> TensorType:
    check_square("eigh", a)
    n = a.shape[-1]
    return a.with_shape((*a.shape[:-2], n + n * n))


def eigh_parts(packed: Node, n: Extent) -> tuple[Node, Node]:
    """The eigenvalues, and the eigenvectors as columns."""
    values, rows = _parts(packed, (n,), (n, n))
    return values, matrix_transpose(rows)


def _gap(values: Node, like: Node) -> Node:
    """What value j exceeds value i by."""
    return along_rows(values, like) - along_columns(values, like)


def _eigh_jvp(node: Node, tangents: tuple[Node]) -> Node:
    da = symmetric(tangents[0])
    values, vectors = eigh_parts(node, da.shape[-1])
    turned = matmul(matmul(matrix_transpose(vectors), da), vectors)
    moved = matmul(vectors, _quotient(turned, _gap(values, turned)))
    return _pack(da.shape[:-2], diagonal(turned), matrix_transpose(moved))


def _eigh_vjp(node: Node, ct: Node) -> tuple[Node]:
    n = node.operands[0].shape[-1]
    (values, vectors), (d_values, d_vectors) = eigh_parts(node, n), eigh_parts(ct, n)
    turned = matmul(matrix_transpose(vectors), d_vectors)
    inner = as_diagonal(d_values, _quotient(turned, _gap(values, turned)))
    return (triangle_of(matmul(matmul(vectors, inner), matrix_transpose(vectors))),)


eigh: Op = Op(
    name="eigh",
    accepts=FLOAT,
    infer=_eigh_infer,
    evaluate=factorizations.eigh,  # in its own precision: the signs of vectors are the library's
    derivative=Custom(_eigh_jvp, _eigh_vjp),
    numpy=("linalg.eigh",),
    note="reads the lower triangle, which alone has a gradient; nan where it is not finite; equal eigenvalues: "
    "gradients through the eigenvectors are inf or nan, others finite",
)


def _eigvalsh_infer(a: TensorType) -> TensorType:
    check_square("eigvalsh", a)
    return a.with_shape(a.shape[:-1])


def _eigvalsh_jvp(node: Node, tangents: tuple[Node]) -> Node:
    a = node.operands[0]
    _, vectors = eigh_parts(eigh(a), a.shape[-1])
    return diagonal(matmul(matmul(matrix_transpose(vectors), symmetric(tangents[0])), vectors))


def _eigvalsh_vjp(node: Node, ct: Node) -> tuple[Node]:
    a = node.operands[0]
    _, vectors = eigh_parts(eigh(a), a.shape[-1])
    scaled = vectors * along_rows(ct, vectors)
    return (triangle_of(matmul(scaled, matrix_transpose(vectors))),)


eigvalsh: Op = Op(
    name="eigvalsh",
    accepts=FLOAT,
    infer=_eigvalsh_infer,
    evaluate=factorizations.eigvalsh,
    derivative=Custom(_eigvalsh_jvp, _eigvalsh_vjp),
    numpy=("linalg.eigvalsh",),
    note="as eigh; of equal eigenvalues each gets the slope along its own eigenvector, and second derivatives are "
    "inf or nan",
)


# singular values ------------------------------------------------------------------------------------------------------


def _svd_infer(a: TensorType) -> TensorType:
    check_matrix("svd", a)
    rows, columns = a.shape[-2:]
    return a.with_shape((*a.shape[:-2], factorizations.shorter(rows, columns) * (1 + rows + columns)))


def svd_parts(packed: Node, rows: Extent, columns: Extent) -> tuple[Node, Node, Node]:
    """The left singular vectors as columns, the singular values, and the right singular vectors as columns."""
    k = factorizations.shorter(rows, columns)
    values, left, right = _parts(packed, (k,), (k, rows), (columns, k))
    return matrix_transpose(left), values, right


def _gap_of_squares(values: Node, like: Node) -> Node:
    rows, columns = along_rows(values, like), along_columns(values, like)
    return (rows - columns) * (rows + columns)


def _beyond(basis: Node, x: Node, values: Node) -> Node | None:
    """The part of x outside of what a basis spans, over the singular values; None where it spans everything."""
    if basis.shape[-1] == basis.shape[-2]:
        return None
    outside, divisor = x - matmul(basis, matmul(matrix_transpose(basis), x)), along_rows(values, x)
    settled = logical_and(equal(outside, full(0, x.type)), equal(divisor, full(0, x.type)))
    return outside / where(settled, full(1, x.type), divisor)


def _plus(x: Node, more: Node | None) -> Node:
    return x if more is None else x + more


def _svd_jvp(node: Node, tangents: tuple[Node]) -> Node:
    """As the vjp, transposed."""
    da = tangents[0]
    left, values, right = svd_parts(node, *da.shape[-2:])
    inner = matmul(matmul(matrix_transpose(left), da), right)
    turned = matrix_transpose(inner)
    rows, columns, gap = along_rows(values, inner), along_columns(values, inner), _gap_of_squares(values, inner)
    d_left = matmul(left, _quotient(inner * rows + columns * turned, gap))
    d_right = matmul(right, _quotient(columns * inner + turned * rows, gap))
    d_left = _plus(d_left, _beyond(left, matmul(da, right), values))
    d_right = _plus(d_right, _beyond(right, matmul(matrix_transpose(da), left), values))
    return _pack(da.shape[:-2], diagonal(inner), matrix_transpose(d_left), d_right)


def _svd_vjp(node: Node, ct: Node) -> tuple[Node]:
    """J. Townsend, Differentiating the singular value decomposition, 2016, of the reduced form."""
    shape = node.operands[0].shape[-2:]
    (left, values, right), (d_left, d_values, d_right) = svd_parts(node, *shape), svd_parts(ct, *shape)
    of_left, of_right = (
        x - matrix_transpose(x)
        for x in (matmul(matrix_transpose(left), d_left), matmul(matrix_transpose(right), d_right))
    )
    gap = _gap_of_squares(values, of_left)
    inner = _quotient(of_left * along_rows(values, of_left) + along_columns(values, of_left) * of_right, gap)
    result = matmul(matmul(left, as_diagonal(d_values, inner)), matrix_transpose(right))
    if (more := _beyond(left, d_left, values)) is not None:
        result = result + matmul(more, matrix_transpose(right))
    if (more := _beyond(right, d_right, values)) is not None:
        result = result + matmul(left, matrix_transpose(more))
    return (result,)


svd: Op = Op(
    name="svd",
    accepts=FLOAT,
    infer=_svd_infer,
    evaluate=factorizations.svd,
    derivative=Custom(_svd_jvp, _svd_vjp),
    numpy=("linalg.svd",),
    note="nan where the matrix is not finite; equal singular values, or zero ones: gradients through the singular "
    "vectors are inf or nan, others finite",
)


def _svdvals_infer(a: TensorType) -> TensorType:
    check_matrix("svdvals", a)
    return a.with_shape((*a.shape[:-2], factorizations.shorter(*a.shape[-2:])))


def _svdvals_jvp(node: Node, tangents: tuple[Node]) -> Node:
    a = node.operands[0]
    left, _, right = svd_parts(svd(a), *a.shape[-2:])
    return diagonal(matmul(matmul(matrix_transpose(left), tangents[0]), right))


def _svdvals_vjp(node: Node, ct: Node) -> tuple[Node]:
    a = node.operands[0]
    left, _, right = svd_parts(svd(a), *a.shape[-2:])
    return (matmul(left * along_rows(ct, left), matrix_transpose(right)),)


svdvals: Op = Op(
    name="svdvals",
    accepts=FLOAT,
    infer=_svdvals_infer,
    evaluate=factorizations.svdvals,
    derivative=Custom(_svdvals_jvp, _svdvals_vjp),
    numpy=("linalg.svd", "linalg.svdvals"),
    note="as svd; the gradient at equal values, or at 0, is that along the vectors that the library chose",
)


# QR -------------------------------------------------------------------------------------------------------------------


def _qr_infer(a: TensorType) -> TensorType:
    check_matrix("qr", a)
    rows, columns = a.shape[-2:]
    if isinstance(difference := rows - columns, int) and difference < 0:
        raise DeclarationValueError(f"qr wants at least as many rows as columns, got {a}")
    return a.with_shape((*a.shape[:-2], columns * (rows + columns)))


def _qr_guards(node: Node) -> Any:
    rows, columns = node.operands[0].shape[-2:]
    if isinstance(rows - columns, Dim):
        yield from at_least_zero(rows - columns, f"qr of {rows} rows and {columns} columns")


def qr_parts(packed: Node, rows: Extent, columns: Extent) -> tuple[Node, Node]:
    """Q and R."""
    turned, triangle = _parts(packed, (columns, rows), (columns, columns))
    return matrix_transpose(turned), triangle


def _over(triangle: Node, x: Node, transpose: bool = False) -> Node:
    """x R⁻¹, or x R⁻ᵀ."""
    turned = matrix_transpose(x)
    turned = triangular_solve(triangle, turned, lower=False, transpose=not transpose, unit_diagonal=False)
    return matrix_transpose(turned)


def _qr_jvp(node: Node, tangents: tuple[Node]) -> Node:
    da = tangents[0]
    q, triangle = qr_parts(node, *da.shape[-2:])
    moved = _over(triangle, da)
    inner = matmul(matrix_transpose(q), moved)
    strict = below(inner, diagonal=False)
    rotation = strict - matrix_transpose(strict)
    d_q = moved + matmul(q, rotation - inner)
    return _pack(da.shape[:-2], matrix_transpose(d_q), matmul(inner - rotation, triangle))


def _qr_vjp(node: Node, ct: Node) -> tuple[Node]:
    """S. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions, 2010."""
    shape = node.operands[0].shape[-2:]
    (q, triangle), (d_q, d_triangle) = qr_parts(node, *shape), qr_parts(ct, *shape)
    upper = matrix_transpose(below(matrix_transpose(d_triangle)))
    inner = matmul(triangle, matrix_transpose(upper)) - matmul(matrix_transpose(d_q), q)
    return (_over(triangle, d_q + matmul(q, symmetric(inner)), transpose=True),)


qr: Op = Op(
    name="qr",
    accepts=FLOAT,
    infer=_qr_infer,
    evaluate=factorizations.qr,
    derivative=Custom(_qr_jvp, _qr_vjp),
    guards=_qr_guards,
    numpy=("linalg.qr",),
    note="nan where the matrix is not finite; the gradient is inf or nan where its columns depend on each other",
)
