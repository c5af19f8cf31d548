import gc

import numpy as np
import pytest
from numba import boolean, float32, float64, int64, njit, types, uint8
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

from graphc.codegen.runtime import arena, index_in_range, subarray


@njit
def three_arrays(n):
    memory = arena(64 * n + 128)
    matrix = subarray(memory, 64, (n, 4), np.float64)
    scalar = subarray(memory, 0, (), np.float32)
    cube = subarray(memory, 64 + 32 * n, (n, 1, 2), np.int8)
    matrix[:] = 1.5
    scalar[()] = 2.5
    cube[:] = -3
    return memory, matrix, scalar, cube


@pytest.mark.parametrize("function", [three_arrays, three_arrays.py_func])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_arrays_in_an_arena(function, n):
    memory, matrix, scalar, cube = function(n)
    assert memory.shape == (64 * n + 128,)
    assert memory.ctypes.data % 64 == 0
    assert (matrix.shape, matrix.dtype) == ((n, 4), np.float64)
    assert (scalar.shape, scalar.dtype) == ((), np.float32)
    assert (cube.shape, cube.dtype) == ((n, 1, 2), np.int8)
    assert all(array.flags.c_contiguous for array in (matrix, scalar, cube))
    assert (matrix == 1.5).all() and scalar == 2.5 and (cube == -3).all()
    np.testing.assert_array_equal(memory[64 : 64 + 32 * n].view(np.float64), matrix.ravel())
    np.testing.assert_array_equal(memory[64 + 32 * n : 64 + 34 * n].view(np.int8), cube.ravel())


@pytest.fixture
def allocations():
    """Numba's count of allocations and frees, which it keeps on request."""
    _nrt_python.memsys_enable_stats()
    yield rtsys.get_allocation_stats
    _nrt_python.memsys_disable_stats()


def test_a_view_keeps_its_arena_and_lets_it_go(allocations):
    @njit(float64[::1](int64))
    def view(n):
        return subarray(arena(8 * n), 0, (n,), np.float64)

    @njit(float64(int64))
    def total(n):
        values = subarray(arena(8 * n), 0, (n,), np.float64)
        values[:] = 1
        return values.sum()

    gc.collect()
    before = allocations()
    values = view(1000)
    values[:] = 7
    others = [view(1000) for _ in range(10)]
    for other in others:
        other[:] = 0
    assert (values == 7).all()
    assert total(1000) == 1000
    del values, other, others
    gc.collect()
    after = allocations()
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free == 12


def parameters(buffer):
    return subarray(buffer, 8, (2, 3), np.float32)


@pytest.mark.parametrize("writeable", [True, False])
def test_a_buffer_of_the_same_dtype_counts_in_bytes(writeable):
    buffer = np.arange(10, dtype=np.float32)
    buffer.flags.writeable = writeable
    for function in (njit(parameters), parameters):
        weights = function(buffer)
        np.testing.assert_array_equal(weights, [[2, 3, 4], [5, 6, 7]])
        assert np.shares_memory(weights, buffer)
        assert weights.flags.writeable == writeable


@pytest.mark.parametrize(
    ("buffer", "shape", "message"),
    [
        (uint8[:, ::1], types.UniTuple(int64, 1), "must be a contiguous 1-d array"),
        (uint8[:], types.UniTuple(int64, 1), "must be a contiguous 1-d array"),
        (float32[::1], types.UniTuple(int64, 1), "a buffer of float32 cannot hold an array of float64"),
        (uint8[::1], types.UniTuple(float64, 1), "must be a tuple of integers"),
        (uint8[::1], int64, "must be a tuple of integers"),
    ],
)
def test_buffers_that_cannot_be_cut(buffer, shape, message):
    with pytest.raises(TypingError, match=message):
        njit((buffer, shape))(lambda buffer, shape: subarray(buffer, 0, shape, np.float64))


def in_range(indices, extent):
    return index_in_range(indices, extent)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.uint64])
def test_index_in_range(dtype):
    jitted = njit(in_range)
    limits = np.iinfo(dtype)
    for function in (jitted, in_range):
        assert function(np.empty((0, 2), dtype), 0)
        assert not function(np.zeros((1, 2), dtype), 0)
        assert function(np.array([[0, 1], [2, 4]], dtype), 5)
        assert not function(np.array([[0, 1], [5, 4]], dtype), 5)
        assert not function(np.array([limits.max], dtype), 5)
        assert function(np.array(3, dtype), 4) and not function(np.array(3, dtype), 3)
        if limits.min < 0:
            assert function(np.array([-5, 0, 4], dtype), 5)
            assert not function(np.array([-5, -6, 4], dtype), 5)
            assert not function(np.array([limits.min], dtype), 5)


def test_one_index_in_range():
    jitted = njit(boolean(int64, int64))(in_range)
    for function in (jitted, in_range):
        assert [function(k, 2) for k in (-3, -2, 1, 2)] == [False, True, True, False]


def test_indices_that_are_none():
    with pytest.raises(TypingError, match="indices must be contiguous integers, not array"):
        njit(boolean(float32[::1], int64))(in_range)
