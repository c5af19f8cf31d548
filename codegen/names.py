"""Names in generated code: the user's, made identifiers, and kept apart from Python's, NumPy's and each other's."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

import numpy as np

from graphc.codegen import half, vector_math
from graphc.ir.factorizations import ROUTINES
from graphc.ir.loops import AT, LANES
from graphc.ir.types import DTYPES, HALVES, is_half

UINT16 = np.dtype("uint16")

# Where generated modules import what they use from; they import nothing else.
IMPORTS: dict[str, str] = {
    **dict.fromkeys(("njit", "types"), "numba"),
    **dict.fromkeys(("bool_" if name == "bool" else name for name in DTYPES if name not in HALVES), "numpy"),
    **dict.fromkeys(("inf", "nan", "uintp"), "numpy"),
    **dict.fromkeys(("dot", "gemm", "gemv"), "graphc.codegen.blas"),
    **dict.fromkeys(ROUTINES, "graphc.codegen.lapack"),
    **dict.fromkeys(("argsort", "searchsorted"), "graphc.codegen.sorting"),
    **dict.fromkeys(("arena", "index_in_range", "subarray"), "graphc.codegen.runtime"),
    **dict.fromkeys(("in_threads", "part_of", "piece", "rows_of"), "graphc.codegen.threads"),
    **dict.fromkeys(("HostCompiler", "KernelCompiler"), "graphc.codegen.compilers"),
    **dict.fromkeys(half.__all__, "graphc.codegen.half"),
    **dict.fromkeys(vector_math.__all__, "graphc.codegen.vector_math"),
}

# The same for the CUDA target, which takes scalar functions from the same places.
_CUDA = "graphc.codegen.cuda"
CUDA_IMPORTS: dict[str, str] = {
    **IMPORTS,
    **dict.fromkeys(("cuda", "types"), "numba"),
    **dict.fromkeys(("matmul",), f"{_CUDA}.products"),
    **dict.fromkeys(ROUTINES, f"{_CUDA}.by_host"),
    **dict.fromkeys(
        ("cholesky", "triangular_solve", "lu", "lu_solve", "log_abs_det", "det_sign"), f"{_CUDA}.factorizations"
    ),
    **dict.fromkeys((*AT, "argsort", "searchsorted"), f"{_CUDA}.sorting"),
    **dict.fromkeys(("check_index", "subarray"), f"{_CUDA}.runtime"),
    **dict.fromkeys(("kernel", "left_over", "piece", "within"), f"{_CUDA}.functions"),
    **dict.fromkeys(("threads_between", "threads_over"), f"{_CUDA}.functions"),
    **dict.fromkeys(("block_all", "block_any"), f"{_CUDA}.functions"),
    **{f"{each}_{lanes}": f"{_CUDA}.lanes" for each in ("load", "store") for lanes in LANES},
    "LANES_ALIGNMENT": f"{_CUDA}.lanes",
    **{
        f"block_{each}{where}": f"{_CUDA}.functions"
        for each in ("sum", "product", "max", "min")
        for where in ("", "_in_memory")
    },
}

# The names that generated modules give to Numba types: ``f32``, ``f32_2d``, ``const_f32_2d``.
TYPE_ALIASES: dict[str, str] = {
    **{name: short for name, short in DTYPES.items() if name not in HALVES},
    "bool": "boolean",
}
TYPE_ALIAS = re.compile(rf"(?P<const>const_)?(?P<dtype>{'|'.join(TYPE_ALIASES.values())})(_(?P<rank>\d)d)?")

_OPTIONS = ("OPTIONS", "BORROWING", "KERNEL", "INLINED")  # see `module_text`
_RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *IMPORTS, *CUDA_IMPORTS, *_OPTIONS))


def stored(dtype: np.dtype) -> np.dtype:
    """The dtype of an array in generated code: halves are uint16 there, their bits."""
    return UINT16 if is_half(dtype) else dtype


def dtype_name(dtype: np.dtype) -> str:
    """How generated code names a dtype (Python's own ``bool`` is none to Numba)."""
    return "bool_" if dtype.kind == "b" else stored(dtype).name


def identifier(name: str) -> str:
    """Return a Python identifier that reads like `name` and means nothing else in a generated module.

    Dots become underscores; a name that is taken by Python, NumPy or graphc gets an underscore behind.
    """
    text = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    text = f"_{text}" if text[0].isdigit() else text
    return f"{text}_" if text in _RESERVED or TYPE_ALIAS.fullmatch(text) else text


class Namespace:
    """The names of one scope. Who claims first keeps the plain name; the claims' order decides, nothing else.

    Parameters
    ----------
    taken
        Names of an outer scope that this one must not hide.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def claim(self, name: str, alternative: str = "") -> str:
        """Return an identifier for `name` that nobody else in this scope has; `alternative` is the second choice."""
        plain = identifier(name)
        if alternative and plain in self._taken:
            plain = identifier(alternative)
        text, count = plain, 0
        while text in self._taken:
            count += 1
            text = f"{plain}_{count}"
        self._taken.add(text)
        return text


class Numbered(Namespace):
    """Names without meaning, by order alone: two texts in them are equal where they differ in names only."""

    def claim(self, name: str, alternative: str = "") -> str:
        """Return the next name."""
        return super().claim("v")
