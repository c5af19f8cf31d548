"""The GPU that is measured: whether there is one, and what it is."""

from __future__ import annotations

import shutil
import subprocess


class NoDeviceError(Exception):
    """Why nothing can be measured on a GPU."""


def card() -> dict[str, str]:
    """The card that CUDA shows first, which is the one that all libraries take, its driver, and CUDA.

    Raises
    ------
    NoDeviceError
        Without a device, or without numba-cuda.
    """
    from graphc import CompileError
    from graphc.device import check_device

    try:
        check_device()
    except CompileError as error:
        raise NoDeviceError(error.message) from error
    from numba import cuda

    device = cuda.list_devices()[0]
    return {
        "card": getattr(device, "name", "numba-cuda's simulator"),
        "compute capability": ".".join(map(str, device.compute_capability)),
        "driver": _driver(),
        "CUDA": ".".join(map(str, cuda.runtime.get_version())),
    }


def _driver() -> str:
    """The driver's version, of which CUDA itself knows only what it supports."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() or "unknown"
