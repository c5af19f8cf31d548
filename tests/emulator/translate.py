"""A kernel's instructions become Python: one function per straight piece, on NumPy arrays of the lanes that run it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emulator import arithmetic
from emulator.ptx import LOCAL_WINDOW, SHARED_WINDOW, Instruction, Kernel, PtxError

_ENDS = {"bra", "ret", "exit", "trap", "unknown"}
_WAITS = {"bar", "barrier"}
_SPECIAL = re.compile(
    r"%(tid|ntid|ctaid|nctaid)\.([xyz])|%(laneid|warpid|nwarpid|lanemask_\w\w|clock|clock64|globaltimer)$"
)
_COMPARISONS = {
    "eq": "{0} == {1}", "ne": "({0} < {1}) | ({0} > {1})", "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}",
    "ge": "{0} >= {1}", "lo": "{0} < {1}", "ls": "{0} <= {1}", "hi": "{0} > {1}", "hs": "{0} >= {1}",
    "equ": "~(({0} < {1}) | ({0} > {1}))", "neu": "{0} != {1}", "ltu": "~({0} >= {1})", "leu": "~({0} > {1})",
    "gtu": "~({0} <= {1})", "geu": "~({0} < {1})", "nan": "({0} != {0}) | ({1} != {1})",
    "num": "({0} == {0}) & ({1} == {1})",
}  # fmt: skip
_FLOATS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "fma": "fma({0}, {1}, {2})",
    "mad": "fma({0}, {1}, {2})", "neg": "-{0}", "abs": "np.abs({0})", "min": "smaller({0}, {1})",
    "max": "larger({0}, {1})", "sqrt": "np.sqrt({0})", "rcp": "{0}.dtype.type(1) / {0}",
    "rsqrt": "by_double(lambda x: 1 / np.sqrt(x))({0})", "ex2": "by_double(np.exp2)({0})",
    "lg2": "by_double(np.log2)({0})", "sin": "by_double(np.sin)({0})", "cos": "by_double(np.cos)({0})",
    "tanh": "by_double(np.tanh)({0})", "copysign": "np.copysign({1}, {0})",
    "min.NaN": "np.minimum({0}, {1})", "max.NaN": "np.maximum({0}, {1})", "add.rz": "sum_toward_zero({0}, {1})",
    "fma.rz": "fma_toward_zero({0}, {1}, {2})", "mul.rz": "toward_zero(np.float64({0}) * np.float64({1}))",
}  # fmt: skip
_INTEGERS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul.lo": "{0} * {1}", "mul.hi": "upper({0}, {1})",
    "mad.lo": "{0} * {1} + {2}", "mad.hi": "upper({0}, {1}) + {2}", "div": "quotient({0}, {1})",
    "rem": "remainder({0}, {1})", "neg": "-{0}", "abs": "np.abs({0})", "min": "np.minimum({0}, {1})",
    "max": "np.maximum({0}, {1})", "and": "{0} & {1}", "or": "{0} | {1}", "xor": "{0} ^ {1}", "not": "~{0}",
    "cnot": "({0} == 0).astype({0}.dtype)", "bfi": "inserted({0}, {1}, {2:u4}, {3:u4})",
    "bfe": "field_of({0}, {1:u4}, {2:u4})", "shl": "shifted_left({0}, {1:u4})", "shr": "shifted_right({0}, {1:u4})",
    "popc": "np.bitwise_count({0}).astype(np.uint32)", "clz": "leading_zeros({0})", "brev": "reversed_bits({0})",
    "prmt": "permuted({0}, {1}, {2})",
}  # fmt: skip
_CARRIES = {  # the sum of what, and of the carry where the operation takes it; for sub the difference, and the borrow
    "sub": "{0}, {1}", "subc": "{0}, {1}",
    "add": "{0}, {1}", "addc": "{0}, {1}", "mad.lo": "{0} * {1}, {2}", "madc.lo": "{0} * {1}, {2}",
    "mad.hi": "upper({0}, {1}), {2}", "madc.hi": "upper({0}, {1}), {2}",
}  # fmt: skip


def dtype_of(kind: str) -> str:
    """NumPy's name of a PTX type."""
    if kind == "pred":
        return "?"
    return {"b": "u", "u": "u", "s": "i", "f": "f"}[kind[0]] + str(int(kind[1:]) // 8)


def pieces(kernel: Kernel) -> list[int]:
    """Where straight pieces of code begin: at labels, and behind what branches or waits."""
    starts = {0, len(kernel.instructions), *kernel.labels.values()}
    for place, instruction in enumerate(kernel.instructions):
        if instruction.operation.split(".")[0] in _ENDS | _WAITS or instruction.guard:
            starts |= {place + 1} if instruction.operation.startswith("bra") else {place, place + 1}
    return sorted(starts)[:-1]


def translated(kernel: Kernel) -> dict[int, Callable[..., Any]]:
    """A function for each piece of a kernel, by the place of its first instruction."""
    starts = pieces(kernel)
    ends = [*starts[1:], len(kernel.instructions)]
    held = _between_pieces(kernel, list(zip(starts, ends, strict=True)))
    texts, constants = [], dict[str, Any](vars(arithmetic))
    for start, end in zip(starts, ends, strict=True):
        texts += _Piece(kernel, start, end, held, constants).text()
    namespace: dict[str, Any] = constants | {"np": np}
    exec(compile("\n".join(texts), f"<{kernel.name[:60]}>", "exec"), namespace)
    return {start: namespace[f"piece_{start}"] for start in starts}


def _names(instruction: Instruction) -> list[str]:
    return re.findall(
        r"(?<![\w.$])[%$A-Za-z_][\w$]*(?:<[\d.]+>)?", " ".join((*instruction.operands, instruction.guard))
    )


def _between_pieces(kernel: Kernel, spans: Sequence[tuple[int, int]]) -> set[str]:
    """Registers that are used in more than one piece; the others are locals of one."""
    seen: dict[str, int] = {}
    held = {"carry"}
    for start, end in spans:
        for instruction in kernel.instructions[start:end]:
            held |= {name for name in _names(instruction) if seen.setdefault(name, start) != start}
    return held & {"carry", *kernel.registers}


class _Piece:
    """The text of one function."""

    def __init__(self, kernel: Kernel, start: int, end: int, held: set[str], constants: dict[str, Any]) -> None:
        self.kernel, self.start, self.end, self.held, self.constants = kernel, start, end, held, constants
        self.lines: list[str] = []
        self.kinds: dict[str, str] = {}  # of locals: the dtype that each has now
        self.stored: set[str] = set()

    def text(self) -> list[str]:
        """Its lines."""
        for place in range(self.start, self.end):
            instruction = self.kernel.instructions[place]
            try:
                self.place = place
                self._instruction(instruction)
            except (KeyError, IndexError, ValueError) as error:
                raise PtxError(f"this machine does not know: {instruction.text} ({error!r})") from error
        last = self.kernel.instructions[self.end - 1]
        if last.operation.split(".")[0] not in _ENDS | _WAITS:
            self._leave(f"m.go({self.end}, i)")
        return [f"def piece_{self.start}(m, i):", *(f"    {line}" for line in self.lines)]

    # registers --------------------------------------------------------------------------------------------------------

    def _local(self, name: str) -> str:
        return "r" + re.sub(r"\W", "_", name)

    def _natural(self, name: str) -> str:
        return "u4" if name == "carry" else dtype_of(self.kernel.registers[name])

    def _register(self, name: str, kind: str) -> str:
        """A register's value, its lower bits where it has more."""
        local = self._local(name)
        if name not in self.kinds:
            self.lines.append(f"{local} = m.get({name!r}, {self._natural(name)!r}, i)")
            self.kinds[name] = self._natural(name)
        return _viewed(local, self.kinds[name], kind)

    def _read(self, operand: str, kind: str) -> str:
        """An operand's value as a dtype."""
        if operand[0] == "!":
            return f"(~{self._read(operand[1:], kind)})"
        if operand in self.kernel.registers or operand == "carry":
            return self._register(operand, kind)
        if _SPECIAL.match(operand) is not None:
            return _viewed(f"m.special({operand!r}, i)", "u4", kind)
        if operand in self.kernel.variables:
            return _viewed(f"np.uint64({self.kernel.variables[operand].address})", "u8", kind)
        return self._constant(operand, kind)

    def _constant(self, text: str, kind: str) -> str:
        if text[:2] in ("0f", "0d", "0F", "0D"):
            value = (
                np.uint32(int(text[2:], 16)).view("f4") if text[1] in "fF" else np.uint64(int(text[2:], 16)).view("f8")
            )
            value = value.astype(kind) if kind[0] == "f" else value.view(kind)
        else:
            bits = int(text.rstrip("U"), 0) if not re.match(r"-?0\d", text) else int(text, 8)
            size = int(kind[1:]) if kind != "?" else 1
            value = (
                np.frombuffer((bits % (1 << 8 * size)).to_bytes(size, "little"), kind)[0]
                if kind != "?"
                else np.bool_(bits)
            )
        name = "c_" + re.sub(r"\W", "m", text) + "_" + kind.replace("?", "p")
        self.constants[name] = value
        return name

    def _write(self, name: str, value: str, kind: str) -> None:
        """Set a register, with the sign or zeros in what it has more."""
        if name == "_":
            return
        natural = self._natural(name)
        if kind != "?" and int(natural[1:]) > int(kind[1:]):
            value, kind = f"({value}).astype({kind[0] + natural[1:]!r})", kind[0] + natural[1:]
        self.lines.append(f"{self._local(name)} = {value}")
        self.kinds[name] = kind
        self.stored.add(name)

    def _leave(self, result: str) -> None:
        for name in sorted(self.stored & self.held):
            value = _viewed(self._local(name), self.kinds[name], self._natural(name))
            self.lines.append(f"m.set({name!r}, {value}, {self._natural(name)!r}, i)")
        self.lines.append(f"return {result}")

    # instructions -----------------------------------------------------------------------------------------------------

    def _instruction(self, instruction: Instruction) -> None:
        name, *options = instruction.operation.split(".")
        options = [option for option in options if option]
        if instruction.guard and name != "bra":  # a branch around it
            condition = self._read(instruction.guard, "?")
            self.lines.append(f"i = m.only({condition}, i, {self.end})")
            self.lines.append("if not len(i): return")
            self.kinds.clear()
        method = getattr(self, f"_{name}_", None)
        if method is not None:
            method(instruction, options)
        else:
            self._compute(name, instruction.operands, options)

    def _compute(self, name: str, operands: list[str], options: list[str]) -> None:
        """An operation of the tables above."""
        kind = dtype_of(options[-1])
        if kind[0] == "f":
            self._float(name, operands, options, kind)
            return
        if "cc" in options or name in ("addc", "subc", "madc"):
            self._carry(name, operands, options, kind)
            return
        if "sat" in options:
            raise KeyError("sat")
        wide = "wide" in options
        full = name if name in _INTEGERS else f"{name}.{'lo' if wide else options[0]}"
        given = [self._read(each, kind) for each in operands[1:]]
        if wide:
            double = kind[0] + str(2 * int(kind[1:]))
            given = [f"{each}.astype({double!r})" for each in given[:2]]
            given += [self._read(each, double) for each in operands[3:]]
            kind = double
        template = _INTEGERS[full]
        for place, other in re.findall(r"\{(\d):(\w+)\}", template):
            given[int(place)] = self._read(operands[int(place) + 1], other)
        value = re.sub(r":\w+\}", "}", template).format(*given)
        self._write(operands[0], value, "u4" if name in ("popc", "clz") else kind)

    def _float(self, name: str, operands: list[str], options: list[str], kind: str) -> None:
        given = [self._read(each, kind) for each in operands[1:]]
        if "ftz" in options:
            given = [f"flushed({each})" for each in given]
        full = next((f"{name}.{option}" for option in options if f"{name}.{option}" in _FLOATS), name)
        known = full != name and kind == "f4"
        if {"rz", "rm", "rp", "sat", "relu"} & set(options) and not known:
            raise KeyError(name)
        value = _FLOATS[full].format(*given)
        self._write(operands[0], f"flushed({value})" if "ftz" in options else value, kind)

    def _carry(self, name: str, operands: list[str], options: list[str], kind: str) -> None:
        if kind[1:] != "4":
            raise KeyError("carries of other than words")
        given = [self._read(each, "u4") for each in operands[1:]]
        full = name if name in _CARRIES else f"{name}.{options[0]}"
        function = "subtracted" if name.startswith("sub") else "summed"
        before = self._read("carry", "u4") if name.endswith("c") else "np.uint32(0)"
        self.lines.append(f"total, overflow = {function}({_CARRIES[full].format(*given)}, {before})")
        self._write(operands[0], "total", "u4")
        if "cc" in options:
            self._write("carry", "overflow", "u4")

    def _dp4a_(self, instruction: Instruction, options: list[str]) -> None:
        kinds = [dtype_of(each) for each in options[-2:]]
        kind = "i4" if "i4" in kinds else "u4"
        given = [self._read(*each) for each in zip(instruction.operands[1:], (*kinds, kind), strict=True)]
        self._write(instruction.operands[0], f"products_of_bytes({', '.join(given)})", kind)

    def _setp_(self, instruction: Instruction, options: list[str]) -> None:
        kind, operands = dtype_of(options[-1]), instruction.operands
        comparison = "neu" if options[0] == "ne" and kind[0] != "f" else options[0]
        value = "(" + _COMPARISONS[comparison].format(*(self._read(each, kind) for each in operands[1:3])) + ")"
        first, _, second = operands[0].partition("|")
        joined = {"and": "&", "or": "|", "xor": "^"}.get(options[1])
        also = f" {joined} {self._read(operands[3], '?')}" if joined else ""
        if second:
            self._write(second, f"~{value}{also}", "?")
        self._write(first, f"{value}{also}", "?")

    def _set_(self, instruction: Instruction, options: list[str]) -> None:
        to, kind = dtype_of(options[-2]), dtype_of(options[-1])
        given = [self._read(each, kind) for each in instruction.operands[1:]]
        yes = "np.float32(1)" if to == "f4" else "np.uint32(0xFFFFFFFF)"
        value = f"np.where({_COMPARISONS[options[0]].format(*given)}, {yes}, {yes} * 0)"
        self._write(instruction.operands[0], value, to.replace("i", "u"))

    def _selp_(self, instruction: Instruction, options: list[str]) -> None:
        kind, operands = dtype_of(options[-1]), instruction.operands
        yes, no = (self._read(each, kind) for each in operands[1:3])
        self._write(operands[0], f"np.where({self._read(operands[3], '?')}, {yes}, {no})", kind)

    def _lop3_(self, instruction: Instruction, options: list[str]) -> None:
        given = [self._read(each, "u4") for each in instruction.operands[1:4]]
        self._write(instruction.operands[0], f"logic({', '.join(given)}, {int(instruction.operands[4], 0)})", "u4")

    def _shf_(self, instruction: Instruction, options: list[str]) -> None:
        low, high, by = (self._read(each, "u4") for each in instruction.operands[1:])
        by = f"({by} & np.uint32(31))" if "wrap" in options else f"np.minimum({by}, np.uint32(32))"
        pair = f"({low}.astype('u8') | ({high}.astype('u8') << np.uint64(32)))"
        shift = f"(np.uint64(32) - {by}.astype('u8'))" if options[0] == "l" else f"{by}.astype('u8')"
        self._write(instruction.operands[0], f"({pair} >> {shift}).astype('u4')", "u4")

    def _testp_(self, instruction: Instruction, options: list[str]) -> None:
        test = {"finite": "isfinite", "infinite": "isinf", "notanumber": "isnan"}[options[0]]
        self._write(
            instruction.operands[0], f"np.{test}({self._read(instruction.operands[1], dtype_of(options[-1]))})", "?"
        )

    def _cvt_(self, instruction: Instruction, options: list[str]) -> None:
        to, source = map(dtype_of, options[-2:])
        rounding = next((option[1:] for option in options if re.fullmatch(r"r[nzmp]i?", option)), "n")
        value = self._read(instruction.operands[1], source)
        if {to[0], source[0]} <= {"i", "u"} and "sat" not in options:
            value = f"{value}.astype({to!r})"
        else:
            value = f"converted({value}, {to!r}, {rounding!r}, {'sat' in options})"
        self._write(instruction.operands[0], f"flushed({value})" if "ftz" in options and to == "f4" else value, to)

    def _mov_(self, instruction: Instruction, options: list[str]) -> None:
        to, source = instruction.operands
        kind = dtype_of(options[-1])
        if source[0] == "{":
            parts = [each.strip() for each in source[1:-1].split(",")]
            size = int(kind[1:]) // len(parts)
            words = [f"{self._read(each, f'u{size}')}.astype({kind!r})" for each in parts]
            shifts = [f"np.{np.dtype(kind).name}({8 * size * place})" for place in range(len(parts))]
            value = " | ".join(f"({word} << {shift})" for word, shift in zip(words, shifts, strict=True))
            self._write(to, value, kind)
        elif to[0] == "{":
            names = [each.strip() for each in to[1:-1].split(",")]
            size, value = int(kind[1:]) // len(names), self._read(source, kind)
            for place, name in enumerate(names):
                shift = f"np.{np.dtype(kind).name}({8 * size * place})"
                self._write(name, f"({value} >> {shift}).astype('u{size}')", f"u{size}")
        else:
            self._write(to, f"{self._read(source, kind)}.copy()", kind)

    def _cvta_(self, instruction: Instruction, options: list[str]) -> None:
        window = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(options[-2], 0)
        value = self._read(instruction.operands[1], "u8")
        value = f"m.generic({value}, {window})" if window and "to" not in options else f"{value}.copy()"
        self._write(instruction.operands[0], value, "u8")

    # memory -----------------------------------------------------------------------------------------------------------

    def _address(self, operand: str, options: list[str]) -> str:
        base, sign, offset = re.fullmatch(r"\[\s*(.+?)\s*(?:([+-]+)\s*(\w+)\s*)?\]", operand).groups()  # type: ignore[union-attr]
        address = self._read(base, "u8") if re.match(r"[%$A-Za-z_]", base) else f"np.uint64({base})"
        if offset is not None:
            address = f"{address} + np.uint64({int(offset, 0) * (-1 if '-' in sign else 1) % (1 << 64)})"
        space = next((option for option in options if option.partition("::")[0] in ("shared", "local")), "")
        window = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(space.partition("::")[0])
        return f"m.generic({address}, {window})" if window else address

    def _ld_(self, instruction: Instruction, options: list[str]) -> None:
        kind, operands = dtype_of(options[-1]), instruction.operands
        names = [each.strip() for each in operands[0].strip("{}").split(",")]
        base = re.match(r"\[\s*([^+\]\s]+)", operands[1])
        if "param" in options and base is not None and base[1] in self.kernel.params:
            param = self.kernel.params[base[1]]
            offset = param.address + int((re.findall(r"\+\s*(\d+)", operands[1]) or [0])[0])
            values = [f"m.param({offset + place * int(kind[1:])}, {kind!r})" for place in range(len(names))]
        else:
            address = self._address(operands[1], options)
            self.lines.append(f"loaded = m.load({address}, {kind!r}, {len(names)}, i, {self.place})")
            values = [f"loaded[..., {place}]" for place in range(len(names))]
        for name, value in zip(names, values, strict=True):
            self._write(name, value, kind)

    def _ldu_(self, instruction: Instruction, options: list[str]) -> None:
        self._ld_(instruction, options)

    def _st_(self, instruction: Instruction, options: list[str]) -> None:
        kind, operands = dtype_of(options[-1]), instruction.operands
        values = [self._read(each.strip(), kind) for each in operands[1].strip("{}").split(",")]
        self.lines.append(
            f"m.store({self._address(operands[0], options)}, ({', '.join(values)},), {kind!r}, i, {self.place})"
        )

    def _atom_(self, instruction: Instruction, options: list[str]) -> None:
        kind, operands = dtype_of(options[-1]), instruction.operands
        action = next(
            each for each in options if each in ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
        )
        given = ", ".join(self._read(each, kind) for each in operands[2:])
        address = self._address(operands[1], options)
        self.lines.append(f"before = m.atomic({action!r}, {address}, ({given},), {kind!r}, i, {self.place})")
        self._write(operands[0], "before", kind)

    def _red_(self, instruction: Instruction, options: list[str]) -> None:
        operands = ["_", *instruction.operands]
        self._atom_(Instruction(instruction.operation, operands, "", instruction.text), options)

    # threads together -------------------------------------------------------------------------------------------------

    def _shfl_(self, instruction: Instruction, options: list[str]) -> None:
        to, _, flag = instruction.operands[0].partition("|")
        value, *given = (self._read(each, "u4") for each in instruction.operands[1:])
        mode = next(each for each in options if each in ("up", "down", "bfly", "idx"))
        self.lines.append(f"shuffled, valid = m.shuffle({mode!r}, {value}, {', '.join(given)}, i, {self.place})")
        self._write(to, "shuffled", "u4")
        if flag:
            self._write(flag, "valid", "?")

    def _vote_(self, instruction: Instruction, options: list[str]) -> None:
        mode = next(each for each in options if each in ("all", "any", "uni", "ballot"))
        given = f"{self._read(instruction.operands[1], '?')}, {self._read(instruction.operands[2], 'u4')}"
        self._write(
            instruction.operands[0], f"m.vote({mode!r}, {given}, i, {self.place})", "u4" if mode == "ballot" else "?"
        )

    def _activemask_(self, instruction: Instruction, options: list[str]) -> None:
        self._write(instruction.operands[0], "m.active(i)", "u4")

    def _nothing(self, instruction: Instruction, options: list[str]) -> None:
        """Lanes of a warp run together here, and writes are seen at once."""

    _membar_ = _fence_ = _nanosleep_ = _prefetch_ = _nothing

    def _bar_(self, instruction: Instruction, options: list[str]) -> None:
        if "warp" in options:
            self._leave(f"m.go({self.place + 1}, i)")
        elif instruction.operands not in (["0"], []):
            raise KeyError("a barrier of some threads")
        else:
            self._leave(f"m.wait({self.place + 1}, i)")

    _barrier_ = _bar_

    def _bra_(self, instruction: Instruction, options: list[str]) -> None:
        target = self.kernel.labels[instruction.operands[0]]
        if instruction.guard:
            self._leave(f"m.branch({self._read(instruction.guard, '?')}, {target}, {self.place + 1}, i)")
        else:
            self._leave(f"m.go({target}, i)")

    def _ret_(self, instruction: Instruction, options: list[str]) -> None:
        self.lines.append("return")

    _exit_ = _ret_

    def _trap_(self, instruction: Instruction, options: list[str]) -> None:
        self.lines.append(f"return m.fail('a trap', {self.place}, i)")

    def _unknown_(self, instruction: Instruction, options: list[str]) -> None:
        self.lines.append(f"return m.fail('a function that is not here is called', {self.place}, i)")


def _viewed(value: str, kind: str, to: str) -> str:
    """A value of one dtype read as another: its bits, the lower ones where the other is narrower."""
    if kind == to:
        return value
    if kind == "?" or to == "?":
        return f"({value} != 0)" if to == "?" else f"({value}).astype({to!r})"
    if kind[1:] != to[1:]:  # a wider one has nothing to say but zeros
        value = f"({_viewed(value, kind, 'u' + kind[1:])}).astype({'u' + to[1:]!r})"
    return value if kind[1:] != to[1:] and to[0] == "u" else f"({value}).view({to!r})"
