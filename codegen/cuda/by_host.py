"""Routines that the host computes for the device, on copies: factorisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.codegen import lapack
from graphc.codegen.cuda.queue import queue_at_hand
from graphc.codegen.cuda.runtime import on_host


def _by_host(function: Callable[..., None]) -> Callable[..., None]:
    """A routine that stores into its last array, on copies of device arrays."""

    def routine(*given: Any, **flags: Any) -> None:
        *arrays, _stream = given  # which waits for a copy to the host, as that does for the stream
        queue_at_hand().host_calls += 1
        copies = [np.array(on_host(array)) for array in arrays]
        function(*copies, **flags)
        if copies[-1].size:
            arrays[-1].copy_to_device(copies[-1])

    return routine


cholesky = _by_host(lapack.cholesky)
triangular_solve = _by_host(lapack.triangular_solve)
lu = _by_host(lapack.lu)
lu_solve = _by_host(lapack.lu_solve)
eigh = _by_host(lapack.eigh)
eigvalsh = _by_host(lapack.eigvalsh)
svd = _by_host(lapack.svd)
svdvals = _by_host(lapack.svdvals)
qr = _by_host(lapack.qr)
