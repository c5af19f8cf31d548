"""The loop IR: buffers, loops over axes, one scalar operation a statement; kernels and library calls in order.

It stands between tensors and text. A `Program` is what `lower`, `fuse` and `memory` pass on and the emitters print: a
list of `Kernel` (becomes one function) and `Call` (a library routine) over `Buffer` objects. All of it is plain data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.dims import Dim, Extent, extent_names, nominal, product
from graphc.ir.factorizations import ROUTINES
from graphc.ir.types import Shape, TensorType

# Where a buffer lives. input, param: the caller's, read-only but for updates; output: fresh, returned; arena: lives for
# one call; row: scratch of one outer iteration of one kernel, reused by the next; shared: the same in the fast memory
# that the threads of a block share; local: the same for each of these threads; alias: a contiguous part of another;
# constant: an array that comes with the program.
SPACES = ("input", "param", "output", "arena", "row", "shared", "local", "alias", "constant")
SCRATCH = ("row", "shared", "local")
ON_CHIP = ("shared", "local")  # which no plan of memory knows


@dataclass(frozen=True, slots=True)
class Buffer:
    """A C-contiguous array. `base` and `offset` (in elements) say what an alias is part of."""

    name: str
    dtype: np.dtype
    shape: Shape
    space: str
    base: Buffer | None = None
    offset: Extent = 0

    @property
    def type(self) -> TensorType:
        """Dtype and shape."""
        return TensorType(self.dtype, self.shape)

    @property
    def nbytes(self) -> Extent:
        """The size in bytes."""
        return product(self.shape) * self.dtype.itemsize

    @property
    def root(self) -> Buffer:
        """The buffer whose memory this one is part of; itself where it is no alias."""
        buffer = self
        while buffer.base is not None:
            buffer = buffer.base
        return buffer

    @property
    def start(self) -> Extent:
        """Where it begins in its root, in elements."""
        start, buffer = self.offset, self
        while buffer.base is not None:
            buffer = buffer.base
            start = start + buffer.offset
        return start

    def position(self, index: Index) -> Affine:
        """Where an element stands, counted from the buffer's first."""
        found = Affine()
        for place, each in enumerate(index):
            found += each * product(self.shape[place + 1 :])
        return found

    def may_overlap(self, other: Buffer) -> bool:
        """Whether two buffers may have an element in common: two parts of one lie apart where their offsets say so."""
        if self == other or self.root != other.root:
            return self == other
        low, high = sorted((self, other), key=lambda each: nominal(each.start))
        gap = high.start - low.start - low.type.size
        return not isinstance(gap, int) or gap < 0


@dataclass(frozen=True, slots=True)
class Affine:
    """An index: ``offset + sum(coefficient * variable)`` over loop axes and integer scalars (a gathered index)."""

    terms: tuple[tuple[str, Extent], ...] = ()
    offset: Extent = 0

    @property
    def variables(self) -> tuple[str, ...]:
        """The axes and scalars it depends on."""
        return tuple(variable for variable, _ in self.terms)

    def __add__(self, other: Affine | Extent) -> Affine:
        if not isinstance(other, Affine):
            return Affine(self.terms, self.offset + other)
        totals: dict[str, Any] = {}
        for variable, coefficient in (*self.terms, *other.terms):
            totals[variable] = totals.get(variable, 0) + coefficient
        return Affine(tuple(item for item in totals.items() if item[1] != 0), self.offset + other.offset)

    def __radd__(self, other: Extent) -> Affine:
        return self + other

    def __mul__(self, factor: Extent) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(
            tuple((variable, coefficient * factor) for variable, coefficient in self.terms), self.offset * factor
        )

    __rmul__ = __mul__


def axis(name: str) -> Affine:
    """The index that is the variable `name` itself."""
    return Affine(((name, 1),))


Index: TypeAlias = "tuple[Affine, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A number in the source. `value` is a NumPy scalar, or a `Dim` with the dtype it is converted to."""

    value: Any
    dtype: np.dtype

    @property
    def key(self) -> tuple[str, Any]:
        """Equal for equal bits: -0.0 and NaN are values."""
        return (self.dtype.name, self.value if isinstance(self.value, Dim) else self.value.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


Value: TypeAlias = "str | Const"  # the name of a scalar, or a number


@dataclass(frozen=True, slots=True)
class Let:
    """``name = op(*args)``: one scalar operation. `op` is an elementwise op, or one of `SCALAR_OPS`."""

    name: str
    op: str
    args: tuple[Value, ...]
    dtype: np.dtype


# Scalar operations beside the elementwise ops. cast: to the statement's dtype. wrap: a gathered index, counted from the
# end where negative: wrap(k, extent).
SCALAR_OPS = ("cast", "wrap")


@dataclass(frozen=True, slots=True)
class IndexValue:
    """``name = index``: an affine index as an integer scalar (what `arange` and padding tests read)."""

    name: str
    index: Affine
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Load:
    """``name = buffer[index]``; with a mask (a boolean scalar) 0 where it is false, and then nothing is read there."""

    name: str
    buffer: Buffer
    index: Index
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """``buffer[index] = value``."""

    buffer: Buffer
    index: Index
    value: Value


@dataclass(frozen=True, slots=True)
class Accumulator:
    """``name = initial``: a scalar that `Accumulate` statements in inner loops combine into."""

    name: str
    initial: Const


@dataclass(frozen=True, slots=True)
class Accumulate:
    """``target = op(target, value)`` on an accumulator (a name), or on ``target[index]`` of a buffer.

    `op` is one of `COMBINE`. With `atomic`, threads that meet at an element take turns.
    """

    target: str | Buffer
    index: Index
    op: str
    value: Value
    atomic: bool = False


# How reductions combine: names of elementwise ops.
COMBINE = ("add", "multiply", "maximum", "minimum", "logical_and", "logical_or")
# What combining with changes nothing (of what is the larger or the smaller nothing is counted twice).
NEUTRAL = {"add": 0, "multiply": 1, "logical_and": True, "logical_or": False}


@dataclass(frozen=True, slots=True)
class Loop:
    """``for axis in range(extent): body``. parallel: iterations are independent; reduce: they accumulate; serial:
    they run in order (or it does not pay to split them); threads: each runs on a thread; blocks: each runs on a block
    of `threads` threads, to whom the loops of kind threads inside of it are dealt out, while all of them run everything
    else.

    With `share`, (the axis of a loop around it, that loop's extent), the loop runs over one of that many equal pieces
    of its extent: the one that the axis says.

    With several `lanes` (one of `LANES`), one of kind threads: neighbouring iterations, that many, run on one thread
    together. What does not depend on the axis runs once for all of them; of elements side by side in memory they load
    all before, and store all after what they compute. Pieces are of such groups, and of the few iterations left over.
    """

    axis: str
    extent: Extent
    kind: str
    body: tuple[Statement, ...]
    share: tuple[str, Extent] | None = None
    threads: int = 0
    lanes: int = 1


LANES = (2, 4, 8)  # beside 1: what fits into one instruction of a GPU, be it of 8 bytes each or of 1
KINDS = ("parallel", "serial", "reduce", "threads", "blocks")
AT_ONCE = ("parallel", "threads", "blocks")  # whose iterations may run at the same time


@dataclass(frozen=True, slots=True)
class Product:
    """``out[piece] = a[piece] @ b``, or ``+=`` where it accumulates: some rows of a library product of matrices.

    The rows are one of equal pieces, as in `Loop`: the one that the axis of a loop around it, in `share`, says.
    """

    a: Buffer
    b: Buffer
    out: Buffer
    transpose_b: bool
    accumulate: bool
    share: tuple[str, Extent]

    @property
    def whole(self) -> Call:
        """The call that computes all rows."""
        flags = ("transpose_a", False), ("transpose_b", self.transpose_b), ("accumulate", self.accumulate)
        return Call("matmul", (self.a, self.b, self.out), flags)


@dataclass(frozen=True, slots=True)
class Combine:
    """Each thread of a block has accumulated a total of its own; from here on `target` is the total of all."""

    target: str
    op: str


@dataclass(frozen=True, slots=True)
class Barrier:
    """The threads of a block wait for each other: what one stored before, all can read after."""


@dataclass(frozen=True, slots=True)
class Comment:
    """A line for the reader: which view the statements below compute."""

    text: str


# What computes a scalar, under a name that is set once.
Straight: TypeAlias = "Let | IndexValue | Load"
Statement: TypeAlias = (
    "Let | IndexValue | Load | Store | Accumulator | Accumulate | Loop | Product | Combine | Barrier | Comment"
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loop nest that becomes one function. `origin` names the views that it computes, for the reader."""

    name: str
    body: tuple[Statement, ...]
    origin: str = ""

    @property
    def parts(self) -> Loop | None:
        """The loop whose iterations run on threads, which is all of such a kernel; None where it runs on one."""
        return self._around_all("threads")

    @property
    def grid(self) -> Loop | None:
        """The loop whose iterations run on blocks of threads, which is all of such a kernel; None where none do."""
        return self._around_all("blocks")

    def _around_all(self, kind: str) -> Loop | None:
        first = self.body[0] if self.body else None
        return first if isinstance(first, Loop) and first.kind == kind else None

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The buffers stored to, in order (row scratch too)."""
        found: dict[Buffer, None] = {}
        for statement in walk(self.body):
            match statement:
                case Store(buffer=buffer) | Accumulate(target=Buffer() as buffer) | Product(out=buffer):
                    found[buffer] = None
        return tuple(found)

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """The buffers loaded from, in order (row scratch too)."""
        found: dict[Buffer, None] = {}
        for statement in walk(self.body):
            match statement:
                case Load(buffer=buffer):
                    found[buffer] = None
                case Product():
                    found |= dict.fromkeys(statement.whole.reads)
        return tuple(found)

    @property
    def products(self) -> tuple[Product, ...]:
        """The library products that it computes by pieces, in order."""
        return tuple(statement for statement in walk(self.body) if isinstance(statement, Product))

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The function's array arguments: those only read, then those written."""
        writes = self.writes
        return (*(buffer for buffer in self.reads if buffer not in writes), *writes)

    @property
    def dim_names(self) -> tuple[str, ...]:
        """The symbolic dims that its text needs, sorted: extents, constants and index arithmetic (not shapes)."""
        return tuple(sorted(extent_names(_extents(self.body))))


# The routines that combine what is there with what goes there, each by an elementwise op; the last one replaces it.
AT = {"add_at": "add", "maximum_at": "maximum", "minimum_at": "minimum", "set_at": ""}


@dataclass(frozen=True, slots=True)
class Call:
    """A library routine. `operands` are buffers, written ones last; `flags` its options.

    ``matmul``: (a, b, out), flags transpose_a, transpose_b, accumulate, where it runs on threads parts, their number;
    operands of one or two dims, or of more with equal leading (batch) dims, which a matrix need not have.
    ``check_index``: (index,), flags extent and text: raises where an index is out of range.
    ``argsort``: (keys, scratch, out), no flags: the order of the keys along the last axis; scratch is as long as it, or
    thrice as large as out.
    ``searchsorted``: (keys, values, out), flag right: where values belong in a sorted vector.
    ``add_at`` and others of `AT`: (order, positions, values, out), no flags: ``out[positions[i]:][:n] += values[i]``,
    or what else they do, with out and the n values of each position flat, one position after the other where they are
    equal; order is that of the positions. What goes to other positions goes to other elements.
    The others factorise matrices, or use factors (`ROUTINES`): what they read, memory to work in where they need it,
    and the result.
    """

    routine: str
    operands: tuple[Buffer, ...]
    flags: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, flag: str) -> Any:
        return dict(self.flags)[flag]

    @property
    def parts(self) -> int:
        """On how many threads it runs."""
        return int(dict(self.flags).get("parts", 1))

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What it touches, as a kernel's: the operands."""
        return self.operands

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The buffers stored to."""
        count = self._read_alone
        return self.operands[-1:] if count is None else self.operands[count:]

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """The buffers loaded from."""
        if (count := self._read_alone) is not None:
            return self.operands[:count]
        return self.operands if dict(self.flags).get("accumulate", True) else self.operands[:-1]

    @property
    def _read_alone(self) -> int | None:
        """How many operands the routine reads and does not write, before those that it writes; None: its flags say."""
        return ROUTINES[self.routine].operands if self.routine in ROUTINES else _READS.get(self.routine)


# How many of its operands a routine reads, and does not write, where that says it all.
_READS = {"check_index": 1, "argsort": 1, "searchsorted": 2}


Step: TypeAlias = "Kernel | Call"


@dataclass(frozen=True, slots=True)
class Arena:
    """Where arena and row buffers live in one block of memory: offsets and size in bytes.

    `lower_bound` is the largest number of bytes live at once, which no plan can beat (dims at their nominal size).
    """

    offsets: tuple[tuple[Buffer, Extent], ...]
    size: Extent
    lower_bound: Extent


@dataclass(frozen=True, slots=True)
class Program:
    """Kernels and calls in order. `outputs` are returned; `updated` are the params stored to; `constants` are arrays
    that are passed beside the params; `refusals` say what was not fused, and why."""

    name: str
    dims: tuple[str, ...]
    inputs: tuple[Buffer, ...]
    params: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    arena: Arena | None = None
    constants: tuple[tuple[Buffer, np.ndarray], ...] = field(default=(), compare=False)
    refusals: tuple[str, ...] = field(default=(), compare=False)

    @property
    def updated(self) -> tuple[Buffer, ...]:
        """The parameters that the program stores to, in declaration order."""
        written = {buffer.root for step in self.steps for buffer in step.writes}
        return tuple(buffer for buffer in self.params if buffer in written)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Every buffer, in order of appearance: leaves first, an alias after its base."""
        found: dict[Buffer, None] = dict.fromkeys(
            (*self.inputs, *self.params, *(buffer for buffer, _ in self.constants))
        )
        for step in self.steps:
            for buffer in step.buffers:
                chain = [buffer]
                while (base := chain[-1].base) is not None:
                    chain.append(base)
                found.update(dict.fromkeys(reversed(chain)))
        found.update(dict.fromkeys(self.outputs))
        return tuple(found)


def shared_axes(variable: str, loops: Iterable[Loop]) -> set[str]:
    """An axis, and those of the loops (outer before inner) that run over pieces it counts, or over pieces of these:
    no two iterations of its loop see the same value of one of them."""
    axes = {variable}
    for loop in loops:
        if loop.share is not None and loop.share[0] in axes:
            axes.add(loop.axis)
    return axes


def walk(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """All statements, outer before inner, in order; without recursion."""
    stack: list[Iterator[Statement]] = [iter(body)]
    while stack:
        for statement in stack[-1]:
            yield statement
            if isinstance(statement, Loop):
                stack.append(iter(statement.body))
                break
        else:
            stack.pop()


def _extents(body: tuple[Statement, ...]) -> Iterator[Extent]:
    for statement in walk(body):
        match statement:
            case Loop(extent=size, share=share):
                yield size
                if share is not None:
                    yield share[1]
            case Product(out=out, share=(_, count)):
                yield from (out.shape[0], count)
            case Let(args=args):
                yield from (arg.value for arg in args if isinstance(arg, Const) and isinstance(arg.value, Dim))
            case Store(index=index, value=value) | Accumulate(index=index, value=value):
                yield from _index_extents(index)
                if isinstance(value, Const) and isinstance(value.value, Dim):
                    yield value.value
            case Load(index=index):
                yield from _index_extents(index)
            case IndexValue(index=index):
                yield from _index_extents((index,))


def _index_extents(index: Index) -> Iterator[Extent]:
    for position in index:
        yield position.offset
        yield from (coefficient for _, coefficient in position.terms)
