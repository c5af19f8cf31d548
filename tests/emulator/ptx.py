"""PTX text becomes instructions: scopes are resolved, functions are put in where they are called, variables are placed.

An address of shared or local memory is one of a window of generic addresses from the start, so that `cvta` has little
to do. Parameters of called functions lie in local memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SHARED_WINDOW, LOCAL_WINDOW = 0x100000000000, 0x200000000000  # as in driver.c
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_VARIABLE = re.compile(r"\.(global|const|shared|local|param)((?:\s+\.\w+(?:\s+\d+)?)*)\s+([\w$%.]+)((?:\[\d*\])*)")
_FUNCTION = re.compile(r"\.(entry|func)\s+(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)([{;])")
_LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
_NAME = re.compile(r"(?<![\w.$])[%$A-Za-z_][\w$]*")
_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}


class PtxError(Exception):
    """A text that this machine cannot read."""


@dataclass
class Variable:
    """Where something lies: an offset in its space, or for one of the module, once it is loaded, an address."""

    space: str
    size: int
    alignment: int
    address: int = -1
    initial: bytes = b""


@dataclass
class Function:
    """A function's text, taken apart as far as that goes without knowing who calls it."""

    name: str
    body: str
    results: list[str]
    params: list[str]


@dataclass
class Instruction:
    """An operation, its operands as text, and the predicate that guards it ('' for none, '!%p1')."""

    operation: str
    operands: list[str]
    guard: str
    text: str


@dataclass
class Kernel:
    """An entry without calls: what it takes, where its labels are, how much memory its blocks and threads need."""

    name: str
    params: dict[str, Variable]
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    shared: int = 0
    local: int = 0

    def place(self, variable: Variable) -> Variable:
        """Give a variable its address."""
        window, space = (SHARED_WINDOW, "shared") if variable.space == "shared" else (LOCAL_WINDOW, "local")
        start = -(-getattr(self, space) // variable.alignment) * variable.alignment
        setattr(self, space, start + variable.size)
        variable.address = window + start
        return variable


class Module:
    """What a text declares: its variables and functions."""

    def __init__(self, text: str) -> None:
        text = _COMMENT.sub("", text)
        self.functions: dict[str, Function] = {}
        outside, end = [], 0
        while (found := _FUNCTION.search(text, end)) is not None:
            _, results, name, params, _, opening = found.groups()
            outside.append(text[end : found.start()])
            end = _closing(text, found.end()) if opening == "{" else found.end()
            if opening == "{":
                body = text[found.end() : end - 1]
                self.functions[name] = Function(name, body, _declared(results), _declared(params))
        outside.append(text[end:])
        self.variables = dict(_variables(";".join(outside)))

    def kernel(self, name: str) -> Kernel:
        """An entry, with all that it calls put in."""
        function = self.functions[name]
        kernel = Kernel(name, dict(map(_variable, function.params)))
        offset = 0
        for variable in kernel.params.values():
            variable.address = -(-offset // variable.alignment) * variable.alignment
            offset = variable.address + variable.size
        for variable in self.variables.values():
            if variable.space == "shared":  # one that is declared outside
                kernel.place(variable)
        kernel.variables |= self.variables
        _Body(self, kernel, function, {}, "").read()
        return kernel


class _Body:
    """The instructions of a function for one place where it is called."""

    def __init__(self, module: Module, kernel: Kernel, function: Function, names: dict[str, str], prefix: str) -> None:
        self.module, self.kernel, self.function, self.prefix = module, kernel, function, prefix
        self.scopes, self.count = [names], 0

    def read(self) -> None:
        instructions = self.kernel.instructions
        for kind, text in _statements(self.function.body):
            if kind == "{":
                self.scopes.append({})
            elif kind == "}":
                self.scopes.pop()
            elif kind == ":":
                self.kernel.labels[self.prefix + text] = len(instructions)
            elif text.startswith(".reg"):
                self._registers(text)
            elif _VARIABLE.match(text) is not None:
                name, variable = _variable(text)
                self.kernel.variables[self._named(name)] = self.kernel.place(variable)
            elif not text.startswith("."):
                self._instruction(text)
        self.kernel.labels[self.prefix + "<end>"] = len(instructions)
        if not self.prefix:
            instructions.append(Instruction("ret", [], "", "ret"))

    def _named(self, name: str) -> str:
        """A name of its own for what this scope declares."""
        self.count += 1
        if not self.prefix and len(self.scopes) == 1:
            return name
        self.scopes[-1][name] = f"{name}<{self.prefix}{self.count}>"
        return self.scopes[-1][name]

    def _registers(self, text: str) -> None:
        _, kind, names = text.split(None, 2)
        for name in names.split(","):
            stem, _, count = name.strip().rstrip(">").partition("<")
            for each in [f"{stem}{k}" for k in range(int(count))] if count else [stem]:
                self.kernel.registers[self._named(each)] = kind[1:]

    def _resolved(self, text: str) -> str:
        """A text with the names that its scopes gave."""
        return _NAME.sub(self._of_scope, text) if any(self.scopes) else text

    def _of_scope(self, found: re.Match[str]) -> str:
        name = found[0]
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), name)

    def _instruction(self, text: str) -> None:
        found = re.match(r"(?:@(!?[%\w$]+)\s+)?([\w.:]+)\s*(.*)", text, re.DOTALL)
        assert found is not None, text
        guard, operation, rest = found.groups()
        guard = self._resolved(guard or "")
        if operation.partition(".")[0] == "call":
            self._call(rest, text)
            return
        operands = _split(self._resolved(rest))
        if operation.startswith("bra"):
            operands = [self.prefix + rest.strip()]
        elif operation.startswith("ret") and self.prefix:
            operation, operands = "bra", [self.prefix + "<end>"]
        self.kernel.instructions.append(Instruction(operation, operands, guard, " ".join(text.split())))

    def _call(self, rest: str, text: str) -> None:
        found = re.fullmatch(r"(?:\(([^)]*)\)\s*,\s*)?([\w$%]+)\s*(?:,\s*\(([^)]*)\))?.*", rest, re.DOTALL)
        assert found is not None, text
        results, name, params = found.groups()
        function = self.module.functions.get(name)
        if function is None:
            self.kernel.instructions.append(Instruction("unknown", [], "", " ".join(text.split())))
            return
        given = [*_split(results or ""), *_split(params or "")]
        taken = [_variable(each)[0] for each in (*function.results, *function.params)]
        names = {inner: self._resolved(outer) for inner, outer in zip(taken, given, strict=True)}
        self.count += 1
        _Body(self.module, self.kernel, function, names, f"{self.prefix}{self.count}.").read()


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Kinds and texts: the braces of scopes, labels (':'), and what ends with a semicolon."""
    place = 0
    while place < len(text):
        if text[place].isspace() or text[place] == ";":
            place += 1
        elif text[place] in "{}":
            yield text[place], ""
            place += 1
        elif (found := _LABEL.match(text, place)) is not None:
            yield ":", found[1]
            place = found.end()
        else:
            end = text.index(";", place)
            yield ";", text[place:end].strip()
            place = end + 1


def _closing(text: str, start: int) -> int:
    """Behind the brace that closes one."""
    depth = 1
    for found in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if found[0] == "{" else -1
        if not depth:
            return found.end()
    raise PtxError("a brace is not closed")


def _split(text: str) -> list[str]:
    """What commas part, but not within brackets."""
    parts = re.split(r",(?![^{]*\})", text) if "{" in text else text.split(",")
    return [each.strip() for each in parts if each.strip()]


def _declared(text: str | None) -> list[str]:
    return _split(text or "")


def _variable(text: str) -> tuple[str, Variable]:
    found = _VARIABLE.match(text)
    if found is None:
        if (register := re.match(r"\.reg\s+\.(\w)(\d+)\s+(\S+)", text)) is not None:
            return register[3], Variable("reg", int(register[2]) // 8, 1)
        raise PtxError(f"this machine cannot read: {text}")
    space, options, name, extents = found.groups()
    item = next(_SIZES[bits] for bits in re.findall(r"\.[busf](8|16|32|64)\b", options))
    alignment = re.search(r"\.align\s+(\d+)", options)
    size = item
    for extent in re.findall(r"\[(\d*)\]", extents):
        size *= int(extent or 0)
    variable = Variable(space, size, int(alignment[1]) if alignment else item)
    values = re.search(r"=\s*\{?([^}]*)", text)
    if values is not None:
        variable.initial = b"".join(_bits(value, item) for value in _split(values[1]))
    return name, variable


def _bits(value: str, size: int) -> bytes:
    number = int(value[2:], 16) if value[:2] in ("0f", "0d", "0F", "0D") else int(value.rstrip("U"), 0)
    return (number % (1 << 8 * size)).to_bytes(size, "little")


def _variables(text: str) -> Iterator[tuple[str, Variable]]:
    for statement in text.split(";"):
        found = _VARIABLE.search(statement)
        if found is not None and ".extern" not in statement[: found.start()]:
            yield _variable(statement[found.start() :])
