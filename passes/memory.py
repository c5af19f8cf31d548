"""Memory: where the arena and scratch buffers live, from their liveness.

Buffers that are never live at once share a slot; a slot is as large as its largest buffer, the arena as large as its
slots. Only sizes in the same dims share, so that one of them is known to be the larger. Extents may be symbolic: the plan is made for a nominal size and holds for every one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphc.ir.dims import Dim, Extent, dim_max, extent_names
from graphc.ir.loops import Arena, Buffer, Kernel, Program, Step

NOMINAL = 1024
ALIGNMENT = 64


@dataclass(frozen=True)
class PlanMemory:
    """The pass: a `Program` with its arena planned."""

    name: str = "memory"

    def run(self, program: Program) -> Program:
        """Plan the arena."""
        return replace(program, arena=plan(program))


@dataclass
class _Slot:
    size: Extent
    last_use: int
    buffers: list[Buffer]


def plan(program: Program) -> Arena:
    """Assign every arena and row buffer a slot, largest first among those born together."""
    lives = lifetimes(program)
    slots: list[_Slot] = []
    for buffer, (birth, death) in sorted(lives.items(), key=lambda item: (item[1][0], -nominal(item[0].nbytes))):
        names = extent_names([buffer.nbytes])
        free = [slot for slot in slots if slot.last_use < birth and extent_names([slot.size]) == names]
        slot = min(free, key=lambda slot: _growth(slot, buffer), default=None)
        if slot is None:
            slots.append(_Slot(buffer.nbytes, death, [buffer]))
            continue
        slot.size = dim_max(slot.size, buffer.nbytes)
        slot.last_use = death
        slot.buffers.append(buffer)
    offsets: dict[Buffer, Extent] = {}
    size: Extent = 0
    for slot in slots:
        offsets |= dict.fromkeys(slot.buffers, size)
        size = size + aligned(slot.size)
    placed = tuple((buffer, offsets[buffer]) for buffer in lives)
    return Arena(placed, size, _lower_bound(program, lives))


def lifetimes(program: Program) -> dict[Buffer, tuple[int, int]]:
    """For every arena and row buffer the first and last step that touches it (through aliases too)."""
    lives: dict[Buffer, tuple[int, int]] = {}
    for position, step in enumerate(program.steps):
        for buffer in touched(step):
            root = buffer.root
            if root.space in ("arena", "row"):
                lives[root] = (lives.get(root, (position, position))[0], position)
    return lives


def touched(step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step reads or writes."""
    return step.buffers if isinstance(step, Kernel) else step.operands


def aligned(nbytes: Extent) -> Extent:
    """A size rounded up so that what follows is aligned."""
    if isinstance(nbytes, Dim) and all(coefficient % ALIGNMENT == 0 for _, coefficient in nbytes.terms):
        return nbytes
    return (nbytes + (ALIGNMENT - 1)) // ALIGNMENT * ALIGNMENT


def nominal(extent: Extent) -> int:
    """A size with every symbolic dim at its nominal value."""
    return extent.bind(dict.fromkeys(extent_names([extent]), NOMINAL)) if isinstance(extent, Dim) else extent


def _growth(slot: _Slot, buffer: Buffer) -> tuple[int, int]:
    """How well a buffer fits a free slot: least growth first, then least waste."""
    difference = nominal(buffer.nbytes) - nominal(slot.size)
    return (max(difference, 0), max(-difference, 0))


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
