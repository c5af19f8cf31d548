"""A workload: data, and the same computation written once for every implementation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

Arrays: TypeAlias = "dict[str, np.ndarray]"
# Imports a library, and returns the loss as a function of its tensors.
Maker: TypeAlias = "Callable[[], Callable[..., Any]]"


@dataclass(frozen=True)
class Run:
    """A computation that is ready to be repeated.

    Parameters
    ----------
    step : callable
        Does the work and returns when it is finished.
    read : callable
        NumPy arrays by name out of what the first call of `step` returned.
    steps : int
        How many steps one call of `step` makes.
    cost : callable, optional
        Makes the pair (forward alone, forward and adjoint) for the gradient's cost.
    """

    step: Callable[[], Any]
    read: Callable[[Any], Mapping[str, Any]]
    steps: int = 1
    cost: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]] | None = None


Builder: TypeAlias = "Callable[[Arrays], Run]"


class Stepper(Protocol):
    """A training step of one implementation, which keeps its parameters."""

    def convert(self, feeds: Arrays) -> Any:
        """A batch as the implementation takes it."""

    def step(self, batch: Any) -> Any:
        """Update the parameters; return the loss before, finished."""

    def params(self) -> Mapping[str, Any]:
        """The parameters now."""


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Parameters
    ----------
    name, title : str
        For the command line, and for readers.
    target : float or None
        What (time of the best peer) / (time of graphc) is to reach at least. graphc's interpreter is no peer.
    data : callable
        Arrays by name, as a function of the sizes alone.
    sizes, quick : mapping
        The arguments of `data`, at full size and for a trial.
    builders : mapping
        A builder for every implementation. ``numpy``, on float64 copies of the data, is the reference of the others.
    tolerance : float
        The largest difference from the reference, relative to the largest element of each array.
    rivals : tuple of str
        The implementations that the target is about; empty: all that are not `beside`.
    beside : tuple of str
        Implementations that are shown without a target.
    at_most : mapping
        Limits on (time of graphc) / (time of another implementation).
    cost_limit : float or None
        What (forward and adjoint) / (forward alone) is to stay below, for graphc.
    """

    name: str
    title: str
    target: float | None
    data: Callable[..., Arrays]
    sizes: Mapping[str, int]
    quick: Mapping[str, int]
    builders: Mapping[str, Builder]
    tolerance: float = 1e-4
    rivals: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    at_most: Mapping[str, float] = field(default_factory=dict)
    cost_limit: float | None = None

    def arrays(self, quick: bool = False) -> Arrays:
        """The data."""
        return self.data(**(self.quick if quick else self.sizes))

    def is_peer(self, implementation: str) -> bool:
        """Whether the target counts this implementation."""
        if implementation.startswith("graphc") or implementation in self.beside:
            return False
        return not self.rivals or implementation in self.rivals


@dataclass(frozen=True)
class Implementation:
    """How an implementation is reached.

    Parameters
    ----------
    package : str
        What must be installed.
    module : str
        The module of `benchmarks.peers` that drives it; empty where a workload drives it alone.
    options : mapping
        Given to that module's functions.
    """

    package: str
    module: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


IMPLEMENTATIONS = {
    "graphc": Implementation("graphc", "with_graphc"),
    "graphc.interpret": Implementation("graphc", "with_graphc", {"target": "interpret"}),
    "torch": Implementation("torch", "with_torch", {"compiled": False}),
    "torch.compile": Implementation("torch", "with_torch", {"compiled": True}),
    "jax": Implementation("jax", "with_jax"),
    "jax.scan": Implementation("jax", "with_jax"),
    "pytensor": Implementation("pytensor", "with_pytensor", {"mode": "NUMBA"}),
    "pytensor.trusting": Implementation("pytensor", "with_pytensor", {"mode": "NUMBA", "trusting": True}),
    "pytensor.c": Implementation("pytensor", "with_pytensor", {"mode": "CVM"}),
    "numpy": Implementation("numpy", "with_numpy"),
    "scikit-learn": Implementation("sklearn"),
    "copy": Implementation("numpy"),
}
REFERENCE = "numpy"
ASKED_FOR = ("jax.scan", "pytensor.trusting")  # where a workload names them


def gradients(wrt: Sequence[str], batched: Sequence[str] = (), **makers: Maker) -> dict[str, Builder]:
    """Builders of the value and the gradients of a loss.

    Parameters
    ----------
    wrt : sequence of str
        The arrays with respect to which the loss is differentiated.
    batched : sequence of str
        The arrays whose leading extent graphc does not know when it compiles.
    **makers
        The loss, by library. NumPy's returns the value and a dict of gradients, written by hand.
    """
    return {
        name: partial(_gradients, name, makers[library], tuple(wrt), tuple(batched))
        for name, library in _named(makers)
    }


def training(wrt: Sequence[str], lr: float, batched: Sequence[str], **makers: Maker) -> dict[str, Builder]:
    """Builders of one step of gradient descent on the arrays `wrt`; see `gradients`."""
    return {
        name: partial(_training, name, makers[library], tuple(wrt), lr, tuple(batched))
        for name, library in _named(makers)
    }


def epochs(wrt: Sequence[str], lr: float, batched: Sequence[str], size: int, **makers: Maker) -> dict[str, Builder]:
    """Builders of an epoch of steps over batches of `size`, called from Python one by one; see `gradients`."""
    return {
        name: partial(_epoch, name, makers[library], tuple(wrt), lr, tuple(batched), size)
        for name, library in _named(makers)
        if name != "graphc.interpret"  # a quarter of an hour
    }


def driver(implementation: str) -> Any:
    """The module of `benchmarks.peers` that drives an implementation; importing it imports the library."""
    module = IMPLEMENTATIONS[implementation].module
    return importlib.import_module(f"benchmarks.peers.{module}") if module else None


def update(start: Arrays, now: Mapping[str, Any], lr: float) -> Arrays:
    """What was subtracted from parameters over the learning rate: the gradient, after one step of plain descent."""
    return {name: (array - np.asarray(now[name])) / lr for name, array in start.items()}


def split(data: Arrays, names: Sequence[str]) -> tuple[Arrays, Arrays]:
    """The arrays of these names, and the others."""
    return {name: data[name] for name in names}, {name: data[name] for name in data if name not in names}


def _named(makers: Mapping[str, Maker]) -> list[tuple[str, str]]:
    """Implementations and the maker of each: its own, or its library's, as torch's for `torch.compile`."""
    own = [name if name in makers or name in ASKED_FOR else name.partition(".")[0] for name in IMPLEMENTATIONS]
    return [(name, maker) for name, maker in zip(IMPLEMENTATIONS, own, strict=True) if maker in makers]


def _gradients(name: str, maker: Maker, wrt: tuple[str, ...], batched: tuple[str, ...], data: Arrays) -> Run:
    run: Run = driver(name).gradients(maker(), data, wrt, batched, **IMPLEMENTATIONS[name].options)
    return run


def _stepper(
    name: str, maker: Maker, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...], data: Arrays
) -> Stepper:
    stepper: Stepper = driver(name).Stepper(maker(), data, wrt, lr, batched, **IMPLEMENTATIONS[name].options)
    return stepper


def _training(
    name: str, maker: Maker, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...], data: Arrays
) -> Run:
    start, feeds = split(data, wrt)
    stepper = _stepper(name, maker, wrt, lr, batched, data)
    batch = stepper.convert(feeds)
    return Run(
        partial(stepper.step, batch),
        lambda loss: {"loss": loss, **update(start, stepper.params(), lr)},
        cost=getattr(stepper, "cost", None),
    )


def _epoch(
    name: str, maker: Maker, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...], size: int, data: Arrays
) -> Run:
    start, feeds = split(data, wrt)
    stepper = _stepper(name, maker, wrt, lr, batched, data)
    count = len(feeds[batched[0]])
    batches = [
        stepper.convert({key: array[first : first + size] for key, array in feeds.items()})
        for first in range(0, count, size)
    ]

    def step() -> None:
        for batch in batches:
            stepper.step(batch)

    return Run(step, lambda _: update(start, stepper.params(), lr), steps=len(batches))
