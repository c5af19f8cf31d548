"""Trainer: minimise a loss view over data; one native call a step, and native loops over batches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from graphc.build import Built, build
from graphc.codegen.threads import thread_count
from graphc.data_files import read_parameters, write_atomically
from graphc.device import STORAGE, check_device, on_host
from graphc.emitted import number_of
from graphc.executable import Quick
from graphc.feeds import unknown_name
from graphc.initializers import initial_value
from graphc.ir.core import PARAM
from graphc.ir.dims import Dim, extent_names
from graphc.ir.errors import (
    CompileTypeError,
    CompileValueError,
    DeviceMemoryError,
    FeedError,
    FeedTypeError,
    FeedValueError,
)
from graphc.ir.graph import naming
from graphc.optimizers import Optimizer
from graphc.parameters import Parameters, fitting, gather_parameters
from graphc.passes.differentiate import check_scalar
from graphc.program import Program, check_options, compile
from graphc.targets import Target, as_target
from graphc.training_step import BatchRunner, TrainingStep
from graphc.views import View, shown

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
    target : {"cpu", "cuda", "interpret"} or Cuda
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
        target: str | Target = "cpu",
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        if not isinstance(loss, View):
            raise CompileTypeError(f"Trainer wants a loss view, got {shown(loss)}")
        if not hasattr(optimizer, "update"):
            raise CompileTypeError(f"Trainer wants an optimizer, got {shown(optimizer)}", hint="SGD(0.1) or Adam()")
        check_options(wrt, target, params, seed, threads)
        self._target = as_target(target)
        if self._target.cuda is not None:
            check_device()
        self._optimizer = optimizer
        self._seed, self._threads = seed, thread_count(threads)
        self._loss, self._metrics = loss, tuple(metrics)
        self._trained = _trained(build([loss], wrt))
        built = build([loss, *self._metrics], self._trained)
        for node in built.graph.outputs[1:]:
            if node.shape != ():
                raise CompileValueError(f"a metric is a scalar, and {naming(built.graph)[node]} is {node.type}")
        start = {name: initial_value(initial, seed, name) for name, initial in built.initial.items()}
        self._params = gather_parameters(built.initial, start, params, STORAGE[self._target.name])
        self._built = built
        self._batch_dim = _batch_dim(built)
        self._steps: dict[bool, TrainingStep] = {}
        self._programs: dict[tuple[View, ...], Program] = {}
        # What a step reads and updates in place: parameters, then the optimiser's state.
        self._plain = self._step(False)
        self._blocks = (*(block.values for block in self._params.blocks), *self._plain.new_state())
        self._count = 0

    @property
    def params(self) -> Parameters:
        """The live parameters."""
        return self._params

    @property
    def batched(self) -> tuple[str, ...]:
        """The names of the inputs that have the batch axis: what `fit` cuts into batches."""
        step = self._step(True)
        return tuple(name for name, is_batched in zip(step.inputs.names, step.batched, strict=True) if is_batched)

    # one step -------------------------------------------------------------------------------------------------------

    def step(self, /, **feeds: Any) -> Any:
        """One native call: forward, adjoint, update. Returns the loss before the update, a scalar."""
        count, lr = self._count, self._optimizer.lr
        lr, number = float(lr(count) if callable(lr) else lr), count + 1.0
        results = self._quick(feeds, lr, number)
        if results is None:
            arrays, _ = self._plain.inputs.arrays(feeds)
            results = self._plain.executable([*arrays, np.float64(lr), np.float64(number)], self._blocks)
        self._count += 1
        return results[0]

    @cached_property
    def _quick(self) -> Quick:
        return self._plain.executable.quick(self._blocks)

    def _step(self, with_metrics: bool) -> TrainingStep:
        with_metrics = with_metrics and bool(self._metrics)
        if with_metrics not in self._steps:
            built = self._built if with_metrics or not self._metrics else build([self._loss], self._trained)
            blocks = [block.layout for block in self._params.blocks]
            self._steps[with_metrics] = TrainingStep(
                built, self._optimizer, blocks, self._batch_dim, self._target, self._threads
            )
        return self._steps[with_metrics]

    def _rates(self, steps: int) -> np.ndarray:
        """The learning rates of the next steps."""
        lr = self._optimizer.lr
        if callable(lr):
            return np.array([float(lr(self._count + k)) for k in range(steps)])
        return np.full(steps, float(lr))

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
            Lists over epochs: ``loss``, metrics, and ``val_...`` of each. What is reported for an epoch is the mean
            over its batches, weighted by their size, each taken before its update.

        Raises
        ------
        FeedError
            For data that does not fit; before anything is trained.
        """
        _check_counts(epochs, batch_size, seed)
        runner = self._runner(data, batch_size)
        if validation is not None:
            runner.step.inputs.arrays(validation)
        names = self._report_names()
        history: dict[str, list[float]] = {}
        pace = _Pace()
        epoch = 0
        with _progress(epochs * runner.steps) as bar:
            while epoch < epochs:
                # Nobody looks between epochs: then those that are short are run by one call.
                several = 1 if callbacks or validation is not None else max(1, pace.steps // runner.steps)
                orders = runner.orders(seed, range(epoch, min(epochs, epoch + several)))
                means = self._epochs(runner, orders, pace, bar.update) / runner.count
                epoch += len(orders)
                for name, values in zip(names, means.T.tolist(), strict=True):
                    history.setdefault(name, []).extend(values)
                logs = {name: history[name][-1] for name in names}
                if validation is not None:
                    for name, value in self.evaluate(validation).items():
                        logs[f"val_{name}"] = value
                        history.setdefault(f"val_{name}", []).append(value)
                bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()}, refresh=False)
                for callback in callbacks:
                    callback(epoch - 1, logs)
        return history

    def _runner(self, data: Mapping[str, Any], batch_size: int | None) -> BatchRunner:
        """What runs steps over batches of the data, whose shapes are all checked."""
        step = self._step(True)
        if not any(step.batched):
            raise CompileValueError(
                f"{self._built.graph.name} has no batch axis: no input has a symbolic leading dim",
                hint='declare the inputs with one, Input(("N", 64)), or call trainer.step',
            )
        arrays, _ = step.inputs.arrays(data)
        first = step.batched.index(True)
        count = len(arrays[first])
        if not count:
            raise FeedValueError(f"{step.inputs.names[first]} holds no examples")
        size = count if batch_size is None else min(int(batch_size), count)
        for batch in {size, count % size or size}:
            step.inputs.sizes(step.batch_shapes(arrays, batch))
        if self._target.cuda is not None:
            from graphc.device_batches import DeviceBatches

            try:
                return DeviceBatches(step, arrays, self._blocks, size)
            except DeviceMemoryError:  # then batches are gathered on the host
                if not all(map(on_host, arrays)):
                    raise
        return BatchRunner(step, arrays, self._blocks, size)

    def _epochs(
        self, runner: BatchRunner, orders: np.ndarray, pace: _Pace, progress: Callable[[int], Any]
    ) -> np.ndarray:
        """All steps of some epochs; between native calls Python shows progress and sees Ctrl-C."""
        epochs, steps = len(orders), runner.steps
        rates = self._rates(epochs * steps).reshape(epochs, steps)
        numbers = np.arange(1.0, epochs * steps + 1).reshape(epochs, steps) + self._count
        totals = np.zeros((epochs, len(runner.step.built.graph.outputs)))
        first = 0
        while first < steps:
            last = steps if epochs > 1 else min(steps, first + pace.steps)
            done = epochs * (last - first)
            began = time.perf_counter()
            # Counted before, since Ctrl-C arrives the moment that the native call is over.
            self._count += done
            runner.run(first, last, orders, rates, numbers, totals)
            pace.took(done, time.perf_counter() - began)
            progress(done)
            first = last
        return totals

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
            self._programs[views] = compile(
                views, target=self._target, params=self._params, seed=self._seed, threads=self._threads
            )
        values = self._programs[views](**feeds)
        return values[0] if isinstance(outputs, View) else values

    def evaluate(self, data: Mapping[str, Any]) -> dict[str, float]:
        """Loss and metrics over some data, by name."""
        values = self.predict([self._loss, *self._metrics], **data)
        dtypes = [node.dtype for node in self._built.graph.outputs]
        return dict(zip(self._report_names(), map(number_of, values, dtypes), strict=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters to a safetensors file, whole or not at all. (The optimiser's state is not saved.)"""
        import safetensors.numpy

        write_atomically(path, safetensors.numpy.save({name: np.array(value) for name, value in self._params.items()}))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read parameters from a safetensors file.

        Raises
        ------
        OSError
            Where there is no such file.
        FeedError
            Where the file lacks a parameter, has one too many, or one of another shape; then nothing is changed.
        """
        values = read_parameters(path)
        try:
            for name in values:
                if name not in self._params:
                    raise FeedTypeError(unknown_name(name, self._params, "parameter"))
            if missing := [name for name in self._params if name not in values]:
                raise FeedTypeError(f"the file lacks {', '.join(missing)}")
            values = {name: fitting(name, value, *self._params.type_of(name)) for name, value in values.items()}
        except FeedError as error:
            error.where = os.fspath(path)
            raise
        for name, value in values.items():
            self._params[name] = value


class _Pace:
    """How many steps the next native call may take: one at first, then what lasts about a tenth of a second."""

    def __init__(self) -> None:
        self.steps = 1

    def took(self, steps: int, seconds: float) -> None:
        """Learn from how long a call took; of few steps that says little, hence at most four times as many."""
        self.steps = max(1, min(4 * steps, int(steps * SECONDS_BETWEEN_CALLS / max(seconds, 1e-9))))


def _trained(built: Built) -> list[str]:
    """The names of what is trained, all parameters; of a loss that can be trained."""
    graph = built.graph
    check_scalar(graph.outputs[0], graph.names)
    for name, position in built.wrt.items():
        if graph.wrt[position].op is not PARAM:
            raise CompileTypeError(f"only parameters are trained, and {name} is none")
    if not built.wrt:
        raise CompileValueError(f"{graph.name} has no parameters to train", hint="declare a Param or a layer")
    return list(built.wrt)


def _batch_dim(built: Built) -> str | None:
    """The leading symbolic dim that most inputs share; of equals the first, if it can be one that is no other axis."""
    shapes = [node.shape for node in built.graph.inputs if node.shape]
    leading = [str(shape[0]) for shape in shapes if isinstance(shape[0], Dim)]
    names = [name for name in leading if name.isidentifier()]
    inner = extent_names(extent for shape in shapes for extent in shape[1:])
    return max(dict.fromkeys(names), key=lambda name: (names.count(name), name not in inner)) if names else None


def _check_counts(epochs: Any, batch_size: Any, seed: Any) -> None:
    for name, value, least in (("epochs", epochs, 0), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        is_count = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
        if not (is_count or (name == "batch_size" and value is None)):
            wanted = "a positive integer or None" if name == "batch_size" else "an integer from 0"
            raise CompileValueError(f"{name} is {wanted}, got {value!r}")


def _progress(steps: int) -> Any:
    """A progress bar on standard error, where that is a terminal."""
    import tqdm

    return tqdm.tqdm(total=steps, unit="step", file=sys.stderr, disable=None, leave=False)
