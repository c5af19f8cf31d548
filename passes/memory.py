"""Memory: where the arena and scratch buffers live, from their liveness.

Buffers that are never live at once share a slot; a slot is as large as its largest buffer, the arena as large as its
slots. Only sizes in the same dims share, so that one of them is known to be the larger. Extents may be symbolic: the
plan is made for a nominal size and holds for every one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from graphc.ir.dims import Dim, Extent, dim_max, extent_names, nominal
from graphc.ir.loops import Arena, Buffer, Program
from graphc.passes.in_place import reuse_in_place

ALIGNMENT = 64


@dataclass(frozen=True)
class PlanMemory:
    """The pass: a `Program` with its arena planned, after memory was reused in place (unless that was done before)."""

    in_place: bool = True
    name: str = "memory"

    def run(self, program: Program) -> Program:
        """Reuse memory in place, and plan the arena."""
        if self.in_place:
            program = reuse_in_place(program)
        return replace(program, arena=plan(program))


@dataclass
class _Slot:
    size: Extent
    buffers: list[Buffer]


def plan(program: Program) -> Arena:
    """Assign every arena and row buffer a slot, largest first among those born together."""
    lives = lifetimes(program)
    slots: list[_Slot] = []
    busy: list[tuple[int, int]] = []  # a heap: last use and number of the slots that are taken
    free: dict[frozenset[str], list[tuple[int, int]]] = {}  # by the dims in it: nominal size and number, sorted
    for buffer, (birth, death) in sorted(lives.items(), key=lambda item: (item[1][0], -nominal(item[0].nbytes))):
        while busy and busy[0][0] < birth:
            _, number = heappop(busy)
            size = slots[number].size
            insort(free.setdefault(extent_names([size]), []), (nominal(size), number))
        if fitting := free.get(extent_names([buffer.nbytes])):
            _, number = fitting.pop(_best(fitting, nominal(buffer.nbytes)))
            slots[number].size = dim_max(slots[number].size, buffer.nbytes)
            slots[number].buffers.append(buffer)
        else:
            number = len(slots)
            slots.append(_Slot(buffer.nbytes, [buffer]))
        heappush(busy, (death, number))
    offsets: dict[Buffer, Extent] = {}
    end: Extent = 0
    for slot in slots:
        offsets |= dict.fromkeys(slot.buffers, end)
        end = end + aligned(slot.size)
    placed = tuple((buffer, offsets[buffer]) for buffer in lives)
    return Arena(placed, end, _lower_bound(program, lives))


def lifetimes(program: Program) -> dict[Buffer, tuple[int, int]]:
    """For every arena and row buffer the first and last step that touches it (through aliases too)."""
    lives: dict[Buffer, tuple[int, int]] = {}
    for position, step in enumerate(program.steps):
        for buffer in step.buffers:
            root = buffer.root
            if root.space in ("arena", "row"):
                lives[root] = (lives.get(root, (position, position))[0], position)
    return lives


def aligned(nbytes: Extent) -> Extent:
    """A size rounded up so that what follows is aligned."""
    if isinstance(nbytes, Dim) and all(coefficient % ALIGNMENT == 0 for _, coefficient in nbytes.terms):
        return nbytes
    return (nbytes + (ALIGNMENT - 1)) // ALIGNMENT * ALIGNMENT


def _best(free: list[tuple[int, int]], size: int) -> int:
    """Where in a sorted list of free slots the first of the smallest that are large enough is, else of the largest."""
    at = bisect_left(free, (size, 0))
    return at if at < len(free) else bisect_left(free, (free[-1][0], 0))


def _lower_bound(program: Program, lives: dict[Buffer, tuple[int, int]]) -> Extent:
    """The most bytes live at once, at the nominal size."""
    levels = [0] * (len(program.steps) + 1)
    for buffer, (birth, death) in lives.items():
        levels[birth] += nominal(buffer.nbytes)
        levels[death + 1] -= nominal(buffer.nbytes)
    best = total = 0
    for change in levels:
        total += change
        best = max(best, total)
    return best
