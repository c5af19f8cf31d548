"""The pass manager: runs a literal tuple of passes, verifies after each, and lets observers dump and doubt them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from graphc.ir.core import Node
from graphc.ir.dims import bind, extent_names
from graphc.ir.errors import CompileError, GraphcError
from graphc.ir.graph import Graph, naming
from graphc.ir.half import finfo
from graphc.ir.interpret import interpret
from graphc.ir.text import print_graph
from graphc.ir.types import kind_of
from graphc.ir.verify import verify

STAGES = (
    "build", "canonicalize", "stabilize", "differentiate", "simplify", "partition", "lower", "fuse", "memory", "emit",
)  # fmt: skip
VARIANTS = ("forward", "joint", "split")


class Pass(Protocol):
    """A named function from one graph or program to another, or to several."""

    @property
    def name(self) -> str:
        """The stage's name."""

    def run(self, item: Any, /) -> Any:
        """What becomes of one graph or program: another, or a tuple of them."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a kind of object is verified, printed, and what the file of a dump ends in."""

    verify: Callable[[Any], object]
    text: Callable[[Any], str]
    suffix: str


LANGUAGES: Mapping[type, Language] = {Graph: Language(verify, print_graph, ".gir")}

State: TypeAlias = "tuple[Any, ...]"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands after a stage: one object, or two (forward, backward) after `partition`."""

    stage: str
    state: State
    seconds: float = 0.0


Observer: TypeAlias = "Callable[[int, State, Snapshot], None]"


def run_passes(
    start: Any,
    passes: Sequence[Pass],
    observers: Iterable[Observer] = (),
    languages: Mapping[type, Language] = LANGUAGES,
) -> tuple[Snapshot, ...]:
    """Run passes one after the other and keep what stands after each.

    Parameters
    ----------
    start : Graph
        The stage "build".
    passes : sequence of Pass
        Each is run on every object of the state.
    observers : iterable of callables
        ``observer(index, state_before, snapshot)`` is called after every stage, "build" included.
    languages : mapping from type to Language
        How objects are verified.

    Raises
    ------
    CompileError
        Where what a pass made does not verify; it names the pass.
    """
    observers = tuple(observers)
    snapshots = [Snapshot("build", (start,))]
    _check(snapshots[0], languages)
    for observer in observers:
        observer(0, (start,), snapshots[0])
    for index, step in enumerate(passes, 1):
        before = snapshots[-1].state
        began = time.perf_counter()
        results = [step.run(item) for item in before]
        after = tuple(part for result in results for part in (result if isinstance(result, tuple) else (result,)))
        snapshots.append(Snapshot(step.name, after, time.perf_counter() - began))
        _check(snapshots[-1], languages)
        for observer in observers:
            observer(index, before, snapshots[-1])
    return tuple(snapshots)


def _check(snapshot: Snapshot, languages: Mapping[type, Language]) -> None:
    for item in snapshot.state:
        if (language := languages.get(type(item))) is not None:
            try:
                language.verify(item)
            except GraphcError as error:
                raise CompileError(f"what {snapshot.stage} made is not well-formed: {error}") from error


# observers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dump:
    """Writes every stage into a directory: ``00-build.gir``, ``01-canonicalize.gir``, ..."""

    directory: Path
    languages: Mapping[type, Language] = field(default_factory=lambda: LANGUAGES)

    def __call__(self, index: int, before: State, snapshot: Snapshot) -> None:
        """Write one stage."""
        self.directory.mkdir(parents=True, exist_ok=True)
        languages = [self.languages[type(item)] for item in snapshot.state if type(item) in self.languages]
        if languages:
            texts = [language.text(item) for language, item in zip(languages, snapshot.state, strict=True)]
            path = self.directory / f"{index:02d}-{snapshot.stage}{languages[0].suffix}"
            path.write_text("\n".join(text.rstrip("\n") + "\n" for text in texts), encoding="utf-8")


class Paranoid:
    """Interprets the graphs before and after every pass on sampled feeds, and names the pass that changed a value.

    Floats are sampled from 0.25 to 1.75, integers from 0 and 1; a symbolic dim is 3, or the least that guards allow.
    Values agree to rounding, relative to the largest of an array; NaN agrees with NaN. Where a pass replaces leaves, as
    packing does, there is nothing to compare.
    """

    def __call__(self, index: int, before: State, snapshot: Snapshot) -> None:
        """Compare two states.

        Raises
        ------
        CompileError
            Naming the pass, the output and the first element that differs.
        """
        if index == 0 or not all(isinstance(item, Graph) for item in (*before, *snapshot.state)):
            return
        if not _leaf_names(before) <= _leaf_names(snapshot.state):
            return
        sizes = sample_sizes(before[0])
        old, new = _values(before, sizes), _values(snapshot.state, sizes)
        names = naming(before[0])
        for node, left, right in zip(before[0].outputs, old, new, strict=False):
            if (wrong := _differing(left, right)).any():
                raise CompileError(
                    f"the pass {snapshot.stage} changed the value of {names[node]}: "
                    f"{left[wrong].flat[0]} before, {right[wrong].flat[0]} after",
                    hint="this is a bug of graphc: please report it with the graph",
                )


def sample_sizes(graph: Graph) -> dict[str, int]:
    """For every symbolic dim 3, or one size for all that the guards allow."""
    names = extent_names(extent for node in graph.leaves for extent in node.shape)
    for size in (3, *range(1, 257)):
        sizes = dict.fromkeys(names, size)
        values = [(bind(guard.extent, sizes), guard.relation) for guard in graph.guards]
        if all(value >= 0 and (relation != "==" or value == 0) for value, relation in values):
            return sizes
    return dict.fromkeys(names, 3)


def sample_feed(node: Node, name: str, sizes: Mapping[str, int]) -> np.ndarray:
    """An array for a leaf, a function of its name and type alone."""
    random = np.random.default_rng(list(name.encode()))
    shape = tuple(bind(extent, sizes) for extent in node.shape)
    if node.type.is_float:
        return np.asarray(random.uniform(0.25, 1.75, shape), node.dtype)
    return random.integers(0, 2, shape).astype(node.dtype)


def _leaf_names(state: State) -> set[str]:
    return {naming(graph)[node] for graph in state for node in graph.leaves}


def _values(state: State, sizes: Mapping[str, int]) -> list[np.ndarray]:
    """The outputs of a graph, or of forward without what it saves and then of backward."""
    graph, *rest = state
    values = list(interpret(graph, _feeds(graph, sizes, {})))
    if not rest:
        return values
    backward, = rest
    names = naming(graph)
    returned = {names[node]: value for node, value in zip(graph.outputs, values, strict=True)}
    own = {node for node in backward.inputs if node not in graph.leaves and backward.names[node] in returned}
    primal = values[: len(values) - len(own)]
    return [*primal, *interpret(backward, _feeds(backward, sizes, returned))]


def _feeds(graph: Graph, sizes: Mapping[str, int], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = naming(graph)
    return {
        names[node]: known[names[node]] if names[node] in known else sample_feed(node, names[node], sizes)
        for node in graph.leaves
    }


def _differing(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which elements differ by more than rounding."""
    if kind_of(left.dtype) != "f":
        return np.asarray(left != right)
    tolerance = np.sqrt(finfo(left.dtype).eps)
    scale = max(float(np.max(np.abs(left), initial=0.0, where=np.isfinite(left))), 1.0)
    close = np.isclose(left, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    return np.asarray(~close)
