"""Matrix products on the device, by NVIDIA's cuBLAS; in the simulator, and of integers, by the host."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from graphc.codegen.cuda.functions import SIMULATED
from graphc.codegen.cuda.queue import Queue, address, queue_at_hand
from graphc.codegen.cuda.runtime import on_host

# Bytes of cuBLAS's workspace: what its documentation recommends for Hopper.
WORKSPACE = 32 << 20


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
    if SIMULATED or out.dtype.kind != "f":
        _on_host(a, b, out, transpose_a, transpose_b, beta)
    else:
        _by_library(a, b, out, stream, transpose_a, transpose_b, beta, precision)


def _on_host(a: Any, b: Any, out: Any, transpose_a: bool, transpose_b: bool, beta: float) -> None:
    left, right, before = (np.asarray(on_host(array)) for array in (a, b, out))
    left = left.swapaxes(-1, -2) if transpose_a and left.ndim > 1 else left
    right = right.swapaxes(-1, -2) if transpose_b and right.ndim > 1 else right
    product = np.asarray(np.matmul(left, right), out.dtype)
    out.copy_to_device(product + before if beta else product)


def _by_library(
    a: Any, b: Any, out: Any, stream: Any, transpose_a: bool, transpose_b: bool, beta: float, precision: str
) -> None:
    """Call cuBLAS, which counts along columns: it is given ``out.T = b.T @ a.T``."""
    cublas, handle, workspace = _library(threading.get_ident(), queue_at_hand())
    cublas.set_stream(handle, int(stream.handle))  # takes the workspace away
    cublas.set_workspace(handle, address(workspace), workspace.nbytes)
    rows_a, columns_a = (1, a.shape[0]) if len(a.shape) == 1 else a.shape[-2:]
    rows_b, columns_b = (b.shape[0], 1) if len(b.shape) == 1 else b.shape[-2:]
    m, inner = (columns_a, rows_a) if transpose_a else (rows_a, columns_a)
    n = rows_b if transpose_b else columns_b
    strides = [array.size // _count(array) if len(array.shape) > 2 else 0 for array in (b, a, out)]
    scale, compute, kind = _formats(out.dtype, precision)
    one, old = np.ones((), scale), np.full((), beta, scale)
    cublas.gemm_strided_batched_ex(
        handle, int(transpose_b), int(transpose_a), n, m, inner, one.ctypes.data,
        address(b), kind, max(1, columns_b), strides[0],
        address(a), kind, max(1, columns_a), strides[1],
        old.ctypes.data, address(out), kind, max(1, n), strides[2],
        _count(out), compute, -1,
    )  # fmt: skip


def _count(array: Any) -> int:
    """How many matrices are in a stack."""
    return int(np.prod(array.shape[:-2], dtype=np.int64)) if len(array.shape) > 2 else 1


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
def _library(thread: int, queue: Queue) -> tuple[Any, int, Any]:
    """cuBLAS; a handle to it, for a thread: two may not use one at once; and its workspace.

    (Its own workspaces are allocated when a stream first needs one, which must not be while work is recorded.)
    """
    from nvmath.bindings import cublas

    return cublas, cublas.create(), queue.empty(WORKSPACE)
