"""Emitted modules: one for one thread, and one for several that is compiled when there is enough to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from graphc.codegen.cache import load
from graphc.codegen.host_text import host_name
from graphc.codegen.threads import launch
from graphc.ir.costs import REGION
from graphc.ir.dims import Extent, bind
from graphc.ir.loops import Program
from graphc.ir.types import is_half
from graphc.passes.threads import work

# How long a program must take by one thread, in picoseconds, before it is compiled for several.
WORTH = 4 * REGION


def bits_of(value: Any) -> Any:
    """An argument as compiled code takes it: an array or NumPy scalar of halves as its bits, others as they are."""
    dtype = getattr(value, "dtype", None)
    return value.view(np.uint16) if dtype is not None and is_half(dtype) else value


def number_of(value: Any, dtype: np.dtype) -> float:
    """A result of shape () of some dtype as a number: devices return the bits of bfloat16."""
    return float(np.asarray(value).view(dtype))


@dataclass(frozen=True, eq=False)
class Emitted:
    """A loop program and its module's text.

    Attributes
    ----------
    program, source
        What stands after `memory` and after `emit`.
    threads
        How many its kernels run on.
    lent
        Whether its function takes the memory of its temporaries and results as its last arguments.
    """

    program: Program
    source: str
    threads: int = 1
    lent: bool = False

    @cached_property
    def module(self) -> ModuleType:
        """The module, compiled before or now."""
        if self.threads > 1:
            launch()
        return load(host_name(self.program), self.source)

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        """The arrays that the function takes behind inputs and parameters."""
        return tuple(bits_of(array) for _, array in self.program.constants)

    @property
    def function(self) -> Callable[..., Any]:
        """The jitted function that the module is for."""
        function: Callable[..., Any] = getattr(self.module, host_name(self.program))
        return function


class BySize:
    """What runs a program, by the sizes of its dims.

    Parameters
    ----------
    serial : Emitted
        For one thread.
    parallel : callable or None
        Gives what is emitted for several threads; None where there is one.
    """

    def __init__(self, serial: Emitted, parallel: Callable[[], Emitted] | None) -> None:
        self.serial, self._parallel = serial, parallel
        self._emitted: Emitted | None = None

    @cached_property
    def work(self) -> Extent:
        """How long one thread takes, in picoseconds."""
        return sum(work(step) for step in self.serial.program.steps)

    def choose(self, sizes: Mapping[str, int]) -> Emitted:
        """What to run for these sizes."""
        if self._parallel is None or bind(self.work, sizes) < WORTH:
            return self.serial
        if self._emitted is None:
            self._emitted = self._parallel()
        return self._emitted
