"""sum(exp(xz) + xz / ln(x + 1) + sin(ln(x + 1)) / (xz)): elementwise functions and two gradients, one pass if fused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, gradients, read_and_written


def data(dtype: type[Any], size: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {name: (0.5 + rng.random(size)).astype(dtype) for name in ("x", "z")}


def in_graphc() -> Callable[..., Any]:
    def loss(x: Any, z: Any) -> Any:
        log = np.log(x + 1)
        return np.sum(np.exp(x * z) + x * z / log + np.sin(log) / (x * z))

    return loss


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, z: Any) -> Any:
        product = x * z
        log = np.log(x + 1)
        exp, sin = np.exp(product), np.sin(log)
        value = np.sum(exp + product / log + sin / product)
        d_product = exp + 1 / log - sin / (product * product)
        d_log = np.cos(log) / product - product / (log * log)
        return value, {"x": d_product * z + d_log / (x + 1), "z": d_product * x}

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    import torch

    def loss(x: Any, z: Any) -> Any:
        log = torch.log(x + 1)
        return torch.sum(torch.exp(x * z) + x * z / log + torch.sin(log) / (x * z))

    return loss


def in_jax() -> Callable[..., Any]:
    import jax.numpy as jnp

    def loss(x: Any, z: Any) -> Any:
        log = jnp.log(x + 1)
        return jnp.sum(jnp.exp(x * z) + x * z / log + jnp.sin(log) / (x * z))

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, z: Any) -> Any:
        log = pt.log(x + 1)
        return pt.sum(pt.exp(x * z) + x * z / log + pt.sin(log) / (x * z))

    return loss


WORKLOADS = tuple(
    Workload(
        f"expression_{short}",
        f"sum(exp(xz) + xz/ln(x+1) + sin(ln(x+1))/(xz)), both gradients, 10^6, {short}",
        1.6,
        partial(data, dtype),
        {"size": 10**6},
        {"size": 50},
        gradients(
            ("x", "z"), ("x", "z"),
            graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor,
        ),
        tolerance=tolerance,
        cost_limit=2.5,
        traffic=read_and_written(("x", "z")),
        gpu={
            "title": f"sum(exp(xz) + xz/ln(x+1) + sin(ln(x+1))/(xz)), both gradients, 5 x 10^7, {short}",
            "sizes": {"size": 5 * 10**7},
            "at_least": {"graphc.cpu": 20.0},
        },
    )
    for short, dtype, tolerance in (("f32", np.float32, 1e-4), ("f64", np.float64, 1e-9))
)  # fmt: skip
