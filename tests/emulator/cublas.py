"""The few entry points of cuBLAS that graphc calls, by NumPy: written from cuBLAS's manual, not from graphc's calls.

A matrix is stored column by column: element (i, j) of one with leading dimension ld lies at i + j * ld.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from emulator.machine import Memory


def replace(memory: Memory) -> None:
    """Put them in the place of nvmath's bindings, where these are installed."""
    try:
        from nvmath.bindings import cublas
    except ImportError:
        return
    library = _Cublas(memory)
    for name in ("create", "destroy", "set_stream", "set_math_mode", "set_workspace", "gemm_strided_batched_ex"):
        setattr(cublas, name, getattr(library, name))


class _Cublas:
    def __init__(self, memory: Memory) -> None:
        self.memory, self.handles, self.streams = memory, itertools.count(1), dict[int, int]()

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
        """C = alpha op(A) op(B) + beta C of a batch; C is not read where beta is 0."""
        from nvmath import CudaDataType
        from nvmath.bindings.cublas import ComputeType

        assert handle in self.streams
        kinds = {CudaDataType.CUDA_R_32F: np.float32, CudaDataType.CUDA_R_64F: np.float64, CudaDataType.CUDA_R_16F: np.float16}
        scale = np.float64 if compute_type == ComputeType.COMPUTE_64F else np.float32
        factor, old = (scale(np.ctypeslib.as_array((ctypes.c_char * scale().itemsize).from_address(each)).view(scale)[0]) for each in (alpha, beta))
        shapes = ((m, k) if transa == 0 else (k, m)), ((k, n) if transb == 0 else (n, k)), (m, n)
        given = zip((a, b, c), (a_type, b_type, c_type), shapes, (lda, ldb, ldc), (stride_a, stride_b, stride_c), strict=True)
        left, right, out = (self._matrices(address, kinds[kind], shape, ld, stride, batch_count) for address, kind, shape, ld, stride in given)
        left = left.swapaxes(1, 2) if transa else left
        right = right.swapaxes(1, 2) if transb else right
        product = factor * np.matmul(left.astype(scale), right.astype(scale))
        out[...] = product if old == 0 else product + old * out
    
    def _matrices(self, address: int, dtype: Any, shape: tuple[int, int], ld: int, stride: int, count: int) -> np.ndarray:
        rows, columns = shape
        if ld < max(1, rows):
            raise ValueError(f"a leading dimension of {ld} for {rows} rows")
        size = np.dtype(dtype).itemsize
        needed = (count - 1) * stride + (columns - 1) * ld + rows if rows and columns else 0
        flat = self.memory.array(address, needed, dtype)
        return as_strided(flat, (count, rows, columns), (stride * size, size, ld * size))
