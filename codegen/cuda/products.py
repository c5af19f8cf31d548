"""Matrix products on the device: of floats by NVIDIA's cuBLAS, of integers by tiles; in the simulator by the host."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cuda

from graphc.codegen.cuda.functions import SIMULATED, kernel
from graphc.codegen.cuda.queue import Queue, address, queue_at_hand
from graphc.codegen.cuda.runtime import on_host

# Bytes of cuBLAS's workspace: what its documentation recommends for Hopper.
WORKSPACE = 32 << 20
# Rows and columns of the result that a block computes, an element each thread.
EDGE = 2 if SIMULATED else 16


def matmul(
    a: Any,
    b: Any,
    out: Any,
    stream: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    beta: float = 0.0,
    precision: str = "float32",
) -> None:
    """Store ``a @ b + beta * out`` into `out`, with the last two axes of a and b swapped where the flags say so.

    Parameters
    ----------
    a, b, out
        C-contiguous device arrays of one dtype, of one or two dims, or of more with equal leading (batch) dims, which a
        matrix need not have.
    stream
        Where the work is put.
    precision
        In what products of float32 are computed: "float32", "tensorfloat32" or "bfloat16".
    """
    if out.size == 0:
        return
    transpose_a, transpose_b = transpose_a and len(a.shape) > 1, transpose_b and len(b.shape) > 1
    if SIMULATED:
        _on_host(a, b, out, transpose_a, transpose_b, beta)
    elif out.dtype.kind == "f":
        _by_library(a, b, out, stream, transpose_a, transpose_b, beta, precision)
    else:
        by_tiles(a, b, out, stream, transpose_a, transpose_b, beta)


def _on_host(a: Any, b: Any, out: Any, transpose_a: bool, transpose_b: bool, beta: float) -> None:
    left, right, before = (np.asarray(on_host(array)) for array in (a, b, out))
    left = left.swapaxes(-1, -2) if transpose_a else left
    right = right.swapaxes(-1, -2) if transpose_b else right
    product = np.asarray(np.matmul(left, right), out.dtype)
    out.copy_to_device(product + before if beta else product)


def by_tiles(a: Any, b: Any, out: Any, stream: Any, transpose_a: bool, transpose_b: bool, beta: float) -> None:
    """The product of integers, which wraps around as NumPy's does, or of booleans, whose sum is "or"."""
    m, n, inner = _sizes(a, b, transpose_a, transpose_b)
    count = _count(out)
    # Where in memory an element is: steps from a matrix to the next, from a row, from a column.
    steps_a = (_stride(a), *((1, m) if transpose_a else (inner, 1)))
    steps_b = (_stride(b), *((1, inner) if transpose_b else (n, 1)))
    blocks = count * -(-m // EDGE) * -(-n // EDGE)
    flat = [array.reshape(array.size).view(np.dtype(f"i{out.dtype.itemsize}")) for array in (a, b, out)]
    sizes, logical = (m, n, inner), out.dtype == np.bool_
    multiply_tiles[blocks, EDGE * EDGE, stream](*flat, sizes, steps_a, steps_b, bool(beta), logical)


@kernel()
def multiply_tiles(
    a: Any, b: Any, out: Any, sizes: Any, steps_a: Any, steps_b: Any, accumulate: bool, logical: bool
) -> None:
    """Store products of matrices: each block an `EDGE` times `EDGE` tile, in steps of as many terms."""
    left = cuda.shared.array((EDGE, EDGE), a.dtype)  # the simulator knows shared memory by its line
    right = cuda.shared.array((EDGE, EDGE), a.dtype)
    m, n, inner = sizes
    across, down = (n + EDGE - 1) // EDGE, (m + EDGE - 1) // EDGE
    x, y = cuda.threadIdx.x % EDGE, cuda.threadIdx.x // EDGE
    row, column = cuda.blockIdx.x // across % down * EDGE + y, cuda.blockIdx.x % across * EDGE + x
    matrix = cuda.blockIdx.x // (across * down)
    total = np.int64(0)
    for first in range(0, inner, EDGE):
        left[y, x] = right[y, x] = 0
        if row < m and first + x < inner:
            left[y, x] = a[matrix * steps_a[0] + row * steps_a[1] + (first + x) * steps_a[2]]
        if column < n and first + y < inner:
            right[y, x] = b[matrix * steps_b[0] + (first + y) * steps_b[1] + column * steps_b[2]]
        cuda.syncthreads()
        for k in range(EDGE):
            total += np.int64(left[y, k]) * np.int64(right[k, x])
        cuda.syncthreads()
    if row < m and column < n:
        place = (matrix * m + row) * n + column
        if accumulate:
            total += np.int64(out[place])
        out[place] = out.dtype.type(total != 0 if logical else total)


def _by_library(
    a: Any, b: Any, out: Any, stream: Any, transpose_a: bool, transpose_b: bool, beta: float, precision: str
) -> None:
    """Call cuBLAS, which counts along columns: it is given ``out.T = b.T @ a.T``."""
    m, n, inner = _sizes(a, b, transpose_a, transpose_b)
    strides = [_stride(array) for array in (b, a, out)]
    scale, compute, kind = _formats(out.dtype, precision)
    one, old = np.ones((), scale), np.full((), beta, scale)
    queue = queue_at_hand()
    with queue.lock:  # two threads may not use a handle at once
        cublas, handle, workspace = _library(queue)
        cublas.set_stream(handle, int(stream.handle))  # takes the workspace away
        cublas.set_workspace(handle, address(workspace), workspace.nbytes)
        cublas.gemm_strided_batched_ex(
            handle, int(transpose_b), int(transpose_a), n, m, inner, one.ctypes.data,
            address(b), kind, max(1, inner if transpose_b else n), strides[0],
            address(a), kind, max(1, m if transpose_a else inner), strides[1],
            old.ctypes.data, address(out), kind, max(1, n), strides[2],
            _count(out), compute, -1,
        )  # fmt: skip


def _sizes(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> tuple[int, int, int]:
    """The rows and the columns of a product, and how many terms each of its elements has."""
    rows_a, columns_a = (1, a.shape[0]) if len(a.shape) == 1 else tuple(a.shape)[-2:]
    rows_b, columns_b = (b.shape[0], 1) if len(b.shape) == 1 else tuple(b.shape)[-2:]
    m, inner = (columns_a, rows_a) if transpose_a else (rows_a, columns_a)
    return m, rows_b if transpose_b else columns_b, inner


def _count(array: Any) -> int:
    """How many matrices are in a stack."""
    return int(np.prod(tuple(array.shape)[:-2], dtype=np.int64)) if len(array.shape) > 2 else 1


def _stride(array: Any) -> int:
    """How many elements are from a matrix of a stack to the next; 0 where one matrix serves all."""
    return array.size // _count(array) if len(array.shape) > 2 else 0


def _formats(dtype: np.dtype, precision: str) -> tuple[Any, int, int]:
    """The dtype of factors, what cuBLAS computes in, and how it names the dtype of the arrays."""
    from nvmath import CudaDataType
    from nvmath.bindings.cublas import ComputeType

    if dtype == np.float64:
        return np.float64, ComputeType.COMPUTE_64F, CudaDataType.CUDA_R_64F
    compute = {
        "float32": ComputeType.COMPUTE_32F,
        "tensorfloat32": ComputeType.COMPUTE_32F_FAST_TF32,
        "bfloat16": ComputeType.COMPUTE_32F_FAST_16BF,
    }
    return np.float32, compute[precision], CudaDataType.CUDA_R_32F


@functools.cache
def _library(queue: Queue) -> tuple[Any, int, Any]:
    """cuBLAS, a handle to it, and the workspace of all products, which the stream computes one after the other.

    (Its own workspaces are allocated when a stream first needs one, which must not be while work is recorded; nor must
    a handle be made then, hence not one for each thread.)
    """
    from nvmath.bindings import cublas

    return cublas, cublas.create(), queue.empty(WORKSPACE)
