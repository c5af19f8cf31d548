"""A kernel becomes one function: loops and scalar statements as a person would write them.

A scalar that one statement reads is written where it is read, as long as the line stays short and nothing it depends on
changes in between. What cannot be seen to be non-negative is an index as `uintp(...)`: Numba counts signed indices from
the end when they are negative, and the test for it spoils vectorised loops.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.codegen.expressions import (
    Template,
    affine,
    call,
    constant,
    extent,
    fill,
    is_atom,
    number,
    subscript,
    template,
)
from graphc.codegen.module_text import filled
from graphc.codegen.names import TYPE_ALIASES, Namespace, Numbered, stored
from graphc.ir.dims import Extent
from graphc.ir.errors import CompileError
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Affine,
    Barrier,
    Buffer,
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
    Statement,
    Store,
    Value,
    axis,
    walk,
)
from graphc.passes.rows import pieces_of

LINE = 100  # characters up to which an expression grows by what it reads

# How a sum of floats runs over a scalar: in any order, so that it vectorises; the rest of the kernel stays exact.
_ANY_ORDER = {"add": "radd", "multiply": "rmul", "maximum": "rmax", "minimum": "rmin"}
_IN_PLACE = {"add": "+=", "multiply": "*=", "logical_and": "&=", "logical_or": "|="}
_INT64 = np.dtype("int64")
_UINT64 = np.dtype("uint64")
_BOOL = np.dtype("bool")


@dataclass(frozen=True, slots=True)
class KernelText:
    """The lines of a kernel's body, and its arguments: the number of the part where it runs in `parts`, then `dims`
    (names as in the IR), then `buffers`."""

    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    parts: int | None
    dims: tuple[str, ...]
    buffers: tuple[Buffer, ...]


def kernel_text(
    kernel: Kernel, scalars: Collection[Buffer], printer: Callable[..., KernelPrinter] | None = None
) -> KernelText:
    """Print a kernel's body.

    Parameters
    ----------
    kernel
        What to print.
    scalars
        Buffers without axes that are passed by value.
    printer
        What prints, `KernelPrinter` unless another target's.
    """
    return (printer or KernelPrinter)(kernel, scalars, Namespace()).text()


def kernel_key(
    kernel: Kernel, scalars: Collection[Buffer], printer: Callable[..., KernelPrinter] | None = None
) -> tuple[object, ...]:
    """What two kernels have in common if one function serves both: all but names and comments."""
    text = (printer or KernelPrinter)(kernel, scalars, Numbered(), comments=False).text()
    return text.lines, text.arguments, tuple(argument_types(text, scalars, kernel.writes))


def argument_types(text: KernelText, scalars: Collection[Buffer], writes: Collection[Buffer]) -> list[str]:
    """The aliases of the arguments' Numba types, in order."""
    buffers = [type_alias(buffer, buffer in writes, buffer in scalars) for buffer in text.buffers]
    return ["u64"] * (text.parts is not None) + ["i64"] * len(text.dims) + buffers


def type_alias(buffer: Buffer, written: bool, scalar: bool) -> str:
    """How a generated module names the Numba type of a buffer: ``const_f32_2d``, ``f32_1d``, ``f32``."""
    short = TYPE_ALIASES[stored(buffer.dtype).name]
    return short if scalar else f"{'' if written else 'const_'}{short}_{len(buffer.shape)}d"


@dataclass(slots=True)
class _Pending:
    """A scalar that is not written yet, and what it depends on."""

    tree: ast.expr
    memory: bool
    accumulators: frozenset[str]


class KernelPrinter:
    """The state of printing one kernel: names, dtypes, and the scalars that wait for their reader."""

    counter: np.dtype = _UINT64  # of pieces: Numba would test a signed index for its sign

    def __init__(self, kernel: Kernel, scalars: Collection[Buffer], names: Namespace, comments: bool = True) -> None:
        self.kernel, self.scalars, self.comments = kernel, scalars, comments
        self.dims = {dim: names.claim(dim) for dim in kernel.dim_names}
        self.buffers = {buffer: names.claim(buffer.name) for buffer in kernel.buffers}
        self.names: dict[str, str] = {}
        self.dtypes: dict[str, np.dtype] = {}
        self.axes: set[str] = set()
        if kernel.parts is not None:
            self.axes.add(kernel.parts.axis)
            self._declare(kernel.parts.axis, self.counter, names)
        for statement in walk(kernel.body):
            match statement:
                case Loop(axis=name, share=share) if statement is not kernel.parts:
                    self.axes.add(name)
                    self._declare(name, _INT64 if share is None else self.counter, names)
                case Let(name=name, dtype=dtype) | IndexValue(name=name, dtype=dtype):
                    if isinstance(statement, IndexValue) and self._is_axis(statement):
                        self.names[name] = self.names[statement.index.variables[0]]
                    self._declare(name, dtype, names)
                case Load(name=name, buffer=buffer):
                    if self._is_argument(statement):
                        self.names[name] = self.buffers[buffer]
                    self._declare(name, buffer.dtype, names)
                case Accumulator(name=name, initial=initial):
                    self._declare(name, initial.dtype, names)
        self.accumulators = {each.name for each in walk(kernel.body) if isinstance(each, Accumulator)}
        self.claim = names.claim
        own = () if kernel.parts is None else _own_buffers(kernel.parts)
        self.own = {buffer: names.claim(buffer.name.removesuffix("_parts")) for buffer in own}
        self.templates: dict[tuple[str, np.dtype, np.dtype], Template] = {}
        self.uses: Counter[str] = Counter()
        self.lines: list[str] = []
        self.indent = 1
        self.pending: dict[str, _Pending] = {}
        self.pieces: dict[tuple[tuple[str, Extent], Extent], str] = {}  # limits that stand in a block already

    def _declare(self, name: str, dtype: np.dtype, names: Namespace) -> None:
        if name not in self.names:
            self.names[name] = names.claim(name, f"{name}_value")
        self.dtypes[name] = dtype

    def _is_axis(self, value: IndexValue) -> bool:
        """Whether an integer is the counter of a loop: it has a name already."""
        variable = value.index.variables[0] if _is_alone(value.index) else ""
        return variable in self.axes and value.dtype == self.dtypes[variable] == _INT64

    def _is_argument(self, load: Load) -> bool:
        """Whether what is loaded is passed by value: it has a name already."""
        return load.buffer in self.scalars and load.mask is None

    def _reads(self, statement: Statement) -> Iterable[str]:
        """The scalars that a statement reads, each as often as its text does."""
        match statement:
            case Let(args=args):
                for arg, count in zip(args, self._template(statement).uses, strict=False):
                    if isinstance(arg, str):
                        yield from [arg] * count
            case IndexValue(index=index):
                yield from index.variables
            case Load(index=index, mask=mask):
                yield from _variables(index)
                if mask is not None:
                    yield mask
            case Store(index=index, value=value):
                yield from _variables(index)
                yield from _names((value,))
            case Accumulate(target=target, index=index, value=value):
                yield from _variables(index) * (1 if self._in_place(statement) else 2)
                yield from _names((target, value))

    def text(self) -> KernelText:
        """Print."""
        threads = self.kernel.parts
        for buffer, name in self.own.items():
            assert threads is not None
            self.line(f"{name} = part_of({self.buffers[buffer]}, {self.names[threads.axis]})")
        self.block(self.kernel.body if threads is None else threads.body)
        part = () if threads is None else (self.names[threads.axis],)
        arguments = (*part, *self.dims.values(), *self.buffers.values())
        count = None if threads is None else int(threads.extent)
        return KernelText(arguments, tuple(self.lines), count, tuple(self.dims), tuple(self.buffers))

    # statements -------------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[Statement], whole: Sequence[Statement] = ()) -> None:
        """Write the statements of a loop, or of the kernel; or those with which the `whole` of them begins."""
        start, outer, pieces = len(self.lines), self.uses, self.pieces
        self.pieces = dict(pieces)
        self.uses = Counter(name for statement in walk(tuple(whole or body)) for name in self._reads(statement))
        for statement in body:
            match statement:
                case Comment(text=text):
                    if self.comments:
                        self.spill(self.pending)
                        self.line(f"# {text}")
                case Loop():
                    self.loop(statement)
                case Product():
                    self._product(statement)
                case Accumulator(name=name, initial=initial):
                    self.line(f"{self.names[name]} = {unparse(constant(initial, self.dims))}")
                case Load() if self._is_argument(statement):
                    pass
                case IndexValue() if self._is_axis(statement):
                    pass
                case Let() | IndexValue() | Load():
                    self._scalar(statement)
                case Store(buffer=buffer, index=index, value=value):
                    operands = *_variables(index), *_names((value,))
                    self._spill_conditionals(_variables(index))
                    self._write(operands, lambda: self._store(buffer, index, value), stores=True)
                case Accumulate():
                    self._accumulate(statement)
                case Combine() | Barrier():
                    self.spill(self.pending)
                    self.together(statement)
        self.spill(self.pending)
        self.uses, self.pieces = outer, pieces
        if not whole and all(line.lstrip().startswith("#") for line in self.lines[start:]):
            self.line("pass")

    def loop(self, loop: Loop) -> None:
        """Write a loop."""
        self.spill(self.pending)
        whole = unparse(extent(loop.extent, self.dims))
        what = f"_{loop.axis}" if pieces_of(loop) is not None else ""
        limits = whole if loop.share is None else self.piece(loop.share, loop.extent, what)
        self.line(f"for {self.names[loop.axis]} in range({limits}):")
        self.indent += 1
        self.block(loop.body)
        self.indent -= 1

    def piece(self, share: tuple[str, Extent], size: Extent, what: str = "") -> str:
        """The limits of a piece (of rows, or of `what` counts pieces), in a line above where they are not known yet."""
        key = share, size
        if key not in self.pieces:
            first, last = (self.claim(f"{word}{what}") for word in ("first", "last"))
            count, whole = (unparse(extent(each, self.dims)) for each in (share[1], size))
            self.line(f"{first}, {last} = piece({self.names[share[0]]}, {count}, {whole})")
            self.pieces[key] = f"{first}, {last}"
        return self.pieces[key]

    def _product(self, product: Product) -> None:
        self.spill(self.pending)
        limits = self.piece(product.share, product.out.shape[0])
        a, b, out = (self.buffers[buffer] for buffer in (product.a, product.b, product.out))
        options = ["transpose_b=True"] * product.transpose_b + ["beta=1.0"] * product.accumulate
        arguments = f"rows_of({a}, {limits})", b, f"rows_of({out}, {limits})", *options
        for line in filled("gemm(", arguments, ")", 4 * self.indent):
            self.line(line)

    def _scalar(self, statement: Let | IndexValue | Load) -> None:
        """Write ``name = expression``, or keep it for the one statement that reads it."""
        name = statement.name
        operands = tuple(dict.fromkeys(self._reads(statement)))
        if isinstance(statement, Let):
            self._spill_unfit(statement)
        elif isinstance(statement, Load):
            self._spill_conditionals(_variables(statement.index))
        taken = self._fit(operands, lambda: f"{self.names[name]} = {unparse(self.expression(statement))}")
        tree = self.expression(statement)
        parts = [self.pending.pop(operand) for operand in taken]
        memory = isinstance(statement, Load) or any(part.memory for part in parts)
        accumulators = self.accumulators.intersection(operands).union(*(part.accumulators for part in parts))
        self.pending[name] = _Pending(tree, memory, frozenset(accumulators))
        if self.uses[name] != 1:
            self.spill([name])

    def _spill_conditionals(self, operands: Iterable[str]) -> None:
        """Keep conditionals out of indices."""
        waiting = [name for name in operands if name in self.pending]
        self.spill([name for name in waiting if isinstance(self.pending[name].tree, ast.IfExp)])

    def _spill_unfit(self, let: Let) -> None:
        """Keep out of an expression what would be hard to read there, and loads out of a conditional's arms.

        A load in an arm happens only sometimes, and then the loop vectorises less well.
        """
        form = self._template(let)
        for hole, arg in enumerate(let.args):
            pending = self.pending.get(arg) if isinstance(arg, str) else None
            if pending is None or form.bare:
                continue
            if isinstance(pending.tree, ast.IfExp) or (hole in form.branches and not is_atom(pending.tree)):
                self.spill(_names((arg,)))

    def _store(self, buffer: Buffer, index: Index, value: Value) -> str:
        return f"{unparse(self._element(buffer, index))} = {unparse(self.value(value))}"

    def together(self, statement: Combine | Barrier) -> None:
        """Write what the threads of a block do together."""
        raise CompileError("only the threads of a block have something to do together")

    def _accumulate(self, statement: Accumulate) -> None:
        target, value = statement.target, statement.value
        if isinstance(target, str):
            self.spill([name for name, pending in self.pending.items() if target in pending.accumulators])
        self._spill_conditionals(_variables(statement.index))
        operands = *_variables(statement.index), *_names((value,))
        self._write(operands, lambda: self.accumulation(statement), isinstance(target, Buffer))

    def accumulation(self, statement: Accumulate) -> str:
        """The line that accumulates."""
        target, op = statement.target, statement.op
        element = self._element(target, statement.index) if isinstance(target, Buffer) else ast.Name(self.names[target])
        value, dtype = self.value(statement.value), self._dtype(target)
        if self._in_place(statement):
            return f"{unparse(element)} {_IN_PLACE[op]} {unparse(value)}"
        if dtype.kind == "f":
            return f"{unparse(element)} = {unparse(call(_ANY_ORDER[op], element, value))}"
        return f"{unparse(element)} = {unparse(fill(template(op, dtype, dtype), (element, value)))}"

    def _in_place(self, statement: Accumulate) -> bool:
        """Whether ``target += value`` says it: a scalar sum of floats is better off out of order."""
        scalar, dtype = isinstance(statement.target, str), self._dtype(statement.target)
        narrow = scalar and dtype.kind in "iu" and dtype != _INT64
        return statement.op in _IN_PLACE and not narrow and not (scalar and dtype.kind == "f")

    # expressions ------------------------------------------------------------------------------------------------------

    def _fit(self, operands: Iterable[str], write: Callable[[], str]) -> list[str]:
        """Find which pending operands fit into one line; the others get lines of their own, the longest first."""
        taken = [name for name in self.pending if name in set(operands)]
        while taken and self.indent * 4 + len(write()) > LINE:
            longest = max(taken, key=lambda name: len(unparse(self.pending[name].tree)))
            taken.remove(longest)
            self.spill([longest])
        return taken

    def _write(self, operands: Iterable[str], write: Callable[[], str], stores: bool) -> None:
        """Write a line with what fits of its operands; where it stores, loads that wait go before it."""
        taken = self._fit(operands, write)
        if stores:
            self.spill([name for name, waiting in self.pending.items() if waiting.memory and name not in taken])
        self.line(write())
        for name in taken:
            del self.pending[name]

    def expression(self, statement: Let | IndexValue | Load) -> ast.expr:
        """A scalar's expression."""
        match statement:
            case Let(op="wrap", args=(index, Const(value=size))):
                return fill(self._template(statement), [self.value(index), number(size, _INT64, self.dims)])
            case Let(args=args):
                return fill(self._template(statement), [self.value(arg) for arg in args])
            case IndexValue(index=index, dtype=dtype):
                position = affine(index, self.variables(index), self.dims)
                printed = self.dtypes[index.variables[0]] if _is_alone(index) else _INT64
                return position if dtype == printed else call(dtype.name, position)
            case Load(buffer=buffer, index=index, mask=mask):
                element = self._element(buffer, index)
                if mask is None:
                    return element
                return ast.IfExp(self.value(mask), element, number(buffer.dtype.type(0), buffer.dtype, self.dims))
        raise AssertionError(statement)

    def value(self, value: Value) -> ast.expr:
        """A scalar: its name, or the expression that waits under it; or a number."""
        if isinstance(value, Const):
            return constant(value, self.dims)
        pending = self.pending.get(value)
        return ast.Name(self.names[value]) if pending is None else pending.tree

    def _element(self, buffer: Buffer, index: Index) -> ast.expr:
        if buffer in self.scalars:
            return ast.Name(self.buffers[buffer])
        if buffer in self.own:
            return subscript(self.own[buffer], [self._position(position) for position in index[1:]])
        return subscript(self.buffers[buffer], [self._position(position) for position in index])

    def _position(self, index: Affine) -> ast.expr:
        """An index that Numba does not test for its sign."""
        position = affine(index, self.variables(index), self.dims)
        constant_index = not index.terms and isinstance(index.offset, int)
        if constant_index or (_is_alone(index) and index.variables[0] in self.axes):
            return position
        return call("uintp", position)

    def variables(self, index: Affine) -> dict[str, ast.expr]:
        """What the variables of an index are: axes, and scalars in int64 (Numba adds int64 to uint64 as floats)."""
        found: dict[str, ast.expr] = {}
        for name in index.variables:
            value = self.value(name)
            plain = _is_alone(index) or self.dtypes[name] == _INT64
            found[name] = value if plain else call("int64", value)
        return found

    def _template(self, let: Let) -> Template:
        operand = self._dtype(let.args[let.op == "where"])
        key = let.op, let.dtype, operand
        if key not in self.templates:
            self.templates[key] = template(*key)
        return self.templates[key]

    def _dtype(self, value: Value | Buffer) -> np.dtype:
        return self.dtypes[value] if isinstance(value, str) else value.dtype

    # lines ------------------------------------------------------------------------------------------------------------

    def spill(self, names: Iterable[str]) -> None:
        """Write pending scalars as lines of their own."""
        for name in list(names):
            pending = self.pending.pop(name)
            self.line(f"{self.names[name]} = {unparse(pending.tree)}")

    def line(self, text: str) -> None:
        """Write a line."""
        self.lines.append("    " * self.indent + text)


def _own_buffers(threads: Loop) -> tuple[Buffer, ...]:
    """The arrays with more axes of which every access is to the element of its own part."""
    found: dict[Buffer, None] = {}
    others: set[Buffer] = set()
    for statement in walk(threads.body):
        match statement:
            case Load(buffer=buffer, index=index) | Store(buffer=buffer, index=index):
                pass
            case Accumulate(target=Buffer() as buffer, index=index):
                pass
            case Product(a, b, out):
                others |= {a, b, out}
                continue
            case _:
                continue
        found[buffer] = None
        if len(index) < 2 or index[0] != axis(threads.axis):
            others.add(buffer)
    return tuple(buffer for buffer in found if buffer not in others)


def _is_alone(index: Affine) -> bool:
    """Whether an index is a variable and nothing else."""
    return index.offset == 0 and len(index.terms) == 1 and index.terms[0][1] == 1


def unparse(tree: ast.AST) -> str:
    """The text of a tree that was made by hand."""
    return ast.unparse(ast.fix_missing_locations(tree))


def _variables(index: Index) -> list[str]:
    return [variable for position in index for variable in position.variables]


def _names(values: Iterable[Value | Buffer]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
