"""A device as programs use it: one stream of work, one pool of memory, and work that is recorded once and replayed.

numba-cuda's simulator has none of these: there memory is the host's, and recorded work is run again.
"""

from __future__ import annotations

import functools
import math
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np
from numba import cuda

from graphc.codegen.cuda.functions import SIMULATED
from graphc.ir.errors import DeviceError, DeviceMemoryError, FeedValueError, GraphcError
from graphc.passes.lanes import ACCESS

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What the driver says once a kernel went wrong; from then on it says so of all that it is asked in this process.
_FAULTS = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ILLEGAL_ADDRESS", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC", "ILLEGAL_INSTRUCTION",
        "HARDWARE_STACK_ERROR", "LAUNCH_FAILED", "LAUNCH_TIMEOUT", "ASSERT", "ECC_UNCORRECTABLE",
    )
)  # fmt: skip


def _raise_explained(error: Exception, needed: str = "its work needs more than there is") -> NoReturn:
    """Raise what the driver's error means (its class depends on the bindings' version); the error where that is all."""
    found = re.search(r"CUDA_ERROR_\w+", str(error))
    if found is None or isinstance(error, GraphcError):
        raise error
    if found[0] == "CUDA_ERROR_OUT_OF_MEMORY":
        raise DeviceMemoryError(f"out of device memory: {needed}") from error
    if found[0] not in _FAULTS:
        raise error
    raise DeviceError(
        f"a kernel failed on the device ({found[0]}), in this call or in one before it",
        hint="this process cannot use the device any more: start it again; with CUDA_LAUNCH_BLOCKING=1 the call that "
        "fails is the one that is to blame",
    ) from error


def _explained(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function with errors that say what the driver's mean."""

    def explained(*args: _P.args, **options: _P.kwargs) -> _R:
        try:
            return function(*args, **options)
        except Exception as error:
            _raise_explained(error)

    return functools.update_wrapper(explained, function)


@dataclass(frozen=True, eq=False)
class Memory:
    """An array's place in a device's memory, for whoever asks by the CUDA array interface; it keeps the owner alive."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype
    owner: Any
    strides: tuple[int, ...] | None = None  # in bytes; None: C's

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "data": (self.address, False), "shape": self.shape, "typestr": self.dtype.str, "strides": self.strides,
            "version": 3,
        }  # fmt: skip


class Lent:
    """Arrays that are handed out, and may be again once nobody holds one of them, or a part."""

    def __init__(self, arrays: tuple[Any, ...], parts: tuple[Any, ...]) -> None:
        self._arrays, self._parts = list(arrays), parts
        self._unheld: list[int] | None = None

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The arrays in a tuple of its own, since who holds a tuple that is kept here cannot be told from nobody."""
        return tuple(self._arrays)

    @property
    def held(self) -> bool:
        """Whether somebody holds one of them; when first asked, before they are handed out, nobody does."""
        references = self._references()
        if self._unheld is None:
            self._unheld = references
        return references != self._unheld

    def _references(self) -> list[int]:
        """How often each is referred to, and what arrays on the same memory refer to."""
        return [sys.getrefcount(each) for each in (*self._arrays, *self._parts)]


class Queue:
    """One device: its work in order, and the memory that is taken from its pool.

    Its stream and the legacy default stream wait for each other, as other libraries expect that know nothing of it.

    Attributes
    ----------
    stream
        What kernels are put into.
    host_calls
        How often the host has computed something between kernels, which cannot be recorded.
    lock
        Held by a thread that uses what all threads share beside the stream.
    """

    def __init__(self, device: int) -> None:
        from cuda.core import Device, StreamOptions

        self.device, self.host_calls, self.lock = device, 0, threading.Lock()
        self._core = Device(device)
        self._core.set_current()
        self.stream: Any = self._core.create_stream(options=StreamOptions(nonblocking=False))
        self._handle = self.stream.handle
        self._pool = self._core.memory_resource
        # Then it may read the host's memory itself, when its turn comes. Elsewhere the driver takes a copy at once.
        self._reads_host = bool(self._core.properties.pageable_memory_access_uses_host_page_tables)

    def empty(self, nbytes: int) -> Any:
        """So many uninitialised bytes.

        Raises
        ------
        DeviceMemoryError
            Where the device has not so many.
        """
        try:
            return self._allocated(nbytes)
        except Exception as error:
            _raise_explained(error, f"{nbytes:,} bytes more are needed")

    def _allocated(self, nbytes: int) -> Any:
        memory = self._pool.allocate(max(1, nbytes), stream=self.stream)
        return cuda.as_cuda_array(Memory(int(memory.handle), (nbytes,), np.dtype(np.uint8), memory))

    def new(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """An uninitialised C-contiguous array in memory of its own."""
        return self.subarray(self.empty(dtype.itemsize * math.prod(shape)), 0, shape, dtype)

    def subarray(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """A C-contiguous array in a buffer's memory, from a byte on."""
        return cuda.as_cuda_array(Memory(address(buffer) + offset, shape, dtype, buffer))

    def taken(self, value: Any) -> Any:
        """An array of another library, by the CUDA array interface or DLPack, once what it waits for is done.

        Raises
        ------
        FeedError
            Where it lies on another device.
        """
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_any_interface(value, stream_ptr=int(self.stream.handle))
        if view.device_id != self.device:
            raise FeedValueError(
                f"lies on device {view.device_id}, and device {self.device} is current",
                hint=f"copy it there, or call the program with numba.cuda.gpus[{view.device_id}] current",
            )
        dtype = np.dtype(np.uint16) if view.dtype.name == "bfloat16" else view.dtype
        strides = None if view.strides is None else tuple(stride * dtype.itemsize for stride in view.strides)
        return cuda.as_cuda_array(Memory(view.ptr, tuple(view.shape), dtype, view, strides))

    def place(self, array: Any) -> int | None:
        """Where an array lies, which kernels of recorded work would find again; None where they would not, or could not
        load several elements at once."""
        place: int = address(array)
        return place if place % ACCESS == 0 else None

    def readable(self, array: Any) -> Any:
        """An array, or a copy of one of which kernels could not load several elements at once."""
        if self.place(array) is not None:
            return array
        copy = self.new(array.shape, array.dtype)
        self.copy(array, copy)
        return copy

    def at(self, place: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """What lies there as an array, which does not keep it alive."""
        return cuda.as_cuda_array(Memory(place, shape, dtype, None))

    def flags(self, count: int) -> tuple[np.ndarray, Any]:
        """Zeros (int32) in memory of the host that the device writes to, as the host's array and as the device's."""
        mapped = cuda.mapped_array(count, np.int32)
        host = np.asarray(mapped).view(np.ndarray)
        host[:] = 0
        return host, cuda.as_cuda_array(Memory(address(mapped), (count,), host.dtype, mapped))

    def uploader(self, to: Any) -> Callable[[np.ndarray], None]:
        """What stores a C-contiguous array of the host in pageable memory, which may be changed once that returns."""
        place = address(to)

        def upload(values: np.ndarray) -> None:
            self._copy(place, values.ctypes.data, values.nbytes)
            if self._reads_host:
                self.wait()

        return upload

    def upload(self, values: np.ndarray, to: Any) -> None:
        """Store a C-contiguous array of the host, which may be changed once this returns."""
        self.uploader(to)(values)
        if self._is_registered(values):
            self.wait()  # the device reads it itself, when its turn comes; of other memory the driver takes a copy

    def _is_registered(self, values: np.ndarray) -> bool:
        """Whether CUDA knows of an array's memory: it is pinned, mapped or managed."""
        from cuda.bindings import driver

        kind = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        return bool(driver.cuPointerGetAttribute(kind, values.ctypes.data)[0] == driver.CUresult.CUDA_SUCCESS)

    def copy(self, array: Any, to: Any) -> None:
        """Store an array of the device into another one."""
        self._copy(address(to), address(array), array.nbytes)

    def download(self, array: Any) -> np.ndarray:
        """A C-contiguous array's values on the host, once all work before is done."""
        values = np.empty(array.shape, array.dtype)
        self._copy(values.ctypes.data, address(array), array.nbytes)
        self.wait()
        return values

    @_explained
    def _copy(self, to: int, source: int, nbytes: int) -> None:
        from cuda.bindings import driver

        if nbytes:
            (status,) = driver.cuMemcpyAsync(to, source, nbytes, self._handle)
            if status != driver.CUresult.CUDA_SUCCESS:
                raise RuntimeError(status.name)

    @_explained
    def run(self, work: Callable[[Any], Any]) -> bool:
        """Let `work` put something into the stream; whether that can be recorded, since the host computed nothing."""
        before = self.host_calls
        work(self.stream)
        return self.host_calls == before

    @_explained
    def recorded(self, work: Callable[[Any], Any]) -> Callable[[], None]:
        """What does again what `work` puts into the stream that it is given, which does not happen now.

        `work` must have been done before, so that its kernels are loaded; and all memory it uses must be kept.
        """
        builder = self._core.create_graph_builder()
        try:
            builder.begin_building()
            try:
                work(builder.stream)
            finally:
                builder.end_building()
            graph = builder.complete()
        finally:
            builder.close()
        replay: Callable[[], None] = functools.partial(graph.launch, self.stream)
        return _explained(replay)

    def lent(self, memory: Any, places: Sequence[tuple[int, tuple[int, ...], np.dtype]]) -> Lent | None:
        """Arrays in some memory that tell whether somebody holds them; None where that cannot be known."""
        start = address(memory)
        tokens = [Memory(start + offset, shape, dtype, memory) for offset, shape, dtype in places]
        arrays = tuple(map(cuda.as_cuda_array, tokens))
        return Lent(arrays, (*tokens, *(array.gpu_data for array in arrays)))

    @_explained
    def wait(self) -> None:
        """Wait until all work is done."""
        self.stream.sync()


class SimulatedQueue(Queue):
    """The simulator's one device."""

    def __init__(self) -> None:
        self.device, self.stream, self.host_calls = 0, 0, 0

    def _allocated(self, nbytes: int) -> Any:
        return cuda.device_array(nbytes, np.uint8)

    def subarray(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """A part of a buffer."""
        nbytes = dtype.itemsize * math.prod(shape)
        flat = buffer.reshape(buffer.size).view(np.uint8)
        return flat[offset : offset + nbytes].view(dtype).reshape(shape)

    def place(self, array: Any) -> None:
        """Not known."""

    def readable(self, array: Any) -> Any:
        """The array."""
        return array

    def flags(self, count: int) -> tuple[np.ndarray, Any]:
        """Zeros, twice the same."""
        device = cuda.to_device(np.zeros(count, np.int32))
        return np.asarray(device.data), device

    def uploader(self, to: Any) -> Callable[[np.ndarray], None]:
        """What stores an array."""
        store: Callable[[np.ndarray], None] = to.copy_to_device
        return store if to.size else lambda values: None  # it looks at the strides of nothing

    def _is_registered(self, values: np.ndarray) -> bool:
        """No."""
        return False

    def copy(self, array: Any, to: Any) -> None:
        """Store an array."""
        to.copy_to_device(array)

    def download(self, array: Any) -> np.ndarray:
        """A copy."""
        return np.array(array.copy_to_host())

    def recorded(self, work: Callable[[Any], Any]) -> Callable[[], None]:
        """The work itself."""
        return functools.partial(work, self.stream)

    def lent(self, memory: Any, places: Sequence[tuple[int, tuple[int, ...], np.dtype]]) -> None:
        """Not known."""

    def wait(self) -> None:
        """Nothing is under way."""


def address(array: Any) -> int:
    """Where an array of the device begins."""
    return int(array.__cuda_array_interface__["data"][0])


def queue_at_hand() -> Queue:
    """The queue of the thread's current device."""
    device = _device_at_hand()
    with _FIRST:
        return _queue(device)


def _device_at_hand() -> int:
    if SIMULATED:
        return 0
    from cuda.bindings import driver

    status, device = driver.cuCtxGetDevice()
    known = status == driver.CUresult.CUDA_SUCCESS  # else the thread has no context yet, and Numba makes it one
    return int(device) if known else int(cuda.get_current_device().id)


# A cache lets two threads that come first make a queue each.
_FIRST = threading.Lock()


@functools.cache
def _queue(device: int) -> Queue:
    return SimulatedQueue() if SIMULATED else Queue(device)
