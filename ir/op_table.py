"""The op table: every op by kind, its NumPy names, and what it does at its edges, as the registry has it.

``python -m graphc.ir.op_table > ir/OPS.md`` writes the table anew; a test fails where the file is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from graphc.ir.core import Bilinear, Custom, Discrete, Linear, Op, Partials, PiecewiseConstant, UserRule
from graphc.ir.errors import DeclarationTypeError
from graphc.ir.ops import OPS
from graphc.ir.types import DTYPES, TensorType

DERIVATIVES: Mapping[type, str] = {
    Partials: "partials",
    Linear: "linear",
    Bilinear: "bilinear",
    Custom: "by hand",
    UserRule: "the user's",
    PiecewiseConstant: "zero",
    Discrete: "none",
}
BOOL = TensorType(np.dtype(bool))

INTRODUCTION = """\
# Ops

`python -m graphc.ir.op_table` prints this page from the op registry: do not edit it.

What an op does at kinks, poles, ties and empty axes is part of graphc's interface, and tested. NaN and inf are kept:
`x - x` and `x / x` are not folded.

| derivative | meaning |
|---|---|
| partials | a scalar partial derivative for each operand, as in a calculus book |
| linear | linear in its operands: the transpose is declared |
| bilinear | linear in each of two operands: both transposes are declared |
| by hand | forward and reverse rules, which a test holds against each other |
| the user's | a reverse rule that a user gives; forward mode is its transpose |
| zero | piecewise constant: the gradient is 0 |
| none | discrete: no cotangent flows; a gradient that could flow through it alone is an error |

`where` masks cotangents, not only values: `np.where(x > 0, np.sqrt(x), 0)` has gradient 0 at and below 0, although the
partial of `sqrt` is infinite or NaN there. The mask holds through ops with partials and linear ops. Through bilinear
ops, and those with rules by hand, it does not: there 0 times inf is NaN.
"""

# How the type rule of an elementwise op is asked, where its operands are not all of one type or not all it takes.
_ASKING: Mapping[str, Callable[[Op, TensorType], object]] = {
    "where": lambda op, type: op.infer(BOOL, type, type),
    "integer_power": lambda op, type: op.infer(type, n=2),
}
_ELEMENTS: Mapping[str, str] = {
    "iufb": "any", "iuf": "numbers", "f": "floats", "iub": "integers, bool", "iu": "integers", "b": "bool",
}  # fmt: skip
# What Markdown would take for markup.
_ESCAPES = str.maketrans({"|": "&#124;", "*": r"\*"})


def op_table() -> str:
    """The text of ``ir/OPS.md``."""
    elementwise = [op for op in OPS.values() if op.is_elementwise]
    others = [op for op in OPS.values() if not op.is_elementwise]
    return "\n".join(
        (
            INTRODUCTION,
            "## Elementwise\n",
            *_rows("op", "written as", "elements", "derivative", "at its edges"),
            *(_row(op.name, _names(op), _elements(op), _derivative(op), op.note) for op in elementwise),
            "\n## Other\n",
            *_rows("op", "written as", "derivative", "at its edges"),
            *(_row(op.name, _names(op), _derivative(op), op.note) for op in others),
        )
    )


def _rows(*titles: str) -> tuple[str, str]:
    return _row(*titles), "|---" * len(titles) + "|"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.translate(_ESCAPES) for cell in cells)} |"


def _names(op: Op) -> str:
    return ", ".join(f"`{name}`" for name in op.numpy)


def _derivative(op: Op) -> str:
    return DERIVATIVES[type(op.derivative)]


def _elements(op: Op) -> str:
    """The elements that an elementwise op takes, found by asking its type rule."""
    kinds = ""
    for dtype in map(np.dtype, DTYPES):
        with suppress(DeclarationTypeError):
            _ASKING.get(op.name, _ask)(op, TensorType(dtype))
            kinds += dtype.kind
    return _ELEMENTS["".join(kind for kind in "iufb" if kind in kinds)]


def _ask(op: Op, type: TensorType) -> object:
    return op.infer(*[type] * len(set(re.findall(r"{\d}", op.scalar or ""))))


if __name__ == "__main__":
    print(op_table())
