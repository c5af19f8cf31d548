"""The CUDA target at run time: what is on the device, parameters above all."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import numpy as np

from graphc.emitted import bits_of
from graphc.ir.errors import CompileValueError, FeedValueError
from graphc.parameters import HOST, Storage
from graphc.passes.pack import Slot

# Kinds of device in the DLPack protocol: CUDA's memory, and what CUDA manages.
_DLPACK_CUDA = (2, 13)


def check_device() -> None:
    """Refuse the CUDA target where it cannot run.

    Raises
    ------
    CompileError
        Without numba-cuda, or without a device.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise CompileValueError(
            "the target 'cuda' needs numba-cuda, which is not installed",
            hint='pip install "graphc[cuda]", or use target="cpu"',
        )
    from numba import cuda

    if not cuda.is_available():
        raise CompileValueError(
            "the target 'cuda' found no NVIDIA GPU that works (nvidia-smi lists those that the driver knows)",
            hint='use target="cpu", or NUMBA_ENABLE_CUDASIM=1 to run kernels slowly in Python',
        )


def queue_at_hand() -> Any:
    """The `Queue` of the thread's current device. (Programs for the CPU import nothing of CUDA.)"""
    from graphc.codegen.cuda import queue

    return queue.queue_at_hand()


class DeviceBlock:
    """A flat array of parameters, on the host until a program on the device needs it, and from then on there.

    Attributes
    ----------
    lasting
        Whether it lives as long as a program, not for one call.
    """

    def __init__(self, values: np.ndarray, lasting: bool = True) -> None:
        self.dtype, self.lasting = values.dtype, lasting
        self._host: np.ndarray | None = values
        self._device: Any = None
        self._queue: Any = None
        self._lock = threading.RLock()  # programs share blocks, and only the first to come uploads

    @property
    def array(self) -> Any:
        """The array on the device, of halves their bits."""
        with self._lock:
            if self._host is not None:
                self._queue = queue_at_hand()
                self._device, self._host = uploaded(self._host), None
            elif self._queue is not (queue := queue_at_hand()):
                raise FeedValueError(
                    f"the parameters are on device {self._queue.device}, and device {queue.device} is current",
                    hint=f"call the program with numba.cuda.gpus[{self._queue.device}] current",
                )
            return self._device

    def copy(self) -> DeviceBlock:
        """Another block with the same values, for one call."""
        with self._lock:
            if self._host is not None:
                return DeviceBlock(self._host.copy(), lasting=False)
            block = DeviceBlock(np.empty(0, self.dtype), lasting=False)
            block._host, block._queue = None, self._queue
            block._device = self._queue.new(self._device.shape, self._device.dtype)
            self._queue.copy(self._device, block._device)
            return block

    def read(self, slot: Slot) -> np.ndarray:
        """A read-only copy of a parameter on the host."""
        with self._lock:
            if self._host is not None:
                flat = self._host[slot.offset : slot.offset + slot.size].copy()
            else:
                flat = self._queue.download(self._part(slot.offset, slot.size)).view(self.dtype)
        values: np.ndarray = flat.reshape(slot.shape)
        values.setflags(write=False)
        return values

    def write(self, slot: Slot, values: np.ndarray) -> None:
        """Store a parameter."""
        flat = np.ascontiguousarray(values).reshape(-1)
        with self._lock:
            if self._host is not None:
                self._host[slot.offset : slot.offset + slot.size] = flat
            else:
                self._queue.upload(bits_of(flat), self._part(slot.offset, slot.size))

    def _part(self, offset: int, size: int) -> Any:
        """A part of the array on the device."""
        dtype = self._device.dtype
        return self._queue.subarray(self._device, offset * dtype.itemsize, (size,), dtype)


class DeviceStorage(Storage):
    """Parameters in a device's memory; users read copies."""

    def new(self, values: np.ndarray) -> DeviceBlock:
        """A block that holds these values."""
        return DeviceBlock(values)

    def view(self, block: DeviceBlock, slot: Slot) -> tuple[DeviceBlock, Slot]:
        """The part of a block that is one parameter."""
        return block, slot

    def read(self, view: tuple[DeviceBlock, Slot]) -> np.ndarray:
        """A read-only copy on the host."""
        block, slot = view
        return block.read(slot)

    def write(self, view: tuple[DeviceBlock, Slot], values: np.ndarray) -> None:
        """Upload new values."""
        block, slot = view
        block.write(slot, values)


STORAGE: dict[str, Storage] = {"cpu": HOST, "interpret": HOST, "cuda": DeviceStorage()}


def uploaded(values: np.ndarray) -> Any:
    """A C-contiguous array on the device, of halves their bits.

    Raises
    ------
    DeviceMemoryError
        Where there is no memory for it.
    """
    queue, bits = queue_at_hand(), np.require(bits_of(values), requirements="C")
    array = queue.new(bits.shape, bits.dtype)
    queue.upload(bits, array)
    return array


def on_host(value: Any) -> bool:
    """Whether a prepared input, or a number, lies on the host."""
    return isinstance(value, (np.ndarray, np.generic, float))


def device_array(value: Any) -> Any:
    """A value that lies on a device as an array of the current one; None where it lies on the host.

    Raises
    ------
    FeedError
        Where it lies on another device.
    """
    if hasattr(value, "__cuda_ndarray__") and not hasattr(value, "__cuda_array_interface__"):
        return value  # the simulator's
    if not (hasattr(value, "__cuda_array_interface__") or _dlpack_kind(value) in _DLPACK_CUDA):
        return None
    return queue_at_hand().taken(value)


def _dlpack_kind(value: Any) -> int | None:
    """The kind of device that an array lies on, where it tells by the DLPack protocol."""
    return value.__dlpack_device__()[0] if hasattr(value, "__dlpack_device__") else None
