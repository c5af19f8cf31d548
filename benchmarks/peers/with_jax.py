"""JAX: the loss is a function of arrays, jitted with its gradients or its update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.workload import Arrays, Run, at_once, split, update


def state() -> dict[str, str]:
    """What speed depends on beside versions."""
    device, precision = jax.devices()[0], jax.config.jax_default_matmul_precision
    return {"device": device.device_kind, "default_matmul_precision": str(precision)}


def finishing(target: str) -> Callable[[Any], Any]:
    """What a step does with its results: on a CPU it waits for them, on a GPU it is `Run.wait` that does."""
    return jax.block_until_ready if target == "cpu" else at_once


def gradients(
    loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], batched: tuple[str, ...], target: str = "cpu"
) -> Run:
    """The value and the gradients."""
    start, feeds = map(convert, split(data, wrt))
    finish = finishing(target)
    function = jax.jit(jax.value_and_grad(lambda start, feeds: loss(**start, **feeds)))

    def step() -> Any:
        return finish(function(start, feeds))

    return Run(step, lambda result: {"loss": result[0], **result[1]}, wait=jax.block_until_ready)


class Stepper:
    """A step of gradient descent; the old parameters are donated to it."""

    def __init__(
        self,
        loss: Callable[..., Any],
        data: Arrays,
        wrt: tuple[str, ...],
        lr: float,
        batched: tuple[str, ...],
        target: str = "cpu",
    ) -> None:
        self._params = convert(split(data, wrt)[0])
        self._finish, self.wait = finishing(target), jax.block_until_ready
        self._step = jax.jit(descent(loss, lr), donate_argnums=0)

    def convert(self, feeds: Arrays) -> Any:
        return convert(feeds)

    def step(self, batch: Any) -> Any:
        self._params, loss = self._finish(self._step(self._params, batch))
        return loss

    def params(self) -> Any:
        return self._params


def scan(
    loss: Callable[..., Any],
    data: Arrays,
    wrt: tuple[str, ...],
    lr: float,
    batched: tuple[str, ...],
    size: int,
    target: str = "cpu",
) -> Run:
    """An epoch as one native loop, by `lax.scan`."""
    start, feeds = split(data, wrt)
    batches = convert({name: array.reshape(-1, size, *array.shape[1:]) for name, array in feeds.items()})
    run = jax.jit(partial(jax.lax.scan, descent(loss, lr)))
    params, finish = convert(start), finishing(target)

    def step() -> Any:
        nonlocal params
        params, _ = finish(run(params, batches))
        return params

    count = len(feeds[batched[0]]) // size
    return Run(step, lambda now: update(start, now, lr), steps=count, wait=jax.block_until_ready)


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
