"""Join: neighbouring kernels as one, where no block needs what another one computes: to launch a kernel takes longer
than many a kernel runs.

What runs on one block can follow anything else that does: its threads wait for each other (`ir/barriers.py`). Of
kernels on many blocks, each must touch only what the same block of the other one stores to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from graphc.ir.dims import Extent, nominal
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Buffer,
    Call,
    Combine,
    Index,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Statement,
    Step,
    Store,
    axis,
    walk,
)
from graphc.passes.fission import with_free_rows
from graphc.passes.stages import free_name, new_value, substitute_index, substitute_statement
from graphc.passes.threads import Splitting, accumulated, local_names, outermost_rows, why_not_split, work

# Work of one core, in picoseconds, up to which a kernel may share another one's blocks.
SMALL = 10**9
# How many steps back a kernel looks for one to be joined with.
REACH = 8
# Bytes that the threads of a block share, at most: a kernel has so many where it compiles for every card.
MOST_SHARED = 32_768
# Arrays and statements of a joined kernel, at most. (Numba hands over five numbers for an array and two for each axis,
# and CUDA takes 32 KB of them; the compiler's time grows with the statements.)
MOST_BUFFERS, MOST_STATEMENTS = 64, 300


def joined(steps: Sequence[Step]) -> list[Step]:
    """The steps with as few kernels on blocks as can be.

    A small kernel moves to the other one's place, over what touches none of its memory.
    """
    found: list[Step] = []
    for step in steps:
        if not isinstance(step, Kernel) or not _is_joined(found, step):
            found.append(step)
    return found


def _is_joined(found: list[Step], kernel: Kernel) -> bool:
    """Whether a kernel was put together with one of the steps before it."""
    for place in range(len(found) - 1, max(-1, len(found) - 1 - REACH), -1):
        other, between = found[place], found[place + 1 :]
        if not isinstance(other, Kernel) or (both := _both(other, kernel)) is None:
            continue
        if not between or (_is_small(kernel) and not any(_touch_both(kernel, each) for each in between)):
            found[place] = both
            return True
        if _is_small(other) and not any(_touch_both(other, each) for each in between):
            found[place:] = [*between, both]
            return True
    return False


def _touch_both(one: Step, other: Step) -> bool:
    """Whether two steps must stay in their order: one touches what the other stores to, or checks."""

    def changed(step: Step) -> tuple[Buffer, ...]:
        return step.reads if isinstance(step, Call) and step.routine == "check_index" else step.writes

    pairs = (*product(changed(one), other.buffers), *product(changed(other), one.buffers))
    return any(one.may_overlap(other) for one, other in pairs)


def _both(first: Kernel, second: Kernel) -> Kernel | None:
    """Two kernels as one, or None."""
    if not (_is_small(first) or _is_small(second)) or _is_too_large(first, second):
        return None
    one, other = _grid(first), _grid(second)
    if one.extent == other.extent == 1 or not _clashes(first, second):
        return _in_turn(first, second)
    if other.extent == 1:
        second = _cut(second, one) or second
    same = _grid(second).extent == one.extent
    return _in_turn(first, second) if same and all(map(_in_one_block, _clashes(first, second))) else None


def _grid(kernel: Kernel) -> Loop:
    assert kernel.grid is not None
    return kernel.grid


def _is_small(kernel: Kernel) -> bool:
    size = work(kernel)
    return isinstance(size, int) and size < SMALL


def _is_too_large(first: Kernel, second: Kernel) -> bool:
    return (
        shared_bytes(first) + shared_bytes(second) > MOST_SHARED
        or len({*first.buffers, *second.buffers}) > MOST_BUFFERS
        or sum(1 for kernel in (first, second) for _ in walk(kernel.body)) > MOST_STATEMENTS
    )


def shared_bytes(kernel: Kernel) -> int:
    """Bytes that the threads of a block share in a kernel."""
    return sum(nominal(each.nbytes) for each in kernel.buffers if each.space == "shared")


def _in_turn(first: Kernel, second: Kernel) -> Kernel:
    """A kernel whose blocks do one thing after the other; those of the kernel with fewer of them are shared out."""
    second = _with_other_names(second, first)
    one, other = _grid(first), _grid(second)
    grid = max(one, other, key=lambda each: (each.extent, each.threads))
    bodies = (_on_blocks_of(each, grid) for each in (one, other))
    body = tuple(statement for each in bodies for statement in each)
    origin = "; ".join(dict.fromkeys(each for each in (first.origin, second.origin) if each))
    name = first.name if one.extent >= other.extent else second.name
    return Kernel(name, (replace(grid, body=body),), origin)


def _on_blocks_of(loop: Loop, grid: Loop) -> tuple[Statement, ...]:
    """What the blocks of one kernel do, on the blocks of another."""
    if loop.extent == grid.extent:
        return _with_names(loop.body, {loop.axis: grid.axis})
    return (replace(loop, kind="serial", threads=0, share=(grid.axis, grid.extent)),)


def _cut(kernel: Kernel, grid: Loop) -> Kernel | None:
    """A kernel of one block with pieces of its rows on as many blocks as another one has."""
    whole = with_free_rows(replace(kernel, body=_grid(kernel).body))
    rows = outermost_rows(whole)
    if rows is None or why_not_split(whole) or accumulated(rows):
        return None
    cut = Splitting(whole, nominal(grid.extent), set(), "blocks").kernels()
    return replace(cut[0], body=(replace(_grid(cut[0]), threads=grid.threads),)) if len(cut) == 1 else None


# dependences ----------------------------------------------------------------------------------------------------------

# Where an index says which block touches an element: its position, and the extent of which each block has a piece.
_Place: TypeAlias = "tuple[int, Extent]"


@dataclass(frozen=True, slots=True)
class _Touch:
    """An access to memory, and the places that say which block makes it."""

    buffer: Buffer
    stores: bool
    places: frozenset[_Place]


def _clashes(first: Kernel, second: Kernel) -> list[tuple[_Touch, _Touch]]:
    """Accesses of two kernels that may touch the same element, which one of them stores to."""
    roots = {each.root for each in first.buffers} & {each.root for each in second.buffers}
    one, other = ([each for each in _touches(_grid(kernel)) if each.buffer.root in roots] for kernel in (first, second))
    pairs = (pair for pair in product(one, other) if pair[0].stores or pair[1].stores)
    return [pair for pair in pairs if pair[0].buffer.may_overlap(pair[1].buffer)]


def _in_one_block(pair: tuple[_Touch, _Touch]) -> bool:
    """Whether it is the same block that touches an element in both kernels."""
    one, other = pair
    return one.buffer == other.buffer and bool(one.places & other.places)


def _touches(grid: Loop) -> Iterator[_Touch]:
    extents = {grid.axis: grid.extent, **_pieces(grid)}

    def places(index: Index) -> frozenset[_Place]:
        alone = ((k, name) for k, each in enumerate(index) for name in each.variables if each == axis(name))
        return frozenset((k, extents[name]) for k, name in alone if name in extents)

    for each in walk(grid.body):
        match each:
            case Load(buffer=buffer, index=index):
                yield _Touch(buffer, False, places(index))
            case Store(buffer=buffer, index=index) | Accumulate(target=Buffer() as buffer, index=index):
                yield _Touch(buffer, True, places(index))


# names ----------------------------------------------------------------------------------------------------------------


def _with_other_names(kernel: Kernel, before: Kernel) -> Kernel:
    """The kernel with other names for axes and scalars that are called like one of the kernel before it.

    What goes through the same pieces on the same blocks is called the same.
    """
    own, taken = local_names(kernel), local_names(before)
    known = taken | own
    new: dict[str, str] = {}
    for name in sorted(own & taken - set(kernel.dim_names)):
        new[name] = free_name(name, known)
        known.add(new[name])
    grid, pieces = _grid(kernel), {extent: name for name, extent in _pieces(_grid(before)).items()}
    if grid.extent == _grid(before).extent:
        new |= {name: pieces[extent] for name, extent in _pieces(grid).items() if extent in pieces}
    axis_name = new.get(grid.axis, grid.axis)
    return replace(kernel, body=(replace(grid, axis=axis_name, body=_with_names(grid.body, new)),))


def _pieces(grid: Loop) -> dict[str, Extent]:
    """The axes that go through a block's piece of some extent."""
    share = grid.axis, grid.extent
    return {each.axis: each.extent for each in walk(grid.body) if isinstance(each, Loop) and each.share == share}


def _with_names(body: tuple[Statement, ...], new: Mapping[str, str]) -> tuple[Statement, ...]:
    """Statements with axes and scalars renamed."""
    variables = {old: axis(name) for old, name in new.items()}

    def at(index: Index) -> Index:
        return tuple(substitute_index(position, variables) for position in index)

    def renamed(statement: Statement) -> Statement:
        match statement:
            case Loop(axis=name, share=share, body=inner):
                share = None if share is None else (new.get(share[0], share[0]), share[1])
                return replace(statement, axis=new.get(name, name), share=share, body=_with_names(inner, new))
            case Store(index=index, value=value):
                return replace(statement, index=at(index), value=new_value(value, new))
            case Accumulate(target=target, index=index, value=value):
                target = new.get(target, target) if isinstance(target, str) else target
                return replace(statement, target=target, index=at(index), value=new_value(value, new))
            case Accumulator(name=name):
                return replace(statement, name=new.get(name, name))
            case Combine(target=target):
                return replace(statement, target=new.get(target, target))
            case Let() | IndexValue() | Load():
                return substitute_statement(statement, variables, new)
        return statement

    return tuple(map(renamed, body)) if new else body
