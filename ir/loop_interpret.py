"""Run a program of the loop IR in plain Python, scalar by scalar: slow, and obviously right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from graphc.ir.dims import Dim, Extent, bind
from graphc.ir.errors import CompileValueError, FeedIndexError, FeedTypeError
from graphc.ir.factorizations import ROUTINES
from graphc.ir.half import converted, evaluate
from graphc.ir.interpret import bind_dims
from graphc.ir.loop_verify import scalar_form
from graphc.ir.loops import (
    AT,
    Accumulate,
    Accumulator,
    Affine,
    Barrier,
    Buffer,
    Call,
    Combine,
    Comment,
    Const,
    Index,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Product,
    Program,
    Statement,
    Store,
    Value,
)
from graphc.ir.ops import OPS

# What memory holds before it is written: as a float a NaN, as an integer -1 or the largest.
POISON = 0xFF


def interpret_program(
    program: Program, feeds: Mapping[str, Any], sizes: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """The outputs and the updated params of a program, by buffer name.

    Parameters
    ----------
    program : Program
        With or without a plan of its arena; a plan is followed, so that a wrong one gives wrong results.
    feeds : mapping from str to array_like
        The inputs and params by buffer name. They are copied: nothing that is fed changes.
    sizes : mapping from str to int
        The dims that the shapes of the feeds do not settle.

    Raises
    ------
    FeedTypeError, FeedValueError
        For feeds that are missing or do not fit.
    FeedIndexError
        For an index out of range.
    """
    return _Machine(program, feeds, sizes or {}).run()


class _Machine:
    """The memory of one run, and the values of axes and scalars."""

    def __init__(self, program: Program, feeds: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        leaves: dict[str, Any] = {buffer.name: buffer for buffer in (*program.inputs, *program.params)}
        for name in leaves:
            if name not in feeds:
                raise FeedTypeError(f"{name} is not fed")
        arrays = {name: np.array(feeds[name], leaf.dtype, order="C") for name, leaf in leaves.items()}
        self.program = program
        self.sizes = {**sizes, **bind_dims(leaves, {name: array.shape for name, array in arrays.items()})}
        self.memory: dict[Buffer, np.ndarray] = {leaves[name]: array for name, array in arrays.items()}
        self.memory |= {buffer: array.copy() for buffer, array in program.constants}
        self.values: dict[str, Any] = {}
        self.place()

    def place(self) -> None:
        """Give every other buffer its memory."""
        arena = self.program.arena
        offsets = dict(arena.offsets) if arena else {}
        block = np.full(self.size(arena.size) if arena else 0, POISON, np.uint8)
        for buffer in self.program.buffers:  # a base comes before its aliases
            if buffer in self.memory:
                continue
            shape = tuple(self.size(extent) for extent in buffer.shape)
            count = int(np.prod(shape, dtype=np.int64))
            if buffer.base is not None:
                start = self.size(buffer.offset)
                flat = self.memory[buffer.base].reshape(-1)[start : start + count]
            elif buffer in offsets:
                start = self.size(offsets[buffer])
                flat = block[start : start + count * buffer.dtype.itemsize].view(buffer.dtype)
            else:
                flat = np.full(count * buffer.dtype.itemsize, POISON, np.uint8).view(buffer.dtype)
            self.memory[buffer] = flat.reshape(shape)

    def run(self) -> dict[str, np.ndarray]:
        with np.errstate(all="ignore"):
            for step in self.program.steps:
                if isinstance(step, Kernel):
                    self.kernel(step)
                else:
                    self.call(step)
        results = (*self.program.outputs, *self.program.updated)
        return {buffer.name: self.memory[buffer].copy() for buffer in results}

    # kernels ----------------------------------------------------------------------------------------------------------

    def kernel(self, kernel: Kernel) -> None:
        self.values = {}
        stack: list[Iterator[Statement]] = [iter(kernel.body)]
        while stack:
            statement = next(stack[-1], None)
            if statement is None:
                stack.pop()
            elif isinstance(statement, Loop):
                stack.append(self.iterations(statement))
            else:
                self.statement(statement)

    def iterations(self, loop: Loop) -> Iterator[Statement]:
        """The statements of a loop's body, over and over, with the axis set."""
        for position in self.positions(loop):
            self.values[loop.axis] = position
            yield from loop.body

    def positions(self, loop: Loop) -> Iterable[int]:
        """The iterations of a loop, or of the piece of it that an axis says."""
        groups, rest = self.groups(loop)
        return chain(range(groups.start, groups.stop), rest)

    def groups(self, loop: Loop) -> tuple[range, range]:
        """The first iterations of the groups of a loop's lanes, and the iterations that are left over."""
        lanes, size = loop.lanes, self.size(loop.extent)
        groups, rest = self.piece(loop.extent // lanes, loop.share), self.piece(loop.extent % lanes, loop.share)
        start = size - size % lanes
        return range(groups.start * lanes, groups.stop * lanes, lanes), range(start + rest.start, start + rest.stop)

    def piece(self, extent: Extent, share: tuple[str, Extent] | None) -> range:
        """All of an extent, or the piece of it that an axis says."""
        size = self.size(extent)
        if share is None:
            return range(size)
        part, parts = self.values[share[0]], self.size(share[1])
        return range(part * size // parts, (part + 1) * size // parts)

    def statement(self, statement: Statement) -> None:
        values = self.values
        match statement:
            case Let(name):
                values[name] = self.let(statement)
            case IndexValue(name, index, dtype):
                values[name] = dtype.type(self.position(index))
            case Load(name, buffer, index, mask):
                hidden = mask is not None and not values[mask]
                values[name] = buffer.dtype.type(0) if hidden else self.memory[buffer][self.index(buffer, index)]
            case Store(buffer, index, value):
                self.memory[buffer][self.index(buffer, index)] = self.value(value)
            case Accumulator(name, initial):
                values[name] = self.value(initial)
            case Accumulate(str(name), _, op, value):
                values[name] = _evaluate(op, (values[name], self.value(value)))
            case Accumulate(Buffer() as buffer, index, op, value):
                at = self.index(buffer, index)
                self.memory[buffer][at] = _evaluate(op, (self.memory[buffer][at], self.value(value)))
            case Product(a, b, out, transpose_b, accumulate, share):
                piece = self.piece(out.shape[0], share)
                rows = slice(piece.start, piece.stop)
                right = self.memory[b].T if transpose_b else self.memory[b]
                _multiply(self.memory[a][rows], right, self.memory[out][rows], accumulate)
            case Comment() | Combine() | Barrier():  # threads take turns here, with one total
                pass

    def let(self, let: Let) -> Any:
        args = [self.value(arg) for arg in let.args]
        if let.op == "cast":
            return converted(args[0], let.dtype)[()]
        if let.op == "wrap":
            index, extent = (int(arg) for arg in args)
            return let.dtype.type(index + extent if index < 0 else index)
        count, attributes = scalar_form(OPS[let.op])
        attrs = {name: int(value) for name, value in zip(attributes, args[count:], strict=True)}
        result = _evaluate(let.op, tuple(args[:count]), **attrs)
        if result.dtype != let.dtype:
            raise CompileValueError(f"{let.op} made {let.name} a {result.dtype}, not {let.dtype}")
        return result

    def value(self, value: Value) -> Any:
        """A scalar of exact dtype: a NumPy scalar (an axis is a Python int until `index` or `IndexValue` reads it)."""
        if not isinstance(value, Const):
            return self.values[value]
        return value.dtype.type(self.size(value.value)) if isinstance(value.value, Dim) else value.value

    def size(self, extent: Extent) -> int:
        return bind(extent, self.sizes)

    def position(self, index: Affine) -> int:
        terms = (self.size(coefficient) * int(self.values[variable]) for variable, coefficient in index.terms)
        return sum(terms, self.size(index.offset))

    def index(self, buffer: Buffer, index: Index) -> tuple[int, ...]:
        """The position of an element; it must lie within the buffer, also where NumPy would count from the end."""
        at = tuple(self.position(position) for position in index)
        shape = self.memory[buffer].shape
        if len(at) != len(shape) or not all(0 <= position < size for position, size in zip(at, shape, strict=True)):
            raise FeedIndexError(f"{buffer.name}: no element {at} in shape {shape}")
        return at

    # calls ------------------------------------------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        CALLS[call.routine](self, call)

    def matmul(self, call: Call) -> None:
        """``out = a @ b``, or ``out += a @ b``, with the last two axes of a and b swapped as the flags say."""
        a, b, out = (self.memory[buffer] for buffer in call.operands)
        a = a.swapaxes(-1, -2) if call["transpose_a"] and a.ndim > 1 else a
        b = b.swapaxes(-1, -2) if call["transpose_b"] and b.ndim > 1 else b
        _multiply(a, b, out, call["accumulate"])

    def factorization(self, call: Call) -> None:
        """``out = routine(a, b)``; what memory it works in is not seen."""
        operands = (self.memory[buffer] for buffer in call.reads)
        with np.errstate(all="ignore"):
            self.memory[call.operands[-1]][...] = ROUTINES[call.routine].reference(*operands, **dict(call.flags))

    def check_index(self, call: Call) -> None:
        """Raise where an index is out of range, counted from either end."""
        index = self.memory[call.operands[0]]
        extent = self.size(call["extent"])
        # Compared as Python ints: an extent may not fit the index's dtype.
        if index.size and not (-extent <= int(index.min()) and int(index.max()) < extent):
            raise FeedIndexError(call["text"])

    def argsort(self, call: Call) -> None:
        """The order of the keys along the last axis; the scratch holds nothing of use afterwards."""
        keys, scratch, out = (self.memory[buffer] for buffer in call.operands)
        scratch[...] = -1
        out[...] = np.argsort(keys, axis=-1, kind="stable")

    def searchsorted(self, call: Call) -> None:
        """Where values belong in a sorted vector."""
        keys, values, out = (self.memory[buffer] for buffer in call.operands)
        out[...] = np.searchsorted(keys, values, "right" if call["right"] else "left")

    def combine_at(self, call: Call) -> None:
        """What goes to one place is combined in order."""
        order, positions, values, out = (self.memory[buffer] for buffer in call.operands)
        rows = values.reshape(positions.size, prod(values.shape[positions.ndim :]))
        at = positions.reshape(-1)[order][:, None] + np.arange(rows.shape[1])
        target = out.reshape(-1)
        if op := AT[call.routine]:
            getattr(np, op).at(target, at, rows[order])
        else:
            target[at] = rows[order]


CALLS = {
    "matmul": _Machine.matmul, "check_index": _Machine.check_index, "argsort": _Machine.argsort,
    "searchsorted": _Machine.searchsorted, **dict.fromkeys(AT, _Machine.combine_at),
    **dict.fromkeys(ROUTINES, _Machine.factorization),
}  # fmt: skip


def _multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulate: bool) -> None:
    out[...] = out + np.matmul(a, b) if accumulate else np.matmul(a, b)


def _evaluate(op: str, args: tuple[Any, ...], **attrs: Any) -> Any:
    """An elementwise op on scalars: on arrays of one element, since NumPy takes other ways with scalars (in power)."""
    arrays = (np.reshape(np.asarray(arg), 1) for arg in args)
    return np.asarray(evaluate(OPS[op], list(arrays), attrs))[0]
