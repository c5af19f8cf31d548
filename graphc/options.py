"""The options of the command line, ``--opts key:value,...``: one table of names, defaults and what values may be."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from graphc.codegen.cuda.emit import PRECISIONS


class UsageError(Exception):
    """A command line that says something which is not there."""


class Option(NamedTuple):
    """An option: how it looks unless set (None: as the command decides), and how its value is read."""

    default: str | None
    parse: Callable[[str], Any]


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(suggestion(text, names).removeprefix("; "))
        return text

    return parse


def _number(kind: type[int] | type[float], what: str, test: Callable[[Any], bool]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"it is {what}") from None
        if not test(value):
            raise ValueError(f"it is {what}")
        return value

    return parse


def _names(text: str) -> list[str]:
    names = text.split("+")
    if not all(names):
        raise ValueError("names are joined by +, as in a+b")
    return names


OPTIONS: Mapping[str, Option] = {
    "target": Option("cpu", _choice("cpu", "cuda", "interpret")),
    "matmul_precision": Option("float32", _choice(*PRECISIONS)),
    "deterministic": Option("false", _choice("false", "true")),
    "seed": Option("0", _number(int, "an integer from 0", lambda value: value >= 0)),
    "threads": Option("0", _number(int, "a number of threads, 0 for all", lambda value: value >= 0)),
    "wrt": Option(None, _names),
    "optimizer": Option("adam", _choice("adam", "sgd")),
    "lr": Option("0.001", _number(float, "a positive number", lambda value: 0 < value < float("inf"))),
    "epochs": Option("20", _number(int, "a positive integer", lambda value: value > 0)),
    "batch_size": Option("64", _number(int, "a number of examples, 0 for all", lambda value: value >= 0)),
    "validation": Option("0.2", _number(float, "a fraction from 0, less than 1", lambda value: 0 <= value < 1)),
    "metrics": Option(None, _names),
}


def read_options(text: str | None, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every option's value: from `text` (``k:v,...``), else from a script's `defaults`, else from the table.

    Raises
    ------
    UsageError
        For an unknown name, or a value that the option cannot have.
    """
    written = {name: _written(value) for name, value in (defaults or {}).items() if value is not None}
    for item in (text or "").split(","):
        name, colon, value = item.partition(":")
        if item and not colon:
            raise UsageError(f"--opts wants name:value pairs, got {item!r}")
        if item:
            written[name] = value
    for name in written:
        if name not in OPTIONS:
            raise UsageError(f"no option {name!r}{suggestion(name, OPTIONS)}")
    return {name: _value(name, option, written.get(name, option.default)) for name, option in OPTIONS.items()}


def _value(name: str, option: Option, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return option.parse(text)
    except ValueError as error:
        raise UsageError(f"the option {name} cannot be {text!r}: {error}") from None


def _written(value: Any) -> str:
    """A default that a script gives, as the user would write it."""
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to say after "no ...": the nearest name, else all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}" if known else ""
