"""The Adam update of many parameters: seven streams through memory, beside copying as many bytes.

graphc's optimisers run inside a trainer's step, so its loss is the one with the gradient that is fed: the sum of
parameters times gradient. The others update and compute no loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Run, Workload, update

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def data(size: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {"w": rng.random(size, dtype=np.float32) - 0.5, "g": rng.random(size, dtype=np.float32) - 0.5}


def by_graphc(data: Arrays, target: str = "cpu") -> Run:
    from benchmarks.peers.with_graphc import trainer
    from graphc import Adam

    made = trainer(lambda g, w: np.sum(w * g), data, ("w",), Adam(LR, BETA1, BETA2, EPS), (), target)[1]
    return _run(data, lambda: made.step(g=data["g"]), lambda: made.params["w"])


def by_numpy(data: Arrays) -> Run:
    w, g = data["w"].copy(), data["g"]
    mean, square, change, root = (np.zeros_like(w) for _ in range(4))
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        np.multiply(g, 1 - BETA1, out=change)
        np.multiply(mean, BETA1, out=mean)
        np.add(mean, change, out=mean)
        np.multiply(g, g, out=change)
        np.multiply(change, 1 - BETA2, out=change)
        np.multiply(square, BETA2, out=square)
        np.add(square, change, out=square)
        np.multiply(square, 1 / (1 - BETA2**count), out=root)
        np.sqrt(root, out=root)
        np.add(root, EPS, out=root)
        np.divide(mean, root, out=change)
        np.multiply(change, LR / (1 - BETA1**count), out=change)
        np.subtract(w, change, out=w)

    return _run(data, step, lambda: w)


def by_torch(data: Arrays) -> Run:
    import torch

    w = torch.from_numpy(data["w"].copy()).requires_grad_()
    w.grad = torch.from_numpy(data["g"].copy())
    optimizer = torch.optim.Adam([w], LR, (BETA1, BETA2), EPS, fused=True)
    return _run(data, optimizer.step, lambda: w.detach().numpy())


def by_torch_compile(data: Arrays) -> Run:
    import torch

    w, g = (torch.from_numpy(data[name].copy()) for name in ("w", "g"))
    mean, square, count = torch.zeros_like(w), torch.zeros_like(w), torch.zeros(())

    @torch.compile
    def step(w: Any, g: Any, mean: Any, square: Any, count: Any) -> None:
        count.add_(1)
        mean.mul_(BETA1).add_((1 - BETA1) * g)
        square.mul_(BETA2).add_((1 - BETA2) * g * g)
        w.sub_(LR * (mean / (1 - BETA1**count)) / (torch.sqrt(square / (1 - BETA2**count)) + EPS))

    return _run(data, lambda: step(w, g, mean, square, count), w.numpy)


def by_jax(data: Arrays) -> Run:
    import jax
    import jax.numpy as jnp

    def update(state: Any, g: Any) -> Any:
        w, mean, square, count = state
        count = count + 1
        mean = BETA1 * mean + (1 - BETA1) * g
        square = BETA2 * square + (1 - BETA2) * g * g
        change = LR * (mean / (1 - BETA1**count)) / (jnp.sqrt(square / (1 - BETA2**count)) + EPS)
        return w - change, mean, square, count

    function = jax.jit(update, donate_argnums=0)
    w, g = jnp.array(data["w"]), jnp.array(data["g"])
    state = (w, jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), w.dtype))

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(function(state, g))

    return _run(data, step, lambda: state[0])


def by_pytensor(mode: str) -> Callable[[Arrays], Run]:
    def build(data: Arrays) -> Run:
        import pytensor
        import pytensor.tensor as pt

        w, g = (pytensor.shared(data[name].copy(), name) for name in ("w", "g"))
        mean, square = (pytensor.shared(np.zeros_like(data["w"])) for _ in range(2))
        count = pytensor.shared(np.zeros((), data["w"].dtype))
        f = data["w"].dtype.type  # else constants are float64
        next_count = count + f(1)
        next_mean = f(BETA1) * mean + f(1 - BETA1) * g
        next_square = f(BETA2) * square + f(1 - BETA2) * g * g
        unbiased = next_square / (f(1) - f(BETA2) ** next_count)
        change = f(LR) * (next_mean / (f(1) - f(BETA1) ** next_count)) / (pt.sqrt(unbiased) + f(EPS))
        updates = [(w, w - change), (mean, next_mean), (square, next_square), (count, next_count)]
        function = pytensor.function([], [], updates=updates, mode=mode)
        return _run(data, function, w.get_value)

    return build


def by_copy(data: Arrays) -> Run:
    """Seven streams, four in and three out, are 3.5 copies of the parameters; on as many threads as the others."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    source = np.zeros(data["w"].size * 7 // 2, np.float32)
    target = np.ones_like(source)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)
    return Run(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)), lambda _: {})


def _run(data: Arrays, step: Callable[[], Any], now: Callable[[], Any]) -> Run:
    return Run(step, lambda _: update({"w": data["w"]}, {"w": now()}, LR))


WORKLOADS = (
    Workload(
        "adam",
        "Adam update of 10^7 parameters, f32",
        1.0,
        data,
        {"size": 10**7},
        {"size": 50},
        {
            "graphc": by_graphc,
            "graphc.interpret": partial(by_graphc, target="interpret"),
            "torch": by_torch,
            "torch.compile": by_torch_compile,
            "jax": by_jax,
            "pytensor": by_pytensor("NUMBA"),
            "pytensor.c": by_pytensor("CVM"),
            "numpy": by_numpy,
            "copy": by_copy,
        },
        tolerance=1e-3,
        beside=("copy",),
        at_most={"copy": 1.3},
    ),
)
