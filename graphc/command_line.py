"""The command line of planner scripts: one table of switches, each a function from a request to an exit status.

Results go to standard output, the same from run to run; progress and messages to standard error. Status 0: done, 1: the
computation says no, 2: the command line does.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from graphc.build import Built, build
from graphc.data_files import (
    Archive,
    FileError,
    archive_bytes,
    array_lines,
    check_writable,
    picked,
    read_parameters,
)
from graphc.expression_text import columns, listed_views, listing, tree
from graphc.gradient_check import compare_gradients
from graphc.ir.errors import DifferentiationError, GraphcError, GraphcWarning
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims
from graphc.ir.text import print_graph
from graphc.leaves import Input, Param
from graphc.optimizers import SGD, Adam
from graphc.options import OPTIONS, UsageError, read_options, suggestion
from graphc.passes.manager import sample_feed, sample_sizes
from graphc.planner import Planner, views_of
from graphc.program import Program, compile
from graphc.task_text import tasks_text
from graphc.trainer import Trainer, write_atomically
from graphc.views import View, topological

# The key of the shuffle that holds examples out: whatever the seed, the same ones. (Of the digits, a fifth that is
# neither easier nor harder than most.)
HELD_OUT = 3

OPTIMIZERS = {"adam": Adam, "sgd": SGD}


@dataclass(frozen=True)
class Request:
    """A command line, read.

    Parameters
    ----------
    planner : type of Planner
        Whose views are meant.
    given : mapping from str to str
        The switches, with their values.
    options : mapping from str to Any
        The value of every option.
    own_data : mapping or None
        The script's own arrays by input name.
    """

    planner: type[Planner]
    given: Mapping[str, str]
    options: Mapping[str, Any]
    own_data: Mapping[str, Any] | None

    @property
    def switch(self) -> str:
        """The switch that says what to do."""
        return next(name for name in self.given if SWITCHES[name].run is not None)

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


def _list(request: Request) -> int:
    sys.stdout.write(listing(request.planner))
    return 0


def _pprint(request: Request) -> int:
    sys.stdout.write(tree(request.view))
    return 0


def _steps(request: Request) -> int:
    sys.stdout.write(print_graph(build([request.view]).graph))
    return 0


def _grad(request: Request) -> int:
    view = request.view
    wrt = _wrt(request, view)
    if not wrt:
        raise DifferentiationError(f"{view.name} reads no floats to differentiate it with respect to")
    sys.stdout.write(_text_program(request, view, wrt).ir("simplify", _variant(view)))
    return 0


def _tasks(request: Request) -> int:
    program, variant = _differentiated(request)
    found = program.graph("memory", variant)
    sys.stdout.write("\n".join(tasks_text(one) for one in (found if isinstance(found, tuple) else (found,))))
    return 0


def _plan(request: Request) -> int:
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
    _say(f"forward only: {reason}")
    return _text_program(request, view, None), "forward"


def _variant(view: View) -> str:
    """The variant that has forward and backward: the joint one is for scalars."""
    return "joint" if view.shape == () else "split"


def _text_program(request: Request, view: View, wrt: Any) -> Program:
    # The stages are the same for all targets, and this one compiles nothing that is not asked for.
    return compile(view, wrt, target="interpret", seed=request.options["seed"])


def _wrt(request: Request, view: View) -> list[View]:
    """What derivatives are taken with respect to: what the option says, else the params, else the float inputs."""
    asked = request.option_views("wrt")
    if asked is not None:
        return asked
    leaves = [one for one in topological([view]) if one.node.type.is_float]
    return [one for one in leaves if isinstance(one, Param)] or [one for one in leaves if isinstance(one, Input)]


# what is computed -----------------------------------------------------------------------------------------------------


def _check(request: Request) -> int:
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


def _cat(request: Request) -> int:
    sys.stdout.write(array_lines(_value(request)))
    return 0


def _store(request: Request) -> int:
    out = request.out()
    write_atomically(out, archive_bytes({request.given["--store"]: _value(request)}))
    _say(f"wrote {out}")
    return 0


def _value(request: Request) -> Any:
    view, options = request.view, request.options
    built = build([view])
    feeds = _feeds(request, built)
    program = compile(
        view, target=options["target"], params=_params(request, built), seed=options["seed"],
        threads=options["threads"] or None,
    )  # fmt: skip
    return program(**feeds)


def _train(request: Request) -> int:
    loss, options = request.view, request.options
    out = request.out() if "--out" in request.given else None
    metrics = _metrics(request, loss)
    built = build([loss, *metrics])
    data = _feeds(request, built)
    trainer = Trainer(
        loss, OPTIMIZERS[options["optimizer"]](options["lr"]), metrics, wrt=request.option_views("wrt") or "params",
        target=options["target"], params=_params(request, built), seed=options["seed"],
        threads=options["threads"] or None,
    )  # fmt: skip
    training, held_out = _split(built.graph, data, trainer._batch_dim, options["validation"])
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
        _say(f"wrote {out}")
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
    graph: Graph, data: Mapping[str, Any], batch_dim: str | None, fraction: float
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The data without, and only with, a fraction of the examples: shuffled, the same ones every time."""
    leaves = _inputs(graph)
    bind_dims(leaves, {name: np.shape(data[name]) for name in leaves})
    batched = [name for name, node in leaves.items() if node.shape and str(node.shape[0]) == batch_dim]
    count = len(data[batched[0]]) if batched else 0
    held = min(round(fraction * count), count - 1)
    if held < 1:
        return dict(data), None
    order = np.random.Generator(np.random.Philox(key=HELD_OUT)).permutation(count)
    _say(f"{count - held} examples to train on, {held} held out")
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


# the switches ---------------------------------------------------------------------------------------------------------


class Switch(NamedTuple):
    """A switch: what it takes, what is said about it, and what it does (None: it goes with others)."""

    takes: str | None
    text: str
    run: Callable[[Request], int] | None = None


SWITCHES: Mapping[str, Switch] = {
    "--list": Switch(None, "every view: name, type, expression", _list),
    "--pprint": Switch("V", "the expression tree of a view", _pprint),
    "--steps": Switch("V", "the Wengert list: the topologically sorted IR", _steps),
    "--grad": Switch("V", "the IR with the adjoint", _grad),
    "--tasks": Switch("V", "the fused kernels, in words and as loops", _tasks),
    "--plan": Switch("V", "the emitted Numba source, forward and backward", _plan),
    "--check": Switch("V", "gradient check [--data F]", _check),
    "--cat": Switch("V", "compute and print --data F", _cat),
    "--store": Switch("V", "compute and save --data F --out G.npz", _store),
    "--train": Switch("V", "minimise a view --data F [--out F.safetensors]", _train),
    "--data": Switch("F", "arrays by input name: an .npz file"),
    "--params": Switch("F", "start from saved parameters: a .safetensors file"),
    "--out": Switch("F", "the file to write"),
    "--opts": Switch("k:v,...", ""),  # its text is the table of options
}
LATER = ("--trace", "--draw", "--explore")


def main(
    planner: type[Planner], argv: Sequence[str], data: Mapping[str, Any] | None = None,
    opts: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Run a command line on a planner; see `Planner.main`.

    Returns
    -------
    int
        The exit status.
    """
    script = PurePath(argv[0]).name if argv else "planner"
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GraphcWarning)
            try:
                return _run(planner, argv, data, opts, script)
            finally:
                for warning in caught:
                    _say(f"warning: {warning.message}")
    except (UsageError, FileError) as error:
        _say(f"{script}: {error}")
        return 2
    except GraphcError as error:
        _say(f"{script}: {error}")
        return 1
    except KeyboardInterrupt:
        _say(f"{script}: interrupted")
        return 1
    except BrokenPipeError:
        # Whoever read the output has enough of it; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(
    planner: type[Planner], argv: Sequence[str], data: Mapping[str, Any] | None, opts: Mapping[str, Any] | None,
    script: str,
) -> int:  # fmt: skip
    words = list(argv[1:])
    if "--help" in words or "-h" in words:
        sys.stdout.write(usage(script))
        return 0
    given = _parsed(words)
    actions = [name for name in given if SWITCHES[name].run is not None]
    if not actions:
        sys.stderr.write(usage(script))
        return 2
    if len(actions) > 1:
        raise UsageError(f"one thing at a time: {' or '.join(actions)}")
    request = Request(planner, given, read_options(given.get("--opts"), opts), data)
    run = SWITCHES[request.switch].run
    assert run is not None
    status = run(request)
    sys.stdout.flush()
    return status


def _parsed(words: Sequence[str]) -> dict[str, str]:
    """The switches and their values."""
    given: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in LATER:
            raise UsageError(f"{word} is not there yet")
        if word not in SWITCHES:
            if not word.startswith("-"):
                raise UsageError(f"{word!r} stands without a switch, such as --list or --cat {word}")
            raise UsageError(f"no switch {word!r}{suggestion(word, SWITCHES)}")
        if word in given:
            raise UsageError(f"{word} stands there twice")
        takes = SWITCHES[word].takes
        value = next(rest, None) if takes else ""
        if value is None or value.startswith("--"):
            raise UsageError(f"{word} wants {takes}")
        given[word] = value
    return given


def usage(script: str) -> str:
    """What can be asked."""
    options = " ".join(f"{name}:{option.default or 'a+b'}" for name, option in OPTIONS.items())
    rows = [(f"  {name} {switch.takes or ''}", switch.text or "options, with their defaults:")
            for name, switch in SWITCHES.items()]  # fmt: skip
    lines, line = "", "   "
    for word in options.split():
        if len(line) + len(word) > 78:
            lines, line = f"{lines}{line}\n", "   "
        line += f" {word}"
    return f"usage: python {script} SWITCH ...\n{columns(rows)}{lines}{line}\n"


def _say(text: str) -> None:
    """A message: nothing that a reader of the output waits for."""
    print(text, file=sys.stderr)
