"""The function table: every public function of views, the ops that it is made of, and what follows from them.

``python -m graphc.function_table > graphc/FUNCTIONS.md`` writes the table anew; a test fails where the file is out of
date. What a function is made of is found by calling it: nothing is listed by hand but the arguments of those that want
others than one or two matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

import graphc
from graphc import functions
from graphc.dispatch import FUNCTIONS, UFUNCS
from graphc.ir.core import INPUT, Node
from graphc.ir.errors import GraphcError
from graphc.ir.graph import toposort
from graphc.ir.op_table import ELEMENTS, table_row, table_title
from graphc.leaves import Input
from graphc.passes.reach import reached
from graphc.views import View

INTRODUCTION = """\
# Functions of views

`python -m graphc.function_table` prints this page: do not edit it.

Every function that takes views, under NumPy's, scipy.special's or the field's name. What it does at its edges is what
the ops do that it is made of: [OPS.md](../ir/OPS.md) says it for each, and [EDGES.md](../ir/EDGES.md) lists points that
are tested. Ops that only move, spread or convert elements are left out where there are others.

| gradient | meaning |
|---|---|
| yes | derivatives flow, in both modes and to any order |
| zero | the function is flat: its gradient is 0 |
| none | the result is discrete: it has no derivative |
"""

_GRADIENTS = ("none", "zero", "yes")  # by the rank of `reached`
_MOVES = frozenset(
    ("constant", "extent", "iota", "cast", "reshape", "broadcast_to", "transpose", "slice", "pad", "concatenate")
)

_DTYPES = {"f": "float64", "i": "int64", "u": "uint64", "b": "bool"}  # what is tried, by kind

Arguments = Callable[[View], tuple[Any, ...]]


class Entry(NamedTuple):
    """A function under all its names."""

    names: tuple[str, ...]
    function: Callable[..., Any]


# What functions are called with that want other arguments than a 3 x 3 matrix, or two; x is that matrix.
_ARGUMENTS: Mapping[str, Arguments] = {
    "np.where": lambda x: (x != 0, x, x),
    "np.clip": lambda x: (x, 0, 1),
    "np.reshape": lambda x: (x, (9,)),
    "np.swapaxes": lambda x: (x, 0, 1),
    "np.moveaxis": lambda x: (x, 0, 1),
    "np.expand_dims": lambda x: (x, 0),
    "np.broadcast_to": lambda x: (x, (2, 3, 3)),
    "np.concatenate": lambda x: ([x, x],),
    "np.stack": lambda x: ([x, x],),
    "np.hstack": lambda x: ([x, x],),
    "np.vstack": lambda x: ([x, x],),
    "np.full_like": lambda x: (x, 1),
    "np.take": lambda x: (x, np.array([0, 2])),
    "np.take_along_axis": lambda x: (x, np.zeros((3, 3), int), 0),
    "np.einsum": lambda x: ("ij,jk->ik", x, x),
    **dict.fromkeys(("np.column_stack", "np.dstack"), lambda x: ([x, x],)),
    **dict.fromkeys(("np.partition", "np.argpartition", "np.roll", "np.tile", "np.repeat", "np.pad", "np.vander"),
                    lambda x: (x[0], 1)),
    **dict.fromkeys(("np.split", "np.array_split", "np.vsplit", "np.hsplit"), lambda x: (x, 3)),
    "np.dsplit": lambda x: (np.reshape(x, (1, 3, 3)), 3),
    **dict.fromkeys(("np.quantile", "np.percentile"), lambda x: (x, 0.5)),
    **dict.fromkeys(("np.convolve", "np.correlate", "np.polyval", "np.ix_", "np.meshgrid", "np.linalg.outer"),
                    lambda x: (x[0], x[1])),
    **dict.fromkeys(("np.cumulative_sum", "np.cumulative_prod"), lambda x: (x[0],)),
    "np.bincount": lambda x: (np.zeros(3, int), x[0], 3) if x.dtype.kind == "f" else (x[0], None, 3),
    "np.delete": lambda x: (x, 0, 0),
    "np.insert": lambda x: (x, 0, 0, 0),
    "np.digitize": lambda x: (x, np.arange(3)),
    "np.searchsorted": lambda x: (x[0], x),
    "np.histogram": lambda x: (x, 3, (0, 1)),
    "np.interp": lambda x: (x, np.arange(3.0), x[0]),
    "np.select": lambda x: ([x != 0], [x]),
    "np.resize": lambda x: (x, (2, 2)),
    "np.rollaxis": lambda x: (x, 1),
    "np.ravel_multi_index": lambda x: ((x, x), (3, 3)),
    "np.unravel_index": lambda x: (x, (3, 3)),
    "np.linalg.matrix_power": lambda x: (x, 3),
    "np.linalg.multi_dot": lambda x: ([x, x, x],),
    "graphc.cho_solve": lambda x: ((x, True), x),
    "graphc.identity": lambda x: (3,),
    "graphc.tri": lambda x: (3,),
    "graphc.polygamma": lambda x: (1, x),
    "graphc.zeros": lambda x: (3,),
    "graphc.ones": lambda x: (3,),
    "graphc.full": lambda x: (3, x[0, 0]),
    "graphc.arange": lambda x: (3,),
    "graphc.eye": lambda x: (3,),
    "graphc.top_k": lambda x: (x, 2),
    "graphc.accuracy": lambda x: (x, np.zeros(3, int)),
    "graphc.cross_entropy": lambda x: (x, np.zeros(3, int)),
    "graphc.one_hot": lambda x: (np.zeros(3, int) if x.dtype.kind == "f" else x, 3),
}


def function_table() -> str:
    """The text of ``graphc/FUNCTIONS.md``."""
    titles = ("function", "made of", "elements", "gradient", "at its edges")
    return "\n".join((INTRODUCTION, *table_title(*titles), *(table_row(*row) for row in rows())))


def entries() -> Iterator[Entry]:
    """Every function of views, NumPy's first."""
    found: dict[Any, list[str]] = {}
    for prefix, module in (("np", np), ("np.linalg", np.linalg)):
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if callable(function) and not isinstance(function, type) and function in _SUPPORTED:
                found.setdefault(function, []).append(f"{prefix}.{name}")
    for name in graphc.__all__:
        function = getattr(graphc, name)
        # Made by `public`, or of several results.
        if hasattr(function, "__wrapped__") or getattr(function, "__module__", None) == functions.__name__:
            found.setdefault(function, []).append(f"graphc.{name}")
    return (Entry(tuple(names), function) for function, names in found.items())


def rows() -> Iterator[tuple[str, ...]]:
    """The cells of the table."""
    for names, function in entries():
        inputs = {kind: Input((3, 3), dtype, name="x") for kind, dtype in _DTYPES.items()}
        calls = {kind: _called(names, function, x) for kind, x in inputs.items()}
        taken = [kind for kind, outputs in calls.items() if outputs is not None]
        if not taken:
            raise AssertionError(f"{names[0]} takes no 3 x 3 matrix, nor two: give it arguments in _ARGUMENTS")
        outputs = calls[taken[0]] or []
        if not outputs:
            continue  # np.shape and its like
        order = toposort(outputs)
        made = dict.fromkeys(node.op for node in order if node.op is not INPUT)
        main = [op for op in made if op.name not in _MOVES] or list(made)
        yield (
            ", ".join(f"`{name}`" for name in names),
            ", ".join(op.name for op in main),
            ELEMENTS["".join(kind for kind in "iufb" if kind in taken)],
            _gradient(inputs[taken[0]].node, outputs),
            "; ".join(f"{op.name}: {op.note}" if len(main) > 1 else op.note for op in main if op.note),
        )


_SUPPORTED = {*UFUNCS, *FUNCTIONS}


def _called(names: tuple[str, ...], function: Callable[..., Any], x: View) -> list[Node] | None:
    """The nodes that a function makes of a matrix; None where it does not take its elements."""
    special = next((_ARGUMENTS[name] for name in names if name in _ARGUMENTS), None)
    for arguments in (special,) if special else (lambda x: (x,), lambda x: (x, x)):
        try:
            result = function(*arguments(x))
        except (GraphcError, TypeError):
            continue
        results = result if isinstance(result, (tuple, list)) else (result,)
        return [one.node for one in results if isinstance(one, View)]
    return None


def _gradient(x: Node, outputs: list[Node]) -> str:
    """What derivative the float results have by x."""
    floats = [node for node in outputs if node.type.is_float]
    reach = reached(floats).get(x) if floats else None
    return _GRADIENTS[reach.rank if reach is not None else 0]


if __name__ == "__main__":
    print(function_table())
