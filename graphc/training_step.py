"""A training step: forward, adjoint and update as one packed graph, one native call, and a native loop over batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from graphc.build import Built
from graphc.codegen.cache import load
from graphc.codegen.emit import EmitOptions
from graphc.codegen.host_text import host_name, workspace_layout
from graphc.codegen.pipeline import compile_graph, pipeline
from graphc.codegen.runtime import arena
from graphc.codegen.training import MinibatchLoop, loop_name, row_offsets
from graphc.executable import Executable, compiled, interpreted, out_of_range
from graphc.feeds import Inputs
from graphc.ir.core import INPUT, PARAM, Node, leaf
from graphc.ir.dims import bind, dim
from graphc.ir.graph import Graph, naming
from graphc.ir.loops import Program as LoopProgram
from graphc.ir.types import TensorType
from graphc.optimizers import Optimizer
from graphc.passes.pack import Block

SCALAR = TensorType(np.dtype("float64"), ())


@dataclass(frozen=True)
class AttachUpdates:
    """A pass on the packed joint graph: its gradients become next values of the parameters, by an optimiser.

    New inputs, both float64 scalars: the learning rate and the number of the step, under the names in `scalars`. New
    parameters: the optimiser's state, shaped like each block that is trained.
    """

    optimizer: Optimizer
    trained: tuple[int, ...]  # which of the packed params have a gradient, in order
    n_outputs: int
    scalars: tuple[str, str]
    name: str = "update"

    def run(self, graph: Graph) -> Graph:
        """The graph that returns the primal outputs and updates parameters and state."""
        names = dict(graph.names)
        taken = {*naming(graph).values(), *self.scalars}
        lr, step = leaf(INPUT, SCALAR), leaf(INPUT, SCALAR)
        names[lr], names[step] = self.scalars
        states: list[Node] = []
        updates: list[tuple[Node, Node]] = []
        for position, gradient in zip(self.trained, graph.outputs[self.n_outputs :], strict=True):
            param = graph.params[position]
            state = [leaf(PARAM, param.type) for _ in self.optimizer.state]
            for each, node in zip(self.optimizer.state, state, strict=True):
                names[node] = _free(f"{each}_{names[param]}", taken)
            next_param, next_state = self.optimizer.update(param, gradient, state, lr, step)
            changes = [(param, next_param), *zip(state, next_state, strict=True)]
            names |= {value: _free(f"next_{names[node]}", taken) for node, value in changes if value not in names}
            updates += changes
            states += state
        return replace(
            graph,
            inputs=(*graph.inputs, lr, step),
            params=(*graph.params, *states),
            outputs=graph.outputs[: self.n_outputs],
            updates=tuple(updates),
            names=names,
        )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


class TrainingStep:
    """The step of some outputs: compiled on first use.

    Parameters
    ----------
    built : Built
        The joint graph's declaration: the loss first, then metrics; `wrt` is what is trained.
    optimizer : Optimizer
        How parameters follow from gradients.
    blocks : sequence of Block
        Where the parameters live.
    batch_dim : str or None
        The dim over which `run` cuts batches.
    target : str
        "cpu" or "interpret".
    """

    def __init__(
        self, built: Built, optimizer: Optimizer, blocks: Sequence[Block], batch_dim: str | None, target: str
    ) -> None:
        self.built, self.optimizer, self.target = built, optimizer, target
        self.blocks = tuple(blocks)
        taken = set(naming(built.graph).values())
        self._scalars = _free("learning_rate", taken), _free("step", taken)
        self.loop = None if batch_dim is None else MinibatchLoop(batch_dim, self._scalars)
        wanted = {built.graph.names[node] for node in built.graph.wrt}
        self.trained = tuple(
            k for k, block in enumerate(self.blocks) if any(slot.name in wanted for slot in block.slots)
        )
        self.inputs = Inputs(built.graph, built.aliases)
        self._memory = arena(0)
        self._needs: dict[tuple[tuple[int, ...], ...], int] = {}
        self.batched = tuple(
            bool(node.shape) and batch_dim is not None and node.shape[0] == dim(batch_dim)
            for node in built.graph.inputs
        )

    def batch_shapes(self, arrays: Sequence[Any], batch: int) -> list[tuple[int, ...]]:
        """The shapes of the inputs for a batch out of some data."""
        return [
            (batch, *np.shape(array)[1:]) if is_batched else np.shape(array)
            for is_batched, array in zip(self.batched, arrays, strict=True)
        ]

    def new_state(self) -> list[np.ndarray]:
        """The optimiser's state at the start, in the order in which the step takes it."""
        return [np.zeros(self.blocks[k].size, self.blocks[k].dtype) for k in self.trained for _ in self.optimizer.state]

    @cached_property
    def _stages(self) -> dict[str, Any]:
        graph, count = self.built.graph, len(self.built.graph.outputs)
        options = EmitOptions(workspace=True, loop=self.loop)
        updates = AttachUpdates(self.optimizer, self.trained, count, self._scalars)
        passes = pipeline(graph, "joint", count, self.blocks, [updates], options)
        if self.target == "interpret":
            passes = passes[: 1 + next(k for k, step in enumerate(passes) if step.name == updates.name)]
        return {snapshot.stage: snapshot.state[0] for snapshot in compile_graph(graph, passes)}

    @cached_property
    def executable(self) -> Executable:
        """The step as a function of its inputs (learning rate and step number last) and blocks (state last)."""
        graph = self._stages["update"]
        if self.target == "interpret":
            return interpreted(graph)
        return compiled(graph, self.program, self.source, self._workspace)

    @property
    def program(self) -> LoopProgram:
        """The loop program behind the module."""
        program: LoopProgram = self._stages["memory"]
        return program

    @property
    def source(self) -> str:
        """The emitted module."""
        source: str = self._stages["emit"]
        return source

    def _workspace(self, arguments: Sequence[Any]) -> np.ndarray:
        return self.memory([np.shape(array) for array in arguments[: len(self.batched)]])

    def memory(self, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
        """A step's memory for inputs of these shapes: it grows to the largest batch and is kept."""
        key = tuple(shapes)
        if key not in self._needs:
            self._needs[key] = bind(workspace_layout(self.program)[1], self.inputs.sizes(key))
        if self._memory.size < self._needs[key]:
            self._memory = arena(self._needs[key])
        return self._memory


class BatchRunner:
    """Runs steps over batches gathered from `inputs` (all examples), natively.

    Parameters
    ----------
    step : TrainingStep
        What to run.
    inputs : sequence of arrays
        The inputs in order, those with the batch dim whole.
    blocks : sequence of arrays
        Parameters and state, updated in place.
    batch_size : int
        The examples of a step; the last one may have fewer.
    """

    def __init__(
        self, step: TrainingStep, inputs: Sequence[Any], blocks: Sequence[np.ndarray], batch_size: int
    ) -> None:
        self.step, self.inputs, self.blocks, self.batch_size = step, list(inputs), list(blocks), batch_size
        if step.target == "interpret":
            return
        program = step.program
        module = load(host_name(program), step.source)
        self._loop = getattr(module, loop_name(program))
        shapes = step.batch_shapes(inputs, batch_size)
        assert step.loop is not None
        self._rows = arena(bind(row_offsets(program, step.loop)[1], step.inputs.sizes(shapes)))
        self._memory = step.memory(shapes)
        self._constants = [array for _, array in program.constants]

    def run(
        self, first: int, last: int, order: np.ndarray, rates: np.ndarray, numbers: np.ndarray, totals: np.ndarray
    ) -> None:
        """Run steps `first` to `last` (not included) of an epoch.

        Parameters
        ----------
        order : array of int64
            The examples of the epoch, in order.
        rates, numbers : arrays of float64
            The learning rate and the number of every step of the epoch.
        totals : array of float64
            To which each output, times its batch's size, is added.
        """
        if self.step.target == "interpret":
            self._interpret(first, last, order, rates, numbers, totals)
            return
        try:
            self._loop(
                first, last, self.batch_size, order, *self.inputs, rates, numbers, *self.blocks, *self._constants,
                self._rows, totals, self._memory,
            )  # fmt: skip
        except IndexError as error:
            raise out_of_range(self.step.built.graph, error) from error

    def _interpret(
        self, first: int, last: int, order: np.ndarray, rates: np.ndarray, numbers: np.ndarray, totals: np.ndarray
    ) -> None:
        for k in range(first, last):
            rows = order[k * self.batch_size : (k + 1) * self.batch_size]
            batch = [
                array[rows] if is_batched else array
                for is_batched, array in zip(self.step.batched, self.inputs, strict=True)
            ]
            results = self.step.executable([*batch, rates[k], numbers[k]], self.blocks)
            totals += [len(rows) * float(result) for result in results]
