"""NumPy: the loss and its gradients are written by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Run


def gradients(loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], batched: tuple[str, ...]) -> Run:
    """The value and the gradients."""
    return Run(partial(loss, **data), lambda result: {"loss": result[0], **result[1]})


class Stepper:
    """A step of gradient descent, in place."""

    def __init__(
        self, loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...]
    ) -> None:
        self._loss, self._lr = loss, lr
        self._params = {name: data[name].copy() for name in wrt}

    def convert(self, feeds: Arrays) -> Arrays:
        return feeds

    def step(self, batch: Arrays) -> Any:
        loss, found = self._loss(**self._params, **batch)
        for name, param in self._params.items():
            param -= self._lr * np.asarray(found[name], param.dtype)
        return loss

    def params(self) -> Arrays:
        return self._params
