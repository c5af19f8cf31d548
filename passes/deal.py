"""Deal: the loops of a block dealt out to its threads, and what only one of them may do.

Threads of a warp that read neighbours in memory read them at once, so long rows are dealt out element by element, each
row to all threads. Where rows are shorter than a warp is wide, each thread has rows of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import takewhile
from math import prod

from graphc.ir.barriers import nest
from graphc.ir.dims import nominal
from graphc.ir.loops import (
    KINDS,
    Accumulate,
    Accumulator,
    Buffer,
    Combine,
    Kernel,
    Loop,
    Statement,
    Store,
    walk,
)
from graphc.passes.fission import independent
from graphc.passes.stages import free_name
from graphc.passes.threads import local_names

# The threads that run in step, and the fewest that a block is given.
WARP = 32
# How many elements of a row each thread has: enough to load some while it waits for others, and so few that all threads
# have some.
ELEMENTS = 8


def on_threads(kernel: Kernel) -> Kernel:
    """The kernel with loops dealt out to the threads of a block, and their totals combined."""
    grid = kernel.grid
    assert grid is not None
    once = free_name("once", local_names(kernel))
    body = _dealt(grid.body)
    partial = {
        each.target
        for loop in walk(body)
        if isinstance(loop, Loop) and loop.kind == "threads"
        for each in walk(loop.body)
        if isinstance(each, Accumulate) and isinstance(each.target, str)
    }
    return replace(kernel, body=(replace(grid, body=_combined(_by_one(body, partial, once), partial)),))


def _dealt(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(_loop_dealt(each) if isinstance(each, Loop) else each for each in body)


def _loop_dealt(loop: Loop) -> Loop:
    """The loop with what stands alone in it, or else loops inside of it, on threads: where most can work at once."""
    free = _free(loop)
    inner = [_free(each) for each in walk((free or [loop])[-1].body) if isinstance(each, Loop)]
    longest = max(map(_iterations, filter(None, inner)), default=0)
    if free and (not any(inner) or _has_local(loop) or (longest < WARP and longest <= _iterations(free))):
        return _marked(free)
    return replace(loop, kind="serial", body=_dealt(loop.body))


def _free(loop: Loop) -> list[Loop]:
    """The outermost loops of a nest whose iterations are independent: they can be dealt out as one."""
    return list(takewhile(lambda each: independent(each) and not _is_for_all(each), nest(loop, KINDS)[0]))


def _is_for_all(loop: Loop) -> bool:
    """Whether all threads must run a loop: it counts pieces, or they meet in it, or each does it in memory of its own.

    (They share the rows of a block, whatever each of them keeps for its own.)
    """
    meets = any(isinstance(each, Combine) for each in walk(loop.body))
    return meets or _counts(loop) or (loop.share is None and _has_local(loop))


def _has_local(loop: Loop) -> bool:
    """Whether each thread needs memory of its own in a loop."""
    return any(buffer.root.space == "local" for buffer in Kernel("", (loop,)).buffers)


def _counts(loop: Loop) -> bool:
    """Whether a loop counts pieces that loops inside of it go through, which can be dealt out themselves."""
    inner = (each for each in walk(loop.body) if isinstance(each, Loop))
    return any(each.share is not None and each.share[0] == loop.axis and independent(each) for each in inner)


def _iterations(loops: Sequence[Loop]) -> int:
    """How often the innermost of some loops runs, roughly; pieces count as the whole that they are pieces of."""
    return prod(nominal(each.extent) for each in loops)


def blocks_for(rows: Loop, threads: int) -> int:
    """On how many blocks of so many threads rows of known extent keep all threads busy."""
    assert isinstance(rows.extent, int)
    full = -(-_iterations(_free(rows)) // threads) if _dealt_whole(rows) else rows.extent
    return max(1, min(rows.extent, full))


def _dealt_whole(rows: Loop) -> bool:
    """Whether each thread gets rows of its own."""
    return _loop_dealt(rows).kind == "threads"


def threads_for(rows: Loop, most: int) -> int:
    """How many threads a block needs for its rows: a power of two, at most `most` and at least a warp."""
    if _dealt_whole(rows):
        return most
    return enough(_widest(_loop_dealt(rows).body) // ELEMENTS, most)


def threads_for_some(rows: Loop, blocks: int, most: int) -> int:
    """The same where each thread has some of so many rows, which should be on all of some blocks; else, and where their
    number is not known, `most`."""
    if not _dealt_whole(rows) or not isinstance(rows.extent, int):
        return most
    return enough(-(-_iterations(_free(rows)) // blocks), most)


def threads_for_all(body: tuple[Statement, ...], most: int) -> int:
    """The same for a block that runs alone: as many as can work at once."""
    return enough(_widest(_dealt(body)), most)


def enough(wanted: int, most: int) -> int:
    """So many threads as a block can have: a power of two, and at least a warp."""
    return min(most, max(WARP, 1 << (wanted - 1).bit_length()))


def _widest(body: tuple[Statement, ...]) -> int:
    """The most iterations that are dealt out as one."""
    nests = (nest(each)[0] for each in walk(body) if isinstance(each, Loop) and each.kind == "threads")
    return max(map(_iterations, nests), default=1)


def _marked(loops: Sequence[Loop]) -> Loop:
    """Loops that stand alone in each other dealt out; what is inside of them stays with one thread."""
    marked = replace(loops[-1], kind="threads", body=_as_serial(loops[-1].body))
    for outer in reversed(loops[:-1]):
        body = tuple(marked if isinstance(each, Loop) else each for each in outer.body)
        marked = replace(outer, kind="threads", body=body)
    return marked


def _as_serial(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(
        replace(each, kind="serial", body=_as_serial(each.body)) if isinstance(each, Loop) else each for each in body
    )


def length(loop: Loop) -> int:
    """How many iterations a loop has, roughly: a nominal number where it is symbolic."""
    return nominal(loop.extent) // max(1, nominal(loop.share[1]) if loop.share is not None else 1)


def _by_one(body: tuple[Statement, ...], partial: Collection[str], once: str) -> tuple[Statement, ...]:
    """Statements that only one thread may run in loops of one iteration: stores, and additions to partial totals."""
    found: list[Statement] = []
    for each in body:
        alone = _stores(each) or (isinstance(each, Accumulate) and each.target in partial)
        if isinstance(each, Loop) and each.kind != "threads":
            dealt = any(isinstance(inner, Loop) and inner.kind == "threads" for inner in walk(each.body))
            alone = not dealt and _acts(each) and not _summed(each)
            # Of a loop that counts on a sum, all threads run everything but what is stored.
            body = _as_serial(each.body) if alone else _by_one(each.body, partial, once)
            each = replace(each, body=body)
        if not alone:
            found.append(each)
        elif found and isinstance(found[-1], Loop) and found[-1].axis == once:
            found[-1] = replace(found[-1], body=(*found[-1].body, each))
        else:
            found.append(Loop(once, 1, "threads", (each,)))
    return tuple(found)


def _acts(loop: Loop) -> bool:
    """Whether a loop stores anything, so that one thread alone must run it."""
    return any(map(_stores, walk(loop.body)))


def _stores(statement: Statement) -> bool:
    """Whether a statement stores to memory that others see."""
    match statement:
        case Store(buffer=buffer) | Accumulate(target=Buffer() as buffer):
            return buffer.root.space != "local"
    return False


def _combined(body: tuple[Statement, ...], partial: Collection[str]) -> tuple[Statement, ...]:
    """Each partial total combined after the last loop that adds to it."""
    ops = {each.target: each.op for each in walk(body) if isinstance(each, Accumulate) and isinstance(each.target, str)}
    declared = [each.name for each in body if isinstance(each, Accumulator) and each.name in partial]
    last = {
        name: max(place for place, each in enumerate(body) if isinstance(each, Loop) and name in _summed(each))
        for name in declared
    }
    found: list[Statement] = []
    for place, each in enumerate(body):
        if isinstance(each, Loop) and each.kind != "threads":
            each = replace(each, body=_combined(each.body, partial))
        found.append(each)
        found += [Combine(name, ops[name]) for name in declared if last[name] == place]
    return tuple(found)


def _summed(loop: Loop) -> set[str]:
    return {each.target for each in walk(loop.body) if isinstance(each, Accumulate) and isinstance(each.target, str)}
