"""Optimisers: how a parameter and its state follow from the gradient, written as graph expressions.

An update is part of the training step's graph, so it fuses into one kernel over the packed parameters. The learning
rate and the step count are run-time inputs: schedules never recompile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, TypeAlias

from graphc.ir import ops
from graphc.ir.core import Node, full
from graphc.ir.errors import CompileTypeError, CompileValueError

Schedule: TypeAlias = "float | Callable[[int], float]"


class Optimizer(Protocol):
    """What a trainer needs of an optimiser."""

    lr: Schedule

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the arrays, shaped like the parameters and zero at the start, that it keeps."""

    def update(
        self, param: Node, gradient: Node, state: Sequence[Node], lr: Node, step: Node
    ) -> tuple[Node, tuple[Node, ...]]:
        """The next value of a parameter and of its state.

        Parameters
        ----------
        param, gradient : Node
            Of one shape and dtype (float32 where the parameter is stored as a half).
        state : sequence of Node
            The current state arrays, like `param`.
        lr, step : Node
            Scalars: the learning rate in the parameter's dtype, and the number of this step (from 1) in float64.
        """


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum: ``v = momentum v + g``, ``w -= lr v``.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a function of the step (from 0).
    momentum : float
        In [0, 1).
    """

    lr: Schedule
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_lr("SGD", self.lr)
        _check_fraction("SGD", "momentum", self.momentum)

    @property
    def state(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("velocity",) if self.momentum else ()

    def update(
        self, param: Node, gradient: Node, state: Sequence[Node], lr: Node, step: Node
    ) -> tuple[Node, tuple[Node, ...]]:
        """See `Optimizer.update`."""
        if not state:
            return param - over(lr, param) * gradient, ()
        velocity = self.momentum * state[0] + gradient
        return param - over(lr, param) * velocity, (velocity,)


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction; `eps` stands outside the root.

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)`` in step t, from 1.

    Parameters
    ----------
    lr : float or callable
        The learning rate, or a function of the step (from 0).
    beta1, beta2 : float
        In [0, 1).
    eps : float
        Positive.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1.
    """

    lr: Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_lr("Adam", self.lr)
        _check_fraction("Adam", "beta1", self.beta1)
        _check_fraction("Adam", "beta2", self.beta2)
        if not self.eps > 0:
            raise CompileValueError(f"Adam's eps is positive, got {self.eps}")

    @property
    def state(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square."""
        return ("mean", "square")

    def update(
        self, param: Node, gradient: Node, state: Sequence[Node], lr: Node, step: Node
    ) -> tuple[Node, tuple[Node, ...]]:
        """See `Optimizer.update`."""
        mean = self.beta1 * state[0] + (1 - self.beta1) * gradient
        square = self.beta2 * state[1] + (1 - self.beta2) * ops.square(gradient)
        mean_scale = over(self._correction(self.beta1, step), param)
        square_scale = over(self._correction(self.beta2, step), param)
        change = over(lr, param) * (mean * mean_scale) / (ops.sqrt(square * square_scale) + self.eps)
        return param - change, (mean, square)

    @staticmethod
    def _correction(beta: float, step: Node) -> Node:
        """``1 / (1 - beta^t)``, exact in float64 while t is small."""
        return 1 / (1 - ops.power(full(beta, step.type), step))


def over(scalar: Node, like: Node) -> Node:
    """A scalar spread over the shape, and in the dtype, of another node."""
    if scalar.dtype != like.dtype:
        scalar = ops.cast(scalar, dtype=like.dtype)
    return scalar if not like.shape else ops.broadcast_to(scalar, shape=like.shape)


def _check_lr(optimizer: str, lr: Any) -> None:
    if not (callable(lr) or (isinstance(lr, Real) and float(lr) >= 0)):
        raise CompileTypeError(f"{optimizer}'s lr is a non-negative number or a function of the step, got {lr!r}")


def _check_fraction(optimizer: str, name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise CompileValueError(f"{optimizer}'s {name} lies in [0, 1), got {value}")
