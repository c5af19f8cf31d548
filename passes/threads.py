"""Threads: each kernel's outermost loop in equal pieces, one for each thread, and their sums put together after.

A split kernel becomes one loop of kind ``threads`` around what it was: every part has accumulators and row scratch of
its own, and runs over its piece of the rows. Where the rows accumulate, a second kernel combines the parts' results, in
order, and goes on as the old one did after its loop. So results depend on the number of parts, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphc.ir.costs import ADDITION, PRODUCT, REGION
from graphc.ir.dims import Extent, product
from graphc.ir.loops import (
    SCRATCH,
    Accumulate,
    Accumulator,
    Affine,
    Buffer,
    Call,
    Combine,
    Index,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Product,
    Program,
    Statement,
    Step,
    Store,
    axis,
    shared_axes,
    walk,
)
from graphc.passes.inline import operation_cost
from graphc.passes.rows import blocks, pieces_of, recounted, tiles
from graphc.passes.stages import free_name, on_element, rewritten, uses

CACHE_LINE = 64  # bytes; parts that write side by side keep this far apart


@dataclass(frozen=True)
class Split:
    """The pass: `Program` of fused kernels in, `Program` for a number of threads out.

    Steps that are known to take less than `least` picoseconds are left whole.
    """

    threads: int
    least: int = REGION
    name: str = "threads"

    def run(self, program: Program) -> Program:
        """Split every kernel that can be, and every product."""
        taken = {buffer.name for buffer in program.buffers}
        taken |= {step.name for step in program.steps if isinstance(step, Kernel)}
        steps: list[Step] = []
        refusals: list[str] = []
        for step in program.steps:
            size = work(step)
            if isinstance(size, int) and (size == 0 or size < self.least):
                steps.append(step)
            elif isinstance(step, Call):
                steps.append(replace(step, flags=(*step.flags, ("parts", self.threads))))
            elif reason := why_not_split(step):
                refusals.append(f"{step.name}: not split over threads: {reason}")
                steps.append(step)
            else:
                steps += Splitting(step, self.threads, taken).kernels()
        return replace(program, steps=tuple(steps), refusals=(*program.refusals, *refusals))


def work(step: Step) -> Extent:
    """How long a step takes, roughly, in picoseconds of one core; 0 for calls that are not made in parts."""
    if isinstance(step, Kernel):
        products = sum((work(product.whole) for product in step.products), 0)
        return products + sum(size * _statement_cost(statement) for statement, size in _iterations(step.body))
    if step.routine != "matmul" or step.operands[0].dtype.kind != "f" or len(step.operands[2].shape) < 2:
        return 0
    a, _, out = step.operands
    inner = a.shape[-2 if step["transpose_a"] else -1]
    return out.type.size * inner * PRODUCT


def _statement_cost(statement: Statement) -> int:
    if isinstance(statement, Loop | Product):
        return 0
    return ADDITION * (operation_cost(statement) if isinstance(statement, Let) else 1)


def _iterations(body: tuple[Statement, ...]) -> Iterator[tuple[Statement, Extent]]:
    """Every statement, and how often it runs; what each of several threads does beside its piece counts once."""
    stack: list[tuple[tuple[Statement, ...], Extent]] = [(body, 1)]
    outside: dict[str, Extent] = {}  # how often the loop over an axis runs
    while stack:
        statements, times = stack.pop()
        for statement in statements:
            yield statement, times
            if isinstance(statement, Loop):
                outside[statement.axis] = times if statement.share is None else outside[statement.share[0]]
                inside = outside[statement.axis] * statement.extent
                stack.append((statement.body, times if statement.kind == "threads" else inside))


# legality -------------------------------------------------------------------------------------------------------------


def why_not_split(kernel: Kernel) -> str | None:
    """The reason why the rows of a kernel cannot run on several threads, or None."""
    rows = outermost_rows(kernel)
    if rows is None:
        return "it has no single outermost loop whose iterations are independent"
    if isinstance(rows.extent, int) and rows.extent < 2:
        return "it has one row"
    summed, scratch, own = accumulated(rows), _scratch(rows), own_axes(rows)
    for statement in walk(rows.body):
        if isinstance(statement, Store) and statement.buffer not in scratch and not is_own(statement.index, own):
            return f"its rows store to the same places of {statement.buffer.name}"
        if isinstance(statement, Product) and statement.share[0] not in own:
            return f"its rows store to the same places of {statement.out.name}"
        if isinstance(statement, Load) and statement.buffer in summed:
            return f"its rows read {statement.buffer.name}, which they accumulate"
    for statement in walk(_before(kernel, rows)):
        if isinstance(statement, Store) and statement.buffer not in summed:
            return f"it stores to {statement.buffer.name} before its rows"
    return None


def local_names(kernel: Kernel) -> set[str]:
    """What a new axis or scalar of a kernel may not be called."""
    names = {getattr(statement, "name", "") for statement in walk(kernel.body)}
    names |= {statement.axis for statement in walk(kernel.body) if isinstance(statement, Loop)}
    return names | set(kernel.dim_names)


def outermost_rows(kernel: Kernel) -> Loop | None:
    """The one loop of a kernel that may be cut, over rows or pieces of them; None where there is none, or several."""
    found = [each for each in kernel.body if isinstance(each, Loop) and each.kind in ("parallel", "reduce")]
    return found[0] if len(found) == 1 else None


def _before(kernel: Kernel, rows: Loop) -> tuple[Statement, ...]:
    return kernel.body[: kernel.body.index(rows)]


def _after(kernel: Kernel, rows: Loop) -> tuple[Statement, ...]:
    return kernel.body[kernel.body.index(rows) + 1 :]


def is_own(index: Index, own: set[str]) -> bool:
    """Whether no two iterations touch the same element: one position is one of their own axes, or a multiple of it, and
    nothing else."""
    return any(
        len(position.terms) == 1 and position.terms[0][0] in own and position.terms[0][1] != 0 for position in index
    )


def own_axes(rows: Loop) -> set[str]:
    """The axis of a loop, and those inside of it that go through pieces of what it counts."""
    return shared_axes(rows.axis, (each for each in walk(rows.body) if isinstance(each, Loop)))


def accumulated(rows: Loop) -> frozenset[Buffer]:
    """The buffers that all rows accumulate into."""
    scratch, own = _scratch(rows), own_axes(rows)
    return frozenset(
        statement.target
        for statement in walk(rows.body)
        if isinstance(statement, Accumulate)
        and isinstance(statement.target, Buffer)
        and statement.target not in scratch
        and not statement.atomic
        and not is_own(statement.index, own)
    )


def _scratch(rows: Loop) -> frozenset[Buffer]:
    """The scratch that every row stores to before it reads it."""
    stored = (statement.buffer for statement in walk(rows.body) if isinstance(statement, Store))
    return frozenset(buffer for buffer in stored if buffer.root.space in SCRATCH)


# splitting ------------------------------------------------------------------------------------------------------------


@dataclass
class Splitting:
    """One kernel on its way to two: parts of its rows run on `kind`, threads or blocks of them.

    With `cut`, a loop that stands alone in the rows, each part has a piece of that in every row. What rows add up to is
    kept in the space that `kept` says, where it says one, and stored when the part has done.
    """

    kernel: Kernel
    parts: int
    taken: set[str]
    kind: str = "threads"
    cut: Loop | None = None
    kept: Mapping[Buffer, str] = field(default_factory=dict)
    rows: Loop = field(init=False)
    names: set[str] = field(init=False)
    part: str = field(init=False)
    own: dict[Buffer, Buffer] = field(init=False)  # what each part has for itself

    def __post_init__(self) -> None:
        rows = outermost_rows(self.kernel)
        assert rows is not None
        self.rows, self.names = rows, local_names(self.kernel)
        self.part = self._new_name("part")
        own = accumulated(rows) | {buffer for buffer in _scratch(rows) if buffer.root.space == "row"}
        self.own = {buffer: self._per_part(buffer) for buffer in self.kernel.buffers if buffer in own}
        self.on_chip = {
            buffer: self._new_buffer(f"{buffer.name}_own", buffer, buffer.shape, space)
            for buffer, space in self.kept.items()
        }

    def kernels(self) -> list[Kernel]:
        """The kernel of the parts, and the one that combines them where there is something to combine."""
        totals = [each for each in _before(self.kernel, self.rows) if isinstance(each, Accumulator)]
        stored = {each.name: self._new_buffer(f"{each.name}_parts", each, (self.parts,)) for each in totals}
        stores = (Store(stored[each.name], (axis(self.part),), each.name) for each in totals)
        body = (*self._in_part(_before(self.kernel, self.rows)), self._piece(), *self._kept(), *stores)
        first = replace(self.kernel, body=(Loop(self.part, self.parts, self.kind, body),))
        last = (*self._combined(totals, stored), *self._sums(), *_after(self.kernel, self.rows))
        if not last:
            return [first]
        name = free_name(f"{self.kernel.name}_combined", self.taken)
        self.taken.add(name)
        last = (*needed(_before(self.kernel, self.rows), last), *last)
        return [first, Kernel(name, last, f"{self.kernel.name}: the parts together")]

    def _piece(self) -> Loop:
        """The rows of a part."""
        kind, share = "serial" if self.rows.kind == "parallel" else "reduce", (self.part, self.parts)
        if self.cut is None:
            rows = _in_pieces_of_parts(self.rows, self.parts)
            return replace(rows, kind=kind, body=self._in_part(rows.body), share=share)
        rows = with_inner_loop(self.rows, self.cut, replace(self.cut, share=share))
        return replace(rows, kind=kind, body=self._in_part(rows.body))

    def _per_part(self, buffer: Buffer) -> Buffer:
        """A buffer for each part, in one; between parts that do not fill cache lines lie elements of no use."""
        length, *row = buffer.shape or (1,)
        line, width = CACHE_LINE // buffer.dtype.itemsize, product(row)
        size = width * length
        if not isinstance(size, int) or size % line:
            length = length + (-(-line // width) if isinstance(width, int) and width > 0 else line)
        return self._new_buffer(f"{buffer.name}_parts", buffer, (self.parts, length, *row))

    def _new_buffer(
        self, name: str, like: Buffer | Accumulator, shape: tuple[Extent, ...], space: str = "arena"
    ) -> Buffer:
        free = free_name(name, self.taken)
        self.taken.add(free)
        return Buffer(free, like.dtype if isinstance(like, Buffer) else like.initial.dtype, shape, space)

    def _new_name(self, name: str) -> str:
        free = free_name(name, self.names)
        self.names.add(free)
        return free

    def _in_part(self, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        """Statements as a part runs them: on buffers of its own."""

        def element(buffer: Buffer, index: Index) -> tuple[Buffer, Index]:
            return (self.on_chip[buffer], index) if buffer in self.on_chip else self._own_element(buffer, index)

        return rewritten(body, lambda statement: (on_element(statement, element),))

    def _kept(self) -> Iterator[Statement]:
        """What a part stores of the sums that it has kept on the chip; those of threads are put together."""
        ops = self._ops()

        def store(statement: Statement) -> tuple[Statement, ...]:
            assert isinstance(statement, Store) and not isinstance(statement.value, str)
            own, name = self.on_chip[statement.buffer], self._new_name(f"{statement.buffer.name}_sum")
            buffer, index = self._own_element(statement.buffer, statement.index)
            load = Load(name, own, statement.index)
            if own.space == "shared":
                return load, Store(buffer, index, name)
            total, op = self._new_name(f"{statement.buffer.name}_total"), ops[statement.buffer]
            add = Accumulate(total, (), op, name), Combine(total, op)
            return Accumulator(total, statement.value), load, *add, Store(buffer, index, total)

        yield from self._at_starts(set(self.on_chip), store)

    def _at_starts(
        self, buffers: Collection[Buffer], rewrite: Callable[[Statement], tuple[Statement, ...]]
    ) -> Iterator[Statement]:
        """Statements in the place of those that set what sums start from."""
        for statement in _before(self.kernel, self.rows):
            targets = {each.buffer for each in walk((statement,)) if isinstance(each, Store)}
            if not targets.isdisjoint(buffers):
                yield from rewritten((statement,), rewrite)

    def _ops(self) -> dict[str | Buffer, str]:
        """How the rows accumulate into each scalar and buffer."""
        return {each.target: each.op for each in walk(self.rows.body) if isinstance(each, Accumulate)}

    def _own_element(self, buffer: Buffer, index: Index) -> tuple[Buffer, Index]:
        if buffer not in self.own:
            return buffer, index
        return self.own[buffer], (axis(self.part), *(index or (Affine(),)))

    def _combined(self, totals: Sequence[Accumulator], stored: dict[str, Buffer]) -> Iterator[Statement]:
        """The scalars that rows accumulate, over all parts."""
        ops = self._ops()
        for total in totals:
            name = self._new_name(f"{total.name}_part")
            yield total
            add = Load(name, stored[total.name], (axis(self.part),)), Accumulate(total.name, (), ops[total.name], name)
            yield Loop(self.part, self.parts, "reduce", add)

    def _sums(self) -> Iterator[Statement]:
        """The buffers that rows accumulate: what they started from, and all parts."""
        ops = self._ops()

        def sum_parts(statement: Statement) -> tuple[Statement, ...]:
            """Store the sum where the number was stored that it starts from."""
            assert isinstance(statement, Store) and not isinstance(statement.value, str)
            buffer, index = self._own_element(statement.buffer, statement.index)
            total, name = (self._new_name(f"{statement.buffer.name}_{word}") for word in ("total", "part"))
            add = Load(name, buffer, index), Accumulate(total, (), ops[statement.buffer], name)
            start = Accumulator(total, statement.value)
            return start, Loop(self.part, self.parts, "reduce", add), replace(statement, value=total)

        yield from self._at_starts(accumulated(self.rows), sum_parts)


def with_inner_loop(loop: Loop, old: Loop, new: Loop) -> Loop:
    """A loop with another one in the place of one that stands alone in it, or alone in one that does."""
    loops = [loop]
    while loops[-1] is not old:
        loops.append(next(each for each in loops[-1].body if isinstance(each, Loop)))
    for outer in reversed(loops[:-1]):
        new = replace(outer, body=tuple(new if isinstance(each, Loop) else each for each in outer.body))
    return new


def _in_pieces_of_parts(rows: Loop, parts: int) -> Loop:
    """A loop over blocks or tiles of rows as one with equally many in each part; another loop as it is."""
    pieces = pieces_of(rows)
    if pieces is None:
        return rows
    product = next((each for each in rows.body if isinstance(each, Product)), None)
    return recounted(rows, tiles(pieces.extent, parts) if product is None else blocks(product.out.shape[0], parts))


def needed(before: tuple[Statement, ...], after: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The scalars computed before the rows that are needed after them."""
    wanted = {name for statement in walk(after) for name in used(statement)}
    kept: list[Statement] = []
    for statement in reversed(before):
        if isinstance(statement, Let | Load | IndexValue) and statement.name in wanted:
            kept.append(statement)
            wanted.update(uses(statement))
    return tuple(reversed(kept))


def used(statement: Statement) -> list[str]:
    """The axes and scalars that a statement reads, but for those in the loops that it may be."""
    match statement:
        case Let() | Load() | IndexValue():
            return uses(statement)
        case Store(index=index, value=value) | Accumulate(index=index, value=value):
            scalars = [value] if isinstance(value, str) else []
            return [name for position in index for name in position.variables] + scalars
    return []
