"""Assemble: the loops of one group of stages, as one kernel.

Under the outer loops stands a sequence of blocks, each a nest of inner loops (see `blocks`). A value used in its own
block is a scalar, a value of the outer index alone is a scalar too; one that crosses blocks is kept in row scratch.
Statements stand in the outermost loop that binds their variables. Long sums of columns are summed by tiles of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphc.ir.dims import Extent, extent_names
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Affine,
    Buffer,
    Const,
    Index,
    Kernel,
    Let,
    Load,
    Loop,
    Statement,
    Store,
    Straight,
    Value,
    axis,
)
from graphc.ir.types import Shape
from graphc.passes.blocks import Block, crossing_values, describe, place
from graphc.passes.rows import Row, tiles
from graphc.passes.stages import (
    Stage,
    accumulator_name,
    as_indices,
    free_name,
    narrowed,
    substitute_index,
    substitute_statement,
    uses,
    without_unit_loops,
)

AXIS_NAMES = "ijklmnpqrst"


def assemble(
    rows: Sequence[Row], rank: int, post: Sequence[Stage], needed: frozenset[Buffer], taken: set[str]
) -> Kernel:
    """One kernel for the rows under `rank` outer loops, and the scalar stages after them.

    `needed` are the buffers that others read: the rest stays inside. Scratch gets names that are not `taken`.
    """
    read_after = {load.buffer for stage in post for load in stage.loads}
    blocks = place(rows, rank, needed | read_after)
    producers = {row.stage.buffer: row for block in blocks for row in block.rows}
    assembly = _Assembly(rank, needed, producers, crossing_values(blocks), taken)
    loops = (row.tiled_loop(rank) for row in producers.values())
    assembly.tiled_loop = max((loop for loop in loops if loop is not None), default=None)
    assembly.choose_axes(blocks, post)
    outer_extents = tuple(size for _, size in rows[0].order[:rank])
    for block in blocks:
        assembly.add_block(block)
    for row in (row for block in blocks for row in block.rows):
        if row.reduces_outer(rank):
            assembly.finish_outer(row)
    for stage in post:
        assembly.add_post(stage)
    kind = "reduce" if any(row.reduces_outer(rank) for row in assembly.producers.values()) else "parallel"
    body = tuple(assembly.outer)
    for k in range(rank - 1, -1, -1):  # iterations of the outermost loop alone have row scratch of their own
        shared = k > 0 and kind == "parallel" and assembly.has_scratch
        loop = Loop(assembly.axes[k], outer_extents[k], "serial" if shared else kind, body)
        body = assembly.in_tiles(loop) if k == assembly.tiled_loop else (loop,)
    last = post[-1] if post else rows[-1].stage
    body = without_unit_loops((*assembly.before, *body, *assembly.after))
    return Kernel(last.buffer.name, body, describe(blocks, rank, post))


# statements -------------------------------------------------------------------------------------------------


@dataclass
class _Assembly:
    """The kernel under construction: statements before, inside and after the outer loops."""

    rank: int
    needed: frozenset[Buffer]
    producers: dict[Buffer, Row]
    crossing: frozenset[Buffer]
    taken: set[str]
    dims: frozenset[str] = frozenset()  # of the extents
    axes: list[str] = field(default_factory=list)
    before: list[Statement] = field(default_factory=list)
    outer: list[Statement] = field(default_factory=list)
    after: list[Statement] = field(default_factory=list)
    inner: list[list[Statement]] = field(default_factory=list)
    ends: list[list[Statement]] = field(default_factory=list)  # of the inner loops' bodies, after deeper loops
    stores: list[Statement] = field(default_factory=list)
    values: dict[Buffer, Value] = field(default_factory=dict)  # scalars at hand
    totals: dict[Buffer, str] = field(default_factory=dict)  # accumulators
    scratch: dict[Buffer, Buffer] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)  # of axes and scalars: 0 none, 1 outer, 2.. inner
    has_scratch: bool = False
    tiled_loop: int | None = None  # which of the outer loops runs in tiles
    tiled: list[tuple[Buffer, Buffer]] = field(default_factory=list)  # sums of a tile's rows, and of all
    tile: str = ""  # the axis that counts tiles
    known: list[dict[object, Value]] = field(default_factory=list)  # per level: equal statements, once

    def choose_axes(self, blocks: Sequence[Block], post: Sequence[Stage]) -> None:
        """Names for the loops that no value and no dim has."""
        stages = [*(row.stage for block in blocks for row in block.rows), *post]
        self.dims = extent_names(extent for stage in stages for extent in stage.extents.values())
        taken = set(self.dims)
        taken |= {getattr(statement, "name", "") for stage in stages for statement in stage.body}
        taken |= {load.buffer.name for stage in stages for load in stage.loads}
        taken |= {stage.buffer.name for stage in stages}
        depth = self.rank + max((len(block.extents) for block in blocks), default=0)
        letters = [name for name in AXIS_NAMES if name not in taken]
        letters += [name for k in range(depth + len(taken)) if (name := f"axis{k}") not in taken]
        self.axes = letters[:depth]
        self.levels = {name: 1 if k < self.rank else 2 + k - self.rank for k, name in enumerate(self.axes)}
        self.tile = free_name("tile", taken)
        self.levels[self.tile] = 0
        self.known = [{}, {}]

    def variables(self, row: Row) -> dict[str, Affine]:
        """The row's own axes in the kernel's names."""
        return {name: axis(self.axes[k]) for k, (name, _) in enumerate(row.order)}

    def add_block(self, block: Block) -> None:
        """The statements of one block, and its loops."""
        depth = len(block.extents)
        self.inner = [[] for _ in range(depth)]
        self.ends = [[] for _ in range(depth)]
        self.stores = []
        self.known = [*self.known[:2], *({} for _ in range(depth))]
        in_block: list[Buffer] = []
        finishing: list[Row] = []
        for row in block.rows:
            stage = narrowed(row.stage) if self.sums_tiles(row) else row.stage
            value = self.add_body(stage, self.variables(row))
            buffer = row.stage.buffer
            if row.stage.combine is not None:
                self.add_reduction(row, value, depth)
                finishing.append(row)
            else:
                self.values[buffer] = value
                self.add_store(row, value, depth)
                if depth:
                    in_block.append(buffer)
        self.close_block(block)
        for row in finishing:
            if not row.reduces_outer(self.rank) and not row.elements(self.rank):
                self.finish_inner(row)
        for buffer in in_block:  # scalars of an inner loop end with it
            if self.level(self.values[buffer]) > 1:
                del self.values[buffer]

    def close_block(self, block: Block) -> None:
        """Wrap the block's statements in its loops."""
        if not (self.stores or any(self.inner)):
            return  # all that it computes is a scalar of the outer loops
        body: tuple[Statement, ...] = tuple(self.stores)
        reduced = {
            self.axes[k]
            for row in block.rows
            for k, (name, _) in enumerate(row.order)
            if name in dict(row.stage.reduce)
        }
        for k in range(len(block.extents) - 1, -1, -1):
            name = self.axes[self.rank + k]
            kind = "reduce" if name in reduced else "serial"
            body = (Loop(name, block.extents[k], kind, (*self.inner[k], *body, *self.ends[k])),)
        self.outer += body

    def add_body(self, stage: Stage, variables: dict[str, Affine]) -> Value:
        """Add a stage's statements, each at its level and once; the name of its value."""
        names: dict[str, Value] = {}
        for statement in stage.body:
            placed = substitute_statement(statement, variables | as_indices(names), names)
            name = statement.name
            if isinstance(placed, Load) and placed.buffer in self.values:
                names[name] = self.values[placed.buffer]
                continue
            if isinstance(placed, Load) and placed.buffer in self.scratch:
                placed = self.scratch_load(placed)
            names[name] = self.add(placed)
        return names.get(stage.value, stage.value) if isinstance(stage.value, str) else stage.value

    def add(self, statement: Straight, target: list[Statement] | None = None) -> Value:
        """Add one statement where its variables are bound, under a free name, or find the equal one there."""
        level = max((self.level(name) for name in uses(statement)), default=0)
        if level == 0 and isinstance(statement, Load) and (
            statement.buffer.space == "row" or self.is_written(statement.buffer)
        ):
            level = 1
        key = replace(statement, name="")
        for depth in range(level + 1):
            if key in self.known[depth]:
                return self.known[depth][key]
        name = self.new_name(statement.name, level)
        self.known[level][key] = name
        place = self.before if level == 0 else self.outer if level == 1 else self.inner[level - 2]
        (place if target is None else target).append(replace(statement, name=name))
        return name

    def level(self, value: Value) -> int:
        """In how many loops a scalar or axis changes."""
        return self.levels.get(value, 0) if isinstance(value, str) else 0

    def is_written(self, buffer: Buffer) -> bool:
        """Whether this kernel computes what stands in a buffer's memory."""
        return any(other.root == buffer.root for other in self.producers)

    # stores, scratch, reductions ----------------------------------------------------------------------------

    def add_store(self, row: Row, value: Value, depth: int) -> None:
        """Keep a value that others need: in its own buffer, or in scratch for a later block."""
        buffer = row.stage.buffer
        index = tuple(substitute_index(axis(name), self.variables(row)) for name, _ in row.stage.axes)
        if buffer in self.needed:
            self.store_at(depth, Store(buffer, index, value))
        elif buffer in self.crossing and self.level(value) > 1:
            self.store_at(depth, Store(self.new_scratch(row, buffer.dtype), self.inner_index(row), value))

    def store_at(self, depth: int, store: Store) -> None:
        """A store stands in the innermost loop, after all that is computed there."""
        (self.stores if depth else self.outer).append(store)

    def kept_inner(self, row: Row) -> list[tuple[str, Extent]]:
        """The inner axes that a row's result has."""
        kept = dict(row.stage.axes)
        return [(name, size) for name, size in row.order[self.rank :] if name in kept]

    def new_scratch(self, row: Row, dtype: np.dtype) -> Buffer:
        """Row scratch for a value of one outer iteration."""
        shape = tuple(size for _, size in self.kept_inner(row))
        scratch = self.row_buffer(f"{row.stage.buffer.name}_row", dtype, shape)
        self.scratch[row.stage.buffer] = scratch
        return scratch

    def row_buffer(self, name: str, dtype: np.dtype, shape: Shape) -> Buffer:
        """Row scratch under a free name."""
        free = free_name(name, self.taken)
        self.taken.add(free)
        self.has_scratch = True
        return Buffer(free, dtype, shape, "row")

    def inner_index(self, row: Row) -> Index:
        """The row's own inner position in its scratch."""
        variables = self.variables(row)
        return tuple(variables[name] for name, _ in self.kept_inner(row))

    def scratch_load(self, load: Load) -> Load:
        """A load of a value in row scratch: without the outer axes, inner ones in the order of the scratch."""
        row = self.producers[load.buffer]
        places = {name: k for k, (name, _) in enumerate(row.stage.axes)}
        index = tuple(load.index[places[name]] for name, _ in self.kept_inner(row))
        return replace(load, buffer=self.scratch[load.buffer], index=index)

    def add_reduction(self, row: Row, value: Value, depth: int) -> None:
        """Combine a value into an accumulator: a scalar, or a buffer over the axes that the result keeps."""
        stage, across = row.stage, row.reduces_outer(self.rank)
        assert stage.combine is not None and stage.initial is not None
        place = self.before if across else self.outer
        kept = list(stage.axes) if across else self.kept_inner(row)
        target: str | Buffer
        index: Index = ()
        if depth_of_elements := row.elements(self.rank):
            target = self.add_element(row, depth_of_elements)
        elif not kept:
            target = self.new_name(accumulator_name(stage.buffer), 0 if across else 1)
            place.append(Accumulator(target, stage.initial))
            self.totals[stage.buffer] = target
        else:
            target, index = self.accumulator_buffer(row, kept, across)
            place += fill(target, self.free_axes(len(target.shape)), stage.initial)
            if self.sums_tiles(row):
                target = self.tile_of(row, target)
        (self.stores if depth else self.outer).append(Accumulate(target, index, stage.combine, value))

    def add_element(self, row: Row, depth: int) -> str:
        """A scalar accumulator for each element, which is stored where its loops, below `depth` others, end."""
        stage = row.stage
        assert stage.initial is not None
        total = self.new_name(accumulator_name(stage.buffer), 1 + depth)
        self.inner[depth - 1].append(Accumulator(total, stage.initial))
        end = self.ends[depth - 1]
        value = total
        if stage.initial.dtype != stage.buffer.dtype:
            value = self.new_name(stage.buffer.name, 1 + depth)
            end.append(Let(value, "cast", (total,), stage.buffer.dtype))
        if stage.buffer in self.needed:
            variables = self.variables(row)
            end.append(Store(stage.buffer, tuple(variables[name] for name, _ in stage.axes), value))
        else:
            end.append(Store(self.new_scratch(row, stage.buffer.dtype), self.inner_index(row), value))
        return total

    def accumulator_buffer(self, row: Row, kept: list[tuple[str, Extent]], across: bool) -> tuple[Buffer, Index]:
        """Where a reduction that keeps axes accumulates: the result itself, or scratch of the accumulator's dtype."""
        stage, variables = row.stage, self.variables(row)
        assert stage.initial is not None
        if across and stage.buffer in self.needed and stage.initial.dtype == stage.buffer.dtype:
            return stage.buffer, tuple(variables[name] for name, _ in stage.axes)
        if not across:
            return self.new_scratch(row, stage.initial.dtype), self.inner_index(row)
        shape = tuple(size for _, size in kept)
        wide = self.row_buffer(f"{stage.buffer.name}_sums", stage.initial.dtype, shape)
        self.scratch[stage.buffer] = wide
        return wide, tuple(variables[name] for name, _ in kept)

    def tile_of(self, row: Row, wide: Buffer) -> Buffer:
        """Where the rows of a tile are summed, in their own dtype, before their sum is added to the wide one."""
        narrow = self.row_buffer(f"{row.stage.buffer.name}_tile", row.stage.buffer.dtype, wide.shape)
        self.tiled.append((narrow, wide))
        return narrow

    def sums_tiles(self, row: Row) -> bool:
        """Whether a sum adds up the iterations of a tile in its own dtype."""
        return self.tiled_loop is not None and row.tiled_loop(self.rank) == self.tiled_loop

    def in_tiles(self, rows: Loop) -> tuple[Statement, ...]:
        """The loop over rows in tiles, each with sums that start at 0 and are added up behind its rows."""
        count = tiles(rows.extent)
        start: list[Statement] = []
        end: list[Statement] = []
        for shape in dict.fromkeys(narrow.shape for narrow, _ in self.tiled):
            axes = self.free_axes(len(shape))
            index = tuple(map(axis, axes))
            zeros: tuple[Statement, ...] = ()
            sums: tuple[Statement, ...] = ()
            for narrow, wide in (pair for pair in self.tiled if pair[0].shape == shape):
                zeros += (Store(narrow, index, Const(narrow.dtype.type(0), narrow.dtype)),)
                name, term = (self.new_name(f"{narrow.name}_{word}", 1) for word in ("sum", "term"))
                load, cast = Load(name, narrow, index), Let(term, "cast", (name,), wide.dtype)
                sums += (load, cast, Accumulate(wide, index, "add", term))
            start += _around(shape, axes, zeros)
            end += _around(shape, axes, sums)
        if count == 1:
            return (*start, rows, *end)
        return (Loop(self.tile, count, "reduce", (*start, replace(rows, share=(self.tile, count)), *end)),)

    def finish_inner(self, row: Row) -> None:
        """After its block a reduction is a scalar, or row scratch; others get it where they need it."""
        stage = row.stage
        if stage.buffer in self.totals:
            value = self.finished(stage, self.outer)
            if stage.buffer in self.needed:
                variables = self.variables(row)
                self.outer.append(Store(stage.buffer, tuple(variables[name] for name, _ in stage.axes), value))
            return
        sums = self.scratch[stage.buffer]
        kept = [name for name, _ in self.kept_inner(row)]
        axes = dict(zip(kept, self.free_axes(len(kept)), strict=True))
        if stage.buffer in self.needed:
            variables = self.variables(row) | {name: axis(new) for name, new in axes.items()}
            index = tuple(variables[name] for name, _ in stage.axes)
            self.outer += convert(sums, stage.buffer, list(axes.values()), index)
            del self.scratch[stage.buffer]
        elif sums.dtype != stage.buffer.dtype:
            result = self.row_buffer(f"{sums.name}_result", stage.buffer.dtype, sums.shape)
            self.outer += convert(sums, result, list(axes.values()), tuple(map(axis, axes.values())))
            self.scratch[stage.buffer] = result

    def finish_outer(self, row: Row) -> None:
        """After the outer loops a reduction over them is complete."""
        stage = row.stage
        if stage.buffer in self.totals:
            value = self.finished(stage, self.after)
            if stage.buffer in self.needed:
                self.after.append(Store(stage.buffer, (), value))
        elif (sums := self.scratch.get(stage.buffer)) is not None:
            axes = self.free_axes(len(sums.shape))
            self.after += convert(sums, stage.buffer, axes, tuple(map(axis, axes)))

    def finished(self, stage: Stage, place: list[Statement]) -> Value:
        """The scalar that a finished accumulator holds, in the dtype of the result."""
        total = self.totals[stage.buffer]
        assert stage.initial is not None
        value: Value = total
        if stage.initial.dtype != stage.buffer.dtype:
            value = self.add(Let(stage.buffer.name, "cast", (total,), stage.buffer.dtype), place)
        self.values[stage.buffer] = value
        return value

    def add_post(self, stage: Stage) -> None:
        """A scalar stage after the loops."""
        self.known = [self.known[0], {}]
        names: dict[str, Value] = {}
        for statement in stage.body:
            placed = substitute_statement(statement, as_indices(names), names)
            name = statement.name
            # (an array's element stands in memory: the scalar that held it was the last iteration's)
            if isinstance(placed, Load) and placed.buffer in self.values and not placed.buffer.shape:
                names[name] = self.values[placed.buffer]
            else:
                names[name] = self.add(placed, self.after)
        value = names.get(stage.value, stage.value) if isinstance(stage.value, str) else stage.value
        self.values[stage.buffer] = value
        if stage.buffer in self.needed:
            self.after.append(Store(stage.buffer, (), value))

    def new_name(self, name: str, level: int) -> str:
        """A free name for a scalar."""
        free = free_name(name, self.levels)
        self.levels[free] = level
        return free

    def free_axes(self, count: int) -> list[str]:
        """Names for loops that stand beside the group's own."""
        names = [free_name(f"c{k}" if count > 1 else "c", self.dims) for k in range(count)]
        return [self.new_name(name, 0) for name in names]


def fill(buffer: Buffer, axes: Sequence[str], initial: Const) -> tuple[Statement, ...]:
    """Loops that store a number everywhere."""
    return _around(buffer.shape, axes, (Store(buffer, tuple(map(axis, axes)), initial),))


def convert(source: Buffer, target: Buffer, axes: Sequence[str], index: Index) -> tuple[Statement, ...]:
    """Loops that copy accumulated values to where, and to the dtype in which, they belong."""
    name = f"{target.name}_sum"
    body: tuple[Statement, ...] = (Load(name, source, tuple(map(axis, axes))),)
    value = name
    if source.dtype != target.dtype:
        value = f"{name}_cast"
        body += (Let(value, "cast", (name,), target.dtype),)
    return _around(source.shape, axes, (*body, Store(target, index, value)))


def _around(shape: Shape, axes: Sequence[str], body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    for name, extent in zip(reversed(axes), reversed(shape), strict=True):
        body = (Loop(name, extent, "serial", body),)
    return body
