"""What the two textual languages share: tokens with places, errors that show them, numbers, dims, types and attributes.

Each form stands here twice, printed and parsed, side by side, so that what is printed is what reads back.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np

from graphc.ir.core import Literal
from graphc.ir.dims import Dim, Extent, dim, dim_max, dim_min, floor_divide, is_extent
from graphc.ir.errors import CompileValueError, DeclarationError
from graphc.ir.types import DTYPE_NAMES, DTYPES, TensorType, kind_of, named_dtype

Item = TypeVar("Item")

# Words that mean something by themselves: a name that is one of them prints in quotes, a dim in parentheses.
RESERVED = frozenset({
    "true", "false", "none", "nan", "inf", "hex", "extent", "for", "store", "var", "combine", "barrier", "atomic",
    *DTYPE_NAMES,
})  # fmt: skip
# Arrays of more elements print as bytes.
LISTED = 64
# How deep parentheses, lists and minus signs may nest.
DEPTH = 100

# What words do not hold, all in ASCII; the set of what they do hold would take `re` 15 ms to compile.
_OTHER = r"\x00-/:-@\[-\^`{-\x7f"
_NAME = re.compile(rf"[^{_OTHER}0-9][^{_OTHER}]*(\.[^{_OTHER}]+)*")
# `//` before a blank is a comment, before anything else a division.
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n]+)
    | (?P<comment>//(?=\s|$)[^\n]*)
    | (?P<name>{_NAME.pattern})
    | (?P<number>0x[0-9a-f]+|\d+(\.\d*)?([eE][+-]?\d+)?)
    | (?P<string>"([^"\\\n]|\\.)*")
    | (?P<symbol>->|//|[-+*&|]=|[-+*=,:%@()\[\]{{}}])""",
    re.VERBOSE,
)


# printing -----------------------------------------------------------------------------------------------------------


def name_text(name: str) -> str:
    """A name as it is, or in quotes where it would read as something else."""
    return name if _NAME.fullmatch(name) and name not in RESERVED else json.dumps(name, ensure_ascii=False)


def extent_text(extent: Extent) -> str:
    """An extent without blanks."""
    return str(extent).replace(" ", "")


def number_text(value: Any) -> str:
    """A NumPy scalar, shortest text that reads back to the same bits."""
    kind = value.dtype
    if kind.kind == "b":
        return "true" if value else "false"
    if kind_of(kind) != "f":
        return str(int(value))
    if math.isnan(value):
        quiet = value.tobytes() == kind.type(np.nan).tobytes()
        return "nan" if quiet else f"nan({np.asarray(value).view(f'u{kind.itemsize}').item():#x})"
    text = str(value)
    text = f"{text}.0" if text.lstrip("-").isdecimal() else text  # as NumPy's own floats print
    # Reading goes through double; where that rounds twice, the double itself is written.
    return text if kind.type(float(text)) == value else repr(float(value))


def array_text(array: np.ndarray) -> str:
    """The elements of an array as nested lists, or as little-endian bytes where they are many (or none)."""
    if array.ndim == 0:
        return number_text(array[()])
    if not 0 < array.size <= LISTED:
        return f'hex"{array.astype(array.dtype.newbyteorder("<")).tobytes().hex()}"'
    return f"[{', '.join(array_text(np.asarray(part)) for part in array)}]"


def value_text(value: Any) -> str:
    """An attribute. What is no attribute (`verify` says so) prints as Python shows it."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "none"
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Dim():
            text = extent_text(value)
            return f"({text})" if value.names & RESERVED else text
        case np.dtype() if value.name in DTYPES:
            return DTYPES[value.name]
        case Literal() if value.array.dtype.name in DTYPES:
            type = str(TensorType(value.array.dtype, value.array.shape)).removesuffix("[]")
            return f"{type}({array_text(value.array)})"
        case tuple():
            return f"[{', '.join(value_text(item) for item in value)}]"
    return repr(value)


def align(lines: Iterable[tuple[str, str]], limit: int = 96) -> str:
    """Lines with their comments in one column (behind the longest line of at most `limit` characters)."""
    lines = list(lines)
    column = max((len(line) for line, comment in lines if comment and len(line) <= limit), default=0)
    return "".join(f"{line:{column}}  // {comment}\n" if comment else f"{line}\n" for line, comment in lines)


# parsing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text: its kind (a group of the token pattern, or "end"), its text and its place, from 0."""

    kind: str
    text: str
    line: int
    column: int


def tokenize(text: str) -> list[Token]:
    """All tokens of a text, comments too, and an "end".

    Raises
    ------
    CompileValueError
        For a character that begins no token.
    """
    tokens: list[Token] = []
    position = line = line_start = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            token = Token("", "", line, position - line_start)
            raise parse_error(text, token, f"no token begins with {text[position]!r}")
        assert found.lastgroup is not None
        if found.lastgroup != "space":
            tokens.append(Token(found.lastgroup, found.group(), line, position - line_start))
        if newlines := found.group().count("\n"):
            line += newlines
            line_start = text.rindex("\n", 0, found.end()) + 1
        position = found.end()
    tokens.append(Token("end", "the end", line, position - line_start))
    return tokens


def parse_error(text: str, token: Token, message: str) -> CompileValueError:
    """The error at a token, with its line and a caret below."""
    lines = text.split("\n")
    line = lines[token.line] if token.line < len(lines) else ""
    place = f"line {token.line + 1}, column {token.column + 1}"
    return CompileValueError(f"{place}: {message}\n  {line}\n  {' ' * token.column}^")


class Parser:
    """Reads tokens one after the other. Languages add their statements, and what names in expressions mean."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.position = 0
        self.depth = 0

    # tokens ---------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.position]

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        """Raise the error at a token (the next one)."""
        raise parse_error(self.text, token or self.token, message)

    def expected(self, what: str) -> NoReturn:
        """Raise the error that the next token is not what it should be."""
        self.fail(f"expected {what}, got {self.token.text}")

    def unknown(self, what: str, name: str, known: Iterable[str], token: Token) -> NoReturn:
        """Raise the error that there is no such name, with the nearest one."""
        near = difflib.get_close_matches(name, list(known), 1)
        self.fail(f"there is no {what} {name}{f'; did you mean {near[0]}?' if near else ''}", token)

    def advance(self) -> Token:
        """Take the next token."""
        token = self.token
        self.position += token.kind != "end"
        return token

    def at(self, *texts: str) -> bool:
        """Whether the next token is one of these words or symbols."""
        return self.token.text in texts and self.token.kind in ("name", "symbol")

    def accept(self, *texts: str) -> str | None:
        """Take the next token where it is one of these, and return it."""
        return self.advance().text if self.at(*texts) else None

    def expect(self, text: str, what: str = "") -> Token:
        """Take a word or symbol, or raise."""
        if not self.at(text):
            self.expected(what or f"'{text}'")
        return self.advance()

    def name(self, what: str = "a name") -> str:
        """Take a name, in quotes or not."""
        if self.token.kind == "string":
            return self.string()
        if self.token.kind != "name":
            self.expected(what)
        return self.advance().text

    def string(self) -> str:
        """Take a string."""
        if self.token.kind != "string":
            self.expected("a string")
        try:
            return str(json.loads(self.token.text, strict=False))
        except ValueError:
            self.fail(f"no such escape in the string {self.token.text}")
        finally:
            self.advance()

    def items(self, close: str, item: Callable[[], Item]) -> list[Item]:
        """Take items with commas between them, up to and with the closing bracket."""
        found: list[Item] = []
        while not self.accept(close):
            if found:
                self.expect(",", f"',' or '{close}'")
            found.append(item())
        return found

    def section(self, word: str, item: Callable[[], Item]) -> list[Item]:
        """Take ``word(item, ...)`` where it stands, and no items where it does not."""
        if not self.accept(word):
            return []
        self.expect("(")
        return self.items(")", item)

    def nested(self, read: Callable[[], Item]) -> Item:
        """Read something one level deeper; levels are bounded, so that no text overflows the stack."""
        self.depth += 1
        if self.depth > DEPTH:
            self.fail(f"nested more than {DEPTH} deep")
        result = read()
        self.depth -= 1
        return result

    # dims and types -------------------------------------------------------------------------------------------------

    def extent(self) -> Extent:
        """Take an int or an expression of dims."""
        token = self.token
        value = self.expression()
        if not isinstance(value, int | Dim):
            self.fail("expected a dim, got a variable", token)
        return value

    def expression(self) -> Any:
        """Take a sum of products of dims (and of what `variable` makes of other names)."""
        value = self._term()
        while sign := self.accept("+", "-"):
            right = self._term()
            value = value + (right if sign == "+" else right * -1)
        return value

    def variable(self, token: Token) -> Any:
        """What a name in an expression stands for: a dim."""
        if token.kind != "name" or not token.text.isidentifier():
            self.fail(f"expected a dim, got {token.text}", token)
        return dim(token.text)

    def _term(self) -> Any:
        value = self._factor()
        while self.at("*", "//"):
            token = self.advance()
            value = self._combine(token, value, self._factor())
        return value

    def _factor(self) -> Any:
        token = self.advance()
        if token.kind == "number" and token.text.isdecimal():
            return int(token.text)
        if token.kind == "symbol" and token.text == "-":
            return self.nested(self._factor) * -1
        if token.kind == "symbol" and token.text == "(":
            value = self.nested(self.expression)
            self.expect(")")
            return value
        if token.kind == "name" and token.text in ("min", "max") and self.accept("("):
            left = self.nested(self.expression)
            self.expect(",")
            right = self.nested(self.expression)
            self.expect(")")
            return self._combine(token, left, right)
        if token.kind in ("name", "string"):
            return self.variable(token)
        self.fail(f"expected a dim, got {token.text}", token)

    def _combine(self, token: Token, left: Any, right: Any) -> Any:
        variables = (not is_extent(left)) + (not is_extent(right))
        if variables > (token.text == "*"):
            self.fail(f"{token.text} of variables is not affine", token)
        try:
            return _COMBINE[token.text](left, right)
        except DeclarationError as error:
            self.fail(str(error), token)

    def dtype(self) -> np.dtype:
        """Take the short name of a dtype."""
        if not self.at(*DTYPE_NAMES):
            self.expected(f"a dtype ({', '.join(DTYPE_NAMES)})")
        return named_dtype(DTYPE_NAMES[self.advance().text])

    def type(self) -> TensorType:
        """Take a type."""
        if not self.at(*DTYPE_NAMES):
            self.expected("a type such as f32[N,64]")
        dtype = self.dtype()
        self.expect("[")
        return TensorType(dtype, tuple(self.items("]", self.extent)))

    # numbers and attributes -------------------------------------------------------------------------------------------

    def at_number(self) -> bool:
        """Whether the next token begins a number."""
        return self.token.kind == "number" or self.at("-", "nan", "inf", "true", "false")

    def number(self, dtype: np.dtype) -> Any:
        """Take a number as a NumPy scalar."""
        token = self.token
        if dtype.kind == "b":
            if not self.at("true", "false"):
                self.expected("true or false")
            return np.bool_(self.advance().text == "true")
        sign = -1 if self.accept("-") else 1
        is_float = kind_of(dtype) == "f"
        if is_float and self.accept("nan"):
            return self._nan(dtype)
        if is_float and self.accept("inf"):
            return dtype.type(sign * np.inf)
        text = self.token.text
        if self.token.kind != "number" or text.startswith("0x") or (not is_float and not text.isdecimal()):
            self.expected(f"a number of dtype {DTYPES[dtype.name]}")
        self.advance()
        if is_float:
            with np.errstate(over="ignore"):
                return dtype.type(sign * float(text))
        limits = np.iinfo(dtype)
        if not limits.min <= sign * int(text) <= limits.max:
            self.fail(f"{sign * int(text)} does not fit {DTYPES[dtype.name]}", token)
        return dtype.type(sign * int(text))

    def _nan(self, dtype: np.dtype) -> Any:
        if not self.accept("("):
            return dtype.type(np.nan)
        token = self.advance()
        self.expect(")")
        if not token.text.startswith("0x") or int(token.text, 16) >> (8 * dtype.itemsize):
            self.fail(f"expected the {8 * dtype.itemsize} bits of a nan, got {token.text}", token)
        return np.array(int(token.text, 16), f"u{dtype.itemsize}").view(dtype)[()]

    def array(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Take the elements of an array, as nested lists or as bytes."""
        token = self.token
        if shape and self.accept("hex"):
            text = self.string()
            if not re.fullmatch(r"([0-9a-f]{2})*", text) or len(text) // 2 != np.prod(shape) * dtype.itemsize:
                self.fail(f"expected the bytes of {TensorType(dtype, shape)} as hexadecimal digits", token)
            return np.frombuffer(bytes.fromhex(text), dtype.newbyteorder("<")).astype(dtype).reshape(shape)
        if not shape:
            return np.array(self.number(dtype), dtype)
        self.expect("[", "a list of numbers")
        parts = self.items("]", lambda: self.nested(lambda: self.array(dtype, shape[1:])))
        if len(parts) != shape[0]:
            self.fail(f"expected {shape[0]} items, got {len(parts)}", token)
        return np.array(parts, dtype).reshape(shape)

    def value(self) -> Any:
        """Take an attribute."""
        if self.token.kind == "string":
            return self.string()
        if self.accept("["):
            return tuple(self.items("]", lambda: self.nested(self.value)))
        if word := self.accept("true", "false", "none"):
            return None if word == "none" else word == "true"
        if self.at(*DTYPE_NAMES):
            return self._dtype_or_literal()
        return Parser.extent(self)

    def _dtype_or_literal(self) -> Any:
        token = self.token
        dtype = self.dtype()
        if not self.at("(", "["):
            return dtype
        extents = self.items("]", self.extent) if self.accept("[") else []
        shape = tuple(extent for extent in extents if isinstance(extent, int) and extent >= 0)
        if len(shape) < len(extents):
            self.fail("expected a shape of numbers", token)
        self.expect("(")
        array = self.array(dtype, shape)
        self.expect(")")
        return Literal(array)


_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "*": lambda left, right: left * right,
    "//": floor_divide,
    "min": dim_min,
    "max": dim_max,
}
