"""What a library's routines on matrices compute, in NumPy and SciPy, and the shapes they take: the reference.

Each takes stacks of matrices. A factorisation has several parts and a buffer is one array, so its parts are packed: one
after the other along the last axis, as the library leaves them. What cannot be factorised is NaN, and nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.dims import Dim, Extent, dim_min
from graphc.ir.types import Shape

Array: TypeAlias = "np.ndarray[Any, Any]"


def shorter(rows: Extent, columns: Extent) -> Extent:
    """The smaller of two extents."""
    return dim_min(rows, columns) if isinstance(rows, Dim) or isinstance(columns, Dim) else min(rows, columns)


# stacks ---------------------------------------------------------------------------------------------------------------


def _indices(stack: Array) -> Iterator[tuple[int, ...]]:
    """The places of the matrices in a stack; none where matrices are empty."""
    return np.ndindex(stack.shape[:-2] if stack.size else (0,))


def _packed(function: Callable[[Array], tuple[Array, ...]], a: Array, shape: tuple[int, ...]) -> Array:
    """The parts that `function` makes of each matrix, flat, in a row; NaN where a matrix is not finite, or it fails."""
    out = np.full((*a.shape[:-2], *shape), np.nan, a.dtype)
    for index in _indices(a):
        try:
            if np.isfinite(a[index]).all():
                out[index] = np.concatenate([np.ravel(part) for part in function(a[index])])
        except np.linalg.LinAlgError:
            pass
    return out


# Cholesky and triangular systems --------------------------------------------------------------------------------------


def cholesky(a: Array) -> Array:
    """Lower triangular L, a = L Lᵀ, of the lower triangle of a; NaN in the triangle if a is not positive definite."""
    out = np.tril(np.full(a.shape, np.nan, a.dtype))
    for index in _indices(a):
        try:
            factor = np.linalg.cholesky(a[index])
        except np.linalg.LinAlgError:
            continue
        if not np.isnan(factor.diagonal()).any():
            out[index] = factor
    return out


def triangular_solve(a: Array, b: Array, lower: bool, transpose: bool, unit_diagonal: bool) -> Array:
    """The solution of a x = b (or aᵀ x = b), a triangular; NaN where its diagonal has a zero."""
    from scipy.linalg import solve_triangular

    out = np.full(b.shape, np.nan, b.dtype)
    for index in _indices(b):
        if unit_diagonal or a[index].diagonal().all():
            out[index] = solve_triangular(
                a[index], b[index], int(transpose), lower, unit_diagonal, check_finite=False
            )
    return out


# LU -------------------------------------------------------------------------------------------------------------------


def lu(a: Array) -> Array:
    """LU of aᵀ, which is the matrix in memory to a library that counts columns first.

    Its n rows are followed by one of pivots: the row (of aᵀ) that each was swapped with, from the first to the last.
    """
    from scipy.linalg import get_lapack_funcs

    (getrf,) = get_lapack_funcs(("getrf",), (a,))
    rows, columns = a.shape[-2:]
    out = np.empty((*a.shape[:-2], rows + 1, columns), a.dtype)
    for index in _indices(a):
        factors, pivots, _ = getrf(a[index].T)
        out[index][:-1], out[index][-1] = factors.T, pivots
    return out


def lu_solve(factors: Array, b: Array, transpose: bool) -> Array:
    """The solution of a x = b (or aᵀ x = b) by `lu` of a; NaN where a pivot is zero."""
    from scipy.linalg import get_lapack_funcs

    (getrs,) = get_lapack_funcs(("getrs",), (factors,))
    out = np.full(b.shape, np.nan, b.dtype)
    for index in _indices(b):
        triangles, pivots = factors[index][:-1].T, factors[index][-1].astype(np.int32)
        if triangles.diagonal().all():
            out[index], _ = getrs(triangles, pivots, b[index], trans=int(not transpose))
    return out


def log_abs_det(factors: Array) -> Array:
    """The logarithm of the determinant's magnitude, by `lu`; -inf where it is zero."""
    logarithms = np.log(np.abs(_pivots(factors)))
    return np.asarray(np.sum(logarithms, axis=-1, dtype=np.float64), factors.dtype)


def det_sign(factors: Array) -> Array:
    """The sign of the determinant, by `lu`: -1, 0 or 1; NaN counts as positive."""
    pivots, n = _pivots(factors), factors.shape[-1]
    flips = (pivots < 0).sum(-1) + (factors[..., n, :] != np.arange(n)).sum(-1)
    return np.asarray(np.where((pivots == 0).any(-1), 0, 1 - 2 * (flips % 2)), factors.dtype)


def _pivots(factors: Array) -> Array:
    """What stands on the diagonal of U."""
    return factors[..., :-1, :].diagonal(axis1=-2, axis2=-1)


# orthogonal factorisations --------------------------------------------------------------------------------------------


# By SciPy's library, which is the one that compiled code calls: signs of vectors are for it to choose.


def eigh(a: Array) -> Array:
    """Eigenvalues in ascending order, then the eigenvectors, each a row, of the lower triangle of a."""
    from scipy import linalg

    def factorise(matrix: Array) -> tuple[Array, ...]:
        values, vectors = linalg.eigh(matrix, driver="evd")
        return values, vectors.T

    n = a.shape[-1]
    return _packed(factorise, np.tril(a), (n + n * n,))


def eigvalsh(a: Array) -> Array:
    """The eigenvalues alone."""
    from scipy import linalg

    return _packed(lambda matrix: (linalg.eigvalsh(matrix, driver="evd"),), np.tril(a), a.shape[-1:])


def svd(a: Array) -> Array:
    """Singular values in descending order, then the left vectors, each a row, then the right ones, each a column."""
    from scipy import linalg

    def factorise(matrix: Array) -> tuple[Array, ...]:
        left, values, right = linalg.svd(matrix, full_matrices=False)
        return values, left.T, right.T

    rows, columns = a.shape[-2:]
    return _packed(factorise, a, (min(rows, columns) * (1 + rows + columns),))


def svdvals(a: Array) -> Array:
    """The singular values alone."""
    from scipy import linalg

    return _packed(lambda matrix: (linalg.svdvals(matrix),), a, (min(a.shape[-2:]),))


def qr(a: Array) -> Array:
    """Of a with at least as many rows as columns: Q, each column a row, then R."""
    from scipy import linalg

    def factorise(matrix: Array) -> tuple[Array, ...]:
        orthogonal, triangle = linalg.qr(matrix, mode="economic")
        return orthogonal.T, triangle

    rows, columns = a.shape[-2:]
    return _packed(factorise, a, (columns * (rows + columns),))


# calls ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Routine:
    """A library routine: ``reference(*operands, **flags)`` is what it computes.

    Attributes
    ----------
    result
        The shape of the result, from those of the operands; None where they do not fit each other.
    work
        The shape of the memory that it needs beside them; None for none.
    flags
        The names of its options.
    operands
        How many buffers it reads.
    """

    reference: Callable[..., Array]
    result: Callable[..., Shape | None]
    work: Callable[[Shape], Shape] | None = None
    flags: tuple[str, ...] = ()
    operands: int = 1


def _square(a: Shape) -> Shape | None:
    return a if len(a) > 1 and a[-1] == a[-2] else None


def _solution(a: Shape, b: Shape) -> Shape | None:
    return b if _square(a) and len(a) == len(b) and a[:-1] == b[:-1] else None


def _factors(a: Shape) -> Shape | None:
    return (*a[:-2], a[-2] + 1, a[-1]) if _square(a) else None


def _lu_solution(factors: Shape, b: Shape) -> Shape | None:
    return b if len(b) == len(factors) > 1 and _factors((*b[:-1], b[-2])) == factors else None


def _determinant(factors: Shape) -> Shape | None:
    return factors[:-2] if len(factors) > 1 and factors[-2] == factors[-1] + 1 else None


def _eigh(a: Shape) -> Shape | None:
    return (*a[:-2], a[-1] + a[-1] * a[-1]) if _square(a) else None


def _eigvalsh(a: Shape) -> Shape | None:
    return a[:-1] if _square(a) else None


def _svd(a: Shape) -> Shape | None:
    return (*a[:-2], shorter(*a[-2:]) * (1 + a[-2] + a[-1])) if len(a) > 1 else None


def _svdvals(a: Shape) -> Shape | None:
    return (*a[:-2], shorter(*a[-2:])) if len(a) > 1 else None


def _qr(a: Shape) -> Shape | None:
    return (*a[:-2], a[-1] * (a[-2] + a[-1])) if len(a) > 1 else None


ROUTINES: dict[str, Routine] = {
    "cholesky": Routine(cholesky, _square),
    "triangular_solve": Routine(
        triangular_solve, _solution, flags=("lower", "transpose", "unit_diagonal"), operands=2
    ),
    "lu": Routine(lu, _factors),
    "lu_solve": Routine(lu_solve, _lu_solution, flags=("transpose",), operands=2),
    "log_abs_det": Routine(log_abs_det, _determinant),
    "det_sign": Routine(det_sign, _determinant),
    "eigh": Routine(eigh, _eigh),
    "eigvalsh": Routine(eigvalsh, _eigvalsh, lambda a: a[-2:]),
    "svd": Routine(svd, _svd, lambda a: a[-2:]),
    "svdvals": Routine(svdvals, _svdvals, lambda a: a[-2:]),
    "qr": Routine(qr, _qr, lambda a: a[-1:]),
}
