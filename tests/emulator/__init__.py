"""An emulated CUDA device: programs for a GPU run through numba-cuda's real path, to the driver, without a GPU.

`start` compiles `driver.c` (it needs gcc) into a stand-in for libcuda.so.1 and loads it under that name, so that
cuda.bindings and numba-cuda find it; call it before numba is imported, or say ``python -m emulator -m pytest
tests/test_on_device.py`` (with tests/ on PYTHONPATH). Kernels are linked by nvJitLink as for a GPU, loaded by the
driver's functions and launched by them; what then runs is their PTX, in NumPy, each access checked against the
allocations. cuBLAS's entry points that graphc calls are computed by NumPy on the same memory.

What it finds that a simulator of Python code does not: wrong launches and types, accesses outside of allocations and
misaligned ones, barriers that not all threads of a block reach, shuffles of lanes that are not there, host code that
touches device memory, results that are read before the device has stored them, calls that a stream must not capture.

Environment: EMULATOR_MEMORY (bytes of a device, 2 GiB), EMULATOR_DEVICES (1), EMULATOR_DEBUG (say which functions of
the driver are not implemented).
"""

from emulator.build import why_not
from emulator.device import running, start

__all__ = ["running", "start", "why_not"]
