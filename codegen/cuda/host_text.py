"""A program becomes one host function that puts its kernels and the library's calls into a stream, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphc.codegen.host_text import HostText, results_layout
from graphc.codegen.module_text import filled
from graphc.ir.dims import Extent
from graphc.ir.loops import ON_CHIP, Buffer, Call, Kernel, Program


def index_checks(program: Program) -> tuple[Call, ...]:
    """The checks of indices, as their results lie in the memory for faults."""
    return tuple(step for step in program.steps if isinstance(step, Call) and step.routine == "check_index")


def device_results(program: Program) -> tuple[dict[Buffer, Extent], Extent]:
    """Where results lie in one block of the device's memory, in bytes, and its size."""
    return results_layout(program, scalars=True)


class CudaHostText(HostText):
    """The text of a program's host function, which Python runs: arguments and results are arrays of the device.

    Its last arguments are the memory of temporaries and of results, that for faults where indices are checked, and
    the stream.
    """

    def __init__(self, program: Program, functions: Mapping[int, str], precision: str) -> None:
        super().__init__(program, functions, workspace=True, results=True)
        self.precision = precision
        self.scalars = frozenset()  # numbers are arrays too: what is recorded reads them anew
        self.offsets = dict(program.arena.offsets) if program.arena is not None else {}
        self.result_offsets = device_results(program)[0]
        self.faults, self.stream = self.claim("faults"), self.claim("stream")
        self.checks = {check: place for place, check in enumerate(index_checks(program))}
        self.context = (self.stream,)
        self.lent = (*self.lent, *([self.faults] if self.checks else []), self.stream)

    def result(self, buffer: Buffer) -> str:
        """What is returned for an output."""
        return self.names[buffer]

    def kernel(self, place: int, kernel: Kernel) -> Iterator[str]:
        """The launch of a kernel."""
        grid = kernel.grid
        assert grid is not None
        given = (buffer for buffer in kernel.buffers if buffer.space not in ON_CHIP)
        arguments = (*(self.dims[dim] for dim in kernel.dim_names), *(self.names[buffer] for buffer in given))
        head = f"{self.functions[place]}[{grid.extent}, {grid.threads}, {self.stream}]("
        yield from filled(head, arguments, ")", indent=4)

    def call(self, call: Call) -> Iterator[str]:
        """The call of a library; indices out of range are noted, for whoever looks next."""
        if call not in self.checks:
            yield from super().call(call)
            return
        place, indices, size = self.checks[call], self.names[call.operands[0]], self.text(call["extent"])
        yield f"# {place}: {call['text']}"
        yield f"check_index({indices}, {size}, {self.faults}, {place}, {self.stream})"

    def product(self, call: Call) -> str:
        """A call of the library that multiplies matrices."""
        names = [self.names[operand] for operand in call.operands]
        options = [f"transpose_{side}=True" for side in "ab" if call[f"transpose_{side}"]]
        options += ["beta=1.0"] if call["accumulate"] else []
        options += [f'precision="{self.precision}"'] if self.precision != "float32" else []
        return f"matmul({', '.join((*names, self.stream, *options))})"
