"""Live parameters: packed, one block per dtype, and seen as a mapping from name to NumPy view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.feeds import Slot, unknown_name
from graphc.ir.errors import CompileValueError, FeedTypeError
from graphc.passes.pack import Block


@dataclass(frozen=True, eq=False, slots=True)
class LiveBlock:
    """The values of one `Block`: a flat array of its dtype."""

    layout: Block
    values: np.ndarray


class Parameters(MutableMapping[str, np.ndarray]):
    """Parameter values by name. Reading gives a view of the live value; assignment copies into it.

    Programs and trainers that share parameters share the blocks behind this mapping.
    """

    def __init__(self, blocks: Iterable[LiveBlock], order: Iterable[str]) -> None:
        self.blocks = tuple(blocks)
        self._views: dict[str, np.ndarray] = {}
        self._home: dict[str, LiveBlock] = {}
        found = {slot.name: (block, slot) for block in self.blocks for slot in block.layout.slots}
        for name in order:
            block, slot = found[name]
            self._views[name] = slot.view(block.values)
            self._home[name] = block

    def home(self, name: str) -> LiveBlock:
        """The block that a parameter lives in."""
        return self._home[name]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._views:
            raise KeyError(unknown_name(name, self._views, "parameter"))
        return self._views[name]

    def __setitem__(self, name: str, value: Any) -> None:
        view = self[name]
        view[...] = fitting(value, view, name)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"parameters are fixed: {name} cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        rows = (f"  {name}: {view.dtype}{list(view.shape)}" for name, view in self.items())
        return "\n".join(["Parameters:", *rows])


def fitting(value: Any, like: np.ndarray, name: str) -> np.ndarray:
    """A value for a parameter, checked and cast as feeds are, as an array of its own.

    Raises
    ------
    FeedError
        For another shape or an integer that does not fit (ValueError), or a dtype that does not cast (TypeError).
    """
    return np.array(Slot(name, like.dtype, like.shape).prepare(value))


def gather_parameters(
    order: Iterable[str], start: Mapping[str, np.ndarray], shared: Mapping[str, Any] | None
) -> Parameters:
    """The parameters of a program: shared live ones where `shared` is a `Parameters` that has them, else own ones.

    Parameters
    ----------
    order : iterable of str
        The names, in declaration order.
    start : mapping
        The initial value of each.
    shared : Parameters, mapping or None
        Another program's live parameters, or values to start from.

    Raises
    ------
    CompileError
        For a shared parameter of another shape or dtype.
    FeedError
        For a name that is no parameter's, or a value that does not fit.
    """
    order = list(order)
    live = shared if isinstance(shared, Parameters) else Parameters((), ())
    for name in order:
        if name in live and (live[name].dtype, live[name].shape) != (start[name].dtype, start[name].shape):
            raise CompileValueError(
                f"the shared parameter {name} is {live[name].dtype}{list(live[name].shape)}, "
                f"and this program's is {start[name].dtype}{list(start[name].shape)}",
                hint="share parameters between programs of one declaration, or rename one of them",
            )
    own = [name for name in order if name not in live]
    blocks: list[LiveBlock] = []
    for layout in Block.layouts((name, start[name].dtype, start[name].shape) for name in own):
        blocks.append(LiveBlock(layout, np.zeros(layout.size, layout.dtype)))
    blocks += dict.fromkeys(live.home(name) for name in order if name in live)
    parameters = Parameters(blocks, order)
    for name in own:
        parameters[name] = start[name]
    if shared is not None and shared is not live:
        for name, value in shared.items():
            if name not in parameters:
                raise FeedTypeError(unknown_name(name, order, "parameter"))
            parameters[name] = value
    return parameters
