"""Verify a program of the loop IR: scopes, dtypes, races, what is read before it is written, the arena's plan."""

from __future__ import annotations

import inspect
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphc.ir.barriers import with_barriers
from graphc.ir.core import Op
from graphc.ir.dims import Dim, Extent, extent_names
from graphc.ir.errors import CompileValueError, GraphcError
from graphc.ir.loop_text import statement_text
from graphc.ir.loops import (
    AT_ONCE,
    COMBINE,
    KINDS,
    LANES,
    NEUTRAL,
    SCRATCH,
    Accumulate,
    Accumulator,
    Affine,
    Buffer,
    Combine,
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
    axis,
    shared_axes,
    walk,
)
from graphc.ir.ops import OPS
from graphc.ir.program_verify import call_problems, overlap, program_problems
from graphc.ir.types import TensorType

INDEX = np.dtype("int64")
Problems: TypeAlias = Iterator[tuple[Statement, str]]


def verify_program(program: Program) -> None:
    """Check that a program is well formed.

    Raises
    ------
    CompileValueError
        At the first rule broken, with the kernel and the statement that break it.
    """
    start = f"the program {program.name} is malformed"
    for problem in program_problems(program):
        raise CompileValueError(f"{start}: {problem}")
    written = {buffer for buffer in program.buffers if buffer.space in ("input", "param", "constant")}
    for step in program.steps:
        if isinstance(step, Kernel):
            for statement, problem in kernel_problems(step, program, written):
                text = statement_text(statement, program.dims)
                raise CompileValueError(f"{start}: in kernel {step.name} {problem}\n  {text}")
            if step.grid is not None and with_barriers(step) is not step:
                raise CompileValueError(f"{start}: in kernel {step.name} threads of a block do not wait for each other")
            for problem in _totals_of_threads(step):
                raise CompileValueError(f"{start}: in kernel {step.name} {problem}")
            continue
        for buffer in step.reads:
            if buffer.root not in written:
                raise CompileValueError(f"{start}: {step.routine} reads {buffer.name} before it is written")
        written.update(buffer.root for buffer in step.writes)
    for buffer in program.outputs:
        if buffer.root not in written:
            raise CompileValueError(f"{start}: the output {buffer.name} is never written")


def _totals_of_threads(kernel: Kernel) -> Iterator[str]:
    """Each thread of a block starts from the same number: it must not matter how often that is counted."""
    body = list(walk(kernel.body))
    first = {each.name: each.initial.value for each in body if isinstance(each, Accumulator)}
    for each in body:
        if isinstance(each, Combine) and each.op in NEUTRAL and first.get(each.target) != NEUTRAL[each.op]:
            yield f"combines the totals {each.target} of threads, which do not start from {NEUTRAL[each.op]}"


# kernels --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Name:
    """What a name in scope is: an axis, a scalar or an accumulator; its dtype, and the loops around its definition."""

    role: str
    dtype: np.dtype
    loops: tuple[Loop, ...]


@dataclass(frozen=True, slots=True)
class _Access:
    statement: Load | Store | Accumulate
    buffer: Buffer
    index: Index
    loops: tuple[Loop, ...]


@dataclass(frozen=True, slots=True)
class _Total:
    """An accumulator that is read, or accumulated into."""

    statement: Statement
    accumulator: _Name
    name: str
    loops: tuple[Loop, ...]


@dataclass
class _Scope:
    """What a statement sees: the names defined before it, and the loops around it."""

    program: Program
    names: dict[str, _Name]
    loops: tuple[Loop, ...]

    def inside(self, loop: Loop) -> _Scope:
        """The scope of a loop's body."""
        loops = (*self.loops, loop)
        return _Scope(self.program, {**self.names, loop.axis: _Name("axis", INDEX, loops)}, loops)

    def define(self, name: str, dtype: np.dtype, role: str = "scalar") -> Iterator[str]:
        """Add a name, which must be new."""
        if name in self.names:
            yield f"defines {name} twice"
        self.names[name] = _Name(role, dtype, self.loops)

    def dtype(self, value: Value) -> np.dtype | None:
        """The dtype of a scalar or number; None where there is no such scalar."""
        if isinstance(value, Const):
            return value.dtype
        return self.names[value].dtype if value in self.names else None


def kernel_problems(kernel: Kernel, program: Program, written: set[Buffer]) -> Problems:
    """What is wrong with a kernel, run after the roots in `written`, to which its own are added."""
    accesses: list[_Access] = []
    products: list[tuple[Product, tuple[Loop, ...]]] = []
    totals: list[_Total] = []
    stack = [(iter(kernel.body), _Scope(program, {}, ()))]
    while stack:
        statements, scope = stack[-1]
        statement = next(statements, None)
        if statement is None:
            stack.pop()
            continue
        yield from ((statement, problem) for problem in _statement(statement, scope, written))
        totals += _totals(statement, scope)
        match statement:
            case Loop():
                stack.append((iter(statement.body), scope.inside(statement)))
            case Load() | Store() | Accumulate(target=Buffer()):
                buffer = statement.target if isinstance(statement, Accumulate) else statement.buffer
                assert isinstance(buffer, Buffer)
                accesses.append(_Access(statement, buffer, statement.index, scope.loops))
            case Product():
                products.append((statement, scope.loops))
    yield from _reading_races(accesses)
    yield from _other_rows(products, accesses, program)
    yield from _unfinished(totals)


def _statement(statement: Statement, scope: _Scope, written: set[Buffer]) -> Iterator[str]:
    match statement:
        case Let(name, _, args, dtype):
            yield from (problem for arg in args for problem in _value(arg, scope))
            yield from _scalar_operation(statement, scope)
            yield from scope.define(name, dtype)
        case IndexValue(name, index, dtype):
            yield from _index((index,), scope)
            if dtype.kind not in "iu":
                yield f"makes an index a {dtype}"
            yield from scope.define(name, dtype)
        case Load(name, buffer, index, mask):
            yield from _element(buffer, index, scope)
            if buffer.root not in written:
                yield f"reads {buffer.name} before it is written"
            if mask is not None and scope.dtype(mask) != np.bool_:
                yield f"is masked by {mask}, which is no boolean scalar"
            yield from scope.define(name, buffer.dtype)
        case Store(buffer, index, value):
            yield from _element(buffer, index, scope)
            if buffer.root.space in SCRATCH and scope.loops[:1] and scope.loops[0].kind == "threads":
                yield f"shares the row scratch {buffer.name} between threads"
            yield from _stored(buffer, value, scope)
            yield from _writing_races(buffer, index, scope)
            written.add(buffer.root)
        case Accumulator(name, initial):
            yield from _value(initial, scope)
            yield from scope.define(name, initial.dtype, "accumulator")
        case Accumulate(target, index, op, value):
            if op not in COMBINE:
                yield f"combines by {op}; there are {', '.join(COMBINE)}"
            if isinstance(target, str):
                yield from _accumulated(target, value, scope)
                return
            yield from _element(target, index, scope)
            if target.root not in written:
                yield f"accumulates into {target.name} before it is written"
            yield from _stored(target, value, scope)
            yield from _writing_races(target, index, scope, accumulates=True, atomic=statement.atomic)
        case Loop():
            yield from _loop(statement, scope)
        case Product():
            yield from _product(statement, scope, written)
        case Combine(target, op):
            if op not in COMBINE or getattr(scope.names.get(target), "role", "") != "accumulator":
                yield f"combines {target} by {op}: expected an accumulator, and one of {', '.join(COMBINE)}"


def _loop(loop: Loop, scope: _Scope) -> Iterator[str]:
    if loop.kind not in KINDS:
        yield f"has a loop of kind {loop.kind}; there are {', '.join(KINDS)}"
    if loop.axis in scope.names:  # dims have names of their own: in text, a variable called like one is quoted
        yield f"shadows {loop.axis} by an axis"
    yield from _extents((loop.extent,), scope)
    on_blocks = bool(scope.loops) and scope.loops[0].kind == "blocks"
    outermost = loop.kind == "blocks" or (loop.kind == "threads" and not on_blocks)
    if outermost and (scope.loops or not isinstance(loop.extent, int)):
        yield f"has a loop of kind {loop.kind} that is not the outermost one, or of no fixed extent"
    if (loop.kind == "blocks") != (loop.threads > 0) or loop.threads & (loop.threads - 1) or loop.threads > 1024:
        yield f"has {loop.threads} threads in a loop of kind {loop.kind}: blocks have a power of two, at most 1024"
    alone = outermost or loop.kind != "threads" or any(isinstance(each, Loop | Accumulator) for each in loop.body)
    if loop.lanes != 1 and (alone or loop.lanes not in LANES):
        lanes = ", ".join(map(str, LANES))
        yield f"has {loop.lanes} lanes in a loop of kind {loop.kind}: threads run {lanes} scalar iterations together"
    yield from _shared(loop.axis, loop.share, scope)


def _product(product: Product, scope: _Scope, written: set[Buffer]) -> Iterator[str]:
    a, b, out = product.whole.operands
    yield from _shared(f"the rows of {out.name}", product.share, scope)
    if any(len(buffer.shape) != 2 for buffer in (a, b, out)):
        yield f"multiplies {a.name}: {a.type} and {b.name}: {b.type}, which are not two matrices"
    yield from call_problems(product.whole, scope.program)
    for buffer in (a, b, out):
        if buffer.root.space in SCRATCH:
            yield f"multiplies in the row scratch {buffer.name}"
    for buffer in product.whole.reads:
        if buffer.root not in written:
            yield f"reads {buffer.name} before it is written"
    written.add(out.root)


def _shared(what: str, share: tuple[str, Extent] | None, scope: _Scope) -> Iterator[str]:
    """Pieces are those that a loop around them counts."""
    if share is not None and share not in ((outer.axis, outer.extent) for outer in scope.loops):
        yield f"shares {what} between other parts than a loop around it has"


def _value(value: Value, scope: _Scope) -> Iterator[str]:
    if isinstance(value, str):
        if value not in scope.names:
            yield f"uses {value} before it is defined"
    elif isinstance(value.value, Dim):
        yield from _extents((value.value,), scope)
    elif not isinstance(value.value, np.generic) or value.value.dtype != value.dtype:
        yield f"has the number {value.value!r} as a {value.dtype}"


def _extents(extents: tuple[Extent, ...], scope: _Scope) -> Iterator[str]:
    for name in sorted(extent_names(extents) - set(scope.program.dims)):
        yield f"needs the dim {name}, which the program does not declare"


def _index(index: Index, scope: _Scope) -> Iterator[str]:
    for position in index:
        yield from _extents((position.offset, *(coefficient for _, coefficient in position.terms)), scope)
        for variable in position.variables:
            known = scope.names.get(variable)
            if known is None:
                yield f"indexes by {variable} before it is defined"
            elif known.dtype.kind not in "iu":
                yield f"indexes by {variable}, a {known.dtype}"


def _element(buffer: Buffer, index: Index, scope: _Scope) -> Iterator[str]:
    if len(index) != len(buffer.shape):
        yield f"indexes {buffer.name}: {buffer.type} by {len(index)} positions"
    yield from _index(index, scope)


def _stored(buffer: Buffer, value: Value, scope: _Scope) -> Iterator[str]:
    if buffer.root.space in ("input", "constant"):
        yield f"stores to the {buffer.root.space} {buffer.root.name}"
    yield from _value(value, scope)
    if (dtype := scope.dtype(value)) is not None and dtype != buffer.dtype:
        yield f"stores a {dtype} to {buffer.name}: {buffer.type}"


def _accumulated(target: str, value: Value, scope: _Scope) -> Iterator[str]:
    known = scope.names.get(target)
    yield from _value(value, scope)
    if known is None or known.role != "accumulator":
        yield f"accumulates into {target}, which is no accumulator"
        return
    if (dtype := scope.dtype(value)) is not None and dtype != known.dtype:
        yield f"accumulates a {dtype} into {target}, a {known.dtype}"


# scalar operations ----------------------------------------------------------------------------------------------------


def scalar_form(op: Op) -> tuple[int, tuple[str, ...]]:
    """How many operands an elementwise op takes, and the attributes that a `Let` gives as integers after them."""
    fields = {field for _, field, _, _ in string.Formatter().parse(op.scalar or "") if field}
    parameters = inspect.signature(op.infer).parameters.values()
    attributes = tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
    return len(fields) - len(attributes), attributes


def _scalar_operation(let: Let, scope: _Scope) -> Iterator[str]:
    """Check a scalar operation by the type rule of its op."""
    dtypes = [scope.dtype(arg) for arg in let.args]
    known = [dtype for dtype in dtypes if dtype is not None]
    if len(known) < len(dtypes):
        return  # a name that is not defined, which was said
    if let.op == "cast":
        if len(known) != 1:
            yield "casts other than one scalar"
        return
    if let.op == "wrap":
        if len(known) != 2 or known[0] != let.dtype or any(dtype.kind not in "iu" for dtype in known):
            yield "wraps other than an index of its own integer dtype, and an extent"
        return
    op = OPS.get(let.op)
    if op is None or not op.is_elementwise:
        yield f"uses {let.op}, which is no scalar operation"
        return
    count, attributes = scalar_form(op)
    extra = let.args[count:]
    if len(let.args) != count + len(attributes) or not all(isinstance(arg, Const) for arg in extra):
        yield f"gives {op.name} {len(let.args)} arguments, not {count + len(attributes)}"
        return
    attrs = {name: int(arg.value) for name, arg in zip(attributes, extra, strict=True) if isinstance(arg, Const)}
    try:
        result = op.infer(*(TensorType(dtype) for dtype in known[:count]), **attrs)
    except GraphcError as error:
        yield f"does what {op.name} does not: {error.message}"
        return
    if result.dtype != let.dtype:
        yield f"makes {op.name} a {let.dtype}, not {result.dtype}"


# races ----------------------------------------------------------------------------------------------------------------


def _shared_loops(buffer: Buffer, loops: tuple[Loop, ...]) -> Iterator[tuple[Loop, set[str]]]:
    """The loops whose iterations run at once and see the same memory, each with the axes that differ in all of them.

    Every iteration of the outermost loop has row scratch of its own, and every thread its local memory. The pieces of
    a shared extent do not overlap: of a single iteration only one of them is not empty.
    """
    for loop in loops[1:] if buffer.root.space in SCRATCH else loops:
        if buffer.root.space == "local":
            return
        if loop.kind in AT_ONCE and loop.extent != 1:
            own = shared_axes(loop.axis, loops)
            if not any(each.extent == 1 and each.axis in own for each in loops):
                yield loop, own


def _writing_races(
    buffer: Buffer, index: Index, scope: _Scope, accumulates: bool = False, atomic: bool = False
) -> Iterator[str]:
    """Find stores that every iteration of a parallel loop makes to one place (what accumulates may, but on threads)."""
    if atomic:
        return
    variables = {variable for position in index for variable in position.variables}
    for loop, own in _shared_loops(buffer, scope.loops):
        if not own & variables and not (accumulates and loop.kind == "parallel"):
            yield (
                f"races: iterations of the {loop.kind} loop over {loop.axis} store to the same places of {buffer.name}"
            )


def _reading_races(accesses: list[_Access]) -> Problems:
    """Find loads of what another iteration of a parallel loop stores.

    A load is safe where, at some position, both indices are equal and depend on the axis of the loop.
    """
    writes: dict[Buffer, list[_Access]] = {}
    for access in accesses:
        if not isinstance(access.statement, Load):
            writes.setdefault(access.buffer, []).append(access)
    for load in accesses:
        if not isinstance(load.statement, Load):
            continue
        for write in writes.get(load.buffer, ()):
            around = {id(loop) for loop in write.loops}
            for loop, own in _shared_loops(load.buffer, load.loops):
                if id(loop) in around and not _own(own, load.index, write.index):
                    yield (
                        load.statement,
                        f"races: iterations of the {loop.kind} loop over {loop.axis} read what others write",
                    )


def _other_rows(
    products: list[tuple[Product, tuple[Loop, ...]]], accesses: list[_Access], program: Program
) -> Problems:
    """Find what touches other rows of a product's result than those of the piece, or changes what it reads elsewhere.

    Its result is read and stored to at rows of the same piece, its first operand stored to there.
    """
    for product, loops in products:
        for loop in loops:
            if loop.kind in AT_ONCE and product.share[0] not in shared_axes(loop.axis, loops):
                places = f"iterations of the {loop.kind} loop over {loop.axis} store to the same places"
                yield product, f"races: {places} of {product.out.name}"
        counting = _counting(product, loops)
        if counting is None:
            continue  # which was said
        others = [(other, counting is _counting(other, around)) for other, around in products if other is not product]
        touched: list[tuple[Statement, Buffer, bool]] = [
            (each.statement, each.buffer, _at_rows(each, counting, product.out.shape[0])) for each in accesses
        ]
        touched += [(other, other.out, same) for other, same in others]
        touched += [(other, other.a, same) for other, same in others]
        touched += [(other, other.b, False) for other, _ in others]
        for statement, buffer, same in touched:
            writes = not isinstance(statement, Load) and (not isinstance(statement, Product) or buffer == statement.out)
            operands = (product.out, product.a, product.b) if writes else (product.out,)
            shared = [each for each in operands if overlap(buffer, each, program)]
            if shared and not (same and set(shared) == {buffer} and buffer != product.b):
                yield statement, f"touches {buffer.name} at other rows than a product of pieces does"


def _counting(product: Product, loops: tuple[Loop, ...]) -> Loop | None:
    """The loop that counts the pieces of a product."""
    return next((loop for loop in loops if (loop.axis, loop.extent) == product.share), None)


def _at_rows(access: _Access, counting: Loop, rows: Extent) -> bool:
    """Whether an element stands in a row of the piece that a loop counts.

    Its row is the axis of a loop over that piece, or over pieces of it whose count is a multiple of the piece's own.
    """
    if not any(loop is counting for loop in access.loops):
        return False
    counters = {counting.axis}
    for loop in access.loops:
        if loop.share is not None and loop.share[0] in counters:
            if loop.extent == rows and access.index[:1] == (axis(loop.axis),):
                return True
            if _is_multiple(loop.extent, loop.share[1]):
                counters.add(loop.axis)
    return False


def _is_multiple(extent: Extent, count: Extent) -> bool:
    """Whether an extent is a whole number times another one."""
    if isinstance(extent, Dim) and isinstance(count, Dim):
        return bool(extent == extent.terms[0][1] // count.terms[0][1] * count)
    return isinstance(extent, int) and isinstance(count, int) and count > 0 and extent % count == 0


def _own(axes: set[str], read: Index, write: Index) -> bool:
    return any(axes & set(left.variables) and _same(left, right) for left, right in zip(read, write, strict=True))


def _same(left: Affine, right: Affine) -> bool:
    return set(left.terms) == set(right.terms) and left.offset == right.offset


def _totals(statement: Statement, scope: _Scope) -> Iterator[_Total]:
    """The accumulators that a statement reads, and the one that it adds to."""
    match statement:
        case Let(args=args):
            names = [arg for arg in args if isinstance(arg, str)]
        case Store(value=str(value)):
            names = [value]
        case Accumulate():
            names = [name for name in (statement.target, statement.value) if isinstance(name, str)]
        case _:
            names = []
    for name in names:
        if (known := scope.names.get(name)) is not None and known.role == "accumulator":
            yield _Total(statement, known, name, scope.loops[len(known.loops) :])


def _unfinished(totals: list[_Total]) -> Problems:
    """Find reads of an accumulator inside of the loops that fill it: what they see depends on the order."""
    filling: dict[int, set[int]] = {}
    for total in totals:
        if _fills(total):
            loops = (id(loop) for loop in total.loops if loop.kind != "serial")
            filling.setdefault(id(total.accumulator), set()).update(loops)
    for total in totals:
        around = {id(loop) for loop in total.loops}
        if not _fills(total) and around & filling.get(id(total.accumulator), set()):
            yield total.statement, f"reads the accumulator {total.name} inside of a loop that fills it"


def _fills(total: _Total) -> bool:
    return isinstance(total.statement, Accumulate) and total.statement.target == total.name
