"""An emitted function for a device, and what it needs beside inputs and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from graphc.codegen.cuda.host_text import device_results, index_checks
from graphc.codegen.runtime import index_in_range
from graphc.device import on_host, queue_at_hand, uploaded
from graphc.emitted import Emitted
from graphc.executable import out_of_range
from graphc.ir.dims import bind, product
from graphc.ir.errors import FeedIndexError
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims
from graphc.ir.loops import ON_CHIP, Call


class DeviceFunction:
    """An emitted function for a device, with what it needs beside inputs and blocks."""

    def __init__(self, graph: Graph, emitted: Emitted) -> None:
        self.graph, self.program = graph, emitted.program
        self.checks = index_checks(self.program)
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
        if not self.suffices(sizes):
            self._memory = None  # freed before more is asked for
            self._memory = self.queue.empty(self._need(sizes))
        return self._memory

    def suffices(self, sizes: Mapping[str, int]) -> bool:
        """Whether there is memory for temporaries at these sizes."""
        return self._memory is not None and self._memory.size >= self._need(sizes)

    def _need(self, sizes: Mapping[str, int]) -> int:
        plan = self.program.arena
        return bind(plan.size, sizes) if plan is not None else 0

    def release(self) -> None:
        """Give memory back."""
        self._memory = None

    @cached_property
    def _constants(self) -> list[Any]:
        return [uploaded(array) for array in self._emitted.constants]

    @cached_property
    def _flags(self) -> tuple[np.ndarray, Any]:
        return self.queue.flags(len(self.checks))  # type: ignore[no-any-return]  # an optional library's

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
        raise self.outside(self.checks[place])

    def fed_indices(self, sizes: Mapping[str, int]) -> tuple[list[tuple[int, int, Call]], bool]:
        """Which inputs are checked as indices, each with its axis's size; and whether others are, that are computed.

        Raises
        ------
        FeedError
            (IndexError) for an index into an axis of size 0.
        """
        places = {buffer: place for place, buffer in enumerate(self.program.inputs)}
        fed: list[tuple[int, int, Call]] = []
        for check in self.checks:
            indices, extent = check.operands[0], bind(check["extent"], sizes)
            if extent == 0 and bind(product(indices.shape), sizes) > 0:
                raise self.outside(check)
            if indices in places:
                fed.append((places[indices], extent, check))
        return fed, len(fed) < len(self.checks)

    def outside(self, check: Call) -> FeedIndexError:
        """The error for an index that is out of range."""
        return out_of_range(self.graph, IndexError(check["text"]))

    def check_indices(self, inputs: Sequence[Any], fed: Sequence[tuple[int, int, Call]]) -> bool:
        """Check indices that the host feeds; whether all are.

        Raises
        ------
        FeedError
            (IndexError) for an index out of range.
        """
        complete = True
        for place, extent, check in fed:
            if not on_host(inputs[place]):
                complete = False
            elif not index_in_range(inputs[place], extent):
                raise self.outside(check)
        return complete

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
        buffers = [each for each in self.program.buffers if each.base is None and each.space not in ON_CHIP]
        largest = sorted(((bind(each.nbytes, sizes), each.name, each) for each in buffers), reverse=True)[:3]
        named = ", ".join(f"{name}: {buffer.type} ({size:,})" for size, name, buffer in largest)
        return f"the largest of the program's buffers are {named}"
