"""A row: a stage as a group of stages under common outer loops sees it; and how rows are counted in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphc.ir.dims import Extent, product
from graphc.ir.loops import Load, Loop, Product, Statement, Store
from graphc.passes.stages import Axes, Stage

# LLVM unrolls a loop of so many iterations whole, and can vectorise the loop around it.
UNROLLED = 16
# From so many iterations on it pays to keep values of two widths apart: LLVM's vectors have as many elements as fit of
# the wider one.
WORTH_A_LOOP = 64
# How many rows a sum adds up in its own dtype before they are added to the wider one's sum: enough to make that cheap,
# and so few that rounding stays within this many half units in the last place of the sum of all magnitudes.
TILE = 16
# How many rows of a product a kernel goes on with while they are in cache: enough for the library to multiply at full
# speed. A whole number of tiles.
BLOCK = 8 * TILE


def tiles(rows: Extent, parts: int = 1) -> Extent:
    """Into how many equal tiles, of at most `TILE` rows, some rows are cut: as many in each of their parts."""
    return parts * (rows // (TILE * parts) + 1)


def blocks(rows: Extent, parts: int = 1) -> Extent:
    """Into how many equal blocks, of at most `BLOCK` rows, some rows are cut: as many in each of their parts."""
    return parts * (rows // (BLOCK * parts) + 1)


def recounted(loop: Loop, count: Extent) -> Loop:
    """A loop that counts pieces of rows as one that counts so many; in blocks of rows stand equally many tiles."""
    body: list[Statement] = []
    for each in loop.body:
        if isinstance(each, Loop) and each.share is not None and each.share[0] == loop.axis:
            each = replace(each, share=(loop.axis, count))
            if pieces_of(each) is not None:
                each = recounted(each, count * (BLOCK // TILE))
        elif isinstance(each, Product):
            each = replace(each, share=(loop.axis, count))
        body.append(each)
    return replace(loop, extent=count, body=tuple(body))


def pieces_of(loop: Loop) -> Loop | None:
    """The loop over pieces that a loop counts, be they of rows or of tiles of rows, where there may be any number of
    them: nothing beside them is loaded or stored by their number. None where it counts none."""
    inner = (each for each in loop.body if isinstance(each, Loop))
    pieces = next((each for each in inner if each.share == (loop.axis, loop.extent)), None)
    indices = (position for each in loop.body if isinstance(each, Load | Store) for position in each.index)
    return None if any(loop.axis in position.variables for position in indices) else pieces


@dataclass(frozen=True, slots=True)
class Row:
    """A stage as a group sees it: all its axes in `order`, the group's outer ones first."""

    stage: Stage
    order: Axes

    @classmethod
    def of(cls, stage: Stage) -> Row:
        """The stage with its axes in natural order."""
        return cls(stage, natural_order(stage))

    @property
    def widest(self) -> int:
        """The largest number of outer axes that this stage allows."""
        reduced = {name for name, _ in self.stage.reduce}
        rank = len(self.order)
        if len(reduced) in (0, rank):  # element by element, or one sum of all
            return rank
        leading = 0
        while leading < rank and self.order[leading][0] not in reduced:
            leading += 1
        return leading or max(rank - 1, min(rank, 1))

    def outer(self, rank: int) -> tuple[str, ...]:
        """The names of its outer axes."""
        return tuple(name for name, _ in self.order[:rank])

    def inner(self, rank: int) -> tuple[str, ...]:
        """The names of its inner axes."""
        return tuple(name for name, _ in self.order[rank:])

    def reduces_outer(self, rank: int) -> bool:
        """Whether it is finished only after the outer loops."""
        return bool({name for name, _ in self.stage.reduce} & set(self.outer(rank)))

    def widens(self, rank: int) -> bool:
        """Whether it is a sum over outer loops, in a wider dtype than its own, of many inner elements."""
        initial, count = self.stage.initial, product(size for _, size in self.order[rank:])
        if initial is None or initial.dtype == self.stage.buffer.dtype or not self.reduces_outer(rank):
            return False
        return not isinstance(count, int) or count >= WORTH_A_LOOP

    def tiled_loop(self, rank: int) -> int | None:
        """The outer loop whose iterations a widening sum may add up in its own dtype, a few at a time.

        It is the innermost one that is summed over: a tile has no other terms. None for any other stage.
        """
        reduced = {name for name, _ in self.stage.reduce}
        if self.stage.combine != "add" or not self.widens(rank) or reduced & set(self.inner(rank)):
            return None
        return max(k for k, name in enumerate(self.outer(rank)) if name in reduced)

    def sums_wide(self, rank: int) -> bool:
        """Whether it widens, and no loop can be cut into tiles for it."""
        return self.widens(rank) and self.tiled_loop(rank) is None

    def elements(self, rank: int) -> int:
        """How many inner loops are over the elements of a reduction, where those that reduce stand inside; else 0."""
        reduced = {name for name, _ in self.stage.reduce}
        inner = self.inner(rank)
        count = sum(name not in reduced for name in inner)
        finished = reduced and not reduced & {*self.outer(rank), *inner[:count]}
        return count if finished else 0


def natural_order(stage: Stage) -> Axes:
    """All axes of a stage in the order in which memory is walked: that of the load with the most of them.

    Axes that this load does not have stand before the output axes that they precede, or come last where they are
    reduced. A contraction whose inner loop would be a dot product of rows, or unrolls, sums innermost.
    """
    if stage.combine is None:
        return stage.axes
    if sums_innermost(stage):
        return (*stage.axes, *stage.reduce)
    extents = stage.extents
    order = max((_walked(load, extents) for load in stage.loads), key=len, default=[])
    after = ""
    for name, _ in reversed(stage.axes):
        if name not in order:
            order.insert(order.index(after) if after else len(order), name)
        after = name
    order += [name for name, _ in stage.reduce if name not in order]
    return tuple((name, extents[name]) for name in order)


def sums_innermost(stage: Stage) -> bool:
    """Whether a stage is a contraction (a sum over products, none of whose factors has all its axes) that had better
    finish one element after the other."""
    reduced = {name for name, _ in stage.reduce}
    walks = [_walked(load, stage.extents) for load in stage.loads]
    summed = [walk for walk in walks if reduced & set(walk)]
    if len(summed) < 2 or any(len(walk) == len(stage.extents) for walk in walks):
        return False
    count = product(extent for _, extent in stage.reduce)
    return (isinstance(count, int) and count <= UNROLLED) or all(walk[-1] in reduced for walk in summed)


def _walked(load: Load, extents: Mapping[str, Extent]) -> list[str]:
    """The axes that a load depends on, slowest first."""
    return list(dict.fromkeys(name for position in load.index for name in position.variables if name in extents))
