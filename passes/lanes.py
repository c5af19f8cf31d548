"""Lanes: neighbouring iterations that one thread runs together, so that one instruction moves what they all touch.

A GPU's thread loads and stores up to 16 bytes at once where they lie side by side and begin at a multiple of their
size. That matters most for small elements: bfloat16 by itself keeps half of the path to memory empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from graphc.ir.barriers import nest
from graphc.ir.loops import (
    LANES,
    Accumulate,
    Buffer,
    Comment,
    Index,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Statement,
    Store,
    walk,
)
from graphc.passes.deal import length
from graphc.passes.inline import operation_cost
from graphc.passes.threads import used

# Bytes that one instruction moves for a thread; every buffer begins at a multiple of that.
ACCESS = 16
# Additions that the lanes of a thread may cost together: where they compute more, memory waits for them, and the
# compiler might not unroll their loop, which keeps what they move in registers. (By reasoning, not by measuring: an
# H100 does some 35 of them in the time in which it loads four bytes.)
MOST_WORK = 280
# What it costs to convert a half, by its dtype.
_HALVES = {"float16": 10, "bfloat16": 3}

Element: TypeAlias = "tuple[Buffer, Index]"
_Nest: TypeAlias = "tuple[tuple[Loop, ...], tuple[Statement, ...]]"


@dataclass(frozen=True)
class Moves:
    """What the lanes of a loop share.

    Attributes
    ----------
    common
        The statements that depend neither on the loop's axis nor on what the loop stores.
    own
        The others.
    loaded, stored
        Elements of memory, in order, each with those of the neighbouring iterations beside it.
    """

    common: tuple[Statement, ...]
    own: tuple[Statement, ...]
    loaded: tuple[Element, ...]
    stored: tuple[Element, ...]


def with_lanes(kernel: Kernel) -> Kernel:
    """The kernel with lanes for those loops on threads where all that lies side by side can be moved at once.

    Loops agree that go through pieces of one extent, or else they would see other pieces (those that no block counts
    stay as they are: other kernels may see them); and those that touch what the kernel stores, or else threads would
    wait for each other between them. A block that is alone waits for other things than memory.
    """
    grid = kernel.grid
    assert grid is not None
    nests = list(_nests(grid.body)) if grid.extent != 1 else []
    lanes = {
        id(loops[-1]): count
        for loops, body in nests
        if loops[-1].share is None or loops[-1].share[0] == grid.axis
        if (count := _count(loops, body, grid.threads)) > 1
    }
    tied = _tied(grid, kernel.writes, nests)
    while torn := next((each for each in tied if len({lanes.get(id(loop), 1) for loop in each}) > 1), None):
        for loop in torn:
            lanes.pop(id(loop), None)
    return replace(kernel, body=(replace(grid, body=_marked(grid.body, lanes)),)) if lanes else kernel


def _tied(grid: Loop, writes: Sequence[Buffer], nests: Sequence[_Nest]) -> list[list[Loop]]:
    """Loops of a kernel that must have the same lanes, or none."""
    pieces: dict[object, list[Loop]] = {}
    for each in walk(grid.body):
        if isinstance(each, Loop) and each.share is not None:
            pieces.setdefault((each.share, each.extent), []).append(each)
    touching = [(loops[-1], {buffer for each in body for buffer, _ in touched(each)}) for loops, body in nests]
    stored = [
        [loop for loop, buffers in touching if any(each.may_overlap(written) for each in buffers)] for written in writes
    ]
    return [*pieces.values(), *stored]


def moved_at_once(loop: Loop) -> Moves:
    """What the lanes of a loop load and store at once, and what they all need for that."""
    return _moves(loop.axis, loop.body)


def _nests(body: tuple[Statement, ...]) -> Iterator[_Nest]:
    """Loops on threads that are dealt out as one, with what they do, but for what only one thread does."""
    for each in body:
        if isinstance(each, Loop) and each.extent != 1:
            if each.kind == "threads":
                yield nest(each)
            else:
                yield from _nests(each.body)


def _count(loops: Sequence[Loop], body: tuple[Statement, ...], threads: int) -> int:
    """How many lanes loops with this body can have; 1 where something stands in the way."""
    straight = Let | IndexValue | Load | Store | Accumulate | Comment
    if not all(isinstance(each, straight) for each in body) or not _in_order(body):
        return 1
    moves = _moves(loops[-1].axis, body)
    sizes = [buffer.dtype.itemsize for buffer, _ in (*moves.loaded, *moves.stored)]
    most = min(ACCESS // max(sizes, default=ACCESS), MOST_WORK // (1 + sum(map(_cost, body))))
    for count in sorted(LANES, reverse=True):
        whole = len(loops) == 1 or loops[-1].extent % count == 0
        if count <= most and whole and all(_is_aligned(each, loops[-1].axis, moves, count) for each in body):
            # (Known extents are cut into so many blocks that below four million elements, roughly, threads have few.)
            known = all(isinstance(loop.extent, int) for loop in loops)
            return 1 if known and prod(map(length, loops)) < count * threads else count
    return 1


def _cost(statement: Statement) -> int:
    """What a statement costs, in additions."""
    dtype = getattr(statement, "dtype", statement.buffer.dtype if isinstance(statement, Load) else None)
    halves = _HALVES.get(dtype.name, 0) if dtype is not None else 0
    return halves + (operation_cost(statement) if isinstance(statement, Let) else 0)


def _moves(axis: str, body: tuple[Statement, ...]) -> Moves:
    common, own = list[Statement](), list[Statement]()
    varying = {axis}
    written = {buffer.root for buffer in Kernel("", body).writes}
    loaded, stored = dict[Element, None](), dict[Element, None]()
    for each in body:
        fixed = isinstance(each, Let | IndexValue | Load) and varying.isdisjoint(used(each))
        if fixed and not (isinstance(each, Load) and each.buffer.root in written):
            common.append(each)
            continue
        own.append(each)
        if isinstance(each, Let | IndexValue | Load):
            varying.add(each.name)
        for buffer, index in touched(each):
            if not _is_near(axis, buffer, index):
                continue
            if not isinstance(each, Store) and (buffer, index) not in stored:
                loaded[buffer, index] = None
            if not isinstance(each, Load):
                stored[buffer, index] = None
    return Moves(tuple(common), tuple(own), tuple(loaded), tuple(stored))


def touched(statement: Statement) -> Iterator[Element]:
    """The element that a statement touches in memory that a thread shares with others."""
    match statement:
        case Load(buffer=buffer, index=index) | Store(buffer=buffer, index=index):
            pass
        case Accumulate(target=Buffer() as buffer, index=index):
            pass
        case _:
            return
    if buffer.root.space != "local":
        yield buffer, index


def _is_near(axis: str, buffer: Buffer, index: Index) -> bool:
    """Whether neighbouring iterations touch what lies close together, so that threads that run one each share it."""
    step = dict(buffer.position(index).terms).get(axis, 0)
    return isinstance(step, int) and 0 < abs(step) < max(LANES)


def _is_aligned(statement: Statement, axis: str, moves: Moves, count: int) -> bool:
    """Whether what a statement touches side by side comes in groups of so many, each from a multiple of its size on."""
    own = {each.name for each in moves.own if isinstance(each, Let | IndexValue | Load)}
    for buffer, index in touched(statement):
        if not _is_near(axis, buffer, index):
            continue
        position = buffer.position(index) + buffer.start
        steps = dict(position.terms)
        known = own.isdisjoint(steps) and all(axis not in each.variables for each in index[:-1])
        plain = getattr(statement, "mask", None) is None and not getattr(statement, "atomic", False)
        multiples = (*(step for name, step in steps.items() if name != axis), position.offset)
        if not (plain and known and steps[axis] == 1 and all(each % count == 0 for each in multiples)):
            return False
    return True


def _in_order(body: Sequence[Statement]) -> bool:
    """Whether nothing is loaded from memory of all threads to which an iteration has stored something else before."""
    stored: dict[Buffer, set[Element]] = {}
    for each in body:
        for buffer, index in touched(each):
            before = stored.setdefault(buffer.root, set())
            if not isinstance(each, Store) and before - {(buffer, index)}:
                return False
            if not isinstance(each, Load):
                before.add((buffer, index))
    return True


def _marked(body: tuple[Statement, ...], lanes: Mapping[int, int]) -> tuple[Statement, ...]:
    return tuple(
        replace(each, lanes=lanes.get(id(each), 1), body=_marked(each.body, lanes)) if isinstance(each, Loop) else each
        for each in body
    )
