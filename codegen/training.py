"""The minibatch loop around a step's host function: it gathers the rows of batches, steps, and sums what steps return.

One call runs as many steps of as many epochs as the caller likes; between calls Python draws progress and sees Ctrl-C.
Rows are gathered for several batches at once: what is read from all over the data then overlaps, also where a batch is
a single example.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from numba.core import config

from graphc.codegen.expressions import TO_FLOAT, affine
from graphc.codegen.host_text import bind_dims, extent_text, host_name, leaf_types, leaves, shape_text
from graphc.codegen.kernel_text import type_alias
from graphc.codegen.module_text import filled, function_text
from graphc.codegen.names import Namespace, dtype_name
from graphc.ir.dims import Extent, dim, product
from graphc.ir.errors import CompileError
from graphc.ir.loops import Affine, Buffer, Program, axis
from graphc.ir.types import is_half

_COMPILING = threading.Lock()


@dataclass(frozen=True, slots=True)
class MinibatchLoop:
    """Which inputs of a step come from where.

    Attributes
    ----------
    batch
        The batch dim. Inputs whose first axis it is are given whole and gathered by rows.
    per_step
        Inputs of shape () that are given as arrays with an element for each epoch and step: ``lr``, ``t``.
    """

    batch: str
    per_step: tuple[str, ...] = ()

    def batched(self, program: Program) -> tuple[Buffer, ...]:
        """The inputs that are gathered by rows."""
        return tuple(buffer for buffer in program.inputs if buffer.shape and buffer.shape[0] == dim(self.batch))


def loop_name(program: Program) -> str:
    """The name of the minibatch loop in a program's module."""
    return f"{host_name(program)}_loop"


def compiled_loop(module: ModuleType, program: Program) -> Callable[..., None]:
    """The minibatch loop in a program's module, compiled now: who only ever steps does not wait for it."""
    name = loop_name(program)
    loop: Any = getattr(module, name)
    with _COMPILING:
        if not config.DISABLE_JIT and not loop.signatures:
            loop.compile(getattr(module, f"{name}_types"))
            loop.disable_compile()  # so that a call converts its arguments to these types, as of other functions here
    return loop  # type: ignore[no-any-return]


def row_offsets(program: Program, loop: MinibatchLoop) -> tuple[dict[Buffer, Extent], Extent]:
    """Where the rows of each batched input are gathered in one block of memory, in bytes, and the size of the block.

    In extents of the batch dim, which stands for the rows in the block. Wide elements come first, so all are aligned.
    """
    offsets: dict[Buffer, Extent] = {}
    total: Extent = 0
    for buffer in sorted(loop.batched(program), key=lambda buffer: -buffer.dtype.itemsize):
        offsets[buffer] = total
        total = total + buffer.nbytes
    return offsets, total


def loop_text(program: Program, loop: MinibatchLoop, name: str) -> str:
    """Print the loop.

    It takes ``first, last, batch_size, block, order``; what the host function takes, but arrays with an element for
    each epoch and step for the inputs `per_step`; ``rows``, the memory of `block` examples, which are those of some
    batches (see `row_offsets`); ``totals``, float64, to whose row for an epoch it adds each output times its batch's
    size; and the step's workspace, ``memory``. Of every epoch, a row of `order`, steps `first` to `last` (not included)
    are run. Step k reads the examples ``order[epoch, k * batch_size : (k + 1) * batch_size]``, fewer at the end. Where
    these rows are empty, an epoch is one step over all examples as they lie, `batch_size` of them.
    """
    if any(output.shape for output in program.outputs):
        raise CompileError(f"the minibatch loop sums the outputs of {program.name}, which must have shape ()")
    printer = _Printer(program, loop, Namespace([name, host_name(program)]))
    words = vars(printer.words)
    types = [
        type_alias(leaf, False, False).replace("_0d", "_2d") if leaf.name in loop.per_step else alias
        for leaf, alias in zip(leaves(program), leaf_types(program), strict=True)
    ]
    return function_text(
        name,
        ["i64", "i64", "i64", "i64", "const_i64_2d", *types, "u8_1d", "f64_2d", "u8_1d"],
        [*(words[key] for key in _STEPS), *printer.arguments.values(), *(words[key] for key in _MEMORY)],
        f"Runs steps {words['first']} to {words['last']} of epochs; adds outputs times batch sizes to their totals.",
        list(printer.lines()),
        void=True,
        options="BORROWING",
        later=True,
    )


_STEPS = ("first", "last", "batch_size", "block", "order")
_MEMORY = ("rows", "totals", "memory")
_LOCAL = ("epoch", "count", "begin", "k", "i", "row", "size")


class _Printer:
    """The names in a minibatch loop, and its lines."""

    def __init__(self, program: Program, loop: MinibatchLoop, names: Namespace) -> None:
        self.program, self.loop, self.claim = program, loop, names.claim
        self.words = SimpleNamespace(**{key: names.claim(key) for key in (*_STEPS, *_MEMORY, *_LOCAL)})
        self.arguments = {leaf: names.claim(leaf.name) for leaf in leaves(program)}
        self.dims = {each: names.claim(each) for each in program.dims if each != loop.batch}
        self.results = [names.claim(output.name) for output in program.outputs]

    def lines(self) -> Iterator[str]:
        """The body."""
        words = self.words
        yield from bind_dims(self.program, self.dims, self.arguments)
        yield f"{words.count} = {words.order}.shape[1]"
        yield f"for {words.epoch} in range({words.order}.shape[0]):"
        yield f"    if {words.count} == 0:  # a step over all examples as they lie"
        yield from _indented(2, self._step({}, "0", words.batch_size))
        yield "        continue"
        yield f"    {words.begin} = {words.block}"
        yield f"    for {words.k} in range({words.first}, {words.last}):"
        yield f"        if {words.begin} == {words.block}:  # the next examples"
        yield from _indented(3, self._gather())
        yield f"            {words.begin} = 0"
        yield f"        {words.size} = min({words.batch_size}, {words.count} - {words.k} * {words.batch_size})"
        batches = {buffer: self.claim(f"{buffer.name}_batch") for buffer in self.loop.batched(self.program)}
        for buffer, batch in batches.items():
            yield f"        {batch} = {self._rows(buffer, axis(words.begin), words.size)}"
        yield from _indented(2, self._step(batches, words.k, words.size))
        yield f"        {words.begin} += {words.batch_size}"

    def _gather(self) -> Iterator[str]:
        """The examples of some batches at once, so that reads from all over the data overlap."""
        words = self.words
        yield f"{words.size} = min({words.block}, {words.count} - {words.k} * {words.batch_size})"
        sizes = {**self.dims, self.loop.batch: words.batch_size}
        gathered = {buffer: self.claim(f"{buffer.name}_rows") for buffer in self.loop.batched(self.program)}
        for buffer, rows in gathered.items():
            yield f"{rows} = {self._rows(buffer, Affine(), words.size)}"
        yield f"for {words.i} in range({words.size}):"
        place = f"uintp({words.k} * {words.batch_size} + {words.i})"
        yield f"    {words.row} = uintp({words.order}[{words.epoch}, {place}])"
        for buffer, rows in gathered.items():
            axes = [self.claim("j") for _ in buffer.shape[1:]]
            for depth, (j, extent) in enumerate(zip(axes, buffer.shape[1:], strict=True), 1):
                yield f"{'    ' * depth}for {j} in range({extent_text(extent, sizes)}):"
            target, source = ", ".join((words.i, *axes)), ", ".join((words.row, *axes))
            yield f"{'    ' * (len(axes) + 1)}{rows}[{target}] = {self.arguments[buffer]}[{source}]"

    def _rows(self, buffer: Buffer, first: Affine, count: str) -> str:
        """Some of the gathered rows of an input."""
        block = {**self.dims, self.loop.batch: self.words.block}
        index = first * (product(buffer.shape[1:]) * buffer.dtype.itemsize)
        index += row_offsets(self.program, self.loop)[0][buffer]
        offset = ast.unparse(affine(index, {name: ast.Name(name) for name in index.variables}, block))
        shape = shape_text(buffer.shape, {**self.dims, self.loop.batch: count})
        return f"subarray({self.words.rows}, {offset}, {shape}, {dtype_name(buffer.dtype)})"

    def _step(self, batches: Mapping[Buffer, str], k: str, size: str) -> Iterator[str]:
        """Call, and sum."""
        words = self.words
        given = (
            f"{argument}[{words.epoch}, {k}]" if leaf.name in self.loop.per_step else batches.get(leaf, argument)
            for leaf, argument in self.arguments.items()
        )
        assigned = f"{', '.join(self.results)} = " if self.results else ""
        yield from filled(f"{assigned}{host_name(self.program)}(", [*given, words.memory], ")", indent=12)
        for position, (output, result) in enumerate(zip(self.program.outputs, self.results, strict=True)):
            value = f"{TO_FLOAT[output.dtype.name]}({result})" if is_half(output.dtype) else result
            yield f"{words.totals}[{words.epoch}, {position}] += {size} * {value}"


def _indented(depth: int, lines: Iterable[str]) -> Iterator[str]:
    return (f"{'    ' * depth}{line}" for line in lines)
