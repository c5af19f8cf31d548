"""A kernel on a grid becomes one numba-cuda function: a block of threads for each iteration of its outermost loop.

What `codegen/kernel_text.py` prints is the same here, but for loops that are dealt out to threads, the totals that
these combine, and memory that they share.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np

from graphc.codegen.cuda.totals import Places
from graphc.codegen.expressions import affine, call, extent, number
from graphc.codegen.kernel_text import KernelPrinter, KernelText, unparse
from graphc.codegen.names import TYPE_ALIASES, dtype_name, stored
from graphc.ir.barriers import nest
from graphc.ir.dims import product
from graphc.ir.errors import CompileError
from graphc.ir.loops import (
    ON_CHIP,
    Accumulate,
    Accumulator,
    Barrier,
    Buffer,
    Combine,
    Const,
    IndexValue,
    Let,
    Load,
    Loop,
    Statement,
    walk,
)

# How the threads of a block combine their totals, and take turns at an element.
_TOGETHER = {
    "add": "block_sum", "multiply": "block_product", "maximum": "block_max", "minimum": "block_min",
    "logical_and": "block_all", "logical_or": "block_any",
}  # fmt: skip
_IN_TURNS = {"add": "cuda.atomic.add"}


class CudaPrinter(KernelPrinter):
    """The state of printing one kernel on a grid."""

    counter: np.dtype = np.dtype("int64")

    def text(self) -> KernelText:
        """Print."""
        grid = self.kernel.grid
        assert grid is not None
        self.threads = grid.threads
        on_chip = [buffer for buffer in self.kernel.buffers if buffer.space in ON_CHIP]
        for buffer in on_chip:
            array = f"cuda.{buffer.space}.array({self._static(buffer)}, {dtype_name(buffer.dtype)})"
            self.line(f"{self.buffers[buffer]} = {array}")
        dtypes = {each.name: each.initial.dtype for each in walk(grid.body) if isinstance(each, Accumulator)}
        self.places = Places.in_body(grid.body)
        self.totals: dict[tuple[np.dtype, int], str] = {}
        for each in walk(grid.body):
            if not isinstance(each, Combine):
                continue
            key = dtypes[each.target], self.places.of[id(each)]
            if key not in self.totals:
                self.totals[key] = self.claim(f"totals_{TYPE_ALIASES[stored(key[0]).name]}")
                self.line(f"{self.totals[key]} = cuda.shared.array({self.threads}, {dtype_name(key[0])})")
        if isinstance(grid.extent, int) and grid.extent > 1:
            self.line(f"{self.names[grid.axis]} = cuda.blockIdx.x")
        self.block(grid.body)
        given = {buffer: name for buffer, name in self.buffers.items() if buffer not in on_chip}
        return KernelText(
            (*self.dims.values(), *given.values()), tuple(self.lines), None, tuple(self.dims), tuple(given)
        )

    def loop(self, loop: Loop) -> None:
        """A loop that is dealt out to threads, alone or as one with those that stand alone in it; or a plain one."""
        if loop.kind != "threads":
            super().loop(loop)
            return
        self.spill(self.pending)
        loops, body = nest(loop)
        if len(loops) == 1 and loop.extent == 1 and loop.share is None:
            self.line("if cuda.threadIdx.x == 0:")
            self.indent += 1
            if _reads(body, loop.axis):
                self.line(f"{self.names[loop.axis]} = 0")
        elif len(loops) == 1:
            function = "threads_over" if loop.share is None else "threads_between"
            self.line(f"for {self.names[loop.axis]} in {function}({self._limits(loop)}, {self.threads}):")
            self.indent += 1
        else:
            self._as_one(loops)
        self.block(body)
        self.indent -= 1

    def together(self, statement: Combine | Barrier) -> None:
        """A total of all threads, or a barrier."""
        if isinstance(statement, Barrier):
            self.line("cuda.syncthreads()")
            return
        name, dtype = self.names[statement.target], self.dtypes[statement.target]
        where = "_in_memory" if dtype.kind == "u" or (dtype.kind != "b" and dtype.itemsize < 4) else ""
        if id(statement) in self.places.waiting:
            self.line("cuda.syncthreads()")
        total = f"{_TOGETHER[statement.op]}{where}({name}, {self.totals[dtype, self.places.of[id(statement)]]})"
        exact = dtype.kind not in "iu" or dtype.name == "int64"
        self.line(f"{name} = {total if exact else f'{dtype.name}({total})'}")

    def expression(self, statement: Let | IndexValue | Load) -> ast.expr:
        """An index that is out of range is brought into it: nobody waits for the check."""
        match statement:
            case Let(op="wrap", args=(index, Const(value=size))):
                return call("within", self.value(index), number(size, self.counter, self.dims))
        return super().expression(statement)

    def accumulation(self, statement: Accumulate) -> str:
        """The line that accumulates."""
        if not statement.atomic:
            return super().accumulation(statement)
        assert isinstance(statement.target, Buffer)
        index = [affine(position, self.variables(position), self.dims) for position in statement.index]
        at = index[0] if len(index) == 1 else ast.Tuple(index)
        target, value = self.buffers[statement.target], unparse(self.value(statement.value))
        return f"{_IN_TURNS[statement.op]}({target}, {unparse(at)}, {value})"

    def _limits(self, loop: Loop) -> str:
        """What a loop goes through: a number of iterations, or where a piece begins and ends."""
        if loop.share is None:
            return unparse(extent(loop.extent, self.dims))
        return self.piece(loop.share, loop.extent)

    def _as_one(self, loops: Sequence[Loop]) -> None:
        """The head of one loop over all iterations of some, and the axes of each."""
        firsts: list[str] = []
        sizes: list[str] = []
        for loop in loops:
            first, _, last = self._limits(loop).partition(", ")
            firsts.append(f"{first} + " if last else "")
            sizes.append(f"({last} - {first})" if last else unparse(extent(loop.extent, self.dims)))
        place = self.claim("place")
        sizes = [size if size.isidentifier() or size.isdigit() or size[0] == "(" else f"({size})" for size in sizes]
        self.line(f"for {place} in threads_over({' * '.join(sizes)}, {self.threads}):")
        self.indent += 1
        for k, loop in enumerate(loops):
            inner = sizes[k + 1 :]
            whole = " * ".join(inner)
            step = place if not inner else f"{place} // {whole if len(inner) == 1 else f'({whole})'}"
            position = f"{firsts[k]}{step}" if k == 0 else f"{firsts[k]}{step} % {sizes[k]}"
            self.line(f"{self.names[loop.axis]} = {position}")

    def _static(self, buffer: Buffer) -> str:
        """The shape of memory on the chip, which is known when the kernel is compiled."""
        if not isinstance(product(buffer.shape), int):
            raise CompileError(f"the {buffer.space} buffer {buffer.name} has the symbolic shape {buffer.shape}")
        # (Of no elements would mean: as many as are asked for at the launch.)
        sizes = ", ".join(str(size or 1) for size in buffer.shape)
        return sizes if len(buffer.shape) == 1 else f"({sizes})"


def _reads(body: Sequence[Statement], axis: str) -> bool:
    """Whether the index of a loop of one iteration is used in it."""
    for each in walk(tuple(body)):
        index = getattr(each, "index", ())
        positions = index if isinstance(index, tuple) else (index,)
        if any(axis in position.variables for position in positions):
            return True
    return False
