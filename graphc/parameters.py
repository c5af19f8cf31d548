"""Live parameters: packed, one block per dtype, and seen as a mapping from name to NumPy view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.feeds import Slot as Feed
from graphc.feeds import unknown_name
from graphc.ir.errors import CompileValueError, FeedTypeError
from graphc.passes.pack import Block, Slot


@dataclass(frozen=True, eq=False, slots=True)
class LiveBlock:
    """The values of one `Block`: a flat array of its dtype, or what a `Storage` makes of it."""

    layout: Block
    values: Any


class Storage:
    """Where parameters live: in the host's memory."""

    def new(self, values: np.ndarray) -> Any:
        """A block that holds these values."""
        return values

    def view(self, block: Any, slot: Slot) -> Any:
        """The part of a block that is one parameter."""
        return slot.view(block)

    def read(self, view: Any) -> np.ndarray:
        """What a user sees of a parameter."""
        values: np.ndarray = view
        return values

    def write(self, view: Any, values: np.ndarray) -> None:
        """Store new values."""
        view[...] = values


HOST = Storage()


class Parameters(MutableMapping[str, np.ndarray]):
    """Parameter values by name. Reading gives a view of the live value, on a GPU a copy; assignment copies into it.

    Programs and trainers that share parameters share the blocks behind this mapping.
    """

    def __init__(self, blocks: Iterable[LiveBlock], order: Iterable[str], storage: Storage = HOST) -> None:
        self.blocks, self.storage = tuple(blocks), storage
        self._views: dict[str, Any] = {}
        self._types: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._home: dict[str, LiveBlock] = {}
        found = {slot.name: (block, slot) for block in self.blocks for slot in block.layout.slots}
        for name in order:
            block, slot = found[name]
            self._views[name] = storage.view(block.values, slot)
            self._home[name] = block
            self._types[name] = block.layout.dtype, slot.shape

    def home(self, name: str) -> LiveBlock:
        """The block that a parameter lives in."""
        return self._home[name]

    def type_of(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """The dtype and the shape of a parameter."""
        if name not in self._types:
            raise KeyError(unknown_name(name, self._types, "parameter"))
        return self._types[name]

    def __getitem__(self, name: str) -> np.ndarray:
        self.type_of(name)
        return self.storage.read(self._views[name])

    def __setitem__(self, name: str, value: Any) -> None:
        values = fitting(name, value, *self.type_of(name))
        self.storage.write(self._views[name], values)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"parameters are fixed: {name} cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        rows = (f"  {name}: {dtype}{list(shape)}" for name, (dtype, shape) in self._types.items())
        return "\n".join(["Parameters:", *rows])


def fitting(name: str, value: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A value for a parameter, checked and cast as feeds are, as an array of its own.

    Raises
    ------
    FeedError
        For another shape or an integer that does not fit (ValueError), or a dtype that does not cast (TypeError).
    """
    return np.array(Feed(name, dtype, shape).prepare(value))


def gather_parameters(
    order: Iterable[str],
    start: Mapping[str, np.ndarray],
    shared: Mapping[str, Any] | None,
    storage: Storage = HOST,
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
    storage : Storage
        Where own parameters live.

    Raises
    ------
    CompileError
        For a shared parameter of another shape or dtype.
    FeedError
        For a name that is no parameter's, or a value that does not fit.
    """
    order = list(order)
    live = shared if isinstance(shared, Parameters) else Parameters((), ())
    if live.blocks and live.storage is not storage:
        raise CompileValueError(
            "the shared parameters live on another device", hint="start from their values: params=dict(program.params)"
        )
    for name in order:
        if name in live and live.type_of(name) != (start[name].dtype, start[name].shape):
            dtype, shape = live.type_of(name)
            raise CompileValueError(
                f"the shared parameter {name} is {dtype}{list(shape)}, "
                f"and this program's is {start[name].dtype}{list(start[name].shape)}",
                hint="share parameters between programs of one declaration, or rename one of them",
            )
    own = [name for name in order if name not in live]
    blocks: list[LiveBlock] = []
    for layout in Block.layouts((name, start[name].dtype, start[name].shape) for name in own):
        blocks.append(LiveBlock(layout, storage.new(np.zeros(layout.size, layout.dtype))))
    blocks += dict.fromkeys(live.home(name) for name in order if name in live)
    parameters = Parameters(blocks, order, storage)
    for name in own:
        parameters[name] = start[name]
    if shared is not None and shared is not live:
        for name, value in shared.items():
            if name not in parameters:
                raise FeedTypeError(unknown_name(name, order, "parameter"))
            parameters[name] = value
    return parameters
