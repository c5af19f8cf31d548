"""The emulated device is switched on: the driver is loaded, numba-cuda's kernels keep their PTX, cuBLAS is NumPy."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator import cublas
from emulator.build import build
from emulator.machine import KernelFault, Memory, Program, image_size, param_table, readable
from emulator.ptx import PtxError

_MAX_PARAMS = 1024
_INVALID_IMAGE, _NOT_FOUND, _LAUNCH_FAILED = 200, 500, 719  # of CUresult


class _Description(ctypes.Structure):  # as in driver.c
    _fields_ = (
        ("id", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("count", "size", "shared", "local")),
        ("offsets", ctypes.c_uint32 * _MAX_PARAMS),
        ("sizes", ctypes.c_uint32 * _MAX_PARAMS),
    )


class Device:
    """What the driver asks Python."""

    def __init__(self, library: Path) -> None:
        self.driver = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        self.memory = Memory(self.driver)
        self.texts: dict[str, str] = {}  # PTX of images, by their digests
        self.programs: dict[int, Program] = {}
        self.kernels: list[tuple[Program, str]] = []
        self.faults: list[str] = []
        number, pointer = ctypes.c_uint64, ctypes.c_void_p
        self._callbacks = (  # kept, for the driver has their addresses alone
            ctypes.CFUNCTYPE(ctypes.c_int, number, pointer)(self._load),
            ctypes.CFUNCTYPE(ctypes.c_int, number, ctypes.c_char_p, ctypes.POINTER(_Description))(self._find),
            ctypes.CFUNCTYPE(ctypes.c_int, number, ctypes.c_char_p, pointer, pointer)(self._global),
            ctypes.CFUNCTYPE(
                ctypes.c_int, number, ctypes.POINTER(ctypes.c_uint * 6), ctypes.c_uint, pointer, ctypes.c_uint
            )(self._launch),
        )
        self.driver.emulator_connect(*self._callbacks)
        self._calls: list[Callable[[], None]] = []  # kept, for graphs may repeat them
        self._host_function = ctypes.CFUNCTYPE(None, pointer)(self._call)
        self.driver.cuLaunchHostFunc.argtypes = [pointer, pointer, pointer]

    def remember(self, image: bytes, text: str) -> None:
        """Keep the PTX that an image was made of."""
        self.texts[hashlib.sha256(image[: image_size(image)]).hexdigest()] = text

    def enqueue(self, stream: int, call: Callable[[], None]) -> None:
        """Have a stream call a function that works on the device's memory."""
        self._calls.append(call)
        code = self.driver.cuLaunchHostFunc(stream, self._host_function, len(self._calls))
        if code:
            raise RuntimeError(f"CUBLAS_STATUS_EXECUTION_FAILED: the driver says {code}")

    def _call(self, number: int) -> None:
        try:
            self._calls[number - 1]()
        except KernelFault as error:
            self.driver.emulator_fault(self._fault(error.code, f"cuBLAS: {error}"))

    def _load(self, library: int, image: int) -> int:
        header = ctypes.string_at(image, 4)
        if header == b"\x7fELF":
            size = image_size(ctypes.string_at(image, 64))
            text = self.texts.get(hashlib.sha256(ctypes.string_at(image, size)).hexdigest())
        else:
            text = ctypes.string_at(image).decode()
        if text is None:
            return self._fault(_INVALID_IMAGE, "an image of which the emulator does not know the PTX")
        try:
            self.programs[library] = Program(text, self.memory)
        except (PtxError, KernelFault) as error:
            return self._fault(_INVALID_IMAGE, str(error))
        return 0

    def _find(self, library: int, name: bytes, about: Any) -> int:
        program, name = self.programs[library], name.decode()
        if name not in program.module.functions:
            return _NOT_FOUND
        try:
            kernel = program.kernel(name)
        except PtxError as error:
            return self._fault(_INVALID_IMAGE, str(error))
        offsets, sizes = param_table(kernel)
        found = about.contents
        found.id, found.count, found.shared, found.local = len(self.kernels), len(sizes), kernel.shared, kernel.local
        found.size = offsets[-1] + sizes[-1] if sizes else 0
        found.offsets[: len(sizes)], found.sizes[: len(sizes)] = offsets, sizes
        self.kernels.append((program, name))
        return 0

    def _global(self, library: int, name: bytes, address: int, size: int) -> int:
        variable = self.programs[library].module.variables.get(name.decode())
        if variable is None:
            return _NOT_FOUND
        ctypes.c_uint64.from_address(address).value, ctypes.c_uint64.from_address(size).value = (
            variable.address,
            variable.size,
        )
        return 0

    def _launch(self, kernel: int, dims: Any, shared: int, params: int, size: int) -> int:
        program, name = self.kernels[kernel]
        grid, block = tuple(dims.contents[:3]), tuple(dims.contents[3:])
        try:
            program.launch(name, grid, block, ctypes.string_at(params, size), shared)
        except KernelFault as error:
            return self._fault(error.code, str(error))
        except Exception as error:
            return self._fault(_LAUNCH_FAILED, f"the emulator failed in {readable(name)}: {error!r}")
        return 0

    def _fault(self, code: int, message: str) -> int:
        self.faults.append(message)
        print(f"emulator: {message}", file=sys.stderr)
        return code


@functools.cache
def start() -> Device:
    """Switch the emulated device on, in this process and before numba is imported."""
    if any(name.startswith(("numba.cuda.cudadrv.driver", "cuda.bindings.driver")) for name in sys.modules):
        raise RuntimeError("the emulated device must be started before numba.cuda is imported")
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    device = Device(build(folder))
    _keep_ptx(device)
    cublas.replace(device.memory, device.enqueue)
    return device


def running() -> bool:
    """Whether the emulated device is switched on."""
    return start.cache_info().currsize > 0


def _keep_ptx(device: Device) -> None:
    """Have numba-cuda tell of each image the PTX that it is made of: a GPU runs the one, the emulator the other.

    This is the one place where numba-cuda is changed: what its linker returns is loaded as it is, and known again by
    its digest. Linked with optimisation, as it is by default, the PTX is what comes out of that.
    """
    from numba.cuda.codegen import CUDACodeLibrary

    linked = CUDACodeLibrary.get_cubin

    def get_cubin(self: Any, cc: Any = None) -> Any:
        image = linked(self, cc)
        text = self.get_lto_ptx(cc).rstrip("\0") if self._lto else "\n".join(self.get_asm_strs(cc))
        device.remember(bytes(image.code), text)
        return image

    CUDACodeLibrary.get_cubin = get_cubin
