"""Deal: the loops of a block dealt out to its threads, and what only one of them may do."""

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
    loops, _ = nest(loop, KINDS)
    free = list(takewhile(independent, loops))
    inner = [each for each in walk((free or [loop])[-1].body) if isinstance(each, Loop)]
    longest = max(map(length, inner), default=0)
    if free and (prod(map(length, free)) >= longest or not any(map(independent, inner))):
        return _marked(free)
    return replace(loop, kind="serial", body=_dealt(loop.body))


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
        alone = isinstance(each, Store) or (
            isinstance(each, Accumulate) and (isinstance(each.target, Buffer) or each.target in partial)
        )
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
    return any(isinstance(each, Store) or isinstance(getattr(each, "target", None), Buffer) for each in walk(loop.body))


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
