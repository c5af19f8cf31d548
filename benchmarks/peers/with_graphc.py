"""graphc: the loss is a function of views; the batch's leading extent is a symbolic dim."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import graphc
from benchmarks.workload import Arrays, Run, at_once, split, update
from graphc import SGD, Trainer

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def gradients(
    loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], batched: tuple[str, ...], target: str = "cpu"
) -> Run:
    """The value and the gradients with respect to inputs."""
    program = graphc.compile(loss(**inputs(data, batched)), wrt=list(wrt), target=target)
    feeds = resident(data, target)
    step = partial(program.value_and_grad, **feeds)
    return Run(
        step,
        lambda result: {"loss": result[0], **result[1]},
        cost=lambda: (partial(program, **feeds), step),
        wait=waiting(target),
    )


class Stepper:
    """`Trainer.step`, with plain gradient descent."""

    def __init__(
        self,
        loss: Callable[..., Any],
        data: Arrays,
        wrt: tuple[str, ...],
        lr: float,
        batched: tuple[str, ...],
        target: str = "cpu",
    ) -> None:
        self._loss, self.trainer = trainer(loss, data, wrt, SGD(lr), batched, target)
        self._feeds = split(data, wrt)[1]
        self._target, self.wait = target, waiting(target)

    def convert(self, feeds: Arrays) -> dict[str, Any]:
        return resident(feeds, self._target)

    def step(self, batch: dict[str, Any]) -> Any:
        return self.trainer.step(**batch)

    def params(self) -> Any:
        return self.trainer.params

    def cost(self) -> Pair:
        """The loss alone, and with its gradients."""
        program = graphc.compile(self._loss, wrt="params")
        return partial(program, **self._feeds), partial(program.value_and_grad, **self._feeds)


def fit(
    loss: Callable[..., Any],
    data: Arrays,
    wrt: tuple[str, ...],
    lr: float,
    batched: tuple[str, ...],
    size: int,
    target: str = "cpu",
) -> Run:
    """An epoch inside `Trainer.fit`."""
    start, feeds = split(data, wrt)
    made = trainer(loss, data, wrt, SGD(lr), batched, target)[1]
    # The other implementations take the examples as they lie. Here they lie so that the order in which `fit` takes them
    # is that of the others.
    count = len(feeds[batched[0]])
    order = np.random.Generator(np.random.Philox(key=[0, 0])).permutation(count)
    laid_out = {name: np.empty_like(array) for name, array in feeds.items()}
    for name, array in feeds.items():
        laid_out[name][order] = array
    return Run(
        partial(made.fit, resident(laid_out, target), epochs=1, batch_size=size),
        lambda _: update(start, made.params, lr),
        steps=-(-count // size),
        wait=waiting(target),
    )


def trainer(
    loss: Callable[..., Any],
    data: Arrays,
    wrt: tuple[str, ...],
    optimizer: Any,
    batched: tuple[str, ...],
    target: str = "cpu",
) -> tuple[graphc.View, Trainer]:
    """A trainer of the arrays `wrt`, and the loss as a view."""
    start, feeds = split(data, wrt)
    params = {name: graphc.Param(array, name=name) for name, array in start.items()}
    view = loss(**inputs(feeds, batched), **params)
    return view, Trainer(view, optimizer, target=target)


def inputs(data: Arrays, batched: tuple[str, ...]) -> dict[str, graphc.View]:
    """An input for every array."""
    return {
        name: graphc.Input(("N", *array.shape[1:]) if name in batched else array.shape, array.dtype, name)
        for name, array in data.items()
    }


def resident(arrays: Arrays, target: str) -> dict[str, Any]:
    """Feeds where the target has them: on a GPU before the clock runs, as the other libraries have theirs."""
    if target != "cuda":
        return dict(arrays)
    from numba import cuda

    return {name: cuda.to_device(array) for name, array in arrays.items()}


def waiting(target: str) -> Callable[[Any], Any]:
    """What waits for a target, see `Run.wait`."""
    if target != "cuda":
        return at_once
    from numba import cuda

    def wait(result: Any) -> Any:
        cuda.synchronize()
        return result

    return wait
