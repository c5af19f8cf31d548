"""The machine's floors, which workloads are measured against: copying memory, and matrix products by each BLAS.

``python -m benchmarks.floors`` prints GB/s for a copy, and GFLOP/s for the products of the network and the attention,
by the BLAS that graphc calls (SciPy's), with its own threads and in graphc's parts, and by the one in PyTorch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

# (rows, terms, columns), which operand is transposed, and where it comes from
PRODUCTS = (
    ((128, 784, 256), "", "network, forward"),
    ((784, 128, 256), "a", "network, gradient"),
    ((1024, 256, 256), "", "attention, projections"),
    ((256, 1024, 256), "a", "attention, their gradients"),
)
SECONDS = 0.5
COPIED = 1 << 27
THREADS = 2


def seconds(step: Callable[[], Any]) -> float:
    """The median time of a step, over half a second of them."""
    step()
    times: list[float] = []
    while sum(times) < SECONDS:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def by_scipy(a: np.ndarray, b: np.ndarray, parts: int) -> Callable[[], Any]:
    """The product as the emitted code asks for it, by one call of BLAS or in parts."""
    from numba import njit

    from graphc.codegen.blas import gemm
    from graphc.codegen.threads import launch

    launch()
    transposed = not a.flags.c_contiguous
    left, out = (a.T if transposed else a), np.empty((a.shape[0], b.shape[1]), a.dtype)

    @njit(nogil=True)
    def whole(left: Any, b: Any, out: Any) -> None:
        gemm(left, b, out, transposed)

    @njit(nogil=True)
    def in_parts(left: Any, b: Any, out: Any) -> None:
        gemm(left, b, out, transposed, False, 1.0, 0.0, THREADS)

    return lambda: (whole if parts == 1 else in_parts)(left, b, out)


def by_torch(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
    """The product by PyTorch, into memory that is there."""
    import torch

    torch.set_num_threads(THREADS)
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty((a.shape[0], b.shape[1]))
    return lambda: torch.mm(left, right, out=out)


WAYS: dict[str, Callable[..., Callable[[], Any]]] = {
    "SciPy's BLAS": partial(by_scipy, parts=1),
    "SciPy's BLAS in parts": partial(by_scipy, parts=THREADS),
    "PyTorch": by_torch,
}


def main() -> None:
    """Print the floors."""
    source, target = np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)
    copying = seconds(lambda: np.copyto(target, source))
    print(f"copy, one thread: {2 * COPIED / copying / 1e9:.1f} GB/s read and written")
    rng = np.random.default_rng(0)
    for (rows, terms, columns), turned, where in PRODUCTS:
        a = rng.normal(size=(terms, rows) if turned else (rows, terms)).astype(np.float32)
        b = rng.normal(size=(terms, columns)).astype(np.float32)
        print(f"{rows} x {terms} x {columns}, {where}, {THREADS} threads, GFLOP/s:", end="")
        for name, way in WAYS.items():
            try:
                step = way(a.T if turned else a, b)
            except ImportError as error:
                print(f" {name} is missing ({error});", end="")
                continue
            print(f" {name} {2 * rows * terms * columns / seconds(step) / 1e9:.0f};", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
