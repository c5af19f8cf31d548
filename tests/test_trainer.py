"""Training: steps and epochs against NumPy, what a trainer shares and saves, and what it refuses."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numba.core.runtime import rtsys
from numba.core.runtime._nrt_python import memsys_disable_stats, memsys_enable_stats

import graphc
from graphc import SGD, Adam, CompileError, Dense, FeedError, Input, Param, Planner, Trainer
from graphc.codegen.training import loop_name
from graphc.training_step import GATHERED, TrainingStep

RNG = np.random.default_rng(5)
X, T = RNG.normal(size=(10, 3)), RNG.normal(size=10)
DATA = {"x": X, "t": T}
START = {"w": np.array([0.5, -1.0, 2.0]), "b": np.array(0.25)}


class Line(Planner):
    x = Input(("N", 3))
    data = x
    t = Input(("N",))
    w = Param(START["w"])
    b = Param(float(START["b"]))
    y = x @ w + b
    error = y - t
    loss = np.mean(error**2)
    worst = np.max(np.abs(error))
    bias = np.mean(error)


def gradients(w: Any, b: Any, rows: Any = slice(None)) -> tuple[float, dict[str, Any]]:
    error = X[rows] @ w + b - T[rows]
    return float(np.mean(error**2)), {"w": 2 * X[rows].T @ error / len(error), "b": 2 * np.mean(error)}


class ByHand:
    """The optimisers of DESIGN 1.3 in NumPy."""

    def __init__(self, optimizer: SGD | Adam) -> None:
        self.optimizer = optimizer
        self.params = {name: value.copy() for name, value in START.items()}
        self.first = {name: np.zeros_like(value) for name, value in START.items()}
        self.second = {name: np.zeros_like(value) for name, value in START.items()}
        self.count = 0

    def step(self, rows: Any = slice(None)) -> float:
        loss, found = gradients(**self.params, rows=rows)
        lr = self.optimizer.lr(self.count) if callable(self.optimizer.lr) else self.optimizer.lr
        self.count += 1
        for name, g in found.items():
            if isinstance(self.optimizer, SGD):
                self.first[name] = self.optimizer.momentum * self.first[name] + g
                self.params[name] = self.params[name] - lr * self.first[name]
                continue
            beta1, beta2 = self.optimizer.beta1, self.optimizer.beta2
            self.first[name] = beta1 * self.first[name] + (1 - beta1) * g
            self.second[name] = beta2 * self.second[name] + (1 - beta2) * g**2
            mean = self.first[name] / (1 - beta1**self.count)
            square = self.second[name] / (1 - beta2**self.count)
            self.params[name] = self.params[name] - lr * mean / (np.sqrt(square) + self.optimizer.eps)
        return loss


def assert_params(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-11, atol=1e-13, err_msg=name)


def refuse(call: Callable[[], Any], kind: type[Exception], also: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, also)
    assert str(caught.value) == text


@pytest.fixture(params=["interpret", "cpu"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# steps and optimisers -------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.05), Adam(0.05, beta1=0.5, beta2=0.9, eps=0.1),
    SGD(lambda step: 0.1 / (step + 1), momentum=0.5), Adam(lambda step: 0.1 if step < 2 else 0.01),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=range(len(OPTIMIZERS)))
def test_optimizers_against_numpy(optimizer: SGD | Adam, target: str) -> None:
    trainer, expected = Trainer(Line.loss, optimizer, target=target), ByHand(optimizer)
    for _ in range(4):
        loss = trainer.step(**DATA)
        assert type(loss) is np.float64
        assert loss == pytest.approx(expected.step(), rel=1e-12)
        assert_params(trainer.params, expected.params)
    history = trainer.fit(DATA, epochs=2)  # goes on with the same state and step count
    assert history["loss"] == pytest.approx([expected.step(), expected.step()], rel=1e-12)
    assert_params(trainer.params, expected.params)


def test_a_step_is_the_first_of_fit(target: str) -> None:
    stepped, fitted = (Trainer(Line.loss, Adam(0.1), target=target) for _ in range(2))
    loss = stepped.step(**DATA)
    assert fitted.fit(DATA) == {"loss": [pytest.approx(loss, rel=1e-12)]}
    assert_params(fitted.params, stepped.params)


def test_schedules_are_asked_for_every_step_and_never_recompile() -> None:
    asked: list[int] = []

    def lr(step: int) -> float:
        asked.append(step)
        return 0.1 / (1 + step)

    trainer = Trainer(Line.loss, SGD(lr))
    trainer.step(**DATA)
    function = trainer._step(False).executable
    trainer.fit(DATA, epochs=2, batch_size=4)
    trainer.step(**DATA)
    assert asked == list(range(8))
    assert trainer._step(False).executable is function


def test_a_step_keeps_its_memory() -> None:
    class Wide(Planner):
        x = Input(("N", 20))
        w = Param(np.eye(20))
        loss = np.mean((x @ w) ** 2)  # a library call, so x @ w stands in memory

    trainer = Trainer(Wide.loss, Adam(0.1))
    data = np.ones((10, 20))
    trainer.step(x=data[:7])
    step = trainer._step(False)
    memory = step._memory
    assert memory.size > 0
    for count in (7, 3, 1):
        trainer.step(x=data[:count])
        assert step._memory is memory
    trainer.step(x=data)
    assert step._memory.size > memory.size


def test_a_step_allocates_nothing() -> None:
    """Nothing inside compiled code; and in Python, outside of it, less than a row of what it computes."""
    size = 100
    x, data = Input(("N", size), name="x"), RNG.normal(size=(4 * size, size))
    trainer = Trainer(np.mean(np.tanh(x | Dense(size))), Adam(0.1))
    memsys_enable_stats()
    try:
        for batch in (data[:size], data[size : 2 * size]):
            trainer.step(x=batch)
            before = rtsys.get_allocation_stats()
            tracemalloc.start()
            trainer.step(x=batch)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert rtsys.get_allocation_stats() == before
            assert peak < 8 * size
        trainer.fit({"x": data}, epochs=2, batch_size=size)
        before = rtsys.get_allocation_stats()
        trainer.fit({"x": data}, epochs=2, batch_size=size)
        assert rtsys.get_allocation_stats() == before
    finally:
        memsys_disable_stats()


def test_views_named_like_the_steps_own_inputs() -> None:
    class Clash(Planner):
        x = Input(("N",))
        step = 1 * x  # vanishes before the update is attached
        learning_rate = Param(3.0)
        velocity = step * learning_rate
        loss = np.mean(velocity**2)

    trainer = Trainer(Clash.loss, SGD(0.5, momentum=0.5))
    trainer.fit({"x": [1.0, 1.0]}, batch_size=1)
    assert trainer.params["learning_rate"] == pytest.approx(3 - 3 - 0.5 * 0.5 * 6)


# epochs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 4, 10, 99])
def test_fit_against_numpy(batch_size: int | None, target: str) -> None:
    optimizer = SGD(0.05, momentum=0.5)
    trainer = Trainer(Line.loss, optimizer, [Line.worst, Line.bias], target=target)
    expected, seen = ByHand(optimizer), []
    history = trainer.fit(DATA, 3, batch_size, seed=7, callbacks=[lambda epoch, logs: seen.append((epoch, logs))])
    size = min(batch_size or 10, 10)
    for epoch in range(3):
        order = np.arange(10)
        if batch_size is not None:
            order = np.random.Generator(np.random.Philox(key=[7, epoch])).permutation(10)
        totals = np.zeros(3)
        for first in range(0, 10, size):
            rows = order[first : first + size]
            error = X[rows] @ expected.params["w"] + expected.params["b"] - T[rows]
            totals += len(rows) * np.array([expected.step(rows), np.max(np.abs(error)), np.mean(error)])
        logs = {"loss": totals[0] / 10, "worst": totals[1] / 10, "bias": totals[2] / 10}
        assert seen[epoch] == (epoch, pytest.approx(logs, rel=1e-11, abs=1e-13))
        assert {name: values[epoch] for name, values in history.items()} == seen[epoch][1]
    assert_params(trainer.params, expected.params)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_epochs_that_share_a_native_call(batch_size: int | None, target: str) -> None:
    """With a callback every epoch has calls of its own."""
    together, apart = (Trainer(Line.loss, Adam(lambda k: 0.1 / (1 + k)), [Line.worst], target=target) for _ in range(2))
    history = together.fit(DATA, 30, batch_size)
    assert apart.fit(DATA, 30, batch_size, callbacks=[lambda epoch, logs: None]) == history
    assert_params(together.params, dict(apart.params))
    assert together.step(**DATA) == apart.step(**DATA)


@pytest.mark.parametrize("batch_size", [1, 7, 2000])
def test_more_examples_than_are_gathered_at_once(batch_size: int) -> None:
    data = {"x": RNG.normal(size=(3001, 3)), "t": RNG.normal(size=3001)}
    assert data["x"].nbytes > 2 * GATHERED
    native, expected = Trainer(Line.loss, SGD(0.01)), Trainer(Line.loss, SGD(0.01), target="interpret")
    loss = expected.fit(data, 1, batch_size)["loss"]
    assert native.fit(data, 1, batch_size)["loss"] == pytest.approx(loss)
    assert_params(native.params, dict(expected.params))


def test_the_loop_is_compiled_once_and_for_fit_alone() -> None:
    trainer = Trainer(np.mean(Line.error**4), SGD(0.01))
    trainer.step(**DATA)
    loop = getattr(trainer._step(False).emitted.serial.module, loop_name(trainer._step(False).emitted.serial.program))
    fixed = {name: array.copy() for name, array in DATA.items()}
    for array in fixed.values():
        array.flags.writeable = False
    assert not loop.signatures
    for data in (DATA, fixed):
        trainer.fit(data, batch_size=4)
        assert len(loop.signatures) == 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def losses(seed: int, *epochs: int) -> list[float]:
        trainer = Trainer(Line.loss, SGD(0.05), target="interpret")
        return [loss for count in epochs for loss in trainer.fit(DATA, count, 3, seed)["loss"]]

    assert losses(0, 3) == losses(0, 3)
    assert losses(0, 1) != losses(1, 1)
    assert losses(0, 1, 1) != losses(0, 2)  # each fit begins with epoch 0


def test_validation_is_evaluated_after_every_epoch() -> None:
    trainer = Trainer(Line.loss, SGD(0.1), [Line.bias])
    results: list[dict[str, float]] = []
    history = trainer.fit(
        {"x": X[:6], "t": T[:6]}, 2, 4, validation={"x": X[6:], "t": T[6:]},
        callbacks=[lambda epoch, logs: results.append(trainer.evaluate({"x": X[6:], "t": T[6:]}))],
    )  # fmt: skip
    assert list(history) == ["loss", "bias", "val_loss", "val_bias"]
    assert [{"loss": a, "bias": b} for a, b in zip(history["val_loss"], history["val_bias"], strict=True)] == results
    loss, _ = gradients(**dict(trainer.params), rows=slice(6, None))
    assert results[-1]["loss"] == pytest.approx(loss)


def test_inputs_without_the_batch_axis_are_fed_whole(target: str) -> None:
    class Scaled(Planner):
        x = Input(("N", 3))
        scale = Input((3,))
        power = Input((), "int64")
        other = Input(("M",))
        t = Input(("N",))
        w = Param(np.ones(3))
        loss = np.mean(((x * scale) @ w * power + np.sum(other) - t) ** 2)

    trainer = Trainer(Scaled.loss, SGD(0.0), target=target)
    scale = np.array([1.0, 2.0, -1.0])
    feeds = {**DATA, "scale": scale, "power": 2, "other": [1.0, 2.0]}
    expected = np.mean(((X * scale) @ np.ones(3) * 2 + 3 - T) ** 2)
    assert trainer.fit(feeds, batch_size=3)["loss"] == [pytest.approx(expected)]
    assert trainer.batched == ("x", "t")


def test_data_by_another_name_of_its_input() -> None:
    class Aliased(Planner):
        x = Input(("N",))
        data = x
        w = Param(1.0)
        loss = np.mean((x * w) ** 2)

    plain, aliased = (Trainer(Aliased.loss, SGD(0.1), target="interpret") for _ in range(2))
    assert aliased.fit({"data": T}, batch_size=4) == plain.fit({"x": T}, batch_size=4)


def test_targets_agree() -> None:
    results = []
    for target in ("cpu", "interpret"):
        trainer = Trainer(Line.loss, Adam(0.1), [Line.worst], target=target)
        history = trainer.fit(DATA, 3, 4, validation=DATA)
        results.append([*history.values(), trainer.params["w"], trainer.predict(Line.y, x=X)])
    for compiled, interpreted in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, interpreted, rtol=1e-11, atol=1e-13)


def test_interrupted_training_goes_on(target: str) -> None:
    whole, broken = (Trainer(Line.loss, Adam(0.1), target=target) for _ in range(2))

    def interrupt(epoch: int, logs: dict[str, float]) -> None:
        raise KeyboardInterrupt

    whole.fit(DATA, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(DATA, epochs=5, batch_size=4, callbacks=[interrupt])
    assert_params(broken.params, whole.params)
    assert broken.step(**DATA) == whole.step(**DATA)
    assert_params(broken.params, whole.params)  # the step count and Adam's state are where they were too


def test_ctrl_c_during_a_native_call_counts_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, whole = (Trainer(Line.loss, Adam(0.1), target="interpret") for _ in range(2))
    native = TrainingStep.executable.func(trainer._step(False))  # type: ignore[attr-defined]

    def interrupted(*arguments: Any) -> Any:
        native(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(trainer._step(True).__dict__, "executable", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(DATA)
    whole.fit(DATA)
    trainer.step(**DATA), whole.step(**DATA)
    assert_params(trainer.params, whole.params)


# parameters -----------------------------------------------------------------------------------------------------------


def test_only_wrt_is_trained(target: str) -> None:
    for optimizer in (SGD(0.1, momentum=0.9), Adam(0.1)):
        for wrt in ("b", Line.b, [Line.b], ["b"]):
            trainer = Trainer(Line.loss, optimizer, wrt=wrt, target="interpret")
            trainer.step(**DATA)
            np.testing.assert_array_equal(trainer.params["w"], START["w"])
            assert trainer.params["b"] != START["b"]
    trainer = Trainer(Line.loss, SGD(0.1), wrt="b", target=target)
    trainer.fit(DATA, batch_size=10)
    np.testing.assert_array_equal(trainer.params["w"], START["w"])
    assert trainer.params["b"] == pytest.approx(START["b"] - 0.1 * gradients(**START)[1]["b"])


def test_parameters_are_shared_and_live() -> None:
    program = graphc.compile(Line.y, target="interpret")
    trainer = Trainer(Line.loss, SGD(0.1), params=program.params, target="interpret")
    before = program(x=X)
    trainer.step(**DATA)
    np.testing.assert_array_equal(program.params["w"], trainer.params["w"])
    assert not np.array_equal(program(x=X), before)
    np.testing.assert_array_equal(trainer.predict(Line.y, x=X), program(x=X))
    trainer.params["w"] = [0, 0, 0]
    np.testing.assert_allclose(program(x=X), np.full(10, trainer.params["b"]))
    values = Trainer(Line.loss, SGD(0.1), params={"b": 7}, target="interpret")
    assert values.params["b"] == 7
    np.testing.assert_array_equal(values.params["w"], START["w"])


def test_predict_and_evaluate() -> None:
    trainer = Trainer(Line.loss, SGD(0.1), [Line.worst], target="interpret")
    y, error = trainer.predict([Line.y, Line.error], **DATA)
    np.testing.assert_allclose(y - T, error)
    np.testing.assert_array_equal(trainer.predict(Line.y, x=X), y)
    assert trainer.evaluate(DATA) == {
        "loss": pytest.approx(np.mean(error**2)), "worst": pytest.approx(np.max(np.abs(error)))
    }  # fmt: skip


def test_save_and_load(tmp_path: Path) -> None:
    trainer, other = (Trainer(Line.loss, SGD(0.1), target="interpret") for _ in range(2))
    trainer.step(**DATA)
    for path in (tmp_path / "one.safetensors", str(tmp_path / "two.safetensors")):
        trainer.save(path)
        trainer.save(path)
        other.params["w"] = [0, 0, 0]
        other.load(path)
        for name, value in trainer.params.items():
            np.testing.assert_array_equal(other.params[name], value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.safetensors", "two.safetensors"]
    with pytest.raises(FileNotFoundError):
        trainer.save(tmp_path / "nowhere" / "one.safetensors")


def test_files_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    trainer = Trainer(Line.loss, SGD(0.1), target="interpret")
    path = tmp_path / "file.safetensors"
    w, b = np.ones(3), np.ones(())
    contents: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"w": w}, TypeError, "the file lacks b"),
        ({"w": w, "b": b, "bb": b}, TypeError, "no parameter named 'bb'; did you mean 'b'?"),
        ({"w": w, "b": w}, ValueError, "b wants float64 of shape (), got 1 dims: shape (3,)"),
        ({"w": np.ones(2), "b": b}, ValueError, "w wants float64 of shape (3,), got shape (2,)"),
    ]
    for arrays, also, text in contents:
        safetensors.numpy.save_file(arrays, path)
        refuse(lambda: trainer.load(path), FeedError, also, f"{path}: {text}")
    path.write_bytes(b"not one")
    with pytest.raises(graphc.GraphcError, match=r"cannot read .*file\.safetensors as \.safetensors: "):
        trainer.load(path)
    refuse(
        lambda: trainer.load(tmp_path / "none"), graphc.GraphcError, OSError,
        f"cannot read {tmp_path / 'none'}: No such file or directory",
    )  # fmt: skip
    for name, value in START.items():
        np.testing.assert_array_equal(trainer.params[name], value)


# what is refused ------------------------------------------------------------------------------------------------------

COMPILE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Trainer(3, SGD(0.1)), TypeError, "Trainer wants a loss view, got 3"),  # type: ignore[arg-type]
    (
        lambda: Trainer(np.mean(Line.x), SGD(0.1)), ValueError,
        "graph has no parameters to train\n  declare a Param or a layer",
    ),
    (lambda: Trainer(Line.loss, SGD(0.1), wrt="y"), TypeError, "only parameters are trained, and y is none"),
    (lambda: Trainer(Line.loss, SGD(0.1), [Line.y]), ValueError, "a metric is a scalar, and y is f64[N]"),
    (lambda: Trainer(Line.loss, SGD(0.1), target="cpus"), ValueError, "no target named 'cpus'; did you mean 'cpu'?"),
    (lambda: Trainer(Line.loss, SGD(0.1), params=[1]), TypeError, "params is a mapping, got [1]"),  # type: ignore[arg-type]
    (
        lambda: Trainer(Line.loss, SGD(0.1), threads=-1), ValueError,
        "threads is a number of threads or None, got -1",
    ),
    (lambda: SGD(-0.1), TypeError, "SGD's lr is a non-negative number or a function of the step, got -0.1"),
    (lambda: Adam(float("nan")), TypeError, "Adam's lr is a non-negative number or a function of the step, got nan"),
    (lambda: SGD(0.1, momentum=1.0), ValueError, "SGD's momentum lies in [0, 1), got 1.0"),
    (lambda: Adam(beta2=1.5), ValueError, "Adam's beta2 lies in [0, 1), got 1.5"),
    (lambda: Adam(eps=0.0), ValueError, "Adam's eps is positive, got 0.0"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(COMPILE)))
def test_declarations_that_are_refused(case: int) -> None:
    call, also, text = COMPILE[case]
    refuse(call, CompileError, also, text)


def test_a_loss_is_a_scalar() -> None:
    with pytest.raises(graphc.DifferentiationError, match=r"the gradient of y wants a scalar, and it is f64\[N\]"):
        Trainer(Line.y, SGD(0.1))


@pytest.mark.parametrize(("option", "value", "wanted"), [
    ("batch_size", 0, "a positive integer or None"), ("batch_size", 2.0, "a positive integer or None"),
    ("batch_size", True, "a positive integer or None"), ("epochs", -1, "an integer from 0"),
    ("epochs", None, "an integer from 0"), ("seed", -1, "an integer from 0"), ("seed", 0.5, "an integer from 0"),
])  # fmt: skip
def test_counts(option: str, value: Any, wanted: str) -> None:
    trainer = Trainer(Line.loss, SGD(0.1), target="interpret")
    refuse(lambda: trainer.fit(DATA, **{option: value}), CompileError, ValueError, f"{option} is {wanted}, got {value}")


def test_a_loss_without_a_batch_axis() -> None:
    x, w = Input((3,), name="x"), Param(np.ones(3), name="w")
    trainer = Trainer(np.sum((x * w) ** 2), SGD(0.1), target="interpret")
    refuse(
        lambda: trainer.fit({"x": np.ones(3)}), CompileError, ValueError,
        "graph has no batch axis: no input has a symbolic leading dim\n"
        '  declare the inputs with one, Input(("N", 64)), or call trainer.step',
    )  # fmt: skip
    assert trainer.step(x=np.ones(3)) == 3


class Guarded(Planner):
    x = Input(("N",))
    w = Param(1.0)
    loss = np.mean(x[:2] * w)


def test_data_that_does_not_fit_is_refused_before_anything_is_trained() -> None:
    trainer = Trainer(Line.loss, SGD(0.1), target="interpret")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"x": X}, TypeError, "missing feed: t (float64 of shape (N,))\n  pass t=array"),
        ({"x": X, "t": T[:9]}, ValueError, "x has N = 10, t has N = 9"),
        ({"x": X[:0], "t": T[:0]}, ValueError, "x holds no examples"),
        ({**DATA, "w": START["w"]}, TypeError, "no input named 'w'; there are x, t"),
    ]
    for data, also, text in cases:
        refuse(lambda data=data: trainer.fit(data), FeedError, also, text)  # type: ignore[misc]
        if len(data["x"]):
            refuse(lambda data=data: trainer.fit(DATA, validation=data), FeedError, also, text)  # type: ignore[misc]
    assert_params(trainer.params, START)
    guarded = Trainer(Guarded.loss, SGD(0.1), target="interpret")
    for size in (1, 2):  # of 5 examples batches of 2 leave one alone
        with pytest.raises(FeedError, match=r"got N = 1$"):
            guarded.fit({"x": np.ones(5)}, batch_size=size)
    assert guarded.params["w"] == 1
    guarded.fit({"x": np.ones(5)}, batch_size=3)


def test_labels_out_of_range(target: str) -> None:
    class Classes(Planner):
        y = Input(("N",), "int64")
        w = Param(np.zeros((1, 3)))
        loss = graphc.cross_entropy(np.broadcast_to(w, (y.shape[0], 3)), y)

    trainer = Trainer(Classes.loss, SGD(0.1), target=target)
    for call in (lambda: trainer.fit({"y": [0, 1, 3]}, batch_size=2), lambda: trainer.step(y=[0, 3])):
        with pytest.raises(FeedError, match=r"^Classes\.loss, test_trainer\.py:\d+: y: index out of range"):
            call()
    assert np.isfinite(trainer.step(y=[0, 1]))


def test_an_input_that_is_the_gradient_keeps_its_name(target: str) -> None:
    class Dot(Planner):
        g = Input((3,))
        w = Param([1.0, 2.0, 3.0])
        loss = np.sum(w * g)

    trainer = Trainer(Dot.loss, SGD(0.5), target=target)
    assert trainer.step(g=[2.0, 0.0, 4.0]) == 14
    assert trainer.step(g=np.array([2.0, 0.0, 4.0])) == 4
    np.testing.assert_array_equal(trainer.params["w"], [-1.0, 2.0, -1.0])


def test_parameters_fed_as_inputs_are_read_as_they_were() -> None:
    """The memory that a step updates may be what it reads, backwards."""

    class Reversed(Planner):
        x = Input((1000,))
        w = Param(np.arange(1000.0))
        loss = ((x[::-1] - w) ** 2).sum()

    start = np.arange(1000.0)
    expected = start - 0.125 * 2 * (start - start[::-1])
    for way in ("step", "step again", "update"):
        if way == "update":
            following = Reversed.w - 0.25 * (Reversed.w - Reversed.x[::-1])
            program = graphc.compile(Reversed.loss, updates={Reversed.w: following})
            program(x=program.params["w"])
            np.testing.assert_allclose(program.params["w"], expected)
            continue
        trainer = Trainer(Reversed.loss, SGD(0.125))
        if way == "step again":
            trainer.step(x=start)
            trainer.params["w"] = start
        trainer.step(x=trainer.params["w"])
        np.testing.assert_allclose(trainer.params["w"], expected)
