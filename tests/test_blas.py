import itertools

import numpy as np
import pytest
from numba import boolean, float32, float64, int32, njit, types, uint64, void
from numba.core.errors import TypingError

from graphc.codegen.blas import dot, gemm, gemv

DTYPES = {np.float32: float32, np.float64: float64, np.int32: int32, np.uint64: uint64, np.bool_: boolean}


def product(a, b, out, transpose_a, transpose_b, alpha, beta):
    gemm(a, b, out, transpose_a, transpose_b, alpha, beta)


def compiled_product(element, ndims=(2, 2, 2)):
    arrays = [types.Array(element, ndim, "C", readonly=i < 2) for i, ndim in enumerate(ndims)]
    return njit(void(*arrays, boolean, boolean, float64, float64))(product)


def random(rng, dtype, shape):
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype is np.bool_ else 1000, shape).astype(dtype)


def junk(dtype, shape):
    """What uninitialised memory may hold."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 1, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm(dtype):
    rng = np.random.default_rng(0)
    compiled = compiled_product(DTYPES[dtype])
    shapes = [*itertools.product([0, 1, 3], repeat=3), (17, 33, 5)]
    for (m, n, k), transpose_a, transpose_b in itertools.product(shapes, [False, True], [False, True]):
        a = random(rng, dtype, (k, m) if transpose_a else (m, k))
        b = random(rng, dtype, (n, k) if transpose_b else (k, n))
        expected = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
        for function in (compiled, gemm):
            out = junk(dtype, (m, n))
            function(a, b, out, transpose_a, transpose_b, 1.0, 0.0)
            np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_factors(dtype):
    rng = np.random.default_rng(1)
    compiled = compiled_product(DTYPES[dtype])
    for k in (0, 3):
        a, b, start = (random(rng, dtype, shape) for shape in ((2, k), (k, 4), (2, 4)))
        two, three = np.array([2, 3], dtype)
        expected = two * (a @ b) + three * start
        for function in (compiled, gemm):
            out = start.copy()
            function(a, b, out, False, False, 2.0, 3.0)
            np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_gemm_of_stacks(dtype):
    rng = np.random.default_rng(2)
    both, shared = (compiled_product(DTYPES[dtype], ndims) for ndims in ((4, 4, 4), (4, 2, 4)))
    for leading in ((2, 3), (0, 3), (1, 1)):
        a, b = random(rng, dtype, (*leading, 4, 5)), random(rng, dtype, (*leading, 6, 5))
        for function in (both, gemm):
            out = junk(dtype, (*leading, 4, 6))
            function(a, b, out, False, True, 1.0, 0.0)
            np.testing.assert_allclose(out, a @ b.swapaxes(-1, -2), rtol=1e-4)
        b = random(rng, dtype, (4, 6))
        for function in (shared, gemm):
            out = junk(dtype, (*leading, 5, 6))
            function(a, b, out, True, False, 1.0, 0.0)
            np.testing.assert_allclose(out, a.swapaxes(-1, -2) @ b, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemv(dtype):
    def product(a, x, out, transpose_a, alpha, beta):
        gemv(a, x, out, transpose_a, alpha, beta)

    rng = np.random.default_rng(3)
    element = DTYPES[dtype]
    signature = void(element[:, ::1], element[::1], element[::1], boolean, float64, float64)
    compiled = njit(signature)(product)
    for m, k, transpose in itertools.product([0, 1, 3, 70], [0, 1, 3, 70], [False, True]):
        a, x, start = random(rng, dtype, (k, m) if transpose else (m, k)), random(rng, dtype, k), random(rng, dtype, m)
        expected = (a.T if transpose else a) @ x
        two, three = np.array([2, 3], dtype)
        for function in (compiled, gemv):
            out = junk(dtype, m)
            function(a, x, out, transpose, 1.0, 0.0)
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
            out = start.copy()
            function(a, x, out, transpose, 2.0, 3.0)
            np.testing.assert_allclose(out, two * expected + three * start, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dot(dtype):
    def product(a, b):
        return dot(a, b)

    rng = np.random.default_rng(4)
    element = DTYPES[dtype]
    compiled = njit(element(element[::1], element[::1]))(product)
    for n in (0, 1, 100):
        a, b = random(rng, dtype, n), random(rng, dtype, n)
        for function in (compiled, dot):
            np.testing.assert_allclose(function(a, b), a @ b, rtol=1e-4, atol=1e-4)


def test_defaults_and_keywords():
    @njit(void(float64[:, ::1], float64[:, ::1], float64[:, ::1]))
    def add_square(a, b, out):
        gemm(a, b, out)
        gemm(a, b, out, transpose_b=True, beta=1)
        gemm(a, b, out, alpha=float32(0.5), beta=1.0, transpose_a=True)

    a, b = np.random.default_rng(5).random((2, 3, 3))
    out = junk(np.float64, (3, 3))
    add_square(a, b, out)
    np.testing.assert_allclose(out, a @ b + a @ b.T + 0.5 * a.T @ b)


def test_integers_wrap_as_in_numpy():
    a = np.full((1, 2), 2**31 - 1, np.int32)
    out = np.empty((1, 1), np.int32)
    compiled_product(int32)(a, a, out, False, True, 1.0, 0.0)
    assert out == a @ a.T == 2


def test_a_dimension_that_blas_cannot_count():
    a, b = np.empty((2**31, 0)), np.empty((0, 0))
    with pytest.raises(OverflowError, match=r"dimension of 2\*\*31 or more"):
        compiled_product(float64)(a, b, a.copy(), False, False, 1.0, 0.0)


def call_gemm(a, b, out):
    gemm(a, b, out)


def call_gemv(a, x, out):
    gemv(a, x, out)


@pytest.mark.parametrize(
    ("call", "arrays", "message"),
    [
        (call_gemm, (float32[:, ::1], float64[:, ::1], float64[:, ::1]), "of one dtype, not array"),
        (call_gemm, (float32[:, :], float32[:, ::1], float32[:, ::1]), "gemm wants C-contiguous"),
        (call_gemm, (float32[::1], float32[:, ::1], float32[:, ::1]), "cannot multiply 1-d and 2-d"),
        (call_gemv, (float32[:, ::1], float32[::1], float32[:, ::1]), "into a 2-d one"),
    ],
)
def test_operands_that_cannot_be_read(call, arrays, message):
    with pytest.raises(TypingError, match=message):
        njit(void(*arrays))(call)
