"""Scatters that keep an extremum: what meets at a place is the largest, or the least, of what was and what comes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.core import NUMBER, Custom, Node, Op, full
from graphc.ir.ops.comparison import equal, isnan, logical_or, where
from graphc.ir.ops.conversion import cast, stop_gradient
from graphc.ir.ops.indexing import axes_first, gather, in_each, scatter_add, scatter_infer


def _winners(node: Node) -> tuple[Node, Node, Node]:
    """Which elements of the base and of the updates reach the extremum of their place, and how many do at each.

    Constants to a second derivative. A nan wins, so that every place has a winner.
    """
    base, updates, *indices = node.operands
    result, axes = stop_gradient(node), node["axes"]
    kept, hits = (
        logical_or(equal(stop_gradient(x), extremum), isnan(stop_gradient(x)))
        for x, extremum in ((base, result), (updates, gather(result, *indices, axes=axes)))
    )
    count = scatter_add(cast(kept, dtype=base.dtype), cast(hits, dtype=base.dtype), *indices, axes=axes)
    return kept, hits, count


def _scatter_jvp(node: Node, tangents: tuple[Node | None, ...]) -> Node:
    base, updates, *indices = node.operands
    kept, hits, count = _winners(node)
    nothing = full(0, base.type), full(0, updates.type)
    given = (zero if tangent is None else tangent for zero, tangent in zip(nothing, tangents, strict=False))
    moved, added = (where(*each) for each in zip((kept, hits), given, nothing, strict=True))
    return scatter_add(moved, added, *indices, axes=node["axes"]) / count


def _scatter_vjp(node: Node, ct: Node) -> tuple[Node | None, ...]:
    base, updates, *indices = node.operands
    kept, hits, count = _winners(node)
    share = ct / count
    picked = gather(share, *indices, axes=node["axes"])
    by_updates = where(hits, picked, full(0, updates.type))
    return where(kept, share, full(0, base.type)), by_updates, *(None for _ in indices)


def _scatter_extremum(name: str, ufunc: np.ufunc, method: str) -> Op:
    def evaluate(base: np.ndarray, updates: np.ndarray, *indices: np.ndarray, axes: tuple[int, ...]) -> Any:
        result = base.copy()
        ufunc.at(axes_first(result, axes), indices, updates)
        return result

    return Op(
        name=name, infer=scatter_infer(name, NUMBER), evaluate=evaluate, accepts=NUMBER, batch=in_each,
        derivative=Custom(_scatter_jvp, _scatter_vjp), numpy=(f"x.at[indices].{method}",),
        note="duplicates all count; ties, with what was there too, share the gradient evenly; nan wins",
    )  # fmt: skip


scatter_max = _scatter_extremum("scatter_max", np.maximum, "max")
scatter_min = _scatter_extremum("scatter_min", np.minimum, "min")
