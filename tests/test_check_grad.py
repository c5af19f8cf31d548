"""`check_grad` passes right gradients, and finds wrong ones by either of its two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import Dense, Input, Param, cross_entropy, relu
from graphc.build import build
from graphc.gradient_check import check_grad, compare_gradients, widened
from graphc.ir import ops
from graphc.ir.core import Partials
from graphc.ir.errors import DifferentiationError, DifferentiationTypeError, FeedTypeError, FeedValueError
from graphc.passes import differentiate, forward

A = Input((3,), name="a")
B = Input((3,), name="b")
ONE = {"a": [0.5, -1.0, 2.0]}
HERE = {**ONE, "b": [1.0, 2.0, 3.0]}


def rules(monkeypatch: pytest.MonkeyPatch, module: Any, op: Any, derivative: Any) -> None:
    """Make one mode take another derivative for an op."""
    original = module.derivative_of
    monkeypatch.setattr(module, "derivative_of", lambda node: derivative if node.op is op else original(node))


def test_a_network_in_float32_is_checked_in_float64() -> None:
    x, y = Input(("N", 3), "float32", name="x"), Input(("N",), "int64", name="y")
    loss = cross_entropy(relu(Dense(40)(x)) | Dense(2), y)
    feeds = {"x": np.random.default_rng(0).normal(size=(5, 3)), "y": [0, 1, 1, 0, 1]}
    table = check_grad(loss, "params", feeds)
    assert [row.name for row in table.rows] == ["dense.weight", "dense.bias", "dense_1.weight", "dense_1.bias"]
    assert [row.type for row in table.rows] == ["f32[3,40]", "f32[40]", "f32[40,2]", "f32[2]"]
    assert table.ok
    assert max(row.difference for row in table.rows) < 1e-8
    assert max(row.adjoint for row in table.rows) < 1e-12


def test_the_table_is_aligned() -> None:
    text = str(check_grad(np.sum(np.exp(A)) + B[0] ** 2, [A, B], HERE))
    lines = text.splitlines()
    assert lines[0] == "name  type    largest gradient  difference  adjoint error"
    assert lines[1].startswith("a     f64[3]           7.38906  ")
    assert lines[2].startswith("b     f64[3]                 2  ")
    assert all(line.endswith("  ok") for line in lines[1:])


@pytest.mark.parametrize(
    "y",
    [
        np.sin(A) - A,  # value, slope and curvature are 0 at 0
        np.exp(20 * A),
        A * 1e-9,
        A * 1e9 - 1e9,
        relu(A) + np.abs(A) + np.maximum(A, 0 * A),  # kinks at 0
        A[::-1] * A,
        np.outer(A, A),
        np.where(A > 0, np.sqrt(np.where(A > 0, A, 1)), 0),
    ],
)
def test_right_gradients_pass_where_it_is_hard(y: graphc.View) -> None:
    for point in ([0.0, 0.0, 0.0], [1.0, 0.0, -1.0], [0.3, 1.7, 2.0]):
        assert check_grad(y, A, {"a": point}).ok


def test_inner_views_are_independent_variables() -> None:
    inner = np.tanh(A * B)
    table = check_grad(np.sum(inner * A), [inner, A], HERE)
    assert table.ok
    assert table.rows[0].largest == 2.0  # the gradient by inner is a
    assert table.rows[0].type == "f64[3]"


def test_params_start_at_their_initial_values_unless_fed() -> None:
    w = Param(np.array([2.0, 3.0, 4.0]), name="w")
    y = np.sum(w**3 * A)
    assert check_grad(y, "w", {"a": [1.0, 1.0, 1.0]}).rows[0].largest == pytest.approx(48)
    assert check_grad(y, w, {"a": [1.0, 1.0, 1.0], "w": [1.0, 1.0, 1.0]}).rows[0].largest == pytest.approx(3)


def test_nothing_depends_on_an_empty_or_unused_array() -> None:
    x = Input(("N",), name="x")
    table = check_grad(np.sum(x) + np.sum(A), [x, A, B], {**HERE, "x": np.zeros(0)})
    assert table.ok
    assert [row.largest for row in table.rows] == [0, 1, 0]


def test_a_wrong_reverse_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rules(monkeypatch, differentiate, ops.sin, Partials((lambda y, x: ops.cos(x) + 1e-3,)))
    with pytest.raises(DifferentiationError, match=r"the gradient with respect to a is wrong\nname .*\na .*WRONG"):
        check_grad(np.sum(np.sin(A) * B), [A, B], HERE)
    table = compare_gradients(np.sum(np.sin(A) * B), [A, B], HERE)
    assert [row.ok for row in table.rows] == [False, True]
    assert table.rows[0].difference == pytest.approx(3e-3, rel=1e-3)
    assert table.rows[0].adjoint > 1e-5
    assert not table.ok


def test_a_wrong_forward_rule_is_found_by_the_adjoint_identity_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rules(monkeypatch, forward, ops.sin, Partials((lambda y, x: ops.cos(x) + 1e-3,)))
    (row,) = compare_gradients(np.sum(np.sin(A)), A, ONE).rows
    assert row.difference < 1e-9
    assert row.adjoint > 1e-5
    assert not row.ok


def test_rules_that_are_wrong_alike_are_found_by_differences_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Partials((lambda y, x: ops.cos(x) * 1.00001,))
    for module in (differentiate, forward):
        rules(monkeypatch, module, ops.sin, wrong)
    (row,) = compare_gradients(np.sin(A), A, ONE).rows
    assert row.adjoint < 1e-12
    assert not row.ok


def test_one_wrong_element_of_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    x = Input((1000,), name="x")
    spoiled = Partials((lambda y, v: ops.where(ops.greater(v, v * 0 + 0.999), ops.cos(v) * 1.01, ops.cos(v)),))
    rules(monkeypatch, differentiate, ops.sin, spoiled)
    assert not compare_gradients(np.sum(np.sin(x)), x, {"x": np.linspace(0, 1, 1000)}).ok


def test_an_infinite_or_undefined_gradient_is_not_ok() -> None:
    for y, point in ((np.sqrt(A), [0.0, 1.0, 4.0]), (np.log(A), [-1.0, 1.0, 2.0])):
        (row,) = compare_gradients(np.sum(y), A, {"a": point}).rows
        assert not row.ok


def test_what_has_no_gradient_is_an_error() -> None:
    k = Input((3,), "int64", name="k")
    with pytest.raises(DifferentiationTypeError, match=r"no derivative of .*argmax"):
        check_grad(np.argmax(A), A, ONE)
    with pytest.raises(DifferentiationTypeError, match="no derivative with respect to k: it is i64"):
        check_grad(np.sum(A * k), k, {**ONE, "k": [1, 2, 3]})
    with pytest.raises(DifferentiationTypeError, match="there is nothing to differentiate y with respect to"):
        check_grad(Input((), name="y"), "params", {"y": 1.0})


def test_feeds_are_checked() -> None:
    with pytest.raises(FeedTypeError, match="missing feed: b"):
        check_grad(np.sum(A * B), A, {"a": [1, 2, 3]})
    with pytest.raises(FeedTypeError, match="no input named 'bb'"):
        check_grad(np.sum(A * B), A, {**HERE, "bb": 1})
    with pytest.raises(FeedValueError, match=r"a wants float64 of shape \(3,\), got shape \(2,\)"):
        check_grad(np.sum(A * B), A, {**HERE, "a": [1, 2]})


def test_it_is_the_same_every_time() -> None:
    y = np.outer(A, B)
    assert str(check_grad(y, [A, B], HERE)) == str(check_grad(y, [A, B], HERE))


def test_widened_leaves_float64_and_integers_alone() -> None:
    x, k = Input(("N",), "float32", name="x"), Input(("N",), "int32", name="k")
    graph = build([np.where(k > 1, x * 0.5, np.float32(2))], [x]).graph
    wide = widened(graph)
    types = {name: str(node.type) for node, name in wide.names.items()}
    assert types == {"x": "f64[N]", "k": "i32[N]"}
    assert [str(node.type) for node in (*wide.outputs, *wide.wrt)] == ["f64[N]", "f64[N]"]
    assert widened(wide) is wide
