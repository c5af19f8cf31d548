"""JAX: the loss is a function of arrays, jitted with its gradients or its update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.workload import Arrays, Run, split, update


def gradients(loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], batched: tuple[str, ...]) -> Run:
    """The value and the gradients."""
    start, feeds = map(convert, split(data, wrt))
    function = jax.jit(jax.value_and_grad(lambda start, feeds: loss(**start, **feeds)))

    def step() -> Any:
        return jax.block_until_ready(function(start, feeds))

    return Run(step, lambda result: {"loss": result[0], **result[1]})


class Stepper:
    """A step of gradient descent; the old parameters are donated to it."""

    def __init__(
        self, loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...]
    ) -> None:
        self._params = convert(split(data, wrt)[0])
        self._step = jax.jit(descent(loss, lr), donate_argnums=0)

    def convert(self, feeds: Arrays) -> Any:
        return convert(feeds)

    def step(self, batch: Any) -> Any:
        self._params, loss = jax.block_until_ready(self._step(self._params, batch))
        return loss

    def params(self) -> Any:
        return self._params


def scan(
    loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...], size: int
) -> Run:
    """An epoch as one native loop, by `lax.scan`."""
    start, feeds = split(data, wrt)
    batches = convert({name: array.reshape(-1, size, *array.shape[1:]) for name, array in feeds.items()})
    run = jax.jit(partial(jax.lax.scan, descent(loss, lr)))
    state = convert(start)

    def step() -> Any:
        nonlocal state
        state, _ = jax.block_until_ready(run(state, batches))
        return state

    return Run(step, lambda now: update(start, now, lr), steps=len(feeds[batched[0]]) // size)


def descent(loss: Callable[..., Any], lr: float) -> Callable[..., Any]:
    """From parameters and a batch to the next parameters and the loss."""

    def step(params: Any, batch: Any) -> Any:
        value, found = jax.value_and_grad(lambda params: loss(**params, **batch))(params)
        return jax.tree.map(lambda param, slope: param - lr * slope, params, found), value

    return step


def convert(arrays: Arrays) -> Any:
    """Arrays on JAX's device, in their own precision: 64 bits where the data are float64."""
    if any(array.dtype == np.float64 for array in arrays.values()):
        jax.config.update("jax_enable_x64", True)
    narrow = {name: array.astype(np.int32) if array.dtype == np.int64 else array for name, array in arrays.items()}
    return {name: jax.numpy.asarray(array) for name, array in narrow.items()}
