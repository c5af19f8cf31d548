"""The command line of planner scripts: one table of switches, each a function from a request to an exit status.

Status 0: done, 1: the computation says no, 2: the command line does.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from graphc import commands
from graphc.commands import Request, say
from graphc.data_files import FileError
from graphc.expression_text import columns
from graphc.ir.errors import GraphcError, GraphcWarning
from graphc.options import OPTIONS, UsageError, read_options, suggestion
from graphc.planner import Planner


class Switch(NamedTuple):
    """A switch: what it takes, what is said about it, and what it does (None: it goes with others)."""

    takes: str | None
    text: str
    run: Callable[[Request], int] | None = None


SWITCHES: Mapping[str, Switch] = {
    "--list": Switch(None, "every view: name, type, expression", commands.list_views),
    "--pprint": Switch("V", "the expression tree of a view", commands.print_tree),
    "--steps": Switch("V", "the Wengert list: the topologically sorted IR", commands.print_steps),
    "--grad": Switch("V", "the IR with the adjoint", commands.print_adjoint),
    "--tasks": Switch("V", "the fused kernels, in words and as loops", commands.print_tasks),
    "--plan": Switch("V", "the emitted Numba source, forward and backward", commands.print_source),
    "--check": Switch("V", "gradient check [--data F]", commands.check),
    "--cat": Switch("V", "compute and print --data F", commands.cat),
    "--store": Switch("V", "compute and save --data F --out G.npz", commands.store),
    "--train": Switch("V", "minimise a view --data F [--out F.safetensors]", commands.train),
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
                    say(f"warning: {warning.message}")
    except (UsageError, FileError) as error:
        say(f"{script}: {error}")
        return 2
    except GraphcError as error:
        say(f"{script}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"{script}: interrupted")
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
        sys.stdout.write(usage(script, opts))
        return 0
    given = _parsed(words)
    actions = [name for name in given if SWITCHES[name].run is not None]
    if not actions:
        sys.stderr.write(usage(script, opts))
        return 2
    if len(actions) > 1:
        raise UsageError(f"one thing at a time: {' or '.join(actions)}")
    (switch,) = actions
    run = SWITCHES[switch].run
    assert run is not None
    status = run(Request(planner, switch, given, read_options(given.get("--opts"), opts), data))
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


def usage(script: str, opts: Mapping[str, Any] | None = None) -> str:
    """What can be asked; `opts` are the script's own defaults."""
    defaults = {name: option.default or "a+b" for name, option in OPTIONS.items()} | dict(opts or {})
    rows = [(f"  {name} {switch.takes or ''}", switch.text or "options, with their defaults:")
            for name, switch in SWITCHES.items()]  # fmt: skip
    lines, line = "", "   "
    for name, value in defaults.items():
        word = f"{name}:{value}"
        if len(line) + len(word) > 78:
            lines, line = f"{lines}{line}\n", "   "
        line += f" {word}"
    return f"usage: python {script} SWITCH ...\n{columns(rows)}{lines}{line}\n"
