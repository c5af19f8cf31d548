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
from graphc.executable import Executable, compiled, interpreted
from graphc.feeds import Inputs
from graphc.ir.core import INPUT, PARAM, Node, leaf
from graphc.ir.dims import bind
from graphc.ir.errors import FeedIndexError
from graphc.ir.graph import Graph, naming
from graphc.ir.loops import Program as LoopProgram
from graphc.ir.types import TensorType
from graphc.optimizers import Optimizer
from graphc.passes.pack import Block

SCALAR = TensorType(np.dtype("float64"), ())


@dataclass(frozen=True)
class AttachUpdates:
    """A pass on the packed joint graph: its gradients become next values of the parameters, by an optimiser.

    New inputs, both float64 scalars: the learning rate and the number of the step. New parameters: the optimiser's
    state, shaped like each block that is trained.
    """

    optimizer: Optimizer
    trained: tuple[int, ...]  # which of the packed params have a gradient, in order
    n_outputs: int
    name: str = "update"

    def run(self, graph: Graph) -> Graph:
        """The graph that returns the primal outputs and updates parameters and state."""
        names = dict(graph.names)
        taken = set(naming(graph).values())
        lr, step = leaf(INPUT, SCALAR), leaf(INPUT, SCALAR)
        names[lr], names[step] = _free("learning_rate", taken), _free("step", taken)
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
        self.batch_dim = batch_dim
        wanted = {built.graph.names[node] for node in built.graph.wrt}
        self.trained = tuple(
            k for k, block in enumerate(self.blocks) if any(slot.name in wanted for slot in block.slots)
        )
        self.inputs = Inputs(built.graph, built.aliases)
        self._memory = arena(0)
        self._needs: dict[tuple[int, ...], int] = {}

    def check_batch(self, arrays: Sequence[Any], batch: int) -> None:
        """Refuse batches of a size that a step cannot work with."""
        nodes = self.built.graph.inputs
        self.inputs.check([
            (batch, *np.shape(array)[1:]) if node.shape and str(node.shape[0]) == self.batch_dim else np.shape(array)
            for node, array in zip(nodes, arrays, strict=True)
        ])

    def new_state(self) -> list[np.ndarray]:
        """The optimiser's state at the start, in the order in which the step takes it."""
        return [
            np.zeros(self.blocks[k].size, self.blocks[k].dtype) for k in self.trained for _ in self.optimizer.state
        ]

    @cached_property
    def _stages(self) -> dict[str, Any]:
        graph, count = self.built.graph, len(self.built.graph.outputs)
        loop = None if self.batch_dim is None else MinibatchLoop(self.batch_dim, self._per_step)
        options = EmitOptions(workspace=True, loop=loop)
        updates = AttachUpdates(self.optimizer, self.trained, count)
        passes = pipeline(graph, "joint", count, self.blocks, [updates], options)
        if self.target == "interpret":
            passes = passes[: 1 + next(k for k, step in enumerate(passes) if step.name == updates.name)]
        return {snapshot.stage: snapshot.state[0] for snapshot in compile_graph(graph, passes)}

    @property
    def _per_step(self) -> tuple[str, ...]:
        taken = set(naming(self.built.graph).values())
        return _free("learning_rate", taken), _free("step", taken)

    @cached_property
    def executable(self) -> Executable:
        """The step as a function of its inputs (learning rate and step number last) and blocks (state last)."""
        graph = self._stages["update"]
        if self.target == "interpret":
            return interpreted(graph)
        return compiled(graph, self._program, self._stages["emit"], self._workspace)

    @property
    def _program(self) -> LoopProgram:
        program: LoopProgram = self._stages["memory"]
        return program

    @property
    def source(self) -> str:
        """The emitted module."""
        source: str = self._stages["emit"]
        return source

    def _workspace(self, arguments: Sequence[Any]) -> np.ndarray:
        """The step's memory: it grows to the largest batch and is kept."""
        shapes = tuple(size for array in arguments[: len(self._program.inputs)] for size in np.shape(array))
        if shapes not in self._needs:
            sizes = {
                str(extent): size
                for buffer, array in zip(self._program.inputs, arguments, strict=False)
                for extent, size in zip(buffer.shape, np.shape(array), strict=True)
            }
            self._needs[shapes] = bind(workspace_layout(self._program)[1], sizes)
        return self._at_least(self._needs[shapes])

    def _at_least(self, nbytes: int) -> np.ndarray:
        if self._memory.size < nbytes:
            self._memory = arena(nbytes)
        return self._memory

    # the native loop ------------------------------------------------------------------------------------------------

    def runner(self, inputs: Sequence[Any], blocks: Sequence[np.ndarray], batch_size: int) -> BatchRunner:
        """A loop over batches of some data."""
        return BatchRunner(self, inputs, blocks, batch_size)


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

    def __init__(self, step: TrainingStep, inputs: Sequence[Any], blocks: Sequence[np.ndarray], batch_size: int) -> None:
        self.step, self.inputs, self.blocks, self.batch_size = step, list(inputs), list(blocks), batch_size
        if step.target == "interpret":
            return
        program = step._program
        module = load(host_name(program), step.source)
        self._loop = getattr(module, loop_name(program))
        assert step.batch_dim is not None
        sizes = {
            str(extent): size
            for buffer, array in zip(program.inputs, self.inputs, strict=False)
            for extent, size in zip(buffer.shape, np.shape(array), strict=True)
        } | {step.batch_dim: batch_size}
        loop = MinibatchLoop(step.batch_dim, step._per_step)
        self._rows = arena(bind(row_offsets(program, loop)[1], sizes))
        self._memory = step._at_least(bind(workspace_layout(program)[1], sizes))
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
            raise FeedIndexError(str(error), where=self.step.built.graph.name) from error

    def _interpret(
        self, first: int, last: int, order: np.ndarray, rates: np.ndarray, numbers: np.ndarray, totals: np.ndarray
    ) -> None:
        nodes = self.step.built.graph.inputs
        for k in range(first, last):
            rows = order[k * self.batch_size : (k + 1) * self.batch_size]
            batch = [
                array[rows] if node.shape and str(node.shape[0]) == self.step.batch_dim else array
                for node, array in zip(nodes, self.inputs, strict=True)
            ]
            results = self.step.executable([*batch, rates[k], numbers[k]], self.blocks)
            totals += [len(rows) * float(result) for result in results]
