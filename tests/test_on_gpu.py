"""What only a GPU knows, and not numba-cuda's simulator (`tests/test_emulated.py` runs this on the emulated device)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config

import graphc
from graphc import SGD, Input, Param, Trainer
from graphc.device import queue_at_hand
from graphc.ir.errors import DeviceMemoryError, FeedTypeError, FeedValueError

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed", allow_module_level=True)
from numba import cuda

if config.ENABLE_CUDASIM or not cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)

x = Input(("N",), "float32", name="x")
needs_two = pytest.mark.skipif(len(cuda.gpus) < 2, reason="needs two GPUs")


def values(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32)


class Exported:
    """An array of another library, which gives it by DLPack alone."""

    def __init__(self, array: Any) -> None:
        from cuda.core.utils import StridedMemoryView

        self._view = StridedMemoryView.from_any_interface(array, stream_ptr=-1)

    def __dlpack_device__(self) -> Any:
        return self._view.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self._view.__dlpack__(**options)


@pytest.mark.parametrize("size", [6, 40_000])
def test_feeds_by_dlpack(size: int) -> None:
    program = graphc.compile(x + 1, target="cuda")
    for k in range(4):
        array = Exported(cuda.to_device(values(size) * k))
        assert program(x=array).copy_to_host().tolist() == (values(size) * k + 1).tolist()
    with pytest.raises(FeedTypeError, match=r"x wants float32 of shape \(N,\), got a device array of float64"):
        program(x=Exported(cuda.to_device(np.ones(size))))


@pytest.mark.parametrize("size", [6, 40_000])
def test_feeds_that_begin_between_what_is_loaded_at_once(size: int) -> None:
    """They are copied, in every way in which a device array comes in."""
    program = graphc.compile(x + 1, target="cuda")
    array = cuda.to_device(values(size + 1))[1:]
    for _ in range(4):
        assert program(x=array).copy_to_host().tolist() == (values(size + 1)[1:] + 1).tolist()
    weight = Param(np.zeros((), np.float32), name="weight")
    trainer = Trainer(np.mean((x - weight) ** 2), SGD(0.5), target="cuda")
    trainer.fit({"x": array}, epochs=1, batch_size=size)
    np.testing.assert_allclose(trainer.params["weight"], values(size + 1)[1:].mean(), rtol=1e-5)


def test_feeds_of_the_host_by_dlpack() -> None:
    class OnHost:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return values(3)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    assert graphc.compile(x + 1, target="cuda")(x=OnHost()).copy_to_host().tolist() == [1, 2, 3]


@pytest.mark.parametrize("size", [6, 40_000])
def test_feeds_in_pinned_memory_may_be_changed_after_the_call(size: int) -> None:
    """The device reads such memory itself, when it comes to that."""
    program = graphc.compile(x + 1, target="cuda")
    pinned = cuda.pinned_array(size, np.float32)
    for k in range(4):
        pinned[:] = k
        result = program(x=pinned)
        pinned[:] = -1
        np.testing.assert_array_equal(result.copy_to_host(), np.full(size, k + 1))


@pytest.mark.parametrize(
    "part",
    [lambda y: y, lambda y: y[1:], lambda y: y.reshape(2, -1), lambda y: y.view(np.int32)],
    ids=["whole", "slice", "reshape", "view"],
)
@pytest.mark.parametrize("size", [6, 40_000])
def test_results_are_not_overwritten_while_a_part_of_them_is_held(part: Any, size: int) -> None:
    program = graphc.compile(x + 1, target="cuda")
    held = []
    for k in range(6):
        held.append((k, part(program(x=values(size) * k))))
        for past, array in held:
            np.testing.assert_array_equal(array.copy_to_host(), part(values(size) * past + 1))
        if k == 3:
            del held[1:]


@pytest.mark.parametrize("size", [6, 40_000])
def test_results_are_not_overwritten_while_a_tuple_of_them_is_held(size: int) -> None:
    program = graphc.compile([x + 1, x * 2], target="cuda")
    held = [program(x=values(size) * k) for k in range(6)]
    for k, (one_more, twice) in enumerate(held):
        np.testing.assert_array_equal(one_more.copy_to_host(), values(size) * k + 1)
        np.testing.assert_array_equal(twice.copy_to_host(), values(size) * k * 2)


def test_memory_of_results_is_used_again() -> None:
    program = graphc.compile(x + 1, target="cuda")
    places = set()
    for k in range(8):
        result = program(x=values(40_000) * k)
        places.add(result.__cuda_array_interface__["data"][0])
    assert len(places) <= 3  # the first call's own, and two that are lent in turn


def test_steps_do_not_wait() -> None:
    """What a step returns is read later, and is that step's."""
    weight = Param(np.ones(3, np.float32), name="weight")
    trainer = Trainer(np.sum(weight * weight), SGD(0.25), target="cuda")
    losses = [trainer.step() for _ in range(6)]
    np.testing.assert_allclose([float(loss.copy_to_host()) for loss in losses], 3 * 0.25 ** np.arange(6))


def test_more_memory_than_there_is() -> None:
    program = graphc.compile(np.exp(x[:, None] * x), target="cuda")
    small = program(x=values(3)).copy_to_host()
    with pytest.raises(DeviceMemoryError) as caught:
        program(x=values(2_000_000))
    text = str(caught.value)
    assert text.startswith("graph: out of device memory: 16,000,000,000,000 bytes more are needed; the largest of ")
    assert "exp_0: f32[N,N] (16,000,000,000,000)" in text
    assert text.endswith("\n  feed fewer examples at a time")
    assert program(x=values(3)).copy_to_host().tolist() == small.tolist()


def test_products_of_threads_share_a_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may be the first to record a program that another one has run, and must not make a handle meanwhile."""
    cublas = pytest.importorskip("nvmath.bindings.cublas")
    y = Input(("N", "K"), "float32", name="y")
    program = graphc.compile(y @ y.T, target="cuda")
    rows = values(100).reshape(10, 10)
    expected = program(y=rows).copy_to_host()
    monkeypatch.setattr(cublas, "create", lambda: pytest.fail("another handle"))
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            np.testing.assert_array_equal(pool.submit(program, y=rows).result().copy_to_host(), expected)


@pytest.mark.parametrize("size", [6, 40_000])
def test_a_replayed_call_that_finds_no_memory_makes_room(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And stores its updates once."""
    count = Param(np.zeros(size, np.float32), name="count")
    program = graphc.compile(count * 1, updates={count: count + 1}, target="cuda")
    held = [program() for _ in range(5)]  # all that is recorded is lent: the next call needs memory
    queue, short = type(queue_at_hand()), [True]
    allocated = queue._allocated

    def full_at_first(self: Any, nbytes: int) -> Any:
        if short and short.pop():
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")
        return allocated(self, nbytes)

    monkeypatch.setattr(queue, "_allocated", full_at_first)
    held.append(program())
    assert not short
    assert [value.copy_to_host()[0] for value in held] == [0, 1, 2, 3, 4, 5]
    assert program.params["count"][0] == 6


def test_memory_of_temporaries_that_are_too_small_is_freed() -> None:
    program = graphc.compile(np.sum(np.sort(x)), target="cuda")

    def used() -> int:
        queue_at_hand().wait()
        return int(queue_at_hand()._pool.attributes.used_mem_current)

    before, after = used(), []
    for size in range(10_000, 50_000, 10_000):
        program(x=values(size))
        after.append(used() - before)
    np.testing.assert_allclose(after, np.arange(1, 5) * after[0], rtol=0.1)


def test_feeds_on_the_device_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    program = graphc.compile(x + 1, target="cuda")
    array = cuda.to_device(values(40_000))
    with monkeypatch.context() as patch:
        patch.setattr(type(array), "__array__", lambda *_, **__: pytest.fail("fetched"))
        result = program(x=array)
    np.testing.assert_array_equal(result.copy_to_host(), values(40_000) + 1)


@needs_two
def test_an_array_on_another_device() -> None:
    program = graphc.compile(x + 1, target="cuda")
    with cuda.gpus[1]:
        array = cuda.to_device(values(3))
    with pytest.raises(FeedValueError) as caught:
        program(x=array)
    assert str(caught.value) == (
        "x lies on device 1, and device 0 is current\n"
        "  copy it there, or call the program with numba.cuda.gpus[1] current"
    )


@needs_two
def test_a_program_on_another_device() -> None:
    weight = Param(np.ones(3, np.float32), name="weight")
    on_second = graphc.compile(weight * 2, target="cuda")
    shared = graphc.compile(weight * 3, target="cuda", params=on_second.params)
    with cuda.gpus[1]:
        assert on_second().copy_to_host().tolist() == [2, 2, 2]
    with pytest.raises(FeedValueError, match="was called on device 1, and device 0 is current"):
        on_second()
    with pytest.raises(FeedValueError) as caught:
        shared()
    assert str(caught.value) == (
        "the parameters are on device 1, and device 0 is current\n"
        "  call the program with numba.cuda.gpus[1] current"
    )
    assert on_second.params["weight"].tolist() == [1, 1, 1]


FAULT = """
import graphc, numpy as np
from numba import cuda

@cuda.jit
def overrun(x):
    x[1 << 40] = 1

program = graphc.compile(graphc.Input((3,), name="x") + 1, target="cuda")
overrun[1, 1](cuda.to_device(np.ones(3)))
try:
    for _ in range(3):
        program(x=np.ones(3))
        cuda.synchronize()
except graphc.GraphcError as error:
    print(type(error).__name__, error)
except Exception as error:
    try:
        program(x=np.ones(3))
    except graphc.GraphcError as error:
        print(type(error).__name__, error)
"""


def test_a_kernel_that_fails(tmp_path: Path) -> None:
    """In a process of its own, which cannot use the device after it."""
    script = tmp_path / "fault.py"
    script.write_text(FAULT, encoding="utf-8")
    emulated = ["-m", "emulator"] if "emulator" in sys.modules else []
    done = subprocess.run([sys.executable, *emulated, script], capture_output=True, text=True, check=False)
    assert "DeviceError a kernel failed on the device (CUDA_ERROR_ILLEGAL_ADDRESS), in this call" in done.stdout, done
