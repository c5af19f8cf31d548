"""A kernel on a grid becomes one numba-cuda function: a block of threads for each iteration of its outermost loop.

What `codegen/kernel_text.py` prints is the same here, but for loops that are dealt out to threads, the totals that
these combine, and memory that they share.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from graphc.codegen.cuda.totals import Places
from graphc.codegen.expressions import affine, call, extent, number, subscript
from graphc.codegen.kernel_text import KernelPrinter, KernelText, unparse
from graphc.codegen.names import TYPE_ALIASES, dtype_name, stored
from graphc.ir.barriers import nest
from graphc.ir.dims import product
from graphc.ir.errors import CompileError
from graphc.ir.loops import (
    ON_CHIP,
    Accumulate,
    Accumulator,
    Affine,
    Barrier,
    Buffer,
    Combine,
    Const,
    Index,
    IndexValue,
    Let,
    Load,
    Loop,
    Statement,
    walk,
)
from graphc.passes.lanes import Element, moved_at_once, touched

# How the threads of a block combine their totals, and take turns at an element.
_TOGETHER = {
    "add": "block_sum", "multiply": "block_product", "maximum": "block_max", "minimum": "block_min",
    "logical_and": "block_all", "logical_or": "block_any",
}  # fmt: skip
_IN_TURNS = {"add": "cuda.atomic.add"}


class CudaPrinter(KernelPrinter):
    """The state of printing one kernel on a grid."""

    counter: np.dtype = np.dtype("int64")
    moved: Mapping[Element, str] = MappingProxyType({})  # what the lanes of the loop at hand have in registers

    def text(self) -> KernelText:
        """Print."""
        grid = self.kernel.grid
        assert grid is not None
        self.threads = grid.threads
        self.lane_arrays = self._in_registers(grid.body)
        moved = {buffer for arrays in self.lane_arrays.values() for buffer, _ in arrays}
        on_chip = [buffer for buffer in self.kernel.buffers if buffer.space in ON_CHIP]
        for buffer in on_chip:
            aligned = ", LANES_ALIGNMENT" if buffer in moved else ""
            array = f"cuda.{buffer.space}.array({self._static(buffer)}, {dtype_name(buffer.dtype)}{aligned})"
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
        axis = self._counter(loops[-1])
        if len(loops) == 1 and loop.extent == 1 and loop.share is None:
            self.line("if cuda.threadIdx.x == 0:")
            self.indent += 1
            if _reads(body, loop.axis):
                self.line(f"{self.names[loop.axis]} = 0")
        elif len(loops) == 1:
            function = "threads_over" if loop.share is None else "threads_between"
            self.line(f"for {axis} in {function}({self._limits(loop)}, {self.threads}):")
            self.indent += 1
        else:
            self._as_one(loops)
        if loops[-1].lanes == 1:
            self.block(body)
        else:
            self._in_lanes(loops[-1])
        self.indent -= 1
        if loop.extent % loop.lanes != 0:
            self._left_over(loop)

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
        """What a loop goes through: a number of iterations (or of groups of them), or where a piece begins and ends."""
        if loop.share is None:
            return unparse(extent(loop.extent // loop.lanes, self.dims))
        return self.piece(loop.share, loop.extent // loop.lanes)

    def _as_one(self, loops: Sequence[Loop]) -> None:
        """The head of one loop over all iterations of some, and the axes of each."""
        firsts: list[str] = []
        sizes: list[str] = []
        for loop in loops:
            first, _, last = self._limits(loop).partition(", ")
            firsts.append(f"{first} + " if last else "")
            sizes.append(f"({last} - {first})" if last else first)
        place = self.claim("place")
        sizes = [size if size.isidentifier() or size.isdigit() or size[0] == "(" else f"({size})" for size in sizes]
        self.line(f"for {place} in threads_over({' * '.join(sizes)}, {self.threads}):")
        self.indent += 1
        for k, loop in enumerate(loops):
            inner = sizes[k + 1 :]
            whole = " * ".join(inner)
            step = place if not inner else f"{place} // {whole if len(inner) == 1 else f'({whole})'}"
            position = f"{firsts[k]}{step}" if k == 0 else f"{firsts[k]}{step} % {sizes[k]}"
            self.line(f"{self._counter(loop)} = {position}")

    def _counter(self, loop: Loop) -> str:
        """What counts a loop's iterations, or groups of them."""
        return self.names[loop.axis] if loop.lanes == 1 else self.group

    def _in_registers(self, body: tuple[Statement, ...]) -> dict[int, dict[Element, str]]:
        """The arrays that hold what the lanes of each loop move at once; loops after each other have the same ones."""
        loops = [each for each in walk(body) if isinstance(each, Loop) and each.lanes > 1]
        if loops:
            self.group, self.lane = self.claim("group"), self.claim("lane")
        names: dict[tuple[Buffer, int, int], str] = {}
        found: dict[int, dict[Element, str]] = {}
        for loop in loops:
            moves = moved_at_once(loop)
            arrays: dict[Element, str] = {}
            for element in dict.fromkeys((*moves.loaded, *moves.stored)):
                buffer = element[0]
                key = buffer, loop.lanes, [other for other, _ in arrays].count(buffer)
                if key not in names:
                    names[key] = self.claim(f"{buffer.name}_lanes")
                    self.line(f"{names[key]} = cuda.local.array({loop.lanes}, {dtype_name(buffer.dtype)})")
                arrays[element] = names[key]
            found[id(loop)] = arrays
        return found

    def _in_lanes(self, loop: Loop) -> None:
        """What lanes have in common and load at once; a loop over them, for the compiler to unroll; what they store."""
        moves, arrays = moved_at_once(loop), self.lane_arrays[id(loop)]
        self.block(moves.common, loop.body)
        for element in moves.loaded:
            self.line(f"load_{loop.lanes}({self._neighbours(loop, element)}, {arrays[element]})")
        self.line(f"for {self.lane} in range({loop.lanes}):")
        self.indent += 1
        if _reads([each for each in moves.own if arrays.keys().isdisjoint(touched(each))], loop.axis):
            self.line(f"{self.names[loop.axis]} = {loop.lanes} * {self.group} + {self.lane}")
        self.moved = arrays
        self.block(moves.own)
        self.moved = {}
        self.indent -= 1
        for element in moves.stored:
            self.line(f"store_{loop.lanes}({self._neighbours(loop, element)}, {arrays[element]})")

    def _neighbours(self, loop: Loop, element: Element) -> str:
        """An array, and the index of the first element of a group."""
        buffer, index = element
        positions: list[ast.expr] = []
        for each in index:
            first = Affine(tuple((name, by * loop.lanes if name == loop.axis else by) for name, by in each.terms))
            variables = {**self.variables(each), loop.axis: ast.Name(self.group)}
            positions.append(affine(first + each.offset, variables, self.dims))
        at = positions[0] if len(positions) == 1 else ast.Tuple(positions)
        return f"{self.buffers[buffer]}, {unparse(at)}"

    def _left_over(self, loop: Loop) -> None:
        """The iterations that make no whole group, one by one."""
        part, parts = ("0", 1) if loop.share is None else (self.names[loop.share[0]], loop.share[1])
        count, size = (unparse(extent(each, self.dims)) for each in (parts, loop.extent))
        first, last = self.claim("first_left"), self.claim("last_left")
        self.line(f"{first}, {last} = left_over({loop.lanes}, {part}, {count}, {size})")
        self.line(f"for {self.names[loop.axis]} in threads_between({first}, {last}, {self.threads}):")
        self.indent += 1
        self.block(loop.body)
        self.indent -= 1

    def _element(self, buffer: Buffer, index: Index) -> ast.expr:
        if (buffer, index) in self.moved:
            return subscript(self.moved[buffer, index], [ast.Name(self.lane)])
        return super()._element(buffer, index)

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
