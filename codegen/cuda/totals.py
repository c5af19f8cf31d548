"""Which shared memory the threads of a block add up in: so that they need not wait before they use it again.

Threads wait once for each total, between what each stores there and what all read. Who is through may go on and store
for the next total while others still read, so that one is elsewhere; when it is complete, all have read the one before.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from graphc.ir.loops import Barrier, Combine, Loop, Statement


@dataclass
class Places:
    """The place of each `Combine`, by its identity, and those before which threads must wait after all.

    That is the only total of a loop, which uses its place again in the next iteration.
    """

    of: dict[int, int] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)

    @classmethod
    def in_body(cls, body: tuple[Statement, ...]) -> Places:
        """Find places for the totals of a kernel."""
        places = cls()
        places._visit(body, frozenset(), frozenset())
        return places

    def _visit(self, body: tuple[Statement, ...], read: frozenset[int], first: Collection[int]) -> frozenset[int]:
        """The places that may still be read after some statements, before which some may be; `first` is what the loop
        around them begins with."""
        for statement in body:
            match statement:
                case Combine():
                    free = (place for place in range(len(read) + len(first) + 1) if place not in {*read, *first})
                    place = self.of.setdefault(id(statement), next(free))
                    if place in read:
                        self.waiting.add(id(statement))
                    read, first = frozenset((place,)), first or (place,)
                case Barrier():
                    read = frozenset()
                case Loop(kind=kind, body=inner) if kind != "threads":
                    after = self._visit(inner, read, ())
                    read |= self._visit(inner, after, ()) | after  # what an iteration leaves is what the next one finds
        return read
