"""Loops of a kernel that need not wait for each other, and a kernel of several loops as several kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeGuard

from graphc.ir.loops import (
    SCRATCH,
    Accumulate,
    Accumulator,
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
    axis,
    walk,
)
from graphc.passes.stages import at_indices, free_name, on_element, rewritten, uses
from graphc.passes.threads import is_own, needed, outermost_rows, own_axes, used


def independent(loop: Loop, own_memory: Collection[Buffer] = ()) -> bool:
    """Whether no iteration of a loop touches what another one stores, but for sums, which are put together after it.

    Whoever runs some of the iterations has `own_memory` for themselves, and threads their local memory.
    """
    own = own_axes(loop)
    stored: dict[Buffer, set[tuple[Buffer, Index]]] = {}
    declared: set[str] = set()
    summed: set[str] = set()
    for each in walk(loop.body):
        match each:
            case Accumulate(atomic=True):
                pass
            case Store(buffer=buffer) | Accumulate(target=Buffer() as buffer) if (
                buffer in own_memory or buffer.root.space == "local"
            ):
                pass
            case Store(buffer=buffer, index=index) | Accumulate(target=Buffer() as buffer, index=index):
                if not is_own(index, own):
                    return False
                stored.setdefault(buffer.root, set()).add((buffer, index))
            case Accumulator(name=name):
                declared.add(name)
            case Accumulate(target=str(name)):
                summed.add(name)
    for each in walk(loop.body):
        if isinstance(each, Load) and each.buffer.root in stored:
            stored[each.buffer.root].add((each.buffer, each.index))
        if not (summed - declared).isdisjoint(used(each)):
            return False
    return all(
        not one[0].may_overlap(other[0]) or (one[0] == other[0] and _meet(one[1], other[1], own))
        for touched in stored.values()
        for one, other in combinations(touched, 2)
    )


def _meet(one: Index, other: Index, own: set[str]) -> bool:
    """Whether two indices that mean the same element belong to the same iteration."""
    return any(left == right and own & set(left.variables) for left, right in zip(one, other, strict=True))


def with_free_rows(kernel: Kernel) -> Kernel:
    """The kernel, unless it has rows, with outermost loops marked whose iterations do not depend on each other."""
    if outermost_rows(kernel) is not None:
        return kernel
    body = tuple(
        replace(each, kind="parallel")
        if isinstance(each, Loop) and each.kind == "serial" and independent(each) and not _is_start(each)
        else each
        for each in kernel.body
    )
    return replace(kernel, body=body)


def _is_start(statement: Statement) -> bool:
    """Whether a loop, or a statement that needs none, sets the numbers that sums start from."""
    return all(
        isinstance(each, Loop | Comment) or (isinstance(each, Store) and not isinstance(each.value, str))
        for each in walk((statement,))
    )


def apart(kernel: Kernel, taken: set[str]) -> list[Kernel]:
    """A kernel of several outermost loops as several kernels, where none needs a sum of another one.

    Loops that set what sums start from stay with the loop that adds to them. Scalars are computed wherever they are
    needed.
    """
    body = _side_by_side(kernel.body)
    groups = _groups(body)
    if len(groups) == 1:
        return [replace(kernel, body=body)]
    bound = _bound(body)
    scalars = tuple(each for each in body if isinstance(each, Let | IndexValue | Load) and each.name not in bound)
    kernels: list[Kernel] = []
    main = max(groups, key=lambda group: sum(1 for _ in walk(tuple(group))))
    for group in groups:
        written = Kernel("", tuple(group)).writes
        views = dict.fromkeys(buffer.name for buffer in written if buffer.root.space not in SCRATCH)
        views = views or dict.fromkeys(buffer.name for buffer in written)
        name = free_name(next(iter(views), kernel.name), taken)
        taken.add(name)
        origin = kernel.origin if group is main else f"{', '.join(views)}, of {kernel.name}"
        kernels.append(Kernel(name, (*needed(scalars, tuple(group)), *group), origin))
    return _with_common_scratch(kernels)


def _with_common_scratch(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels with scratch that several of them use in the arena."""
    users = Counter(buffer for kernel in kernels for buffer in {each.root for each in kernel.buffers})
    common = {each: replace(each, space="arena") for each in users if each.space in SCRATCH and users[each] > 1}
    return [moved(kernel, common) for kernel in kernels]


def moved(kernel: Kernel, new: Mapping[Buffer, Buffer]) -> Kernel:
    """The kernel with some buffers in other places."""

    def move(statement: Statement) -> tuple[Statement, ...]:
        return (on_element(statement, lambda buffer, index: (new.get(buffer, buffer), index)),)

    return replace(kernel, body=rewritten(kernel.body, move)) if new else kernel


def _side_by_side(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """Neighbouring loops over equally many iterations as one, where its iterations do not depend on each other."""
    found: list[Statement] = []
    for each in body:
        before = found[-1] if found else None
        if isinstance(each, Loop) and isinstance(before, Loop) and before.extent == each.extent:
            same = tuple(at_indices(inner, {each.axis: axis(before.axis)}) for inner in each.body)
            both = replace(before, kind="parallel", body=(*before.body, *same))
            flat = not any(isinstance(inner, Loop) for inner in each.body)
            starts = _is_start(before) or _is_start(each)
            plain = flat and not starts and before.share is each.share is None
            if plain and independent(before) and independent(both):
                found[-1] = both
                continue
        found.append(each)
    return tuple(found)


def _bound(body: Sequence[Statement]) -> set[str]:
    """The outermost scalars that must be computed where they stand: sums, what follows from them or from memory that
    is stored to."""
    written = {buffer.root for buffer in Kernel("", tuple(body)).writes}
    bound = {each.name for each in body if isinstance(each, Accumulator)}
    for each in body:
        match each:
            case Load(name=name, buffer=buffer) if buffer.root in written or bound.intersection(uses(each)):
                bound.add(name)
            case Let(name=name) | IndexValue(name=name) if bound.intersection(uses(each)):
                bound.add(name)
    return bound


def _groups(body: Sequence[Statement]) -> list[list[Statement]]:
    """The statements that must stay together, each group after those whose memory it touches.

    What shares a sum, or a scalar that follows from one, stays together; so do sums and what sets their start.
    """
    import networkx  # 0.1 s, which programs for the CPU do without

    order, bound = networkx.DiGraph(), _bound(body)
    acting = [
        place
        for place, each in enumerate(body)
        if not (isinstance(each, Comment) or (isinstance(each, Let | IndexValue | Load) and each.name not in bound))
    ]
    order.add_nodes_from(acting)
    facts = {place: _Facts.of(body[place]) for place in acting}
    for k, later in enumerate(acting):
        for earlier in acting[:k]:
            if facts[earlier].stays_with(facts[later]):
                order.add_edges_from([(earlier, later), (later, earlier)])
            elif facts[earlier].comes_before(facts[later]):
                order.add_edge(earlier, later)
    together = networkx.condensation(order)
    members = networkx.get_node_attributes(together, "members")
    sorted_groups = networkx.lexicographical_topological_sort(together, key=lambda group: min(members[group]))
    return [[body[place] for place in sorted(members[group])] for group in sorted_groups]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an outermost statement of a kernel makes and needs: names of scalars and sums, and memory."""

    makes: frozenset[str]
    needs: frozenset[str]
    stores: frozenset[Buffer]
    loads: frozenset[Buffer]
    sums: frozenset[Buffer]
    starts: bool

    @classmethod
    def of(cls, statement: Statement) -> _Facts:
        """Read them off."""
        kernel = Kernel("", (statement,))
        every = list(walk((statement,)))
        sums = {each.target for each in every if isinstance(each, Accumulate) and not each.atomic}
        names = {each.name for each in every if isinstance(each, Let | IndexValue | Load | Accumulator)}
        needs = {*(name for each in every for name in used(each)), *filter(_is_name, sums)}
        inside = isinstance(statement, Loop)  # whose names nothing outside of it knows
        return cls(
            frozenset(() if inside else names),
            frozenset(needs - names if inside else needs),
            frozenset(buffer.root for buffer in kernel.writes),
            frozenset(buffer.root for buffer in kernel.reads),
            frozenset(each.root for each in sums if isinstance(each, Buffer)),
            _is_start(statement),
        )

    def stays_with(self, later: _Facts) -> bool:
        """Whether a later statement needs a scalar or sum of this one, or adds to what it sets."""
        return bool(self.makes & later.needs or (self.starts and self.stores & later.sums))

    def comes_before(self, later: _Facts) -> bool:
        """Whether a later statement touches memory that this one stores to, or stores to what it loads."""
        return bool(self.stores & (later.stores | later.loads) or self.loads & later.stores)


def _is_name(target: str | Buffer) -> TypeGuard[str]:
    return isinstance(target, str)
