"""Programs on an NVIDIA GPU, or in numba-cuda's simulator (`tests/test_cuda.py` runs them there)."""

from __future__ import annotations

import functools
import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from gridded import from_device, on_grid
from laned import PROGRAMS, lanes_of
from lowered import Case, expected_values
from numba.core import config
from test_ops_compiled import FAMILIES, check, check_adjoints, combined, grouped

import graphc
from graphc import SGD, Adam, Cuda, Dense, Input, Param, Planner, Trainer
from graphc.device import queue_at_hand
from graphc.ir.errors import (
    CompileValueError,
    DeviceError,
    DeviceMemoryError,
    FeedIndexError,
    FeedTypeError,
    FeedValueError,
)

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed", allow_module_level=True)
from numba import cuda

if not cuda.is_available():
    pytest.skip("needs an NVIDIA GPU, or NUMBA_ENABLE_CUDASIM=1", allow_module_level=True)

from graphc.codegen.cuda import factorizations, products, sorting
from graphc.codegen.cuda.products import EDGE
from graphc.codegen.cuda.sorting import TILE
from graphc.device_function import DeviceFunction
from graphc.ir.factorizations import ROUTINES

# The simulator's threads are Python's: few of them.
BLOCKS, THREADS = (3, 8) if config.ENABLE_CUDASIM else (64, 128)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator divides by zero in Python


def run(case: Case) -> dict[str, np.ndarray]:
    return from_device(on_grid(case.graph, BLOCKS, THREADS), case)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint16", "bool"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ops(family: str, dtype: str) -> None:
    if about := grouped(False)[family, dtype]:
        check(combined(f"{family}_{dtype}", about), about, run=run)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_adjoints(family: str, dtype: str) -> None:
    check_adjoints(family, dtype, run)


@pytest.mark.parametrize("name", PROGRAMS)
def test_lanes(name: str) -> None:
    case = PROGRAMS[name].case()
    program = on_grid(case.graph, 2, min(THREADS, 32))
    assert lanes_of(program) == PROGRAMS[name].lanes
    found = from_device(program, case)
    for key, expected in expected_values(case).items():
        close(found[key].view(expected.dtype).astype(float), expected.astype(float))


@pytest.mark.parametrize("size", [0, 3, 50])
def test_scans_in_pieces(size: int) -> None:
    x = Input(("N",), "float32", name="x")
    views = [np.cumsum(x), graphc.cummin(x[::-1]), graphc.grad(np.sum(np.cumsum(x) ** 2), x)]
    values = RNG.normal(size=size).astype(np.float32)
    expected = graphc.compile(views)(x=values)
    for found, want in zip(graphc.compile(views, target="cuda")(x=values), expected, strict=True):
        close(host(found), want)


# programs -------------------------------------------------------------------------------------------------------------


class Network(Planner):
    x = Input(("N", 5), "float32")
    y = Input(("N",), "int64")
    hidden = x | Dense(4) | np.tanh
    logits = hidden | Dense(3)
    loss = graphc.cross_entropy(logits, y)
    acc = graphc.accuracy(logits, y)


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 5)).astype(np.float32), RNG.integers(0, 3, 6)


def host(value: Any) -> np.ndarray:
    return np.asarray(value.copy_to_host())


def stream() -> Any:
    return queue_at_hand().stream


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_results_are_device_arrays() -> None:
    program = graphc.compile(Network.loss, wrt="params", target="cuda")
    on_host = graphc.compile(Network.loss, wrt="params", params=dict(program.params))
    value, gradients = program.value_and_grad(x=X, y=Y)
    expected, slopes = on_host.value_and_grad(x=X, y=Y)
    assert value.shape == ()
    assert value.dtype == np.float32
    close(host(value), expected)
    for name, slope in slopes.items():
        assert tuple(gradients[name].shape) == slope.shape
        close(host(gradients[name]), slope)
    close(host(program(x=X, y=Y)), expected)


def test_forward_and_backward_apart() -> None:
    program = graphc.compile(Network.loss, wrt="params", target="cuda")
    _, gradients = program.value_and_grad(x=X, y=Y)
    _, saved = program.forward(x=X, y=Y)
    for name, slope in program.backward(saved).items():
        close(host(slope), host(gradients[name]))


def test_a_cotangent_on_the_device() -> None:
    x = Input((3,), "float32", name="x")
    program = graphc.compile(x * x, wrt=[x], target="cuda")
    for cotangent in (np.float32([1, 2, 3]), cuda.to_device(np.float32([1, 2, 3]))):
        _, saved = program.forward(x=np.float32([1, 2, 4]))
        assert host(program.backward(saved, cotangent)["x"]).tolist() == [2, 8, 24]
    with pytest.raises(FeedTypeError, match="cotangent wants float32"):
        program.backward(saved, cuda.to_device(np.ones(3)))


def test_results_outlive_the_next_call() -> None:
    x = Input(("N",), "float32", name="x")
    program = graphc.compile([x + 1, np.sum(x)], target="cuda")
    first = program(x=X[0])
    program(x=X[1])
    close(host(first[0]), X[0] + 1)
    close(host(first[1]), X[0].sum())


def test_gradients_of_scalar_parameters() -> None:
    x, a, b = Input(("N",), name="x"), Param(2.0, name="a"), Param(np.ones(2), name="b")
    program = graphc.compile(np.sum(a * x) + np.sum(b), wrt="params", target="cuda")
    _, gradients = program.value_and_grad(x=[1.0, 2.0])
    assert {name: host(slope).tolist() for name, slope in gradients.items()} == {"a": 3.0, "b": [1.0, 1.0]}


def test_parameters_are_read_as_copies_and_assigned() -> None:
    program = graphc.compile(Network.logits, target="cuda")
    for _ in range(2):  # before they are on the device, and then
        program.params["logits.dense.bias"] = [1, 2, 3]
        bias = program.params["logits.dense.bias"]
        assert bias.tolist() == [1, 2, 3]
        with pytest.raises(ValueError, match="read-only"):
            bias[0] = 7
        program.params["logits.dense.bias"] = np.zeros(3)
        before = host(program(x=X))
        program.params["logits.dense.bias"] = np.ones(3)
        close(host(program(x=X)), before + 1)


def test_parameters_are_fed_for_one_call() -> None:
    program = graphc.compile(Network.logits, target="cuda")
    before = host(program(x=X))
    close(host(program(x=X, **{"logits.dense.bias": np.ones(3)})), before + 1)
    close(host(program(x=X)), before)


def test_parameters_are_shared_and_not_with_the_host() -> None:
    program = graphc.compile(Network.logits, target="cuda")
    other = graphc.compile(Network.logits, target="cuda", params=program.params)
    program.params["logits.dense.bias"] = [5, 5, 5]
    close(host(other(x=X)), host(program(x=X)))
    with pytest.raises(CompileValueError, match=r"another device\n  start from their values: params=dict"):
        graphc.compile(Network.logits, params=program.params)


def test_updates() -> None:
    count = Param(0.0, name="count")
    program = graphc.compile(count * 1, updates={count: count + 1}, target="cuda")
    assert [float(host(program())) for _ in range(3)] == [0, 1, 2]
    assert program.params["count"] == 3


def test_feeds_on_the_device_are_taken_as_they_are() -> None:
    program = graphc.compile(Network.logits, target="cuda")
    close(host(program(x=cuda.to_device(X))), host(program(x=X)))
    with pytest.raises(FeedTypeError, match=r"x wants float32 of shape \(N, 5\), got a device array of float64"):
        program(x=cuda.to_device(X.astype(np.float64)))
    with pytest.raises(FeedValueError, match="not C-contiguous"):
        program(x=cuda.to_device(np.asfortranarray(X)))
    with pytest.raises(FeedValueError, match=r"got shape \(6, 4\)"):
        program(x=cuda.to_device(np.ascontiguousarray(X[:, 1:])))


def test_an_index_out_of_range() -> None:
    program = graphc.compile(Network.loss, target="cuda")
    expected = graphc.compile(Network.loss)(x=X, y=Y)
    for labels in (Y + 3, cuda.to_device(Y + 3)):  # the host sees the first, and the device the second
        with pytest.raises(FeedIndexError, match="y: index out of range for an axis of size 3"):
            program(x=X, y=labels)
        close(host(program(x=X, y=Y)), expected)


def test_an_index_that_is_computed() -> None:
    x, k = Input((5,), name="x"), Input(("N",), "int64", name="k")
    program = graphc.compile(x[k * 2], target="cuda")
    assert host(program(x=np.arange(5.0), k=[0, 1, -1])).tolist() == [0, 2, 3]
    with pytest.raises(FeedIndexError, match="index out of range for an axis of size 5"):
        program(x=np.arange(5.0), k=[0, 3])
    assert host(program(x=np.arange(5.0), k=[2])).tolist() == [4]


def test_an_index_into_an_empty_axis() -> None:
    x, k = Input(("N",), name="x"), Input(("M",), "int64", name="k")
    program = graphc.compile(x[k * 2], target="cuda")
    assert host(program(x=np.empty(0), k=np.empty(0, np.int64))).tolist() == []
    with pytest.raises(FeedIndexError, match="index out of range for an axis of size N"):
        program(x=np.empty(0), k=[0])


def test_a_trainer_tells_of_an_index_with_the_next_step() -> None:
    trainer = Trainer(Network.loss, SGD(0.1), target="cuda")
    with pytest.raises(FeedIndexError, match="y: index out of range for an axis of size 3"):
        trainer.step(x=X, y=Y + 3)
    trainer.step(x=X, y=cuda.to_device(Y + 3))  # which nobody waits for
    queue_at_hand().wait()
    with pytest.raises(FeedIndexError, match="y: index out of range for an axis of size 3"):
        trainer.step(x=X, y=Y)
    trainer.step(x=X, y=Y)
    with pytest.raises(FeedIndexError, match="y: index out of range for an axis of size 3"):
        trainer.fit({"x": X, "y": Y + 3}, batch_size=4)


def test_threads_that_come_first_find_one_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    @functools.cache
    def made(device: int) -> object:
        time.sleep(0.05)
        return object()

    monkeypatch.setattr("graphc.codegen.cuda.queue._queue", made)
    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(lambda _: queue_at_hand(), range(3)))) == 1


# recorded calls -------------------------------------------------------------------------------------------------------


# Results that are copied, and that are lent; inputs that are copied, and that are taken as they lie.
SIZES = [6] if config.ENABLE_CUDASIM else [6, 40_000]


@pytest.mark.parametrize("size", SIZES)
def test_calls_of_the_same_shapes(size: int) -> None:
    """The first runs, the second is recorded, the others are replayed, also while results are still held."""
    x, scale = Input(("N",), "float32", name="x"), Input((), "float32", name="scale")
    program = graphc.compile([x * scale, np.sum(x)], target="cuda")
    held = []
    for k in range(5):
        values = np.full(size, k, np.float32)
        scaled, total = program(x=values, scale=k + 1)
        if k % 2:
            held.append((k, scaled))
        close(host(scaled), values * (k + 1))
        close(host(total), size * k)
    for k, scaled in held:
        close(host(scaled), np.full(size, k * (k + 1)))
    close(host(program(x=values[:4], scale=2.0)[0]), values[:4] * 2)


@pytest.mark.parametrize("size", SIZES)
def test_calls_with_arrays_on_the_device(size: int) -> None:
    x = Input(("N",), "float32", name="x")
    program = graphc.compile(np.sum(x), target="cuda")
    arrays = [cuda.to_device(np.full(size, k, np.float32)) for k in range(3)]
    for _ in range(3):
        for k, array in enumerate(arrays):
            close(host(program(x=array)), size * k)
    arrays[1].copy_to_device(np.full(size, 7, np.float32))
    close(host(program(x=arrays[1])), size * 7)


def test_more_shapes_than_are_kept() -> None:
    x = Input(("N",), name="x")
    program = graphc.compile(np.sum(x), target="cuda")
    for size in (*range(18), 0, 17):
        close(host(program(x=np.ones(size))), size)


def test_what_the_host_computes_is_not_recorded() -> None:
    x = Input((2, 2), name="x")
    program = graphc.compile(np.linalg.cholesky(x) * 2, target="cuda")
    for k in range(1, 4):
        close(host(program(x=np.eye(2) * k**2)), np.eye(2) * k * 2)


def test_a_trainer_whose_rate_changes() -> None:
    trainers = [Trainer(Network.loss, SGD(lambda k: 0.1 / (k + 1), 0.5), target=t) for t in ("cpu", "cuda")]
    for trainer in trainers:
        for _ in range(4):
            trainer.step(x=X, y=Y)
        trainer.fit({"x": X, "y": Y}, epochs=3, batch_size=2)
        trainer.fit({"x": X, "y": Y}, epochs=2)
    for name, value in trainers[0].params.items():
        close(trainers[1].params[name], value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_losses_of_halves_are_numbers(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where batches are gathered on the host."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = Input(("N", 3), dtype, name="x")
    loss = np.mean((x @ Param(np.ones(3), dtype=dtype, name="weight")) ** 2)
    data = {"x": (np.arange(12).reshape(4, 3) / 8).astype(loss.dtype)}
    found = []
    for target in ("cpu", "cuda", "cuda"):
        trainer = Trainer(loss, SGD(0.01), target=target)
        found.append([*trainer.fit(data, batch_size=3)["loss"], trainer.evaluate(data)["loss"]])
        if target == "cuda":
            monkeypatch.setattr("graphc.device_batches.DeviceBatches.__init__", refuse)
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=2.0**-6)


def refuse(*_: Any) -> None:
    raise DeviceMemoryError("out of device memory")


def test_fit_where_the_data_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are then gathered on the host."""
    trainers = [Trainer(Network.loss, SGD(0.1), target=target) for target in ("cpu", "cuda")]
    data = {"x": np.tile(X, (3, 1)), "y": np.tile(Y, 3)}
    allocated = type(queue_at_hand())._allocated

    def small(queue: Any, nbytes: int) -> Any:
        if nbytes == data["x"].nbytes:
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")
        return allocated(queue, nbytes)

    monkeypatch.setattr(type(queue_at_hand()), "_allocated", small)
    losses = [trainer.fit(data, batch_size=9)["loss"] for trainer in trainers]
    close(losses[0], losses[1])


def test_fit_where_the_data_leave_no_memory_for_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, before anything is trained."""
    trainers = [Trainer(Network.loss, SGD(0.1), target=target) for target in ("cpu", "cuda")]
    memory, short = DeviceFunction.memory, [True]

    def full_at_first(function: DeviceFunction, sizes: Any) -> Any:
        if short and short.pop():
            raise DeviceMemoryError("out of device memory")
        return memory(function, sizes)

    monkeypatch.setattr(DeviceFunction, "memory", full_at_first)
    losses = [trainer.fit({"x": X, "y": Y}, batch_size=4)["loss"] for trainer in trainers]
    assert not short
    close(losses[0], losses[1])


# options --------------------------------------------------------------------------------------------------------------


def test_a_target_with_options() -> None:
    x, y = Input((90, 80), "float32", name="x"), Input((80, 70), "float32", name="y")
    target = Cuda(matmul_precision="tensorfloat32")
    program = graphc.compile(x @ y, target=target)
    assert 'stream, precision="tensorfloat32")' in program.source
    found = host(program(x=np.ones((90, 80)), y=np.full((80, 70), 2.0)))
    assert found.tolist() == np.full((90, 70), 160).tolist()
    with pytest.raises(CompileValueError, match="no matmul_precision named 'tf32'; did you mean 'float32'"):
        Cuda(matmul_precision="tf32")


# faults ---------------------------------------------------------------------------------------------------------------


def test_a_kernel_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    program = graphc.compile(Network.logits, target="cuda")

    def failed(queue: Any, nbytes: int) -> Any:
        raise RuntimeError("[700] CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered")

    monkeypatch.setattr(type(queue_at_hand()), "_allocated", failed)
    with pytest.raises(DeviceError) as caught:
        program(x=X)
    assert str(caught.value).startswith(
        "a kernel failed on the device (CUDA_ERROR_ILLEGAL_ADDRESS), in this call or in one before it\n  this process"
    )


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = Input(("N", 50), "float32", name="x")
    program = graphc.compile(np.sum(np.sort(np.exp(x), axis=1), axis=0, dtype="float32"), target="cuda")
    values = np.ones((7, 50), np.float32)

    def full(queue: Any, nbytes: int) -> Any:
        raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    with monkeypatch.context() as patch:
        patch.setattr(type(queue_at_hand()), "_allocated", full)
        with pytest.raises(DeviceMemoryError) as caught:
            program(x=values)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, graphc.DeviceError)
    assert "bytes more are needed; the largest of the program's buffers are" in str(caught.value)
    assert str(caught.value).endswith("\n  feed fewer examples at a time")
    close(host(program(x=values)), 7 * np.full(50, np.e))  # the process goes on


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[2] Call to cuLaunchKernel results in CUDA_ERROR_OUT_OF_MEMORY", DeviceMemoryError),
        ("[719] Call to cuLaunchKernel results in CUDA_ERROR_LAUNCH_FAILED", DeviceError),
        ("Matrix is not positive definite", RuntimeError),
    ],
)
def test_what_a_launch_says_is_explained(message: str, kind: type[Exception]) -> None:
    def work(_: Any) -> None:
        raise RuntimeError(message)

    with pytest.raises(kind) as caught:
        queue_at_hand().run(work)
    assert caught.value.__cause__ is not caught.value


def test_empty_inputs() -> None:
    x = Input(("N", 3), "float32", name="x")
    program = graphc.compile([np.exp(x), np.sum(x), np.sum(x, axis=0)], target="cuda")
    values = [host(value) for value in program(x=np.empty((0, 3), np.float32))]
    assert [value.tolist() for value in values] == [[], 0, [0, 0, 0]]


# sorting --------------------------------------------------------------------------------------------------------------

KEYS = ("float64", "float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
LENGTHS = (1, 2, 3, TILE - 1, TILE, TILE + 1, 2 * TILE - 1, 2 * TILE, 2 * TILE + 1, 3 * TILE + 5, 4 * TILE, 5 * TILE)


def keys_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Few different ones, at the ends of the dtype too, and in another order than that of their bits."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        some = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan])
    elif kind == "b":
        some = np.array([False, True])
    else:
        ends = np.iinfo(dtype)
        some = np.array([ends.min, ends.max, 0, 1, ends.max // 2 + 1], dtype)
    return RNG.choice(some, shape).astype(dtype)


def device_order(keys: np.ndarray) -> np.ndarray:
    places = cuda.to_device(np.full(keys.shape, -1))
    scratch = cuda.to_device(np.full(keys.shape[-1:], -1))
    sorting.argsort(cuda.to_device(keys), scratch, places, stream())
    return host(places)


@pytest.mark.parametrize("shape", [*((2, length) for length in LENGTHS), (0,), (3, 0), (0, 3), (7, 2), (2, 3, 2), (5,)])
def test_sorting_rows_of_any_length(shape: tuple[int, ...]) -> None:
    keys = keys_of("float32", shape)
    np.testing.assert_array_equal(device_order(keys), np.argsort(keys, axis=-1, kind="stable"))


@pytest.mark.parametrize("dtype", KEYS)
@pytest.mark.parametrize("shape", [(5, 3), (1, 2 * TILE + 1)])
def test_sorting_every_dtype(shape: tuple[int, ...], dtype: str) -> None:
    keys = keys_of(dtype, shape)
    np.testing.assert_array_equal(device_order(keys), np.argsort(keys, axis=-1, kind="stable"))


def test_sorting_equal_keys_and_what_is_in_order() -> None:
    length = 3 * TILE + 5
    rows = np.array([np.zeros(length), np.arange(length), -np.arange(length), np.full(length, np.nan)])
    np.testing.assert_array_equal(device_order(rows), np.argsort(rows, axis=-1, kind="stable"))


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", KEYS)
def test_searching_every_dtype(dtype: str, right: bool) -> None:
    keys, wanted = np.sort(keys_of(dtype, (20,))), keys_of(dtype, (3, 5))
    for some in (keys, keys[:1], keys[:0]):
        found = cuda.to_device(np.full(wanted.shape, -1))
        sorting.searchsorted(cuda.to_device(some), cuda.to_device(wanted), found, stream(), right=right)
        np.testing.assert_array_equal(host(found), np.searchsorted(some, wanted, "right" if right else "left"))


# matrices -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the device in the simulator too, which leaves matrices to the host."""
    monkeypatch.setattr(factorizations, "SIMULATED", False)


def agree(name: str, *operands: np.ndarray, **flags: bool) -> np.ndarray:
    """The result of a routine, which is that of its reference."""
    expected = ROUTINES[name].reference(*operands, **flags)
    out = cuda.to_device(np.full_like(expected, 7))
    getattr(factorizations, name)(*map(cuda.to_device, operands), out, stream(), **flags)
    tolerance = 1e-3 if expected.dtype == np.float32 else 1e-10
    np.testing.assert_allclose(host(out), expected, tolerance, tolerance)
    return expected


@pytest.mark.usefixtures("by_blocks")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 3] if config.ENABLE_CUDASIM else [0, 1, 3, 70])
def test_factorisations(n: int, dtype: str) -> None:
    a = RNG.normal(size=(2, n, n))
    b = RNG.normal(size=(2, n, 3)).astype(dtype)
    agree("cholesky", (a @ a.swapaxes(1, 2) + np.eye(n) + np.triu(a, 1)).astype(dtype))
    factors = agree("lu", a.astype(dtype))
    agree("log_abs_det", factors)
    agree("det_sign", factors)
    for transpose in (False, True):
        agree("lu_solve", factors, b, transpose=transpose)
        for lower, unit_diagonal in np.ndindex(2, 2):
            flags = {"lower": bool(lower), "transpose": transpose, "unit_diagonal": bool(unit_diagonal)}
            agree("triangular_solve", (a + 2 * np.eye(n)).astype(dtype), b, **flags)


@pytest.mark.usefixtures("by_blocks")
def test_matrices_that_cannot_be_factorised() -> None:
    singular = np.array([[[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 1.0, 1.0]], [[0.0, 1, 2], [3, 4, 0], [2, 0, 1]]])
    zero, nan = np.zeros((1, 2, 2)), np.full((1, 2, 2), np.nan)
    indefinite = np.array([[[1.0, 9], [2, 1]], [[4.0, 9], [2, 5]], [[np.nan, 9], [2, 5]], [[4, 9], [np.nan, 5]]])
    agree("cholesky", indefinite)
    for a in (singular, zero, nan):
        factors = agree("lu", a)
        agree("log_abs_det", factors)
        agree("det_sign", factors)
        for flag in (False, True):
            agree("lu_solve", factors, np.ones((*a.shape[:2], 1)), transpose=flag)
            agree("triangular_solve", a, np.ones((*a.shape[:2], 1)), lower=True, transpose=flag, unit_diagonal=False)


@pytest.mark.usefixtures("by_blocks")
def test_the_host_factorises_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorizations, "LARGEST", 2)
    monkeypatch.setattr(factorizations, "factor_lu", None)
    agree("lu", RNG.normal(size=(2, 3, 3)))


# products -------------------------------------------------------------------------------------------------------------

INTEGERS = [dtype for dtype in KEYS if np.dtype(dtype).kind != "f"]
PRODUCTS = [
    ((3, 3), (3, 4)), ((1, 1), (1, 1)), ((2, 0), (0, 3)), ((EDGE, EDGE), (EDGE, EDGE)), ((EDGE + 1, 3), (3, EDGE + 1)),
    ((5,), (5,)), ((5,), (5, 3)), ((3, 5), (5,)), ((2, 1, 3), (2, 3, 2)), ((2, 1, 3), (3, 2)), ((2, 3), (2, 3, 1)),
]  # fmt: skip


def product_on_device(dtype: str, shapes: Any, transposed: tuple[bool, bool], beta: float) -> None:
    operands = [keys_of(dtype, shape) for shape in shapes]
    expected = np.asarray(np.matmul(*operands), dtype)
    before = keys_of(dtype, expected.shape)
    given = [
        np.ascontiguousarray(array.swapaxes(-1, -2) if flag else array)
        for array, flag in zip(operands, transposed, strict=True)
    ]
    out = cuda.to_device(before)
    products.by_tiles(*map(cuda.to_device, given), out, stream(), *transposed, beta)
    np.testing.assert_array_equal(host(out), before + expected if beta else expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_products_of_integers_wrap_around(dtype: str) -> None:
    for beta in (0.0, 1.0):
        product_on_device(dtype, PRODUCTS[0], (False, False), beta)


@pytest.mark.parametrize("shapes", PRODUCTS)
def test_products_of_integers_of_every_shape(shapes: Any) -> None:
    for flags in np.ndindex(2, 2):
        if not any(flag and len(shape) < 2 for flag, shape in zip(flags, shapes, strict=True)):
            product_on_device("int16", shapes, (bool(flags[0]), bool(flags[1])), beta=1.0)


def test_a_product_of_booleans_counts_no_terms() -> None:
    """256 of them would wrap around to none."""
    some = cuda.to_device(np.ones(256, bool))
    out = cuda.to_device(np.zeros((), bool))
    products.by_tiles(some, some, out, stream(), False, False, 0.0)
    assert host(out)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("places", [1, 3, 40])
@pytest.mark.parametrize("shape", [(2 * TILE + 3,), (5, 4), (17, 3), (1, 2), (0, 3), (3, 0)])
def test_sums_at_positions_in_order(shape: tuple[int, ...], places: int, dtype: str) -> None:
    """Bit by bit NumPy's, which adds one after the other."""
    base = RNG.lognormal(0, 5, (places, *shape[1:])).astype(dtype)
    rows, index = RNG.lognormal(0, 5, shape).astype(dtype), RNG.integers(0, places, shape[0])
    positions, order = cuda.to_device(index * (base.size // places)), cuda.to_device(np.full(shape[0], -1))
    sums = cuda.to_device(base)
    sorting.argsort(positions, cuda.to_device(np.empty(shape[0], np.int64)), order, stream())
    sorting.add_at(order, positions, cuda.to_device(rows), sums, stream())
    np.add.at(base, index, rows)
    assert host(sums).tobytes() == base.tobytes()


def test_sums_elsewhere_go_nowhere() -> None:
    memory = cuda.to_device(np.zeros(12))
    positions, order = (cuda.to_device(np.array(values)) for values in ([4, -2, 0, 2, -1], [1, 4, 2, 3, 0]))
    sorting.add_at(order, positions, cuda.to_device(np.ones((5, 2))), memory[4:9], stream())
    assert host(memory).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool"])
def test_what_else_happens_at_indices(dtype: str) -> None:
    s, k, u = Input((7, 3), dtype, name="s"), Input(("N",), "int64", name="k"), Input(("N", 3), dtype, name="u")
    views = [s.at[k].set(u), *([] if dtype == "bool" else [s.at[k].max(u), s.at[k].min(u)]), s[k]]
    shapes = {"s": (7, 3), "u": (30, 3)}
    feeds = {name: RNG.integers(0, 9, shape).astype(dtype) for name, shape in shapes.items()}
    feeds["k"] = RNG.integers(-7, 7, 30)
    if dtype == "float32":
        feeds["u"][3] = np.nan
    expected = graphc.compile(views)(**feeds)
    found = graphc.compile(views, target="cuda")(**feeds)
    for one, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(host(one), want)


def test_a_program_whose_sums_are_in_order() -> None:
    s, k = Input((4, 3), "float32", name="s"), Input(("N",), "int64", name="k")
    u = Input(("N", 3), "float32", name="u")
    feeds = {"s": np.ones((4, 3), np.float32), "k": np.array([1, -1, 1, 0, 1, 3]), "u": RNG.normal(size=(6, 3))}
    found = host(graphc.compile(s.at[k].add(u * 2), target=Cuda(deterministic=True))(**feeds))
    np.add.at(feeds["s"], feeds["k"], feeds["u"].astype(np.float32) * np.float32(2))
    assert found.tobytes() == feeds["s"].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "bool"])
def test_programs_that_sort(dtype: str) -> None:
    x, v = Input(("N", "M"), dtype, name="x"), Input(("K",), "float32", name="v")
    views = [np.argsort(x, axis=1), np.argsort(x, axis=0), np.searchsorted([-1.0, 0.0, 2.0], v)]
    feeds = {"x": RNG.integers(-2, 2, (3, TILE + 3)).astype("float32"), "v": [0.0, 5.0, np.nan]}
    feeds["x"] = feeds["x"] if dtype != "bool" else feeds["x"] > 0
    expected = graphc.compile(views, target="interpret")(**feeds)
    for found, want in zip(graphc.compile(views, target="cuda")(**feeds), expected, strict=True):
        np.testing.assert_array_equal(host(found), want)


def test_sums_of_no_columns() -> None:
    x, y = Input(("N", 0), "float64", name="x"), Input(("N",), "float64", name="y")
    program = graphc.compile([np.sum(x, axis=0), np.sum(y)], target="cuda")
    columns, total = program(x=np.empty((5, 0)), y=np.ones(5))
    assert (host(columns).tolist(), float(host(total))) == ([], 5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype: str) -> None:
    x = Input(("N",), dtype, name="x")
    values = graphc.compile(np.exp(x), target="interpret")(x=[0.5, 1.0, -2.0])
    found = host(graphc.compile(np.exp(x), target="cuda")(x=[0.5, 1.0, -2.0]))
    assert found.view(np.uint16).tolist() == values.view(np.uint16).tolist()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_by_value_and_from_the_device(dtype: str) -> None:
    scale, x = Input((), dtype, name="scale"), Input(("N",), dtype, name="x")
    program = graphc.compile(x * scale, target="cuda")
    once = program(x=[0.5, 1.0, 2.0], scale=3.0)
    twice = host(program(x=once, scale=2.0)).view(np.uint16)
    expected = graphc.compile(x * scale, target="interpret")(x=[1.5, 3.0, 6.0], scale=2.0)
    assert twice.tolist() == expected.view(np.uint16).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_by_the_library(dtype: str) -> None:
    """Those of some size; the small ones of the ops above are computed by kernels."""
    a, b = Input(("B", "M", "K"), dtype, name="a"), Input(("B", "K", "N"), dtype, name="b")
    c, v = Input(("M", "K"), dtype, name="c"), Input(("K",), dtype, name="v")
    views = [a @ b, b.swapaxes(1, 2) @ a.swapaxes(1, 2), c @ c.T, c.T @ c, a @ b[0], c @ v, c @ b[0] + c @ b[1]]
    feeds = {"a": RNG.normal(size=(3, 20, 40)), "b": RNG.normal(size=(3, 40, 30)), "v": RNG.normal(size=40)}
    feeds |= {"c": RNG.normal(size=(20, 40))}
    feeds = {name: values.astype(dtype) for name, values in feeds.items()}
    expected = graphc.compile(views)(**feeds)
    for found, wanted in zip(graphc.compile(views, target="cuda")(**feeds), expected, strict=True):
        np.testing.assert_allclose(host(found), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "bool"])
def test_scalars_from_the_device(dtype: str) -> None:
    x = Input((), dtype, name="x")
    program = graphc.compile([x, np.where(x, x, x)], target="cuda")
    first, second = program(x=np.dtype(dtype).type(1))
    assert first.shape == second.shape == ()
    for _ in range(3):
        first, second = program(x=first)
    assert (host(first), host(second)) == (1, 1)


def test_jitted_functions_are_the_processors() -> None:
    x = Input((), name="x")
    with pytest.raises(CompileValueError, match=r"njit is the processor's alone\n  compile it with target=\"cpu\""):
        _ = graphc.compile(x * 2, target="cuda").njit


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_trainer_learns_as_on_the_processor(batch_size: int | None) -> None:
    trainers = [Trainer(Network.loss, Adam(0.01), [Network.acc], target=target) for target in ("cpu", "cuda")]
    histories, losses = [], []
    for trainer in trainers:
        losses.append(float(np.asarray(trainer.step(x=X, y=Y))))
        histories.append(trainer.fit({"x": X, "y": Y}, epochs=1, batch_size=batch_size, validation={"x": X, "y": Y}))
    close(losses[0], losses[1])
    for name, values in histories[0].items():
        close(values, histories[1][name])
    for name, value in trainers[0].params.items():
        close(trainers[1].params[name], value)
    close(host(trainers[1].predict(Network.logits, x=X)), trainers[0].predict(Network.logits, x=X))
