"""What generated host functions call besides kernels: arrays in the device's memory, and the check of indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.codegen.cuda.emit import Grid
from graphc.codegen.cuda.functions import find_outside
from graphc.codegen.cuda.queue import queue_at_hand


def subarray(buffer: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a C-contiguous array in the bytes of a device array, as `graphc.codegen.runtime.subarray` does."""
    return queue_at_hand().subarray(buffer, offset, shape, np.dtype(dtype))


def check_index(indices: Any, extent: int, faults: Any, place: int, stream: Any) -> None:
    """Store 1 into ``faults[place]`` where some index is not in ``-extent <= k < extent``.

    Nobody waits for it: what reads at such an index reads another element (see `functions.within`).
    """
    if indices.size:
        grid = Grid.at_hand()
        find_outside[grid.blocks, grid.threads, stream](indices.reshape(indices.size), extent, faults, place)


def on_host(array: Any) -> Any:
    """A device array's values as a NumPy array of their own; what is on the host already, as it is."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array
