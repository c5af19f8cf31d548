"""Verify what a program says as a whole: its buffers, its library calls, and the plan of its arena."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from graphc.ir.dims import Extent, bind, extent_names, is_exact, product
from graphc.ir.factorizations import ROUTINES
from graphc.ir.loops import AT, SCRATCH, SPACES, Buffer, Call, Program
from graphc.ir.types import is_half

# Sizes of the dims at which symbolic plans are checked.
SAMPLES = (1, 37, 5040)


def program_problems(program: Program) -> Iterator[str]:
    """Yield what is wrong outside of kernels."""
    yield from _buffers(program)
    yield from _leaves(program)
    yield from _rows(program)
    for step in program.steps:
        if isinstance(step, Call):
            yield from call_problems(step, program)
    yield from _arena(program)


def _buffers(program: Program) -> Iterator[str]:
    """Names are unique, spaces known, dims declared; an alias lies within its base."""
    buffers = program.buffers
    for name, count in Counter(buffer.name for buffer in buffers).items():
        if count > 1:
            yield f"{count} buffers are named {name}"
    for buffer in buffers:
        if buffer.space not in SPACES:
            yield f"the buffer {buffer.name} is in no space {buffer.space}; there are {', '.join(SPACES)}"
        for dim in sorted(extent_names((*buffer.shape, buffer.offset)) - set(program.dims)):
            yield f"the buffer {buffer.name} needs the dim {dim}, which the program does not declare"
        if (buffer.space == "alias") != (buffer.base is not None):
            yield f"the buffer {buffer.name} in space {buffer.space} has {'a' if buffer.base else 'no'} base"
    samples = tuple(_samples(program)) if any(buffer.base is not None for buffer in buffers) else ()
    for buffer in buffers:
        if buffer.base is not None:
            yield from _alias(buffer, buffer.base, samples)


def _alias(buffer: Buffer, base: Buffer, samples: Sequence[dict[str, int]]) -> Iterator[str]:
    if buffer.dtype != base.dtype:
        yield f"the alias {buffer.name}: {buffer.type} has another dtype than {base.name}: {base.type}"
    end = buffer.offset + buffer.type.size
    room = base.type.size - end
    # Where a quotient is not exact, a reshape may not divide: a guard of the graph excludes those sizes.
    out = [
        bind(buffer.offset, sizes) < 0 or bind(room, sizes) < 0
        for sizes in samples
        if is_exact(room, sizes)
    ]
    # The sizes at which a part of an input is not there are excluded by a guard of the graph.
    if out and (all(out) if buffer.root.space == "input" else any(out)):
        yield f"the alias {buffer.name}: {buffer.type} at {buffer.offset} reaches out of {base.name}: {base.type}"


def _leaves(program: Program) -> Iterator[str]:
    """Inputs, params and constants are what they say, and declared; a constant brings its array."""
    arrays = dict(program.constants)
    declared = {"input": program.inputs, "param": program.params, "constant": tuple(arrays)}
    used = program.buffers
    for space, buffers in declared.items():
        for buffer in buffers:
            if buffer.space != space:
                yield f"the {space} {buffer.name} is in space {buffer.space}"
        for buffer in used:
            if buffer.space == space and buffer not in buffers:
                yield f"the {space} {buffer.name} is used and not declared"
    for buffer, array in arrays.items():
        if (array.dtype, array.shape) != (buffer.dtype, buffer.shape):
            yield f"the constant {buffer.name}: {buffer.type} has an array of {array.dtype} and shape {array.shape}"


def _rows(program: Program) -> Iterator[str]:
    """Row scratch belongs to one kernel, inside of a loop."""
    owners: dict[Buffer, str] = {}
    for step in program.steps:
        for buffer in step.buffers:
            if buffer.root.space not in SCRATCH:
                continue
            if isinstance(step, Call):
                yield f"{step.routine} is called on the row scratch {buffer.name}"
            elif owners.setdefault(buffer.root, step.name) != step.name:
                yield f"the kernels {owners[buffer.root]} and {step.name} share the row scratch {buffer.root.name}"


# calls ----------------------------------------------------------------------------------------------------------------


def call_problems(call: Call, program: Program) -> Iterator[str]:
    """Yield what is wrong with a call, wherever it stands."""
    wanted = _FLAGS.get(call.routine)
    if wanted is None:
        yield f"there is no routine {call.routine}; there are {', '.join(_FLAGS)}"
    elif tuple(flag for flag, _ in call.flags if flag != "parts") != wanted:
        yield f"{call.routine} wants the flags {', '.join(wanted)}"
    elif call.parts < 1 or (call.parts > 1 and (call.routine != "matmul" or len(call.operands[-1].shape) < 2)):
        yield f"{call.routine} does not run in {call.parts} parts: only products of matrices do, in one or more"
    elif call.routine == "check_index":
        if len(call.operands) != 1 or call.operands[0].dtype.kind not in "iu":
            yield "check_index wants one integer buffer"
    elif call.routine in ROUTINES:
        yield from _factorization(call)
    elif call.routine in ("argsort", "searchsorted"):
        yield from _places(call)
    elif call.routine in AT:
        yield from _combined_at(call)
    elif len(call.operands) != 3 or len({buffer.dtype for buffer in call.operands}) != 1:
        yield "matmul wants three buffers of one dtype"
    elif (shape := _product_shape(call)) != call.operands[2].shape:
        a, b, out = (f"{buffer.name}: {buffer.type}" for buffer in call.operands)
        yield f"the product of {a} and {b} {'does not exist' if shape is None else f'is not {out}'}"
    first = len(call.operands) - len(call.writes)
    for place, buffer in enumerate(call.writes if wanted is not None else (), first):
        if buffer.root.space in ("input", "constant"):
            yield f"{call.routine} stores to the {buffer.root.space} {buffer.root.name}"
        if any(overlap(buffer, other, program) for k, other in enumerate(call.operands) if k != place):
            yield f"{call.routine} stores to {buffer.name} while it reads it"


def overlap(buffer: Buffer, other: Buffer, program: Program) -> bool:
    """Whether two buffers share an element (two parts of one may lie apart)."""
    if buffer.root != other.root:
        return False
    for sizes in _samples(program):
        starts = [bind(each.start, sizes) for each in (buffer, other)]
        stops = [start + bind(each.type.size, sizes) for start, each in zip(starts, (buffer, other), strict=True)]
        if max(starts) < min(stops):
            return True
    return False


_FLAGS = {
    "matmul": ("transpose_a", "transpose_b", "accumulate"),
    "check_index": ("extent", "text"),
    "argsort": (),
    "searchsorted": ("right",),
    **dict.fromkeys(AT, ()),
    **{name: routine.flags for name, routine in ROUTINES.items()},
}


def _factorization(call: Call) -> Iterator[str]:
    """Operands of one float dtype, that fit each other, the memory to work in, and the result."""
    routine = ROUTINES[call.routine]
    count = routine.operands + 1 + (routine.work is not None)
    if len(call.operands) != count or len({buffer.dtype for buffer in call.operands}) != 1:
        yield f"{call.routine} wants {count} buffers of one dtype"
        return
    operands = [buffer.shape for buffer in call.reads]
    wanted = [routine.result(*operands)]
    if wanted[0] is not None and routine.work is not None:
        wanted = [routine.work(operands[0]), *wanted]
    if call.operands[-1].dtype.kind != "f" or [buffer.shape for buffer in call.writes] != wanted:
        *given, out = (f"{buffer.name}: {buffer.type}" for buffer in call.operands)
        yield f"{call.routine} does not make {out} of {' and '.join(given)}"


def _places(call: Call) -> Iterator[str]:
    """Sorting and searching store positions, in a buffer of the shape of what is sorted or looked for."""
    if len(call.operands) != 3:
        yield f"{call.routine} wants three buffers"
        return
    first, second, out = call.operands
    if out.dtype.name != "int64" or out.shape != (first if call.routine == "argsort" else second).shape:
        yield f"{call.routine} of {first.name}: {first.type} does not give {out.name}: {out.type}"
    scratch = [out.type.with_shape(shape) for shape in (out.shape[-1:], (3, *out.shape))]
    if call.routine == "argsort" and (not out.shape or second.type not in scratch):
        yield f"argsort wants scratch of the length and dtype of {out.name}'s rows, got {second.name}: {second.type}"
    if call.routine == "searchsorted" and (len(first.shape) != 1 or first.dtype != second.dtype):
        yield f"searchsorted wants a vector of {second.dtype}, got {first.name}: {first.type}"


def _combined_at(call: Call) -> Iterator[str]:
    """A position for each row of values, and the order of the positions."""
    if len(call.operands) != 4:
        yield f"{call.routine} wants four buffers"
        return
    order, positions, values, out = call.operands
    if values.dtype != out.dtype or values.shape[: len(positions.shape)] != positions.shape:
        rows = f"{values.name}: {values.type} at {positions.name}: {positions.type}"
        yield f"{call.routine} does not bring {rows} into {out.type}"
    if AT[call.routine] and is_half(out.dtype):
        yield f"{call.routine} computes on the halves {out.name}: {out.type}, which are bits there"
    if positions.dtype.name != "int64" or order.type != positions.type.with_shape((product(positions.shape),)):
        yield f"{order.name}: {order.type} is no order of {positions.name}: {positions.type}"


def _product_shape(call: Call) -> tuple[Extent, ...] | None:
    """The shape of a matrix product; None where the operands do not fit."""
    (a, b), flags = (buffer.shape for buffer in call.operands[:2]), (call["transpose_a"], call["transpose_b"])
    a, b = (
        (*shape[:-2], shape[-1], shape[-2]) if flag and len(shape) > 1 else shape
        for shape, flag in zip((a, b), flags, strict=True)
    )
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        return None
    if len(a) < 2 or len(b) < 2:
        return (*a[:-1], *b[-1:]) if len(b) > 1 else a[:-1]
    stacks = {shape[:-2] for shape in (a, b) if len(shape) > 2}  # one matrix serves a whole stack
    return (*max(stacks, default=()), a[-2], b[-1]) if len(stacks) < 2 else None


# the arena ------------------------------------------------------------------------------------------------------------


def _arena(program: Program) -> Iterator[str]:
    """Every arena and row buffer has a place; two that live at once do not overlap; nothing reaches out."""
    if program.arena is None:
        return
    offsets = dict(program.arena.offsets)
    lives: dict[Buffer, tuple[int, int]] = {}
    for position, step in enumerate(program.steps):
        for buffer in step.buffers:
            if buffer.root.space in ("arena", "row"):
                lives[buffer.root] = (lives.get(buffer.root, (position,))[0], position)
    for buffer in lives:
        if buffer not in offsets:
            yield f"the {buffer.space} buffer {buffer.name} has no place in the arena"
            return
    for sizes in _samples(program):
        spans = {
            buffer: (bind(offsets[buffer], sizes), bind(offsets[buffer] + buffer.nbytes, sizes)) for buffer in lives
        }
        yield from _outside(spans, bind(program.arena.size, sizes))
        yield from _overlaps(spans, lives)


def _outside(spans: dict[Buffer, tuple[int, int]], size: int) -> Iterator[str]:
    for buffer, (start, stop) in spans.items():
        if start < 0 or stop > size or start % buffer.dtype.itemsize:
            yield f"{buffer.name} has the bytes {start} to {stop} of an arena of {size}"


def _overlaps(spans: dict[Buffer, tuple[int, int]], lives: dict[Buffer, tuple[int, int]]) -> Iterator[str]:
    """Compare each buffer with those still alive when it is born."""
    alive: list[Buffer] = []
    for buffer in sorted(lives, key=lambda buffer: lives[buffer][0]):
        alive = [other for other in alive if lives[other][1] >= lives[buffer][0]]
        start, stop = spans[buffer]
        for other in alive:
            if start < spans[other][1] and spans[other][0] < stop:
                yield f"{buffer.name} and {other.name} live at once and overlap in the arena"
        alive.append(buffer)


def _samples(program: Program) -> Iterator[dict[str, int]]:
    """Sizes of the dims, without those at which some extent is negative (there a guard of the graph does not hold)."""
    extents = {extent for buffer in program.buffers for extent in buffer.shape}
    for size in SAMPLES:
        sizes = dict.fromkeys(program.dims, size)
        if all(bind(extent, sizes) >= 0 for extent in extents):
            yield sizes
