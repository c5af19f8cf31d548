"""The minibatch loop around a step's host function: it gathers a batch's rows, steps, and sums what the step returns.

One call runs as many steps as the caller likes; between calls Python draws progress and sees Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphc.codegen.host_text import bind_dims, extent_text, host_name, leaf_types, leaves, shape_text
from graphc.codegen.kernel_text import type_alias
from graphc.codegen.module_text import filled, function_text
from graphc.codegen.names import Namespace, dtype_name
from graphc.ir.dims import Extent, dim
from graphc.ir.errors import CompileError
from graphc.ir.loops import Buffer, Program


@dataclass(frozen=True, slots=True)
class MinibatchLoop:
    """Which inputs of a step come from where.

    Attributes
    ----------
    batch
        The batch dim. Inputs whose first axis it is are given whole and gathered by rows.
    per_step
        Inputs of shape () that are given as arrays with an element for each step of the epoch: ``lr``, ``t``.
    """

    batch: str
    per_step: tuple[str, ...] = ()

    def batched(self, program: Program) -> tuple[Buffer, ...]:
        """The inputs that are gathered by rows."""
        return tuple(buffer for buffer in program.inputs if buffer.shape and buffer.shape[0] == dim(self.batch))


def loop_name(program: Program) -> str:
    """The name of the minibatch loop in a program's module."""
    return f"{host_name(program)}_loop"


def row_offsets(program: Program, loop: MinibatchLoop) -> tuple[dict[Buffer, Extent], Extent]:
    """Where the rows of each batched input are gathered in one block of memory, in bytes, and the size of the block.

    In extents of the batch dim, which stands for the largest batch. Wide elements come first, so all are aligned.
    """
    offsets: dict[Buffer, Extent] = {}
    total: Extent = 0
    for buffer in sorted(loop.batched(program), key=lambda buffer: -buffer.dtype.itemsize):
        offsets[buffer] = total
        total = total + buffer.nbytes
    return offsets, total


def loop_text(program: Program, loop: MinibatchLoop, name: str) -> str:
    """Print the loop.

    It takes ``first, last, batch_size, order``; what the host function takes, but arrays with an element a step for the
    inputs `per_step`; ``rows``, the memory of a batch (see `row_offsets`); ``totals``, float64, to which it adds each
    output times its batch's size; and the step's workspace, ``memory``. Step k reads the examples
    ``order[k * batch_size : (k + 1) * batch_size]``, fewer at the end; steps `first` to `last` (not included) are run.
    """
    if any(output.shape for output in program.outputs):
        raise CompileError(f"the minibatch loop sums the outputs of {program.name}, which must have shape ()")
    names = Namespace([name, host_name(program)])
    fixed = {key: names.claim(key) for key in ("first", "last", "batch_size", "order", "rows", "totals", "memory")}
    local = {key: names.claim(key) for key in ("k", "begin", "size", "i", "row")}
    arguments = {leaf: names.claim(leaf.name) for leaf in leaves(program)}
    types = [
        type_alias(leaf, False, False).replace("_0d", "_1d") if leaf.name in loop.per_step else alias
        for leaf, alias in zip(leaves(program), leaf_types(program), strict=True)
    ]
    dims = {each: names.claim(each) for each in program.dims}
    others = {each: text for each, text in dims.items() if each != loop.batch}
    body = [
        *bind_dims(program, others, arguments),
        f"for {local['k']} in range({fixed['first']}, {fixed['last']}):",
        *(f"    {line}" for line in _step(program, loop, names, {**fixed, **local}, arguments, dims)),
    ]
    return function_text(
        name,
        ["i64", "i64", "i64", "const_i64_1d", *types, "u8_1d", "f64_1d", "u8_1d"],
        [*list(fixed.values())[:4], *arguments.values(), fixed["rows"], fixed["totals"], fixed["memory"]],
        f"Runs steps {fixed['first']} to {fixed['last']} of an epoch; adds outputs times batch sizes to totals.",
        body,
        void=True,
    )


def _step(
    program: Program,
    loop: MinibatchLoop,
    names: Namespace,
    words: Mapping[str, str],
    arguments: Mapping[Buffer, str],
    dims: Mapping[str, str],
) -> Iterator[str]:
    """The lines of one step: gather, call, sum."""
    k, begin, size, i, row = (words[key] for key in ("k", "begin", "size", "i", "row"))
    order, limit = words["order"], words["batch_size"]
    yield f"{begin} = {k} * {limit}"
    yield f"{size} = min({limit}, {order}.shape[0] - {begin})"
    batches: dict[Buffer, str] = {}
    for buffer, offset in row_offsets(program, loop)[0].items():
        batches[buffer] = names.claim(f"{buffer.name}_batch")
        place = extent_text(offset, {**dims, loop.batch: limit})
        shape = shape_text(buffer.shape, {**dims, loop.batch: size})
        yield f"{batches[buffer]} = subarray({words['rows']}, {place}, {shape}, {dtype_name(buffer.dtype)})"
    yield f"for {i} in range({size}):"
    yield f"    {row} = uintp({order}[uintp({begin} + {i})])"
    for buffer, batch in batches.items():
        axes = [names.claim("j") for _ in buffer.shape[1:]]
        for depth, (axis, size_j) in enumerate(zip(axes, buffer.shape[1:], strict=True)):
            yield f"{'    ' * (depth + 1)}for {axis} in range({extent_text(size_j, {**dims, loop.batch: size})}):"
        target, source = ", ".join((i, *axes)), ", ".join((row, *axes))
        yield f"{'    ' * (len(axes) + 1)}{batch}[{target}] = {arguments[buffer]}[{source}]"
    given = (
        f"{argument}[{k}]" if leaf.name in loop.per_step else batches.get(leaf, argument)
        for leaf, argument in arguments.items()
    )
    results = [names.claim(output.name) for output in program.outputs]
    assigned = f"{', '.join(results)} = " if results else ""
    yield from filled(f"{assigned}{host_name(program)}(", [*given, words["memory"]], ")", indent=8)
    for position, result in enumerate(results):
        yield f"{words['totals']}[{position}] += {size} * {result}"
