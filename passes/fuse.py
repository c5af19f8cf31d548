"""Fuse: stages that share their outer loops become one kernel; every refusal is written down with its reason.

Stages are inlined first (`inline`). What remains is grouped: a stage joins a group where their outer extents are
equal, every value it reads from the group is read at the group's own outer index, and the order of execution allows it.
A reduction over an outer axis joins as an accumulator whose readers stay outside. `assemble` then lays out the inner
loops of each group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from graphc.ir.dims import Extent
from graphc.ir.loops import Buffer, Call, Kernel, Load, Program, Step, axis
from graphc.passes.assemble import assemble
from graphc.passes.inline import STATEMENT_LIMIT, Inliner
from graphc.passes.orient import orient
from graphc.passes.row_blocks import in_row_blocks
from graphc.passes.rows import Row
from graphc.passes.scans import kernel_scan, scan_steps
from graphc.passes.stages import Stage, free_name, identity, kernel_stage


@dataclass(frozen=True)
class Fuse:
    """The pass: `Program` of single-stage kernels in, `Program` of fused kernels out.

    Without `row_blocks` products stay calls of their own. With `scan_pieces` scans are as a GPU runs them: many rows at
    once, or up to so many pieces of each.
    """

    row_blocks: bool = True
    scan_pieces: int = 0
    name: str = "fuse"

    def run(self, program: Program) -> Program:
        """Inline, group, assemble; and put products into the kernels that read them."""
        refusals: list[str] = []
        items = inline_stages(program, refusals)
        taken = {buffer.name for buffer in program.buffers}
        items = scan_steps(items, taken, refusals, self.scan_pieces)
        groups = group_stages(program, items, refusals)
        needed = _read_outside(program, groups)
        steps = tuple(
            assemble(group.rows, group.rank, group.post, needed, taken) if isinstance(group, Group) else group
            for group in groups
        )
        if self.row_blocks:
            steps = in_row_blocks(steps, refusals)
        return replace(program, steps=steps, refusals=tuple(refusals))


# inlining ---------------------------------------------------------------------------------------------------


def inline_stages(program: Program, refusals: list[str]) -> list[Stage | Step]:
    """The steps of a program, its kernels as stages with what they read inlined."""
    items: list[Stage | Step] = [
        (kernel_stage(step) or kernel_scan(step) or step) if isinstance(step, Kernel) else step
        for step in program.steps
    ]
    stages = [item for item in items if isinstance(item, Stage)]
    written: dict[Buffer, int] = {}
    for step in program.steps:
        for buffer in step.writes:
            written[buffer] = written.get(buffer, 0) + 1
    pinned = {buffer for buffer, count in written.items() if count > 1 or buffer.space != "arena"}
    pinned |= {buffer for item in items if not isinstance(item, Stage) for buffer in (*item.reads, *item.writes)}
    pinned |= {parent for buffer in program.buffers for parent in _parents(buffer)}
    inliner = Inliner(stages, frozenset(pinned), refusals)
    expanded = inliner.expanded()
    kept = [
        next(expanded) if isinstance(item, Stage) else item
        for item in items
        if not isinstance(item, Stage) or item.buffer not in inliner.inlined
    ]
    return _separate_updates(kept, {buffer.root for buffer in program.updated}, program)


def _separate_updates(items: list[Stage | Step], updated: set[Buffer], program: Program) -> list[Stage | Step]:
    """An update that reads what another one overwrites (or itself elsewhere) is computed aside, before all updates."""
    taken = {buffer.name for buffer in program.buffers}
    aside: list[Stage | Step] = []
    result: list[Stage | Step] = []
    for item in items:
        if isinstance(item, Stage) and item.buffer in updated and any(
            load.buffer.root in updated and (load.buffer != item.buffer or load.index != identity(item.axes))
            for load in item.loads
        ):  # fmt: skip
            saved = replace(item.buffer, name=free_name(f"{item.buffer.name}_next", taken), space="arena")
            aside.append(replace(item, buffer=saved))
            body = (Load(saved.name, saved, identity(item.axes)),)
            item = Stage(item.buffer, item.axes, body, saved.name, origin=item.origin)
        result.append(item)
    first = next((k for k, item in enumerate(result) if isinstance(item, Stage) and item.buffer in updated), 0)
    return [*result[:first], *aside, *result[first:]]


def _parents(buffer: Buffer) -> Iterator[Buffer]:
    while buffer.base is not None:
        buffer = buffer.base
        yield buffer


# grouping ---------------------------------------------------------------------------------------------------


@dataclass
class Group:
    """Stages under common outer loops (`rows`, `rank` outer axes), and scalar stages after them (`post`)."""

    rows: list[Row]
    rank: int
    post: list[Stage] = field(default_factory=list)

    @property
    def stages(self) -> list[Stage]:
        """All stages."""
        return [*(row.stage for row in self.rows), *self.post]

    @property
    def statements(self) -> int:
        """The size of its bodies."""
        return sum(len(stage.body) + 1 for stage in self.stages)

    @property
    def name(self) -> str:
        """The buffer that it is known by in refusals."""
        return self.stages[-1].buffer.name


@dataclass
class _Grouping:
    """The state of one grouping. Groups run in the order of `groups`; `position` says who writes a root's memory last,
    `written` who writes a buffer, `last_read` who reads a root last."""

    refusals: list[str]
    groups: list[Group | Step] = field(default_factory=list)
    position: dict[Buffer, int] = field(default_factory=dict)
    written: dict[Buffer, int] = field(default_factory=dict)
    last_read: dict[Buffer, int] = field(default_factory=dict)
    by_extents: dict[tuple[Extent, ...], int] = field(default_factory=dict)

    def earliest(self, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> int:
        """The first position at which everything read is written, and everything overwritten has been read."""
        before = [self.position.get(buffer.root, -1) for buffer in reads]
        before += [self.written.get(buffer, -1) for buffer in writes]
        before += [self.last_read.get(buffer.root, -1) for buffer in writes if buffer.root.space == "param"]
        return max(before, default=-1)

    def note(self, index: int, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> None:
        """Remember who reads and writes."""
        for buffer in reads:
            self.last_read[buffer.root] = max(index, self.last_read.get(buffer.root, -1))
        for buffer in writes:
            self.position[buffer.root] = max(index, self.position.get(buffer.root, -1))
            self.written[buffer] = index

    def add_step(self, step: Step) -> None:
        """A call or a scatter stands by itself."""
        self.groups.append(step)
        checked = step.reads if isinstance(step, Call) and step.routine == "check_index" else ()
        self.note(len(self.groups) - 1, step.reads, (*step.writes, *checked))

    def add_row(self, row: Row) -> None:
        """Put a stage into the latest group that can take it, or into one of its own."""
        reads = [load.buffer for load in row.stage.loads]
        writes = [row.stage.buffer]
        earliest = self.earliest(reads, writes)
        for index in self._candidates(row, earliest):
            group = self.groups[index]
            assert isinstance(group, Group)
            if self._join(group, row):
                self.note(index, reads, writes)
                return
        self.groups.append(Group([row], row.widest))
        self.by_extents[_leading(row)] = len(self.groups) - 1
        self.note(len(self.groups) - 1, reads, writes)

    def _candidates(self, row: Row, earliest: int) -> list[int]:
        """Groups to try: that of the latest producer, then the latest one with the same leading extent."""
        recent = self.by_extents.get(_leading(row), -1)
        found = dict.fromkeys(index for index in (earliest, recent) if index >= max(earliest, 0))
        return [index for index in found if isinstance(self.groups[index], Group)]

    def _join(self, group: Group, row: Row) -> bool:
        if not row.order and _scalar_epilogue(group, row.stage):
            group.post.append(row.stage)
            return True
        rank = min(group.rank, row.widest)
        reason = why_not_fuse(group, row, rank)
        while reason and rank > 1:  # fewer shared loops are better than none
            rank -= 1
            reason = why_not_fuse(group, row, rank)
        if reason:
            self.refusals.append(f"{row.stage.buffer.name}: not fused with {group.name}: {reason}")
            return False
        group.rows.append(row)
        group.rank = rank
        return True


def group_stages(program: Program, items: Sequence[Stage | Step], refusals: list[str]) -> list[Group | Step]:
    """The stages in groups, in an order in which they can run."""
    grouping = _Grouping(refusals)
    rows = orient([item for item in items if isinstance(item, Stage)])
    for item in sorted(items, key=_is_first_check, reverse=True):
        if isinstance(item, Stage):
            grouping.add_row(rows[item.buffer])
        else:
            grouping.add_step(item)
    return grouping.groups


def _is_first_check(item: Stage | Step) -> bool:
    """Whether a step checks indices that are there from the start: that comes before everything."""
    return isinstance(item, Call) and item.routine == "check_index" and item.operands[0].space in ("input", "constant")


def _leading(row: Row) -> tuple[Extent, ...]:
    return tuple(size for _, size in row.order[:1])


def _scalar_epilogue(group: Group, stage: Stage) -> bool:
    """Whether a scalar stage can follow the loops: it reads what they leave behind."""
    if _is_full(group, stage):
        return False
    inside = {other.buffer for other in group.stages}
    return stage.buffer.space != "param" and any(load.buffer in inside for load in stage.loads)


def _is_full(group: Group, stage: Stage) -> bool:
    """Whether a kernel of both would be too long to compile quickly."""
    return group.statements + len(stage.body) > STATEMENT_LIMIT


def why_not_fuse(group: Group, row: Row, rank: int) -> str | None:
    """The reason why a stage may not join a group with `rank` outer axes, or None."""
    stage = row.stage
    after = {other.buffer for other in group.post}
    if any(load.buffer in after for load in stage.loads):
        return "it reads a scalar that follows the group's loops"
    read_after = {load.buffer.root for other in group.post for load in other.loads}
    if stage.buffer.space == "param" and stage.buffer in read_after:
        return f"{stage.buffer.name} is read after the group's loops"
    if _is_full(group, stage):
        return f"together more than {STATEMENT_LIMIT} statements"
    if rank == 0:
        return None if group.rank == 0 and not row.order else "one of them has no loops"
    mine = tuple(size for _, size in row.order[:rank])
    theirs = tuple(size for _, size in group.rows[0].order[:rank])
    if mine != theirs:
        return f"outer extents differ: {_text(mine)} and {_text(theirs)}"
    for other in group.rows:
        reason = _why_not_read(other, row, rank) or _why_not_write(other, row, rank)
        if reason:
            return reason
    return None


def _why_not_read(producer: Row, reader: Row, rank: int) -> str | None:
    """Why a stage may not read what another stage of its group computes."""
    written = producer.stage.buffer
    for load in reader.stage.loads:
        if load.buffer.root != written.root:
            continue
        if load.buffer != written:
            return f"{load.buffer.name} shares memory with {written.name}, computed in the group"
        if producer.reduces_outer(rank):
            return f"{written.name} is complete only after the outer loop"
        if not _read_at_outer(producer, reader, load, rank):
            return f"{written.name} is read at another outer index"
    return None


def _read_at_outer(producer: Row, reader: Row, load: Load, rank: int) -> bool:
    places = {name: k for k, (name, _) in enumerate(producer.stage.axes)}
    return load.mask is None and all(
        load.index[places[theirs]] == axis(mine)
        for theirs, mine in zip(producer.outer(rank), reader.outer(rank), strict=True)
    )


def _why_not_write(other: Row, row: Row, rank: int) -> str | None:
    """Why a stage that overwrites a parameter may not share loops with one that reads it (and the other way round)."""
    for writer, reader in ((row, other), (other, row), (row, row)):
        buffer = writer.stage.buffer
        if buffer.root.space != "param":
            continue
        for load in reader.stage.loads:
            if load.buffer.root != buffer.root:
                continue
            same_loops = [size for _, size in writer.order] == [size for _, size in reader.order]
            same_element = load.buffer == buffer and load.index == identity(reader.order)
            if writer.stage.combine is not None or not same_loops or not same_element:
                return f"{load.buffer.name} is read at another index than {buffer.name} is overwritten at"
    return None


def _text(extents: tuple[Extent, ...]) -> str:
    return " x ".join(map(str, extents))


def _read_outside(program: Program, groups: Sequence[Group | Step]) -> frozenset[Buffer]:
    """The buffers that must exist in memory: results, and what is read outside the group that computes it."""
    computed = {
        stage.buffer: index
        for index, group in enumerate(groups)
        if isinstance(group, Group)
        for stage in group.stages
    }
    needed = {buffer for buffer in computed if buffer.space != "arena"}
    needed |= {parent for buffer in program.buffers for parent in _parents(buffer)}
    for index, group in enumerate(groups):
        if not isinstance(group, Group):
            needed.update(group.reads)
            continue
        needed.update(
            load.buffer for stage in group.stages for load in stage.loads if computed.get(load.buffer, index) != index
        )
        needed.update(load.buffer for stage in group.post for load in stage.loads if load.buffer.shape)
    return frozenset(needed)
