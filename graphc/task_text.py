"""Tasks as text: what a compiled program does, kernel by kernel, in words and as loop IR."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from graphc.ir.dims import NOMINAL, Extent, extent_names, nominal
from graphc.ir.factorizations import ROUTINES
from graphc.ir.loop_text import call_text, print_kernel
from graphc.ir.loops import SCRATCH, Arena, Buffer, Call, Kernel, Program
from graphc.passes.row_blocks import product_text
from graphc.passes.rows import BLOCK


def tasks_text(program: Program) -> str:
    """The kernels and library calls of a program in order, what was not fused and why, and the memory that it takes."""
    kernels = sum(isinstance(step, Kernel) for step in program.steps)
    calls = len(program.steps) - kernels
    products = sum(len(step.products) for step in program.steps if isinstance(step, Kernel))
    inside = f", {_count(products, 'library product')} inside of kernels" if products else ""
    blocks = [f"{program.name}: {_count(kernels, 'kernel')}, {_count(calls, 'library call')}{inside}\n"]
    for number, step in enumerate(program.steps, 1):
        lines = _kernel(step, program.dims) if isinstance(step, Kernel) else _call(step)
        blocks.append(f"{number}. " + "\n".join(lines) + "\n")
    blocks.append("".join(f"{line}\n" for line in _refusals(program)))
    if program.arena is not None:
        blocks.append(f"{_memory(program.arena)}\n")
    return "\n".join(blocks)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _kernel(kernel: Kernel, dims: Collection[str]) -> Iterator[str]:
    yield f"{kernel.name}: {kernel.origin}"
    if kernel.products:
        yield f"   has the library multiply up to {BLOCK} rows at a time, and goes on with them while they are in cache"
    written = kernel.writes
    scratch = [buffer for buffer in written if buffer.space in SCRATCH]
    if reads := [buffer for buffer in kernel.reads if buffer not in written]:
        yield f"   reads {_types(reads)}"
    yield f"   writes {_types([buffer for buffer in written if buffer not in scratch])}"
    if scratch:
        yield f"   keeps {_types(scratch)} to itself"
    # The first line would repeat what was said in words.
    first, *body = print_kernel(kernel, dims).splitlines()
    yield from (f"   {line}" for line in (first.partition("  //")[0], *body))


def _call(call: Call) -> Iterator[str]:
    if call.routine == "check_index":
        (index,) = call.operands
        yield f"{index.name}: every index lies within an axis of {call['extent']}, or the call raises FeedError"
    elif call.routine == "matmul":
        *operands, result = call.operands
        verb = "adds" if call["accumulate"] else "computes"
        yield f"{result.name}: a library product {verb} {product_text(call)}"
        yield f"   reads {_types(operands)}"
        yield f"   writes {_types([result])}"
    elif call.routine in ROUTINES:
        *work, result = call.writes
        yield f"{result.name}: {call.routine} of {' and '.join(buffer.name for buffer in call.reads)}, by the library"
        yield f"   reads {_types(call.reads)}"
        yield f"   writes {_types([result])}"
        if work:
            yield f"   works in {_types(work)}"
    elif call.routine == "argsort":
        keys, _, result = call.operands
        yield f"{result.name}: the order of {keys.name} along its last axis, by a stable merge sort"
        yield f"   reads {_types([keys])}"
        yield f"   writes {_types([result])}"
    elif call.routine == "searchsorted":
        keys, values, result = call.operands
        yield f"{result.name}: where {values.name} belong in {keys.name}, by binary search"
        yield f"   reads {_types([keys, values])}"
        yield f"   writes {_types([result])}"
    else:
        yield f"{call.routine}: a library call"
    yield f"   {call_text(call).strip()}"


def _types(buffers: Collection[Buffer]) -> str:
    return ", ".join(f"{buffer.name}: {buffer.type}" for buffer in buffers) or "nothing"


def _refusals(program: Program) -> Iterator[str]:
    if not program.refusals:
        yield "Nothing was refused: all that could be fused is."
        return
    yield "Not fused, and why:"
    yield from (f"  {refusal}" for refusal in program.refusals)


def _memory(arena: Arena) -> str:
    if not arena.offsets:
        return "Memory: nothing is kept between one kernel and the next."
    names = sorted(extent_names([arena.size]))
    text = f"Memory: an arena of {_bytes(arena.size)}"
    if names:
        text += f"; with {' = '.join([*names, str(NOMINAL)])} it is {_bytes(nominal(arena.size))}"
    return f"{text}. At most {_bytes(arena.lower_bound)} are live at once."


def _bytes(size: Extent) -> str:
    return f"{size:,} bytes" if isinstance(size, int) else f"{size} bytes"
