"""Where the threads of a block must wait for each other: before one touches what another has stored, or stores what
another still reads.

Threads run everything together but the loops that are dealt out to them. Two of these need no barrier between them
where each element belongs to one thread in both: where its indices say in the same way which iteration touches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphc.ir.dims import Extent
from graphc.ir.loops import (
    Accumulate,
    Barrier,
    Buffer,
    Combine,
    Comment,
    Index,
    Kernel,
    Load,
    Loop,
    Statement,
    Store,
    axis,
    walk,
)

# How a loop that is dealt out says which thread has an element: the loop's extents, pieces and lanes, and for each of
# its axes the position of the index where it stands alone; and the buffer, since in another alias of the same memory
# equal indices mean other elements. None: any thread may have it.
Owner: TypeAlias = "tuple[tuple[tuple[Extent, object, int], ...], tuple[int, ...], Buffer] | None"


@dataclass(frozen=True, slots=True)
class _Touch:
    """An access to memory that the kernel stores to."""

    buffer: Buffer
    stores: bool
    owner: Owner

    def clashes(self, other: _Touch) -> bool:
        """Whether one thread may store what another touches."""
        if not (self.stores or other.stores) or not self.buffer.may_overlap(other.buffer):
            return False
        return self.owner is None or self.owner != other.owner


def with_barriers(kernel: Kernel) -> Kernel:
    """The kernel with all barriers that its blocks need; the same one where none is missing."""
    grid = kernel.grid
    assert grid is not None
    stored = frozenset(buffer.root for buffer in kernel.writes if buffer.root.space != "local")
    body, _ = _placed(grid.body, frozenset(), stored)
    return kernel if body == grid.body else replace(kernel, body=(replace(grid, body=body),))


def nest(loop: Loop, kinds: Sequence[str] = ("threads",)) -> tuple[tuple[Loop, ...], tuple[Statement, ...]]:
    """A loop and those of some kinds that stand alone in each other, outer before inner; and the innermost's body.

    Those of kind threads are dealt out as one.
    """
    loops = [loop]
    while True:
        inner = [each for each in loops[-1].body if not isinstance(each, Comment)]
        if len(inner) != 1 or not isinstance(inner[0], Loop) or inner[0].kind not in kinds:
            return tuple(loops), loops[-1].body
        loops.append(inner[0])


def _placed(
    body: tuple[Statement, ...], before: frozenset[_Touch], stored: frozenset[Buffer]
) -> tuple[tuple[Statement, ...], frozenset[_Touch]]:
    """The statements with barriers, after some touches; and the touches since the last barrier."""
    touches, found = before, list[Statement]()
    for statement in body:
        if isinstance(statement, Barrier | Combine):  # for a total all wait too
            touches = frozenset()
        elif isinstance(statement, Loop) and statement.kind != "threads":
            inner, after = _placed(statement.body, touches, stored)
            while True:  # what an iteration leaves is what the next one finds
                again, after = _placed(inner, touches | after, stored)
                if again == inner:
                    break
                inner = again
            touches |= after
            statement = statement if inner == statement.body else replace(statement, body=inner)
        else:
            new = frozenset(_touches(statement, stored))
            if any(one.clashes(other) for one in new for other in touches):
                found.append(Barrier())
                touches = frozenset()
            touches |= new
        found.append(statement)
    return tuple(found), touches


def _touches(statement: Statement, stored: frozenset[Buffer]) -> Iterator[_Touch]:
    """What a statement, or a loop that is dealt out to threads, touches."""
    dealt = isinstance(statement, Loop)
    loops, body = nest(statement) if isinstance(statement, Loop) else ((), (statement,))
    for each in walk(body):
        match each:
            case Load(buffer=buffer, index=index):
                pass
            case Store(buffer=buffer, index=index) | Accumulate(target=Buffer() as buffer, index=index):
                pass
            case _:
                continue
        if buffer.root in stored:
            owner = _owner(loops, index, buffer) if dealt else None
            yield _Touch(buffer, not isinstance(each, Load), owner)


def _owner(loops: Iterable[Loop], index: Index, buffer: Buffer) -> Owner:
    places: list[int] = []
    for loop in loops:
        if loop.extent == 1:
            continue
        alone = [place for place, position in enumerate(index) if position == axis(loop.axis)]
        if not alone:
            return None
        places.append(alone[0])
    return tuple((loop.extent, loop.share, loop.lanes) for loop in loops), tuple(places), buffer

