"""Layer normalisation and tanh: rows that are read several times, column sums for scale and shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, gradients, read_and_written

EPS = 1e-5


def data(rows: int, features: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(rows, features)).astype(np.float32),
        "scale": (1 + 0.1 * rng.normal(size=features)).astype(np.float32),
        "shift": (0.1 * rng.normal(size=features)).astype(np.float32),
    }


def in_graphc() -> Callable[..., Any]:
    def loss(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - np.mean(x, axis=-1, keepdims=True)
        normal = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + EPS)
        return np.mean(np.tanh(normal * scale + shift) ** 2)

    return loss


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + x.dtype.type(EPS))
        normal = centred * inverse
        out = np.tanh(normal * scale + shift)
        d_affine = out * (1 - out * out)
        d_affine *= x.dtype.type(2 / x.size)
        d_normal = d_affine * scale
        mean = d_normal.mean(axis=-1, keepdims=True)
        along = np.mean(d_normal * normal, axis=-1, keepdims=True)
        return np.mean(out * out), {
            "x": (d_normal - mean - normal * along) * inverse,
            "scale": np.sum(d_affine * normal, axis=0),
            "shift": d_affine.sum(axis=0),
        }

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    import torch
    from torch.nn.functional import layer_norm

    def loss(x: Any, scale: Any, shift: Any) -> Any:
        return torch.mean(torch.tanh(layer_norm(x, scale.shape, scale, shift, EPS)) ** 2)

    return loss


def in_jax() -> Callable[..., Any]:
    import jax.numpy as jnp

    def loss(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        normal = centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + EPS)
        return jnp.mean(jnp.tanh(normal * scale + shift) ** 2)

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, scale: Any, shift: Any) -> Any:
        centred = x - pt.mean(x, axis=-1, keepdims=True)
        normal = centred / pt.sqrt(pt.mean(centred**2, axis=-1, keepdims=True) + np.float32(EPS))
        return pt.mean(pt.tanh(normal * scale + shift) ** 2)

    return loss


WORKLOADS = (
    Workload(
        "layer_norm",
        "layer norm + tanh, value and all gradients, 4096 x 768 f32",
        4.0,
        data,
        {"rows": 4096, "features": 768},
        {"rows": 6, "features": 9},
        gradients(
            ("x", "scale", "shift"), ("x",),
            graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor,
        ),
        cost_limit=2.5,
        traffic=read_and_written(("x", "scale", "shift")),
        gpu={
            "title": "layer norm + tanh, value and all gradients, 65,536 x 768 f32",
            "sizes": {"rows": 65_536, "features": 768},
            "at_least": {"graphc.cpu": 20.0},
        },
    ),
)  # fmt: skip
