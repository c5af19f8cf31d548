"""The commands of planner scripts: what each switch of the command line does with a request.

Results go to standard output, the same from run to run; progress and messages to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from graphc.build import Built, build
from graphc.data_files import (
    Archive,
    archive_bytes,
    array_lines,
    check_writable,
    picked,
    read_parameters,
    write_atomically,
)
from graphc.expression_text import columns, listed_views, listing, tree
from graphc.gradient_check import compare_gradients
from graphc.ir.errors import DifferentiationError
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims
from graphc.ir.text import print_graph
from graphc.leaves import Input, Param
from graphc.optimizers import SGD, Adam
from graphc.options import UsageError, suggestion
from graphc.passes.manager import sample_feed, sample_sizes
from graphc.planner import Planner, views_of
from graphc.program import Program, compile, declared_program
from graphc.targets import Cuda, Target, as_target
from graphc.task_text import tasks_text
from graphc.trainer import Trainer
from graphc.views import View, topological

# The key of the shuffle that holds examples out: whatever the seed, the same ones. How well the digits' held-out fifth
# is read depends on it more than on anything else (0.96 to 0.99 for keys 0 to 3); this one is near their mean.
HELD_OUT = 3

OPTIMIZERS = {"adam": Adam, "sgd": SGD}


@dataclass(frozen=True)
class Request:
    """A command line, read.

    Parameters
    ----------
    planner : type of Planner
        Whose views are meant.
    switch : str
        The switch that says what to do.
    given : mapping from str to str
        The switches, with their values.
    options : mapping from str to Any
        The value of every option.
    own_data : mapping or None
        The script's own arrays by input name.
    """

    planner: type[Planner]
    switch: str
    given: Mapping[str, str]
    options: Mapping[str, Any]
    own_data: Mapping[str, Any] | None

    @property
    def view(self) -> View:
        """The view that it names."""
        return self.named(self.given[self.switch], f"no view named {self.given[self.switch]!r}")

    def named(self, name: str, problem: str) -> View:
        """A view of the planner, or the parameter of a layer, by name."""
        known = listed_views(self.planner)
        if name not in known:
            raise UsageError(f"{problem} in {self.planner.__name__}{suggestion(name, known)}")
        return known[name]

    def option_views(self, option: str) -> list[View] | None:
        """The views that an option names, if it is set."""
        names = self.options[option]
        return names and [self.named(name, f"the option {option} names {name!r}, which is no view") for name in names]

    def out(self) -> str:
        """The file to write, which must be possible."""
        if "--out" not in self.given:
            raise UsageError(f"{self.switch} wants --out F")
        check_writable(self.given["--out"])
        return self.given["--out"]


# what is shown --------------------------------------------------------------------------------------------------------


def list_views(request: Request) -> int:
    """Every view: name, type, expression."""
    sys.stdout.write(listing(request.planner))
    return 0


def print_tree(request: Request) -> int:
    """The expression tree."""
    sys.stdout.write(tree(request.view))
    return 0


def print_steps(request: Request) -> int:
    """The Wengert list."""
    sys.stdout.write(print_graph(build([request.view]).graph))
    return 0


def print_adjoint(request: Request) -> int:
    """The IR with the adjoint."""
    view = request.view
    wrt = _wrt(request, view)
    if not wrt:
        raise DifferentiationError(f"{view.name} reads no floats to differentiate it with respect to")
    sys.stdout.write(_text_program(request, view, wrt).ir("simplify", _variant(view)))
    return 0


def print_tasks(request: Request) -> int:
    """The fused kernels."""
    program, variant = _differentiated(request)
    found = program.graph("memory", variant)
    sys.stdout.write("\n".join(tasks_text(one) for one in (found if isinstance(found, tuple) else (found,))))
    return 0


def print_source(request: Request) -> int:
    """The emitted source."""
    program, variant = _differentiated(request)
    sys.stdout.write(program.ir("emit", variant))
    return 0


def _differentiated(request: Request) -> tuple[Program, str]:
    """A view with its derivative where it has one, else alone; and the variant that shows it."""
    view = request.view
    try:
        if wrt := _wrt(request, view):
            return _text_program(request, view, wrt), _variant(view)
        reason = "it reads no floats"
    except DifferentiationError as error:
        if request.options["wrt"] is not None:
            raise
        reason = error.message
    say(f"forward only: {reason}")
    return _text_program(request, view, None), "forward"


def _variant(view: View) -> str:
    """The variant that has forward and backward: the joint one is for scalars."""
    return "joint" if view.shape == () else "split"


def _text_program(request: Request, view: View, wrt: Any) -> Program:
    return declared_program(view, wrt, _target(request), seed=request.options["seed"])


def _target(request: Request) -> Target:
    """The target, with the options that a GPU has."""
    options = request.options
    cuda = Cuda(matmul_precision=options["matmul_precision"], deterministic=options["deterministic"] == "true")
    if options["target"] == "cuda":
        return cuda
    if cuda != Cuda():
        raise UsageError("matmul_precision and deterministic are for target:cuda")
    return as_target(options["target"])


def _wrt(request: Request, view: View) -> list[View]:
    """What derivatives are taken with respect to: what the option says, else the params, else the float inputs."""
    asked = request.option_views("wrt")
    if asked is not None:
        return asked
    leaves = [one for one in topological([view]) if one.node.type.is_float]
    return [one for one in leaves if isinstance(one, Param)] or [one for one in leaves if isinstance(one, Input)]


# what is computed -----------------------------------------------------------------------------------------------------


def check(request: Request) -> int:
    """The gradient, checked; status 1 where it is wrong."""
    view = request.view
    wrt = _wrt(request, view)
    built = build([view], wrt)
    if "--data" in request.given:
        feeds = _feeds(request, built)
    else:
        sizes = sample_sizes(built.graph)
        feeds = {name: sample_feed(node, name, sizes) for name, node in _inputs(built.graph).items()}
    table = compare_gradients(view, wrt, {**feeds, **(_params(request, built) or {})}, seed=request.options["seed"])
    print(table)
    return 0 if table.ok else 1


def cat(request: Request) -> int:
    """The value of a view."""
    sys.stdout.write(array_lines(_value(request)))
    return 0


def store(request: Request) -> int:
    """The value of a view, in a file."""
    out = request.out()
    write_atomically(out, archive_bytes({request.given["--store"]: _value(request)}))
    say(f"wrote {out}")
    return 0


def _value(request: Request) -> Any:
    view, options = request.view, request.options
    built = build([view])
    feeds = _feeds(request, built)
    program = compile(
        view, target=_target(request), params=_params(request, built), seed=options["seed"],
        threads=options["threads"] or None,
    )  # fmt: skip
    return program(**feeds)


def train(request: Request) -> int:
    """Fit, and report how well."""
    loss, options = request.view, request.options
    out = request.out() if "--out" in request.given else None
    metrics = _metrics(request, loss)
    built = build([loss, *metrics])
    data = _feeds(request, built)
    trainer = Trainer(
        loss, OPTIMIZERS[options["optimizer"]](options["lr"]), metrics, wrt=request.option_views("wrt") or "params",
        target=_target(request), params=_params(request, built), seed=options["seed"],
        threads=options["threads"] or None,
    )  # fmt: skip
    training, held_out = _split(built.graph, data, trainer.batched, options["validation"])
    trainer.fit(
        training, epochs=options["epochs"], batch_size=options["batch_size"] or None, seed=options["seed"],
        validation=held_out,
    )  # fmt: skip
    results = trainer.evaluate(training)
    if held_out is not None:
        results |= {f"val_{name}": value for name, value in trainer.evaluate(held_out).items()}
    sys.stdout.write(columns((name, f"{value:.6g}") for name, value in results.items()))
    if out is not None:
        trainer.save(out)
        say(f"wrote {out}")
    return 0


def _metrics(request: Request, loss: View) -> list[View]:
    """The views that training reports: those that the option names, else all other scalar floats that can be had."""
    asked = request.option_views("metrics")
    if asked is not None:
        return asked
    data = _data(request)
    return [
        view
        for name, view in views_of(request.planner).items()
        if view.name == name and view is not loss and view.args and view.shape == () and view.node.type.is_float
        and all(leaf.name in data for leaf in topological([view]) if isinstance(leaf, Input))
    ]  # fmt: skip


def _split(
    graph: Graph, data: Mapping[str, Any], batched: Sequence[str], fraction: float
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The data without, and only with, a fraction of the examples: shuffled, the same ones every time."""
    leaves = _inputs(graph)
    bind_dims(leaves, {name: np.shape(data[name]) for name in leaves})
    count = len(data[batched[0]]) if batched else 0
    held = min(round(fraction * count), count - 1)
    if held < 1:
        return dict(data), None
    order = np.random.Generator(np.random.Philox(key=HELD_OUT)).permutation(count)
    say(f"{count - held} examples to train on, {held} held out")
    parts = (np.sort(order[held:]), np.sort(order[:held]))
    training, held_out = ({**data, **{name: np.asarray(data[name])[part] for name in batched}} for part in parts)
    return training, held_out


# data and parameters --------------------------------------------------------------------------------------------------


def _inputs(graph: Graph) -> dict[str, Any]:
    return {graph.names[node]: node for node in graph.inputs}


def _data(request: Request) -> Mapping[str, Any]:
    if "--data" in request.given:
        return Archive(request.given["--data"])
    return request.own_data or {}


def _feeds(request: Request, built: Built) -> dict[str, Any]:
    """What a computation is fed, from the file or from the script."""
    wanted = list(_inputs(built.graph))
    if wanted and "--data" not in request.given and request.own_data is None:
        raise UsageError(f"{request.switch} wants --data F: {built.graph.name} reads {', '.join(wanted)}")
    source = _file_name(request.given["--data"]) if "--data" in request.given else "the script's data"
    return picked(_data(request), wanted, built.aliases, source, built.graph.name)


def _params(request: Request, built: Built) -> dict[str, Any] | None:
    """The parameters to start from, if a file is given: all that the computation has."""
    if "--params" not in request.given:
        return None
    path = request.given["--params"]
    return picked(read_parameters(path), list(built.initial), built.aliases, _file_name(path), built.graph.name)


def _file_name(path: str) -> str:
    return PurePath(path).name


def say(text: str) -> None:
    """A message: nothing that a reader of the output waits for."""
    print(text, file=sys.stderr)
