"""Self-attention with one head: batched products around a softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, gradients


def data(batch: int, length: int, features: int) -> Arrays:
    rng = np.random.default_rng(0)
    weights = {
        name: (rng.normal(size=(features, features)) / np.sqrt(features)).astype(np.float32)
        for name in ("query", "key", "value")
    }
    return {"x": rng.normal(size=(batch, length, features)).astype(np.float32), **weights}


def in_graphc() -> Callable[..., Any]:
    from graphc import softmax

    def loss(x: Any, query: Any, key: Any, value: Any) -> Any:
        scores = (x @ query) @ np.swapaxes(x @ key, 1, 2) / x.shape[-1] ** 0.5
        return np.mean((softmax(scores) @ (x @ value)) ** 2)

    return loss


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, query: Any, key: Any, value: Any) -> Any:
        scale = x.dtype.type(1 / np.sqrt(x.shape[-1]))
        queries, keys, values = x @ query, x @ key, x @ value
        scores = queries @ np.swapaxes(keys, 1, 2) * scale
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        out = weights @ values
        d_out = out * x.dtype.type(2 / out.size)
        d_values = np.swapaxes(weights, 1, 2) @ d_out
        d_weights = d_out @ np.swapaxes(values, 1, 2)
        d_scores = weights * (d_weights - np.sum(d_weights * weights, axis=-1, keepdims=True)) * scale
        d_queries = d_scores @ keys
        d_keys = np.swapaxes(d_scores, 1, 2) @ queries
        rows = x.reshape(-1, x.shape[-1]).T
        return np.mean(out * out), {
            "x": d_queries @ query.T + d_keys @ key.T + d_values @ value.T,
            "query": rows @ d_queries.reshape(-1, x.shape[-1]),
            "key": rows @ d_keys.reshape(-1, x.shape[-1]),
            "value": rows @ d_values.reshape(-1, x.shape[-1]),
        }

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    import torch

    def loss(x: Any, query: Any, key: Any, value: Any) -> Any:
        scores = (x @ query) @ (x @ key).transpose(1, 2) / x.shape[-1] ** 0.5
        return torch.mean((torch.softmax(scores, -1) @ (x @ value)) ** 2)

    return loss


def in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, query: Any, key: Any, value: Any) -> Any:
        scores = (x @ query) @ jnp.swapaxes(x @ key, 1, 2) / x.shape[-1] ** 0.5
        return jnp.mean((jax.nn.softmax(scores) @ (x @ value)) ** 2)

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, query: Any, key: Any, value: Any) -> Any:
        scale = np.float32(1 / np.sqrt(x.type.shape[-1]))
        scores = (x @ query) @ pt.swapaxes(x @ key, 1, 2) * scale
        return pt.mean((pt.special.softmax(scores, axis=-1) @ (x @ value)) ** 2)

    return loss


WORKLOADS = (
    Workload(
        "attention",
        "self-attention 8 x 128 x 256, one head, value and gradients, f32",
        1.1,
        data,
        {"batch": 8, "length": 128, "features": 256},
        {"batch": 2, "length": 5, "features": 4},
        gradients(
            ("x", "query", "key", "value"), ("x",),
            graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor,
        ),
        tolerance=1e-3,
        cost_limit=3.0,
        gpu={"target": 1.0},
    ),
)  # fmt: skip
