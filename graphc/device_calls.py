"""Calls of a program on a device: recorded once for each set of shapes, then replayed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from graphc.codegen.cuda.host_text import by_host, device_results, index_checks
from graphc.codegen.runtime import ALIGNMENT, index_in_range
from graphc.device import DeviceBlock, on_host, queue_at_hand, uploaded
from graphc.emitted import Emitted, bits_of
from graphc.executable import Executable, out_of_range
from graphc.ir.dims import bind, product
from graphc.ir.errors import DeviceMemoryError, FeedValueError
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims

# Bytes of an input or of results up to which a copy costs less than what it takes to do without.
COPIED = 1 << 16

# How many sets of shapes (and places, of inputs that lie on the device) are kept ready.
KEPT = 16


class DeviceFunction:
    """An emitted function for a device, with what it needs beside inputs and blocks.

    Attributes
    ----------
    recordable
        Whether all it does is work of the queue, and none the host's.
    """

    def __init__(self, graph: Graph, emitted: Emitted) -> None:
        self.graph, self.program = graph, emitted.program
        self.checks = index_checks(self.program)
        self.recordable = not by_host(self.program)
        self._emitted = emitted
        self._memory: Any = None

    @cached_property
    def queue(self) -> Any:
        """That of the device which is current when it is first needed."""
        return queue_at_hand()

    def sizes(self, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, int]:
        """The sizes of dims, for the shapes of the inputs."""
        leaves = {str(place): node for place, node in enumerate(self.graph.inputs)}
        return bind_dims(leaves, dict(zip(leaves, shapes, strict=True)))

    def memory(self, sizes: Mapping[str, int]) -> Any:
        """Memory for temporaries at these sizes, which calls use one after the other."""
        plan = self.program.arena
        need = bind(plan.size, sizes) if plan is not None else 0
        if self._memory is None or self._memory.size < need:
            self._memory = None  # freed before more is asked for
            self._memory = self.queue.empty(need)
        return self._memory

    def release(self) -> None:
        """Give memory back."""
        self._memory = None

    @cached_property
    def _constants(self) -> list[Any]:
        return [uploaded(array) for array in self._emitted.constants]

    @cached_property
    def _flags(self) -> tuple[np.ndarray, Any]:
        return self.queue.flags(max(1, len(self.checks)))  # type: ignore[no-any-return]  # an optional library's

    def enqueue(self, arguments: Sequence[Any], memory: Any, results: Any, stream: Any) -> None:
        """Put the work into a stream: inputs and blocks are arrays of the device, `results` is memory."""
        faults = [self._flags[1]] if self.checks else []
        self._emitted.function(*arguments, *self._constants, memory, results, *faults, stream)

    def check(self) -> None:
        """Raise what the device has noted so far: an index out of range.

        Raises
        ------
        FeedError
            (IndexError) for the first one.
        """
        if not self.checks or not self._flags[0].any():
            return
        place = int(np.flatnonzero(self._flags[0])[0])
        self.queue.wait()
        self._flags[0][:] = 0
        raise out_of_range(self.graph, IndexError(self.checks[place]["text"]))

    def check_feeds(self, inputs: Sequence[Any], sizes: Mapping[str, int]) -> bool:
        """Check indices in inputs on the host; whether others are left, that the device must look at.

        Raises
        ------
        FeedError
            (IndexError) for an index out of range.
        """
        places = {buffer: place for place, buffer in enumerate(self.program.inputs)}
        left = False
        for check in self.checks:
            indices, extent = check.operands[0], bind(check["extent"], sizes)
            fed = inputs[places[indices]] if indices in places else None
            seen = on_host(fed)
            empty = extent == 0 and bind(product(indices.shape), sizes) > 0
            if empty or (seen and not index_in_range(fed, extent)):
                raise out_of_range(self.graph, IndexError(check["text"]))
            left |= not seen
        return left

    def results(self, sizes: Mapping[str, int]) -> tuple[list[tuple[int, tuple[int, ...], np.dtype]], int]:
        """Where each output lies in the memory for results, with its shape and dtype; and its size."""
        offsets, size = device_results(self.program)
        found = []
        for buffer, node in zip(self.program.outputs, self.graph.outputs, strict=True):
            offset = offsets[buffer.root] + buffer.start * buffer.dtype.itemsize
            shape = tuple(bind(extent, sizes) for extent in buffer.shape)
            dtype: np.dtype = np.dtype(np.uint16) if node.dtype.name == "bfloat16" else node.dtype
            found.append((bind(offset, sizes), shape, dtype))
        return found, bind(size, sizes)

    def largest(self, sizes: Mapping[str, int]) -> str:
        """What fills the memory, in words: the largest buffers of the program at these sizes."""
        buffers = [each for each in self.program.buffers if each.base is None and each.space != "shared"]
        largest = sorted(((bind(each.nbytes, sizes), each.name, each) for each in buffers), reverse=True)[:3]
        named = ", ".join(f"{name}: {buffer.type} ({size:,})" for size, name, buffer in largest)
        return f"the largest of the program's buffers are {named}"


class _Form:
    """Calls with inputs of certain shapes: small ones and the host's in memory of their own, others where they lie."""

    def __init__(self, function: DeviceFunction, inputs: Sequence[Any], places: Sequence[int | None]) -> None:
        self.function, self.queue = function, function.queue
        self.sizes = function.sizes([np.shape(value) for value in inputs])
        self.memory = function.memory(self.sizes)
        self.results, self.nbytes = function.results(self.sizes)
        self.arguments: list[Any] = []
        types = [(np.shape(value), bits_of(value).dtype) for value in inputs]
        sizes = [int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in types]
        own = [place for place, known in enumerate(places) if known is None]
        offsets, end = dict[int, int](), 0
        for place in sorted(own, key=lambda place: sizes[place] > COPIED):  # small ones first
            offsets[place] = end
            end += -(-sizes[place] // ALIGNMENT) * ALIGNMENT
        block = self.queue.empty(end)
        for place, (shape, dtype) in enumerate(types):
            known = places[place]
            if known is None:
                self.arguments.append(self.queue.subarray(block, offsets[place], shape, dtype))
            else:
                self.arguments.append(self.queue.at(known, shape, dtype))
        self._own, small = own, [place for place in own if sizes[place] <= COPIED]
        staged = sum(-(-sizes[place] // ALIGNMENT) * ALIGNMENT for place in small)
        self._staging = np.zeros(staged, np.uint8)
        self._staged = {place: np.ndarray(*types[place], self._staging.data, offsets[place]) for place in small}
        self._start = self.queue.subarray(block, 0, (staged,), np.dtype(np.uint8))
        self._replay: Any = None
        self._block: Any = None  # memory for results, that replays store into
        self._holder: Any = None  # what tells whether somebody still holds it
        self._ran = False

    def fill(self, inputs: Sequence[Any]) -> None:
        """Copy what this keeps in memory of its own: small arrays of the host all at once."""
        staged, direct = False, []
        for place in self._own:
            value = inputs[place]
            if not on_host(value):
                direct.append((self.queue.copy, value, place))
            elif place in self._staged:
                self._staged[place][...] = bits_of(value)
                staged = True
            else:
                direct.append((self.queue.upload, bits_of(value), place))
        if staged:
            self.queue.upload(self._staging, self._start)
        for copy, value, place in direct:
            copy(value, self.arguments[place])

    def run(self, blocks: Sequence[Any]) -> Any:
        """The memory that holds the results, the caller's. The first call loads kernels, the second is recorded."""
        if self._ran and self._replay is None and self.function.recordable:
            self._block = self.queue.empty(self.nbytes)
            arguments = [*self.arguments, *blocks]
            self._replay = self.queue.recorded(partial(self.function.enqueue, arguments, self.memory, self._block))
        held = self._holder is not None and self._holder() is not None
        self._ran = True
        if self._replay is None or held:
            block = self.queue.empty(self.nbytes)
            self.function.enqueue([*self.arguments, *blocks], self.memory, block, self.queue.stream)
            return block
        self._replay()
        if self.nbytes > COPIED and (lent := self.queue.lent(self._block)) is not None:
            block, self._holder = lent
        else:
            block = self.queue.empty(self.nbytes)
            self.queue.copy(self._block, block)
        return block


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
        call, or with `check`.
    """

    def __init__(self, graph: Graph, emitted: Emitted, waits: bool = True) -> None:
        super().__init__(graph)
        self.function, self.waits = DeviceFunction(graph, emitted), waits
        self._lock = threading.Lock()
        self._forms: OrderedDict[Hashable, _Form] = OrderedDict()

    def __call__(self, inputs: Sequence[Any], blocks: Sequence[DeviceBlock]) -> tuple[Any, ...]:
        """The outputs."""
        with self._lock:
            if queue_at_hand() is not self.function.queue:
                raise FeedValueError(
                    f"{self.graph.name} was called on device {self.function.queue.device}, and device "
                    f"{queue_at_hand().device} is current",
                    hint="compile it once for each device",
                )
            self.function.check()
            try:
                return self._called(inputs, blocks)
            except DeviceMemoryError:
                self.release()
            try:
                return self._called(inputs, blocks)
            except DeviceMemoryError as error:
                sizes = self.function.sizes([np.shape(value) for value in inputs])
                error.message += f"; {self.function.largest(sizes)}"
                error.where, error.hint = self.graph.name, "feed fewer examples at a time"
                raise

    def release(self) -> None:
        """Give back the memory that is kept for the next calls."""
        self._forms.clear()
        self.function.release()

    def _called(self, inputs: Sequence[Any], blocks: Sequence[DeviceBlock]) -> tuple[Any, ...]:
        form = self._form(inputs, blocks)
        left = self.function.check_feeds(inputs, form.sizes)
        form.fill(inputs)
        memory, queue = form.run([block.array for block in blocks]), self.function.queue
        results = tuple(queue.subarray(memory, *where) for where in form.results)
        if left and self.waits:
            queue.wait()
            self.function.check()
        return results

    def _form(self, inputs: Sequence[Any], blocks: Sequence[DeviceBlock]) -> _Form:
        """What is ready for these inputs; blocks of one call are in no recorded work."""
        queue = self.function.queue
        large = [not on_host(value) and value.nbytes > COPIED for value in inputs]
        places = [queue.place(value) if is_large else None for value, is_large in zip(inputs, large, strict=True)]
        if not all(block.lasting for block in blocks):
            return _Form(self.function, inputs, places)
        key = (*((np.shape(value), place) for value, place in zip(inputs, places, strict=True)), *blocks)
        if key not in self._forms:
            while len(self._forms) >= KEPT:
                self._forms.popitem(last=False)
            self._forms[key] = _Form(self.function, inputs, places)
        self._forms.move_to_end(key)
        return self._forms[key]
