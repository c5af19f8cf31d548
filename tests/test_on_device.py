"""Programs on an NVIDIA GPU, or in numba-cuda's simulator (`tests/test_cuda.py` runs them there)."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from gridded import from_device, on_grid
from lowered import Case
from numba.core import config
from test_ops_compiled import FAMILIES, check, check_adjoints, combined, grouped

import graphc
from graphc import Adam, Dense, Input, Param, Planner, Trainer
from graphc.ir.errors import CompileValueError, DeviceMemoryError, FeedIndexError, FeedTypeError, FeedValueError

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed", allow_module_level=True)
from numba import cuda

if not cuda.is_available():
    pytest.skip("needs an NVIDIA GPU, or NUMBA_ENABLE_CUDASIM=1", allow_module_level=True)

# The simulator's threads are Python's: few of them.
BLOCKS, THREADS = (3, 8) if config.ENABLE_CUDASIM else (64, 128)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator divides by zero in Python


def run(case: Case) -> dict[str, np.ndarray]:
    return from_device(on_grid(case.graph, BLOCKS), case, THREADS)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint16", "bool"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ops(family: str, dtype: str) -> None:
    if about := grouped(False)[family, dtype]:
        check(combined(f"{family}_{dtype}", about), about, run=run)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_adjoints(family: str, dtype: str) -> None:
    check_adjoints(family, dtype, run)


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
    with pytest.raises(FeedIndexError, match="y: index out of range for an axis of size 3"):
        program(x=X, y=Y + 3)
    close(host(program(x=X, y=Y)), graphc.compile(Network.loss)(x=X, y=Y))


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.codegen.cuda import runtime

    x = Input(("N", 50), "float32", name="x")
    program = graphc.compile(np.sum(np.sort(np.exp(x), axis=1), axis=0, dtype="float32"), target="cuda")
    values = np.ones((7, 50), np.float32)

    def full(nbytes: int, dtype: Any) -> Any:
        raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    with monkeypatch.context() as patch:
        patch.setattr(runtime.cuda, "device_array", full)
        with pytest.raises(DeviceMemoryError) as caught:
            program(x=values)
    assert isinstance(caught.value, MemoryError)
    assert "bytes more are needed; the largest of the program's buffers are" in str(caught.value)
    assert str(caught.value).endswith("\n  feed fewer examples at a time")
    close(host(program(x=values)), 7 * np.full(50, np.e))  # the process goes on


def test_empty_inputs() -> None:
    x = Input(("N", 3), "float32", name="x")
    program = graphc.compile([np.exp(x), np.sum(x), np.sum(x, axis=0)], target="cuda")
    values = [host(value) for value in program(x=np.empty((0, 3), np.float32))]
    assert [value.tolist() for value in values] == [[], 0, [0, 0, 0]]


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
