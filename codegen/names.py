"""Names in generated code: the user's, made identifiers, and kept apart from Python's, NumPy's and each other's."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

from graphc.codegen import vector_math
from graphc.ir.types import DTYPES

# Where generated modules import what they use from; they import nothing else.
IMPORTS: dict[str, str] = {
    **dict.fromkeys(("njit", "types"), "numba"),
    **dict.fromkeys((name for name in DTYPES if name != "bool"), "numpy"),
    **dict.fromkeys(("empty", "inf", "nan", "uintp"), "numpy"),
    # What NumPy has of the scalar functions that the vector math lacks.
    **dict.fromkeys(
        (
            "arccos arccosh arcsin arcsinh arctan arctan2 arctanh ceil floor floor_divide hypot isfinite isinf "
            "left_shift logaddexp reciprocal remainder right_shift rint sign sqrt trunc"
        ).split(),
        "numpy",
    ),
    **dict.fromkeys(("dot", "gemm", "gemv"), "graphc.codegen.blas"),
    **dict.fromkeys(("arena", "index_in_range", "subarray"), "graphc.codegen.runtime"),
    **dict.fromkeys(vector_math.__all__, "graphc.codegen.vector_math"),
}

_TYPE_ALIAS = re.compile(rf"(const_)?({'|'.join(DTYPES.values())})(_\dd)?")
_RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *IMPORTS, "OPTIONS"))


def identifier(name: str) -> str:
    """Return a Python identifier that reads like `name` and means nothing else in a generated module.

    Dots become underscores; a name that is taken by Python, NumPy or graphc gets an underscore behind.
    """
    text = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    text = f"_{text}" if text[0].isdigit() else text
    return f"{text}_" if text in _RESERVED or _TYPE_ALIAS.fullmatch(text) else text


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
