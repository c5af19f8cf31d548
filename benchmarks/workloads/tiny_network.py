"""A 2-3-1 sigmoid network, four examples a step: nothing but overhead, called from Python and inside `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Run, Workload, epochs, training

PARAMS = ("w1", "b1", "w2", "b2")
BATCHED = ("x", "y")
RATE = 0.1
BATCH = 4


def data(examples: int) -> Arrays:
    rng = np.random.default_rng(0)
    x = rng.random((examples, 2), dtype=np.float32)
    return {
        "x": x,
        "y": (x[:, :1] > x[:, 1:]).astype(np.float32),
        "w1": rng.normal(size=(2, 3)).astype(np.float32),
        "b1": np.zeros(3, np.float32),
        "w2": rng.normal(size=(3, 1)).astype(np.float32),
        "b2": np.zeros(1, np.float32),
    }


def in_graphc() -> Callable[..., Any]:
    from graphc import mse, sigmoid

    return lambda x, y, w1, b1, w2, b2: mse(sigmoid(sigmoid(x @ w1 + b1) @ w2 + b2), y)


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = 1 / (1 + np.exp(-(x @ w1 + b1)))
        out = 1 / (1 + np.exp(-(hidden @ w2 + b2)))
        error = out - y
        d_out = error * out * (1 - out) * (2 / y.size)
        d_hidden = (d_out @ w2.T) * hidden * (1 - hidden)
        return np.mean(error * error), {
            "w1": x.T @ d_hidden, "b1": d_hidden.sum(axis=0), "w2": hidden.T @ d_out, "b2": d_out.sum(axis=0),
        }  # fmt: skip

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    import torch
    from torch.nn.functional import mse_loss

    def loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = torch.sigmoid(torch.addmm(b1, x, w1))
        return mse_loss(torch.sigmoid(torch.addmm(b2, hidden, w2)), y)

    return loss


def in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = jax.nn.sigmoid(x @ w1 + b1)
        return jnp.mean((jax.nn.sigmoid(hidden @ w2 + b2) - y) ** 2)

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = pt.sigmoid(x @ w1 + b1)
        return pt.mean((pt.sigmoid(hidden @ w2 + b2) - y) ** 2)

    return loss


def fit(data: Arrays, target: str = "cpu") -> Run:
    from benchmarks.peers.with_graphc import fit

    return fit(in_graphc(), data, PARAMS, RATE, BATCHED, BATCH, target)


def scan(data: Arrays, target: str = "cpu") -> Run:
    from benchmarks.peers.with_jax import scan

    return scan(in_jax(), data, PARAMS, RATE, BATCHED, BATCH, target)


MAKERS = {
    "graphc": in_graphc,
    "numpy": in_numpy,
    "torch": in_torch,
    "jax": in_jax,
    "pytensor": in_pytensor,
    "pytensor.trusting": in_pytensor,
}
WORKLOADS = (
    Workload(
        "tiny_step",
        "2-3-1 sigmoid network, batch 4, SGD step, f32, Trainer.step from Python",
        5.0,
        data,
        {"examples": BATCH},
        {"examples": BATCH},
        training(PARAMS, RATE, BATCHED, **MAKERS),
        tolerance=1e-3,
        beside=("pytensor.trusting",),  # Trainer.step checks its feeds too
        cost_limit=2.5,
        gpu={"step_limit": 15e-6},
    ),
    Workload(
        "tiny_fit",
        "2-3-1 sigmoid network, batch 4, SGD steps inside fit, f32, per step",
        20.0,
        data,
        {"examples": 10_000 * BATCH},
        {"examples": 20 * BATCH},
        {**epochs(PARAMS, RATE, BATCHED, BATCH, **MAKERS), "graphc": fit, "graphc.cpu": fit, "jax.scan": scan},
        tolerance=1e-2,  # ten thousand steps, each with its rounding
        beside=("jax.scan", "pytensor.trusting"),
        gpu={"sizes": {"examples": 500 * BATCH}},
    ),
)
