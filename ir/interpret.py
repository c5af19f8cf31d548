"""The reference: a graph evaluated step by step in NumPy, against which everything compiled is tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphc.ir.core import Guard, Node
from graphc.ir.dims import Dim, Extent, bind, extent_names, linear_form
from graphc.ir.errors import FeedIndexError, FeedTypeError, FeedValueError
from graphc.ir.graph import Graph, naming
from graphc.ir.half import evaluate
from graphc.ir.ops.checks import show

# dims -------------------------------------------------------------------------------------------------------


def bind_dims(
    leaves: Mapping[str, Node], shapes: Mapping[str, tuple[int, ...]], guards: Iterable[Guard] = ()
) -> dict[str, int]:
    """The sizes of the symbolic dims, from the shapes of what is fed.

    Parameters
    ----------
    leaves : mapping from str to Node
        The declared inputs (and parameters) by name; their order is that of the search.
    shapes : mapping from str to tuple of int
        The shapes of the arrays fed, by the same names.
    guards : iterable of Guard
        Conditions that the sizes must meet (`Graph.guards`).

    Raises
    ------
    FeedValueError
        For a wrong rank or extent, inputs that disagree on a dim, or a guard that is not met.
    """
    sizes: dict[str, int] = {}
    source: dict[str, str] = {}
    for name, leaf in leaves.items():
        declared, got = leaf.shape, shapes[name]
        if len(got) != len(declared):
            raise FeedValueError(
                f"{name} wants shape {show(declared)}, {len(declared)} axes, got shape {show(got)}, {len(got)} axes"
            )
        for extent, size in zip(declared, got, strict=True):
            if (solved := _solve(extent, size)) is not None:
                dim, value = solved
                if sizes.setdefault(dim, value) != value:
                    raise FeedValueError(f"{source[dim]} has {dim} = {sizes[dim]}, {name} has {dim} = {value}")
                source.setdefault(dim, name)
    _check_extents(leaves, shapes, sizes)
    for guard in guards:
        value = bind(guard.extent, sizes)
        if value < 0 or (guard.relation == "==" and value != 0):
            raise FeedValueError(f"{guard.text}, got {_say(extent_names([guard.extent]), sizes)}")
    return sizes


def _solve(extent: Extent, size: int) -> tuple[str, int] | None:
    """The dim name that ``extent == size`` settles: one name, linearly, with a size that is a natural number."""
    if (form := linear_form(extent)) is None:
        return None
    name, factor, offset = form
    value, rest = divmod(size - offset, factor)
    return (name, value) if rest == 0 and value >= 0 else None


def _check_extents(
    leaves: Mapping[str, Node], shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> None:
    for name, leaf in leaves.items():
        for extent, size in zip(leaf.shape, shapes[name], strict=True):
            unknown = extent_names([extent]) - sizes.keys()
            if unknown or bind(extent, sizes) != size:
                known = _say(extent_names([extent]) & sizes.keys(), sizes)
                wanted = f"{show(leaf.shape)} with {known}" if known else show(leaf.shape)
                raise FeedValueError(f"{name} wants shape {wanted}, got shape {show(shapes[name])}")


def _say(names: Iterable[str], sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {sizes[name]}" for name in sorted(names))


# evaluation -------------------------------------------------------------------------------------------------


def interpret(
    graph: Graph, feeds: Mapping[str, Any], roots: Iterable[Node] | None = None
) -> tuple[np.ndarray, ...]:
    """The outputs of a graph (or the values of other `roots` in it) for given inputs and parameters.

    Parameters
    ----------
    graph : Graph
        What to evaluate.
    feeds : mapping from str to array
        Arrays of exactly the declared dtypes, inputs and params, by their names.
    roots : iterable of Node or None
        Nodes of the graph to return instead of its outputs, such as the next values in its updates.

    Returns
    -------
    tuple of ndarray
        Of exactly the declared dtypes and shapes. They may share memory with the feeds, and be read-only.

    Raises
    ------
    FeedError
        For feeds that do not fit.
    """
    wanted = graph.outputs if roots is None else tuple(roots)
    last_use: dict[Node, int] = {}
    for position, step in enumerate(graph.steps):
        last_use.update(dict.fromkeys(step.operands, position))
    kept = frozenset(wanted)
    values, sizes = _leaf_values(graph, feeds)
    with np.errstate(all="ignore"):
        for position, step in enumerate(graph.steps):
            try:
                values[step] = _evaluate(step, values, sizes)
            except FeedIndexError as error:
                raise _named(error, graph, step) from None
            for operand in frozenset(step.operands):
                if last_use[operand] == position and operand not in kept:
                    del values[operand]
    return tuple(values[node] for node in wanted)


def evaluate_nodes(graph: Graph, feeds: Mapping[str, Any]) -> dict[Node, np.ndarray]:
    """The value of every leaf and step of a graph, in order: what a trace shows. Feeds are as for `interpret`."""
    values, sizes = _leaf_values(graph, feeds)
    with np.errstate(all="ignore"):
        for step in graph.steps:
            values[step] = _evaluate(step, values, sizes)
    return values


def _leaf_values(graph: Graph, feeds: Mapping[str, Any]) -> tuple[dict[Node, np.ndarray], dict[str, int]]:
    names = naming(graph)
    leaves = {names[leaf]: leaf for leaf in graph.leaves}
    for wrong, what in ((leaves.keys() - feeds.keys(), "missing"), (feeds.keys() - leaves.keys(), "surplus")):
        if wrong:
            listed = ", ".join(sorted(wrong))
            raise FeedTypeError(f"{what} feeds of {graph.name}: {listed}; it takes {', '.join(leaves)}")
    arrays = {name: np.asarray(feeds[name]) for name in leaves}
    for name, leaf in leaves.items():
        if arrays[name].dtype != leaf.dtype:
            raise FeedTypeError(f"{name} wants dtype {leaf.dtype}, got {arrays[name].dtype}")
    sizes = bind_dims(leaves, {name: array.shape for name, array in arrays.items()}, graph.guards)
    return {leaf: arrays[name] for name, leaf in leaves.items()}, sizes


def _named(error: FeedIndexError, graph: Graph, step: Node) -> FeedIndexError:
    """The error with the name of the value that holds the index, as compiled programs say it."""
    return FeedIndexError(f"{naming(graph)[step.operands[0]]}: {error.message}")


def _evaluate(step: Node, values: Mapping[Node, np.ndarray], sizes: Mapping[str, int]) -> np.ndarray:
    attrs = {name: bind_attribute(value, sizes) for name, value in step.attrs}
    result = np.asarray(evaluate(step.op, [values[operand] for operand in step.operands], attrs))
    expected = tuple(bind(extent, sizes) for extent in step.shape)
    if result.dtype != step.dtype or result.shape != expected:
        raise AssertionError(f"{step!r} evaluated to {result.dtype}{list(result.shape)}, not {expected}")
    return result


def bind_attribute(value: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute with its dims replaced by their sizes."""
    if isinstance(value, tuple):
        return tuple(bind_attribute(item, sizes) for item in value)
    return bind(value, sizes) if isinstance(value, Dim) else value
