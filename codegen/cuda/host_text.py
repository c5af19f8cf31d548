"""A program becomes one host function that launches its kernels and calls the library in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphc.codegen.host_text import HostText
from graphc.codegen.module_text import filled
from graphc.ir.loops import ON_CHIP, Buffer, Call, Kernel, Program


class CudaHostText(HostText):
    """The text of a program's host function, which Python runs: arguments and results are arrays of the device."""

    def __init__(self, program: Program, functions: Mapping[int, str]) -> None:
        super().__init__(program, functions, workspace=True)
        # Results are the caller's: they do not lie in memory that the next call uses again.
        self.offsets = dict(program.arena.offsets) if program.arena is not None else {}

    def result(self, buffer: Buffer) -> str:
        """What is returned for an output."""
        return self.names[buffer]

    def kernel(self, place: int, kernel: Kernel) -> Iterator[str]:
        """The launch of a kernel."""
        grid = kernel.grid
        assert grid is not None
        given = (buffer for buffer in kernel.buffers if buffer.space not in ON_CHIP)
        arguments = (*(self.dims[dim] for dim in kernel.dim_names), *(self.names[buffer] for buffer in given))
        yield from filled(f"{self.functions[place]}[{grid.extent}, {grid.threads}](", arguments, ")", indent=4)

    def product(self, call: Call) -> str:
        """A call of the library that multiplies matrices."""
        names = [self.names[operand] for operand in call.operands]
        options = [f"transpose_{side}=True" for side in "ab" if call[f"transpose_{side}"]]
        return f"matmul({', '.join((*names, *options, *(['beta=1.0'] if call['accumulate'] else [])))})"
