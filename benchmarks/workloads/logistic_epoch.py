"""Logistic regression, an epoch of updates after every single example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Builder, Run, Workload, epochs, update

PARAMS = ("w", "b")
BATCHED = ("x", "y")
RATE = 0.01


def data(examples: int, features: int) -> Arrays:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, features))
    noise = rng.logistic(size=examples)
    return {
        "x": x,
        "y": (x @ rng.normal(size=features) + noise > 0).astype(np.float64),
        "w": np.zeros(features),
        "b": np.zeros(()),
    }


def in_graphc() -> Callable[..., Any]:
    from graphc import binary_cross_entropy

    return lambda x, y, w, b: binary_cross_entropy(x @ w + b, y)


def in_numpy() -> Callable[..., Any]:
    def value_and_gradients(x: Any, y: Any, w: Any, b: Any) -> Any:
        logits = x @ w + b
        slopes = (1 / (1 + np.exp(-logits)) - y) / len(y)
        loss = np.mean(np.logaddexp(0, logits) - y * logits)
        return loss, {"w": slopes @ x, "b": slopes.sum()}

    return value_and_gradients


def in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, y: Any, w: Any, b: Any) -> Any:
        logits = x @ w + b
        return jnp.mean(jax.nn.softplus(logits) - y * logits)

    return loss


def fit(data: Arrays) -> Run:
    from benchmarks.peers.with_graphc import fit

    return fit(in_graphc(), data, PARAMS, RATE, BATCHED, 1)


def scan(data: Arrays) -> Run:
    from benchmarks.peers.with_jax import scan

    return scan(in_jax(), data, PARAMS, RATE, BATCHED, 1)


def whole(builder: Builder) -> Builder:
    """An epoch as one step."""
    return lambda data: replace(builder(data), steps=1)


def by_sklearn(data: Arrays) -> Run:
    """Shuffles as `fit` does when it is timed; is checked on the examples in the order in which they lie."""
    from sklearn.linear_model import SGDClassifier

    def model(shuffle: bool) -> Any:
        return SGDClassifier(
            loss="log_loss", penalty=None, learning_rate="constant", eta0=RATE, shuffle=shuffle, random_state=0
        )

    x, y, classes = data["x"], data["y"], np.array([0.0, 1.0])
    timed = model(shuffle=True)

    def read(_: Any) -> Arrays:
        checked = model(shuffle=False).partial_fit(x, y, classes)
        return update({name: data[name] for name in PARAMS}, {"w": checked.coef_[0], "b": checked.intercept_[0]}, RATE)

    return Run(lambda: timed.partial_fit(x, y, classes), read)


WORKLOADS = (
    Workload(
        "logistic_epoch",
        "logistic regression, one epoch of batch-size-1 SGD, 10^5 x 20, f64",
        1.0,
        data,
        {"examples": 10**5, "features": 20},
        {"examples": 30, "features": 4},
        {
            "graphc": whole(fit),
            "numpy": whole(epochs(PARAMS, RATE, BATCHED, 1, numpy=in_numpy)["numpy"]),
            "jax.scan": whole(scan),
            "scikit-learn": by_sklearn,
        },
        tolerance=1e-6,
        rivals=("scikit-learn",),
        beside=("jax.scan", "numpy"),
    ),
)
