"""What generated kernels are made of on a device: how they are declared, loops over threads, totals of a block."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
from numba import cuda
from numba.core import config

from graphc.codegen.half import bfloat_to_float
from graphc.codegen.vector_math import maximum, minimum

# The simulator runs each thread of a block as one of Python's, and knows no shuffles.
SIMULATED = bool(config.ENABLE_CUDASIM)
_WARP = 32
_ALL = 0xFFFFFFFF
# Of fewer blocks Numba warns; they are few because there is little to do.
_FEW = 128


class Kernel:
    """A kernel: ``kernel[blocks, threads, stream](*arguments)`` puts it into a stream, compiled when it is first used.

    Attributes
    ----------
    declared
        The Numba types of its arguments; none where it takes those of several types.
    py_func
        The function as it is written.
    """

    def __init__(self, function: Callable[..., None], declared: tuple[numba.types.Type, ...]) -> None:
        self.py_func, self.declared = function, declared
        self._dispatcher = cuda.jit(cache=not SIMULATED)(function)

    def __getitem__(self, configuration: tuple[int, int, Any]) -> Callable[..., None]:
        launch: Callable[..., None]
        if configuration[0] >= _FEW:
            launch = self._dispatcher[configuration]
            return launch
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")
            launch = self._dispatcher[configuration]
        return launch


def kernel(*types: numba.types.Type) -> Callable[[Callable[..., None]], Kernel]:
    """Make a decorator for a kernel that takes arguments of these types."""
    return partial(Kernel, declared=types)


# Taken into the kernel before types are known: nothing of it is compiled by itself, which would need a device.
_device = cuda.jit(device=True, inline="always")


@_device
def piece(part: int, parts: int, size: int) -> tuple[int, int]:
    """Where a part's piece of `size` begins and ends."""
    return part * size // parts, (part + 1) * size // parts


@_device
def left_over(lanes: int, part: int, parts: int, size: int) -> tuple[int, int]:
    """Where a part's piece begins and ends of those of `size` that make no whole group of lanes."""
    start = size // lanes * lanes
    first, last = piece(part, parts, size - start)
    return start + first, start + last


if SIMULATED:

    @_device
    def threads_between(first: int, last: int, threads: int) -> range:
        """The numbers from `first` to `last` (not included) that are this thread's, one of so many of its block."""
        return range(first + cuda.threadIdx.x, last, threads)

else:
    from graphc.codegen.cuda.positions import threads_between  # the simulator knows nothing of LLVM


@_device
def threads_over(count: int, threads: int) -> Any:
    """The numbers from 0 to `count` (not included) that are this thread's, one of so many of its block."""
    return threads_between(0, count, threads)


@_device
def _in_shared_memory(value: Any, shared: Any, combine: Any) -> Any:
    """What all threads of a block make of their values, half of them at a time; `shared` is used again after another
    total, or a barrier."""
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half:
            shared[thread] = combine(shared[thread], shared[thread + half])
        cuda.syncthreads()
        half //= 2
    return shared[0]


@_device
def _by_warps(value: Any, shared: Any, combine: Any) -> Any:
    """The same for floats and signed integers of 32 or 64 bits, which threads of a warp can hand to each other."""
    half = _WARP // 2
    while half > 0:  # then each thread has the total of its warp
        value = combine(value, cuda.shfl_xor_sync(_ALL, value, half))
        half //= 2
    if shared.size > _WARP:
        if cuda.threadIdx.x % _WARP == 0:
            shared[cuda.threadIdx.x // _WARP] = value
        cuda.syncthreads()
        value = shared[0]
        for warp in range(1, shared.size // _WARP):
            value = combine(value, shared[warp])
    else:
        cuda.syncwarp()  # what threads have stored before, all read after
    return value


_together = _in_shared_memory if SIMULATED else _by_warps


def _plus(x: Any, y: Any) -> Any:
    return x + y


def _times(x: Any, y: Any) -> Any:
    return x * y


def _and(x: bool, y: bool) -> bool:
    return x and y


def _or(x: bool, y: bool) -> bool:
    return x or y


if not SIMULATED:
    _plus, _times, _and, _or = map(_device, (_plus, _times, _and, _or))


@_device
def block_sum(value: Any, shared: Any) -> Any:
    """The sum of the values that the threads of a block give; `shared` has an element for each of them."""
    return _together(value, shared, _plus)


@_device
def block_product(value: Any, shared: Any) -> Any:
    """Their product."""
    return _together(value, shared, _times)


@_device
def block_max(value: Any, shared: Any) -> Any:
    """The largest of them; NaN if one is."""
    return _together(value, shared, maximum)


@_device
def block_min(value: Any, shared: Any) -> Any:
    """The smallest of them; NaN if one is."""
    return _together(value, shared, minimum)


@_device
def block_all(value: bool, shared: Any) -> Any:
    """Whether all of them are true."""
    return _in_shared_memory(value, shared, _and)


@_device
def block_any(value: bool, shared: Any) -> Any:
    """Whether one of them is true."""
    return _in_shared_memory(value, shared, _or)


@_device
def block_sum_in_memory(value: Any, shared: Any) -> Any:
    """`block_sum` of values that threads cannot hand to each other."""
    return _in_shared_memory(value, shared, _plus)


@_device
def block_product_in_memory(value: Any, shared: Any) -> Any:
    """`block_product` of values that threads cannot hand to each other."""
    return _in_shared_memory(value, shared, _times)


@_device
def block_max_in_memory(value: Any, shared: Any) -> Any:
    """`block_max` of values that threads cannot hand to each other."""
    return _in_shared_memory(value, shared, maximum)


@_device
def block_min_in_memory(value: Any, shared: Any) -> Any:
    """`block_min` of values that threads cannot hand to each other."""
    return _in_shared_memory(value, shared, minimum)


@_device
def within(index: int, extent: int) -> int:
    """An index counted from the end where it is negative; one out of range is brought into it."""
    return max(0, min(index + extent if index < 0 else index, extent - 1))


# what is launched around generated kernels ----------------------------------------------------------------------------


@kernel()
def find_outside(indices: Any, extent: int, faults: Any, place: int) -> None:
    """Store 1 into ``faults[place]`` where some index of a vector lies outside of an axis, counted from either end."""
    for k in range(cuda.grid(1), indices.shape[0], cuda.gridsize(1)):
        if indices[k] < -extent or indices[k] >= extent:
            faults[place] = 1


@kernel()
def next_step(place: Any, rates: Any, numbers: Any, starts: Any, epochs: Any, lr: Any, number: Any, at: Any) -> None:
    """Begin the next step of training, that which `place` counts: its rate, its number, where its examples are."""
    k = place[0]
    lr[()] = rates[k]
    number[()] = numbers[k]
    at[0], at[1] = starts[k], epochs[k]
    place[0] = k + 1


@kernel()
def take_batch(source: Any, order: Any, at: Any, batch: Any) -> None:
    """Gather a batch's rows of a matrix: those that `order` names from ``at[0]`` on."""
    columns = source.shape[1]
    for place in range(cuda.grid(1), batch.shape[0] * columns, cuda.gridsize(1)):
        row = place // columns
        batch[row, place - row * columns] = source[order[at[0] + row], place - row * columns]


@kernel()
def add_to_total(result: Any, examples: int, at: Any, totals: Any, column: int) -> None:
    """Add a step's result, as often as it has examples, to the epoch's total."""
    totals[at[1], column] += examples * result[()]


@kernel()
def add_bits_to_total(result: Any, examples: int, at: Any, totals: Any, column: int) -> None:
    """`add_to_total` of the bits of a bfloat16."""
    totals[at[1], column] += examples * bfloat_to_float(result[()])
