"""Log-softmax and cross-entropy with integer labels: a wide row, read twice, and one gather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, gradients, read_and_written


def data(rows: int, classes: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "logits": (3 * rng.normal(size=(rows, classes))).astype(np.float32),
        "labels": rng.integers(classes, size=rows),
    }


def in_graphc() -> Callable[..., Any]:
    from graphc import cross_entropy

    return cross_entropy


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(logits: Any, labels: Any) -> Any:
        logits = logits - logits.max(axis=1, keepdims=True)
        slopes = np.exp(logits)
        sums = slopes.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = np.mean(np.log(sums[:, 0]) - logits[rows, labels])
        slopes /= sums
        slopes[rows, labels] -= 1
        slopes /= len(labels)
        return loss, {"logits": slopes}

    return value_and_gradients


def in_torch() -> Callable[..., Any]:
    from torch.nn.functional import cross_entropy

    def loss(logits: Any, labels: Any) -> Any:
        return cross_entropy(logits, labels)

    return loss


def in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(logits: Any, labels: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))

    return loss


def in_pytensor() -> Callable[..., Any]:
    import pytensor.tensor as pt

    def loss(logits: Any, labels: Any) -> Any:
        return -pt.mean(pt.special.log_softmax(logits, axis=1)[pt.arange(labels.shape[0]), labels])

    return loss


WORKLOADS = (
    Workload(
        "label_loss",
        "log-softmax cross-entropy, 4096 x 1000, integer labels, gradient, f32",
        1.5,
        data,
        {"rows": 4096, "classes": 1000},
        {"rows": 6, "classes": 9},
        gradients(
            ("logits",), ("logits", "labels"),
            graphc=in_graphc, numpy=in_numpy, torch=in_torch, jax=in_jax, pytensor=in_pytensor,
        ),
        cost_limit=2.5,
        traffic=read_and_written(("logits",)),
        gpu={
            "title": "log-softmax cross-entropy, 65,536 x 1000, integer labels, gradient, f32",
            "sizes": {"rows": 65_536, "classes": 1000},
            "at_least": {"graphc.cpu": 20.0},
        },
    ),
)  # fmt: skip
