"""Sorting for compiled code: a stable merge sort of positions, and binary search. Nothing is allocated."""

from typing import Any

from numba.extending import register_jitable
from numpy.typing import NDArray

from graphc.codegen.runtime import flat

# Runs of so many positions are sorted by insertion before they are merged.
RUN = 16


@register_jitable
def argsort(keys: NDArray[Any], scratch: NDArray[Any], places: NDArray[Any]) -> None:
    """Sort along the last axis: store the position that each element of the sorted row has in `keys`.

    Equal keys stay in order, NaN comes last. Arrays are C-contiguous; that the shapes agree is the caller's promise.

    Parameters
    ----------
    keys
        What is sorted: numbers or booleans, with at least one axis.
    scratch
        int64, as long as a row.
    places
        int64, of the shape of `keys`: the result.
    """
    values, order, count = flat(keys), flat(places), scratch.shape[0]
    if count > 0:
        for start in range(0, values.shape[0], count):
            sort_row(values, order, scratch, start, count)


@register_jitable
def searchsorted(keys: NDArray[Any], values: NDArray[Any], places: NDArray[Any], right: bool = False) -> None:
    """Find where values belong in a sorted vector: before their equals, or behind them.

    Parameters
    ----------
    keys
        The vector, in order, NaN last.
    values
        What is looked for, of the dtype of `keys`.
    places
        int64, of the shape of `values`: the result.
    right
        Whether a place is behind equal keys.
    """
    wanted, found = flat(values), flat(places)
    for k in range(wanted.shape[0]):
        low, high, value = 0, keys.shape[0], wanted[k]
        while low < high:
            middle = (low + high) // 2
            if not precedes(value, keys[middle]) if right else precedes(keys[middle], value):
                low = middle + 1
            else:
                high = middle
        found[k] = low


@register_jitable
def precedes(first: Any, second: Any) -> Any:
    """Whether a key comes before another one; NaN comes behind all numbers."""
    return first < second or (first == first and second != second)


@register_jitable
def sort_row(values: NDArray[Any], order: NDArray[Any], scratch: NDArray[Any], start: int, count: int) -> None:
    """Sort `count` keys from `start` on: runs by insertion, then merges, from one array into the other and back."""
    for first in range(0, count, RUN):
        last = min(first + RUN, count)
        for k in range(first, last):
            place = k
            while place > first and precedes(values[start + k], values[start + order[start + place - 1]]):
                order[start + place] = order[start + place - 1]
                place -= 1
            order[start + place] = k
    width, there = RUN, False
    while width < count:
        if there:
            merge_runs(values, scratch, 0, order, start, start, count, width)
        else:
            merge_runs(values, order, start, scratch, 0, start, count, width)
        width, there = 2 * width, not there
    if there:
        for k in range(count):
            order[start + k] = scratch[k]


@register_jitable
def merge_runs(
    values: NDArray[Any], source: NDArray[Any], origin: int, target: NDArray[Any], goal: int, start: int, count: int,
    width: int,
) -> None:  # fmt: skip
    """Merge neighbouring sorted runs of `width` positions: from `origin` in the source, to `goal` in the target."""
    for first in range(0, count, 2 * width):
        middle, last = min(first + width, count), min(first + 2 * width, count)
        left, right, k = first, middle, first
        if right < last:
            one, other = source[origin + left], source[origin + right]
            key, other_key = values[start + one], values[start + other]
            while True:
                if precedes(other_key, key):
                    target[goal + k] = other
                    k, right = k + 1, right + 1
                    if right == last:
                        break
                    other = source[origin + right]
                    other_key = values[start + other]
                else:
                    target[goal + k] = one
                    k, left = k + 1, left + 1
                    if left == middle:
                        break
                    one = source[origin + left]
                    key = values[start + one]
        for rest in range(left, middle):
            target[goal + k + rest - left] = source[origin + rest]
        for rest in range(right, last):
            target[goal + k + rest - right] = source[origin + rest]
