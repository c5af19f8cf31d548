"""Orient: where a sum over a short leading axis stands between stages, the long axis behind it is walked outermost.

Take a softmax over the components (the leading axis, 25) of N points: in memory order its maximum is complete only
after the loop over the components, and every stage that reads it walks all 25 x N values once more. With the points
outside, the maximum is a scalar of one point, and one pass over the points does it all, in scratch of 25 values.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.dims import product
from graphc.ir.loops import Buffer
from graphc.passes.rows import Row
from graphc.passes.stages import Stage

# So many rows of memory can be walked side by side: their lines of cache stay until the next element is read.
STREAMS = 64


def orient(stages: Sequence[Stage]) -> dict[Buffer, Row]:
    """The row of every stage, by the buffer that it computes."""
    rows = {stage.buffer: Row.of(stage) for stage in stages}
    places = {buffer: place for buffer, row in rows.items() if (place := long_axis(row))}
    turned = _connected(rows, places, _behind_sums(rows, places))
    return {buffer: _turn(row, places[buffer]) if buffer in turned else row for buffer, row in rows.items()}


def long_axis(row: Row) -> int:
    """The place of the first axis of unknown extent, where a few short axes stand before it; else 0."""
    place = next((k for k, (_, size) in enumerate(row.order) if not isinstance(size, int)), 0)
    before = product(size for _, size in row.order[:place])
    return place if isinstance(before, int) and before <= STREAMS else 0


def _behind_sums(rows: dict[Buffer, Row], places: dict[Buffer, int]) -> list[Buffer]:
    """The stages over short and long axes that need a reduction over the short ones, element by element."""
    behind: set[Buffer] = set()
    found: list[Buffer] = []
    for buffer, row in rows.items():
        needs = any(load.buffer in behind for load in row.stage.loads)
        if needs and buffer in places:
            found.append(buffer)
        if needs or _reduces_short(row, places.get(buffer, 0)):
            behind.add(buffer)
    return found


def _reduces_short(row: Row, place: int) -> bool:
    kept = dict(row.stage.axes)
    return place > 0 and row.order[place][0] in kept and any(name not in kept for name, _ in row.order[:place])


def _connected(rows: dict[Buffer, Row], places: dict[Buffer, int], start: Sequence[Buffer]) -> set[Buffer]:
    """The stages over short and long axes that read one another, from some of them on."""
    neighbours: dict[Buffer, list[Buffer]] = {buffer: [] for buffer in places}
    for buffer in places:
        for load in rows[buffer].stage.loads:
            if load.buffer in places:
                neighbours[buffer].append(load.buffer)
                neighbours[load.buffer].append(buffer)
    found = set(start)
    waiting = list(start)
    while waiting:
        for buffer in neighbours[waiting.pop()]:
            if buffer not in found:
                found.add(buffer)
                waiting.append(buffer)
    return found


def _turn(row: Row, place: int) -> Row:
    """The row with one axis outermost."""
    order = row.order
    return Row(row.stage, (order[place], *order[:place], *order[place + 1 :]))
