"""vmap, jacobian, hessian, hvp and custom_vjp, as users call them."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc import CompileError, DeclarationError, Dense, DifferentiationError, Input, Param, Planner, View
from graphc.ir.text import parse_graph, print_graph

Pair = namedtuple("Pair", "total rows")
X = np.random.default_rng(0).normal(size=(5, 3))
W = np.array([1.0, -2.0, 0.5])
BOTH = pytest.mark.parametrize("target", ["interpret", "cpu"])


def inputs() -> tuple[View, View]:
    return Input(("N", 3), name="x"), Param(W, name="w")


# vmap -----------------------------------------------------------------------------------------------------------------


@BOTH
def test_vmap_is_the_function_of_every_element(target: str) -> None:
    x, w = inputs()
    k = Input(("N", 2), "int64", name="k")
    indices = np.array([[0, 1], [2, 2], [1, -1], [0, 0], [1, 2]])
    views = [
        graphc.vmap(lambda row: np.tanh(row @ w) * row)(x),
        graphc.vmap(lambda row: graphc.softmax(row)[::-1])(x),
        graphc.vmap(lambda row, at: row[at], in_axes=0)(x, k),
        graphc.vmap(lambda row, at: row.at[at].add(1.0))(x, k),
        graphc.vmap(lambda at: w[at])(k),
        graphc.vmap(lambda row, all: row @ all, in_axes=(0, None))(x, np.eye(3) * 2),
        graphc.vmap(np.sum, in_axes=1)(x),
        graphc.vmap(lambda row: row * 2, out_axes=1)(x),
        graphc.vmap(lambda row: w)(x),
        graphc.vmap(graphc.vmap(lambda a, b: a * b, in_axes=(0, None)))(x, x[:, 0]),
    ]
    found = graphc.compile(views, target=target)(x=X, k=indices)
    added = X.copy()
    for row, at in zip(added, indices, strict=True):
        np.add.at(row, at, 1.0)
    weights = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    expected = [
        np.tanh(X @ W)[:, None] * X, weights[:, ::-1], np.take_along_axis(X, indices, 1), added, W[indices], 2 * X,
        X.sum(0), 2 * X.T, np.tile(W, (5, 1)), X * X[:, :1],
    ]  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_mapped_gradient_is_that_of_each_element() -> None:
    x, w = inputs()

    def slope(row: View) -> View:
        return graphc.grad(np.sum(np.sin(row) * w) * row[0], row)

    found = graphc.compile(graphc.vmap(slope)(x), target="interpret")(x=X)
    expected = np.cos(X) * W * X[:, :1]
    expected[:, 0] += np.sin(X) @ W
    np.testing.assert_allclose(found, expected)


def test_what_is_mapped_has_a_gradient_also_in_what_all_elements_share() -> None:
    x, w = inputs()
    loss = np.sum(graphc.vmap(lambda row: (row @ w) ** 2)(x))
    program = graphc.compile(loss, wrt=[x, w], target="interpret")
    grads = program.value_and_grad(x=X)[1]
    np.testing.assert_allclose(grads["w"], 2 * X.T @ (X @ W))
    np.testing.assert_allclose(grads["x"], 2 * np.outer(X @ W, W))


def test_several_results_keep_their_container() -> None:
    x, _ = inputs()
    pair = graphc.vmap(lambda row: (np.sum(row), row[:2]))(x)
    listed = graphc.vmap(lambda row: [row])(x)
    assert isinstance(pair, tuple) and isinstance(listed, list)
    assert [str(view.node.type) for view in (*pair, *listed)] == ["f64[N]", "f64[N,2]", "f64[N,3]"]


def test_a_named_tuple_stays_one() -> None:
    x, _ = inputs()
    result = graphc.vmap(lambda row: Pair(np.sum(row), row))(x)
    assert isinstance(result, Pair) and str(result.rows.node.type) == "f64[N,3]"


@BOTH
def test_known_indices_along_a_symbolic_axis(target: str) -> None:
    x, _ = inputs()
    views = [x[np.array([0, 1, 0])], np.take(x, [-1, 0], axis=0), x.at[[1, 1]].add(1.0), x[np.array(2)]]
    found = graphc.compile(views, target=target)(x=X)
    added = X.copy()
    added[1] += 2
    for one, other in zip(found, (X[[0, 1, 0]], X[[-1, 0]], added, X[2]), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(IndexError, match="out of range"):
        graphc.compile(x[np.array([0, 7])], target=target)(x=X)


def test_a_layer_inside_of_a_map_is_named_like_any_other() -> None:
    class Rows(Planner):
        x = Input(("N", 3))
        out = graphc.vmap(lambda row: Dense(4)(row[None])[0])(x)

    program = graphc.compile(Rows.out, target="interpret")
    assert list(program.params) == ["out.dense.weight", "out.dense.bias"]
    assert program(x=X).shape == (5, 4)


def test_a_mapped_product_by_one_matrix_is_one_product() -> None:
    x = Input(("N", 7), name="x")
    matrix = Param((7, 5), init="normal", name="m")
    text = graphc.compile(graphc.vmap(lambda row: np.tanh(row @ matrix))(x)).ir("simplify")
    assert text.count("matmul(") == 1
    assert "matmul(%x, %m) : f64[N,5]" in text


def test_what_leaves_the_function_cannot_be_compiled() -> None:
    x, _ = inputs()
    kept: list[View] = []
    graphc.vmap(lambda row: kept.append(np.sin(row)) or row)(x)
    with pytest.raises(CompileError, match="only inside of a function given to vmap") as caught:
        graphc.compile(kept[0])
    assert "test_transforms.py:" in str(caught.value)


def test_vmap_refuses() -> None:
    x, _ = inputs()
    for call, text in (
        (lambda: graphc.vmap(np.sin, in_axes=2)(x), "axis 2 is out of range for f64[N,3]"),
        (lambda: graphc.vmap(np.sin, in_axes=None)(x), "maps over no axis"),
        (lambda: graphc.vmap(np.add, in_axes=(0, 1))(x, x), "axes of different extents: N, 3"),
        (lambda: graphc.vmap(np.add, in_axes=(0,))(x, x), "has 1 in_axes and is called with 2 arguments"),
        (lambda: graphc.vmap(np.sin, in_axes=0.5)(x), "in_axes are integers or None, not 0.5"),
        (lambda: graphc.vmap(lambda row: 3)(x), "the function returned 3"),
        (lambda: graphc.vmap(np.sum, out_axes=1)(x), "out_axes 1 is out of range for a result of 1 axes"),
    ):
        with pytest.raises(DeclarationError, match=re.escape(text)) as caught:
            call()
        assert "test_transforms.py:" in str(caught.value)


# jacobian, hessian, hvp -----------------------------------------------------------------------------------------------


@BOTH
def test_jacobians_by_rows_and_by_columns(target: str) -> None:
    x, w = Input((3,), name="x"), Param(np.arange(12.0).reshape(4, 3) / 10, name="w")
    y = np.tanh(w @ x)
    tall, wide, both = graphc.jacobian(y, x), graphc.jacobian(np.sum(w * x, axis=0)[:2], w), graphc.jacobian(y, [x, w])
    program = graphc.compile([tall, wide, *both], target=target)
    found = program(x=W)
    matrix = program.params["w"]
    slope = 1 - np.tanh(matrix @ W) ** 2
    by_w = np.einsum("i,ik,j->ikj", slope, np.eye(4), W)
    by_column = np.einsum("ij,j,k->ikj", np.eye(3), W, np.ones(4))[:2]
    for one, other in zip(found, (slope[:, None] * matrix, by_column, slope[:, None] * matrix, by_w), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@BOTH
def test_derivatives_over_symbolic_dims(target: str) -> None:
    x = Input(("N",), name="x")
    y = np.sum(x**3) * np.sum(np.sin(x))
    views = [graphc.jacobian(x**2, x), graphc.hessian(y, x), graphc.hvp(y, x, x), graphc.jacobian(y, x)]
    program = graphc.compile(views, target=target)
    for n in (4, 1, 0):
        point = np.linspace(-1, 2, n)
        s, c = np.sin(point), np.cos(point)
        cube, square = np.sum(point**3), 3 * point**2
        hessian = np.diag(6 * point * s.sum() - cube * s) + np.outer(square, c) + np.outer(c, square)
        expected = np.diag(2 * point), hessian, hessian @ point, square * s.sum() + cube * c
        for one, other in zip(program(x=point), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_a_hessian_of_several_views_is_a_table_of_blocks() -> None:
    a, b = Input((2,), name="a"), Input((), name="b")
    y = np.sum(a**2) * b**3
    blocks = graphc.hessian(y, [a, b])
    found = graphc.compile([*blocks[0], *blocks[1]], target="interpret")(a=np.array([1.0, 2.0]), b=2.0)
    expected = [16 * np.eye(2), np.array([24.0, 48.0]), np.array([24.0, 48.0]), np.float64(60.0)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other)
    products = graphc.hvp(y, [a, b], [np.ones(2), 1.0])
    found = graphc.compile(list(products), target="interpret")(a=np.array([1.0, 2.0]), b=2.0)
    np.testing.assert_allclose(found[0], [40.0, 64.0])
    np.testing.assert_allclose(found[1], 132.0)


def test_derivatives_of_what_does_not_depend_are_zeros_of_their_shape() -> None:
    x, z = Input((2,), name="x"), Input((3,), name="z")
    program = graphc.compile([graphc.jacobian(np.sin(x), z), graphc.hessian(np.sum(x), z)], target="interpret")
    jacobian, hessian = program(x=np.ones(2), z=np.ones(3))
    assert jacobian.shape == (2, 3) and hessian.shape == (3, 3)
    assert not jacobian.any() and not hessian.any()


def test_a_jacobian_differentiates_again() -> None:
    x = Input((2,), name="x")
    third = graphc.jacobian(graphc.jacobian(graphc.jacobian(x**3, x), x), x)
    found = graphc.compile(third, target="interpret")(x=np.array([1.0, 2.0]))
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 0, 0, 0] = expected[1, 1, 1, 1] = 6
    np.testing.assert_array_equal(found, expected)


def test_the_jacobian_of_a_product_is_the_matrix_and_no_product() -> None:
    x, w = Input((3,), name="x"), Param(np.ones((4, 3)), name="w")
    text = graphc.compile(graphc.jacobian(w @ x, x)).ir("simplify")
    assert "matmul" not in text and "iota" not in text


def test_no_zero_times_infinity_in_the_jacobian_of_a_product() -> None:
    x = Input((2,), name="x")
    w = np.array([[np.inf, 1.0], [2.0, 3.0]])
    found = graphc.compile(graphc.jacobian(Param(w, name="w") @ x, x))(x=np.ones(2))
    np.testing.assert_array_equal(found, w)


@BOTH
def test_no_zero_times_an_infinite_slope(target: str) -> None:
    x = Input(("N",), name="x")
    views = [
        graphc.jacobian(np.sqrt(x), x), graphc.hessian(np.sum(x**1.5), x), graphc.jacobian(np.sum(np.sqrt(x)) * x, x),
        graphc.jacobian(np.concatenate([np.sqrt(x), np.log(x)])[::-1], x),
    ]  # fmt: skip
    roots, curved, summed, joined = graphc.compile(views, target=target)(x=np.array([0.0, 1.0, 4.0]))
    np.testing.assert_array_equal(roots, np.diag([np.inf, 0.5, 0.25]))
    np.testing.assert_allclose(curved, np.diag([np.inf, 0.75, 0.375]))
    assert np.isfinite(summed[1:, 1:]).all()
    np.testing.assert_array_equal(joined, np.vstack([roots, np.diag([np.inf, 1.0, 0.25])])[::-1])


def test_a_users_identity_matrix_multiplies() -> None:
    x = Input((2,), name="x")
    found = graphc.compile([graphc.eye(2) @ x, x @ graphc.eye(2)])(x=np.array([np.inf, 1.0]))
    np.testing.assert_array_equal(found, [[np.inf, np.nan]] * 2)


def test_transforms_refuse() -> None:
    x, k = Input((2,), name="x"), Input((2,), "int64", name="k")
    for call, text in (
        (lambda: graphc.hessian(x, x), "the gradient of x wants a scalar, and it is f64[2]"),
        (lambda: graphc.hvp(np.sum(x), x, np.ones(3)), "the vector of a view of type f64[2] has its shape"),
        (lambda: graphc.hvp(np.sum(x), [x], []), "hvp wants a tangent for each of 1 views, got 0"),
        (lambda: graphc.jacobian(k, k), "only floats have one"),
        (lambda: graphc.jacobian(x, "x"), "jacobian is of views with respect to views, got 'x'"),
    ):
        with pytest.raises((DeclarationError, DifferentiationError), match=re.escape(text)):
            call()


# custom_vjp -----------------------------------------------------------------------------------------------------------


def doubled() -> Callable[..., View]:
    """The exponential with twice its derivative."""
    return graphc.custom_vjp(np.exp, lambda x: (np.exp(x), x), lambda x, ct: (2 * ct * np.exp(x),))


def clipped() -> Callable[..., View]:
    """The identity, whose cotangent is clipped."""
    return graphc.custom_vjp(lambda x: +x, lambda x: (+x, None), lambda saved, ct: (np.clip(ct, -1, 1),))


@BOTH
def test_derivatives_are_the_rules(target: str) -> None:
    x, w = inputs()
    f, clip = doubled(), clipped()
    by_x = graphc.grad(5 * np.sum(f(x)), x)
    views = [
        f(x), by_x, graphc.grad(np.sum(by_x**2), x), graphc.jvp(f(x), x, x),
        graphc.vmap(lambda row: graphc.grad(np.sum(f(row)), row))(x),
        graphc.grad(np.sum(graphc.vmap(lambda row: f(w) * row)(x)), w),
        graphc.grad(np.sum(clip(x) ** 2), x),
    ]  # fmt: skip
    found = graphc.compile(views, target=target)(x=X)
    e = np.exp(X)
    expected = [
        e, 10 * e, 200 * np.exp(2 * X), 2 * e * X, 2 * e, 2 * np.exp(W) * X.sum(0), np.clip(2 * X, -1, 1)
    ]  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_rule_inside_of_a_rule() -> None:
    x, _ = inputs()
    f = doubled()
    outer = graphc.custom_vjp(
        lambda v: 3 * v, lambda v: (3 * v, v), lambda v, ct: (f(ct) + graphc.grad(np.sum(f(v)), v),)
    )
    first = graphc.grad(np.sum(outer(x) * x), x)
    second = graphc.grad(np.sum(first), x)
    found = graphc.compile([first, second], target="interpret")(x=X)
    np.testing.assert_allclose(found[0], 3 * X + np.exp(X) + 2 * np.exp(X))
    np.testing.assert_allclose(found[1], np.exp(1) + 6 * np.exp(X))


def test_a_rule_mapped_over_values_that_have_a_rule() -> None:
    x = Input((2,), name="x")
    f = graphc.custom_vjp(np.sin, lambda v: (np.sin(v), v), lambda v, ct: (ct * np.cos(v),))
    views = [
        view for g in (f, np.sin)
        for view in (graphc.hessian(np.sum(graphc.vmap(g)(g(x))), x),
                     graphc.hvp(np.sum(graphc.vmap(lambda e, g=g: g(g(e)))(graphc.vmap(g)(g(x)))), x, x))
    ]  # fmt: skip
    hessian, product, plain_hessian, plain_product = graphc.compile(views, target="interpret")(x=np.array([0.3, 0.5]))
    np.testing.assert_allclose(hessian, plain_hessian, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(product, plain_product, rtol=1e-12)


def test_a_rule_that_alone_reads_what_is_mapped() -> None:
    x, w = Input((3,), name="x"), Input((), name="w")

    def scaled(element: View) -> View:
        return graphc.custom_vjp(lambda w: 2 * w, lambda w: (2 * w, None), lambda saved, ct: (ct * element,))(w)

    found = graphc.compile(graphc.grad(np.sum(graphc.vmap(scaled)(x)), w), target="interpret")(x=np.arange(3.0), w=1.0)
    assert found == 3.0


def test_a_rule_of_several_arguments_and_what_it_leaves_out() -> None:
    x, w = inputs()
    k = Input((), "int64", name="k")
    scale = graphc.custom_vjp(
        lambda a, b, k: a * b * k,
        lambda a, b, k: (a * b * k, {"b": b}),
        lambda saved, ct: (ct * saved["b"], None, None),
    )
    program = graphc.compile(np.sum(scale(x, w, k)), wrt=[x, w], target="interpret")
    value, grads = program.value_and_grad(x=X, k=3)
    np.testing.assert_allclose(value, 3 * np.sum(X * W))
    np.testing.assert_allclose(grads["x"], np.tile(W, (5, 1)))
    np.testing.assert_array_equal(grads["w"], 0)


def test_a_rule_stands_in_the_graph_and_is_gone_from_the_program() -> None:
    x, _ = inputs()
    program = graphc.compile(np.sum(doubled()(x)), wrt=[x])
    built = program.ir("build")
    assert "cotangent(dtype=f64, shape=[N, 3], level=0)" in built and "custom_vjp(" in built
    assert print_graph(parse_graph(built)) == built
    assert "custom_vjp(" not in program.ir("simplify") and "cotangent(" not in program.ir("simplify")


def test_a_rule_that_is_not_linear_has_no_forward_mode() -> None:
    x, _ = inputs()
    constant = graphc.custom_vjp(lambda v: +v, lambda v: (+v, v), lambda v, ct: (0 * v + 3.0,))
    stopped = graphc.custom_vjp(lambda v: +v, lambda v: (+v, v), lambda v, ct: (graphc.stop_gradient(ct),))
    for f in (clipped(), constant, stopped):
        with pytest.raises(DifferentiationError, match="its rule is not linear in the cotangent"):
            graphc.jvp(f(x), x, x)
    by_rows = graphc.compile(graphc.jacobian(np.sum(constant(x), axis=0)[:2], x), target="interpret")(x=X)
    np.testing.assert_array_equal(by_rows, np.full((2, 5, 3), 3.0))


def test_what_a_rule_uses_beside_its_arguments_has_no_derivative() -> None:
    x, w = inputs()
    f = graphc.custom_vjp(lambda a: a * w, lambda a: (a * w, None), lambda saved, ct: (ct * w,))
    with pytest.raises(DifferentiationError, match="depends on w only through custom_vjp"):
        graphc.compile(np.sum(f(x)), wrt=[w]).value_and_grad(x=X)


def test_custom_vjp_refuses() -> None:
    x, _ = inputs()
    ok = lambda v: (np.exp(v), v)  # noqa: E731
    for functions, text in (
        ((lambda v: 3, ok, lambda s, ct: (ct,)), "f returns a view, not 3"),
        ((np.exp, np.exp, lambda s, ct: (ct,)), "forward returns (out, saved)"),
        ((np.exp, lambda v: (v[0], v), lambda s, ct: (ct,)), "f returns f64[N,3], and forward f64[3]"),
        ((np.exp, ok, lambda s, ct: ct), "backward returns a tuple with a cotangent for each of 1 arguments"),
        ((np.exp, ok, lambda s, ct: (ct, ct)), "for each of 1 arguments, not 2"),
        ((np.exp, ok, lambda s, ct: (np.sum(ct),)), "the cotangent of argument 0 has its shape, f64[N,3]"),
    ):
        with pytest.raises(DeclarationError, match=re.escape(text)) as caught:
            graphc.custom_vjp(*functions)(x)
        assert "test_transforms.py:" in str(caught.value)
