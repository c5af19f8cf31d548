"""Kernels run here: lanes that stand at the same place run together, those at the lowest place first.

Lanes are in groups, some of the blocks and of their warps, and one runs as far as it can before the next does. Any
order of them is a GPU's. A kernel is run in one order, what it stored is taken back, and it is run in the other: where
the results differ, threads meet in memory without a barrier between them.
"""

from __future__ import annotations

import ctypes
import heapq
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emulator import arithmetic
from emulator.ptx import LOCAL_WINDOW, SHARED_WINDOW, Kernel, Module
from emulator.translate import translated

WARP = 32
ILLEGAL_ADDRESS, MISALIGNED_ADDRESS, LAUNCH_FAILED = 700, 716, 719  # of CUresult
_WHY = {1: (ILLEGAL_ADDRESS, "outside of all allocations"), 2: (MISALIGNED_ADDRESS, "that is not aligned")}
_ATOMIC = {
    "add": lambda old, new: old + new, "min": min, "max": max, "and": lambda old, new: old & new,
    "or": lambda old, new: old | new, "xor": lambda old, new: old ^ new, "exch": lambda old, new: new,
    "cas": lambda old, expected, new: new if old == expected else old,
    "inc": lambda old, limit: old * 0 if old >= limit else old + old.dtype.type(1),
    "dec": lambda old, limit: limit if old == 0 or old > limit else old - old.dtype.type(1),
}  # fmt: skip


def readable(name: str) -> str:
    """A kernel's name in Python, of the one that numba-cuda gives it."""
    parts, rest = [], name.removeprefix("_ZN")
    while rest[:1].isdigit():
        digits = len(rest) - len(rest.lstrip("0123456789"))
        size = int(rest[:digits])
        parts.append(rest[digits : digits + size])
        rest = rest[digits + size :]
    return ".".join(parts) or name


class KernelFault(Exception):
    """What a kernel did that a GPU punishes."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Launch(ctypes.Structure):  # as in driver.c
    _fields_ = (
        ("shared", ctypes.c_void_p), ("local", ctypes.c_void_p),
        ("shared_size", ctypes.c_uint64), ("local_size", ctypes.c_uint64), ("threads", ctypes.c_uint64),
    )  # fmt: skip


class Memory:
    """The device's memory, as the driver keeps it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        pointer, count = ctypes.c_void_p, ctypes.c_long
        library.emulator_access.restype = count
        library.emulator_access.argtypes = [
            pointer, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, count, pointer, pointer, pointer, pointer,
        ]  # fmt: skip
        library.emulator_bytes.restype = ctypes.c_uint64
        library.emulator_bytes.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
        for kind, function in (("f", library.emulator_fma32), ("d", library.emulator_fma64)):
            function.restype, function.argtypes = None, [count, pointer, pointer, pointer, pointer]
            arithmetic.fused[kind] = function

    def allocate(self, size: int) -> int:
        """The address of so many new bytes."""
        address = ctypes.c_uint64()
        code = self.library.emulator_allocate(ctypes.byref(address), ctypes.c_uint64(size))
        if code:
            raise KernelFault(code, f"no memory for {size} bytes")
        return address.value

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.array(address, len(data), np.uint8)[:] = np.frombuffer(data, np.uint8)

    def array(self, address: int, count: int, dtype: Any) -> np.ndarray:
        """What lies at an address, not copied."""
        size = count * np.dtype(dtype).itemsize
        if not size:
            return np.empty(0, dtype)
        bytes_there = self.library.emulator_bytes(address, size)
        if not bytes_there:
            raise KernelFault(ILLEGAL_ADDRESS, f"{size} bytes at {address:#x} are not all of one allocation")
        return np.frombuffer((ctypes.c_char * size).from_address(bytes_there), dtype, count)


class Program:
    """A loaded module."""

    def __init__(self, text: str, memory: Memory) -> None:
        self.module, self.memory = Module(text), memory
        for variable in self.module.variables.values():
            if variable.space in ("global", "const") and variable.size:
                variable.address = memory.allocate(variable.size)
                memory.write(variable.address, variable.initial.ljust(variable.size, b"\0"))
        self.kernels: dict[str, Kernel] = {}
        self.pieces: dict[str, Any] = {}

    def kernel(self, name: str) -> Kernel:
        """A kernel by its name, made ready to run."""
        if name not in self.kernels:
            self.kernels[name] = self.module.kernel(name)
            self.pieces[name] = translated(self.kernels[name])
        return self.kernels[name]

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], params: bytes, shared: int = 0) -> None:
        """Run a kernel to its end.

        Raises
        ------
        KernelFault
            Where it does what a GPU punishes.
        """
        kernel = self.kernel(name)
        given = (kernel, self.pieces[name], self.memory, grid, block, params, shared)
        with np.errstate(all="ignore"):
            first = _Run(*given, backwards=True)
            first.to_end()
            if not first.atomics:  # sums of floats depend on the order
                _Run(*given, backwards=False).compare(first)


class _Store(NamedTuple):
    """Something that was stored: where, what was there before, by which lanes, and by which instruction."""

    address: np.ndarray
    before: np.ndarray
    lanes: np.ndarray
    place: int


def _in_a_window(address: Any) -> bool:
    return SHARED_WINDOW <= int(address) < 2 * LOCAL_WINDOW


class _Run:
    """One launch."""

    def __init__(
        self,
        kernel: Kernel,
        pieces: dict[int, Any],
        memory: Memory,
        grid: Sequence[int],
        block: Sequence[int],
        params: bytes,
        shared: int,
        backwards: bool,
    ) -> None:
        self.kernel, self.pieces, self.memory, self.params = kernel, pieces, memory, params
        self.grid, self.block = grid, block
        self.threads, self.blocks = int(np.prod(block)), int(np.prod(grid))
        self.lanes = self.threads * self.blocks
        self.all = np.arange(self.lanes)
        shared += kernel.shared
        self.shared = np.full(max(self.blocks * shared, 1), 0xFF, np.uint8)  # NaN, as long as nobody stores
        self.local = np.full(max(self.lanes * kernel.local, 1), 0xFF, np.uint8)
        self.about = _Launch(self.shared.ctypes.data, self.local.ctypes.data, shared, kernel.local, self.threads)
        self.registers: dict[str, np.ndarray] = {}
        self.ready: dict[tuple[int, int], list[np.ndarray]] = {}  # by group and place
        self.order: list[tuple[int, int]] = []
        self.waiting: dict[int, list[np.ndarray]] = {}
        self.backwards, self.atomics = backwards, False
        waits = any(each.operation.startswith("bar") for each in kernel.instructions)
        self.parts = 4 if shared or waits else 1  # groups of warps
        self.stored: list[_Store] = []  # in global memory

    def to_end(self) -> None:
        """Run until all lanes have ended."""
        self._go_apart(0, self.all)
        while self.order or self.waiting:
            if not self.order:
                self._release()
            first = heapq.heappop(self.order)
            parts = self.ready.pop(first)
            i = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self.pieces[first[1]](self, self.all if len(i) == self.lanes else i)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The addresses of all that was stored in global memory, in the smallest pieces, and what is there now."""
        if not self.stored:
            return np.empty(0, np.uint64), np.empty((0, 1), np.uint8)
        size = min(store.before.shape[1] for store in self.stored)
        each = [store.address[:, None] + np.arange(0, store.before.shape[1], size, np.uint64) for store in self.stored]
        addresses = np.sort(np.concatenate([some.reshape(-1) for some in each]))
        addresses = addresses[np.append(True, addresses[1:] != addresses[:-1])]
        return addresses, self._raw(addresses, np.empty((len(addresses), size), np.uint8), 0)

    def take_back(self) -> None:
        """Undo all that was stored in global memory."""
        for store in reversed(self.stored):
            self._raw(store.address, store.before, 1)

    def compare(self, other: _Run) -> None:
        """Check that both orders of running groups have stored the same."""
        addresses, values = other.result()
        other.take_back()
        self.to_end()
        again, found = self.result()
        if np.array_equal(addresses, again) and np.array_equal(values, found):
            return
        differ = np.setxor1d(addresses, again)
        byte = differ[0] if len(differ) else addresses[(values != found).any(axis=1)][0]
        for store in reversed((*other.stored, *self.stored)):
            hit = (store.address <= byte) & (byte < store.address + np.uint64(store.before.shape[1]))
            if hit.any():
                self.fail("what is stored depends on the order of warps or blocks", store.place, store.lanes[hit])

    # what lanes do next -----------------------------------------------------------------------------------------------

    def go(self, place: int, i: np.ndarray) -> None:
        """Lanes of one group go on at a place."""
        key = int(self._groups(i[:1])[0]), place
        if key not in self.ready:
            self.ready[key] = []
            heapq.heappush(self.order, key)
        self.ready[key].append(i)

    def _groups(self, i: np.ndarray) -> np.ndarray:
        """The groups of lanes; the lowest runs first."""
        block, thread = np.divmod(i, self.threads)
        warps = -(-self.threads // WARP)
        groups = block * 2 // self.blocks * self.parts + thread // WARP * self.parts // warps
        return 2 * self.parts - 1 - groups if self.backwards else groups

    def _go_apart(self, place: int, i: np.ndarray) -> None:
        """Lanes of any groups go on at a place."""
        groups = self._groups(i)
        for group in range(2 * self.parts):
            if len(those := i[groups == group]):
                self.go(place, those)

    def branch(self, condition: Any, place: int, otherwise: int, i: np.ndarray) -> None:
        """Lanes go on at one of two places."""
        if np.ndim(condition) == 0:
            self.go(place if condition else otherwise, i)
            return
        for target, those in ((place, i[condition]), (otherwise, i[~condition])):
            if len(those):
                self.go(target, those)

    def only(self, condition: Any, i: np.ndarray, otherwise: int) -> np.ndarray:
        """The lanes that are to run one instruction; the others go on behind it."""
        condition = np.broadcast_to(condition, len(i))
        if not condition.all():
            self.go(otherwise, i[~condition])
        return i[condition]

    def wait(self, place: int, i: np.ndarray) -> None:
        """Lanes wait for their blocks, and then go on at a place."""
        self.waiting.setdefault(place, []).append(i)

    def _release(self) -> None:
        """All that can run has run: blocks of which every thread waits at the same barrier go on."""
        for place, groups in self.waiting.items():
            i = np.concatenate(groups)
            arrived = np.bincount(i // self.threads, minlength=self.blocks)
            missing = (arrived > 0) & (arrived < self.threads)
            if missing.any():
                block = int(np.argmax(missing))
                there = f"{arrived[block]} of {self.threads} threads of block {block} wait"
                raise KernelFault(
                    LAUNCH_FAILED, f"{readable(self.kernel.name)}: {there} at a barrier for others that never come"
                )
            self._go_apart(place, i)
        self.waiting = {}

    def fail(self, what: str, place: int, i: np.ndarray, code: int = LAUNCH_FAILED) -> None:
        """Raise what one lane has done."""
        block, thread = divmod(int(i[0]), self.threads)
        where = f"thread {thread} of block {block}, at `{self.kernel.instructions[place].text}`"
        raise KernelFault(code, f"{readable(self.kernel.name)}: {what}, {where}")

    # registers --------------------------------------------------------------------------------------------------------

    def get(self, name: str, kind: str, i: np.ndarray) -> np.ndarray:
        """A register of some lanes."""
        if name not in self.registers:  # never set: anything
            self.registers[name] = np.full(self.lanes, 0xCD, np.uint8).astype(kind)
        values = self.registers[name]
        return values if len(i) == self.lanes else values[i]

    def set(self, name: str, value: Any, kind: str, i: np.ndarray) -> None:
        """Set a register of some lanes."""
        if len(i) == self.lanes and np.ndim(value):
            self.registers[name] = value
            return
        if name not in self.registers:
            self.registers[name] = np.empty(self.lanes, kind)
        self.registers[name][i] = value

    def special(self, name: str, i: np.ndarray) -> Any:
        """A special register."""
        base, _, dim = name[1:].partition(".")
        axis = "xyz".index(dim) if dim else 0
        if base in ("ntid", "nctaid"):
            return np.uint32((self.block if base == "ntid" else self.grid)[axis])
        if base in ("tid", "ctaid"):
            number = i % self.threads if base == "tid" else i // self.threads
            extents = self.block if base == "tid" else self.grid
            return (number // int(np.prod(extents[:axis])) % extents[axis]).astype(np.uint32)
        thread = i % self.threads
        if base == "laneid":
            return (thread % WARP).astype(np.uint32)
        if base == "warpid":
            return (thread // WARP).astype(np.uint32)
        if base.startswith("lanemask_"):
            bit = np.uint64(1) << (thread % WARP).astype(np.uint64)
            masks = {"eq": bit, "lt": bit - 1, "le": 2 * bit - 1, "gt": ~(2 * bit - 1), "ge": ~(bit - 1)}
            return masks[base[-2:]].astype(np.uint32)
        raise KernelFault(LAUNCH_FAILED, f"{readable(self.kernel.name)}: this machine has no {name}")

    # memory -----------------------------------------------------------------------------------------------------------

    def param(self, offset: int, kind: str) -> Any:
        """A parameter."""
        return np.frombuffer(self.params, kind, 1, offset)[0]

    def generic(self, address: Any, window: int) -> Any:
        """An address in a window as a generic one."""
        return (address & np.uint64(0xFFFFFFFF)) | np.uint64(window)

    def load(self, address: Any, kind: str, count: int, i: np.ndarray, place: int) -> np.ndarray:
        """`count` values for each lane; for all at once where they load from one address of global memory."""
        if np.ndim(address) == 0 and not _in_a_window(address):
            i, address = i[:1], np.reshape(address, 1)
            return self._access(address, np.empty((1, count), kind), i, place, 0)[0]
        return self._access(np.broadcast_to(address, len(i)), np.empty((len(i), count), kind), i, place, 0)

    def store(self, address: Any, values: Sequence[Any], kind: str, i: np.ndarray, place: int) -> None:
        """Store values of each lane."""
        table = np.empty((len(i), len(values)), kind)
        for column, value in enumerate(values):
            table[:, column] = value
        address = np.ascontiguousarray(np.broadcast_to(address, len(i)))
        if not _in_a_window(address[0]):
            raw = np.empty((len(i), table.shape[1] * table.itemsize), np.uint8)
            self.stored.append(_Store(address, self._access(address, raw, i, place, 0), i, place))
        self._access(address, table, i, place, 1)

    def _access(self, address: np.ndarray, table: np.ndarray, i: np.ndarray, place: int, store: int) -> np.ndarray:
        width, why = table.shape[1] * table.itemsize, ctypes.c_int()
        address, i = np.ascontiguousarray(address), np.ascontiguousarray(i)
        pointers = (each.__array_interface__["data"][0] for each in (address, i, table))
        done = self.memory.library.emulator_access(
            ctypes.byref(self.about), store, width, width, len(i), *pointers, ctypes.byref(why)
        )
        if done < len(i):
            code, reason = _WHY[why.value]
            self.fail(f"an address {reason}: {int(address[done]):#x} ({width} bytes)", place, i[done:], code)
        return table

    def _raw(self, address: np.ndarray, table: np.ndarray, store: int) -> np.ndarray:
        """Load or store in global memory what has been stored there."""
        return self._access(address, table, np.zeros(len(address), np.int64), 0, store)

    def atomic(
        self, action: str, address: Any, given: Sequence[Any], kind: str, i: np.ndarray, place: int
    ) -> np.ndarray:
        """Lanes change memory, one after the other."""
        before, self.atomics = np.empty(len(i), kind), True
        address = np.broadcast_to(address, len(i))
        given = [np.broadcast_to(each, len(i)) for each in given]
        for k in range(len(i)):
            one, where = i[k : k + 1], address[k : k + 1]
            old = self._access(where, np.empty((1, 1), kind), one, place, 0)[0, 0]
            new = np.array(_ATOMIC[action](old, *(each[k] for each in given)), kind)
            self._access(where, new.reshape(1, 1), one, place, 1)
            before[k] = old
        return before

    # warps ------------------------------------------------------------------------------------------------------------

    def _together(self, mask: Any, i: np.ndarray, place: int) -> None:
        """Check that all lanes of a warp are here that its mask names."""
        if len(i) == self.lanes:
            return
        thread, warps = i % self.threads, -(-self.threads // WARP)
        warp = i // self.threads * warps + thread // WARP
        named = np.minimum(self.threads - thread // WARP * WARP, WARP)  # those that there are
        here = np.bincount(warp, minlength=self.blocks * warps)[warp]
        if np.ndim(mask) or mask != 0xFFFFFFFF:
            mask = np.broadcast_to(mask, len(i)) & (0xFFFFFFFF >> (WARP - named)).astype(np.uint32)
            named, here = mask, self.active(i) & mask
        if (absent := named != here).any():
            self.fail("a lane of the warp is in the mask, but not here", place, i[absent])

    def shuffle(
        self, mode: str, value: Any, by: Any, clamp: Any, mask: Any, i: np.ndarray, place: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`shfl.sync`: what another lane of the warp has, and whether there is one."""
        self._together(mask, i, place)
        lane = (i % self.threads % WARP).astype(np.int64)
        by, clamp = np.int64(by) & 31, np.int64(clamp)
        segment, limit = clamp >> 8 & 31, clamp & 31
        least, most = lane & segment, (lane & segment) | (limit & ~segment)
        source = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": least | (by & ~segment)}[mode]
        valid = source >= most if mode == "up" else source <= most
        source = np.where(valid, source, lane)
        values = np.empty(self.lanes, np.uint32)
        values[i] = value
        where = i - lane + source
        outside = (where >= self.lanes) | (where // self.threads != i // self.threads)
        return np.where(outside, np.uint32(0xFFFFFFFF), values[np.where(outside, i, where)]), valid

    def vote(self, mode: str, condition: Any, mask: Any, i: np.ndarray, place: int) -> np.ndarray:
        """`vote.sync` over the lanes of a warp."""
        self._together(mask, i, place)
        ballot = self._ballot(np.broadcast_to(condition, len(i)), i)
        everyone = self._ballot(np.ones(len(i), bool), i)
        return {"ballot": ballot, "any": ballot != 0, "all": ballot == everyone,
                "uni": (ballot == 0) | (ballot == everyone)}[mode]  # fmt: skip

    def active(self, i: np.ndarray) -> np.ndarray:
        """The lanes of each one's warp that are here."""
        return self._ballot(np.ones(len(i), bool), i)

    def _ballot(self, condition: np.ndarray, i: np.ndarray) -> np.ndarray:
        warps = -(-self.threads // WARP)
        warp = i // self.threads * warps + i % self.threads // WARP
        bits = np.zeros(self.blocks * warps, np.uint32)
        np.bitwise_or.at(
            bits,
            warp,
            np.where(condition, np.uint32(1) << (i % self.threads % WARP).astype(np.uint32), 0).astype(np.uint32),
        )
        return bits[warp]


def param_table(kernel: Kernel) -> tuple[list[int], list[int]]:
    """The offsets and sizes of a kernel's parameters."""
    return [each.address for each in kernel.params.values()], [each.size for each in kernel.params.values()]


def image_size(header: bytes) -> int:
    """How long an ELF image is, by its header: to the end of its tables."""
    start, sections = struct.unpack_from("<QQ", header, 32)
    *_, program_size, program_count, section_size, section_count, _ = struct.unpack_from("<HHHHHH", header, 52)
    return int(max(start + program_size * program_count, sections + section_size * section_count))
