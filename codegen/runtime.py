"""What generated host functions call besides kernels: memory that is cut into arrays, and the check before a gather."""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.core.typing.npydecl import parse_dtype
from numba.extending import overload
from numba.np.arrayobj import make_array
from numpy.typing import DTypeLike, NDArray

from graphc.codegen.intrinsics import contiguous_view, lowers

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
# From so many bytes on Linux is asked for huge pages, as by NumPy: each small page of fresh memory costs 0.25 us.
HUGE = 1 << 22
_PAGE = 4096
_MADV_HUGEPAGE = 14


def arena(nbytes: int) -> NDArray[np.uint8]:
    """Return `nbytes` uninitialised bytes that start on a 64-byte boundary (Numba's own `np.empty` promises 32).

    Parameters
    ----------
    nbytes
        How many; 0 is fine.
    """
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]


def subarray(buffer: NDArray[Any], offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a C-contiguous array in the bytes of `buffer`; it keeps the buffer alive.

    Parameters
    ----------
    buffer
        A contiguous 1-d array of uint8 or of `dtype`.
    offset
        Where the array starts, in bytes, a multiple of the item size. That the array ends inside the buffer is the
        caller's promise: compiled code does not check it.
    shape
        A tuple of integers, () for a 0-d array.
    dtype
        The element type, as a NumPy scalar type.
    """
    return np.ndarray(shape, dtype, buffer, offset)


def index_in_range(indices: Any, extent: int) -> bool:
    """Tell whether -extent <= k < extent for every k in `indices`: an integer, or a contiguous array of integers."""
    return bool(((-extent <= np.asarray(indices)) & (np.asarray(indices) < extent)).all())


@lowers(arena)
def _arena(_typing: Any, nbytes: types.Type) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        meminfo = context.nrt.meminfo_alloc_aligned(builder, args[0], ALIGNMENT)
        data = context.nrt.meminfo_data(builder, meminfo)
        if sys.platform == "linux":
            with builder.if_then(builder.icmp_signed(">=", args[0], args[0].type(HUGE)), likely=False):
                _ask_for_huge_pages(builder, data, args[0])
        view = contiguous_view(context, builder, signature.return_type, data, args, meminfo)
        return impl_ret_new_ref(context, builder, signature.return_type, view)

    return types.Array(types.uint8, 1, "C")(types.intp), generate


def _ask_for_huge_pages(builder: Any, data: Any, nbytes: Any) -> None:
    """Emit ``madvise`` on the whole pages of some memory; that it may fail does not matter."""
    intp = nbytes.type
    kind = ir.FunctionType(cgutils.int32_t, [cgutils.voidptr_t, intp, cgutils.int32_t])
    madvise = cgutils.get_or_insert_function(builder.module, kind, "madvise")
    address = builder.ptrtoint(data, intp)
    start = builder.and_(builder.add(address, intp(_PAGE - 1)), intp(-_PAGE))
    length = builder.sub(nbytes, builder.sub(start, address))
    builder.call(madvise, [builder.inttoptr(start, cgutils.voidptr_t), length, cgutils.int32_t(_MADV_HUGEPAGE)])


@lowers(subarray)
def _subarray(_typing: Any, buffer: types.Type, offset: types.Type, shape: types.Type, dtype: types.Type) -> Any:
    element = parse_dtype(dtype)
    if not (isinstance(buffer, types.Array) and buffer.ndim == 1 and buffer.layout == "C"):
        raise errors.TypingError(f"subarray: the buffer must be a contiguous 1-d array, not {buffer}")
    if buffer.dtype not in (types.uint8, element):
        raise errors.TypingError(f"subarray: a buffer of {buffer.dtype} cannot hold an array of {element}")
    if not (isinstance(shape, types.BaseTuple) and all(isinstance(extent, types.Integer) for extent in shape)):
        raise errors.TypingError(f"subarray: the shape must be a tuple of integers, not {shape}")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memory = make_array(buffer)(context, builder, args[0])
        data = cgutils.pointer_add(builder, memory.data, args[1])
        extents = cgutils.unpack_tuple(builder, args[2])
        view = contiguous_view(context, builder, signature.return_type, data, extents, memory.meminfo)
        return impl_ret_borrowed(context, builder, signature.return_type, view)

    array = types.Array(element, len(shape), "C", readonly=not buffer.mutable)
    return array(buffer, types.intp, types.UniTuple(types.intp, len(shape)), dtype), generate


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous array as a 1-d one (`reshape` costs 0.1 s of compile)."""
    return array.reshape(-1)


@lowers(flat)
def _flat_array(_typing: Any, array: types.Type) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = make_array(array)(context, builder, args[0])
        view = contiguous_view(context, builder, signature.return_type, whole.data, [whole.nitems], whole.meminfo)
        return impl_ret_borrowed(context, builder, signature.return_type, view)

    return array.copy(ndim=1)(array), generate


@overload(index_in_range)
def _index_in_range(indices: Any, extent: Any) -> Any:
    def one(indices: Any, extent: Any) -> Any:
        return -extent <= indices < extent

    def every(indices: Any, extent: Any) -> Any:
        inside = True
        for k in flat(indices):
            inside &= (-extent <= k) & (k < extent)
        return inside

    if isinstance(indices, types.Integer):
        return one
    if isinstance(indices, types.Array) and isinstance(indices.dtype, types.Integer) and indices.layout == "C":
        return every
    raise errors.TypingError(f"index_in_range: the indices must be contiguous integers, not {indices}")
