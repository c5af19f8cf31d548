"""The whole text of a generated module: imports, types, one function per distinct kernel, and the host function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.host_text import HostText, Standalone, by_value
from graphc.codegen.kernel_text import KernelPrinter, KernelText, argument_types, kernel_key, kernel_text
from graphc.codegen.module_text import function_text, module_text
from graphc.codegen.names import Namespace, identifier
from graphc.codegen.training import MinibatchLoop, loop_name, loop_text
from graphc.ir.loops import Buffer, Kernel, Program
from graphc.ir.program_verify import overlap


@dataclass(frozen=True, slots=True)
class EmitOptions:
    """How a module is printed.

    Attributes
    ----------
    workspace
        The host function takes its memory as the last argument (uint8 from `graphc.codegen.runtime.arena`, as many
        bytes as `workspace_layout` says) and allocates nothing but results with axes. Otherwise each call allocates
        its own.
    results
        The host function takes the memory of results with axes too, as one more argument (see `results_layout`).
    loop
        Add the minibatch loop over the host function (see `compiled_loop`), which takes a workspace then.
    standalone
        The host function checks the shapes that it is given, and groups what it returns; None trusts the caller.
    """

    workspace: bool = False
    results: bool = False
    loop: MinibatchLoop | None = None
    standalone: Standalone | None = None


def emit(program: Program, options: EmitOptions = EmitOptions()) -> str:
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
    host, loop = module.claim(program.name), module.claim(loop_name(program))
    functions, blocks = kernel_functions(program, module, host, by_value(program), KernelPrinter, _kernel_function)
    workspace = options.workspace or options.loop is not None
    host_text = HostText(program, functions, workspace, options.results, options.standalone)
    does = summary(program)
    lines = list(host_text.lines())
    borrows = not any(output.shape for output in program.outputs) and not any("arena(" in line for line in lines)
    host_options = "BORROWING" if borrows else "OPTIONS"
    signature = host_text.argument_types, host_text.arguments
    blocks.append(function_text(host, *signature, f"{does[:1].upper()}{does[1:]}", lines, options=host_options))
    if options.loop is not None:
        blocks.append(loop_text(program, options.loop, loop))
    return module_text(f"{program.name}: {does}", blocks)


def kernel_functions(
    program: Program,
    module: Namespace,
    host: str,
    scalars: frozenset[Buffer],
    printer: Callable[..., KernelPrinter],
    function: Callable[[str, Kernel, KernelText, list[str], str], str],
) -> tuple[dict[int, str], list[str]]:
    """The name of each kernel's function, by the kernel's place among the steps; and the text of each function, once.

    `scalars` are passed by value; `function` makes the text of a name, a kernel, its body, the types of its arguments,
    and the name of its options.
    """
    functions: dict[int, str] = {}
    emitted: dict[object, str] = {}
    blocks: list[str] = []
    taken = {host, *(identifier(buffer.name) for buffer in program.buffers), *map(identifier, program.dims)}
    for place, kernel in enumerate(program.steps):
        if not isinstance(kernel, Kernel):
            continue
        options = _kernel_options(kernel, program)
        key = options, kernel_key(kernel, scalars, printer)
        if key not in emitted:
            clash = identifier(kernel.name) in taken
            emitted[key] = module.claim(f"compute_{kernel.name}" if clash else kernel.name)
            text = kernel_text(kernel, scalars, printer)
            types = argument_types(text, scalars, kernel.writes)
            blocks.append(function(emitted[key], kernel, text, types, options))
        functions[place] = emitted[key]
    return functions, blocks


def _kernel_function(name: str, kernel: Kernel, text: KernelText, types: list[str], options: str) -> str:
    return function_text(name, types, text.arguments, kernel.origin, [line[4:] for line in text.lines], True, options)


def _kernel_options(kernel: Kernel, program: Program) -> str:
    """How a kernel is compiled: that its arrays do not overlap is a promise to LLVM."""
    for buffer in kernel.writes:
        if any(overlap(buffer, other, program) for other in kernel.buffers if other != buffer):
            return "BORROWING"
    return "INLINED" if kernel.parts is None else "KERNEL"


def summary(program: Program) -> str:
    """What a program's host function does."""
    results = ", ".join(buffer.name for buffer in program.outputs)
    updates = ", ".join(buffer.name for buffer in program.updated)
    parts = (f"returns {results}" if results else "", f"updates {updates}" if updates else "")
    return "; ".join(part for part in parts if part) + "."
