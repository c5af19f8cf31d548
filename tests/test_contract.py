"""Sentences of the contract that programs of other people's rely on, each by a small example."""

import numpy as np
import pytest

import graphc
from graphc import SGD, CompileError, DeclarationError, FeedError, Input, Param, Planner, Trainer, grad

TARGETS = pytest.mark.parametrize("target", ["cpu", "interpret"])


def fill(array, index, value):
    """What NumPy's assignment makes of an array."""
    result = array.copy()
    result[index] = value
    return result


@pytest.mark.parametrize(
    "index",
    [
        np.array([True, False, True]),
        (slice(None), np.array([True, False, True])),
        (..., np.array([True, False, True])),
        (np.array([True, False, True]), slice(None)),
        (slice(None), np.array([[True, False, True], [False, False, True], [True, True, True]])),
    ],
)
def test_a_mask_stands_for_the_axes_at_its_place(index) -> None:
    shape = (3, 3, 3)
    x = Input(shape, name="x")
    X = np.arange(27.0).reshape(shape)
    program = graphc.compile(x.at[index].set(-1), target="interpret")
    np.testing.assert_array_equal(program(x=X), fill(X, index, -1))


def test_a_mask_beside_other_indices_is_an_error() -> None:
    x = Input((3, 3), name="x")
    mask = np.array([True, False, True])
    for index in [(0, mask), (mask, 0), (mask, mask), (slice(0, 2), mask)]:
        with pytest.raises(DeclarationError, match="a mask beside other indices"):
            x.at[index].set(0)


def test_a_reshape_that_divides_for_some_sizes_only() -> None:
    x, w = Input(("N", 2), name="x"), Param(np.ones((4, 3)), name="w")
    rows = np.tanh(x).reshape(-1, 4)
    program = graphc.compile([np.sum(rows @ w), x.reshape(-1, 11)], wrt=[x])
    X = np.linspace(-1, 1, 44).reshape(22, 2)
    (_, reshaped), gradients = program.value_and_grad(x=X)
    np.testing.assert_array_equal(reshaped, X.reshape(-1, 11))
    np.testing.assert_allclose(gradients["x"], 3 / np.cosh(X) ** 2)
    with pytest.raises(FeedError):
        program(x=X[:3])


def test_quotients_of_dims_are_integers() -> None:
    n = Input(("N",), name="x").shape[0]
    for divide in (lambda: n / 2, lambda: n / n, lambda: np.arange(n)):
        with pytest.raises(DeclarationError, match="zeros/ones/full/arange take it"):
            divide()
    assert (4 * n) // 2 == 2 * n


@TARGETS
def test_a_square_input_is_trained_in_full_batches(target) -> None:
    class Neighbours(Planner):
        links = Input(("N", "N"))
        x = Input(("N", 2))
        w = Param(np.ones((2, 1)))
        loss = np.mean((links @ x @ w) ** 2)

    data = {"links": np.eye(5) * 2, "x": np.ones((5, 2))}
    trainer = Trainer(Neighbours.loss, SGD(0.01), target=target)
    assert trainer.fit(data)["loss"] == [16.0]
    with pytest.raises(FeedError, match="links"):
        trainer.fit(data, batch_size=2)


@TARGETS
def test_the_batch_axis_is_no_other_axis_of_an_input(target) -> None:
    class Linear(Planner):
        c = Input(("K",))
        x = Input(("N", "K"))
        w = Param(1.0)
        loss = np.mean((w * (x @ c)) ** 2)

    trainer = Trainer(Linear.loss, SGD(0.0), target=target)
    history = trainer.fit({"c": np.ones(3), "x": np.ones((7, 3))}, batch_size=2)
    assert history["loss"] == [9.0]


def test_derivatives_are_of_views() -> None:
    x = Input((3,), name="x")
    y = np.sum(x * x)
    for take in (lambda: grad(y, None), lambda: grad(y, "x"), lambda: graphc.jvp(y, None, np.ones(3)),
                 lambda: graphc.jvp(y, "x", [1.0]), lambda: grad(3.0, x)):  # fmt: skip
        with pytest.raises(DeclarationError, match="of views with respect to views"):
            take()


def test_trainers_say_what_they_want() -> None:
    x, w = Input(("N",), name="x"), Param(1.0, name="w")
    loss = np.mean((w * x) ** 2)
    with pytest.raises(CompileError, match="optimizer"):
        Trainer(loss, 0.1)
    with pytest.raises(FeedError, match="by input name"):
        Trainer(loss, SGD(0.1), target="interpret").fit([np.ones(3)])


def test_a_second_call_checks_its_feeds_as_the_first_one_does() -> None:
    x, y = graphc.Input(("N", 2), "float32", name="x"), graphc.Input(("N",), "int64", name="y")
    program = graphc.compile(np.sum(x, axis=1) * y)
    ones, labels = np.ones((3, 2), "float32"), np.arange(3)
    for _ in range(2):  # the second call with these shapes takes the short way
        np.testing.assert_array_equal(program(x=ones, y=labels), [0, 2, 4])
    wide = np.arange(12, dtype="float32").reshape(3, 4)
    for given in (ones.astype("float64"), np.asfortranarray(ones), ones.tolist(), np.full((3, 2), 1)[::-1]):
        np.testing.assert_array_equal(program(x=given, y=labels), [0, 2, 4])
    np.testing.assert_array_equal(program(x=wide[:, ::2], y=labels), [0, 10, 36])
    np.testing.assert_array_equal(program(y=labels.astype("int8"), x=ones), [0, 2, 4])
    for feeds, error in (
        ({"x": ones, "y": labels[:2]}, ValueError),
        ({"x": ones[:, :1], "y": labels}, ValueError),
        ({"x": ones.astype("complex64"), "y": labels}, TypeError),
        ({"x": ones, "y": labels.astype("float64")}, TypeError),
        ({"x": ones, "z": labels}, TypeError),
    ):
        with pytest.raises(graphc.FeedError) as caught:
            program(**feeds)
        assert isinstance(caught.value, error)
