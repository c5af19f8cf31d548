"""An executable: one packed graph as a function of its inputs and blocks, on a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.codegen.cache import load
from graphc.codegen.host_text import host_name
from graphc.ir.errors import FeedIndexError
from graphc.ir.graph import Graph, naming
from graphc.ir.interpret import interpret
from graphc.ir.loops import Program as LoopProgram
from graphc.ir.ops import wrap_index

TARGETS = ("cpu", "cuda", "interpret")


class Executable:
    """One graph, ready to be called.

    Parameters
    ----------
    graph : Graph
        Differentiated and packed: its params are block leaves.
    function : callable
        ``function(*inputs, *blocks)`` returns the outputs as a tuple and stores updates into the blocks.
    """

    def __init__(self, graph: Graph, function: Callable[..., tuple[Any, ...]]) -> None:
        self.graph = graph
        self.names = naming(graph)
        self.input_names = tuple(self.names[node] for node in graph.inputs)
        self.block_names = tuple(self.names[node] for node in graph.params)
        self.output_names = tuple(self.names[node] for node in graph.outputs)
        self._function = function
        # Compiled code returns Python numbers for shape (); results are NumPy scalars of the view's dtype.
        self._scalars = tuple((k, node.dtype.type) for k, node in enumerate(graph.outputs) if node.shape == ())

    def __call__(self, inputs: Sequence[Any], blocks: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The outputs.

        Raises
        ------
        FeedError
            (IndexError) for an index out of range.
        """
        try:
            results = list(self._function(*inputs, *blocks))
        except IndexError as error:
            raise out_of_range(self.graph, error) from error
        for k, scalar in self._scalars:
            results[k] = scalar(results[k])
        return tuple(results)


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

    def function(*arguments: Any) -> tuple[Any, ...]:
        feeds = dict(zip(leaves, arguments, strict=True))
        roots = (*graph.outputs, *(value for _, value in graph.updates))
        values = [np.array(value) for value in interpret(graph, feeds, roots)]
        for (param, _), value in zip(graph.updates, values[len(graph.outputs) :], strict=True):
            arguments[count + blocks[param]][...] = value
        return tuple(value if value.ndim else value[()] for value in values[: len(graph.outputs)])

    return Executable(graph, function)


def compiled(
    graph: Graph,
    program: LoopProgram,
    source: str,
    workspace: Callable[[Sequence[Any]], np.ndarray] | None = None,
) -> Executable:
    """A graph run by the functions in its emitted module.

    `workspace` gives the memory for some arguments, where the module was emitted to take it as its last argument.
    """
    host = host_function(program, source)
    constants = tuple(array for _, array in program.constants)
    single = len(program.outputs) == 1

    def function(*arguments: Any) -> tuple[Any, ...]:
        memory = () if workspace is None else (workspace(arguments),)
        result = host(*arguments, *constants, *memory)
        return (result,) if single else result if program.outputs else ()

    return Executable(graph, function)


def host_function(program: LoopProgram, source: str) -> Callable[..., Any]:
    """The jitted function that an emitted module is for."""
    name = host_name(program)
    function: Callable[..., Any] = getattr(load(name, source), name)
    return function
