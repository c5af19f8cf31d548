"""The whole text of a generated module for CUDA: imports, types, one function per distinct kernel, the host's."""

from __future__ import annotations

from dataclasses import dataclass

from numba.core import config

from graphc.codegen.cuda.host_text import CudaHostText
from graphc.codegen.cuda.kernel_text import CudaPrinter
from graphc.codegen.emit import kernel_functions, summary
from graphc.codegen.kernel_text import KernelText
from graphc.codegen.module_text import alias_lines, definition_lines, filled, import_lines, joined, used_names
from graphc.codegen.names import CUDA_IMPORTS, Namespace
from graphc.ir.loops import Kernel, Program


@dataclass(frozen=True, slots=True)
class Grid:
    """How many threads run at once: so many blocks, of so many threads each (a power of two).

    The numbers are by reasoning, not by measuring: an H100's 132 multiprocessors hold up to 8 blocks of 256 threads
    each.
    """

    blocks: int = 132 * 8
    threads: int = 256

    @classmethod
    def at_hand(cls) -> Grid:
        """That of a GPU; in the simulator, whose threads are Python's, one of few."""
        return cls(2, 4) if config.ENABLE_CUDASIM else cls()


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """How a program is compiled for a GPU.

    Attributes
    ----------
    grid
        How kernels run.
    matmul_precision
        One of `PRECISIONS`.
    deterministic
        Whether what is added at indices from memory is added in the same order each time.
    """

    grid: Grid
    matmul_precision: str = "float32"
    deterministic: bool = False


# In what products of float32 matrices are computed: in full, or by tensor cores on operands rounded to 10 or 7 bits.
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


def emit_cuda(program: Program, precision: str = "float32") -> str:
    """Print a program whose kernels are mapped to a grid as the source of a Python module.

    The host function, `host_name(program)`, is what `graphc.codegen.emit.emit` describes, but for plain Python: it
    takes arrays of the device, and returns them, also for shape ``()``, in memory that it is given (see
    `CudaHostText`). It waits for nothing.
    """
    module = Namespace()
    host = module.claim(program.name)
    functions, blocks = kernel_functions(program, module, host, frozenset(), CudaPrinter, _kernel_function)
    text = CudaHostText(program, functions, precision)
    does = summary(program)
    lines = definition_lines(host, text.arguments, f"{does[:1].upper()}{does[1:]}", list(text.lines()))
    blocks.append("\n".join(lines))
    used = used_names(blocks)
    imports = import_lines(used, CUDA_IMPORTS, ("cuda", "types"))
    return joined(f"{program.name}: {does}", imports, "\n".join(alias_lines(used)), blocks)


def _kernel_function(name: str, kernel: Kernel, text: KernelText, types: list[str], options: str) -> str:
    body = [line[4:] for line in text.lines]
    return "\n".join([*filled("@kernel(", types, ")"), *definition_lines(name, text.arguments, kernel.origin, body)])
