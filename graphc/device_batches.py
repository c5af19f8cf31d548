"""Steps of training on a device, over batches that are gathered there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.codegen.cuda.emit import Grid
from graphc.codegen.cuda.functions import add_bits_to_total, add_to_total, next_step, take_batch
from graphc.device import DeviceBlock, on_host, uploaded
from graphc.device_executable import DeviceExecutable
from graphc.training_step import BatchRunner, TrainingStep

INT, FLOAT = np.dtype(np.int64), np.dtype(np.float64)


class DeviceBatches(BatchRunner):
    """Runs steps over batches out of examples that lie on the device: see `BatchRunner`.

    The host waits once for many steps: what each needs (its rate and number, where its examples are) is on the device
    before, and so are the totals.

    Raises
    ------
    DeviceMemoryError
        Where there is no memory for all examples and for a step's temporaries beside them.
    """

    def __init__(
        self, step: TrainingStep, inputs: Sequence[Any], blocks: Sequence[DeviceBlock], batch_size: int
    ) -> None:
        super().__init__(step, inputs, blocks, batch_size)
        assert isinstance(step.executable, DeviceExecutable)
        self._function = step.executable.function
        queue = self._queue = self._function.queue
        sizes = step.inputs.sizes(step.batch_shapes(inputs, self.count))
        self._function.check_indices(inputs, self._function.fed_indices(sizes)[0])
        self._arrays = [uploaded(array) if on_host(array) else queue.readable(array) for array in inputs]
        for size in (batch_size, self.count % batch_size or batch_size):
            self._function.memory(step.inputs.sizes(step.batch_shapes(inputs, size)))
        numbers = queue.empty(4 * 8)
        self._lr, self._number = (queue.subarray(numbers, 8 * k, (), FLOAT) for k in range(2))
        self._at = queue.subarray(numbers, 16, (2,), INT)  # where a batch begins in the order, and its epoch
        self._place = uploaded(np.zeros(1, INT))
        self._schedule: _Schedule | None = None
        self._batches: dict[int, _Batch] = {}

    def run(
        self, first: int, last: int, orders: np.ndarray, rates: np.ndarray, numbers: np.ndarray, totals: np.ndarray
    ) -> None:
        """Run steps `first` to `last` (not included) of some epochs: see `BatchRunner`."""
        queue = self._queue
        epochs, steps = len(orders), last - first
        if self._schedule is None or not self._schedule.holds(epochs * steps, orders.size, totals):
            self._schedule, self._batches = _Schedule(queue, epochs * steps, orders.size, totals), {}
        schedule = self._schedule
        starts = np.arange(epochs)[:, None] * orders.shape[1] + np.arange(first, last) * self.batch_size
        schedule.fill(orders, rates[:, first:last], numbers[:, first:last], starts, totals.shape)
        queue.upload(np.zeros(1, INT), self._place)
        for _ in range(epochs):
            for k in range(first, last):
                self._batch(min(self.batch_size, self.count - k * self.batch_size)).run()
        totals += queue.download(schedule.totals)[: len(totals)]
        self._function.check()

    def _batch(self, size: int) -> _Batch:
        """The step for batches of some size."""
        if size not in self._batches:
            self._batches[size] = self._new_batch(size)
        return self._batches[size]

    def _new_batch(self, size: int) -> _Batch:
        queue, step, function, schedule = self._queue, self.step, self._function, self._schedule
        assert schedule is not None
        sizes = step.inputs.sizes(step.batch_shapes(self._arrays, size))
        arguments, gathered = [], []
        for array, is_batched in zip(self._arrays, step.batched, strict=True):
            if is_batched and self.steps > 1:
                batch = queue.new((size, *array.shape[1:]), array.dtype)
                if batch.size:
                    gathered.append((_matrix(array), _matrix(batch)))
                array = batch
            arguments.append(array)
        blocks = [block.array for block in self.blocks]
        where, nbytes = function.results(sizes)
        memory, block = function.memory(sizes), queue.empty(nbytes)
        results = [queue.subarray(block, *each) for each in where]
        bits = [node.dtype.name == "bfloat16" for node in step.built.graph.outputs]
        grid = Grid.at_hand()

        def work(stream: Any) -> None:
            tables = schedule.rates, schedule.numbers, schedule.starts, schedule.epochs
            next_step[1, 1, stream](self._place, *tables, self._lr, self._number, self._at)
            for source, batch in gathered:
                take_batch[grid.blocks, grid.threads, stream](source, schedule.order, self._at, batch)
            function.enqueue([*arguments, self._lr, self._number, *blocks], memory, block, stream)
            for column, (result, is_bits) in enumerate(zip(results, bits, strict=True)):
                add = add_bits_to_total if is_bits else add_to_total
                add[1, 1, stream](result, size, self._at, schedule.totals, column)

        return _Batch(queue, work)


class _Schedule:
    """What many steps need, on the device: where it lies stays the same, since recorded work refers to it."""

    def __init__(self, queue: Any, steps: int, examples: int, totals: np.ndarray) -> None:
        self._queue, self._size = queue, (steps, examples, *totals.shape)
        self.rates, self.numbers = (uploaded(np.zeros(steps)) for _ in range(2))
        self.starts, self.epochs = (uploaded(np.zeros(steps, INT)) for _ in range(2))
        self.order = uploaded(np.zeros(max(1, examples), INT))
        self.totals = uploaded(np.zeros(totals.shape))

    def holds(self, steps: int, examples: int, totals: np.ndarray) -> bool:
        """Whether there is room for so many."""
        wanted = (steps, examples, *totals.shape)
        return all(want <= have for want, have in zip(wanted, self._size, strict=True))

    def fill(self, order: np.ndarray, rates: np.ndarray, numbers: np.ndarray, starts: np.ndarray, shape: Any) -> None:
        """Store the schedule of the next steps, a row for each epoch, and totals of 0."""
        epochs = np.repeat(np.arange(len(starts)), starts.shape[1])
        tables = (self.rates, rates), (self.numbers, numbers), (self.starts, starts), (self.epochs, epochs)
        for array, values in (*tables, (self.order, order), (self.totals, np.zeros(shape))):
            values = np.ascontiguousarray(values, array.dtype)
            if values.size:
                self._queue.upload(values, self._queue.subarray(array, 0, values.shape, array.dtype))


class _Batch:
    """The step for one batch size: run once, then recorded and replayed."""

    def __init__(self, queue: Any, work: Any) -> None:
        self._queue, self._work = queue, work
        self._recordable = False
        self._replay: Any = None

    def run(self) -> None:
        """Run it."""
        if self._replay is None and self._recordable:
            self._replay = self._queue.recorded(self._work)
        if self._replay is None:
            self._recordable = self._queue.run(self._work)
        else:
            self._replay()


def _matrix(array: Any) -> Any:
    """The array with its rows flat."""
    return array.reshape(array.shape[0], array.size // array.shape[0])
