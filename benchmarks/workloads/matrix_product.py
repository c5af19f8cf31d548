"""A product of square matrices on a GPU, beside what cuBLAS takes for it when nothing else is done."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Run, Workload


def data(size: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(size, size)).astype(np.float32) for name in ("a", "b")}


def by_graphc(data: Arrays, target: str = "cpu") -> Run:
    import graphc
    from benchmarks.peers.with_graphc import inputs, resident, waiting

    leaves = inputs(data, ())
    program = graphc.compile(leaves["a"] @ leaves["b"], target=target)
    return Run(partial(program, **resident(data, target)), _read, wait=waiting(target))


def by_numpy(data: Arrays) -> Run:
    return Run(lambda: data["a"] @ data["b"], _read)


def by_torch(data: Arrays, target: str = "cpu") -> Run:
    import torch

    from benchmarks.peers.with_torch import numpy, synchronize, tensor

    a, b = (tensor(data[name], target) for name in ("a", "b"))
    return Run(lambda: torch.mm(a, b), lambda out: _read(numpy(out)), wait=lambda _: synchronize(target))


def by_jax(data: Arrays, target: str = "cpu") -> Run:
    import jax

    from benchmarks.peers.with_jax import convert, finishing

    function, arrays, finish = jax.jit(jax.numpy.matmul), convert(data), finishing(target)
    return Run(lambda: finish(function(arrays["a"], arrays["b"])), _read, wait=jax.block_until_ready)


def by_cublas(data: Arrays, target: str = "cuda") -> Run:
    """cuBLAS into memory that is there. It counts along columns: it is asked for ``out.T = b.T @ a.T``."""
    from numba import cuda
    from nvmath.bindings import cublas

    (rows, terms), columns = data["a"].shape, data["b"].shape[1]
    a, b = (cuda.to_device(data[name]) for name in ("a", "b"))
    out = cuda.device_array((rows, columns), np.float32)
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    handle = cublas.create()
    at_a, at_b, at_out = (array.__cuda_array_interface__["data"][0] for array in (a, b, out))
    arguments = (
        handle, 0, 0, columns, rows, terms, one.ctypes.data,
        at_b, columns, at_a, terms, zero.ctypes.data, at_out, columns,
    )  # fmt: skip

    def step(kept: Any = (a, b, one, zero)) -> Any:  # what the addresses are of
        cublas.sgemm(*arguments)
        return out

    return Run(step, _read, wait=lambda _: cuda.synchronize())


def _read(product: Any) -> Arrays:
    return {"product": product}


WORKLOADS = tuple(
    Workload(
        f"product_{size}",
        f"product of two matrices, {size} x {size} x {size}, f32",
        None,
        data,
        {"size": size},
        {"size": 7},
        {
            "graphc": by_graphc,
            "graphc.cpu": by_graphc,
            "torch": by_torch,
            "jax": by_jax,
            "numpy": by_numpy,
            "cublas": by_cublas,
        },
        tolerance=1e-5,  # TF32 would be off by a few 1e-4
        gpu={"at_most": {"cublas": 1.05}},
    )
    for size in (1024, 4096)
)
