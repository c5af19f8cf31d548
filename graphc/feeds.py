"""Feeds: the caller's arrays, checked, cast and bound to dims before a program runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.dims import Dim, Extent
from graphc.ir.errors import FeedTypeError, FeedValueError
from graphc.parameters import unknown_name


@dataclass(frozen=True, slots=True)
class Slot:
    """One input as calls must fill it."""

    name: str
    dtype: np.dtype
    shape: tuple[Extent, ...]

    def prepare(self, value: Any) -> Any:
        """The value as a C-contiguous array of the exact dtype (a NumPy scalar for shape ()); copied only if it must be.

        Raises
        ------
        FeedError
            TypeError for a dtype that does not cast by ``same_kind``, ValueError for a wrong rank or static extent, or an
            integer that does not fit.
        """
        if type(value) is np.ndarray and value.dtype == self.dtype and value.flags.c_contiguous and value.ndim:
            array = value
        else:
            array = self._converted(value)
        if array.ndim != len(self.shape):
            raise FeedValueError(f"{self.name} wants {self._text()}, got {array.ndim} dims: shape {array.shape}")
        for size, extent in zip(array.shape, self.shape, strict=True):
            if size != extent and not isinstance(extent, Dim):
                raise FeedValueError(f"{self.name} wants {self._text()}, got shape {array.shape}")
        return array if self.shape else array[()]

    def _converted(self, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.dtype == self.dtype:
            return np.ascontiguousarray(array) if array.ndim else array
        weak = not isinstance(value, np.ndarray | np.generic)  # Python numbers and lists: their values decide
        integers = weak and array.dtype.kind in "iuO" and self.dtype.kind in "iu"
        if not (np.can_cast(array.dtype, self.dtype, "same_kind") or integers):
            raise FeedTypeError(
                f"{self.name} wants {self.dtype}, got {array.dtype}, which does not cast by 'same_kind'",
                hint=f"cast it where that is meant: {self.name}=value.astype('{self.dtype}')",
            )
        if self.dtype.kind in "iu" and array.size:
            bounds = np.iinfo(self.dtype)
            if array.dtype.kind in "iuO" and (array.min() < bounds.min or array.max() > bounds.max):
                raise FeedValueError(f"{self.name} wants {self.dtype}: a value does not fit ({_misfit(array, bounds)})")
        return np.ascontiguousarray(array.astype(self.dtype)).reshape(array.shape)

    def _text(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"{self.dtype} of shape ({shape}{',' if len(self.shape) == 1 else ''})"


def _misfit(array: np.ndarray, bounds: np.iinfo[Any]) -> Any:
    return array.min() if array.min() < bounds.min else array.max()


def check_names(feeds: Mapping[str, Any], wanted: Sequence[str], optional: Collection[str]) -> None:
    """Refuse missing and surplus feeds.

    Raises
    ------
    FeedError
        (TypeError) that names the feed, and the nearest known name for a surplus one.
    """
    missing = [name for name in wanted if name not in feeds]
    for name in feeds:
        if name not in wanted and name not in optional:
            raise FeedTypeError(unknown_name(name, [*(missing or wanted), *optional], "input"))
    if missing:
        names = ", ".join(missing)
        raise FeedTypeError(f"missing feed{'s' if len(missing) > 1 else ''}: {names}", hint=f"pass {missing[0]}=array")
