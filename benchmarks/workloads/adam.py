"""The Adam update of many parameters: seven streams through memory, beside copying as many bytes.

graphc's optimisers run inside a trainer's step, so its loss is the one with the gradient that is fed: the sum of
parameters times gradient. The others update and compute no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Run, Workload, at_once, copying, update

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def data(size: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {"w": rng.random(size, dtype=np.float32) - 0.5, "g": rng.random(size, dtype=np.float32) - 0.5}


def traffic(data: Arrays) -> int:
    """Seven streams: four arrays are read, three of them written."""
    return 7 * data["w"].nbytes


def by_graphc(data: Arrays, target: str = "cpu") -> Run:
    from benchmarks.peers.with_graphc import resident, trainer, waiting
    from graphc import Adam

    made = trainer(lambda g, w: np.sum(w * g), data, ("w",), Adam(LR, BETA1, BETA2, EPS), (), target)[1]
    feeds = resident({"g": data["g"]}, target)
    return _run(data, lambda: made.step(**feeds), lambda: made.params["w"], waiting(target))


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


def by_torch(data: Arrays, target: str = "cpu") -> Run:
    import torch

    from benchmarks.peers.with_torch import numpy, synchronize, tensor

    w = tensor(data["w"], target).requires_grad_()
    w.grad = tensor(data["g"], target)
    optimizer = torch.optim.Adam([w], LR, (BETA1, BETA2), EPS, fused=True)
    return _run(data, optimizer.step, lambda: numpy(w), lambda _: synchronize(target))


def by_torch_compile(data: Arrays, target: str = "cpu") -> Run:
    import torch

    from benchmarks.peers.with_torch import numpy, synchronize, tensor

    w, g = (tensor(data[name], target) for name in ("w", "g"))
    mean, square, count = torch.zeros_like(w), torch.zeros_like(w), torch.zeros((), device=target)

    @torch.compile
    def step(w: Any, g: Any, mean: Any, square: Any, count: Any) -> None:
        count.add_(1)
        mean.mul_(BETA1).add_((1 - BETA1) * g)
        square.mul_(BETA2).add_((1 - BETA2) * g * g)
        w.sub_(LR * (mean / (1 - BETA1**count)) / (torch.sqrt(square / (1 - BETA2**count)) + EPS))

    return _run(data, lambda: step(w, g, mean, square, count), lambda: numpy(w), lambda _: synchronize(target))


def by_jax(data: Arrays, target: str = "cpu") -> Run:
    import jax
    import jax.numpy as jnp

    from benchmarks.peers.with_jax import finishing

    def update(state: Any, g: Any) -> Any:
        w, mean, square, count = state
        count = count + 1
        mean = BETA1 * mean + (1 - BETA1) * g
        square = BETA2 * square + (1 - BETA2) * g * g
        change = LR * (mean / (1 - BETA1**count)) / (jnp.sqrt(square / (1 - BETA2**count)) + EPS)
        return w - change, mean, square, count

    function = jax.jit(update, donate_argnums=0)
    w, g = jnp.array(data["w"]), jnp.array(data["g"])
    state, finish = (w, jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), w.dtype)), finishing(target)

    def step() -> Any:
        nonlocal state
        state = finish(function(state, g))
        return state

    return _run(data, step, lambda: state[0], jax.block_until_ready)


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


def _run(
    data: Arrays, step: Callable[[], Any], now: Callable[[], Any], wait: Callable[[Any], Any] = at_once
) -> Run:
    return Run(step, lambda _: update({"w": data["w"]}, {"w": now()}, LR), wait=wait)


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
            "graphc.interpret": by_graphc,
            "graphc.cpu": by_graphc,
            "torch": by_torch,
            "torch.compile": by_torch_compile,
            "jax": by_jax,
            "pytensor": by_pytensor("NUMBA"),
            "pytensor.c": by_pytensor("CVM"),
            "numpy": by_numpy,
            "copy": copying(traffic),
        },
        tolerance=1e-3,
        at_most={"copy": 1.3},
        traffic=traffic,
        gpu={
            "title": "Adam update of 5 x 10^7 parameters, f32",
            "sizes": {"size": 5 * 10**7},
            "at_least": {"graphc.cpu": 20.0},
        },
    ),
)
