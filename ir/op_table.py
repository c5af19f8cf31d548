"""The op table: every op by kind, its NumPy names, and what it does at its edges, as the registry has it.

``python -m graphc.ir.op_table > ir/OPS.md`` writes the table anew; a test fails where the file is out of date.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.core import Bilinear, Custom, Discrete, Linear, Op, Partials, PiecewiseConstant, UserRule
from graphc.ir.ops import OPS

DERIVATIVES: Mapping[type, str] = {
    Partials: "partials",
    Linear: "linear",
    Bilinear: "bilinear",
    Custom: "by hand",
    UserRule: "the user's",
    PiecewiseConstant: "zero",
    Discrete: "none",
}

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

ELEMENTS: Mapping[str, str] = {
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
            *table_title("op", "written as", "elements", "derivative", "at its edges"),
            *map(_op_row, elementwise),
            "\n## Other\n",
            *table_title("op", "written as", "elements", "derivative", "at its edges"),
            *map(_op_row, others),
        )
    )


def table_title(*titles: str) -> tuple[str, str]:
    """The head of a table in Markdown."""
    return table_row(*titles), "|---" * len(titles) + "|"


def table_row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cell.translate(_ESCAPES) for cell in cells)} |"


def _op_row(op: Op) -> str:
    names = ", ".join(f"`{name}`" for name in op.numpy)
    return table_row(op.name, names, ELEMENTS[op.accepts], DERIVATIVES[type(op.derivative)], op.note)


if __name__ == "__main__":
    print(op_table())
