"""NumPy's linear algebra on nodes: systems, determinants and factorisations of matrices, and of stacks of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np

from graphc import layout, reductions
from graphc.arithmetic import divide, greater, multiply
from graphc.indexing import getitem
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import dim_max, nominal, product
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.half import finfo
from graphc.ir.ops.linalg import check_matrix, check_square
from graphc.ir.ops.spectra import eigh_parts, qr_parts, svd_parts
from graphc.operands import Operand, as_float, as_node, broadcast, broadcast_shapes, cast, result_dtype, told
from graphc.products import matmul

Solver = Callable[[Node, Node], Node]


class EighResult(NamedTuple):
    """Eigenvalues in ascending order, and the eigenvectors as columns."""

    eigenvalues: Node
    eigenvectors: Node


class SlogdetResult(NamedTuple):
    """The sign of a determinant, and the logarithm of its magnitude."""

    sign: Node
    logabsdet: Node


class SVDResult(NamedTuple):
    """Left singular vectors as columns, singular values in descending order, right singular vectors as rows."""

    U: Node
    S: Node
    Vh: Node


class QRResult(NamedTuple):
    """A matrix with orthonormal columns, and an upper triangular one."""

    Q: Node
    R: Node


def _square(name: str, a: Operand) -> Node:
    node = as_float(a)
    check_square(name, node.type)
    return node


def _matrix(name: str, a: Operand) -> Node:
    node = as_float(a)
    check_matrix(name, node.type)
    return node


# systems --------------------------------------------------------------------------------------------------------------


def solve(a: Operand, b: Operand) -> Node:
    """The solution of ``a @ x = b``; `b` is a vector if it has one axis, else a stack of matrices."""
    return _solution("np.linalg.solve", partial(ops.solve, transpose=False), a, b)


def inv(a: Operand) -> Node:
    """The inverse; ``np.linalg.solve(a, b)`` costs less than ``np.linalg.inv(a) @ b``."""
    matrix = _square("np.linalg.inv", a)
    identity = layout.eye(matrix.shape[-1], dtype=matrix.dtype)
    return ops.solve(matrix, broadcast(identity, matrix.shape), transpose=False)


def solve_triangular(
    a: Operand, b: Operand, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Node:
    """The solution of ``a @ x = b``, or of ``a.T @ x = b``, for a triangle of `a`."""
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise DeclarationValueError(f"solve_triangular: trans is 0 or 1 ('N' or 'T'), not {told(trans)}")
    flags = {"lower": bool(lower), "transpose": trans not in (0, "N"), "unit_diagonal": bool(unit_diagonal)}
    return _solution("solve_triangular", partial(ops.triangular_solve, **flags), a, b)


def cho_solve(c_and_lower: Any, b: Operand) -> Node:
    """The solution of ``a @ x = b`` by the Cholesky factor of a and whether it is the lower one."""
    if not isinstance(c_and_lower, tuple) or len(c_and_lower) != 2 or not isinstance(c_and_lower[1], (bool, np.bool)):
        raise DeclarationTypeError(
            f"cho_solve wants a factor and whether it is lower, got {told(c_and_lower)}",
            hint="write graphc.cho_solve((np.linalg.cholesky(a), True), b)",
        )
    factor, lower = c_and_lower[0], bool(c_and_lower[1])

    def solver(factor: Node, b: Node) -> Node:
        flags = {"lower": lower, "unit_diagonal": False}
        first = ops.triangular_solve(factor, b, transpose=not lower, **flags)
        return ops.triangular_solve(factor, first, transpose=lower, **flags)

    return _solution("cho_solve", solver, factor, b)


def _solution(name: str, solver: Solver, a: Operand, b: Operand) -> Node:
    """Solve for right-hand sides of any rank; one matrix for a stack of them is factorised once."""
    matrix, right = _square(name, a), as_float(b)
    dtype = result_dtype(matrix, right)
    matrix, right = cast(matrix, dtype), cast(right, dtype)
    if not right.shape:
        raise DeclarationValueError(f"{name} wants a vector or matrices on the right, got {right.type}")
    is_vector = len(right.shape) == 1
    columns = layout.expand_dims(right, 1) if is_vector else right
    if matrix.shape[-1] != columns.shape[-2]:
        raise DeclarationValueError(
            f"{name}: {matrix.type} has {matrix.shape[-1]} unknowns, {right.type} has {columns.shape[-2]} rows of "
            f"right-hand sides",
            hint="a vector has one axis: write b[..., None] for a stack of vectors" if len(right.shape) > 1 else None,
        )
    if len(matrix.shape) == 2 and len(columns.shape) > 2:
        return _side_by_side(solver, matrix, columns)
    batch = broadcast_shapes(matrix.shape[:-2], columns.shape[:-2])
    result = solver(broadcast(matrix, batch + matrix.shape[-2:]), broadcast(columns, batch + columns.shape[-2:]))
    return layout.squeeze(result, -1) if is_vector else result


def _side_by_side(solver: Solver, matrix: Node, stack: Node) -> Node:
    """Solve with the columns of all matrices of a stack side by side."""
    turned = layout.moveaxis(stack, -2, 0)
    result = solver(matrix, ops.reshape(turned, shape=(turned.shape[0], product(turned.shape[1:]))))
    return layout.moveaxis(ops.reshape(result, shape=turned.shape), 0, -2)


# determinants ---------------------------------------------------------------------------------------------------------


def slogdet(a: Operand) -> SlogdetResult:
    """The sign of the determinant, and the logarithm of its magnitude."""
    matrix = _square("np.linalg.slogdet", a)
    return SlogdetResult(ops.det_sign(matrix), ops.log_abs_det(matrix))


def det(a: Operand) -> Node:
    """The determinant, as NumPy computes it from sign and logarithm; its gradient is nan where it is 0."""
    matrix = _square("np.linalg.det", a)
    return multiply(ops.det_sign(matrix), ops.exp(ops.log_abs_det(matrix)))


# factorisations -------------------------------------------------------------------------------------------------------


def cholesky(a: Operand, /, *, upper: bool = False) -> Node:
    """The lower triangular L with ``a = L @ L.T``, of the lower triangle; or the upper one, of the upper triangle."""
    matrix = _square("np.linalg.cholesky", a)
    if not upper:
        return ops.cholesky(matrix)
    return layout.matrix_transpose(ops.cholesky(layout.matrix_transpose(matrix)))


def _read_triangle(name: str, a: Operand, uplo: Any) -> Node:
    matrix = _square(name, a)
    if not isinstance(uplo, str) or uplo.upper() not in ("L", "U"):
        raise DeclarationValueError(f"{name}: UPLO is 'L' or 'U', not {told(uplo)}")
    return matrix if uplo.upper() == "L" else layout.matrix_transpose(matrix)


def eigh(a: Operand, UPLO: str = "L") -> EighResult:
    """Eigenvalues and eigenvectors of the symmetric matrix that a triangle stands for."""
    matrix = _read_triangle("np.linalg.eigh", a, UPLO)
    return EighResult(*eigh_parts(ops.eigh(matrix), matrix.shape[-1]))


def eigvalsh(a: Operand, UPLO: str = "L") -> Node:
    """Eigenvalues of the symmetric matrix that a triangle stands for."""
    return ops.eigvalsh(_read_triangle("np.linalg.eigvalsh", a, UPLO))


def svd(a: Operand, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """Singular values, with the vectors unless told otherwise."""
    matrix = _matrix("np.linalg.svd", a)
    if hermitian:
        raise DeclarationValueError("np.linalg.svd of views has no hermitian=True", hint="use np.linalg.eigh")
    if not compute_uv:
        return ops.svdvals(matrix)
    rows, columns = matrix.shape[-2:]
    if full_matrices and rows != columns:
        _refuse_full("np.linalg.svd", matrix, "full_matrices=False")
    left, values, right = svd_parts(ops.svd(matrix), rows, columns)
    return SVDResult(left, values, layout.matrix_transpose(right))


def svdvals(x: Operand, /) -> Node:
    """Singular values in descending order."""
    return ops.svdvals(_matrix("np.linalg.svdvals", x))


def qr(a: Operand, mode: str = "reduced") -> Any:
    """Orthonormal columns times an upper triangle; mode 'r' is the triangle alone."""
    matrix = _matrix("np.linalg.qr", a)
    rows, columns = matrix.shape[-2:]
    if mode not in ("reduced", "r", "complete"):
        raise DeclarationValueError(
            f"np.linalg.qr of views has no mode {told(mode)}",
            hint="there are 'reduced', 'r' and, of a square matrix, 'complete'",
        )
    if mode == "complete" and rows != columns:
        _refuse_full("np.linalg.qr", matrix, "mode='reduced'")
    wider = columns - rows
    if isinstance(wider, int) and wider > 0:
        result = _wide_qr(matrix)
    else:
        result = QRResult(*qr_parts(ops.qr(matrix), rows, columns))
    return result.R if mode == "r" else result


def _wide_qr(matrix: Node) -> QRResult:
    """Q is that of the leading square; the other columns of R are turned by it."""
    n = matrix.shape[-2]
    first, rest = (getitem(matrix, (..., part)) for part in (slice(n), slice(n, None)))
    q, triangle = qr_parts(ops.qr(first), n, n)
    return QRResult(q, layout.concatenate([triangle, matmul(layout.matrix_transpose(q), rest)], -1))


def _refuse_full(name: str, matrix: Node, instead: str) -> NoReturn:
    raise DeclarationValueError(
        f"{name} of {matrix.type}: the vectors beyond the matrix are not unique, and have no derivative",
        hint=f"write {instead}",
    )


# made of these --------------------------------------------------------------------------------------------------------


def matrix_power(a: Operand, n: int) -> Node:
    """The product of n times the matrix; of the inverse where n is negative."""
    node = as_node(a)
    try:
        n = operator.index(n)
    except TypeError:
        raise DeclarationTypeError(f"np.linalg.matrix_power wants an integer exponent, got {told(n)}") from None
    check_square("np.linalg.matrix_power", as_float(node).type)
    if n == 0:
        return broadcast(layout.eye(node.shape[-1], dtype=node.dtype), node.shape)
    base, n = (inv(node), -n) if n < 0 else (node, n)
    result: Node | None = None
    while n:
        if n % 2:
            result = base if result is None else matmul(result, base)
        n //= 2
        base = matmul(base, base) if n else base
    assert result is not None
    return result


def multi_dot(arrays: Sequence[Operand]) -> Node:
    """The product of two or more matrices in the order that takes the fewest multiplications (by known extents).

    The first and the last may be vectors.
    """
    nodes = [as_node(array) for array in arrays] if isinstance(arrays, (list, tuple)) else []
    ends = [len(node.shape) in (1, 2) for node in nodes[:1] + nodes[-1:]]
    if len(nodes) < 2 or not all(ends) or any(len(node.shape) != 2 for node in nodes[1:-1]):
        given = ", ".join(str(node.type) for node in nodes) or repr(arrays)
        raise DeclarationValueError(
            f"np.linalg.multi_dot wants two or more matrices, the first and the last may be vectors; got {given}"
        )
    first, last = (len(node.shape) == 1 for node in (nodes[0], nodes[-1]))
    nodes[0] = layout.expand_dims(nodes[0], 0) if first else nodes[0]
    nodes[-1] = layout.expand_dims(nodes[-1], 1) if last else nodes[-1]
    result = _chain(nodes)
    dropped = tuple(axis for axis, drop in ((0, first), (1, last)) if drop)
    return layout.squeeze(result, dropped) if dropped else result


def _chain(nodes: list[Node]) -> Node:
    """Matrix chain multiplication: the best split of every run of factors, from short runs to long ones."""
    best: dict[tuple[int, int], tuple[int, Node]] = {(k, k): (0, node) for k, node in enumerate(nodes)}
    for length in range(1, len(nodes)):
        for start in range(len(nodes) - length):
            stop = start + length
            ends = nominal(nodes[start].shape[0]) * nominal(nodes[stop].shape[1])
            cost, split = min(
                (best[start, k][0] + best[k + 1, stop][0] + ends * nominal(nodes[k].shape[1]), k)
                for k in range(start, stop)
            )
            best[start, stop] = cost, matmul(best[start, split][1], best[split + 1, stop][1])
    return best[0, len(nodes) - 1][1]


def cond(x: Operand, p: Any = None) -> Node:
    """The condition number: the largest over the smallest singular value, or of norms of x and its inverse."""
    matrix = _matrix("np.linalg.cond", x)
    if p in (None, 2, -2):
        values = ops.svdvals(matrix)
        largest, smallest = getitem(values, (..., 0)), getitem(values, (..., -1))
        return divide(smallest, largest) if p == -2 else divide(largest, smallest)
    check_square("np.linalg.cond", matrix.type)
    norms = (reductions.linalg_norm(node, p, (-2, -1)) for node in (matrix, inv(matrix)))
    return multiply(*norms)


def matrix_rank(A: Operand, tol: Operand = None, hermitian: bool = False, *, rtol: Operand = None) -> Node:
    """How many singular values exceed `tol`, which is `rtol` times the largest (the dtype's precision times a side)."""
    node = as_float(A)
    if hermitian:
        raise DeclarationValueError("np.linalg.matrix_rank of views has no hermitian=True", hint="leave it out")
    if len(node.shape) < 2:
        return cast(reductions.any(node), np.dtype("int64"))
    values = ops.svdvals(node)
    if tol is None:
        if rtol is None:
            rtol = cast(as_node(multiply(dim_max(*node.shape[-2:]), float(finfo(node.dtype).eps))), node.dtype)
        tol = multiply(getitem(values, (..., slice(1))), _column(rtol))
    else:
        tol = _column(tol)
    return reductions.count_nonzero(greater(values, tol), -1)


def _column(x: Operand) -> Node:
    """Of a number per matrix one that meets the matrix's values."""
    node = as_node(x)
    return layout.expand_dims(node, -1) if node.shape else node


# The calls that go through NumPy's protocol.
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.linalg.solve: solve,
    np.linalg.inv: inv,
    np.linalg.det: det,
    np.linalg.slogdet: slogdet,
    np.linalg.cholesky: cholesky,
    np.linalg.eigh: eigh,
    np.linalg.eigvalsh: eigvalsh,
    np.linalg.svd: svd,
    np.linalg.svdvals: svdvals,
    np.linalg.qr: qr,
    np.linalg.matrix_power: matrix_power,
    np.linalg.multi_dot: multi_dot,
    np.linalg.cond: cond,
    np.linalg.matrix_rank: matrix_rank,
}
