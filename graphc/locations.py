"""Where in the user's code a view was declared: the nearest frame outside graphc and NumPy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import NamedTuple

from graphc.ir.errors import DeclarationError, DifferentiationError

# Frames of these packages are not the user's (contextlib's stand between ours); the examples are planner scripts like
# any other.
_OURS = ("graphc.", "numpy.", "contextlib.")
_EXAMPLES = "graphc.examples"


class Place(NamedTuple):
    """A line of a file; prints in full, `short` is what stands in graphs and generated code."""

    file: str
    line: int

    @property
    def short(self) -> str:
        """``digits.py:9``; a notebook's cell, whose file name differs from run to run, is ``cell:9``."""
        path = PurePath(self.file)
        name = "cell" if path.parent.name.startswith("ipykernel_") else path.name
        return f"{name}:{self.line}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def user_place() -> Place:
    """The place of the innermost running line of the user's code."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__") or ""):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


@contextmanager
def located(call: str) -> Iterator[None]:
    """Give the errors of a user's call their place, with the call as text."""
    try:
        yield
    except (DeclarationError, DifferentiationError) as error:
        if error.where is None:
            error.where = f"{user_place()}, {call}"
        raise


def _is_ours(module: str) -> bool:
    return f"{module}.".startswith(_OURS) and not module.startswith(_EXAMPLES)
