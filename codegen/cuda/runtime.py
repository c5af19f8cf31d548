"""What generated host functions call besides kernels: the device's memory, and the check before a gather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from graphc.codegen import runtime
from graphc.codegen.cuda.emit import Grid
from graphc.codegen.cuda.functions import find_outside
from graphc.ir.errors import DeviceMemoryError


def arena(nbytes: int) -> Any:
    """Return `nbytes` uninitialised bytes of the device's memory.

    Raises
    ------
    DeviceMemoryError
        Where there are not so many.
    """
    return _allocated(nbytes, lambda: cuda.device_array(nbytes, np.uint8))


def to_device(array: np.ndarray) -> Any:
    """Return a copy of an array on the device, where there is memory for it."""
    return _allocated(array.nbytes, lambda: cuda.to_device(array))


def _allocated(nbytes: int, allocate: Callable[[], Any]) -> Any:
    try:
        return allocate()
    except Exception as error:  # of the driver, or of its bindings: which class depends on their versions
        if "OUT_OF_MEMORY" not in str(error):
            raise
        raise DeviceMemoryError(f"out of device memory: {nbytes:,} bytes more are needed") from error


def subarray(buffer: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a C-contiguous array in the bytes of a device array, as `graphc.codegen.runtime.subarray` does."""
    dtype = np.dtype(dtype)
    nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    start = offset if buffer.dtype == np.uint8 else offset // dtype.itemsize
    count = nbytes if buffer.dtype == np.uint8 else nbytes // dtype.itemsize
    part = buffer[start : start + count]
    return (part if buffer.dtype == dtype else part.view(dtype)).reshape(shape)


def index_in_range(indices: Any, extent: int) -> bool:
    """Tell whether -extent <= k < extent for every k in `indices`, an integer or a device array.

    The host waits for the device, and fetches four bytes.
    """
    if not hasattr(indices, "copy_to_host"):
        return runtime.index_in_range(indices, extent)
    found = to_device(np.zeros(1, np.int32))
    grid = Grid.at_hand()
    find_outside[grid.blocks, grid.threads](indices.reshape(indices.size), extent, found)
    return not found.copy_to_host()[0]


def on_host(array: Any) -> Any:
    """A device array's values as a NumPy array of their own; what is on the host already, as it is."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array
