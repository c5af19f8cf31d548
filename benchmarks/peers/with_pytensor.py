"""PyTensor: the loss is a function of symbolic tensors of known shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from benchmarks.workload import Arrays, Run, split


def gradients(
    loss: Callable[..., Any], data: Arrays, wrt: tuple[str, ...], batched: tuple[str, ...], mode: str
) -> Run:
    """The value and the gradients."""
    symbols = symbolic(data)
    value = loss(**symbols)
    slopes = pytensor.grad(value, [symbols[name] for name in wrt])
    function = pytensor.function(list(symbols.values()), [value, *slopes], mode=mode)
    arguments = list(data.values())
    return Run(
        lambda: function(*arguments),
        lambda result: {"loss": result[0], **dict(zip(wrt, result[1:], strict=True))},
    )


class Stepper:
    """A step of gradient descent on shared variables."""

    def __init__(
        self,
        loss: Callable[..., Any],
        data: Arrays,
        wrt: tuple[str, ...],
        lr: float,
        batched: tuple[str, ...],
        mode: str,
        trusting: bool = False,
    ) -> None:
        start, feeds = split(data, wrt)
        self._params = {name: pytensor.shared(array.copy(), name) for name, array in start.items()}
        symbols = symbolic(feeds, batched)
        value = loss(**self._params, **symbols)
        slopes = pytensor.grad(value, list(self._params.values()))
        updates = [
            (param, param - np.asarray(lr, slope.dtype) * slope)
            for param, slope in zip(self._params.values(), slopes, strict=True)
        ]
        self._function = pytensor.function(list(symbols.values()), value, updates=updates, mode=mode)
        self._function.trust_input = trusting  # do not check the arguments of a call

    def convert(self, feeds: Arrays) -> list[Any]:
        return list(feeds.values())

    def step(self, batch: list[Any]) -> Any:
        return self._function(*batch)

    def params(self) -> Arrays:
        return {name: param.get_value() for name, param in self._params.items()}


def symbolic(data: Arrays, batched: tuple[str, ...] = ()) -> dict[str, Any]:
    """A symbolic tensor for every array, of known shape but for the leading extent of a batch."""
    return {
        name: pt.tensor(name, dtype=array.dtype, shape=(None, *array.shape[1:]) if name in batched else array.shape)
        for name, array in data.items()
    }
