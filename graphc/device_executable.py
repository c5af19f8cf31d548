"""Calls of a program on a device: recorded once for each set of shapes, then replayed."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from graphc.device import DeviceBlock, on_host, queue_at_hand
from graphc.device_function import DeviceFunction
from graphc.emitted import Emitted, bits_of
from graphc.executable import Executable, Quick
from graphc.ir.errors import DeviceMemoryError, FeedValueError
from graphc.ir.graph import Graph
from graphc.passes.memory import aligned

# Bytes of an input or of results up to which a copy costs less than what it takes to do without.
COPIED = 1 << 16

# How many sets of shapes (and places, of inputs that lie on the device) are kept ready.
KEPT_FORMS = 16

# The blocks of results that are lent: a loop holds what the last call returned while the next one runs.
KEPT_RESULTS = 2


class DeviceExecutable(Executable):
    """The kernels of an emitted module: inputs are uploaded where they are on the host, results stay on the device.

    One call at a time: temporaries lie in memory that the next one uses again. Results of float16 are such arrays; of
    bfloat16, which NumPy does not know, their bits as uint16.

    Parameters
    ----------
    graph, emitted
        What is run.
    waits : bool
        Whether a call waits for the device where only that can check an index. Otherwise the error comes with the next
        call.
    """

    def __init__(self, graph: Graph, emitted: Emitted, waits: bool = True) -> None:
        super().__init__(graph)
        self.function, self._waits = DeviceFunction(graph, emitted), waits
        self._lock = threading.Lock()
        self._forms: OrderedDict[Hashable, _Form] = OrderedDict()

    def __call__(self, inputs: Sequence[Any], blocks: Sequence[DeviceBlock]) -> tuple[Any, ...]:
        """The outputs."""
        with self._lock:
            self._check()
            try:
                return self._run(self._form(inputs, blocks), inputs)
            except DeviceMemoryError:
                self._release()
            try:
                return self._run(self._form(inputs, blocks), inputs)
            except DeviceMemoryError as error:
                self._release()
                sizes = self.function.sizes([np.shape(value) for value in inputs])
                error.message += f"; {self.function.largest(sizes)}"
                error.where, error.hint = self.graph.name, "feed fewer examples at a time"
                raise

    def _release(self) -> None:
        """Give back the memory that is kept for the next calls."""
        self._forms.clear()
        self.function.release()

    def quick(self, blocks: Sequence[DeviceBlock]) -> Quick:
        """See `Executable.quick`: no preparation need C-contiguous NumPy arrays of shapes that a call has had."""
        slots = [(self.names[node], node.dtype) for node in self.graph.inputs]
        places = tuple(blocks)

        def quick(feeds: dict[str, Any], *numbers: float) -> tuple[Any, ...] | None:
            fed = slots[: len(slots) - len(numbers)]
            if len(feeds) != len(fed):
                return None
            inputs: list[Any] = [feeds.get(name) for name, _ in fed]
            for value, (_, dtype) in zip(inputs, fed, strict=True):
                if type(value) is not np.ndarray or value.dtype != dtype or not value.flags.c_contiguous:
                    return None
            shapes = [(value.shape, None) for value in inputs] + [((), None)] * len(numbers)
            inputs += numbers
            with self._lock:
                form = self._forms.get((*shapes, *places))
                if form is None or not form.recorded:
                    return None
                self._check()
                try:
                    return self._run(form, inputs)
                except DeviceMemoryError:
                    return None  # a call makes room

        return quick

    def _check(self) -> None:
        """Refuse another device than before, and tell of an index that was out of range in an earlier call."""
        if queue_at_hand() is not self.function.queue:
            raise FeedValueError(
                f"{self.graph.name} was called on device {self.function.queue.device}, and device "
                f"{queue_at_hand().device} is current",
                hint="compile it once for each device",
            )
        self.function.check()

    def _run(self, form: _Form, inputs: Sequence[Any]) -> tuple[Any, ...]:
        seen = self.function.check_indices(inputs, form.indices)
        form.fill(inputs)
        results = form.run()
        if self._waits and (form.computed_indices or not seen):
            self.function.queue.wait()
            self.function.check()
        return results

    def _form(self, inputs: Sequence[Any], blocks: Sequence[DeviceBlock]) -> _Form:
        """What is ready for these inputs; blocks of one call are in no recorded work."""
        large = [not on_host(value) and value.nbytes > COPIED for value in inputs]
        place = self.function.queue.place
        places = [place(value) if is_large else None for value, is_large in zip(inputs, large, strict=True)]
        key = (*((np.shape(value), place) for value, place in zip(inputs, places, strict=True)), *blocks)
        if key not in self._forms:
            sizes = self.function.sizes([np.shape(value) for value in inputs])
            if not self.function.suffices(sizes):
                self._forms.clear()  # which keep the memory that is too small
            form = _Form(self.function, sizes, inputs, places, [block.array for block in blocks])
            if not all(block.lasting for block in blocks):
                return form
            while len(self._forms) >= KEPT_FORMS:
                self._forms.popitem(last=False)
            self._forms[key] = form
        self._forms.move_to_end(key)
        return self._forms[key]


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A call that is recorded: what replays it, where that stores results, and these as arrays that are lent."""

    replay: Callable[[], None]
    memory: Any
    lent: Any


class _Form:
    """Calls with inputs of certain shapes: small ones and the host's in memory of their own, others where they lie.

    The first call loads kernels, the second is recorded, the others are replayed.

    Parameters
    ----------
    function
        What is called.
    sizes
        Those of the dims.
    inputs
        Those of the first call.
    places
        Where those lie that are read where they lie; None for the others.
    blocks
        Parameters, arrays of the device.
    """

    def __init__(
        self,
        function: DeviceFunction,
        sizes: Mapping[str, int],
        inputs: Sequence[Any],
        places: Sequence[int | None],
        blocks: Sequence[Any],
    ) -> None:
        self._function, self._queue = function, function.queue
        self.indices, self.computed_indices = function.fed_indices(sizes)
        self._memory = function.memory(sizes)
        self._results, self._nbytes = function.results(sizes)
        self._inputs = self._placed(inputs, places)
        self._arguments = [*self._inputs, *blocks]
        self._recordable = False  # known after the first call
        self._lent: list[_Recorded] = []
        self._spare: _Recorded | None = None  # whose results are copied

    def _placed(self, inputs: Sequence[Any], places: Sequence[int | None]) -> list[Any]:
        """The inputs as arrays of the device: in one block what is copied there, small ones first."""
        types = [(np.shape(value), np.dtype(getattr(bits_of(value), "dtype", float))) for value in inputs]
        sizes = [aligned(dtype.itemsize * math.prod(shape)) for shape, dtype in types]
        self._own = sorted((k for k, place in enumerate(places) if place is None), key=lambda k: sizes[k] > COPIED)
        ends = np.cumsum([0, *(sizes[k] for k in self._own)])
        offsets = dict(zip(self._own, ends.tolist(), strict=False))
        small = [k for k in self._own if sizes[k] <= COPIED]
        block = self._queue.empty(int(ends[-1]))
        self._staging = np.zeros(int(ends[len(small)]), np.uint8)
        self._staged = {k: np.ndarray(*types[k], self._staging.data, offsets[k]) for k in small}
        start = self._queue.subarray(block, 0, self._staging.shape, self._staging.dtype)
        self._upload_staged = self._queue.uploader(start)
        return [
            self._queue.at(place, *types[k]) if place is not None
            else self._queue.subarray(block, offsets[k], *types[k])
            for k, place in enumerate(places)
        ]  # fmt: skip

    @property
    def recorded(self) -> bool:
        """Whether calls are replayed."""
        return bool(self._lent) or self._spare is not None

    def fill(self, inputs: Sequence[Any]) -> None:
        """Copy what this keeps in memory of its own: small arrays of the host all at once."""
        staged, direct = False, []
        for place in self._own:
            value = inputs[place]
            if not on_host(value):
                direct.append((self._queue.copy, value, place))
            elif place in self._staged:
                self._staged[place][...] = bits_of(value)
                staged = True
            else:
                direct.append((self._queue.upload, bits_of(value), place))
        if staged:
            self._upload_staged(self._staging)
        for copy, value, place in direct:
            copy(value, self._inputs[place])

    def run(self) -> tuple[Any, ...]:
        """Put the call into the queue; the results, which are the caller's."""
        if not self._recordable:
            return self._unrecorded()
        if (free := self._free()) is not None:
            free.replay()
            return free.lent.arrays  # type: ignore[no-any-return]  # an optional library's
        if self._nbytes > COPIED:
            return self._unrecorded()
        if self._spare is None:
            self._spare = self._record()
        memory = self._queue.empty(self._nbytes)  # before anything is updated, since there may be none
        self._spare.replay()
        self._queue.copy(self._spare.memory, memory)
        return self._arrays(memory)

    def _free(self) -> _Recorded | None:
        """A recorded call whose results nobody holds, a new one while there are few; None where all are held."""
        if free := next((each for each in self._lent if not each.lent.held), None):
            return free
        if len(self._lent) < KEPT_RESULTS and (new := self._record()).lent is not None and not new.lent.held:
            self._lent.append(new)
            return new
        return None

    def _unrecorded(self) -> tuple[Any, ...]:
        memory = self._queue.empty(self._nbytes)
        self._recordable = self._queue.run(partial(self._function.enqueue, self._arguments, self._memory, memory))
        return self._arrays(memory)

    def _record(self) -> _Recorded:
        memory = self._queue.empty(self._nbytes)
        replay = self._queue.recorded(partial(self._function.enqueue, self._arguments, self._memory, memory))
        return _Recorded(replay, memory, self._queue.lent(memory, self._results))

    def _arrays(self, memory: Any) -> tuple[Any, ...]:
        return tuple(self._queue.subarray(memory, *where) for where in self._results)
