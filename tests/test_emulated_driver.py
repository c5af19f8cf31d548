"""What the emulated device's driver promises, as far as programs rely on it; `test_emulated.py` runs this there."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from emulator import running, start

if not running():
    pytest.skip("needs the emulated device: python -m emulator -m pytest ...", allow_module_level=True)

from cuda.bindings import driver
from cuda.core import Device, DeviceMemoryResource
from cuda.core._utils.cuda_utils import CUDAError
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

import graphc
from graphc import Input
from graphc.ir.errors import DeviceMemoryError

pytestmark = pytest.mark.filterwarnings("ignore:Grid size")  # of numba-cuda, of small grids
OK = driver.CUresult.CUDA_SUCCESS
UNSUPPORTED, INVALIDATED, IMPLICIT = (
    getattr(driver.CUresult, f"CUDA_ERROR_STREAM_CAPTURE_{name}") for name in ("UNSUPPORTED", "INVALIDATED", "IMPLICIT")
)
GLOBAL = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
X = np.arange(10, dtype=np.float32)


@cuda.jit
def double(x: Any, out: Any) -> None:
    place = cuda.grid(1)
    if place < x.shape[0]:
        out[place] = 2 * x[place]


@cuda.jit
def overrun(x: Any) -> None:
    x[cuda.grid(1)] = 1


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    device = Device(0)
    device.set_current()
    double[128, 32](cuda.to_device(X), cuda.device_array(10, np.float32))  # loaded, which a capture does not allow
    yield
    driver.cuDevicePrimaryCtxReset(0)  # forgets a fault, for the next test


def address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])


def now(array: Any) -> list[float]:
    """What an array holds, without waiting for the device."""
    values: list[float] = start().memory.array(address(array), array.size, array.dtype).tolist()
    return values


def test_work_is_done_when_the_host_waits() -> None:
    x, out = cuda.to_device(X), cuda.to_device(np.zeros(10, np.float32))
    double[128, 32](x, out)
    assert now(out) == [0] * 10
    cuda.synchronize()
    assert now(out) == (2 * X).tolist()


def test_pinned_memory_is_written_when_the_host_waits() -> None:
    x, stream = cuda.to_device(X), cuda.stream()
    pinned, pageable = cuda.pinned_array(10, np.float32), np.zeros(10, np.float32)
    pinned[:] = 0
    x.copy_to_host(pinned, stream=stream)
    assert pinned.tolist() == [0] * 10
    x.copy_to_host(pageable, stream=stream)  # in order, so that the other has arrived, too
    assert pageable.tolist() == pinned.tolist() == X.tolist()


def test_new_memory_is_garbage() -> None:
    assert np.isnan(cuda.device_array(10, np.float32).copy_to_host()).all()


def test_the_host_cannot_touch_device_memory() -> None:
    where, child = address(cuda.to_device(X)), os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.string_at(where, 4)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGSEGV


# faults ---------------------------------------------------------------------------------------------------------------


def test_an_overrun_is_a_fault_that_stays(capfd: pytest.CaptureFixture[str]) -> None:
    x = cuda.to_device(X)
    overrun[1, 32](x)
    with pytest.raises(CudaAPIError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        cuda.synchronize()
    told = capfd.readouterr().err
    assert "test_emulated_driver.overrun: an address outside of all allocations" in told
    assert "thread 10 of block 0, at `st.global" in told
    with pytest.raises(CudaAPIError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        x.copy_to_host()


def test_freed_memory_is_no_more() -> None:
    _, gone = driver.cuMemAlloc(64)
    assert driver.cuMemcpyHtoD(gone, X, 40) == (OK,)
    assert driver.cuMemFree(gone) == (OK,)
    assert driver.cuMemcpyHtoD(gone, X, 40) == (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)
    assert driver.cuMemFree(gone) == (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)


def test_copies_end_with_the_allocation() -> None:
    _, block = driver.cuMemAlloc(32)
    assert driver.cuMemcpyHtoD(block, X, 32) == (OK,)
    assert driver.cuMemcpyHtoD(block, X, 36) == (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)


@pytest.mark.parametrize(("grid", "block"), [(1, 2048), ((1, 70000), 32), ((1, 1), (1, 1, 128))])
def test_launches_that_no_gpu_takes(grid: Any, block: Any) -> None:
    x, out = cuda.to_device(X), cuda.device_array(10, np.float32)
    with pytest.raises(CUDAError, match="CUDA_ERROR_INVALID_VALUE"):
        double[grid, block](x, out)


def test_what_is_not_implemented_says_so() -> None:
    assert driver.cuCtxGetLimit(driver.CUlimit.CU_LIMIT_STACK_SIZE)[0] == driver.CUresult.CUDA_ERROR_NOT_SUPPORTED


# memory ---------------------------------------------------------------------------------------------------------------


def test_memory_ends() -> None:
    free, total = cuda.current_context().get_memory_info()
    assert 0 < free <= total == int(os.environ["EMULATOR_MEMORY"])
    with pytest.raises(CudaAPIError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        cuda.device_array(total + 1, np.uint8)


def test_a_program_runs_out_of_memory() -> None:
    x = Input(("N", 64), "float32", name="x")
    program = graphc.compile(np.sum(np.sort(np.exp(x), axis=1) @ np.ones((64, 512), np.float32), axis=0), target="cuda")
    rows = int(os.environ["EMULATOR_MEMORY"]) // 1000
    with pytest.raises(DeviceMemoryError, match="bytes more are needed; the largest of the program's buffers are"):
        program(x=np.ones((rows, 64), np.float32))
    expected = 64 * np.exp(np.full(512, 1, np.float32))
    np.testing.assert_allclose(program(x=np.ones((1, 64), np.float32)).copy_to_host(), expected, rtol=1e-5)


def test_pools() -> None:
    stream, pool = Device(0).create_stream(), DeviceMemoryResource(Device(0))
    before = cuda.current_context().get_memory_info().free
    buffer = pool.allocate(1000, stream=stream)
    assert cuda.current_context().get_memory_info().free == before - 1000
    assert driver.cuMemcpyHtoDAsync(int(buffer.handle), X, 40, stream.handle) == (OK,)
    buffer.close(stream)
    stream.sync()
    assert cuda.current_context().get_memory_info().free == before


def test_whose_memory_it_is() -> None:
    x, attribute = cuda.to_device(X), driver.CUpointer_attribute
    assert driver.cuPointerGetAttribute(attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address(x) + 4) == (OK, 0)
    assert driver.cuPointerGetAttribute(attribute.CU_POINTER_ATTRIBUTE_RANGE_SIZE, address(x)) == (OK, 40)
    assert driver.cuPointerGetAttribute(attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, X.ctypes.data)[0] != OK


# capture --------------------------------------------------------------------------------------------------------------


def test_a_graph_is_recorded_and_replayed() -> None:
    stream = Device(0).create_stream()
    x, out = cuda.to_device(X), cuda.to_device(np.zeros(10, np.float32))
    builder = stream.create_graph_builder()
    builder.begin_building()
    double[128, 32, builder](x, out)
    double[128, 32, builder](out, x)
    graph = builder.end_building().complete()
    cuda.synchronize()
    assert now(out) == [0] * 10
    for times in (1, 2):
        graph.launch(stream)
        stream.sync()
        assert now(x) == (4**times * X).tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, stream: driver.cuMemAlloc(100)[0],
        lambda x, stream: driver.cuMemFree(x)[0],
        lambda x, stream: driver.cuCtxSynchronize()[0],
        lambda x, stream: driver.cuStreamSynchronize(stream)[0],
        lambda x, stream: driver.cuMemcpyHtoD(x, X, 40)[0],
        lambda x, stream: driver.cuMemcpyDtoH(X.copy(), x, 40)[0],
    ],
    ids=["allocate", "free", "wait", "wait for it", "upload", "fetch"],
)
def test_what_is_not_allowed_while_a_stream_captures(call: Any) -> None:
    owner = Device(0).create_stream(options={"nonblocking": True})
    stream = owner.handle
    _, x = driver.cuMemAlloc(40)
    with cuda.defer_cleanup():  # numba-cuda frees arrays at any time, which is not allowed either
        assert driver.cuStreamBeginCapture(stream, GLOBAL) == (OK,)
        assert driver.cuMemcpyHtoDAsync(x, X, 40, stream) == (OK,)
        assert call(x, stream) == UNSUPPORTED
        assert driver.cuStreamEndCapture(stream)[0] == INVALIDATED
    assert driver.cuStreamIsCapturing(stream)[1] == driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
    assert call(x, stream) == OK


def test_the_default_stream_spoils_a_capture() -> None:
    x, out = cuda.to_device(X), cuda.device_array(10, np.float32)
    stream = Device(0).create_stream(options={"nonblocking": False})
    with cuda.defer_cleanup():
        assert driver.cuStreamBeginCapture(stream.handle, GLOBAL) == (OK,)
        with pytest.raises(CUDAError, match="STREAM_CAPTURE_IMPLICIT"):
            double[128, 32](x, out)
        assert driver.cuStreamEndCapture(stream.handle)[0] == INVALIDATED


def test_a_relaxed_capture_allows_more() -> None:
    stream = Device(0).create_stream()
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    assert driver.cuStreamBeginCapture(stream.handle, mode) == (OK,)
    error, block = driver.cuMemAlloc(100)
    assert error == OK
    assert driver.cuStreamEndCapture(stream.handle)[0] == OK
    assert driver.cuMemFree(block) == (OK,)


# cuBLAS ---------------------------------------------------------------------------------------------------------------


def test_cublas_counts_along_columns() -> None:
    from nvmath import CudaDataType
    from nvmath.bindings import cublas

    a, b = np.arange(6.0), np.arange(8.0)  # (2, 3) with ld 2; (3, 2) with ld 4
    columns = np.array([[0, 4], [1, 5], [2, 6]])
    expected = 2 * np.array([[0, 2, 4], [1, 3, 5]]) @ columns
    handle, factors = cublas.create(), np.array([2.0, 0.0])
    out = cuda.to_device(np.full(6, np.nan))
    x, y = cuda.to_device(a), cuda.to_device(b)
    kind = CudaDataType.CUDA_R_64F
    cublas.gemm_strided_batched_ex(
        handle, 0, 0, 2, 2, 3, factors.ctypes.data, address(x), kind, 2, 0, address(y), kind, 4, 0,
        factors[1:].ctypes.data, address(out), kind, 3, 0, 1, cublas.ComputeType.COMPUTE_64F, -1,
    )  # fmt: skip
    found = out.copy_to_host().reshape(2, 3).T
    np.testing.assert_array_equal(found[:2], expected)
    assert np.isnan(found[2]).all()
    cublas.destroy(handle)
