"""Inline: elementwise and layout stages dissolve into the stages that read them.

A stage is inlined where that costs nothing (it only moves data, or is a few cheap operations) or where exactly one
reader computes each element once. The decision is made for all stages first; bodies are then put together once per
remaining stage, without recursion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphc.ir import ops
from graphc.ir.dims import Extent, product
from graphc.ir.loops import Affine, Buffer, Const, IndexValue, Let, Load, Straight, Value
from graphc.passes.stages import Stage, as_indices, free_name, substitute_statement, uses

BOOL = np.dtype("bool")

# Above this many statements a kernel is split: Numba's compile time is about 9 ms a statement.
STATEMENT_LIMIT = 150
# A stage this cheap (in units of one addition) is recomputed by every reader rather than stored.
CHEAP = 2
# A transposed copy pays where each element is read so often, and its rows are long enough for a vector.
MANY = 16
LONG_ROW = 8


def cost(stage: Stage) -> int:
    """The arithmetic of one element, in units of an addition."""
    return sum(operation_cost(statement) for statement in stage.body if isinstance(statement, Let))


def operation_cost(let: Let) -> int:
    """The cost of a scalar operation, in units of an addition: calls count 10, divisions 4."""
    op = ops.OPS.get(let.op)
    text = op.scalar if op and op.scalar else ""
    return 10 if "(" in text else 4 if "/" in text else 1


@dataclass
class _Uses:
    """How a value is read: by which stages; several times at one place; so often that a copy costs little in
    comparison; at several places by one stage."""

    readers: set[Buffer] = field(default_factory=set)
    repeated: bool = False
    many: bool = False
    apart: bool = False
    places: dict[Buffer, Load] = field(default_factory=dict)

    def add(self, reader: Stage, load: Load, through: _Uses | None) -> None:
        """Count a load; `through` says how the reader is read, where it dissolves."""
        self.readers |= {reader.buffer} if through is None else through.readers
        times = _times_per_element(reader, load)
        self.repeated |= times != 1 or (through is not None and through.repeated)
        self.many |= reader.combine is not None and (not isinstance(times, int) or times >= MANY)
        first = self.places.setdefault(reader.buffer, load)
        self.apart |= (load.index, load.mask) != (first.index, first.mask)


@dataclass
class Inliner:
    """Decides which stages dissolve (`inlined`), and puts the bodies of the others together (`expanded`).

    `pinned` buffers must exist: outputs, operands of calls, bases of aliases, memory written more than once.
    """

    stages: Sequence[Stage]
    pinned: frozenset[Buffer]
    refusals: list[str]
    inlined: dict[Buffer, Stage] = field(default_factory=dict)
    positions: set[Buffer] = field(default_factory=set)  # what depends on where it is alone, and costs nothing

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage.combine is None and not cost(stage) and all(load.buffer in self.positions for load in stage.loads):
                self.positions.add(stage.buffer)
        reasons = self._reasons()
        size: dict[Buffer, int] = {}
        for stage in self.stages:
            reason = reasons[stage.buffer]
            weight = len(stage.body)
            reads = {(load.buffer, load.index, load.mask) for load in stage.loads}  # equal ones are put in once
            weight += sum(size[buffer] for buffer, *_ in reads if buffer in self.inlined)
            size[stage.buffer] = weight
            if reason is None and weight > STATEMENT_LIMIT // 2 and cost(stage):
                reason = f"{weight} statements with what it reads, more than half of the limit of {STATEMENT_LIMIT}"
            if reason is None:
                self.inlined[stage.buffer] = stage
            elif reason:
                self.refusals.append(f"{stage.buffer.name}: not inlined: {reason}")

    def _reasons(self) -> dict[Buffer, str | None]:
        """Why each stage is kept; "" where there was never a question, None where it dissolves.

        Readers first: a value read through a broadcast that dissolves is computed as often as the broadcast repeats it.
        """
        sites = _load_sites(self.stages)
        uses: dict[Buffer, _Uses] = {}
        reasons: dict[Buffer, str | None] = {}
        for stage in reversed(self.stages):
            buffer = stage.buffer
            uses[buffer] = found = _Uses()
            for reader, load in [] if buffer in self.pinned else sites.get(buffer, []):
                found.add(reader, load, uses[reader.buffer] if reasons[reader.buffer] is None else None)
            reasons[buffer] = self._reason(stage, found)
        return reasons

    def _reason(self, stage: Stage, uses: _Uses) -> str | None:
        if stage.combine is not None or stage.buffer in self.pinned or not uses.readers:
            return ""
        work = cost(stage)
        if work == 0 and uses.many and _turns_rows(stage):
            return "its reader walks along its rows many times, and they are columns of what it copies"
        if work == 0 or not stage.axes:  # a scalar is computed once, before the loops of each kernel that reads it
            return None
        if uses.repeated or (uses.apart and work > CHEAP):
            return "its reader would compute each element more than once"
        read = [load for load in stage.loads if load.buffer not in self.positions]
        if len(uses.readers) > 1 and (work > CHEAP or len(read) > 1):
            return f"read by {len(uses.readers)} stages, and too much work to repeat"
        return None

    def expanded(self) -> Iterator[Stage]:
        """The stages that remain, with the inlined ones in their bodies, in order."""
        for stage in self.stages:
            if stage.buffer not in self.inlined:
                yield expand(stage, self.inlined)


def _load_sites(stages: Sequence[Stage]) -> dict[Buffer, list[tuple[Stage, Load]]]:
    sites: dict[Buffer, list[tuple[Stage, Load]]] = {}
    for stage in stages:
        for load in stage.loads:
            sites.setdefault(load.buffer, []).append((stage, load))
    return sites


def _times_per_element(reader: Stage, load: Load) -> Extent:
    """How often the reader's loops visit an element that this load names, at most."""
    used = {variable for position in load.index for variable in position.variables}
    return product(extent for name, extent in reader.extents.items() if name not in used)


def _turns_rows(stage: Stage) -> bool:
    """Whether a stage makes long rows of what are columns in memory."""
    name, extent = stage.axes[-1] if stage.axes else ("", 1)
    if isinstance(extent, int) and extent < LONG_ROW:
        return False
    return any(name in position.variables for load in stage.loads for position in load.index[:-1])


# putting bodies together ------------------------------------------------------------------------------------


@dataclass
class _Frame:
    """One body being copied: its statements still to come, and what its variables and names have become."""

    statements: Iterator[Straight]
    variables: Mapping[str, Affine]
    names: dict[str, Value]
    mask: str | None
    load: Load | None = None  # the load that this body stands for, in the frame below
    value: Value = ""


def expand(stage: Stage, inlined: Mapping[Buffer, Stage]) -> Stage:
    """The stage with every load of an inlined buffer replaced by that buffer's own expression."""
    body: list[Straight] = []
    taken: set[str] = set()
    seen: dict[tuple[object, ...], Value] = {}
    positions: dict[str, Affine] = {}  # integer scalars that are loop positions: an index may use them directly
    stack = [_Frame(iter(stage.body), {}, {}, None, value=stage.value)]
    while True:
        frame = stack[-1]
        statement = next(frame.statements, None)
        if statement is None:
            stack.pop()
            value = frame.names.get(frame.value, frame.value) if isinstance(frame.value, str) else frame.value
            if frame.load is None:
                done = stage.renamed(frame.names)
                return replace(done, body=live(body, done.results))
            load, reader = frame.load, stack[-1]
            if load.mask is not None and load.mask != reader.mask:  # else the reader's own value is masked
                value = _append(body, taken, seen, _masked(load, value))
            reader.names[load.name] = value
            seen[_inlined_key(load, reader.mask)] = value
            continue
        # The statement's own name stays out of the substitution: it is chosen when the statement is added.
        placed = substitute_statement(statement, {**frame.variables, **as_indices(frame.names, positions)}, frame.names)
        if isinstance(placed, Load) and frame.mask is not None:
            placed = replace(placed, mask=_both(body, taken, seen, placed.mask, frame.mask))
        if isinstance(placed, Load) and placed.buffer in inlined:
            if (key := _inlined_key(placed, frame.mask)) in seen:
                frame.names[statement.name] = seen[key]
            else:
                producer = inlined[placed.buffer]
                at = {name: position for (name, _), position in zip(producer.axes, placed.index, strict=True)}
                outer = replace(placed, name=statement.name)
                stack.append(_Frame(iter(producer.body), at, {}, placed.mask, outer, producer.value))
            continue
        if isinstance(placed, Let) and placed.op == "where":
            placed = _chosen_once(placed, body)
        name = _append(body, taken, seen, placed)
        if isinstance(placed, IndexValue) and isinstance(name, str):
            positions[name] = placed.index
        frame.names[statement.name] = name


def _chosen_once(choice: Let, body: Sequence[Straight]) -> Let:
    """``where(c, where(c, a, 0), b)`` without the inner choice."""
    condition, chosen, other = choice.args
    inner = next((one for one in reversed(body) if one.name == chosen), None)
    if isinstance(inner, Let) and inner.op == "where" and inner.args[0] == condition:
        return replace(choice, args=(condition, inner.args[1], other))
    return choice


def live(body: Sequence[Straight], values: Sequence[Value]) -> tuple[Straight, ...]:
    """The statements that some values need."""
    needed = set(values)
    kept: list[Straight] = []
    for statement in reversed(body):
        if statement.name in needed:
            needed.update(uses(statement))
            kept.append(statement)
    return tuple(reversed(kept))


def _append(body: list[Straight], taken: set[str], seen: dict[tuple[object, ...], Value], new: Straight) -> Value:
    """Add a statement under a free name, or find the equal one that is there; the name of its value."""
    key = _key(new)
    if key in seen:
        return seen[key]
    name = free_name(new.name, taken)
    taken.add(name)
    body.append(replace(new, name=name))
    seen[key] = name
    return name


def _key(statement: Let | Load | IndexValue) -> tuple[object, ...]:
    match statement:
        case Let(op=op, args=args, dtype=dtype):
            return (op, args, dtype)
        case Load(buffer=buffer, index=index, mask=mask):
            return (buffer, index, mask)
        case IndexValue(index=index, dtype=dtype):
            return (index, dtype)


def _inlined_key(load: Load, mask: str | None) -> tuple[object, ...]:
    """What tells the value of an inlined load from others, in a body of which `mask` says which elements matter."""
    return (load.buffer, load.index, load.mask, load.mask == mask)


def _masked(load: Load, value: Value) -> Let:
    assert load.mask is not None
    zero = Const(load.buffer.dtype.type(0), load.buffer.dtype)
    return Let(load.name, "where", (load.mask, value, zero), load.buffer.dtype)


def _both(
    body: list[Straight], taken: set[str], seen: dict[tuple[object, ...], Value], inner: str | None, outer: str
) -> str:
    """The mask of a masked load inside a masked body."""
    if inner is None:
        return outer
    both = _append(body, taken, seen, Let("inside", "logical_and", (outer, inner), BOOL))
    assert isinstance(both, str)
    return both
