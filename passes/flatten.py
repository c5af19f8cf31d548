"""Flatten: two loops that stand alone in each other as one, where they walk memory as one would.

Elements of a matrix need no row and column where all that is read and stored is matrices of its shape: as one vector
they are dealt out evenly, and nobody divides a position by the columns. A stack of matrices is one of all their rows.
The memory is the same, known under another shape (an alias).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from graphc.ir.loops import (
    SCRATCH,
    Accumulate,
    Buffer,
    Comment,
    Index,
    IndexValue,
    Kernel,
    Load,
    Loop,
    Product,
    Statement,
    Store,
    axis,
    walk,
)
from graphc.ir.types import Shape
from graphc.passes.fission import independent, moved
from graphc.passes.stages import free_name, on_element, rewritten

# A loop with the one that stands alone in it.
_Pair: TypeAlias = "tuple[Loop, Loop]"


@dataclass
class Shapes:
    """The aliases of a program's buffers under other shapes; their names go to those `taken`."""

    taken: set[str]
    known: dict[tuple[Buffer, Shape], Buffer] = field(default_factory=dict)

    def alias(self, base: Buffer, shape: Shape) -> Buffer:
        """A buffer under another shape."""
        if (base, shape) not in self.known:
            name = free_name(f"{base.name}_flat", self.taken)
            self.taken.add(name)
            self.known[base, shape] = Buffer(name, base.dtype, shape, "alias", base)
        return self.known[base, shape]


def flattened(kernel: Kernel, shapes: Shapes) -> Kernel:
    """The kernel with as many pairs of loops as one as can be."""
    given = set(kernel.buffers)
    while pairs := _pairs(kernel):
        kernel = _merged(kernel, pairs)
    new = {each: each.base for each in kernel.buffers if each not in given}
    return moved(kernel, {each: shapes.alias(base, each.shape) for each, base in new.items() if base is not None})


@dataclass(frozen=True, slots=True)
class _Access:
    """An element that a statement touches, and the loops around it."""

    buffer: Buffer
    index: Index
    loops: tuple[Loop, ...]

    def place(self, pair: _Pair) -> int | None:
        """Where in the index the two axes of a pair stand side by side, as they do in memory; else None."""
        outer, inner = (axis(loop.axis) for loop in pair)
        for place, both in enumerate(zip(self.index, self.index[1:], strict=False)):
            if both == (outer, inner) and self.buffer.shape[place + 1] == pair[1].extent:
                rest = (*self.index[:place], *self.index[place + 2 :])
                return None if _depends(rest, pair) else place
        return None


def _pairs(kernel: Kernel) -> dict[int, _Pair]:
    """The pairs of loops that can be one, by the identity of the outer one.

    A buffer is known under one shape in all of the kernel: what else touches it stands in such pairs too.
    """
    if any(isinstance(each, Product) for each in walk(kernel.body)):
        return {}
    pairs = {id(pair[0]): pair for pair in _candidates(kernel)}
    accesses = list(_accesses(kernel.body))
    while pairs:
        places: dict[Buffer, set[int | None]] = {}
        for access in accesses:
            found = {access.place(pair) for pair in _around(access, pairs) if _depends(access.index, pair)}
            places.setdefault(access.buffer, set()).update(found or {-1})
        bad = {
            buffer
            for buffer, found in places.items()
            if found != {-1} and (len(found) > 1 or None in found or buffer.root.space in SCRATCH)
        }
        wrong = {
            id(pair[0])
            for access in accesses
            if access.buffer in bad
            for pair in _around(access, pairs)
            if _depends(access.index, pair)
        }
        if not wrong:
            return pairs
        pairs = {key: pair for key, pair in pairs.items() if key not in wrong}
    return {}


def _candidates(kernel: Kernel) -> Iterator[_Pair]:
    """Pairs of whole loops, of one kind or both free, whose axes nothing but indices needs; none that share a loop.

    What stands alone in a loop sets its scratch itself before it reads it.
    """
    scratch = {each for each in kernel.buffers if each.root.space in SCRATCH}
    shared = {each.share[0] for each in walk(kernel.body) if isinstance(each, Loop) and each.share is not None}
    inner_ones: set[int] = set()
    for outer in walk(kernel.body):
        if not isinstance(outer, Loop) or id(outer) in inner_ones:
            continue
        body = [each for each in outer.body if not isinstance(each, Comment)]
        if len(body) != 1 or not isinstance(inner := body[0], Loop):
            continue
        if inner.kind != outer.kind and not (outer.kind == "parallel" and independent(inner, scratch)):
            continue
        whole = outer.share is inner.share is None and not shared & {outer.axis, inner.axis}
        pair = outer, inner
        read = any(isinstance(each, IndexValue) and _depends((each.index,), pair) for each in walk(inner.body))
        if whole and not read and not _is_unit(pair):
            inner_ones.add(id(inner))
            yield pair


def _is_unit(pair: _Pair) -> bool:
    return any(loop.extent == 1 for loop in pair)


def _depends(index: Index, pair: _Pair) -> bool:
    axes = {loop.axis for loop in pair}
    return any(not axes.isdisjoint(position.variables) for position in index)


def _around(access: _Access, pairs: Mapping[int, _Pair]) -> list[_Pair]:
    return [pairs[id(loop)] for loop in access.loops if id(loop) in pairs]


def _accesses(body: tuple[Statement, ...]) -> Iterator[_Access]:
    stack: list[tuple[Statement, tuple[Loop, ...]]] = [(each, ()) for each in reversed(body)]
    while stack:
        statement, loops = stack.pop()
        match statement:
            case Loop():
                stack += [(each, (*loops, statement)) for each in reversed(statement.body)]
            case Load(buffer=buffer, index=index) | Store(buffer=buffer, index=index):
                yield _Access(buffer, index, loops)
            case Accumulate(target=Buffer() as buffer, index=index):
                yield _Access(buffer, index, loops)


def _merged(kernel: Kernel, pairs: Mapping[int, _Pair]) -> Kernel:
    """The kernel with each pair of loops as one; its buffers under other shapes have no names of their own yet."""

    def one(pair: _Pair) -> Loop:
        """One loop, by whose axis alone everything is indexed that was by both."""
        outer, inner = pair

        def element(buffer: Buffer, index: Index) -> tuple[Buffer, Index]:
            place = _Access(buffer, index, ()).place(pair)
            if place is None:
                return buffer, index
            return _reshaped(buffer, place), (*index[: place + 1], *index[place + 2 :])

        body = rewritten(inner.body, lambda each: (on_element(each, element),))
        return replace(outer, extent=outer.extent * inner.extent, body=body)

    def merge(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        found: list[Statement] = []
        for each in body:
            if isinstance(each, Loop):
                merged = one(pairs[id(each)]) if id(each) in pairs else each
                each = replace(merged, body=merge(merged.body))
            found.append(each)
        return tuple(found)

    return replace(kernel, body=merge(kernel.body))


def _reshaped(buffer: Buffer, place: int) -> Buffer:
    """The buffer with two of its axes as one."""
    base = buffer.base if buffer.base is not None and buffer.base.name == buffer.name else buffer
    one = buffer.shape[place] * buffer.shape[place + 1]
    return Buffer(base.name, base.dtype, (*buffer.shape[:place], one, *buffer.shape[place + 2 :]), "alias", base)
