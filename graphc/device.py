"""The CUDA target at run time: parameters and programs on a device."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.codegen.cuda.emit import Grid
from graphc.emitted import Emitted, bits_of
from graphc.executable import Chosen, Executable, out_of_range
from graphc.ir.dims import bind
from graphc.ir.errors import CompileValueError, DeviceMemoryError
from graphc.ir.graph import Graph
from graphc.ir.interpret import bind_dims
from graphc.ir.loops import ON_CHIP
from graphc.parameters import HOST, Storage
from graphc.passes.pack import Slot


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
    if not _cuda().is_available():
        raise CompileValueError(
            "the target 'cuda' found no NVIDIA GPU that works (nvidia-smi lists those that the driver knows)",
            hint='use target="cpu", or NUMBA_ENABLE_CUDASIM=1 to run kernels slowly in Python',
        )


def grid_of(target: str) -> Grid | None:
    """How a target's kernels are mapped to a GPU; None where they are not."""
    return Grid.at_hand() if target == "cuda" else None


class DeviceBlock:
    """A flat array of parameters, on the host until a program on the device needs it, and from then on there."""

    def __init__(self, dtype: np.dtype, host: np.ndarray | None = None, device: Any = None) -> None:
        self.dtype, self._host, self._device = dtype, host, device
        self._lock = threading.RLock()  # programs share blocks, and only the first to come uploads

    @property
    def array(self) -> Any:
        """The array on the device, of halves their bits."""
        with self._lock:
            if self._host is not None:
                self._device, self._host = uploaded(self._host), None
            return self._device

    def copy(self) -> DeviceBlock:
        """Another block with the same values."""
        with self._lock:
            if self._host is not None:
                return DeviceBlock(self.dtype, self._host.copy())
            device = _cuda().device_array_like(self._device)
            device.copy_to_device(self._device)
            return DeviceBlock(self.dtype, device=device)

    def read(self, slot: Slot) -> np.ndarray:
        """A read-only copy of a parameter on the host."""
        part = slice(slot.offset, slot.offset + slot.size)
        with self._lock:
            flat = self._device[part].copy_to_host().view(self.dtype) if self._host is None else self._host[part].copy()
        values: np.ndarray = flat.reshape(slot.shape)
        values.setflags(write=False)
        return values

    def write(self, slot: Slot, values: np.ndarray) -> None:
        """Store a parameter."""
        part = slice(slot.offset, slot.offset + slot.size)
        flat = np.ascontiguousarray(values).reshape(-1)
        with self._lock:
            if self._host is not None:
                self._host[part] = flat
            elif flat.size:
                self._device[part].copy_to_device(bits_of(flat))


class DeviceStorage(Storage):
    """Parameters in a device's memory; users read copies."""

    def new(self, values: np.ndarray) -> DeviceBlock:
        """A block that holds these values."""
        return DeviceBlock(values.dtype, values)

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


class DeviceExecutable(Executable):
    """The kernels of an emitted module: inputs are uploaded where they are on the host, results stay on the device.

    One call at a time: temporaries lie in memory that the next one uses again. Results of float16 are such arrays; of
    bfloat16, which NumPy does not know, their bits as uint16.
    """

    def __init__(self, graph: Graph, emitted: Emitted) -> None:
        super().__init__(graph, self._choice)
        self._emitted, self._leaves = emitted, dict(zip(self.input_names, graph.inputs, strict=True))
        self._lock = threading.Lock()
        self._constants: list[Any] | None = None  # on the device, from the first call on
        self._memory: Any = None

    def __call__(self, inputs: Sequence[Any], blocks: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs."""
        with self._lock:
            try:
                arrays = [*map(uploaded, inputs), *(block.array for block in blocks)]
                function, extra = self._choice(arrays)
                results = function(*arrays, *extra)
            except IndexError as error:
                raise out_of_range(self.graph, error) from error
            except DeviceMemoryError as error:
                error.message += f"; {self._largest(inputs)}"
                error.where, error.hint = self.graph.name, "feed fewer examples at a time"
                raise
        values = (results,) if len(self.output_names) == 1 else tuple(results or ())
        return tuple(
            value.view(np.float16) if node.dtype == np.float16 else value
            for value, node in zip(values, self.graph.outputs, strict=True)
        )

    def _choice(self, arguments: Sequence[Any]) -> Chosen:
        from graphc.codegen.cuda.runtime import arena

        plan = self._emitted.program.arena
        need = bind(plan.size, self._sizes(arguments)) if plan is not None else 0
        if self._constants is None:
            self._constants = [uploaded(array) for array in self._emitted.constants]
        if self._memory is None or self._memory.size < need:
            self._memory = None  # freed before more is asked for
            self._memory = arena(need)
        return self._emitted.function, (*self._constants, self._memory)

    def _sizes(self, arguments: Sequence[Any]) -> Mapping[str, int]:
        shapes = {name: tuple(np.shape(array)) for name, array in zip(self._leaves, arguments, strict=False)}
        return bind_dims(self._leaves, shapes)

    def _largest(self, inputs: Sequence[Any]) -> str:
        """What fills the memory, in words: the largest buffers of the program at these sizes."""
        sizes = self._sizes(inputs)
        buffers = [each for each in self._emitted.program.buffers if each.base is None and each.space not in ON_CHIP]
        largest = sorted(((bind(each.nbytes, sizes), each.name, each) for each in buffers), reverse=True)[:3]
        named = ", ".join(f"{name}: {buffer.type} ({size:,})" for size, name, buffer in largest)
        return f"the largest of the program's buffers are {named}"


def uploaded(value: Any) -> Any:
    """An array on the device, of halves their bits; numbers stay what they are."""
    from graphc.codegen.cuda.runtime import to_device

    bits = bits_of(value)
    return to_device(bits) if isinstance(bits, np.ndarray) else bits


def taken(array: Any, rows: np.ndarray, axis: int = 0) -> Any:
    """Some rows of an array on the device, gathered there."""
    from graphc.codegen.cuda.functions import take_rows

    flat = array.reshape(array.shape[0], array.size // array.shape[0])
    found = _cuda().device_array((len(rows), flat.shape[1]), array.dtype)
    grid = Grid.at_hand()
    take_rows[grid.blocks, grid.threads](flat, uploaded(rows), found)
    return found.reshape(len(rows), *array.shape[1:])


def device_array(value: Any) -> Any:
    """A value that lies on a device as an array of the device; None where it does not."""
    if hasattr(value, "__cuda_array_interface__"):
        return _cuda().as_cuda_array(value)
    return value if hasattr(value, "__cuda_ndarray__") else None  # the simulator's


def _cuda() -> Any:
    """numba-cuda, which programs for the CPU do without."""
    from numba import cuda

    return cuda
