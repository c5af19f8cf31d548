"""Log-likelihood of a Gaussian mixture with full covariances, in the parameters of ADBench.

Component k has the unnormalised log-weight `weights[k]` and the inverse covariance ``Q.T Q``, where Q is lower
triangular with diagonal ``exp(diagonal[k])`` and `lower[k]` below it. Constants are left out.

References
----------
F. Srajer, Z. Kukelova, A. Fitzgibbon, "A benchmark of selected algorithmic differentiation tools on some problems in
computer vision and machine learning", Optimization Methods and Software 33 (2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, gradients

PARAMS = ("weights", "means", "diagonal", "lower")


def data(points: int, components: int, features: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(points, features)),
        "weights": rng.normal(size=components),
        "means": rng.normal(size=(components, features)),
        "diagonal": 0.1 * rng.normal(size=(components, features)),
        "lower": 0.1 * rng.normal(size=(components, features, features)),
    }


def below(features: int) -> np.ndarray:
    """Ones below the diagonal."""
    return np.tril(np.ones((features, features)), -1)


def in_graphc() -> Callable[..., Any]:
    from graphc import logsumexp

    def loss(x: Any, weights: Any, means: Any, diagonal: Any, lower: Any) -> Any:
        d = x.shape[1]
        roots = np.exp(diagonal)[:, :, None] * np.eye(d) + lower * below(d)
        scaled = (x - means[:, None, :]) @ np.swapaxes(roots, 1, 2)
        terms = (weights + np.sum(diagonal, axis=1))[:, None] - 0.5 * np.sum(scaled**2, axis=2)
        return np.sum(logsumexp(terms, axis=0)) - x.shape[0] * logsumexp(weights)

    return loss


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, weights: Any, means: Any, diagonal: Any, lower: Any) -> Any:
        n, d = x.shape
        mask, exps = below(d), np.exp(diagonal)
        roots = exps[:, :, None] * np.eye(d) + lower * mask
        centred = x - means[:, None, :]
        scaled = centred @ np.swapaxes(roots, 1, 2)
        terms = (weights + diagonal.sum(axis=1))[:, None] - 0.5 * np.sum(scaled * scaled, axis=2)
        top, top_weight = terms.max(axis=0), weights.max()
        shares, prior = np.exp(terms - top), np.exp(weights - top_weight)
        sums, prior_sum = shares.sum(axis=0), prior.sum()
        value = np.sum(np.log(sums) + top) - n * (np.log(prior_sum) + top_weight)
        shares /= sums
        totals = shares.sum(axis=1)
        d_scaled = scaled * -shares[:, :, None]
        d_roots = np.swapaxes(d_scaled, 1, 2) @ centred
        return value, {
            "weights": totals - n * prior / prior_sum,
            "means": -np.squeeze(d_scaled.sum(axis=1)[:, None, :] @ roots, 1),
            "diagonal": totals[:, None] + exps * np.diagonal(d_roots, axis1=1, axis2=2),
            "lower": d_roots * mask,
        }

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    import torch

    def loss(x: Any, weights: Any, means: Any, diagonal: Any, lower: Any) -> Any:
        roots = torch.diag_embed(torch.exp(diagonal)) + torch.tril(lower, -1)
        scaled = (x - means[:, None, :]) @ roots.transpose(1, 2)
        terms = (weights + diagonal.sum(1))[:, None] - 0.5 * (scaled**2).sum(2)
        return torch.logsumexp(terms, 0).sum() - x.shape[0] * torch.logsumexp(weights, 0)

    return loss


def in_jax() -> Callable[..., Any]:
    import jax.numpy as jnp
    from jax.scipy.special import logsumexp

    def loss(x: Any, weights: Any, means: Any, diagonal: Any, lower: Any) -> Any:
        d = x.shape[1]
        roots = jnp.exp(diagonal)[:, :, None] * jnp.eye(d) + jnp.tril(lower, -1)
        scaled = (x - means[:, None, :]) @ jnp.swapaxes(roots, 1, 2)
        terms = (weights + jnp.sum(diagonal, axis=1))[:, None] - 0.5 * jnp.sum(scaled**2, axis=2)
        return jnp.sum(logsumexp(terms, axis=0)) - x.shape[0] * logsumexp(weights)

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(x: Any, weights: Any, means: Any, diagonal: Any, lower: Any) -> Any:
        n, d = x.type.shape
        roots = pt.exp(diagonal)[:, :, None] * np.eye(d) + lower * below(d)
        scaled = (x - means[:, None, :]) @ pt.swapaxes(roots, 1, 2)
        terms = (weights + pt.sum(diagonal, axis=1))[:, None] - 0.5 * pt.sum(scaled**2, axis=2)
        return pt.sum(pt.logsumexp(terms, axis=0)) - n * pt.logsumexp(weights)

    return loss


WORKLOADS = (
    Workload(
        "gaussian_mixture",
        "Gaussian mixture log-likelihood, d=10, K=25, n=10,000, gradient, f64",
        1.5,
        data,
        {"points": 10_000, "components": 25, "features": 10},
        {"points": 8, "components": 3, "features": 4},
        gradients(
            PARAMS, ("x",), graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor
        ),
        tolerance=1e-9,
        cost_limit=2.5,
        gpu={},
    ),
)
