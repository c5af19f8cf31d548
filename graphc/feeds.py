"""Feeds: the caller's arrays, checked, cast and bound to dims before a program runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.dims import Dim, Extent
from graphc.ir.errors import DeclarationError, FeedTypeError, FeedValueError
from graphc.ir.graph import Graph
from graphc.ir.half import converted
from graphc.ir.interpret import bind_dims
from graphc.ir.types import is_half


@dataclass(frozen=True, slots=True)
class Slot:
    """One input as calls must fill it."""

    name: str
    dtype: np.dtype
    shape: tuple[Extent, ...]

    def prepare(self, value: Any) -> Any:
        """The value as a C-contiguous array of exact dtype (a NumPy scalar for shape ()), copied only if it must be.

        Raises
        ------
        FeedError
            TypeError for a dtype that does not cast by ``same_kind``, ValueError for a wrong rank or static extent,
            or an integer that does not fit.
        """
        ready = type(value) is np.ndarray and value.dtype == self.dtype and value.ndim
        array = value if ready and value.flags.c_contiguous and value.flags.aligned else self._converted(value)
        self._check_shape(array)
        return array if self.shape else array[()]

    def prepare_on_device(self, array: Any) -> Any:
        """An array of a device, as it is: its dtype and layout must be right.

        Raises
        ------
        FeedError
            TypeError for another dtype, ValueError for a wrong rank or static extent, or another layout than C's.
        """
        if array.dtype != (np.dtype("uint16") if self.dtype.name == "bfloat16" else self.dtype):
            raise FeedTypeError(
                f"{self.name} wants {self}, got a device array of {array.dtype}",
                hint="cast it on the device, or feed a NumPy array",
            )
        self._check_shape(array)
        if not array.is_c_contiguous():
            raise FeedValueError(
                f"{self.name} wants {self}, got a device array that is not C-contiguous: strides {array.strides}"
            )
        if self.dtype == np.float16:  # (numba-cuda's arrays without axes have no views)
            return array.reshape(array.size).view(np.uint16).reshape(array.shape)
        return array

    def _check_shape(self, array: Any) -> None:
        """Refuse another rank, or another size where it is fixed."""
        if array.ndim != len(self.shape):
            raise FeedValueError(f"{self.name} wants {self}, got {array.ndim} dims: shape {array.shape}")
        for size, extent in zip(array.shape, self.shape, strict=True):
            if size != extent and not isinstance(extent, Dim):
                raise FeedValueError(f"{self.name} wants {self}, got shape {array.shape}")

    def _converted(self, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value)
        except DeclarationError:  # what a view says to whoever takes it for an array
            raise FeedTypeError(
                f"{self.name} wants {self}, got a view, which has no values",
                hint=f"compile the view and feed what that gives: {self.name}=graphc.compile(view)(...)",
            ) from None
        except ValueError as error:
            raise FeedValueError(f"{self.name} wants {self}, got what is no array: {error}") from None
        if array.dtype != self.dtype:
            self._check_cast(array, isinstance(value, np.ndarray | np.generic))
            array = converted(array, self.dtype) if is_half(self.dtype) else array
        return np.require(array, self.dtype, ["C", "A"])

    def _check_cast(self, array: np.ndarray, is_typed: bool) -> None:
        """Refuse what does not cast by ``same_kind``; of Python's own numbers the values decide, not the dtype."""
        integers = array.dtype.kind in "iu" or (array.dtype.kind == "O" and all(type(one) is int for one in array.flat))
        is_integer = self.dtype.kind in "iu"
        fits = not is_typed and (array.size == 0 or (integers and is_integer))
        if not (fits or np.can_cast(_numpys(array.dtype), _numpys(self.dtype), "same_kind")):
            raise FeedTypeError(
                f"{self.name} wants {self.dtype}, got {array.dtype}, which does not cast by 'same_kind'",
                hint=f"cast it where that is meant: {self.name}=value.astype('{self.dtype}')",
            )
        if is_integer and integers and array.size:
            bounds, least, most = np.iinfo(self.dtype), array.min(), array.max()
            if least < bounds.min or most > bounds.max:
                misfit = least if least < bounds.min else most
                raise FeedValueError(f"{self.name} wants {self.dtype}: a value does not fit ({misfit})")

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"{self.dtype} of shape ({shape}{',' if len(self.shape) == 1 else ''})"


def _numpys(dtype: np.dtype) -> np.dtype:
    """A dtype that casts as this one does: float16 for bfloat16, of which NumPy thinks that all numbers fit."""
    return np.dtype("float16") if dtype.name == "bfloat16" else dtype


class Inputs:
    """The inputs of a graph, as calls fill them by name or alias.

    `names` are those in the graph, in order. `on_device` gives what lies on a device as an array of it, and None of
    other values; without it all is taken for the host's.
    """

    def __init__(
        self, graph: Graph, aliases: Mapping[str, str], on_device: Callable[[Any], Any] | None = None
    ) -> None:
        self._on_device = on_device
        self._slots = tuple(Slot(graph.names[node], node.dtype, node.shape) for node in graph.inputs)
        self.names = tuple(slot.name for slot in self._slots)
        self._leaves = dict(zip(self.names, graph.inputs, strict=True))
        self._guards = graph.guards
        self._aliases = dict(aliases)
        self._sizes: dict[tuple[tuple[int, ...], ...], dict[str, int]] = {}

    def arrays(self, feeds: Mapping[str, Any], params: Collection[str] = ()) -> tuple[list[Any], dict[str, Any]]:
        """The inputs, checked and cast, in order; and what was fed for `params`, as it is.

        Raises
        ------
        FeedError
            For a missing or surplus name, a value that does not fit its input, dims that disagree, a guard not met.
        """
        if not isinstance(feeds, Mapping):
            raise FeedTypeError(f"expected a mapping: arrays by input name, got {type(feeds).__name__}")
        named: dict[str, Any] = {}
        for given, value in feeds.items():
            name = self._aliases.get(given, given)
            if name in named:
                raise FeedTypeError(f"{name} is fed twice: {given} is another name of it")
            named[name] = value
        self._check_names(named, params)
        arrays = [self.prepared(slot, named[slot.name]) for slot in self._slots]
        self.sizes([np.shape(array) for array in arrays])
        return arrays, {name: value for name, value in named.items() if name not in self._leaves}

    def prepared(self, slot: Slot, value: Any) -> Any:
        """A value for a slot, checked and cast; an array of the device as it is."""
        try:
            there = self._on_device(value) if self._on_device is not None else None
        except FeedValueError as error:
            error.message = f"{slot.name} {error.message}"
            raise
        return slot.prepare(value) if there is None else slot.prepare_on_device(there)

    def sizes(self, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, int]:
        """The sizes of the dims for these shapes of the inputs, checked once for each combination that comes."""
        key = tuple(shapes)
        if key not in self._sizes:
            self._sizes[key] = bind_dims(self._leaves, dict(zip(self.names, key, strict=True)), self._guards)
        return self._sizes[key]

    def _check_names(self, feeds: Mapping[str, Any], optional: Collection[str]) -> None:
        """Refuse missing and surplus feeds."""
        missing = [slot for slot in self._slots if slot.name not in feeds]
        for name in feeds:
            if name not in self._leaves and name not in optional:
                near = [slot.name for slot in missing or self._slots]
                raise FeedTypeError(unknown_name(name, [*near, *optional], "input"))
        if missing:
            wanted = ", ".join(f"{slot.name} ({slot})" for slot in missing)
            raise FeedTypeError(
                f"missing feed{'s' if len(missing) > 1 else ''}: {wanted}", hint=f"pass {missing[0].name}=array"
            )


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """The text for a name that is not there, with the nearest one that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.4)
    suggestion = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}" if known else ""
    return f"no {what} named {name!r}{suggestion}"
