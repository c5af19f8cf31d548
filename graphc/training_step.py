"""A training step: forward, adjoint and update as one packed graph, one native call, and a native loop over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from graphc.build import Built
from graphc.codegen.emit import EmitOptions
from graphc.codegen.host_text import workspace_layout
from graphc.codegen.pipeline import compile_graph, pipeline
from graphc.codegen.runtime import arena
from graphc.codegen.training import MinibatchLoop, compiled_loop, row_offsets
from graphc.device import STORAGE, device_array
from graphc.device_executable import DeviceExecutable
from graphc.emitted import BySize, Emitted, bits_of, number_of
from graphc.executable import Executable, apart, compiled, interpreted, out_of_range
from graphc.feeds import Inputs
from graphc.ir.core import INPUT, PARAM, Node, leaf
from graphc.ir.dims import bind, dim
from graphc.ir.graph import Graph, naming
from graphc.ir.half import SINGLE
from graphc.ir.types import TensorType, is_half
from graphc.operands import cast
from graphc.optimizers import Optimizer
from graphc.passes.pack import Block
from graphc.targets import Target

SCALAR = TensorType(np.dtype("float64"), ())

# Bytes of examples that are gathered at once where batches are small: they fit into the first cache.
GATHERED = 2**15


@dataclass(frozen=True)
class AttachUpdates:
    """A pass on the packed joint graph: its gradients become next values of the parameters, by an optimiser.

    New inputs, both float64 scalars: the learning rate and the number of the step, under the names in `scalars`. New
    parameters: the optimiser's state, shaped like each block that is trained. For blocks of halves the state is
    float32, and so is all arithmetic (the square of a small gradient is 0 in float16): only the parameter is rounded.
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
            computed = param.type.with_dtype(state_dtype(param.dtype))
            state = [leaf(PARAM, computed) for _ in self.optimizer.state]
            for each, node in zip(self.optimizer.state, state, strict=True):
                names[node] = _free(f"{each}_{names[param]}", taken)
            wide, slope = (cast(node, computed.dtype) for node in (param, gradient))
            next_param, next_state = self.optimizer.update(wide, slope, state, lr, step)
            next_param = cast(next_param, param.dtype)
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


def state_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which parameters of some dtype are updated, and of the optimiser's state for them."""
    return SINGLE if is_half(dtype) else dtype


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
    target : Target
        What it is compiled for.
    threads : int
        How many its kernels may use.
    """

    def __init__(
        self,
        built: Built,
        optimizer: Optimizer,
        blocks: Sequence[Block],
        batch_dim: str | None,
        target: Target,
        threads: int,
    ) -> None:
        self.built, self.optimizer, self.target, self.threads = built, optimizer, target, threads
        self.blocks = tuple(blocks)
        taken = set(naming(built.graph).values())
        self._scalars = _free("learning_rate", taken), _free("step", taken)
        self.loop = None if batch_dim is None else MinibatchLoop(batch_dim, self._scalars)
        wanted = {built.graph.names[node] for node in built.graph.wrt}
        self.trained = tuple(
            k for k, block in enumerate(self.blocks) if any(slot.name in wanted for slot in block.slots)
        )
        self.inputs = Inputs(built.graph, built.aliases, device_array if target.cuda is not None else None)
        self._memory = arena(0)
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

    def new_state(self) -> list[Any]:
        """The optimiser's state at the start, in the order in which the step takes it."""
        blocks, new = [self.blocks[k] for k in self.trained], STORAGE[self.target.name].new
        return [new(np.zeros(block.size, state_dtype(block.dtype))) for block in blocks for _ in self.optimizer.state]

    def _compile(self, threads: int) -> dict[str, Any]:
        graph, count = self.built.graph, len(self.built.graph.outputs)
        options = EmitOptions(workspace=True, loop=self.loop)
        updates = AttachUpdates(self.optimizer, self.trained, count, self._scalars)
        passes = pipeline(graph, "joint", count, self.blocks, [updates], options, threads, self.target.cuda)
        if self.target.name == "interpret":
            passes = passes[: 1 + next(k for k, step in enumerate(passes) if step.name == updates.name)]
        return {snapshot.stage: snapshot.state[0] for snapshot in compile_graph(graph, passes)}

    @cached_property
    def _stages(self) -> dict[str, Any]:
        return self._compile(1)

    @cached_property
    def emitted(self) -> BySize:
        """The modules of the step."""
        serial = Emitted(self._stages["memory"], self._stages["emit"])
        return BySize(serial, self._parallel if self.threads > 1 and self.target.name == "cpu" else None)

    def _parallel(self) -> Emitted:
        stages = self._compile(self.threads)
        return Emitted(stages["memory"], stages["emit"], self.threads)

    @cached_property
    def executable(self) -> Executable:
        """The step as a function of its inputs (learning rate and step number last) and blocks (state last)."""
        graph = self._stages["update"]
        if self.target.name == "interpret":
            return interpreted(graph)
        if self.target.cuda is not None:
            return DeviceExecutable(graph, self.emitted.serial, waits=False)
        return compiled(graph, self.emitted, self.memory)

    def memory(self, emitted: Emitted, sizes: Mapping[str, int]) -> np.ndarray:
        """A step's memory for these sizes: it grows to the largest batch and is kept."""
        need = bind(workspace_layout(emitted.program)[1], sizes)
        if self._memory.size < need:
            self._memory = arena(need)
        return self._memory


class BatchRunner:
    """Runs steps over batches gathered from `inputs` (all examples): natively on the CPU, else one by one.

    Parameters
    ----------
    step : TrainingStep
        What to run.
    inputs : sequence of arrays
        The inputs in order, those with the batch dim whole.
    blocks : sequence of arrays
        Parameters and state, updated in place.
    batch_size : int
        The examples of a step, at most all; the last one may have fewer.
    """

    def __init__(
        self, step: TrainingStep, inputs: Sequence[Any], blocks: Sequence[Any], batch_size: int
    ) -> None:
        self.step, self.blocks, self.batch_size = step, list(blocks), batch_size
        self.inputs = list(inputs)
        self.count = len(inputs[step.batched.index(True)])
        self.steps = -(-self.count // batch_size)
        if step.target.name == "cpu":
            self.inputs = list(apart(inputs, blocks))
            self._prepare_loop()

    def _prepare_loop(self) -> None:
        """Compile the native loop over batches, and take memory for it."""
        step, batch_size = self.step, self.batch_size
        assert step.loop is not None
        sizes = step.inputs.sizes(step.batch_shapes(self.inputs, batch_size))
        emitted = step.emitted.choose(sizes)
        program = emitted.program
        self._loop = compiled_loop(emitted.module, program)
        need = row_offsets(program, step.loop)[1]
        batches = min(self.steps, max(1, GATHERED // max(1, bind(need, sizes)))) if self.steps > 1 else 0
        self._block = batches * batch_size
        self._rows = arena(bind(need, {**sizes, step.loop.batch: self._block}))
        self._memory = step.memory(emitted, sizes)
        self._constants = emitted.constants

    def orders(self, seed: int, epochs: Sequence[int]) -> np.ndarray:
        """The order of examples, a row for each epoch, by (seed, epoch) alone; empty where a step takes them all."""
        if self.steps == 1:
            return np.empty((len(epochs), 0), np.int64)
        orders = np.tile(np.arange(self.count), (len(epochs), 1))
        philox = np.random.Philox(key=[seed, 0])
        generator, state = np.random.Generator(philox), philox.state
        for epoch, order in zip(epochs, orders, strict=True):
            # A third of the time that a generator with the key [seed, epoch] takes to be made.
            state["state"]["key"][1] = epoch
            philox.state = state
            generator.shuffle(order)
        return orders

    def run(
        self, first: int, last: int, orders: np.ndarray, rates: np.ndarray, numbers: np.ndarray, totals: np.ndarray
    ) -> None:
        """Run steps `first` to `last` (not included) of some epochs.

        Parameters
        ----------
        orders : array of int64
            See `orders`.
        rates, numbers : arrays of float64
            The learning rate and the number of every step of every epoch.
        totals : array of float64
            To whose row for an epoch each output, times its batch's size, is added.
        """
        if self.step.target.name != "cpu":
            self._run_from_python(first, last, orders, rates, numbers, totals)
            return
        try:
            self._loop(
                first, last, self.batch_size, self._block, orders, *map(bits_of, self.inputs), rates, numbers,
                *map(bits_of, self.blocks), *self._constants, self._rows, totals, self._memory,
            )  # fmt: skip
        except IndexError as error:
            raise out_of_range(self.step.built.graph, error) from error

    def _run_from_python(
        self, first: int, last: int, orders: np.ndarray, rates: np.ndarray, numbers: np.ndarray, totals: np.ndarray
    ) -> None:
        whole = self.steps == 1
        dtypes = [node.dtype for node in self.step.built.graph.outputs]
        for epoch, k in np.ndindex(len(orders), last - first):
            rows = None if whole else orders[epoch, (first + k) * self.batch_size :][: self.batch_size]
            batch = [
                np.take(array, rows, 0) if is_batched and rows is not None else array
                for is_batched, array in zip(self.step.batched, self.inputs, strict=True)
            ]
            results = self.step.executable([*batch, rates[epoch, first + k], numbers[epoch, first + k]], self.blocks)
            size = min(self.batch_size, self.count - (first + k) * self.batch_size)
            totals[epoch] += [size * value for value in map(number_of, results, dtypes)]
