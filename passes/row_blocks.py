"""Row blocks: a matrix product and the kernel that follows it, for a block of rows at a time, while these are in cache.

By itself a product writes all of its result to memory, from where the next kernel reads it again. Where that kernel
goes through the rows one by one, both run in one loop over blocks of rows: the library multiplies those of a block, and
the kernel's own loop goes on with them.

    for block in N//128+1 parallel {
      matmul(x, w, transpose_b=false, accumulate=false) -> h piece block of N//128+1
      for i in N serial piece block of N//128+1 { ... h[i, j] ... }
    }
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeGuard

from graphc.ir.dims import extent_names
from graphc.ir.loops import Buffer, Call, Kernel, Load, Loop, Product, Step, axis, walk
from graphc.passes.rows import BLOCK, TILE, blocks, pieces_of, recounted
from graphc.passes.stages import free_name
from graphc.passes.threads import local_names, outermost_rows, why_not_split

# The library packs the second operand again for each block: with up to so many elements that costs less than what the
# cache saves, with four times as many nothing is left.
SMALL = 32_768
# With fewer blocks of known rows there is little to save.
FEWEST = 4


def in_row_blocks(steps: Sequence[Step], refusals: list[str]) -> tuple[Step, ...]:
    """The steps of a program, each product in the kernel that first reads it where that is legal and pays."""
    kept: list[Step | None] = list(steps)
    seen: set[int] = set()  # the products that a kernel was found for
    for position, kernel in enumerate(steps):
        if not isinstance(kernel, Kernel):
            continue
        found: list[Call] = []  # what moves into this kernel, in order
        read = _with_bases(kernel.reads)
        for place in range(position - 1, -1, -1):
            call = kept[place]
            if place in seen or not _is_product(call) or not read.intersection(call.writes):
                continue
            seen.add(place)
            between = [step for step in kept[place + 1 : position] if step is not None]
            if reason := why_not_later(call, between) or why_not_in_blocks(call, kernel, found) or why_not_paying(call):
                refusals.append(f"{call.operands[-1].name}: not multiplied in row blocks of {kernel.name}: {reason}")
                continue
            found.insert(0, call)
            read |= _with_bases(call.operands[:1])
            kept[place] = None
        if found:
            kept[position] = merged(kernel, found)
    return tuple(step for step in kept if step is not None)


def _is_product(step: Step | None) -> TypeGuard[Call]:
    return isinstance(step, Call) and step.routine == "matmul"


# legality -------------------------------------------------------------------------------------------------------------


def why_not_later(call: Call, between: Sequence[Step]) -> str | None:
    """The reason why a product may not run after the steps that follow it, or None."""
    out = call.operands[-1]
    operands = {buffer.root for buffer in call.operands}
    for step in between:
        if any(buffer.root == out.root for buffer in step.reads):
            return f"another step reads {out.name} before"
        if changed := next((buffer for buffer in step.writes if buffer.root in operands), None):
            return f"{changed.name} is stored to before"
    return None


def why_not_in_blocks(call: Call, kernel: Kernel, later: Sequence[Call]) -> str | None:
    """The reason why a product may not run by blocks of the rows of a kernel, before products that do, or None."""
    a, out = call.operands[0], call.operands[-1]
    if any(len(buffer.shape) != 2 for buffer in call.operands):
        return "it is not one product of two matrices"
    if call["transpose_a"]:
        return f"its rows are columns of {a.name}"
    if reason := why_not_split(kernel):
        return f"the kernel's loop cannot be cut: {reason}"
    rows = row_loop(kernel)
    if rows.extent != out.shape[0]:
        return f"it has {out.shape[0]} rows, and the kernel's loop {rows.extent}"
    return _why_not_stored(call, kernel, later) or _why_not_read(call, kernel, later)


def _why_not_stored(call: Call, kernel: Kernel, later: Sequence[Call]) -> str | None:
    """Why what a product touches may change while it runs by blocks; a later product may add to its result."""
    a, b, out = call.operands
    steps: tuple[Step, ...] = kernel, *later
    for step in steps:
        for buffer in step.writes:
            added = buffer == out and step is not kernel
            if buffer.root in (a.root, b.root, out.root) and not added:
                return f"{buffer.name} is stored to meanwhile"
    return None


def _why_not_read(call: Call, kernel: Kernel, later: Sequence[Call]) -> str | None:
    """Why rows of its result may be read before they are computed."""
    out = call.operands[-1]
    rows = row_loop(kernel)
    inside = {id(statement) for statement in walk(rows.body)}
    for load in walk(kernel.body):
        if not isinstance(load, Load) or load.buffer.root != out.root:
            continue
        if load.buffer != out or id(load) not in inside or load.index[0] != axis(rows.axis):
            return f"{load.buffer.name} is read at other rows than the loop's own"
    for left, right, _ in (each.operands for each in later):
        if right.root == out.root or (left.root == out.root and left != out):
            return f"another product reads more of {out.name} than these rows"
    return None


def why_not_paying(call: Call) -> str | None:
    """The reason why blocks would not make a product and its reader faster, or None."""
    _, b, out = call.operands
    rows, size = out.shape[0], b.type.size
    if b.dtype.name not in ("float32", "float64"):
        return f"the library has no products of {b.dtype}"
    if not isinstance(size, int):
        return f"{b.name} may be large"
    if size > SMALL:
        return f"{b.name} has {size:,} elements, and from {SMALL:,} on blocks cost more than they save"
    if isinstance(rows, int) and rows < FEWEST * BLOCK:
        return f"{rows} rows are few: fewer than {FEWEST} blocks"
    return None


def row_loop(kernel: Kernel) -> Loop:
    """The loop over rows: the outermost one, or where that counts tiles of them the one inside."""
    rows = outermost_rows(kernel)
    assert rows is not None
    return pieces_of(rows) or rows


# merging --------------------------------------------------------------------------------------------------------------


def merged(kernel: Kernel, calls: Sequence[Call]) -> Kernel:
    """The kernel with its loop over rows in blocks, each of which begins with its rows of some products."""
    rows = outermost_rows(kernel)
    assert rows is not None
    extent = calls[0].operands[-1].shape[0]
    block, count = free_name("block", local_names(kernel) | extent_names([extent])), blocks(extent)
    products: list[Product] = []
    for call in calls:
        a, b, out = call.operands
        products.append(Product(a, b, out, call["transpose_b"], call["accumulate"], (block, count)))
    inner = rows if pieces_of(rows) is None else recounted(rows, count * (BLOCK // TILE))
    kind = "serial" if rows.kind == "parallel" else rows.kind  # (only the outermost loop has row scratch for each turn)
    inner = replace(inner, kind=kind, share=(block, count))
    whole = Loop(block, count, rows.kind, (*products, inner))
    body = tuple(whole if each is rows else each for each in kernel.body)
    text = ", ".join(map(product_text, calls))
    return replace(kernel, body=body, origin=f"in blocks of rows: {text}; {kernel.origin}")


def product_text(call: Call) -> str:
    """A product as users write it: ``x @ w.T``."""
    flags = "transpose_a", "transpose_b"
    return " @ ".join(
        f"{buffer.name}{'.T' if call[flag] else ''}" for buffer, flag in zip(call.operands[:2], flags, strict=True)
    )


def _with_bases(buffers: Iterable[Buffer]) -> set[Buffer]:
    """Buffers, and what they are parts of."""
    found: set[Buffer] = set()
    for buffer in buffers:
        part: Buffer | None = buffer
        while part is not None:
            found.add(part)
            part = part.base
    return found
