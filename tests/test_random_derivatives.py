"""Random smooth programs: derivatives of every kind against each other, against differences, and element by element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphc
from graphc import Input, Param, View
from graphc.ir.text import parse_graph, print_graph

SETTINGS = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

# Steps from a vector of three to a vector of three, bounded and smooth.
UNARY: dict[str, Callable[[View], View]] = {
    "tanh": np.tanh,
    "sin": np.sin,
    "sigmoid": graphc.sigmoid,
    "softmax": graphc.softmax,
    "centred": lambda x: x - np.mean(x, axis=-1, keepdims=True),
    "normed": lambda x: x / (1 + np.sum(x**2, axis=-1, keepdims=True)),
    "reversed": lambda x: x[..., ::-1],
    "shifted": lambda x: np.concatenate([x[..., 1:], x[..., :1]], axis=-1),
    "picked": lambda x: x[..., np.array([2, 0, 0])],
    "scattered": lambda x: x.at[..., np.array([0, 1])].add(x[..., 1:]),
    "masked": lambda x: np.where(x > 0, np.sqrt(np.maximum(x, 0) + 1e-3), 0.5 * x),
    "spread": lambda x: np.exp(-graphc.logsumexp(x, axis=-1, keepdims=True)) + 0 * x,
}
BINARY: dict[str, Callable[[View, View], View]] = {
    "add": np.add,
    "multiply": np.multiply,
    "divide": lambda a, b: a / (2 + np.cos(b)),
    "hypot": lambda a, b: np.hypot(a, 1 + b**2),
    "arctan2": lambda a, b: np.arctan2(a, 2 + b**2),
}


Recipe = list[tuple[str, int, int]]  # a step, and which of the values before it it takes
RECIPES = st.lists(
    st.tuples(st.sampled_from([*UNARY, *BINARY, "product"]), st.integers(0, 99), st.integers(0, 99)),
    min_size=1, max_size=6,
)  # fmt: skip


def made(recipe: Recipe, x: View, w: View) -> View:
    """The program of a recipe: of a vector (or of rows, which do not see each other) and a matrix."""
    values = [x]
    for name, first, second in recipe:
        a, b = values[first % len(values)], values[second % len(values)]
        if name == "product":
            values.append(np.tanh(a @ w))
        else:
            values.append(BINARY[name](a, b) if name in BINARY else UNARY[name](a))
    return values[-1] + 0.3 * np.tanh(x @ w)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.uniform(-1, 1, (4, 3)), "w": rng.uniform(-1, 1, (3, 3))}


@given(RECIPES)
@SETTINGS
def test_derivatives_agree_with_differences_and_with_each_other(recipe: Recipe) -> None:
    x, w, fed = Input((3,), name="x"), Param((3, 3), name="w"), arrays()
    y = made(recipe, x, w)
    loss = np.sum(y * np.cos(y))
    row = {"x": fed["x"][0], "w": fed["w"]}
    graphc.check_grad(loss, [x, w], row)
    direction = np.array([1.0, -2.0, 0.5])
    views = [graphc.hessian(loss, x), graphc.hvp(loss, x, direction), graphc.jacobian(y, x),
             graphc.jvp(y, x, direction), graphc.vjp(y, x, direction)]  # fmt: skip
    found = graphc.compile(views, target="interpret")(**row)
    hessian, product, jacobian, pushed, pulled = found
    scale = 1 + np.abs(hessian).max() + np.abs(jacobian).max()
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-11 * scale)
    np.testing.assert_allclose(hessian @ direction, product, atol=1e-11 * scale)
    np.testing.assert_allclose(jacobian @ direction, pushed, atol=1e-12 * scale)
    np.testing.assert_allclose(direction @ jacobian, pulled, atol=1e-12 * scale)


@given(RECIPES)
@SETTINGS
def test_mapping_a_program_over_rows_is_the_program_of_all_rows(recipe: Recipe) -> None:
    x, w, fed = Input(("N", 3), name="x"), Param((3, 3), name="w"), arrays()
    together = made(recipe, x, w)
    mapped = graphc.vmap(lambda row: made(recipe, row, w))(x)
    slopes = graphc.vmap(lambda row: graphc.grad(np.sum(np.sin(made(recipe, row, w))), row))(x)
    views = [together, mapped, graphc.grad(np.sum(np.sin(together)), x), slopes]
    program = graphc.compile(views, target="interpret")
    found = program(**fed)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[3], found[2], rtol=1e-11, atol=1e-12)
    text = program.ir("build")
    assert print_graph(parse_graph(text)) == text


def test_some_random_programs_as_machine_code() -> None:
    random = np.random.default_rng(0)
    names = [*UNARY, *BINARY, "product"]
    x, w, fed = Input(("N", 3), name="x"), Param((3, 3), name="w"), arrays()
    views: list[View] = []
    for _ in range(4):
        recipe = [(names[random.integers(len(names))], *map(int, random.integers(0, 99, 2))) for _ in range(4)]
        y = graphc.vmap(lambda row, recipe=recipe: made(recipe, row, w))(x)
        views += [y, graphc.jacobian(np.sum(y, axis=0), w), graphc.hvp(np.sum(y**2), x, np.cos(x))]
    program = graphc.compile(views)
    found, expected = program(**fed), graphc.compile(views, target="interpret")(**fed)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
    apart = np.full((8, 6), np.nan)
    apart[::-2, ::2] = fed["x"]
    strided = program(x=apart[::-2, ::2], w=np.asfortranarray(fed["w"]))
    for one, other in zip(strided, found, strict=True):
        np.testing.assert_array_equal(one, other)
