"""The loop IR as text: buffers declared at the top, then loops that read like pseudo-code; printed, and read back.

``print_program(parse_program(text)) == text`` for every text that `print_program` made. The grammar is in GRAMMAR.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from graphc.ir.dims import Dim, Extent
from graphc.ir.loops import (
    KINDS,
    SCRATCH,
    SPACES,
    Accumulate,
    Accumulator,
    Affine,
    Arena,
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
    Step,
    Store,
    Value,
    axis,
)
from graphc.ir.tokens import Parser, Token, array_text, extent_text, name_text, number_text, value_text
from graphc.ir.types import DTYPE_NAMES, DTYPES

# How an `Accumulate` is written.
COMBINE_SIGNS = {
    "add": "+=", "multiply": "*=", "maximum": "max=", "minimum": "min=", "logical_and": "&=", "logical_or": "|=",
}  # fmt: skip
_COMBINES = {sign: op for op, sign in COMBINE_SIGNS.items()}
# The order of declarations.
_ORDER = {space: k for k, space in enumerate(("input", "param", "constant", "output", "arena", *SCRATCH, "alias"))}
_PRODUCT = re.compile(r"\w+(\*\w+)*")

# printing -----------------------------------------------------------------------------------------------------------


def print_program(program: Program) -> str:
    """The text of a program: deterministic and exact, but for its `refusals`, which compute nothing."""
    header = f"program @{name_text(program.name)}({_names(program.inputs)})"
    header += f" params({_names(program.params)})" if program.params else ""
    header += f" dims({', '.join(program.dims)})" if program.dims else ""
    lines = [f"{header} {{", *_declarations(program)]
    for step in program.steps:
        lines += ["", *(_kernel(step, program.dims) if isinstance(step, Kernel) else [call_text(step)])]
    if program.arena is not None:
        lines += ["", *_arena(program.arena)]
    lines += ["", f"  return {_names(program.outputs)}".rstrip(), "}"]
    return "\n".join(lines) + "\n"


def print_kernel(kernel: Kernel, dims: Collection[str] = ()) -> str:
    """The text of one kernel; `dims` are the program's, from which variables of the same name are told apart."""
    return "\n".join(line.removeprefix("  ") for line in _kernel(kernel, dims)) + "\n"


def _names(buffers: tuple[Buffer, ...]) -> str:
    return ", ".join(name_text(buffer.name) for buffer in buffers)


def _declarations(program: Program) -> Iterator[str]:
    arrays = dict(program.constants)
    placed = tuple(buffer for buffer, _ in program.arena.offsets) if program.arena else ()
    buffers = dict.fromkeys((*program.buffers, *placed))
    for buffer in sorted(buffers, key=lambda buffer: _ORDER.get(buffer.space, 0)):  # stable: a base before its alias
        line = f"  {buffer.space} {name_text(buffer.name)}: {buffer.type}"
        if buffer.base is not None:
            line += f" of {name_text(buffer.base.name)} at {extent_text(buffer.offset)}"
        if buffer in arrays:
            line += f" = {array_text(arrays[buffer])}"
        yield line


def call_text(call: Call) -> str:
    """One call: ``call matmul(a, b, transpose_a=false) -> out``."""
    written = len(call.writes)
    args = [name_text(buffer.name) for buffer in call.operands[: len(call.operands) - written]]
    args += [f"{flag}={value_text(value)}" for flag, value in call.flags]
    result = f" -> {_names(call.operands[-written:])}" if written else ""
    return f"  call {call.routine}({', '.join(args)}){result}"


def _kernel(kernel: Kernel, dims: Collection[str]) -> Iterator[str]:
    yield f"  kernel {name_text(kernel.name)} {{{f'  // {_one_line(kernel.origin)}' if kernel.origin else ''}"
    yield from _body(kernel.body, dims, "    ")
    yield "  }"


def _body(body: tuple[Statement, ...], dims: Collection[str], indent: str) -> Iterator[str]:
    for statement in body:
        yield f"{indent}{statement_text(statement, dims)}"
        if isinstance(statement, Loop):
            yield from _body(statement.body, dims, f"{indent}  ")
            yield f"{indent}}}"


def statement_text(statement: Statement, dims: Collection[str] = ()) -> str:
    """One statement; of a loop the line that opens it."""
    match statement:
        case Let(name, op, args, dtype):
            texts = [_value(arg, dtype) for arg in args]
            return f"{name_text(name)} = {op}({', '.join(texts)}) : {DTYPES[dtype.name]}"
        case IndexValue(name, index, dtype):
            return f"{name_text(name)} = index({index_text(index, dims)}) : {DTYPES[dtype.name]}"
        case Load(name, buffer, index, mask):
            condition = f" if {name_text(mask)}" if mask is not None else ""
            return f"{name_text(name)} = {_element(buffer, index, dims)}{condition}"
        case Store(buffer, index, value):
            return f"store {_element(buffer, index, dims)} = {_value(value, buffer.dtype)}"
        case Accumulator(name, initial):
            return f"var {name_text(name)}: {DTYPES[initial.dtype.name]} = {_value(initial, initial.dtype)}"
        case Accumulate(Buffer() as buffer, index, op, value):
            turns = "atomic " if statement.atomic else ""
            return f"{turns}{_element(buffer, index, dims)} {COMBINE_SIGNS[op]} {_value(value, buffer.dtype)}"
        case Accumulate(str(name), _, op, value):
            return f"{name_text(name)} {COMBINE_SIGNS[op]} {_value(value, None)}"
        case Loop(variable, extent, kind, share=share, threads=threads):
            each = f" of {threads}" if threads else f" by {statement.lanes}" if statement.lanes > 1 else ""
            return f"for {name_text(variable)} in {extent_text(extent)} {kind}{each}{_piece(share)} {{"
        case Product(a, b, out, share=share):
            flags = f"transpose_b={value_text(statement.transpose_b)}, accumulate={value_text(statement.accumulate)}"
            return f"matmul({_names((a, b))}, {flags}) -> {name_text(out.name)}{_piece(share)}"
        case Combine(target, op):
            return f"combine {name_text(target)} {COMBINE_SIGNS[op]}"
        case Barrier():
            return "barrier"
        case Comment(text):
            return f"// {_one_line(text)}".rstrip()
    raise TypeError(f"{statement!r} is no statement")


def _piece(share: tuple[str, Extent] | None) -> str:
    return "" if share is None else f" piece {name_text(share[0])} of {extent_text(share[1])}"


def index_text(index: Affine, dims: Collection[str] = ()) -> str:
    """An index such as ``2*i+j-1``; a variable with the name of a dim stands in quotes."""
    text = ""
    for variable, coefficient in (Affine() + index).terms:
        name = json.dumps(variable, ensure_ascii=False) if variable in dims else name_text(variable)
        factor = extent_text(coefficient)
        if isinstance(coefficient, int):
            term = {1: name, -1: f"-{name}"}.get(coefficient, f"{factor}*{name}")
        else:
            term = f"{factor}*{name}" if _PRODUCT.fullmatch(factor) else f"({factor})*{name}"
        text += _plus(term, text)
    return text + _plus(extent_text(index.offset), text) if index.offset != 0 or not text else text


def _plus(term: str, before: str) -> str:
    return term if not before or term.startswith("-") else f"+{term}"


def _element(buffer: Buffer, index: Index, dims: Collection[str]) -> str:
    return f"{name_text(buffer.name)}[{', '.join(index_text(position, dims) for position in index)}]"


def _value(value: Value, dtype: np.dtype | None) -> str:
    """A scalar's name or a number; a number says its dtype where it is not the one expected."""
    if isinstance(value, str):
        return name_text(value)
    short = DTYPES[value.dtype.name]
    if isinstance(value.value, Dim):
        return f"extent({extent_text(value.value)}, {short})"
    text = number_text(value.value)
    return text if value.dtype == dtype else f"{short}({text})"


def _arena(arena: Arena) -> Iterator[str]:
    yield f"  memory {extent_text(arena.size)} bytes, at least {extent_text(arena.lower_bound)} {{"
    for buffer, offset in arena.offsets:
        yield f"    {name_text(buffer.name)} at {extent_text(offset)}"
    yield "  }"


def _one_line(text: str) -> str:
    return " ".join(text.split())


# parsing ------------------------------------------------------------------------------------------------------------


def parse_program(text: str) -> Program:
    """The program that a text describes.

    Raises
    ------
    CompileValueError
        Where the text is no program: line, column, what was expected, and the line with a caret.
    """
    return _ProgramParser(text).program()


class _ProgramParser(Parser):
    """One program. Comments are statements inside of kernels, and skipped elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.dims: list[str] = []
        self.buffers: dict[str, Buffer] = {}
        self.constants: list[tuple[Buffer, np.ndarray]] = []

    def program(self) -> Program:
        self.skip_comments()
        self.expect("program", "'program @name('")
        self.expect("@")
        name = self.name()
        self.expect("(")
        inputs = self.items(")", self.token_of_name)
        params = self.section("params", self.token_of_name)
        self.dims = self.section("dims", self.name)
        self.expect("{")
        self.skip_comments()
        while self.at(*SPACES):
            self.declaration()
            self.skip_comments()
        steps: list[Step] = []
        while word := self.accept("kernel", "call"):
            steps.append(self.kernel() if word == "kernel" else self.call())
            self.skip_comments()
        arena = self.arena() if self.accept("memory") else None
        self.expect("return", "a buffer's space, 'kernel', 'call', 'memory' or 'return'")
        outputs = [] if self.at("}") else [self.buffer()]
        while self.accept(","):
            outputs.append(self.buffer())
        self.expect("}")
        self.skip_comments()
        if self.token.kind != "end":
            self.expected("the end")
        return Program(
            name,
            tuple(self.dims),
            tuple(map(self.known, inputs)),
            tuple(map(self.known, params)),
            tuple(outputs),
            tuple(steps),
            arena,
            constants=tuple(self.constants),
        )

    def skip_comments(self) -> None:
        while self.token.kind == "comment":
            self.advance()

    # buffers --------------------------------------------------------------------------------------------------------

    def declaration(self) -> None:
        space = self.advance().text
        token = self.token
        name = self.name()
        if name in self.buffers:
            self.fail(f"the buffer {name} is declared twice", token)
        self.expect(":")
        type = self.type()
        base: Buffer | None = None
        offset: Extent = 0
        if self.accept("of"):
            base = self.buffer()
            self.expect("at")
            offset = self.extent()
        self.buffers[name] = buffer = Buffer(name, type.dtype, type.shape, space, base, offset)
        if self.at("="):
            equals = self.advance()
            shape = tuple(extent for extent in type.shape if isinstance(extent, int))
            if len(shape) < type.ndim:
                self.fail(f"an array has no type {type}", equals)
            self.constants.append((buffer, self.array(type.dtype, shape)))

    def token_of_name(self) -> Token:
        token = self.token
        self.name("a buffer")
        return token

    def buffer(self) -> Buffer:
        return self.known(self.token_of_name())

    def known(self, token: Token) -> Buffer:
        name = _unquoted(token)
        if name not in self.buffers:
            self.unknown("buffer", name, self.buffers, token)
        return self.buffers[name]

    def arena(self) -> Arena:
        size = self.extent()
        self.expect("bytes")
        self.expect(",")
        self.expect("at")
        self.expect("least")
        lower_bound = self.extent()
        self.expect("{")
        offsets: list[tuple[Buffer, Extent]] = []
        while not self.accept("}"):
            buffer = self.buffer()
            self.expect("at")
            offsets.append((buffer, self.extent()))
        self.skip_comments()
        return Arena(tuple(offsets), size, lower_bound)

    # steps and statements -------------------------------------------------------------------------------------------

    def call(self) -> Call:
        routine = self.name("a routine")
        written = False
        self.expect("(")
        operands: list[Buffer] = []
        flags: list[tuple[str, Any]] = []
        self.items(")", lambda: self.call_argument(operands, flags))
        while self.accept("," if written else "->"):
            operands.append(self.buffer())
            written = True
        return Call(routine, tuple(operands), tuple(flags))

    def call_argument(self, operands: list[Buffer], flags: list[tuple[str, Any]]) -> None:
        token = self.token_of_name()
        if self.accept("="):
            flags.append((token.text, self.value()))
        else:
            operands.append(self.known(token))

    def kernel(self) -> Kernel:
        name = self.name()
        line = self.expect("{").line
        origin = ""
        if self.token.kind == "comment" and self.token.line == line:
            origin = self.advance().text[2:].strip()
        return Kernel(name, self.body(), origin)

    def body(self) -> tuple[Statement, ...]:
        found: list[Statement] = []
        while not self.accept("}"):
            found.append(self.statement())
        return tuple(found)

    def statement(self) -> Statement:
        if self.token.kind == "comment":
            return Comment(self.advance().text[2:].strip())
        if self.accept("for"):
            return self.loop()
        if self.accept("store"):
            buffer, index = self.element(self.token_of_name())
            self.expect("=")
            return Store(buffer, index, self.scalar(buffer.dtype))
        if self.accept("var"):
            return self.accumulator()
        if self.accept("combine"):
            return Combine(self.name("an accumulator"), self.combine())
        if self.accept("barrier"):
            return Barrier()
        if self.accept("atomic"):
            buffer, index = self.element(self.token_of_name())
            return Accumulate(buffer, index, self.combine(), self.scalar(buffer.dtype), atomic=True)
        token = self.token
        self.name("a statement")
        if self.at("["):
            buffer, index = self.element(token)
            return Accumulate(buffer, index, self.combine(), self.scalar(buffer.dtype))
        if self.at("("):
            return self.product(token)
        if not self.at("="):
            return Accumulate(_unquoted(token), (), self.combine(), self.scalar(None))
        self.advance()
        return self.assignment(_unquoted(token))

    def loop(self) -> Loop:
        variable = self.name("an axis")
        self.expect("in")
        extent = self.extent()
        if not self.at(*KINDS):
            self.expected(" or ".join(KINDS))
        kind = self.advance().text
        threads = int(self.number(np.dtype("int64"))) if self.accept("of") else 0
        lanes = int(self.number(np.dtype("int64"))) if self.accept("by") else 1
        share = self.share() if self.at("piece") else None
        self.expect("{")
        return Loop(variable, extent, kind, self.nested(self.body), share, threads, lanes)

    def share(self) -> tuple[str, Extent]:
        self.expect("piece", "'piece', and whose: a product stands for some of its rows")
        part = self.name("the axis of a loop around this one")
        self.expect("of")
        return part, self.extent()

    def product(self, routine: Token) -> Product:
        if routine.text != "matmul":
            self.fail(f"there is no statement {routine.text}(...): a kernel calls matmul, and names scalars", routine)
        self.expect("(")
        operands: list[Buffer] = []
        flags: list[tuple[str, Any]] = []
        self.items(")", lambda: self.call_argument(operands, flags))
        match operands, flags:
            case [a, b], [("transpose_b", bool(transpose_b)), ("accumulate", bool(accumulate))]:
                self.expect("->")
                return Product(a, b, self.buffer(), transpose_b, accumulate, self.share())
        self.fail("a product in a kernel wants two matrices, and true or false for transpose_b and accumulate", routine)

    def accumulator(self) -> Accumulator:
        name = self.name()
        self.expect(":")
        dtype = self.dtype()
        self.expect("=")
        initial = self.scalar(dtype)
        if isinstance(initial, str):
            self.fail("expected a number to start from", self.tokens[self.position - 1])
        return Accumulator(name, initial)

    def combine(self) -> str:
        sign = self.advance().text
        if sign in ("max", "min") and self.accept("="):
            sign += "="
        if sign not in _COMBINES:
            self.fail(f"expected = or one of {', '.join(_COMBINES)}", self.tokens[self.position - 1])
        return _COMBINES[sign]

    def assignment(self, name: str) -> Let | Load | IndexValue:
        token = self.token_of_name()
        if self.at("["):
            buffer, index = self.element(token)
            return Load(name, buffer, index, self.name("a mask") if self.accept("if") else None)
        self.expect("(", "'[' or '('")
        if token.text == "index":
            position = self.position_index()
            self.expect(")")
            self.expect(":")
            return IndexValue(name, position, self.dtype())
        start = self.position
        self.skip_arguments()
        self.expect(":")
        dtype = self.dtype()
        end, self.position = self.position, start
        args = self.items(")", lambda: self.scalar(dtype))
        self.position = end
        return Let(name, token.text, tuple(args), dtype)

    def skip_arguments(self) -> None:
        """Go behind the closing parenthesis: the dtype stands there that numbers have."""
        depth = 1
        while depth:
            if self.token.kind == "end":
                self.expected("')'")
            depth += {"(": 1, ")": -1}.get(self.advance().text, 0)

    # values -----------------------------------------------------------------------------------------------------------

    def element(self, token: Token) -> tuple[Buffer, Index]:
        buffer = self.known(token)
        self.expect("[")
        return buffer, tuple(self.items("]", self.position_index))

    def position_index(self) -> Affine:
        value = self.expression()
        return value if isinstance(value, Affine) else Affine((), value)

    def variable(self, token: Token) -> Any:
        """A dim of the program, else the axis or scalar of that name."""
        return super().variable(token) if token.text in self.dims else axis(_unquoted(token))

    def scalar(self, dtype: np.dtype | None) -> Value:
        """A scalar's name, or a number: of this dtype unless it says another."""
        if self.accept("extent"):
            self.expect("(")
            extent = self.extent()
            self.expect(",")
            const = Const(extent, self.dtype())
            self.expect(")")
            return const
        if self.at(*DTYPE_NAMES):
            own = self.dtype()
            self.expect("(")
            const = Const(self.number(own), own)
            self.expect(")")
            return const
        if not self.at_number():
            return self.name("a scalar or a number")
        if dtype is None:
            self.fail("this number must say its dtype: f32(1.0)")
        return Const(self.number(dtype), dtype)


def _unquoted(token: Token) -> str:
    return str(json.loads(token.text)) if token.kind == "string" else token.text
