"""Cholesky, LU and triangular systems on the device: a block of threads for each matrix of a stack.

The host, which waits for nothing that is computed here, factorises what is too large for one block, and what is not a
product of triangles: eigenvalues, singular values, QR.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, types

from graphc.codegen.cuda import by_host
from graphc.codegen.cuda.emit import Grid
from graphc.codegen.cuda.functions import SIMULATED, kernel
from graphc.codegen.vector_math import log

# Rows of the largest matrix that a block factorises, by reasoning, not by measuring: a block takes up about an element
# of memory each cycle, so 256 rows take it 3 ms, and the host 1. In the simulator the host is faster with any.
LARGEST = 256
# Threads of a block; so many of them stand side by side in a row.
THREADS, LANES = (4, 2) if SIMULATED else (512, 32)

# Taken into the kernels before types are known, as in `graphc.codegen.cuda.functions`.
_device = cuda.jit(device=True, inline="always")


# what generated code calls: as in `graphc.codegen.lapack`, on arrays of the device -----------------------------------


def cholesky(a: Any, out: Any, stream: Any) -> None:
    """Lower triangular L with a = L Lᵀ, of the lower triangle of a; NaN where a is not positive definite."""
    if _by_a_block(a):
        factor_cholesky[_count(a), THREADS, stream](_flat(a), _rows(a), _flat(out))
    else:
        by_host.cholesky(a, out, stream)


def triangular_solve(
    a: Any, b: Any, out: Any, stream: Any, lower: bool = False, transpose: bool = False, unit_diagonal: bool = False
) -> None:
    """The solution of a x = b (or aᵀ x = b) for a triangular a; NaN where its diagonal has a zero."""
    if _by_a_block(b):
        columns = tuple(b.shape)[-1]
        solve_triangle[_count(b), THREADS, stream](
            _flat(a), _flat(b), _rows(b), columns, lower, transpose, unit_diagonal, _flat(out)
        )
    else:
        by_host.triangular_solve(a, b, out, stream, lower=lower, transpose=transpose, unit_diagonal=unit_diagonal)


def lu(a: Any, out: Any, stream: Any) -> None:
    """The factors of aᵀ, one on top of the other, and below them a row of pivots."""
    if _by_a_block(a):
        factor_lu[_count(a), THREADS, stream](_flat(a), _rows(a), _flat(out))
    else:
        by_host.lu(a, out, stream)


def lu_solve(factors: Any, b: Any, out: Any, stream: Any, transpose: bool = False) -> None:
    """The solution of a x = b (or aᵀ x = b) by `lu` of a; NaN where a pivot is zero."""
    if _by_a_block(b):
        columns = tuple(b.shape)[-1]
        solve_by_lu[_count(b), THREADS, stream](_flat(factors), _flat(b), _rows(b), columns, transpose, _flat(out))
    else:
        by_host.lu_solve(factors, b, out, stream, transpose=transpose)


def log_abs_det(factors: Any, out: Any, stream: Any) -> None:
    """The logarithm of the magnitude of a determinant, by `lu`."""
    _determinant(log_determinants, factors, out, stream)


def det_sign(factors: Any, out: Any, stream: Any) -> None:
    """The sign of a determinant, by `lu`: -1, 0 or 1; NaN counts as positive."""
    _determinant(determinant_signs, factors, out, stream)


def _determinant(kernel: Any, factors: Any, out: Any, stream: Any) -> None:
    if out.size:
        grid = Grid.at_hand()
        vector = out.reshape(out.size)
        kernel[grid.blocks, grid.threads, stream](_flat(factors), tuple(factors.shape)[-1], vector)


def _by_a_block(a: Any) -> bool:
    return not SIMULATED and _rows(a) <= LARGEST and a.size > 0


def _rows(a: Any) -> int:
    return int(tuple(a.shape)[-2])


def _count(a: Any) -> int:
    """How many matrices are in a stack."""
    return math.prod(tuple(a.shape)[:-2])


def _flat(a: Any) -> Any:
    return a.reshape(a.size)


# kernels --------------------------------------------------------------------------------------------------------------


@kernel()
def factor_cholesky(a: Any, n: int, out: Any) -> None:
    """Store lower triangular factors, one column after the other: each is taken from all those behind it."""
    column = cuda.shared.array(LARGEST, a.dtype)
    base = cuda.blockIdx.x * n * n
    line, lane, lines = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES, cuda.blockDim.x // LANES
    for i in range(line, n, lines):
        for j in range(lane, n, LANES):
            out[base + i * n + j] = a[base + i * n + j] if j <= i else 0
    cuda.syncthreads()
    definite = True
    for k in range(n):
        pivot = out[base + k * n + k]
        definite = definite and pivot > 0
        if not definite:
            break
        cuda.syncthreads()  # all have read it before it is stored to
        root = math.sqrt(pivot)
        for i in range(k + cuda.threadIdx.x, n, cuda.blockDim.x):
            column[i] = out[base + i * n + k] / root if i > k else root
            out[base + i * n + k] = column[i]
        cuda.syncthreads()
        for i in range(k + 1 + line, n, lines):
            for j in range(k + 1 + lane, i + 1, LANES):
                out[base + i * n + j] -= column[i] * column[j]
        cuda.syncthreads()
    if not definite:
        cuda.syncthreads()
        for i in range(line, n, lines):
            for j in range(lane, i + 1, LANES):
                out[base + i * n + j] = np.nan


@kernel()
def factor_lu(a: Any, n: int, out: Any) -> None:
    """Store LU of transposed matrices with rows swapped, and the swaps: factor (i, j) stands at (j, i)."""
    column = cuda.shared.array(LARGEST, a.dtype)
    sizes = cuda.shared.array(THREADS, a.dtype)
    places = cuda.shared.array(THREADS, types.int32)
    base = cuda.blockIdx.x * (n + 1) * n
    line, lane, lines = cuda.threadIdx.x // LANES, cuda.threadIdx.x % LANES, cuda.blockDim.x // LANES
    for place in range(cuda.threadIdx.x, n * n, cuda.blockDim.x):
        out[base + place] = a[cuda.blockIdx.x * n * n + place]
    cuda.syncthreads()
    for k in range(n):
        sizes[cuda.threadIdx.x], places[cuda.threadIdx.x] = -1, k
        for i in range(k + cuda.threadIdx.x, n, cuda.blockDim.x):
            size = abs(out[base + k * n + i])
            if size > sizes[cuda.threadIdx.x]:
                sizes[cuda.threadIdx.x], places[cuda.threadIdx.x] = size, i
        best = _place_of_largest(sizes, places)
        for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            here, there = base + j * n + k, base + j * n + best
            one, other = out[here], out[there]
            out[here], out[there] = other, one
        if cuda.threadIdx.x == 0:
            out[base + n * n + k] = best
        cuda.syncthreads()
        pivot = out[base + k * n + k]
        for i in range(k + 1 + cuda.threadIdx.x, n, cuda.blockDim.x):
            column[i] = out[base + k * n + i] / pivot if pivot != 0 else out[base + k * n + i]
            out[base + k * n + i] = column[i]
        cuda.syncthreads()
        for j in range(k + 1 + line, n, lines):
            factor = out[base + j * n + k]
            for i in range(k + 1 + lane, n, LANES):
                out[base + j * n + i] -= column[i] * factor
        cuda.syncthreads()


@_device
def _place_of_largest(sizes: Any, places: Any) -> int:
    """Where the largest of the sizes that threads have found is; of equal ones the first."""
    thread = cuda.threadIdx.x
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half:
            size, place = sizes[thread + half], places[thread + half]
            if size > sizes[thread] or (size == sizes[thread] and place < places[thread]):
                sizes[thread], places[thread] = size, place
        cuda.syncthreads()
        half //= 2
    best: int = places[0]
    cuda.syncthreads()  # all have read it before it is used again
    return best


@_device
def _substitute(
    a: Any, base: int, by_row: int, by_column: int, n: int, x: Any, start: int, columns: int, forward: bool, unit: bool
) -> None:
    """Solve a triangular system in place, one row after the other: each is taken from all that follow.

    Element (i, j) of the matrix is ``a[base + i * by_row + j * by_column]``.
    """
    for step in range(n):
        k = step if forward else n - 1 - step
        if not unit:
            diagonal = a[base + k * (by_row + by_column)]
            for j in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                x[start + k * columns + j] /= diagonal
            cuda.syncthreads()
        first, last = (k + 1, n) if forward else (0, k)
        for place in range(cuda.threadIdx.x, (last - first) * columns, cuda.blockDim.x):
            i, j = first + place // columns, place % columns
            x[start + i * columns + j] -= a[base + i * by_row + k * by_column] * x[start + k * columns + j]
        cuda.syncthreads()


@_device
def _has_zero(a: Any, base: int, n: int, step: int) -> bool:
    """Whether one of some elements is zero."""
    found = False
    for k in range(n):
        found = found or a[base + k * step] == 0
    return found


@kernel()
def solve_triangle(
    a: Any, b: Any, n: int, columns: int, lower: bool, transpose: bool, unit_diagonal: bool, out: Any
) -> None:
    """Store solutions of triangular systems."""
    base, start = cuda.blockIdx.x * n * n, cuda.blockIdx.x * n * columns
    singular = not unit_diagonal and _has_zero(a, base, n, n + 1)
    for place in range(start + cuda.threadIdx.x, start + n * columns, cuda.blockDim.x):
        out[place] = np.nan if singular else b[place]
    cuda.syncthreads()
    by_row, by_column = (1, n) if transpose else (n, 1)
    if not singular:
        _substitute(a, base, by_row, by_column, n, out, start, columns, lower != transpose, unit_diagonal)


@kernel()
def solve_by_lu(factors: Any, b: Any, n: int, columns: int, transpose: bool, out: Any) -> None:
    """Store solutions of systems whose transposed matrices were factorised: ``P L U = aᵀ``."""
    base, start = cuda.blockIdx.x * (n + 1) * n, cuda.blockIdx.x * n * columns
    singular = _has_zero(factors, base, n, n + 1)
    for j in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        for i in range(n):
            out[start + i * columns + j] = np.nan if singular else b[start + i * columns + j]
        if transpose:
            _swap(factors, base + n * n, n, out, start + j, columns, True)
    cuda.syncthreads()
    if singular:
        return
    if transpose:
        _substitute(factors, base, 1, n, n, out, start, columns, True, True)
        _substitute(factors, base, 1, n, n, out, start, columns, False, False)
    else:
        _substitute(factors, base, n, 1, n, out, start, columns, True, False)
        _substitute(factors, base, n, 1, n, out, start, columns, False, True)
        for j in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
            _swap(factors, base + n * n, n, out, start + j, columns, False)


@_device
def _swap(pivots: Any, base: int, n: int, x: Any, start: int, step: int, forward: bool) -> None:
    """Swap the elements of a column as rows were swapped, or back."""
    for turn in range(n):
        k = turn if forward else n - 1 - turn
        here, there = start + k * step, start + int(pivots[base + k]) * step
        one, other = x[here], x[there]
        x[here], x[there] = other, one


@kernel()
def log_determinants(factors: Any, n: int, out: Any) -> None:
    """Store logarithms of the magnitudes of determinants."""
    for matrix in range(cuda.grid(1), out.shape[0], cuda.gridsize(1)):
        total = np.float64(0)
        for k in range(n):
            total += log(abs(factors[matrix * (n + 1) * n + k * (n + 1)]))
        out[matrix] = total


@kernel()
def determinant_signs(factors: Any, n: int, out: Any) -> None:
    """Store signs of determinants."""
    for matrix in range(cuda.grid(1), out.shape[0], cuda.gridsize(1)):
        base = matrix * (n + 1) * n
        sign = 1
        for k in range(n):
            if factors[base + k * (n + 1)] == 0:
                sign = 0
            elif (factors[base + k * (n + 1)] < 0) != (factors[base + n * n + k] != k):
                sign = -sign
        out[matrix] = sign
