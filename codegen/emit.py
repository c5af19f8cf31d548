"""The whole text of a generated module: imports, types, one function per distinct kernel, and the host function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphc.codegen.host_text import HostText, by_value
from graphc.codegen.kernel_text import KernelText, argument_types, kernel_key, kernel_text
from graphc.codegen.names import IMPORTS, Namespace, identifier
from graphc.ir.loops import Kernel, Program
from graphc.ir.types import DTYPE_NAMES

WIDTH = 120

# Kernels and hosts: IEEE arithmetic but for fused multiply-adds, Numba's file cache, no Python thread lock held.
_OPTIONS = (
    'OPTIONS = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}, "nogil": True, "no_cfunc_wrapper": True}'
)


@dataclass(frozen=True, slots=True)
class EmitOptions:
    """How a module is printed.

    Attributes
    ----------
    workspace
        The host function takes the memory of its arena as its last argument (``arena.size`` bytes of uint8, from
        `graphc.codegen.runtime.arena`) and allocates results only. Otherwise each call allocates its own.
    summary
        What the module's docstring says after the program's name.
    """

    workspace: bool = False
    summary: str = ""


def host_name(program: Program) -> str:
    """The name of the host function in a program's module."""
    return identifier(program.name)


def emit(program: Program, options: EmitOptions = EmitOptions()) -> str:  # noqa: B008 - frozen
    """Print a program as the source of a Python module.

    The host function, `host_name(program)`, takes the inputs, the parameters and the constants, each in declaration
    order: C-contiguous arrays of exact dtype and shape, numbers for shape ``()`` (but updated parameters are arrays).
    It returns the outputs as a tuple, a single one by itself, and NumPy scalars for shape ``()``. Which dims agree is
    the caller's promise.

    Parameters
    ----------
    program
        After memory planning. Buffers without a place in the arena are allocated one by one.
    options
        See `EmitOptions`.

    Returns
    -------
    str
        The text: the same for the same program, in every process.
    """
    module = Namespace()
    host = module.claim(program.name)
    scalars = by_value(program)
    functions: dict[int, str] = {}
    emitted: dict[tuple[object, ...], str] = {}
    blocks: list[str] = []
    taken = {host, *(identifier(buffer.name) for buffer in program.buffers), *map(identifier, program.dims)}
    for place, kernel in enumerate(program.steps):
        if not isinstance(kernel, Kernel):
            continue
        key = kernel_key(kernel, scalars)
        if key not in emitted:
            clash = identifier(kernel.name) in taken
            emitted[key] = module.claim(f"compute_{kernel.name}" if clash else kernel.name)
            blocks.append(_kernel(kernel, emitted[key], kernel_text(kernel, scalars), program))
        functions[place] = emitted[key]
    text = HostText(program, functions, host, options.workspace, [host, *emitted.values()])
    blocks.append(_function(host, text.argument_types, text.arguments, _summary(program), list(text.lines())))
    return "\n\n\n".join(("\n\n".join(_head(program, options, blocks)), *blocks)) + "\n"


def _kernel(kernel: Kernel, name: str, text: KernelText, program: Program) -> str:
    types = argument_types(text, by_value(program), kernel.writes)
    lines = [line[4:] for line in text.lines]
    return _function(name, types, text.arguments, kernel.origin, lines, returns="void")


def _function(
    name: str, types: Sequence[str], arguments: Sequence[str], summary: str, body: Sequence[str], returns: str = ""
) -> str:
    signature = f"types.void({', '.join(types)})" if returns else f"({', '.join(types)}{',' * (len(types) == 1)})"
    lines = [*_wrapped(f"@njit({signature}, **OPTIONS)"), *_wrapped(f"def {name}({', '.join(arguments)}):")]
    if summary:
        lines.append(f'    """{summary}"""')
    lines += [f"    {line}" if line else "" for line in body]
    return "\n".join(lines)


def _summary(program: Program) -> str:
    results = ", ".join(buffer.name for buffer in program.outputs)
    updates = f"updates {', '.join(buffer.name for buffer in program.updated)}" if program.updated else ""
    return "; ".join(part for part in (f"Returns {results}" if results else "", updates) if part) + "."


def _head(program: Program, options: EmitOptions, blocks: Sequence[str]) -> Iterator[str]:
    used = {node.id for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Name)}
    yield f'"""{program.name}: {options.summary or _summary(program)}"""'
    sources = sorted({IMPORTS[name] for name in used if name in IMPORTS} | {"numba"}, key=lambda m: ("." in m, m))
    yield "\n".join(
        line
        for source in sources
        for line in _wrapped(f"from {source} import {', '.join(_imported(source, used))}")
    )
    aliases = sorted(name for name in used if re.fullmatch(_ALIAS, name))
    yield "\n".join((*(f"{alias} = {_numba_type(alias)}" for alias in aliases), _OPTIONS))


_ALIAS = rf"(?P<const>const_)?(?P<dtype>{'|'.join(DTYPE_NAMES)})(_(?P<rank>\d)d)?"


def _imported(source: str, used: set[str]) -> list[str]:
    found = sorted(name for name in used if IMPORTS.get(name) == source)
    return ["njit", "types"] if source == "numba" else found


def _numba_type(alias: str) -> str:
    """What an alias stands for: ``types.float32[:, ::1]``."""
    match = re.fullmatch(_ALIAS, alias)
    assert match is not None
    dtype = f"types.{DTYPE_NAMES[match['dtype']]}".replace("types.bool", "types.boolean")
    if match["rank"] is None:
        return dtype
    rank = int(match["rank"])
    if match["const"]:
        return f'types.Array({dtype}, {rank}, "C", readonly=True)'
    return f"{dtype}[{', '.join([':'] * (rank - 1) + ['::1'])}]" if rank else f'types.Array({dtype}, 0, "C")'


def _wrapped(line: str) -> list[str]:
    """A line, broken inside its outermost parentheses where it is too long."""
    if len(line) <= WIDTH:
        return [line]
    if " import " in line:
        head, _, items = line.partition(" import ")
        return [f"{head} import (", *(f"    {item}," for item in items.split(", ")), ")"]
    head, _, rest = line.partition("(")
    inner, _, tail = rest.rpartition(")")
    lines, current = [], "   "
    for item in inner.split(", "):
        if len(current) + len(item) + 2 > WIDTH:
            lines.append(current)
            current = "   "
        current += f" {item},"
    return [f"{head}(", *lines, current, f"){tail}"]
