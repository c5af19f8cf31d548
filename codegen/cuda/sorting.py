"""Sorting on the device, and what is built on it: a stable merge sort in which a binary search finds each key's place.

In two sorted runs a key's place is its place in its own run, and how many keys of the other run come before it. A block
sorts a tile of keys in the memory that its threads share, by merging runs of 1, 2, 4, ... keys. Where a row is longer
than a tile, passes over all of it merge runs of 1, 2, 4, ... tiles. The host waits for nothing, and how often it
launches what depends on shapes alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import cuda, types

from graphc.codegen import sorting
from graphc.codegen.cuda.emit import Grid
from graphc.codegen.cuda.functions import SIMULATED, kernel
from graphc.codegen.cuda.queue import queue_at_hand
from graphc.codegen.cuda.runtime import subarray
from graphc.codegen.vector_math import maximum, minimum
from graphc.ir.loops import AT
from graphc.passes.sorting import SORTED_BY_BLOCK

# Keys that a block sorts, and its threads: powers of two, in the simulator small ones.
TILE, THREADS = (8, 2) if SIMULATED else (SORTED_BY_BLOCK, 256)
_BOTH = 2 * TILE

# Taken into the kernels before types are known, as in `graphc.codegen.cuda.functions`.
_device = cuda.jit(device=True, inline="always")
_precedes = _device(sorting.precedes)


# what generated code calls --------------------------------------------------------------------------------------------


def argsort(keys: Any, scratch: Any, places: Any, stream: Any) -> None:
    """Sort along the last axis, as `graphc.codegen.sorting.argsort` does.

    Rows that are longer than a tile need scratch of 24 bytes a key (`graphc.passes.sorting.with_scratch` asks for it).
    """
    if places.size == 0:
        return
    length, count = tuple(places.shape)[-1], places.size  # (the simulator's shapes do not count from the end)
    values, order = _as_vector(keys), places.reshape(count)
    blocks = -(-count // (TILE // length * length)) if length <= TILE else count // length * -(-length // TILE)
    if length <= TILE:
        sort_tiles[blocks, THREADS, stream](values, length, values, order)
        return
    passes = (-(-length // TILE) - 1).bit_length()
    enough = scratch.size >= 3 * count
    memory = scratch.reshape(scratch.size).view(np.uint8) if enough else queue_at_hand().empty(24 * count)
    other = subarray(memory, 0, (count,), np.int64)
    first, second = (subarray(memory, 8 * k * count, (count,), values.dtype) for k in (1, 2))
    now, then = (order, other) if passes % 2 == 0 else (other, order)  # the last pass stores the result
    sort_tiles[blocks, THREADS, stream](values, length, first, now)
    for k in range(passes):
        merge_runs[blocks, THREADS, stream](first, now, length, TILE << k, second, then)
        first, second, now, then = second, first, then, now


def searchsorted(keys: Any, values: Any, places: Any, stream: Any, right: bool = False) -> None:
    """Find where values belong in a sorted vector, as `graphc.codegen.sorting.searchsorted` does."""
    if places.size:
        grid = Grid.at_hand()
        found = places.reshape(places.size)
        find_places[grid.blocks, grid.threads, stream](_as_vector(keys), _as_vector(values), right, found)


def _combine_at(how: int, order: Any, positions: Any, values: Any, out: Any, stream: Any) -> None:
    """Combine rows of values with an array, at one place in order: ``out[positions[i] + j] += values[i, j]``.

    Parameters
    ----------
    how
        Its place in `AT`.
    order
        int64: the positions' order, by `argsort`.
    positions
        int64: where each row begins in `out`, whose elements are counted as they lie in memory.
    values
        Of a shape that begins with that of `positions`, and of the dtype of `out`.
    out
        What is combined with them.
    stream
        Where the work is put.
    """
    if values.size:
        grid = Grid.at_hand()
        vectors = _as_vector(positions), _as_vector(values), _as_vector(out)
        combine_runs[grid.blocks, grid.threads, stream](how, order, *vectors)


add_at, maximum_at, minimum_at, set_at = (partial(_combine_at, how) for how in range(len(AT)))


def _as_vector(keys: Any) -> Any:
    """Keys as a vector; booleans, which have the order of their bytes, as these."""
    vector = keys if len(keys.shape) == 1 else keys.reshape(keys.size)
    return vector.view(np.uint8) if vector.dtype == np.bool_ else vector


# kernels --------------------------------------------------------------------------------------------------------------


@_device
def _place(keys: Any, first: int, last: int, key: Any, right: bool) -> int:
    """Where from `first` to `last` a key belongs: before its equals, or behind them."""
    low, high = first, last
    while low < high:
        middle = (low + high) >> 1
        if (not _precedes(key, keys[middle])) if right else _precedes(keys[middle], key):
            low = middle + 1
        else:
            high = middle
    return low


@_device
def _from_left(keys: Any, left: int, middle: int, last: int, count: int) -> int:
    """How many of the first `count` keys of two merged runs are from the left one, ``keys[left:middle]``."""
    low, high = max(0, count - (last - middle)), min(count, middle - left)
    while low < high:
        half = (low + high) >> 1
        if _precedes(keys[middle + count - 1 - half], keys[left + half]):
            high = half
        else:
            low = half + 1
    return low


@_device
def _tile(length: int, count: int) -> tuple[int, int, int]:
    """Where this block's tile and its first row begin, and where the tile ends: whole rows, or a part of one."""
    if length <= TILE:
        first = cuda.blockIdx.x * (TILE // length * length)
        return first, first, min(first + TILE // length * length, count)
    tiles = (length + TILE - 1) // TILE
    row = cuda.blockIdx.x // tiles * length
    first = row + cuda.blockIdx.x % tiles * TILE
    return first, row, min(first + TILE, row + length)


@kernel()
def sort_tiles(keys: Any, length: int, sorted_keys: Any, order: Any) -> None:
    """Sort tiles of rows of `length` keys: store positions in their row, and of longer rows the keys too."""
    values = cuda.shared.array(_BOTH, keys.dtype)
    places = cuda.shared.array(_BOTH, types.int16)
    first, row, last = _tile(length, keys.shape[0])
    count = last - first
    for k in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        values[k], places[k] = keys[first + k], k
    cuda.syncthreads()
    several = length < count
    width, now, then = 1, 0, TILE
    while width < min(length, count):
        for k in range(cuda.threadIdx.x, count, cuda.blockDim.x):
            begin = k - k % length if several else 0
            end = begin + length if several else count
            left = begin + ((k - begin) & -(2 * width))
            middle = min(left + width, end)
            key = values[now + k]
            if k < middle:
                place = k - middle + _place(values, now + middle, now + min(left + 2 * width, end), key, False) - now
            else:
                place = k - middle + _place(values, now + left, now + middle, key, True) - now
            values[then + place] = key
            places[then + place] = places[now + k]
        cuda.syncthreads()
        width, now, then = 2 * width, then, now
    for k in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        place = places[now + k]
        order[first + k] = place % length if several else first - row + place
        if length > TILE:
            sorted_keys[first + k] = values[now + k]


@kernel()
def merge_runs(keys: Any, order: Any, length: int, width: int, merged_keys: Any, merged_order: Any) -> None:
    """Merge neighbouring sorted runs of `width` keys in rows longer than a tile: each block makes a tile of them."""
    values = cuda.shared.array(TILE, keys.dtype)
    first, row, last = _tile(length, keys.shape[0])
    left = row + ((first - row) & -(2 * width))
    middle, end = min(left + width, row + length), min(left + 2 * width, row + length)
    before = _from_left(keys, left, middle, end, first - left)
    ones = _from_left(keys, left, middle, end, last - left) - before
    one, other = left + before, middle + first - left - before - ones  # to be counted on from `k`
    for k in range(cuda.threadIdx.x, last - first, cuda.blockDim.x):
        values[k] = keys[(one if k < ones else other) + k]
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, last - first, cuda.blockDim.x):
        key = values[k]
        if k < ones:
            place = first + k - ones + _place(values, ones, last - first, key, False)
        else:
            place = first + k - ones + _place(values, 0, ones, key, True)
        merged_keys[place] = key
        merged_order[place] = order[(one if k < ones else other) + k]


@kernel()
def find_places(keys: Any, values: Any, right: bool, places: Any) -> None:
    """Store where each value belongs in a sorted vector."""
    for k in range(cuda.grid(1), values.shape[0], cuda.gridsize(1)):
        places[k] = _place(keys, 0, keys.shape[0], values[k], right)


@_device
def _end_of_run(order: Any, positions: Any, first: int) -> int:
    """Where in an order of positions those end that are equal to the one at `first`: most runs are short."""
    at, count = positions[order[first]], order.shape[0]
    low, high, step = first + 1, min(first + 2, count), 1
    while low < high and positions[order[high - 1]] == at:
        low, step = high, 2 * step
        high = min(low + step, count)
    while low < high:
        middle = (low + high) >> 1
        if positions[order[middle]] == at:
            low = middle + 1
        else:
            high = middle
    return low


@_device
def _combined(how: int, x: Any, y: Any) -> Any:
    """Two elements as one, in the way that stands at a place in `AT`."""
    if how == 0:
        return x + y
    if how == 1:
        return maximum(x, y)
    if how == 2:
        return minimum(x, y)
    return y


@kernel()
def combine_runs(how: int, order: Any, positions: Any, values: Any, out: Any) -> None:
    """Combine rows of values with what is at positions: for each column of a run of equal ones one thread, in order.

    What would go elsewhere than into the array goes nowhere: that an index is out of range is for others to say.
    """
    columns = values.shape[0] // order.shape[0]
    for place in range(cuda.grid(1), values.shape[0], cuda.gridsize(1)):
        first, column = place // columns, place % columns
        at = positions[order[first]]
        if at < 0 or at + columns > out.shape[0] or (first > 0 and positions[order[first - 1]] == at):
            continue
        total = out[at + column]
        for k in range(first, _end_of_run(order, positions, first)):
            total = out.dtype.type(_combined(how, total, values[order[k] * columns + column]))
        out[at + column] = total
