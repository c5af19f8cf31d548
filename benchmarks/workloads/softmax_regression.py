"""Softmax regression, one full-batch step: a tall, skinny product that is read forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, training


def data(examples: int, features: int, classes: int) -> Arrays:
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=examples)
    centres = rng.normal(size=(classes, features))
    return {
        "x": (centres[labels] + rng.normal(size=(examples, features))).astype(np.float32),
        "y": labels,
        "w": np.zeros((features, classes), np.float32),
        "b": np.zeros(classes, np.float32),
    }


def in_graphc() -> Callable[..., Any]:
    from graphc import cross_entropy

    return lambda x, y, w, b: cross_entropy(x @ w + b, y)


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, y: Any, w: Any, b: Any) -> Any:
        logits = x @ w + b
        logits -= logits.max(axis=1, keepdims=True)
        exps = np.exp(logits)
        sums = exps.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = np.mean(np.log(sums[:, 0]) - logits[rows, y])
        slopes = exps / sums
        slopes[rows, y] -= 1
        slopes /= len(y)
        return loss, {"w": x.T @ slopes, "b": slopes.sum(axis=0)}

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    from torch.nn.functional import cross_entropy, linear

    return lambda x, y, w, b: cross_entropy(linear(x, w.T, b), y)


def in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, y: Any, w: Any, b: Any) -> Any:
        scores = jax.nn.log_softmax(x @ w + b)
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, y: Any, w: Any, b: Any) -> Any:
        scores = pt.special.log_softmax(x @ w + b, axis=1)
        return -pt.mean(scores[pt.arange(y.shape[0]), y])

    return loss


WORKLOADS = (
    Workload(
        "softmax_regression",
        "softmax regression, 10,000 x 500 x 5, full-batch step, f32",
        1.8,
        data,
        {"examples": 10_000, "features": 500, "classes": 5},
        {"examples": 20, "features": 7, "classes": 3},
        training(
            ("w", "b"), 0.01, ("x", "y"),
            graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor,
        ),
        tolerance=1e-3,
        cost_limit=3.0,
        gpu={"target": 1.0},
    ),
)  # fmt: skip
