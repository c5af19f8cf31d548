"""Arithmetic of extents against Python's integers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir.dims import Extent, bind, dim, dim_max, dim_min

N, M = dim("N"), dim("M")
OPERATIONS: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (operator.add, operator.add), (operator.sub, operator.sub), (operator.mul, operator.mul), (dim_max, max),
    (dim_min, min), (dim_max, max), (dim_min, min),
)  # fmt: skip
SIZES = [(n, m) for n in range(5) for m in range(5)]


def test_random_extents_are_what_integers_are() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        known: list[tuple[Extent, list[int]]] = [
            (N, [n for n, _ in SIZES]), (M, [m for _, m in SIZES]), (3, [3] * len(SIZES)), (0, [0] * len(SIZES)),
        ]  # fmt: skip
        for _ in range(6):
            symbolic, exact = OPERATIONS[random.integers(len(OPERATIONS))]
            (a, left), (b, right) = (known[random.integers(len(known))] for _ in range(2))
            known.append((symbolic(a, b), [exact(x, y) for x, y in zip(left, right, strict=True)]))
        for extent, values in known:
            assert [bind(extent, {"N": n, "M": m}) for n, m in SIZES] == values, str(extent)


def test_an_extremum_names_each_extent_once() -> None:
    assert str(dim_max(8 * N, dim_max(M, 8 * N))) == str(dim_max(M, 8 * N))
    assert dim_max(dim_max(N, M), N) == dim_max(M, N)
    assert dim_max(8 * N * N, dim_max(8 * N, 8 * N * N)) == 8 * N * N
    assert dim_min(N * N, N) == N
    assert dim_max(N * M, N) not in (N * M, N)  # M may be 0
