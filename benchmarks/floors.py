"""The machine's floors, which workloads are measured against: copying memory, and matrix products by each BLAS.

``python -m benchmarks.floors`` prints GB/s for a copy, and GFLOP/s for the products of the network and the attention,
by the BLAS that graphc calls (SciPy's), with its own threads and in graphc's parts, and by the one in PyTorch. With
``--target cuda`` it prints the same for a GPU: a copy inside its memory, and products by cuBLAS and by PyTorch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.device import NoDeviceError, card
from benchmarks.peers.with_copy import copying
from benchmarks.worker import timed
from benchmarks.workload import TARGETS, Run
from benchmarks.workloads.matrix_product import by_cublas
from benchmarks.workloads.matrix_product import by_torch as by_torch_on

# (rows, terms, columns), which operand is transposed, and where it comes from
PRODUCTS = (
    ((128, 784, 256), "", "network, forward"),
    ((784, 128, 256), "a", "network, gradient"),
    ((1024, 256, 256), "", "attention, projections"),
    ((256, 1024, 256), "a", "attention, their gradients"),
)
SECONDS = 0.5
COPIED = 1 << 27
COPIED_ON_GPU = 1 << 30  # many times its cache
SQUARE = ((4096, 4096, 4096), "", "large matrices")
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


def main(argv: Sequence[str]) -> int:
    """Print the floors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floors", description="What the machine can do at most.")
    parser.add_argument("--target", choices=TARGETS, default="cpu", help="what is measured (default cpu)")
    if parser.parse_args(argv).target == "cpu":
        on_cpu()
        return 0
    try:
        print(", ".join(f"{name} {value}" for name, value in card().items()))
    except NoDeviceError as error:
        print(f"python -m benchmarks.floors: {error}", file=sys.stderr)
        return 1
    on_gpu()
    return 0


def on_gpu() -> None:
    """A GPU's floors; products have no transposed operands here."""
    copy = copying(2 * COPIED_ON_GPU, "cuda")
    print(f"copy: {copy.traffic / seconds_of(copy) / 1e9:.1f} GB/s read and written")
    rng = np.random.default_rng(0)
    for (rows, terms, columns), _, where in (*PRODUCTS, SQUARE):
        shapes = {"a": (rows, terms), "b": (terms, columns)}
        data = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        print(f"{rows} x {terms} x {columns}, {where}, GFLOP/s:", end="")
        for name, way in {"cuBLAS": by_cublas, "PyTorch": by_torch_on}.items():
            try:
                run = way(data, target="cuda")
            except ImportError as error:
                print(f" {name} is missing ({error});", end="")
                continue
            print(f" {name} {2 * rows * terms * columns / seconds_of(run) / 1e9:.0f};", end="", flush=True)
        print()


def seconds_of(run: Run) -> float:
    """The median time of a step on a GPU, in batches that are waited for."""
    return statistics.median(timed(run.step, SECONDS, 1, run.wait)[0])


def on_cpu() -> None:
    """The floors of the processor."""
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
    sys.exit(main(sys.argv[1:]))
