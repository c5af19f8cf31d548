"""Programs: compiled views, called with arrays."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from graphc.build import Built, build
from graphc.codegen.emit import EmitOptions
from graphc.codegen.host_text import Standalone
from graphc.codegen.pipeline import LANGUAGES, compile_graph, pipeline
from graphc.codegen.threads import thread_count
from graphc.device import STORAGE, check_device, device_array
from graphc.device_executable import DeviceExecutable
from graphc.emitted import BySize, Emitted
from graphc.executable import Executable, Quick, compiled, interpreted
from graphc.feeds import Inputs, Slot, unknown_name
from graphc.initializers import Initial, initial_value
from graphc.ir.core import INPUT, PARAM, Node
from graphc.ir.errors import (
    CompileTypeError,
    CompileValueError,
    DifferentiationValueError,
    GraphcWarning,
)
from graphc.ir.graph import Graph, naming
from graphc.ir.interpret import bind_dims
from graphc.ir.ops import anchor
from graphc.parameters import Parameters, gather_parameters
from graphc.passes.differentiate import check_scalar, unreached
from graphc.passes.manager import STAGES, VARIANTS, Snapshot
from graphc.passes.pack import Slot as PackedSlot
from graphc.passes.reach import check_wrt
from graphc.targets import Target, as_target
from graphc.views import View, shown


def compile(
    outputs: View | Sequence[View] | Graph,
    wrt: View | str | Sequence[View | str] | None = None,
    target: str | Target = "cpu",
    *,
    params: Mapping[str, Any] | None = None,
    updates: Mapping[View, View] | None = None,
    seed: int = 0,
    threads: int | None = None,
    name: str | None = None,
) -> Program:
    """Compile views to a program. Code is generated when it is first called.

    Parameters
    ----------
    outputs : View, sequence of View, or ir.Graph
        What the program returns: a value for a view, a tuple for a sequence.
    wrt : View, str, sequence of these, "params" or None
        What `value_and_grad` and `backward` differentiate the first output with respect to. "params": the parameters
        that the outputs depend on. None: nothing.
    target : {"cpu", "cuda", "interpret"} or Cuda
        Emitted Numba functions, numba-cuda kernels on a GPU, or the NumPy reference evaluator. On a GPU parameters live
        on the device, results are device arrays, and feeds may be.
    params : mapping, optional
        Another program's or trainer's `params`, to share them live; or values to start from.
    updates : mapping from View to View, optional
        Next values of parameters, stored by ``program(...)`` and `value_and_grad` after the outputs are computed.
    seed : int
        Initial parameters are a function of (seed, name).
    threads : int, optional
        How many threads kernels and products may use where there is enough to do; None or 0: ``GRAPHC_NUM_THREADS``,
        or one for each core. Results are the same whenever the number is, but for the rounding of products while
        another program runs on threads.
    name : str, optional
        The graph's name in what is printed.

    Raises
    ------
    CompileError
        For an unknown target or name, an unnamed input, two leaves of one name.
    DifferentiationError
        For a wrt that is not of floats, or that the output depends on only through a discrete op.

    Warns
    -----
    GraphcWarning
        For a wrt that the output does not depend on: its gradient is zeros.
    """
    program = declared_program(outputs, wrt, target, params, updates, seed, threads, name)
    if as_target(target).cuda is not None:
        check_device()
    return program


def declared_program(
    outputs: View | Sequence[View] | Graph,
    wrt: View | str | Sequence[View | str] | None,
    target: str | Target,
    params: Mapping[str, Any] | None = None,
    updates: Mapping[View, View] | None = None,
    seed: int = 0,
    threads: int | None = None,
    name: str | None = None,
) -> Program:
    """What `compile` returns, also where its target is not at hand: to look at, not to call."""
    check_options(wrt, target, params, seed, threads)
    _check_naming(updates, name)
    if isinstance(outputs, Graph):
        if updates:
            raise CompileTypeError("an ir.Graph has its own updates", hint="write them into the graph")
        built = _built_graph(outputs, wrt, name)
        single = len(outputs.outputs) == 1
    else:
        single = isinstance(outputs, View)
        roots = [outputs] if isinstance(outputs, View) else _views(outputs)
        built = build(roots, wrt, updates, name)
    _check_derivatives(built)
    start = {each: initial_value(initial, seed, each) for each, initial in built.initial.items()}
    parameters = gather_parameters(built.initial, start, params, STORAGE[as_target(target).name])
    return Program(built, single, as_target(target), parameters, thread_count(threads))


def check_options(wrt: Any, target: Any, params: Any, seed: Any, threads: Any) -> None:
    """Refuse what is of the wrong kind before anything is made of it: the options of programs and trainers."""
    as_target(target)
    if threads is not None:
        check_threads(threads)
    if not (params is None or isinstance(params, Mapping)):
        raise CompileTypeError(f"params is a mapping, got {shown(params)}")
    if not isinstance(seed, int):
        raise CompileTypeError(f"seed is an int, got {shown(seed)}")
    if not (wrt is None or isinstance(wrt, View | Sequence)):
        raise CompileTypeError(f"wrt is a view, a name, a list of them or 'params', got {shown(wrt)}")


def check_threads(threads: Any, least: int = 0) -> None:
    """Refuse what is no number of threads."""
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < least:
        wanted = "a number of threads, 1 or more" if least else "a number of threads or None"
        raise CompileValueError(f"threads is {wanted}, got {threads!r}")


def _check_naming(updates: Any, name: Any) -> None:
    if not (updates is None or isinstance(updates, Mapping)):
        raise CompileTypeError(f"updates is a mapping, got {shown(updates)}")
    if name is not None and not (isinstance(name, str) and all(part.isidentifier() for part in name.split("."))):
        raise CompileValueError(f"{name!r} is no name: expected an identifier, or several joined by dots")


def _views(outputs: Any) -> list[View]:
    views = list(outputs) if isinstance(outputs, Sequence) else []
    if not views or not all(isinstance(view, View) for view in views):
        raise CompileTypeError(f"compile wants a view, a list of views or an ir.Graph, got {shown(outputs)}")
    return views


def _built_graph(graph: Graph, wrt: Any, name: str | None) -> Built:
    """A graph that was parsed or made by hand, as if it had been built from views."""
    names = naming(graph)
    known = {text: node for node, text in names.items()}
    asked = _asked_names(graph, wrt, names)
    marked = {known[text] for text in asked if known[text].op not in (INPUT, PARAM)}
    if asked:
        new = {leaf: leaf for leaf in graph.leaves}
        for step in graph.steps:
            result = step.op(*(new[operand] for operand in step.operands), **dict(step.attrs))
            new[step] = anchor(result) if step in marked else result
        graph = replace(graph.remap(new), wrt=tuple(dict.fromkeys(new[known[text]] for text in asked)))
        positions = {text: graph.wrt.index(new[known[text]]) for text in asked}
    else:
        positions = {names[node]: k for k, node in enumerate(graph.wrt)}
    initial = {names[node]: Initial(tuple(map(int, node.shape)), node.dtype) for node in graph.params}
    return Built(replace(graph, name=name or graph.name), initial, positions)


def _asked_names(graph: Graph, wrt: Any, names: Mapping[Node, str]) -> list[str]:
    if isinstance(wrt, str) and wrt == "params":
        return [names[node] for node in graph.params]
    asked: list[Any] = [wrt] if isinstance(wrt, str | View) else list(wrt or ())
    for name in asked:
        if not isinstance(name, str):
            raise CompileTypeError(f"the wrt of an ir.Graph is made of names, not {shown(name)}")
        if name not in names.values():
            raise CompileValueError(unknown_name(name, names.values(), "node"))
    return asked


def _check_derivatives(built: Built) -> None:
    graph = built.graph
    if graph.wrt:
        check_wrt(graph.outputs[:1], graph.wrt, graph.names)
        output = naming(graph)[graph.outputs[0]]
        for each in unreached(graph):
            warnings.warn(f"{output} does not depend on {each}: its gradient is zeros", GraphcWarning, stacklevel=4)


@dataclass(frozen=True, eq=False)
class Saved:
    """What `Program.backward` needs of a `Program.forward`: feeds, saved values, and the parameters it read."""

    values: Mapping[str, Any]
    blocks: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to run a program ("forward", "joint" or "split"): what stands after each stage, compiled on first use."""

    name: str
    graph: Graph
    n_outputs: int
    blocks: tuple[Any, ...] | None
    target: Target
    options: EmitOptions = field(default_factory=EmitOptions)
    threads: int = 1  # which it may use where there is enough to do
    stages: dict[int, Mapping[str, Snapshot]] = field(default_factory=dict)  # for each number of threads asked for

    def snapshots(self, threads: int) -> Mapping[str, Snapshot]:
        """The state after every stage, for a number of threads."""
        if threads not in self.stages:
            # Where there is enough to do for threads, there is enough memory to be worth keeping.
            options = self.options if threads == 1 else replace(self.options, workspace=True, results=True)
            cuda = self.target.cuda
            passes = pipeline(self.graph, self.name, self.n_outputs, self.blocks, (), options, threads, cuda)
            self.stages[threads] = {snapshot.stage: snapshot for snapshot in compile_graph(self.graph, passes)}
        return self.stages[threads]

    def emitted(self, threads: int) -> tuple[Emitted, ...]:
        """What is run by a number of threads: one module, or forward and backward."""
        programs, sources = (self.snapshots(threads)[stage].state for stage in ("memory", "emit"))
        return tuple(Emitted(*parts, threads, threads > 1) for parts in zip(programs, sources, strict=True))

    @cached_property
    def executables(self) -> tuple[Executable, ...]:
        """One function, or forward and backward."""
        if self.target.name == "interpret":
            passes = pipeline(self.graph, self.name, self.n_outputs, self.blocks)
            until = next(k for k, step in enumerate(passes, 1) if step.name == "partition")
            return tuple(interpreted(graph) for graph in compile_graph(self.graph, passes[:until])[-1].state)
        graphs = self.snapshots(1)["partition"].state
        if self.target.cuda is not None:
            return tuple(map(DeviceExecutable, graphs, self.emitted(1)))
        return tuple(
            compiled(graph, BySize(serial, partial(self._parallel, place) if self.threads > 1 else None))
            for place, (graph, serial) in enumerate(zip(graphs, self.emitted(1), strict=True))
        )

    def _parallel(self, place: int) -> Emitted:
        return self.emitted(self.threads)[place]


class Program:
    """Compiled views. Call it with arrays by input name; see `compile`.

    Parameters are in `params`, live: a mapping from name to NumPy view.
    """

    def __init__(self, built: Built, single: bool, target: Target, params: Parameters, threads: int) -> None:
        self._built = built
        self._single = single
        self._target = target
        self._threads = threads
        self._params = params
        self._blocks = [block.values for block in params.blocks]
        self._inputs = Inputs(built.graph, built.aliases, device_array if target.cuda is not None else None)
        self._variants: dict[tuple[str, bool], Variant] = {}
        self._ready: dict[str, tuple[Executable, ...]] = {}
        self._quick: dict[str, Quick] = {}
        self._lock = threading.RLock()

    # what it is -----------------------------------------------------------------------------------------------------

    @property
    def params(self) -> Parameters:
        """The live parameters: reading gives a NumPy view (on a GPU a read-only copy), assignment copies in."""
        return self._params

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return STAGES

    @property
    def source(self) -> str:
        """The emitted module."""
        return self.ir("emit")

    def ir(self, stage: str, variant: str | None = None, *, threads: int = 1) -> str:
        """The text of what stands after a stage.

        Parameters
        ----------
        stage : str
            One of `stages`.
        variant : {"forward", "joint", "split"}, optional
            "joint" where the program was compiled with wrt, else "forward".
        threads : int
            What is run by one thread, or (from "memory" on) by several, where there is enough to do.
        """
        state = self._snapshot(stage, variant, threads).state
        texts = (LANGUAGES[type(item)].text(item) for item in state)
        return "\n".join(text.rstrip("\n") + "\n" for text in texts)

    def graph(self, stage: str, variant: str | None = None, *, threads: int = 1) -> Any:
        """What stands after a stage as an object: a `Graph`, a `loops.Program` or text; a pair of them once split."""
        state = self._snapshot(stage, variant, threads).state
        return state[0] if len(state) == 1 else state

    def _snapshot(self, stage: str, variant: str | None, threads: int) -> Snapshot:
        if stage not in STAGES:
            raise CompileValueError(unknown_name(str(stage), STAGES, "stage"))
        if variant is not None and variant not in VARIANTS:
            raise CompileValueError(unknown_name(str(variant), VARIANTS, "variant"))
        check_threads(threads, least=1)
        with self._lock:
            return self._variant(variant or self._default).snapshots(threads)[stage]

    @property
    def _default(self) -> str:
        return "joint" if self._built.graph.wrt else "forward"

    def _executables(self, variant: str) -> tuple[Executable, ...]:
        """The functions of a variant, compiled by whoever comes first."""
        if variant not in self._ready:
            with self._lock:
                self._ready[variant] = self._variant(variant).executables
        return self._ready[variant]

    def _variant(self, name: str, packed: bool = True) -> Variant:
        """A variant, under the lock: what it holds is made once."""
        key = (name, packed)
        if key not in self._variants:
            self._variants[key] = self._new_variant(name, packed)
        return self._variants[key]

    def _new_variant(self, name: str, packed: bool) -> Variant:
        graph = self._built.graph
        if name == "forward":
            graph = replace(graph, wrt=())
        elif not graph.wrt and not graph.params:
            raise DifferentiationValueError(
                f"{graph.name} has no parameters, and was compiled with no other wrt",
                hint="compile it with wrt=[view, ...]",
            )
        elif not graph.wrt:
            raise DifferentiationValueError(
                f"{graph.name} was compiled without wrt", hint='compile it with wrt="params" or wrt=[view, ...]'
            )
        elif name == "joint":
            check_scalar(graph.outputs[0], graph.names)
        if name == "split":
            graph = replace(graph, updates=())
        count = len(graph.outputs)
        if packed:
            blocks = tuple(block.layout for block in self._params.blocks)
            return Variant(name, graph, count, blocks, self._target, threads=self._threads)
        options = EmitOptions(standalone=Standalone(graph.guards, None if self._single else count))
        return Variant(name, graph, count, None, self._target, options)

    # calling it -----------------------------------------------------------------------------------------------------

    def __call__(self, /, **feeds: Any) -> Any:
        """The outputs, for inputs (and, for this call, parameters) by name."""
        return self._value(self._run("forward", feeds))

    def value_and_grad(self, /, **feeds: Any) -> tuple[Any, dict[str, Any]]:
        """The outputs, and the gradients of the first one by the names of wrt.

        Raises
        ------
        DifferentiationError
            Where the first output is not a scalar, or the program has no wrt.
        """
        results = self._run("joint", feeds)
        count = len(self._built.graph.outputs)
        return self._value(results[:count]), self._gradients(results[count:])

    def forward(self, /, **feeds: Any) -> tuple[Any, Saved]:
        """The outputs, and what `backward` needs."""
        executable, _ = self._executables("split")
        arrays, blocks = self._arguments(feeds)
        results = executable(arrays, blocks)
        count = len(self._built.graph.outputs)
        values = dict(zip(self._inputs.names, arrays, strict=True))
        values |= zip(executable.output_names[count:], results[count:], strict=True)
        return self._value(results[:count]), Saved(values, tuple(blocks))

    def backward(self, saved: Saved, cotangent: Any = None) -> dict[str, Any]:
        """The gradients by the names of wrt, for a cotangent of the first output (1 unless given, for scalars only)."""
        _, executable = self._executables("split")
        output = self._built.graph.outputs[0]
        if cotangent is None:
            check_scalar(output, self._built.graph.names)
            cotangent = output.dtype.type(1)
        else:
            cotangent = self._inputs.prepared(Slot("cotangent", output.dtype, output.shape), cotangent)
        arrays = [saved.values.get(name, cotangent) for name in executable.input_names]
        names = [name if name in saved.values else "cotangent" for name in executable.input_names]
        leaves = dict(zip(names, executable.graph.inputs, strict=True))
        bind_dims(leaves, {name: np.shape(array) for name, array in zip(names, arrays, strict=True)})
        return self._gradients(executable(arrays, saved.blocks))

    @property
    def njit(self) -> Callable[..., Any]:
        """The jitted function ``f(*inputs, *params)``, for calls from other jitted code.

        It takes C-contiguous arrays of exact dtype (NumPy scalars for shape ()), inputs then params in declaration
        order, and returns the value, or ``(value, *gradients)`` where the program has wrt. Numba has no arithmetic on
        float16 and no bfloat16: both are taken and returned as their bits, ``array.view(np.uint16)``.
        """
        if self._target.cuda is not None:
            raise CompileValueError(
                f"{self._built.graph.name} is compiled for a GPU, and njit is the processor's alone",
                hint='compile it with target="cpu"',
            )
        if self._built.graph.updates:
            raise CompileValueError(f"{self._built.graph.name} has updates, which only calls of the program store")
        with self._lock:
            snapshots = self._variant(self._default, packed=False).snapshots(1)
        (program,), (source,) = snapshots["memory"].state, snapshots["emit"].state
        if program.constants:
            names = ", ".join(buffer.name for buffer, _ in program.constants)
            raise CompileValueError(
                f"{self._built.graph.name} holds constant arrays ({names}), which a jitted function cannot carry",
                hint="declare them as an Input or a Param",
            )
        return Emitted(program, source).function

    # arguments and results --------------------------------------------------------------------------------------------

    def _run(self, variant: str, feeds: Mapping[str, Any]) -> tuple[Any, ...]:
        """The results of a variant that stores updates."""
        quick = self._quick.get(variant)
        if quick is None:
            (executable,) = self._executables(variant)
            quick = self._quick[variant] = executable.quick(self._blocks)
        results = quick(feeds)
        if results is None:
            arrays, blocks = self._arguments(feeds)
            (executable,) = self._executables(variant)
            results = executable(arrays, blocks)
            if self._built.graph.updates:
                self._store_updates(blocks)
        return results

    def _store_updates(self, blocks: Sequence[np.ndarray]) -> None:
        """Bring updates home from blocks that are copies, since some parameter was fed for this call."""
        storage = self._params.storage
        updated = {self._built.graph.names[param] for param, _ in self._built.graph.updates}
        for block, values in zip(self._params.blocks, blocks, strict=True):
            if values is not block.values:
                for slot in block.layout.slots:
                    if slot.name in updated:
                        new, old = (storage.view(each, slot) for each in (values, block.values))
                        storage.write(old, storage.read(new))

    def _arguments(self, feeds: Mapping[str, Any]) -> tuple[list[Any], list[np.ndarray]]:
        """The inputs, checked and cast, in order; and the blocks, copies where parameters are fed for this call."""
        arrays, fed = self._inputs.arrays(feeds, self._params)
        blocks = self._blocks
        if fed:
            blocks = [block.copy() for block in blocks]
            own = Parameters(
                (replace(block, values=values) for block, values in zip(self._params.blocks, blocks, strict=True)),
                self._params,
                self._params.storage,
            )
            for name, value in fed.items():
                own[name] = value
        return arrays, blocks

    def _value(self, results: Sequence[Any]) -> Any:
        return results[0] if self._single else tuple(results)

    def _gradients(self, results: Sequence[Any]) -> dict[str, Any]:
        """Gradients by name: parameters' are cut out of the packed ones."""
        found: dict[str, Any] = {}
        for name, position, part, shape in self._gradient_places:
            value = results[position]
            if part is not None:
                value = value[part]
            found[name] = value if shape is None else value.reshape(shape)
        return found

    @cached_property
    def _gradient_places(self) -> list[tuple[str, int, slice | int | None, tuple[int, ...] | None]]:
        """For each name of wrt: which result holds its gradient, which part of it (None: all), reshaped to what.

        First come those of inputs and inner views, then one for each block with parameters in wrt.
        """
        graph = self._built.graph
        plain = [k for k, node in enumerate(graph.wrt) if node.op is not PARAM]
        places: dict[int, tuple[int, PackedSlot | None]] = {k: (position, None) for position, k in enumerate(plain)}
        params = {graph.names[node]: k for k, node in enumerate(graph.wrt) if node.op is PARAM}
        packed = [slots for block in self._params.blocks
                  if (slots := [slot for slot in block.layout.slots if slot.name in params])]  # fmt: skip
        for position, slots in enumerate(packed, len(plain)):
            places.update((params[slot.name], (position, slot)) for slot in slots)
        found: list[tuple[str, int, slice | int | None, tuple[int, ...] | None]] = []
        for name, k in self._built.wrt.items():
            position, slot = places[k]
            if slot is None:
                found.append((name, position, None, None))
            elif not slot.shape and self._target.cuda is None:  # a NumPy scalar
                found.append((name, position, slot.offset, None))
            else:
                part = slice(slot.offset, slot.offset + slot.size)
                found.append((name, position, part, slot.shape if len(slot.shape) != 1 else None))
        return found
