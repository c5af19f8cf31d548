"""Copying memory: what a machine can do at most with so many bytes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.workload import Run


def copying(traffic: int, target: str = "cpu") -> Run:
    """A copy that reads and writes so many bytes: by as many threads as the others have, or on a GPU by its driver."""
    source = np.zeros(traffic // 2, np.uint8)
    return (_on_gpu if target == "cuda" else _by_threads)(source)


def _by_threads(source: np.ndarray) -> Run:
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    copied = np.ones_like(source)
    pairs = list(zip(np.array_split(copied, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)
    return Run(
        lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)), lambda _: {}, traffic=2 * source.nbytes
    )


def _on_gpu(source: np.ndarray) -> Run:
    from numba import cuda

    there = cuda.to_device(source)
    copied = cuda.device_array_like(there)

    def wait(_: Any) -> None:
        cuda.synchronize()

    return Run(lambda: copied.copy_to_device(there), lambda _: {}, wait=wait, traffic=2 * source.nbytes)
