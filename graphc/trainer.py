"""Trainer: minimise a loss view over data; one native call a step, and native loops over batches."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.build import Built, build
from graphc.executable import TARGETS
from graphc.feeds import unknown_name
from graphc.initializers import initial_value
from graphc.ir.dims import Dim
from graphc.ir.errors import CompileTypeError, CompileValueError, FeedTypeError, FeedValueError
from graphc.optimizers import Optimizer
from graphc.parameters import Parameters, gather_parameters
from graphc.passes.differentiate import check_scalar
from graphc.program import Program, compile
from graphc.training_step import BatchRunner, TrainingStep
from graphc.views import View

# Between calls of Python: often enough for a progress bar and Ctrl-C, seldom enough to cost nothing.
SECONDS_BETWEEN_CALLS = 0.1


class Trainer:
    """Minimise a scalar view by gradient descent on parameters.

    Parameters
    ----------
    loss : View
        A scalar of floats: a mean over the batch axis, so that batches weigh by their size.
    optimizer : Optimizer
        `SGD`, `Adam`, or another with their methods.
    metrics : sequence of View
        Scalars that `fit` and `evaluate` report beside the loss.
    wrt : "params", View, str or sequence of these
        What is trained: the parameters of the loss unless given.
    target : {"cpu", "interpret"}
        See `compile`.
    params : mapping, optional
        Another program's or trainer's `params`, to train them live; or values to start from.
    seed : int
        Initial parameters are a function of (seed, name).
    threads : int, optional
        See `compile`.
    """

    def __init__(
        self,
        loss: View,
        optimizer: Optimizer,
        metrics: Sequence[View] = (),
        *,
        wrt: str | View | Sequence[View | str] = "params",
        target: str = "cpu",
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        if not isinstance(loss, View):
            raise CompileTypeError(f"Trainer wants a loss view, got {loss!r}")
        if target not in TARGETS or target == "cuda":
            raise CompileValueError(unknown_name(str(target), ("cpu", "interpret"), "target"))
        self._optimizer = optimizer
        self._target = target
        self._loss, self._metrics = loss, tuple(metrics)
        asked = [wrt] if isinstance(wrt, View) or (isinstance(wrt, str) and wrt != "params") else wrt
        alone = build([loss], asked)
        check_scalar(alone.graph.outputs[0], alone.graph.names)
        self._trained = list(alone.wrt)
        if not self._trained:
            raise CompileValueError(f"{alone.graph.name} has no parameters to train", hint="declare a Param or a layer")
        built = build([loss, *self._metrics], self._trained)
        for node in built.graph.outputs[1:]:
            if node.shape != ():
                raise CompileValueError(f"a metric is a scalar, and {built.graph.names.get(node, 'one')} is {node.type}")
        start = {name: initial_value(initial, seed, name) for name, initial in built.initial.items()}
        self._params = gather_parameters(built.initial, start, params)
        self._built = built
        self._batch_dim = _batch_dim(built)
        self._steps: dict[bool, TrainingStep] = {}
        self._programs: dict[tuple[View, ...], Program] = {}
        self._state = self._step(False).new_state()
        self._count = 0

    @property
    def params(self) -> Parameters:
        """The live parameters."""
        return self._params

    # one step -------------------------------------------------------------------------------------------------------

    def step(self, /, **feeds: Any) -> Any:
        """One native call: forward, adjoint, update. Returns the loss before the update, a NumPy scalar."""
        step = self._step(False)
        arrays, _ = step.inputs.arrays(feeds)
        results = step.executable([*arrays, self._rate(self._count), float(self._count + 1)], self._blocks())
        self._count += 1
        return results[0]

    def _step(self, with_metrics: bool) -> TrainingStep:
        with_metrics = with_metrics and bool(self._metrics)
        if with_metrics not in self._steps:
            built = self._built if with_metrics or not self._metrics else build([self._loss], self._trained)
            blocks = [block.layout for block in self._params.blocks]
            self._steps[with_metrics] = TrainingStep(built, self._optimizer, blocks, self._batch_dim, self._target)
        return self._steps[with_metrics]

    def _rate(self, step: int) -> float:
        lr = self._optimizer.lr
        return float(lr(step) if callable(lr) else lr)

    def _blocks(self) -> list[np.ndarray]:
        return [*(block.values for block in self._params.blocks), *self._state]

    # epochs ---------------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Mapping[str, Any],
        epochs: int = 1,
        batch_size: int | None = None,
        seed: int = 0,
        validation: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callable[[int, dict[str, float]], Any]] = (),
    ) -> dict[str, list[float]]:
        """Train for some epochs.

        Parameters
        ----------
        data : mapping from str to array
            All examples by input name; inputs without the batch axis are fed whole.
        epochs : int
            How often every example is seen.
        batch_size : int, optional
            Examples a step; None: all of them. The last batch of an epoch may be shorter.
        seed : int
            The order of examples is a function of (seed, epoch).
        validation : mapping, optional
            Data to evaluate after every epoch.
        callbacks : sequence of callables
            Each gets ``(epoch, logs)`` after every epoch.

        Returns
        -------
        dict
            Lists over epochs: ``loss``, metrics, and ``val_...`` of each. What is reported for an epoch is the mean over
            its batches, weighted by their size, each taken before its update.

        Raises
        ------
        FeedError
            For data that does not fit; before anything is trained.
        """
        if self._batch_dim is None:
            raise CompileValueError(
                f"{self._built.graph.name} has no batch axis: no input has a symbolic leading dim",
                hint='declare the inputs with one, Input(("N", 64)), or call trainer.step',
            )
        step = self._step(True)
        count = self._examples(data)
        size = count if batch_size is None else _batch_size(batch_size, count)
        arrays, _ = step.inputs.arrays(data)
        step.check_batch(arrays, size)
        step.check_batch(arrays, count % size or size)
        runner = step.runner(arrays, self._blocks(), size)
        names = self._report_names()
        history: dict[str, list[float]] = {}
        with _progress(epochs * -(-count // size)) as bar:
            for epoch in range(epochs):
                order = _order(seed, epoch, count, shuffled=batch_size is not None)
                totals = self._epoch(runner, order, bar)
                logs = dict(zip(names, (totals / count).tolist(), strict=True))
                if validation is not None:
                    logs |= {f"val_{name}": value for name, value in self.evaluate(validation).items()}
                for name, value in logs.items():
                    history.setdefault(name, []).append(value)
                bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()}, refresh=False)
                for callback in callbacks:
                    callback(epoch, logs)
        return history

    def _epoch(self, runner: BatchRunner, order: np.ndarray, bar: Any) -> np.ndarray:
        """All steps of an epoch, in native calls of about a tenth of a second, the very first of one step."""
        steps = -(-len(order) // runner.batch_size)
        rates = np.array([self._rate(self._count + k) for k in range(steps)])
        numbers = np.arange(self._count + 1, self._count + steps + 1, dtype=np.float64)
        totals = np.zeros(len(runner.step.built.graph.outputs))
        first = 0
        while first < steps:
            last = min(steps, first + self._pace(bar))
            began = time.perf_counter()
            runner.run(first, last, order, rates, numbers, totals)
            bar.pace = (last - first, time.perf_counter() - began)
            self._count += last - first
            bar.update(last - first)
            first = last
        return totals

    @staticmethod
    def _pace(bar: Any) -> int:
        """How many steps the next call may take, from how long the last one took."""
        steps, seconds = bar.pace
        return max(1, min(4 * steps, int(steps * SECONDS_BETWEEN_CALLS / max(seconds, 1e-9)))) if steps else 1

    def _examples(self, data: Mapping[str, Any]) -> int:
        """The number of examples, from the first input that has the batch axis."""
        for node in self._built.graph.inputs:
            name = self._built.graph.names[node]
            if node.shape and str(node.shape[0]) == self._batch_dim and name in data:
                count = len(np.asarray(data[name]))
                if not count:
                    raise FeedValueError(f"{name} holds no examples")
                return count
        return 1  # a missing feed, which is reported where feeds are checked

    def _report_names(self) -> list[str]:
        names = ["loss"]
        for metric in self._metrics:
            base = metric.name or "metric"
            names.append(base if base not in names else f"{base}_{len(names)}")
        return names

    # using what was trained -------------------------------------------------------------------------------------------

    def predict(self, outputs: View | Sequence[View], /, **feeds: Any) -> Any:
        """The value of a view (a tuple for a list of views) with the current parameters."""
        views = (outputs,) if isinstance(outputs, View) else tuple(outputs)
        if views not in self._programs:
            self._programs[views] = compile(list(views), target=self._target, params=self._params)
        values = self._programs[views](**feeds)
        return values[0] if isinstance(outputs, View) else values

    def evaluate(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Loss and metrics over some data, by name."""
        values = self.predict([self._loss, *self._metrics], **data)
        return {name: float(value) for name, value in zip(self._report_names(), values, strict=True)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters to a safetensors file, whole or not at all. (The optimiser's state is not saved.)"""
        import safetensors.numpy

        write_atomically(path, safetensors.numpy.save({name: np.array(value) for name, value in self._params.items()}))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read parameters from a safetensors file.

        Raises
        ------
        FeedError
            Where the file lacks a parameter, has one too many, or one of another shape.
        """
        values = load_parameters(path)
        for name in values:
            if name not in self._params:
                raise FeedTypeError(f"{os.fspath(path)}: {unknown_name(name, self._params, 'parameter')}")
        missing = [name for name in self._params if name not in values]
        if missing:
            raise FeedTypeError(f"{os.fspath(path)} lacks {', '.join(missing)}")
        for name, value in values.items():
            self._params[name] = value


def load_parameters(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name."""
    import safetensors.numpy

    return dict(safetensors.numpy.load_file(path))


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _batch_dim(built: Built) -> str | None:
    """The leading symbolic dim that most inputs share; the first of equals."""
    leading = [str(node.shape[0]) for node in built.graph.inputs if node.shape and isinstance(node.shape[0], Dim)]
    names = [name for name in leading if name.isidentifier()]
    return max(dict.fromkeys(names), key=names.count) if names else None


def _batch_size(batch_size: int, count: int) -> int:
    if type(batch_size) is bool or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise CompileValueError(f"batch_size is a positive integer or None, got {batch_size!r}")
    return min(int(batch_size), count)


def _order(seed: int, epoch: int, count: int, shuffled: bool) -> np.ndarray:
    """The order of examples: a function of (seed, epoch); as they are where a step takes them all."""
    if not shuffled:
        return np.arange(count)
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def _progress(steps: int) -> Any:
    """A progress bar on standard error where that is a terminal; it remembers the pace of native calls."""
    import tqdm

    bar = tqdm.tqdm(total=steps, unit="step", file=sys.stderr, disable=None, leave=False)
    bar.pace = (0, 0.0)
    return bar
