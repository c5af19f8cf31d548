"""The parts of a generated module that do not depend on what it computes: functions with signatures, imports, types."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from graphc.codegen.names import IMPORTS, TYPE_ALIAS, TYPE_ALIASES

WIDTH = 120

# Options of functions. Kernels and hosts: IEEE arithmetic but for fused multiply-adds, Numba's file cache, no Python
# thread lock held. What allocates nothing and returns no array does without reference counts (their atomic instructions
# take a third of a small step), and that it compiles without Numba's runtime is proof that it allocates nothing. Only
# hosts call kernels, and Python none. As part of the host a kernel needs no arrays passed (another third of a small
# step); on threads it is a function.
_OPTIONS = {
    "OPTIONS": """\
OPTIONS = {
    "cache": True, "error_model": "numpy", "fastmath": {"contract"}, "nogil": True, "no_cfunc_wrapper": True,
    "pipeline_class": HostCompiler,
}""",
    "BORROWING": """\
BORROWING = {**OPTIONS, "_nrt": False}  # allocates nothing, counts no references""",
    "KERNEL": """\
KERNEL = {**BORROWING, "no_cpython_wrapper": True, "pipeline_class": KernelCompiler}  # arrays do not overlap""",
    "INLINED": """\
INLINED = {**KERNEL, "forceinline": True}""",
}
_DTYPES = {alias: "boolean" if dtype == "bool" else dtype for dtype, alias in TYPE_ALIASES.items()}


def function_text(
    name: str,
    types: Sequence[str],
    arguments: Sequence[str],
    summary: str,
    body: Sequence[str],
    void: bool = False,
    options: str = "OPTIONS",
    later: bool = False,
) -> str:
    """A function with an explicit signature; lines of the body come without the function's own indentation.

    `options` is the name of some. A function for `later` is not compiled with the module; its signature stands beside
    it, as ``<name>_types``.
    """
    head, close = ("types.void(", ")") if void else ("(", ",)" if len(types) == 1 else ")")
    signature = filled(head, types, close, 4, 4 + len(f", **{options})"))
    if later:
        lines = [*filled(f"{name}_types = {head}", types, close), "", "", f"@njit(**{options})"]
    elif len(signature) == 1:
        lines = [f"@njit({signature[0]}, **{options})"]
    else:
        lines = ["@njit(", *(f"    {line}" for line in (*signature[:-1], f"{signature[-1]},", f"**{options},")), ")"]
    return "\n".join([*lines, *definition_lines(name, arguments, summary, body)])


def definition_lines(name: str, arguments: Sequence[str], summary: str, body: Sequence[str]) -> list[str]:
    """A function without what stands above it; lines of the body come without the function's own indentation."""
    lines = filled(f"def {name}(", arguments, "):")
    if summary:
        lines += textwrap.wrap(f'"""{summary}"""', WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [*lines, *(f"    {line}" if line else "" for line in body)]


def module_text(summary: str, functions: Sequence[str]) -> str:
    """A module of functions: docstring, the imports and types that they use, and they."""
    used = used_names(functions)
    used |= {"HostCompiler", *(["KernelCompiler"] if used & {"KERNEL", "INLINED"} else [])}
    last = max(place for place, name in enumerate(_OPTIONS) if name in used)  # each is made of the one before
    types = "\n".join((*alias_lines(used), *list(_OPTIONS.values())[: last + 1]))
    return joined(summary, import_lines(used, IMPORTS, ("njit", "types")), types, functions)


def joined(summary: str, imports: Iterable[str], settings: str, functions: Sequence[str]) -> str:
    """The parts of a module as its text."""
    head = ("\n".join(textwrap.wrap(f'"""{summary}"""', WIDTH)), "\n".join(imports), settings)
    return "\n\n\n".join(("\n\n".join(part for part in head if part), *functions)) + "\n"


def used_names(functions: Sequence[str]) -> set[str]:
    """The names in some functions."""
    return {node.id for function in functions for node in ast.walk(ast.parse(function)) if isinstance(node, ast.Name)}


def alias_lines(used: set[str]) -> list[str]:
    """What gives Numba's types the names that are used."""
    return [f"{alias} = {_numba_type(alias)}" for alias in sorted(used) if TYPE_ALIAS.fullmatch(alias)]


def import_lines(used: set[str], modules: Mapping[str, str], of_numba: Sequence[str]) -> Iterator[str]:
    """The imports of what is used, each from its module, and some names of Numba's in any case."""
    sources: dict[str, list[str]] = {"numba": list(of_numba)}
    for name in sorted(used):
        if modules.get(name, "numba") != "numba":
            sources.setdefault(modules[name], []).append(name)
    for source in sorted(sources, key=lambda source: ("." in source, source)):
        line = f"from {source} import {', '.join(sources[source])}"
        yield from [line] if len(line) <= WIDTH else filled(f"from {source} import (", sources[source], ")")


def _numba_type(alias: str) -> str:
    """What an alias stands for: ``types.float32[:, ::1]``."""
    match = TYPE_ALIAS.fullmatch(alias)
    assert match is not None
    dtype = f"types.{_DTYPES[match['dtype']]}"
    if match["rank"] is None:
        return dtype
    rank = int(match["rank"])
    if match["const"]:
        return f'types.Array({dtype}, {rank}, "C", readonly=True)'
    return f"{dtype}[{', '.join([':'] * (rank - 1) + ['::1'])}]" if rank else f'types.Array({dtype}, 0, "C")'


def filled(head: str, items: Sequence[str], close: str, indent: int = 0, beside: int = 0) -> list[str]:
    """``head a, b, c close`` on one line, or the items on lines of their own where it is too long.

    The lines will be indented by `indent`; `beside` is what else stands on the one line.
    """
    line = f"{head}{', '.join(items)}{close}"
    if indent + len(line) + beside <= WIDTH:
        return [line]
    width = WIDTH - 4 - max(4, indent)
    rows = textwrap.wrap(", ".join(items) + ",", width, break_long_words=False, break_on_hyphens=False)
    return [head, *(f"    {row}" for row in rows), close.lstrip(",")]
