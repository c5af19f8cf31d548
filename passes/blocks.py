"""Blocks: which stages of a group share their inner loops, and in what order these loops stand.

A stage goes into the first block with its inner extents that comes after every finished reduction it needs. A cheap
value of an earlier block is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from graphc.ir.dims import Extent, product
from graphc.ir.loops import Buffer, Load, axis
from graphc.passes.inline import cost, expand
from graphc.passes.rows import Row
from graphc.passes.stages import Stage

# A value that crosses blocks and costs no more than this (in additions) is computed again instead of stored. (A copy,
# which costs nothing, was kept for its layout.)
RECOMPUTE = 4


@dataclass
class Block:
    """Inner loops over `extents`, and the rows whose statements stand in them."""

    extents: tuple[Extent, ...]
    rows: list[Row] = field(default_factory=list)

    def takes(self, row: Row, rank: int) -> bool:
        """Whether a row may share the inner loops: those of sums that finish element by element have them to themselves
        and to what they read, so that they vectorise over the elements; sums in wider dtypes have them to themselves.
        """
        if self.extents != tuple(size for _, size in row.order[rank:]):
            return False
        if row.sums_wide(rank) != self.rows[-1].sums_wide(rank):
            return False
        here = {other.stage.buffer for other in self.rows}
        reads = any(load.buffer in here for load in row.stage.loads)
        return reads or row.elements(rank) == self.rows[-1].elements(rank)


def place(rows: Sequence[Row], rank: int, needed: frozenset[Buffer]) -> list[Block]:
    """The blocks of a group, in order."""
    blocks: list[Block] = []
    placed: dict[Buffer, tuple[Row, int]] = {}
    for row in rows:
        row, earliest = _ready(row, rank, placed, needed)
        if row.stage.buffer.root.space == "param":  # overwritten last: every read sees the old value
            earliest = max(earliest, len(blocks) - 1)
        extents = tuple(size for _, size in row.order[rank:])
        index = next((k for k in range(earliest, len(blocks)) if blocks[k].takes(row, rank)), len(blocks))
        if index == len(blocks):
            blocks.append(Block(extents))
        blocks[index].rows.append(row)
        placed[row.stage.buffer] = (row, index)
    return _without_dead(blocks, needed)


def _ready(
    row: Row, rank: int, placed: dict[Buffer, tuple[Row, int]], needed: frozenset[Buffer]
) -> tuple[Row, int]:
    """The first block that a row may stand in, and the row with cheap values of earlier blocks computed again."""
    while True:
        earliest = 0
        again: dict[Buffer, Stage] = {}
        for load in row.stage.loads:
            if load.buffer not in placed:
                continue
            producer, index = placed[load.buffer]
            if producer.stage.combine is None and same_inner(producer, row, load, rank):
                earliest = max(earliest, index)
            else:
                earliest = max(earliest, index + 1)
        for load in row.stage.loads:
            producer, index = placed.get(load.buffer, (row, earliest))
            crosses = index < earliest and producer.stage.combine is None and producer.order[rank:]
            work = cost(producer.stage) * times_computed(row, load.buffer, rank)
            if crosses and load.buffer not in needed and isinstance(work, int) and 0 < work <= RECOMPUTE:
                again[load.buffer] = producer.stage
        if not again:
            return row, earliest
        row = replace(row, stage=expand(row.stage, again))


def times_computed(reader: Row, buffer: Buffer, rank: int) -> Extent:
    """How often the reader's inner loops would compute an element of a value: once for each place that they read it at,
    and again in each loop around the ones that it depends on."""
    times: Extent = 0
    for index in {load.index for load in reader.stage.loads if load.buffer == buffer}:
        used = {name for position in index for name in position.variables}
        inner = reader.order[rank:]
        depth = max((k for k, (name, _) in enumerate(inner) if name in used), default=0)
        times = times + product(size for name, size in inner[:depth] if name not in used)
    return times


def same_inner(producer: Row, reader: Row, load: Load, rank: int) -> bool:
    """Whether a load reads what the same iteration of equal inner loops has just computed."""
    if [size for _, size in producer.order[rank:]] != [size for _, size in reader.order[rank:]]:
        return not producer.order[rank:]
    places = {name: k for k, (name, _) in enumerate(producer.stage.axes)}
    return load.mask is None and all(
        load.index[places[theirs]] == axis(mine)
        for theirs, mine in zip(producer.inner(rank), reader.inner(rank), strict=True)
    )


def _without_dead(blocks: list[Block], needed: frozenset[Buffer]) -> list[Block]:
    """The blocks without stages that everybody recomputes."""
    while True:
        read = {load.buffer for block in blocks for row in block.rows for load in row.stage.loads}
        dead = [
            (block, row)
            for block in blocks
            for row in block.rows
            if row.stage.buffer not in read and row.stage.buffer not in needed and row.stage.combine is None
        ]
        if not dead:
            return [block for block in blocks if block.rows]
        for block, row in dead:
            block.rows.remove(row)


def crossing_values(blocks: Sequence[Block]) -> frozenset[Buffer]:
    """The values that a later block reads."""
    block_of = {row.stage.buffer: k for k, block in enumerate(blocks) for row in block.rows}
    return frozenset(
        load.buffer
        for k, block in enumerate(blocks)
        for row in block.rows
        for load in row.stage.loads
        if block_of.get(load.buffer, k) != k
    )


# words ----------------------------------------------------------------------------------------------------------------


def describe(blocks: Sequence[Block], rank: int, post: Sequence[Stage]) -> str:
    """What a kernel does, in words: a clause for each block of inner loops."""
    clauses: list[str] = []
    for block in blocks:
        over = f" over {_extents(block.extents)}" if block.extents else ""
        clauses.append(", ".join(dict.fromkeys(_result(row.stage) for row in block.rows)) + over)
    text = "; ".join(clauses)
    if rank:
        first = next(row for block in blocks for row in block.rows)
        text = f"for each of {_extents(tuple(size for _, size in first.order[:rank]))}: {text}"
    if post:
        text += f"; then {', '.join(stage.origin for stage in post)}"
    return text


def _result(stage: Stage) -> str:
    return f"{REDUCTION_WORDS[stage.combine]} {stage.origin}" if stage.combine else stage.origin


def _extents(extents: tuple[Extent, ...]) -> str:
    return " x ".join(map(str, extents))


REDUCTION_WORDS = {
    "add": "the sum", "multiply": "the product", "maximum": "the maximum", "minimum": "the minimum",
    "logical_or": "any of", "logical_and": "all of",
}  # fmt: skip
