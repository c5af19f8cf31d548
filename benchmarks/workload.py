"""A workload: data, and the same computation written once for every implementation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

Arrays: TypeAlias = "dict[str, np.ndarray]"
# Imports a library, and returns the loss as a function of its tensors.
Maker: TypeAlias = "Callable[[], Callable[..., Any]]"


# Of the bandwidth of a copy on the same card: what memory limits is to reach it.
COPY_SHARE = 0.85


def at_once(result: Any) -> Any:
    """Wait for nothing: on a CPU all is there when a step returns."""
    return result


@dataclass(frozen=True)
class Run:
    """A computation that is ready to be repeated.

    Parameters
    ----------
    step : callable
        Does the work; returns when it is finished or, on a GPU, when it is asked for.
    read : callable
        NumPy arrays by name out of what the first call of `step` returned.
    steps : int
        How many steps one call of `step` makes.
    cost : callable, optional
        Makes the pair (forward alone, forward and adjoint) for the gradient's cost.
    wait : callable
        Takes what the last call of `step` returned, and returns when all that was asked of the device is finished.
    traffic : int
        How many bytes a step reads and writes, where that is all it does.
    """

    step: Callable[[], Any]
    read: Callable[[Any], Mapping[str, Any]]
    steps: int = 1
    cost: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]] | None = None
    wait: Callable[[Any], Any] = at_once
    traffic: int = 0


# Of the data; where an implementation knows several targets, also of `target`, "cpu" unless given.
Builder: TypeAlias = "Callable[..., Run]"


class Stepper(Protocol):
    """A training step of one implementation, which keeps its parameters.

    What runs on a GPU has a method `wait` too, see `Run`, which returns the loss for NumPy to read.
    """

    def convert(self, feeds: Arrays) -> Any:
        """A batch as the implementation takes it."""

    def step(self, batch: Any) -> Any:
        """Update the parameters; return the loss before."""

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
    at_least : mapping
        What (time of another implementation) / (time of graphc) is to reach, beside the target.
    step_limit : float or None
        The seconds that graphc's step is to stay below.
    cost_limit : float or None
        What (forward and adjoint) / (forward alone) is to stay below, for graphc.
    traffic : callable, optional
        How many bytes of memory a step has to read and write, as a function of the data: where memory is the limit.
    gpu : mapping, optional
        The fields that differ on a GPU; without it the workload is for a CPU alone.
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
    at_least: Mapping[str, float] = field(default_factory=dict)
    step_limit: float | None = None
    cost_limit: float | None = None
    traffic: Callable[[Arrays], int] | None = None
    gpu: Mapping[str, Any] | None = None

    def arrays(self, quick: bool = False) -> Arrays:
        """The data."""
        return self.data(**(self.quick if quick else self.sizes))

    def on_gpu(self) -> Workload:
        """The workload as it is measured on a GPU: without the CPU's limits, and beside a copy of as much memory."""
        fields: dict[str, Any] = {"target": None, "cost_limit": None, "at_most": {}}
        if self.traffic is not None:
            fields["builders"] = {**self.builders, "copy": copying(self.traffic)}
            fields["at_most"] = {"copy": 1 / COPY_SHARE}
        return replace(self, **{**fields, **(self.gpu or {})})

    def build(self, implementation: str, data: Arrays, target: str = "cpu") -> Run:
        """An implementation on a target, ready to be run."""
        target = IMPLEMENTATIONS[implementation].target or target
        builder = self.builders[implementation]
        return builder(data) if target == "cpu" else builder(data, target=target)

    def is_peer(self, implementation: str) -> bool:
        """Whether the target counts this implementation."""
        if implementation.startswith("graphc") or implementation in (*self.beside, *FLOORS):
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
    measured : tuple of str
        The targets for which it is measured.
    target : str
        The target that it always has; empty: the one that is measured.
    """

    package: str
    module: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[str, ...] = ("cpu",)
    target: str = ""


TARGETS = ("cpu", "cuda")
GRAPHS = {"compiled": True, "mode": "reduce-overhead"}  # steps are recorded as CUDA graphs, and replayed
IMPLEMENTATIONS = {
    "graphc": Implementation("graphc", "with_graphc", measured=TARGETS),
    "graphc.interpret": Implementation("graphc", "with_graphc", target="interpret"),
    "graphc.cpu": Implementation("graphc", "with_graphc", measured=("cuda",), target="cpu"),
    "torch": Implementation("torch", "with_torch", {"compiled": False}, TARGETS),
    "torch.compile": Implementation("torch", "with_torch", {"compiled": True}, TARGETS),
    "torch.graphs": Implementation("torch", "with_torch", GRAPHS, ("cuda",)),
    "jax": Implementation("jax", "with_jax", measured=TARGETS),
    "jax.scan": Implementation("jax", "with_jax", measured=TARGETS),
    "pytensor": Implementation("pytensor", "with_pytensor", {"mode": "NUMBA"}),
    "pytensor.trusting": Implementation("pytensor", "with_pytensor", {"mode": "NUMBA", "trusting": True}),
    "pytensor.c": Implementation("pytensor", "with_pytensor", {"mode": "CVM"}),
    "numpy": Implementation("numpy", "with_numpy"),
    "scikit-learn": Implementation("sklearn"),
    "copy": Implementation("numpy", "with_copy", measured=TARGETS),
    "cublas": Implementation("nvmath", measured=("cuda",)),
}
REFERENCE = "numpy"
FLOORS = ("copy", "cublas")  # what a machine can do at most: no peers
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


def copying(traffic: Callable[[Arrays], int]) -> Builder:
    """A builder of a copy that reads and writes so many bytes of memory."""
    return partial(_copying, traffic)


def read_and_written(wrt: Sequence[str]) -> Callable[[Arrays], int]:
    """How many bytes value and gradients have to move: the data once, and the gradients once."""
    return lambda data: sum(array.nbytes * (1 + (name in wrt)) for name, array in data.items())


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


def _copying(traffic: Callable[[Arrays], int], data: Arrays, **where: str) -> Run:
    run: Run = driver("copy").copying(traffic(data), **where)
    return run


def _gradients(
    name: str, maker: Maker, wrt: tuple[str, ...], batched: tuple[str, ...], data: Arrays, **where: str
) -> Run:
    run: Run = driver(name).gradients(maker(), data, wrt, batched, **IMPLEMENTATIONS[name].options, **where)
    return run


def _stepper(
    name: str, maker: Maker, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...], data: Arrays, **where: str
) -> Stepper:
    options = {**IMPLEMENTATIONS[name].options, **where}
    stepper: Stepper = driver(name).Stepper(maker(), data, wrt, lr, batched, **options)
    return stepper


def _training(
    name: str, maker: Maker, wrt: tuple[str, ...], lr: float, batched: tuple[str, ...], data: Arrays, **where: str
) -> Run:
    start, feeds = split(data, wrt)
    stepper = _stepper(name, maker, wrt, lr, batched, data, **where)
    batch, wait = stepper.convert(feeds), getattr(stepper, "wait", at_once)
    return Run(
        partial(stepper.step, batch),
        lambda loss: {"loss": wait(loss), **update(start, stepper.params(), lr)},
        cost=getattr(stepper, "cost", None),
        wait=wait,
    )


def _epoch(
    name: str,
    maker: Maker,
    wrt: tuple[str, ...],
    lr: float,
    batched: tuple[str, ...],
    size: int,
    data: Arrays,
    **where: str,
) -> Run:
    start, feeds = split(data, wrt)
    stepper = _stepper(name, maker, wrt, lr, batched, data, **where)
    count = len(feeds[batched[0]])
    batches = [
        stepper.convert({key: array[first : first + size] for key, array in feeds.items()})
        for first in range(0, count, size)
    ]

    def step() -> Any:
        for batch in batches:
            loss = stepper.step(batch)
        return loss

    return Run(
        step,
        lambda _: update(start, stepper.params(), lr),
        steps=len(batches),
        wait=getattr(stepper, "wait", at_once),
    )
