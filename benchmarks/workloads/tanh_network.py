"""Networks with tanh: one step of gradient descent on a minibatch, or (narrow layers) on all examples at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, training


def data(examples: int, features: int, hidden: int, classes: int) -> Arrays:
    rng = np.random.default_rng(0)

    def glorot(rows: int, columns: int) -> np.ndarray:
        bound = np.sqrt(6 / (rows + columns))
        return rng.uniform(-bound, bound, (rows, columns)).astype(np.float32)

    return {
        "x": rng.random((examples, features), dtype=np.float32),
        "y": rng.integers(classes, size=examples),
        "w1": glorot(features, hidden),
        "b1": np.zeros(hidden, np.float32),
        "w2": glorot(hidden, classes),
        "b2": np.zeros(classes, np.float32),
    }


def in_graphc() -> Callable[..., Any]:
    from graphc import cross_entropy

    return lambda x, y, w1, b1, w2, b2: cross_entropy(np.tanh(x @ w1 + b1) @ w2 + b2, y)


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = np.tanh(x @ w1 + b1)
        logits = hidden @ w2 + b2
        logits -= logits.max(axis=1, keepdims=True)
        exps = np.exp(logits)
        sums = exps.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = np.mean(np.log(sums[:, 0]) - logits[rows, y])
        d_logits = exps / sums
        d_logits[rows, y] -= 1
        d_logits /= len(y)
        d_hidden = (d_logits @ w2.T) * (1 - hidden * hidden)
        return loss, {
            "w1": x.T @ d_hidden, "b1": d_hidden.sum(axis=0), "w2": hidden.T @ d_logits, "b2": d_logits.sum(axis=0),
        }  # fmt: skip

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    import torch
    from torch.nn.functional import cross_entropy

    def loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = torch.tanh(torch.addmm(b1, x, w1))
        return cross_entropy(torch.addmm(b2, hidden, w2), y)

    return loss


def in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        scores = jax.nn.log_softmax(jnp.tanh(x @ w1 + b1) @ w2 + b2)
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        scores = pt.special.log_softmax(pt.tanh(x @ w1 + b1) @ w2 + b2, axis=1)
        return -pt.mean(scores[pt.arange(y.shape[0]), y])

    return loss


BUILDERS = training(
    ("w1", "b1", "w2", "b2"), 0.1, ("x", "y"),
    graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor,
)  # fmt: skip
WORKLOADS = (
    Workload(
        "tanh_network",
        "784-256-10 tanh network, batch 128, SGD step, f32",
        1.1,
        data,
        {"examples": 128, "features": 784, "hidden": 256, "classes": 10},
        {"examples": 6, "features": 9, "hidden": 5, "classes": 3},
        BUILDERS,
        tolerance=1e-3,
        cost_limit=3.0,
        gpu={"target": 1.0},
    ),
    Workload(
        "narrow_network",
        "64-64-10 tanh network, all of 100,000 examples, SGD step, f32",
        1.0,
        data,
        {"examples": 100_000, "features": 64, "hidden": 64, "classes": 10},
        {"examples": 6, "features": 9, "hidden": 5, "classes": 3},
        BUILDERS,
        tolerance=1e-3,
        cost_limit=3.0,
        gpu={"at_least": {"graphc.cpu": 20.0}},
    ),
)
# Its start-up is what is measured, see startup.py.
DIGITS = Workload(
    "digits",
    "digits training step: 64-128-10 tanh network, batch 64, SGD step, f32",
    None,
    data,
    {"examples": 64, "features": 64, "hidden": 128, "classes": 10},
    {"examples": 6, "features": 9, "hidden": 5, "classes": 3},
    BUILDERS,
    tolerance=1e-3,
)
