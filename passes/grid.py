"""The grid: kernels as a GPU runs them, pieces of their rows on blocks of threads.

A kernel's rows go to blocks as they go to threads on a processor (`passes/threads.py`): each block has sums of its own,
and a second kernel combines them. Where a kernel is several loops after each other, all blocks would have to wait for
each other between them, so each becomes a kernel. Inside a block all threads run everything together, but for the
loops that are dealt out to them; what only one may do (to store a sum) is a loop of one iteration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from graphc.ir.barriers import nest, with_barriers
from graphc.ir.costs import LAUNCH
from graphc.ir.dims import nominal
from graphc.ir.loops import (
    KINDS,
    SCRATCH,
    Accumulate,
    Accumulator,
    Buffer,
    Call,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Program,
    Statement,
    Step,
    walk,
)
from graphc.passes.deal import (
    WARP,
    blocks_for,
    enough,
    length,
    on_threads,
    threads_for,
    threads_for_all,
    threads_for_some,
)
from graphc.passes.fission import apart, independent, moved, with_free_rows
from graphc.passes.flatten import Shapes, flattened
from graphc.passes.in_place import reuse_in_place
from graphc.passes.join import MOST_SHARED, joined, shared_bytes
from graphc.passes.lanes import with_lanes
from graphc.passes.rows import pieces_of
from graphc.passes.sorted_scatter import sorted_scatter
from graphc.passes.sorting import with_scratch
from graphc.passes.stages import free_name, rewritten
from graphc.passes.threads import Splitting, accumulated, local_names, outermost_rows, why_not_split, work

# (None of these numbers is measured.)
# Bytes of scratch that a block keeps in the memory that its threads share: a third of what every card has for a block.
SHARED = 16_384
# Elements that a thread may keep for itself: in its registers, and few enough to sum up over all threads at the end.
LOCAL = 32
# How many times more blocks than `MapToGrid.blocks` a multiprocessor holds where they are smaller: it holds 32.
MORE_BLOCKS = 4
# How many times more blocks than run at once a kernel has that needs no memory for each, or for single numbers alone:
# how many do run depends on the registers that each needs, and a last round that leaves half of a card idle should be
# short.
ROUNDS, ROUNDS_OF_SUMS = 4, 2
# Bytes of sums over all rows from which on fewer blocks, each with sums of its own, are better than many.
WIDE_SUMS = 512
# What threads that meet at an element of memory can add up in turns; the order of turns shows in sums of floats.
_ADDED_IN_TURNS = ("float32", "float64", "int32", "uint32", "int64", "uint64")


@dataclass(frozen=True)
class MapToGrid:
    """The pass: `Program` of fused kernels in, `Program` for a grid of blocks of threads out.

    So many `blocks` of so many `threads` run at once; a kernel whose rows need fewer threads has more blocks. Kernels
    that are known to take one core of a processor less than `least` picoseconds run on one block. With
    `deterministic`, floats are added up at gathered indices in the order in which they stand, not in turns.
    """

    blocks: int
    threads: int
    least: int = LAUNCH
    deterministic: bool = False
    name: str = "grid"

    def run(self, program: Program) -> Program:
        """Map every kernel."""
        program = reuse_in_place(program, in_order=False)
        taken = {buffer.name for buffer in program.buffers}
        taken |= {step.name for step in program.steps if isinstance(step, Kernel)}
        shapes = Shapes(taken)
        refusals: list[str] = []
        steps: list[Step] = []
        added = [name for name in _ADDED_IN_TURNS if not (self.deterministic and name.startswith("float"))]
        given = (new for step in program.steps for new in sorted_scatter(step, taken, added))
        for step in given:
            if isinstance(step, Call):
                steps.append(with_scratch(step))
            else:
                steps += _in_memory(list(self._on_blocks(_in_turns(step, added), shapes, refusals)))
        done = [_dealt(each) if isinstance(each, Kernel) else each for each in joined(steps)]
        return replace(program, steps=tuple(done), refusals=(*program.refusals, *refusals))

    def _on_blocks(self, kernel: Kernel, shapes: Shapes, refusals: list[str]) -> Iterator[Kernel]:
        """The kernels that do a kernel's work, each on a grid of blocks, or on one."""
        kernel = flattened(kernel, shapes)
        size = work(kernel)
        if isinstance(size, int) and size < self.least:
            yield self._on_one_block(kernel)
            return
        first, *others = apart(with_free_rows(kernel), shapes.taken)
        if others:
            for each in (first, *others):
                yield from self._on_blocks(each, shapes, refusals)
        elif reason := why_not_split(first):
            refusals.append(f"{kernel.name}: not on several blocks: {reason}")
            yield self._on_one_block(first)
        else:
            first, *rest = self._cut(first, shapes.taken)
            yield first
            for combined in rest:
                yield from self._combined(combined, shapes)

    def _combined(self, kernel: Kernel, shapes: Shapes) -> Iterator[Kernel]:
        """The kernels that combine the sums of blocks, on several blocks where they are sums of many columns."""
        size = work(kernel)
        if isinstance(size, int) and size < self.least:
            yield self._on_one_block(kernel)
            return
        groups = [with_free_rows(flattened(each, shapes)) for each in apart(kernel, shapes.taken)]
        columns = [rows.extent for each in groups if (rows := _columns(each)) is not None]
        blocks = min(max([1, *map(nominal, columns)]), MORE_BLOCKS // 2 * self.blocks)
        for each in groups:
            if blocks == 1 or _columns(each) is None:
                yield self._on_one_block(each)
            else:
                cut = Splitting(_with_shared(each), blocks, shapes.taken, "blocks").kernels()
                yield from (_of_threads(part, enough(self.threads // 2, self.threads)) for part in cut)

    def _cut(self, kernel: Kernel, taken: set[str]) -> list[Kernel]:
        """The kernel with pieces of its rows, or of a longer loop, on blocks; and the one that combines their sums."""
        if _is_tiny(kernel):
            return self._by_threads(kernel, taken)
        kernel = _with_shared(kernel)
        rows, cut = outermost_rows(kernel), _longest(kernel)
        assert rows is not None
        sums, threads = accumulated(rows), threads_for(rows, self.threads)
        if sum(nominal(each.nbytes) for each in sums) > WIDE_SUMS:
            threads, blocks = self.threads, max(1, self.blocks // 2)
        elif sums:
            blocks = self.blocks
        else:
            totals = any(isinstance(each, Accumulator) for each in kernel.body)
            if not totals:
                threads = min(threads, threads_for_some(rows, self.blocks, self.threads))
            blocks = self.blocks * min(self.threads // threads, MORE_BLOCKS)
            if totals:
                blocks = max(blocks, self.blocks * ROUNDS_OF_SUMS)
            elif not any(each.space == "row" for each in kernel.buffers):
                blocks *= ROUNDS
        if cut is not None and isinstance(cut.extent, int):
            blocks = min(blocks, cut.extent)
        elif cut is None and isinstance(rows.extent, int) and pieces_of(rows) is None:
            blocks = min(blocks, blocks_for(rows, threads))
        if blocks == 1:
            return [self._on_one_block(kernel)]
        kept = dict.fromkeys(_fitting(sums, MOST_SHARED - shared_bytes(kernel)), "shared")
        first, *rest = Splitting(kernel, blocks, taken, "blocks", cut, kept).kernels()
        return [_of_threads(first, threads), *rest]

    def _by_threads(self, kernel: Kernel, taken: set[str]) -> list[Kernel]:
        """The kernel with whole rows, and sums over them, on threads; and the one that combines these."""
        rows = outermost_rows(kernel)
        assert rows is not None
        scratch = {each: replace(each, space="local") for each in kernel.buffers if each.space == "row"}
        kept = dict.fromkeys(accumulated(rows), "local")
        threads, blocks = enough(self.threads // 2, self.threads), self.blocks
        if isinstance(rows.extent, int):
            blocks = min(blocks, max(1, -(-rows.extent // threads)))
        if blocks == 1:
            return [self._on_one_block(kernel)]
        first, *rest = Splitting(moved(kernel, scratch), blocks, taken, "blocks", None, kept).kernels()
        return [_of_threads(first, threads), *rest]

    def _on_one_block(self, kernel: Kernel) -> Kernel:
        part = free_name("block", local_names(kernel))
        kernel = _with_shared(kernel)
        kernel = replace(kernel, body=(Loop(part, 1, "blocks", kernel.body),))
        return _of_threads(kernel, threads_for_all(kernel.body, self.threads))


def _dealt(kernel: Kernel) -> Kernel:
    """A kernel on blocks with the work of each dealt out to its threads."""
    return with_barriers(with_lanes(on_threads(kernel)))


def _columns(kernel: Kernel) -> Loop | None:
    """The columns whose sums a kernel puts together, each by itself; None where it does something else."""
    rows = outermost_rows(kernel)
    return None if rows is None or rows.kind == "reduce" or why_not_split(kernel) else rows


def _of_threads(kernel: Kernel, threads: int) -> Kernel:
    """A kernel on blocks of so many threads."""
    assert kernel.grid is not None
    return replace(kernel, body=(replace(kernel.grid, threads=threads),))


def _longest(kernel: Kernel) -> Loop | None:
    """A loop that stands alone in a kernel's rows and has more iterations, which keeps more blocks busy; else None.

    (Eight rows of a million elements would keep eight busy.) What blocks have for themselves may be touched by all.
    """
    rows = outermost_rows(kernel)
    assert rows is not None
    if rows.share is not None or pieces_of(rows) is not None:
        return None
    own = accumulated(rows) | {buffer for buffer in kernel.buffers if buffer.root.space in SCRATCH}
    inner = takewhile(lambda loop: loop.share is None and independent(loop, own), nest(rows, KINDS)[0][1:])
    longest = max(inner, key=length, default=rows)
    return longest if length(longest) > length(rows) else None


def _in_turns(kernel: Kernel, added: Collection[str]) -> Kernel:
    """The kernel with what it adds up at indices from memory done in turns, of some dtypes: a copy for each block could
    be large."""
    loaded = {each.buffer.root for each in walk(kernel.body) if isinstance(each, Load)}
    scalars = {each.name for each in walk(kernel.body) if isinstance(each, Let | Load | IndexValue)}

    def in_turns(statement: Statement) -> tuple[Statement, ...]:
        match statement:
            case Accumulate(target=Buffer(dtype=dtype) as target, index=index, op="add"):
                gathered = any(name in scalars for position in index for name in position.variables)
                if gathered and dtype.name in added and target.root not in loaded:
                    return (replace(statement, atomic=True),)
        return (statement,)

    return replace(kernel, body=rewritten(kernel.body, in_turns))


def _is_tiny(kernel: Kernel) -> bool:
    """Whether each thread can do whole rows of a kernel, with all that they need in memory of its own.

    So it is where a row is shorter than a warp is wide, and rows meet in few sums alone.
    """
    rows = outermost_rows(kernel)
    assert rows is not None
    private = {each for each in kernel.buffers if each.space == "row"} | accumulated(rows)
    extents = (each.extent for each in walk(rows.body) if isinstance(each, Loop))
    short = all(isinstance(extent, int) and extent < WARP for extent in extents)
    few = 0 < sum(nominal(each.type.size) for each in private) <= LOCAL
    return short and few and independent(rows, private)


# scratch --------------------------------------------------------------------------------------------------------------


def _with_shared(kernel: Kernel) -> Kernel:
    """The kernel with its scratch (but for sums of all rows) in the memory that threads share, while there is room."""
    rows = outermost_rows(kernel)
    sums = accumulated(rows) if rows is not None else frozenset()
    new: dict[Buffer, Buffer] = {}
    left = SHARED
    for buffer in dict.fromkeys(buffer.root for buffer in kernel.buffers if buffer.root.space == "row"):
        size = buffer.nbytes
        if buffer not in sums and isinstance(size, int) and 0 < size <= left:
            left -= size
            new[buffer] = replace(buffer, space="shared")
    return moved(kernel, new)


def _fitting(buffers: Collection[Buffer], room: int) -> Iterator[Buffer]:
    """The buffers of known size that fit into some bytes."""
    for buffer in sorted(buffers, key=lambda each: (nominal(each.nbytes), each.name)):
        if isinstance(buffer.nbytes, int) and buffer.nbytes <= room:
            room -= buffer.nbytes
            yield buffer


def _in_memory(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels with scratch in the arena that has no room in a block."""
    scratch = {each.root for kernel in kernels for each in kernel.buffers if each.root.space == "row"}
    new = {each: replace(each, space="arena") for each in scratch}
    return [moved(kernel, new) for kernel in kernels]
