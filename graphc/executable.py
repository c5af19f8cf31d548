"""An executable: one packed graph as a function of its inputs and blocks, on a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from graphc.emitted import BySize, Emitted, bits_of
from graphc.ir.errors import FeedIndexError
from graphc.ir.graph import Graph, naming
from graphc.ir.interpret import bind_dims, interpret
from graphc.ir.ops import wrap_index
from graphc.ir.types import is_half
from graphc.lending import Lender
from graphc.quick_call import quick_text

# How many sets of shapes are called without preparation.
KNOWN_SHAPES = 64

Chosen: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...]]"
Quick: TypeAlias = "Callable[..., tuple[Any, ...] | None]"


class Executable(ABC):
    """One graph (differentiated and packed: its params are block leaves), ready to be called."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names = naming(graph)
        self.input_names = tuple(self.names[node] for node in graph.inputs)
        self.output_names = tuple(self.names[node] for node in graph.outputs)

    @abstractmethod
    def __call__(self, inputs: Sequence[Any], blocks: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs.

        Raises
        ------
        FeedError
            (IndexError) for an index out of range.
        """

    def quick(self, blocks: Sequence[Any]) -> Quick:
        """A function of feeds, by name, and of the numbers that the inputs of shape () are; it returns the outputs.

        It is for feeds that need no preparation, and returns None where that is not known to be so.
        """
        return lambda feeds, *numbers: None


class HostExecutable(Executable):
    """A graph run by a function on the host.

    Parameters
    ----------
    graph : Graph
        What is run.
    choose : callable
        Given inputs and blocks, it returns ``(function, extra)``: ``function(*inputs, *blocks, *extra)`` returns the
        outputs, a single one by itself, and stores updates into the blocks. The same for the same shapes.
    typed : bool
        Whether the function refuses arrays of another dtype or layout by a TypeError, before it does anything.
    """

    def __init__(self, graph: Graph, choose: Callable[[Sequence[Any]], Chosen], typed: bool = False) -> None:
        super().__init__(graph)
        self._choose = choose
        # Compiled code returns Python numbers for shape (); results are NumPy scalars of the view's dtype.
        self._scalars = tuple((k, node.dtype.type) for k, node in enumerate(graph.outputs) if node.shape == ())
        self._fed = tuple(self.names[node] for node in graph.inputs if node.shape)
        self._typed = typed
        self._updates = bool(graph.updates)
        self._known: dict[tuple[tuple[int, ...], ...], Chosen] = {}

    def __call__(self, inputs: Sequence[Any], blocks: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs."""
        if self._updates:
            inputs = apart(inputs, blocks)
        function, extra = self._choose([*inputs, *blocks])
        try:
            results = function(*inputs, *blocks, *extra)
        except IndexError as error:
            raise out_of_range(self.graph, error) from error
        if self._typed:
            if len(self._known) == KNOWN_SHAPES:  # each may hold memory of its own
                self._known.clear()
            self._known[tuple(array.shape for array in inputs[: len(self._fed)])] = function, extra
        return self._values(results)

    def quick(self, blocks: Sequence[np.ndarray]) -> Quick:
        """See `Executable.quick`.

        No preparation need arrays of shapes that a call has had before, apart from the blocks (which own their memory)
        where these are updated. Their dtypes and layout are checked by the compiled function itself, before it does
        anything.
        """
        if not self._typed:
            return super().quick(blocks)
        numbers, scalars = len(self.graph.inputs) - len(self._fed), dict(self._scalars)
        outputs = [scalars.get(k) for k in range(len(self.output_names))]
        text = quick_text(self._fed, numbers, len(blocks), outputs, self._updates)
        scope = {
            **{f"block_{k}": block for k, block in enumerate(blocks)},
            **{f"scalar_{k}": scalar for k, scalar in self._scalars},
            **{f"one_{k}": scalar(1) for k, scalar in self._scalars},
            "known": self._known,
            "ndarray": np.ndarray,
            "out_of_range": partial(out_of_range, self.graph),
        }
        exec(compile(text, f"<quick call of {self.graph.name}>", "exec"), scope)
        quick: Quick = scope["quick"]
        return quick

    def _values(self, results: Any) -> tuple[Any, ...]:
        """What the function returned as a tuple, numbers as NumPy scalars."""
        values = [results] if len(self.output_names) == 1 else list(results or ())
        for k, scalar in self._scalars:
            values[k] = scalar(values[k])
        return tuple(values)


def apart(arrays: Sequence[Any], blocks: Sequence[np.ndarray]) -> Sequence[Any]:
    """The arrays, those copied that lie in memory that is updated; the same sequence where none does."""
    shared = [any(np.may_share_memory(array, block) for block in blocks) for array in arrays]
    if not any(shared):
        return arrays
    return [np.copy(array) if is_shared else array for array, is_shared in zip(arrays, shared, strict=True)]


def out_of_range(graph: Graph, error: IndexError) -> FeedIndexError:
    """What the caller is told of an index out of range: the view that holds it, and where it is used."""
    text = error.message if isinstance(error, FeedIndexError) else str(error)
    names = naming(graph)
    places = [
        place
        for step in graph.steps
        if step.op is wrap_index and text.startswith(f"{names[step.operands[0]]}:")
        for place in graph.origins.get(step, ())
    ]
    return FeedIndexError(
        text,
        where=", ".join(dict.fromkeys((graph.name, *places))),
        hint="indices and labels go from 0 to the size less 1; negative ones count from the end",
    )


def interpreted(graph: Graph) -> Executable:
    """A graph run by the reference interpreter."""
    names = naming(graph)
    leaves = [names[node] for node in graph.leaves]
    count = len(graph.inputs)
    blocks = {param: k for k, param in enumerate(graph.params)}

    def function(*arguments: Any) -> Any:
        feeds = dict(zip(leaves, arguments, strict=True))
        roots = (*graph.outputs, *(value for _, value in graph.updates))
        values = [np.array(value) for value in interpret(graph, feeds, roots)]
        for (param, _), value in zip(graph.updates, values[len(graph.outputs) :], strict=True):
            arguments[count + blocks[param]][...] = value
        results = [value if value.ndim else value[()] for value in values[: len(graph.outputs)]]
        return results[0] if len(results) == 1 else results

    return HostExecutable(graph, lambda arguments: (function, ()))


def compiled(
    graph: Graph, emitted: BySize, workspace: Callable[[Emitted, Mapping[str, int]], np.ndarray] | None = None
) -> Executable:
    """A graph run by the functions in its emitted modules.

    `workspace` gives the memory for a module and sizes of dims, where modules take it as their last argument.
    """
    names = naming(graph)
    leaves = {names[node]: node for node in graph.inputs}
    lender = Lender()
    halves = any(is_half(node.dtype) for node in (*graph.leaves, *graph.outputs))

    def choose(arguments: Sequence[Any]) -> Chosen:
        function, extra = chosen_function(arguments)
        return (partial(_through_bits, graph, function) if halves else function), extra

    def chosen_function(arguments: Sequence[Any]) -> Chosen:
        sizes = bind_dims(leaves, {name: np.shape(array) for name, array in zip(leaves, arguments, strict=False)})
        chosen = emitted.choose(sizes)
        if chosen.lent:
            return lender.lending(chosen, sizes), ()
        constants = chosen.constants
        return chosen.function, constants if workspace is None else (*constants, workspace(chosen, sizes))

    return HostExecutable(graph, choose, typed=not halves)


def _through_bits(graph: Graph, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call compiled code, which takes and returns halves as their bits."""
    results = function(*map(bits_of, arguments))
    if not graph.outputs:
        return results
    values = (results,) if len(graph.outputs) == 1 else results
    typed = [
        np.asarray(value, np.uint16).view(node.dtype)[()] if is_half(node.dtype) else value
        for value, node in zip(values, graph.outputs, strict=True)
    ]
    return typed[0] if len(typed) == 1 else typed
