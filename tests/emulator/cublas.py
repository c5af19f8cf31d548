"""The few entry points of cuBLAS that graphc calls, by NumPy: written from cuBLAS's manual, not from graphc's calls.

A matrix is stored column by column: element (i, j) of one with leading dimension ld lies at i + j * ld.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from emulator.machine import Memory

Enqueue = Callable[[int, Callable[[], None]], None]


def replace(memory: Memory, enqueue: Enqueue) -> None:
    """Put them in the place of nvmath's bindings, where these are installed."""
    try:
        from nvmath.bindings import cublas
    except ImportError:
        return
    library = _Cublas(memory, enqueue)
    for name in ("create", "destroy", "set_stream", "set_math_mode", "set_workspace", "gemm_strided_batched_ex"):
        setattr(cublas, name, getattr(library, name))


class _Cublas:
    def __init__(self, memory: Memory, enqueue: Enqueue) -> None:
        self.memory, self.enqueue = memory, enqueue
        self.handles, self.streams = itertools.count(1), dict[int, int]()

    def create(self) -> int:
        handle = next(self.handles)
        self.streams[handle] = 0
        return handle

    def destroy(self, handle: int) -> None:
        del self.streams[handle]

    def set_stream(self, handle: int, stream: int) -> None:
        assert handle in self.streams
        self.streams[handle] = int(stream)

    def set_math_mode(self, handle: int, mode: int) -> None:
        assert handle in self.streams

    def set_workspace(self, handle: int, workspace: int, size: int) -> None:
        assert handle in self.streams

    def gemm_strided_batched_ex(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int, a_type: int, lda: int,
        stride_a: int, b: int, b_type: int, ldb: int, stride_b: int, beta: int, c: int, c_type: int, ldc: int,
        stride_c: int, batch_count: int, compute_type: int, algo: int,
    ) -> None:  # fmt: skip
        """C = alpha op(A) op(B) + beta C of each of a batch; C is not read where beta is 0."""
        from nvmath.bindings.cublas import ComputeType

        scale = np.float64 if compute_type == ComputeType.COMPUTE_64F else np.float32
        factor, old = (_number(each, scale) for each in (alpha, beta))  # of the host, read before the call returns
        shapes = (k, m) if transa else (m, k), (n, k) if transb else (k, n), (m, n)
        leading, strides, kinds = (lda, ldb, ldc), (stride_a, stride_b, stride_c), (a_type, b_type, c_type)
        for (rows, _), ld in zip(shapes, leading, strict=True):
            if ld < max(1, rows) or min(m, n, k, batch_count) < 0:
                raise ValueError(f"CUBLAS_STATUS_INVALID_VALUE: a leading dimension of {ld} for {rows} rows")

        def multiply() -> None:
            given = zip((a, b, c), kinds, shapes, leading, strides, strict=True)
            left, right, out = (self._matrices(*each, batch_count) for each in given)
            left, right = (left.swapaxes(1, 2) if transa else left), (right.swapaxes(1, 2) if transb else right)
            product = factor * np.matmul(left.astype(scale), right.astype(scale))
            out[...] = product if old == 0 else product + old * out

        self.enqueue(self.streams[handle], multiply)

    def _matrices(
        self, address: int, kind: int, shape: tuple[int, int], ld: int, stride: int, count: int
    ) -> np.ndarray:
        from nvmath import CudaDataType

        kinds = {CudaDataType.CUDA_R_32F: "f4", CudaDataType.CUDA_R_64F: "f8", CudaDataType.CUDA_R_16F: "f2"}
        rows, columns = shape
        dtype = np.dtype(kinds[CudaDataType(kind)])
        needed = (count - 1) * stride + (columns - 1) * ld + rows if rows and columns and count else 0
        flat = self.memory.array(address, needed, dtype)
        if not needed:
            return np.empty((count, rows, columns), dtype)
        return as_strided(flat, (count, rows, columns), (stride * dtype.itemsize, dtype.itemsize, ld * dtype.itemsize))


def _number(address: int, dtype: Any) -> Any:
    return np.frombuffer(ctypes.string_at(address, np.dtype(dtype).itemsize), dtype)[0]
