"""Memory lent to calls: that of earlier calls, unless somebody still holds what they returned.

Fresh memory costs a page fault for every few kilobytes, more than computing what is stored there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.codegen.host_text import results_layout, workspace_layout
from graphc.codegen.runtime import arena
from graphc.emitted import Emitted
from graphc.ir.dims import bind

# The blocks of results that are kept: a loop holds what the last call returned while the next one runs.
KEPT = 2


@dataclass
class _Memory:
    """A workspace, and blocks of results, the last one the call's."""

    workspace: np.ndarray
    results: list[np.ndarray] = field(default_factory=list)


class Lender:
    """The memory of one program's calls: one workspace and `KEPT` blocks of results live as long as it does."""

    def __init__(self) -> None:
        self._kept: list[_Memory] = []  # one, or none while a call has it
        unused = [arena(0)]
        self._unheld = references(unused[0])

    def lending(self, emitted: Emitted, sizes: Mapping[str, int]) -> Callable[..., Any]:
        """The function of a module that takes its memory last, for these sizes, without that argument."""
        workspace, results = (bind(layout(emitted.program)[1], sizes) for layout in (workspace_layout, results_layout))
        constants = emitted.constants
        function = emitted.function

        def call(*arguments: Any) -> Any:
            memory = self._take(workspace, results)
            try:
                return function(*arguments, *constants, memory.workspace, memory.results[-1])
            finally:
                self._kept[:] = [memory]

        return call

    def _take(self, workspace: int, results: int) -> _Memory:
        """Memory of at least these bytes; of results not much more, since whoever holds one keeps all of them."""
        try:
            memory = self._kept.pop()
        except IndexError:  # the first call, or another thread has it
            memory = _Memory(arena(workspace))
        if memory.workspace.size < workspace:
            memory.workspace = arena(workspace)
        blocks = memory.results
        for place in reversed(range(len(blocks))):  # what was used last is in cache
            if references(blocks[place]) == self._unheld and results <= blocks[place].size <= 2 * results:
                blocks.append(blocks.pop(place))
                return memory
        memory.results = [*blocks[-(KEPT - 1) :], arena(results)]
        return memory


def references(block: np.ndarray) -> tuple[int, int]:
    """How often a block of `arena` is referred to, and what it is a view of: arrays in it hold one or the other.

    (Compiled code refers to the block, NumPy to the array that has the memory.)
    """
    return sys.getrefcount(block), sys.getrefcount(block.base)
