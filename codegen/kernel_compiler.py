"""How kernels are compiled: their arrays do not overlap, and straight-line code becomes vector code.

LLVM cannot know the first, and over ten elements a test for overlap would cost more than vectors save. The second Numba
leaves off, and loops as short as that are unrolled before its loop vectoriser sees them.
"""

from typing import Any

from numba.core import config
from numba.core.compiler import Compiler


class KernelCompiler(Compiler):  # type: ignore[misc]  # Numba is untyped
    """Numba's pipeline with ``noalias`` on all array arguments, and with LLVM's SLP vectoriser.

    Only for functions none of whose written arrays shares memory with another argument.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state.flags.noalias = True

    def compile_extra(self, func: Any) -> Any:
        """Compile a function. Numba holds its lock meanwhile: nothing else is compiled with the setting."""
        before = config.SLP_VECTORIZE
        config.SLP_VECTORIZE = 1
        try:
            return super().compile_extra(func)
        finally:
            config.SLP_VECTORIZE = before
