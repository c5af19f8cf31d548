"""A program becomes one function that calls its kernels and the library in order, in memory that it lays out itself."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphc.codegen.expressions import extent
from graphc.codegen.kernel_text import type_alias
from graphc.codegen.module_text import filled
from graphc.codegen.names import Namespace, dtype_name, identifier
from graphc.codegen.runtime import ALIGNMENT
from graphc.ir.core import Guard
from graphc.ir.dims import Dim, Extent
from graphc.ir.errors import CompileError
from graphc.ir.factorizations import ROUTINES
from graphc.ir.loops import AT, ON_CHIP, SCRATCH, Buffer, Call, Kernel, Program, Step
from graphc.ir.ops.checks import show
from graphc.ir.types import Shape
from graphc.passes.memory import aligned
from graphc.passes.threads import work

MEMORY, RESULTS = "memory", "results"


def by_value(program: Program) -> frozenset[Buffer]:
    """The arguments that are passed as numbers: inputs and parameters without axes, but for updated parameters."""
    given = (*program.inputs, *program.params)
    return frozenset(buffer for buffer in given if not buffer.shape and buffer not in program.updated)


def leaves(program: Program) -> tuple[Buffer, ...]:
    """The arguments of a program: inputs, parameters, constants."""
    return (*program.inputs, *program.params, *(buffer for buffer, _ in program.constants))


def leaf_types(program: Program) -> tuple[str, ...]:
    """The aliases of the arguments' Numba types."""
    updated, scalars = program.updated, by_value(program)
    return tuple(type_alias(leaf, leaf in updated, leaf in scalars) for leaf in leaves(program))


def host_name(program: Program) -> str:
    """The name of the host function in a program's module."""
    return identifier(program.name)


def workspace_layout(program: Program) -> tuple[dict[Buffer, Extent], Extent]:
    """Where buffers lie in a call's block of memory, in bytes, and its size: results of shape (), then the arena."""
    scalars = [buffer for buffer in program.outputs if not buffer.shape and buffer.base is None]
    offsets: dict[Buffer, Extent] = {buffer: 8 * place for place, buffer in enumerate(scalars)}
    start = -(-8 * len(scalars) // ALIGNMENT) * ALIGNMENT
    if program.arena is None:
        return offsets, start
    offsets.update((buffer, offset + start) for buffer, offset in program.arena.offsets)
    return offsets, program.arena.size + start


def results_layout(program: Program, scalars: bool = False) -> tuple[dict[Buffer, Extent], Extent]:
    """Where results with axes, or also those of shape (), lie in one block of memory, in bytes, and its size."""
    offsets: dict[Buffer, Extent] = {}
    size: Extent = 0
    for root in dict.fromkeys(buffer.root for buffer in program.outputs):
        if root.space == "output" and (root.shape or scalars):
            offsets[root] = size
            size = size + aligned(root.nbytes)
    return offsets, size


def bind_dims(program: Program, dims: Mapping[str, str], names: Mapping[Buffer, str]) -> Iterator[str]:
    """Lines that bind dims, each from the first argument that has it as an axis, or else as ``2 * N + 1``."""
    for dim, name in dims.items():
        places = [
            (axis, leaf, size)
            for leaf in leaves(program)
            for axis, size in enumerate(leaf.shape)
            if isinstance(size, Dim) and size.names == {dim} and all(len(term) <= 1 for term, _ in size.terms)
        ]
        if not places:
            raise CompileError(f"no argument of {program.name} has the dim {dim} as an axis")
        axis, leaf, size = next((place for place in places if str(place[2]) == dim), places[0])
        coefficients = dict(size.terms)
        value = f"{names[leaf]}.shape[{axis}]"
        if offset := coefficients.get((), 0):
            value = f"{value} {'-' if offset > 0 else '+'} {abs(offset)}"
        if (factor := coefficients[(dim,)]) != 1:
            value = f"({value}) // {factor}" if offset else f"{value} // {factor}"
        yield f"{name} = {value}"


def extent_text(size: Extent, dims: Mapping[str, str]) -> str:
    """An extent as the text of integer arithmetic."""
    return ast.unparse(ast.fix_missing_locations(extent(size, dims)))


def shape_text(shape: Shape, dims: Mapping[str, str]) -> str:
    """A shape as the text of a tuple."""
    extents = [extent_text(size, dims) for size in shape]
    return f"({', '.join(extents)}{',' * (len(extents) == 1)})"


@dataclass(frozen=True, slots=True)
class Standalone:
    """A host function that users call themselves: it checks the shapes that it is given.

    Attributes
    ----------
    guards
        Conditions on dims.
    values
        How many of the outputs are returned as a tuple of their own, first; None: no such tuple.
    """

    guards: tuple[Guard, ...] = ()
    values: int | None = None


class HostText:
    """The text of a program's host function.

    Parameters
    ----------
    program
        What to print.
    functions
        The name of each kernel's function, by the kernel's place among the steps.
    workspace, results
        Whether the memory of the arena, and that of results with axes, are arguments (the last ones) instead of
        allocated by each call.
    standalone
        See `Standalone`; None trusts the caller.
    """

    context: tuple[str, ...] = ()  # what routines take behind their operands

    def __init__(
        self,
        program: Program,
        functions: Mapping[int, str],
        workspace: bool,
        results: bool = False,
        standalone: Standalone | None = None,
    ) -> None:
        self.program, self.functions, self.standalone = program, functions, standalone
        names = Namespace(functions.values())
        self.leaves = leaves(program)
        self.dims = {dim: names.claim(dim) for dim in program.dims}
        self.names = {buffer: names.claim(buffer.name) for buffer in self.leaves}
        self.memory = names.claim(MEMORY)
        self.results = names.claim(RESULTS) if results else ""
        self.lent = (*([self.memory] if workspace else []), *([self.results] if results else []))
        self.offsets, self.size = workspace_layout(program)
        self.result_offsets = results_layout(program)[0] if results else {}
        self.used = tuple(buffer for buffer in program.buffers if buffer not in self.leaves)
        self.names |= {buffer: names.claim(buffer.name) for buffer in self.used}
        self.claim, self.scalars = names.claim, by_value(program)
        self.shared = {buffer.root for buffer in self.used if buffer.base is not None}
        self.blocks: dict[Buffer, str] = {}
        self.made = set(self.leaves)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments: inputs, parameters, constants, and memory."""
        return (*(self.names[leaf] for leaf in self.leaves), *self.lent)

    @property
    def argument_types(self) -> tuple[str, ...]:
        """The aliases of their Numba types."""
        return (*leaf_types(self.program), *("u8_1d" for _ in self.lent))

    def lines(self) -> Iterator[str]:
        """The body, line by line."""
        yield from bind_dims(self.program, self.dims, self.names)
        if self.standalone is not None:
            yield from self._checks(self.standalone.guards)
        if self.offsets and self.memory not in self.lent:
            yield f"{self.memory} = arena({self.text(self.size)})"
        group: str | None = None
        for place, step in enumerate(self.program.steps):
            label = self._label(step)
            if label != group:
                yield from ("", f"# {label}") if label else ("",)
                group = label
            for buffer in step.buffers:
                yield from self._make(buffer)
            yield from self.kernel(place, step) if isinstance(step, Kernel) else self.call(step)
        for buffer in self.program.outputs:
            yield from self._make(buffer)
        if self.program.outputs:
            results = [self.result(buffer) for buffer in self.program.outputs]
            count = self.standalone.values if self.standalone is not None else None
            if count is not None:
                results = [f"({', '.join(results[:count])}{',' * (count == 1)})", *results[count:]]
            yield f"return {', '.join(results)}"
        elif not self.program.steps:
            yield "pass"

    def _checks(self, guards: Sequence[Guard]) -> Iterator[str]:
        """Refuse shapes that disagree, and dims that a guard forbids."""
        bound = set(bind_dims(self.program, self.dims, self.names))
        for leaf in self.leaves:
            sizes = [(f"{self.names[leaf]}.shape[{axis}]", self.text(size)) for axis, size in enumerate(leaf.shape)]
            tests = [f"{found} != {wanted}" for found, wanted in sizes if f"{wanted} = {found}" not in bound]
            if tests:
                yield f"if {' or '.join(tests)}:"
                yield f"    raise ValueError({_quoted(f'{leaf.name}: expected shape {show(leaf.shape)}')})"
        for guard in guards:
            yield f"if {self.text(guard.extent)} {'!=' if guard.relation == '==' else '<'} 0:"
            yield f"    raise ValueError({_quoted(guard.text)})"

    def _label(self, step: Step) -> str:
        """The views that a step computes: inner views ``hidden_0`` belong to ``hidden``."""
        writes = step.writes if isinstance(step, Kernel) else step.writes[-1:]  # not what it works in
        views = (re.sub(r"_\d+$", "", buffer.name) for buffer in writes if buffer.space not in SCRATCH)
        return textwrap.shorten(", ".join(dict.fromkeys(views)), 100, placeholder=" ...")

    def _make(self, buffer: Buffer) -> Iterator[str]:
        """Give a buffer its memory, before the first step that uses it."""
        if buffer in self.made or buffer.space in ON_CHIP:
            return
        self.made.add(buffer)
        root, offset = buffer, buffer.offset * buffer.dtype.itemsize
        while root.base is not None:
            root = root.base
            offset = offset + root.offset * root.dtype.itemsize
        if root in self.offsets:
            block, offset = self.memory, offset + self.offsets[root]
        elif root in self.result_offsets:
            block, offset = self.results, offset + self.result_offsets[root]
        else:
            yield from self._block(root)
            block = self.blocks[root]
        shape = shape_text(buffer.shape, self.dims)
        yield f"{self.names[buffer]} = subarray({block}, {self.text(offset)}, {shape}, {dtype_name(buffer.dtype)})"

    def _block(self, root: Buffer) -> Iterator[str]:
        """Name the 1-d array that holds the memory of a buffer outside the arena."""
        if root in self.blocks:
            return
        name = self.names[root]
        if root not in self.leaves:
            # np.empty would cost up to 0.1 s of compile for each rank.
            self.blocks[root] = f"arena({self.text(root.nbytes)})"
            if root in self.shared:
                block, self.blocks[root] = self.blocks[root], self.claim(f"{name}_memory")
                yield f"{self.blocks[root]} = {block}"
        elif len(root.shape) == 1:
            self.blocks[root] = name
        else:
            self.blocks[root] = self.claim(f"{name}_flat")
            if root in self.scalars:
                yield f"{self.blocks[root]} = subarray(arena({root.dtype.itemsize}), 0, (1,), {dtype_name(root.dtype)})"
                yield f"{self.blocks[root]}[0] = {name}"
            else:
                yield f"{self.blocks[root]} = {name}.reshape(-1)"

    def result(self, buffer: Buffer) -> str:
        """What is returned for an output."""
        return f"{self.names[buffer]}{'' if buffer.shape else '[()]'}"

    def kernel(self, place: int, kernel: Kernel) -> Iterator[str]:
        """The call of a kernel."""
        arguments = (*(self.dims[dim] for dim in kernel.dim_names), *(self.names[buffer] for buffer in kernel.buffers))
        function, parts = self.functions[place], kernel.parts
        if parts is None:
            yield from filled(f"{function}(", arguments, ")", indent=4)
            return
        head = f"in_threads({function}, {parts.extent}, {self.text(work(kernel))}, ("
        close = f"{',' * (len(arguments) == 1)}){', serial_blas=True' * bool(kernel.products)})"
        yield from filled(head, arguments, close, indent=4)

    def call(self, call: Call) -> Iterator[str]:
        """The call of a library."""
        if call.routine == "check_index":
            yield f"if not index_in_range({self.names[call.operands[0]]}, {self.text(call['extent'])}):"
            yield f"    raise IndexError({_quoted(call['text'])})"
        elif call.routine == "matmul":
            yield self.product(call)
        elif call.routine in ROUTINES or call.routine in ("argsort", "searchsorted", *AT):
            names = [self.names[operand] for operand in call.operands]
            flags = [f"{flag}=True" for flag, value in call.flags if value]
            yield from filled(f"{call.routine}(", [*names, *self.context, *flags], ")", indent=4)
        else:
            raise CompileError(f"no library routine {call.routine}")

    def product(self, call: Call) -> str:
        """A call of the library that multiplies matrices."""
        return _product(call, [self.names[operand] for operand in call.operands])

    def text(self, size: Extent) -> str:
        """An extent in the names of the function."""
        return extent_text(size, self.dims)


def _quoted(text: str) -> str:
    """A string literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _product(call: Call, names: Sequence[str]) -> str:
    """The routine for the ranks of a product's operands."""
    a, b, out = names
    rank_a, rank_b = (len(operand.shape) for operand in call.operands[:2])
    options = [f"transpose_{side}=True" for side in "ab" if call[f"transpose_{side}"]]
    blend = ["beta=1.0"] if call["accumulate"] else []
    parts = [f"parts={call.parts}"] if call.parts > 1 else []
    if rank_a == rank_b == 1:
        return f"{out}[()] {'+=' if blend else '='} dot({a}, {b})"
    if rank_b == 1:
        flags = ["transpose_a=True"] if call["transpose_a"] else []
        return f"gemv({', '.join((a, b, out, *flags, *blend))})"
    if rank_a == 1:
        flags = [] if call["transpose_b"] else ["transpose_a=True"]
        return f"gemv({', '.join((b, a, out, *flags, *blend))})"
    return f"gemm({', '.join((a, b, out, *options, *blend, *parts))})"
