"""Functions of views called on arrays: against NumPy, by the interpreter and compiled, many in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc
from graphc import Input, View
from graphc.build import build
from graphc.ir.interpret import interpret

RNG = np.random.default_rng(7)

Case = tuple[Callable[..., Any], tuple[np.ndarray, ...]]


def inputs(arrays: tuple[np.ndarray, ...], symbolic: bool = False, prefix: str = "x") -> list[View]:
    """An input for each array; `symbolic` ones have named dims, axes of one size one name."""
    return [
        Input(tuple(f"N{size}" if symbolic and size > 1 else size for size in x.shape), x.dtype, name=f"{prefix}{k}")
        for k, x in enumerate(arrays)
    ]


def parts(result: Any) -> list[Any]:
    """The results of a function that returns one or several."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def check(cases: list[Case], symbolic: bool = False, every: int = 5) -> None:
    """Compare functions of views with the same functions of arrays: by the interpreter, and one in `every` compiled."""
    views: list[View] = []
    wanted: list[np.ndarray] = []
    feeds: dict[str, np.ndarray] = {}
    for k, (function, arrays) in enumerate(cases):
        leaves = inputs(arrays, symbolic)
        expected = [np.asarray(one) for one in parts(function(*arrays))]
        found = parts(function(*leaves))
        assert len(found) == len(expected), k
        graph = build(found).graph
        kept = {leaf.name: array for leaf, array in zip(leaves, arrays, strict=True) if leaf.node in graph.names}
        for got, want in zip(interpret(graph, kept), expected, strict=True):
            same(got, want, f"case {k} by the interpreter")
        if k % every == 0:
            leaves = inputs(arrays, symbolic, prefix=f"case{k}_")
            views += parts(function(*leaves))
            wanted += expected
            feeds |= {leaf.name: array for leaf, array in zip(leaves, arrays, strict=True)}
    program = graphc.compile(views)
    graph = program.graph("build")
    read = {graph.names[leaf] for leaf in graph.inputs}
    results = program(**{name: array for name, array in feeds.items() if name in read})
    for place, (got, want) in enumerate(zip(parts(results), wanted, strict=True)):
        same(np.asarray(got), want, f"result {place}, compiled")


def same(got: np.ndarray, want: np.ndarray, text: str) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape), text
    np.testing.assert_allclose(got, want, rtol=1e-5 if want.dtype == np.float32 else 1e-12, atol=1e-12, err_msg=text)


def check_gradients(cases: list[Case]) -> None:
    """Compare the gradients of a weighted sum of the results with central differences, by the interpreter."""
    for function, arrays in cases:
        leaves = inputs(arrays)
        weights = [RNG.normal(size=np.shape(one)) for one in parts(function(*arrays))]
        total = sum(np.sum(w * y) for w, y in zip(weights, parts(function(*leaves)), strict=True))
        graphc.check_grad(total, leaves, {f"x{k}": array for k, array in enumerate(arrays)})


def one(function: Callable[..., Any], *arrays: np.ndarray) -> Case:
    return function, arrays
