"""The worked examples of the lectures that graphc grew out of: values, gradients and second derivatives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import (
    SGD,
    Dense,
    Input,
    Param,
    Planner,
    Trainer,
    View,
    cross_entropy,
    elu,
    grad,
    leaky_relu,
    relu,
    sigmoid,
    softplus,
    step,
)

pytestmark = pytest.mark.parametrize("target", ["interpret", "cpu"])


def derivatives(target: str, f: View, wrt: Sequence[View], **feeds: Any) -> tuple[Any, list[Any], np.ndarray]:
    """Value, gradient and Hessian of a scalar function of scalars, out of one program.

    The gradient is computed twice, as views and by the program, and must agree.
    """
    gradient = grad(f, wrt)
    rows = [grad(one, wrt) for one in gradient]
    program = graphc.compile([f, *gradient, *(one for row in rows for one in row)], wrt=wrt, target=target)
    (value, *rest), grads = program.value_and_grad(**feeds)
    count = len(wrt)
    assert list(grads) == [view.name for view in wrt]
    np.testing.assert_allclose(list(grads.values()), rest[:count], rtol=1e-14)
    return value, rest[:count], np.reshape(rest[count:], (count, count))


def test_a_power_and_a_logarithm(target: str) -> None:
    class Lecture(Planner):
        x1 = Input(())
        x2 = Input(())
        a = Input(())
        f = x1**2 + (x1 - x2) ** a - np.log(x1**2 + x2**2)

    value, gradient, hessian = derivatives(target, Lecture.f, [Lecture.x1, Lecture.x2], x1=2, x2=1, a=1)
    assert value == pytest.approx(3.390562, abs=5e-7)
    assert gradient == pytest.approx([4.2, -1.4])
    np.testing.assert_allclose(hessian, [[2.24, 0.32], [0.32, -0.24]], rtol=1e-12)


def test_a_value_used_twice(target: str) -> None:
    class Lecture(Planner):
        x1 = Input(())
        x2 = Input(())
        f = np.square(x1 + x1 + x2)

    program = graphc.compile(Lecture.f, target=target)
    assert [node.op.name for node in program.graph("build").steps] == ["add", "add", "square"]
    for x1, x2 in ((2.0, 1.0), (-0.5, 3.0)):
        value, gradient, hessian = derivatives(target, Lecture.f, [Lecture.x1, Lecture.x2], x1=x1, x2=x2)
        assert value == (2 * x1 + x2) ** 2
        assert gradient == [8 * x1 + 4 * x2, 4 * x1 + 2 * x2]
        np.testing.assert_array_equal(hessian, [[8, 4], [4, 2]])


def test_a_shared_product(target: str) -> None:
    class Lecture(Planner):
        x = Input(())
        z = Input(())
        y = np.exp(x * z) + x * z / np.log(x) + np.sin(np.log(x)) / (x * z)

    value, gradient, hessian = derivatives(target, Lecture.y, [Lecture.x, Lecture.z], x=2, z=3)
    x, z, e, log = 2.0, 3.0, np.exp(6.0), np.log(2.0)
    sin, cos = np.sin(log), np.cos(log)
    assert value == pytest.approx(e + 6 / log + sin / 6, rel=1e-14)
    d_x = z * e + z / log - z / log**2 + (cos - sin) / (x**2 * z)
    d_z = 2 * e + 2 / log - sin / 18
    assert gradient == pytest.approx([d_x, d_z], rel=1e-14)
    d_xx = z**2 * e - z / (x * log**2) + 2 * z / (x * log**3) + (sin - 3 * cos) / (x**3 * z)
    d_xz = (1 + x * z) * e + 1 / log - 1 / log**2 - (cos - sin) / (x**2 * z**2)
    d_zz = x**2 * e + 2 * sin / (x * z**3)
    np.testing.assert_allclose(hessian, [[d_xx, d_xz], [d_xz, d_zz]], rtol=1e-13)


def test_a_trace_by_hand(target: str) -> None:
    class Lecture(Planner):
        x1 = Input(())
        x2 = Input(())
        f = np.log(x1) + x1 * x2 - np.sin(x2)

    value, gradient, hessian = derivatives(target, Lecture.f, [Lecture.x1, Lecture.x2], x1=2, x2=5)
    assert value == pytest.approx(11.652, abs=5e-4)
    assert gradient == pytest.approx([5.5, 1.716], abs=5e-4)
    np.testing.assert_allclose(hessian, [[-0.25, 1], [1, np.sin(5)]], rtol=1e-14)


def test_a_perceptron(target: str) -> None:
    class Perceptron(Planner):
        x = Input((4,))
        w = Param([0.1, 0.5, 2.5, 0.2])
        b = Param(3.0)
        out = x @ w + b | sigmoid

    slope = grad(Perceptron.out, Perceptron.w)
    curvature = np.stack([grad(one, Perceptron.w) for one in slope])
    x = np.array([2.0, 3.0, -1.0, 5.0])
    program = graphc.compile([Perceptron.out, slope, curvature], wrt="params", target=target)
    (out, slope, rows), grads = program.value_and_grad(x=x)
    y = 1 / (1 + np.exp(-3.2))
    assert out == pytest.approx(0.96, abs=0.005)
    assert out == pytest.approx(y, rel=1e-15)
    assert list(grads) == ["w", "b"]
    assert grads["b"] == pytest.approx(y * (1 - y))
    np.testing.assert_allclose(grads["w"], y * (1 - y) * x, rtol=1e-14)
    np.testing.assert_allclose(slope, grads["w"], rtol=1e-14)
    np.testing.assert_allclose(rows, y * (1 - y) * (1 - 2 * y) * np.outer(x, x), rtol=1e-13)


def test_one_sigmoid_unit(target: str) -> None:
    class Unit(Planner):
        x = Input(())
        c = Input(())
        w = Param(0.0)
        b = Param(0.0)
        y = w * x + b | sigmoid
        loss = (y - c) ** 2 / 2

    value, gradient, hessian = derivatives(target, Unit.loss, [Unit.w, Unit.b], x=1, c=1)
    assert value == 1 / 8
    assert gradient == [-1 / 8, -1 / 8]
    # d2/dw2 = sigmoid'^2 + (y - c) sigmoid'', and sigmoid''(0) is 0.
    np.testing.assert_array_equal(hessian, np.full((2, 2), 1 / 16))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def mean_log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.mean(np.log(probabilities[np.arange(len(labels)), labels])))


def test_softmax_regression_falls_as_handwritten_numpy_does(target: str) -> None:
    size, steps = ((10_000, 500), 100) if target == "cpu" else ((200, 20), 30)
    random = np.random.default_rng(7)
    labels = random.integers(0, 5, size[0])
    data = random.normal(0, 1, (5, size[1]))[labels] + random.normal(0, 2, size)

    class Regression(Planner):
        x = Input(("N", size[1]))
        y = Input(("N",), "int64")
        W = Param((size[1], 5))
        b = Param((5,))
        loss = cross_entropy(x @ W + b, y)

    d_w, d_b = grad(Regression.loss, [Regression.W, Regression.b])
    updates = {Regression.W: Regression.W - 0.1 * d_w, Regression.b: Regression.b - 0.1 * d_b}
    program = graphc.compile(Regression.loss, updates=updates, target=target)
    losses = [program(x=data, y=labels) for _ in range(10)]
    trainer = Trainer(Regression.loss, SGD(0.1), target=target)
    trained = [trainer.step(x=data, y=labels) for _ in range(steps)]

    w, b, expected = np.zeros((size[1], 5)), np.zeros(5), []
    for _ in range(steps):
        p = softmax(data @ w + b)
        expected.append(mean_log_loss(p, labels))
        d_logits = (p - np.eye(5)[labels]) / len(data)
        w -= 0.1 * (data.T @ d_logits)
        b -= 0.1 * d_logits.sum(0)
    assert expected[0] == pytest.approx(np.log(5))
    assert expected[-1] < 0.5 * expected[0]
    np.testing.assert_allclose(losses, expected[:10], rtol=0, atol=1e-6)
    np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(trainer.params["W"], w, rtol=0, atol=1e-9)
    np.testing.assert_allclose(trainer.params["b"], b, rtol=0, atol=1e-9)


def test_the_two_layer_network(target: str) -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(6, 4)), np.array([0, 2, 1, 1, 2, 0])

    class Network(Planner):
        x = Input(("N", 4))
        y = Input(("N",), "int64")
        hidden = x | Dense(5) | np.tanh
        logits = hidden | Dense(3)
        loss = cross_entropy(logits, y)

    program = graphc.compile(Network.loss, wrt="params", target=target, seed=1)
    program.params["hidden.dense.bias"] = random.normal(size=5)
    value, grads = program.value_and_grad(x=x, y=y)

    params = program.params
    assert list(params) == list(grads)
    assert list(params) == ["hidden.dense.weight", "hidden.dense.bias", "logits.dense.weight", "logits.dense.bias"]
    w1, b1, w2, b2 = params.values()
    hidden = np.tanh(x @ w1 + b1)
    p = softmax(hidden @ w2 + b2)
    d_logits = (p - np.eye(3)[y]) / len(x)
    d_inner = (d_logits @ w2.T) * (1 - hidden**2)
    assert value == pytest.approx(mean_log_loss(p, y), rel=1e-13)
    expected = (x.T @ d_inner, d_inner.sum(0), hidden.T @ d_logits, d_logits.sum(0))
    for name, by_hand in zip(params, expected, strict=True):
        np.testing.assert_allclose(grads[name], by_hand, rtol=1e-11, atol=1e-14, err_msg=name)


def test_a_bias_tied_between_two_layers(target: str) -> None:
    random = np.random.default_rng(4)
    x, y = random.normal(size=(6, 4)), np.array([0, 2, 1, 1, 2, 0])

    class Tied(Planner):
        x = Input(("N", 4))
        y = Input(("N",), "int64")
        W1 = Param((4, 3), init="glorot_uniform")
        W2 = Param((3, 3), init="glorot_uniform")
        B = Param([0.1, -0.2, 0.3])
        hidden = x @ W1 + B | np.tanh
        logits = hidden @ W2 + B
        loss = cross_entropy(logits, y)

    curvature = np.stack([grad(one, Tied.B) for one in grad(Tied.loss, Tied.B)])
    program = graphc.compile([Tied.loss, curvature], wrt="params", target=target)
    (value, rows), grads = program.value_and_grad(x=x, y=y)

    w1, w2, b = program.params.values()

    def by_hand(b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        hidden = np.tanh(x @ w1 + b)
        p = softmax(hidden @ w2 + b)
        d_logits = (p - np.eye(3)[y]) / len(x)
        return mean_log_loss(p, y), ((d_logits @ w2.T) * (1 - hidden**2)).sum(0), d_logits.sum(0)

    loss, below, above = by_hand(b)
    assert value == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(grads["B"], below + above, rtol=1e-12)
    assert np.all(np.abs(below) > 1e-4)  # both contributions are there
    assert list(grads) == ["W1", "W2", "B"]
    differences = [(sum(by_hand(b + h)[1:]) - sum(by_hand(b - h)[1:])) / 2e-5 for h in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(rows, differences, rtol=1e-6, atol=1e-9)


def test_the_eight_activations(target: str) -> None:
    s = 2.5
    x = Input(("N",), name="x")
    views = {
        "linear": x,
        "binary step": step(x),
        "sigmoid": sigmoid(x),
        "tanh": np.tanh(x),
        "relu": relu(x),
        "softplus": softplus(x),
        "leaky relu": leaky_relu(x, slope=0.05),
        "elu": elu(x, alpha=1.5),
        "sigmoid of slope s": sigmoid(s * x),
        "tanh_s": (1 - np.exp(-s * x)) / (1 + np.exp(-s * x)),
    }
    slopes = [grad(np.sum(y), x) for y in views.values()]
    curvatures = [grad(np.sum(slope), x) for slope in slopes]
    results = graphc.compile([*views.values(), *slopes, *curvatures], target=target)(x=POINTS)

    p = POINTS
    y, z, t, u = (1 / (1 + np.exp(-p)), 1 / (1 + np.exp(-s * p)), np.tanh(p), np.tanh(s * p / 2))
    zero, one, positive = np.zeros_like(p), np.ones_like(p), (p > 0).astype(float)
    bent = np.where(p > 0, 1, 1.5 * np.exp(p))
    expected = {
        "linear": (p, one, zero),
        "binary step": ((p >= 0).astype(float), zero, zero),
        "sigmoid": (y, y * (1 - y), y * (1 - y) * (1 - 2 * y)),
        "tanh": (t, 1 - t**2, -2 * t * (1 - t**2)),
        "relu": (np.maximum(p, 0), positive, zero),
        "softplus": (np.log1p(np.exp(p)), y, y * (1 - y)),
        "leaky relu": (np.where(p > 0, p, 0.05 * p), np.where(p > 0, 1, 0.05), zero),
        "elu": (np.where(p > 0, p, 1.5 * np.expm1(p)), bent, np.where(p > 0, 0, bent)),
        "sigmoid of slope s": (z, s * z * (1 - z), s**2 * z * (1 - z) * (1 - 2 * z)),
        "tanh_s": (u, s / 2 * (1 - u**2), -(s**2) / 2 * u * (1 - u**2)),
    }
    count = len(views)
    for k, (name, row) in enumerate(expected.items()):
        for order in range(3):
            found = results[order * count + k]
            np.testing.assert_allclose(found, row[order], rtol=1e-12, atol=1e-14, err_msg=f"{name}, order {order}")


POINTS = np.array([-6.5, -1.25, -0.3, 0.2, 0.9, 3.0, 11.0])


def test_kinks_at_zero(target: str) -> None:
    x = Input((), name="x")
    views = [step(x), relu(x), leaky_relu(x), elu(x)]
    results = graphc.compile([*views, *(grad(y, x) for y in views[:2])], target=target)(x=0)
    assert list(results) == [1, 0, 0, 0, 0, 0]


def test_an_elementwise_sigmoid_never_forms_a_jacobian(target: str) -> None:
    x = Input((100, 2048), name="x")
    total = np.sum(sigmoid(x))
    slope = grad(total, x)
    program = graphc.compile([total, slope, grad(np.sum(slope), x)], wrt=[x], target=target)
    for stage in program.stages[:6]:
        graph = program.graph(stage)
        assert max(int(node.type.size) for node in (*graph.leaves, *graph.steps)) == 100 * 2048
    data = np.random.default_rng(5).normal(0, 3, (100, 2048))
    (_, first, second), grads = program.value_and_grad(x=data)
    y, rest = 1 / (1 + np.exp(-data)), 1 / (1 + np.exp(data))  # 1 - y would cancel
    np.testing.assert_allclose(grads["x"], y * rest, rtol=1e-14)
    np.testing.assert_allclose(first, grads["x"], rtol=1e-15)
    np.testing.assert_allclose(second, y * rest * (rest - y), rtol=1e-13, atol=1e-16)
