"""NumPy's indexing on views, over a large table of indices: reading, writing, and NumPy's functions of indices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from view_calls import check, check_gradients, one, same

import graphc
from graphc import DeclarationError, FeedError, Input, View
from graphc.build import build
from graphc.ir.interpret import interpret

RNG = np.random.default_rng(3)
C = RNG.normal(size=(3, 4, 2))
FULL = slice(None)
PAIR, COLUMN = np.array([2, 0]), np.array([[1], [-1]])

# Every tuple of up to three of these, and some of four.
ENTRIES = (
    0, -1, FULL, slice(1, None), slice(None, None, -1), slice(-1, 0, -2), None, Ellipsis, PAIR % 2, COLUMN,
    np.array(1), [1, 0, 1],
)  # fmt: skip


def table() -> Iterator[tuple[Any, ...]]:
    """The indices that NumPy accepts for `C`."""
    more = itertools.product((0, FULL, None, PAIR % 2), (FULL, None, COLUMN), (Ellipsis, 1, COLUMN), (PAIR % 2, FULL))
    for index in itertools.chain(*(itertools.product(ENTRIES, repeat=n) for n in range(4)), more):
        try:
            C[index]
        except IndexError:
            continue
        yield index


TABLE = list(table())


def evaluate(view: View, feeds: dict[str, np.ndarray]) -> np.ndarray:
    graph = build([view]).graph
    (result,) = interpret(graph, {name: value for name, value in feeds.items() if name in graph.names.values()})
    return result


def test_reading_gives_numpys_values_and_shapes() -> None:
    assert len(TABLE) > 1000
    x = Input(C.shape, name="x")
    for index in TABLE:
        same(evaluate(x[index], {"x": C}), C[index], f"{index}")


def test_indices_that_are_views_give_what_known_ones_give() -> None:
    x = Input(C.shape, name="x")
    for index in TABLE[::3]:
        feeds = {"x": C}
        entries = []
        for k, entry in enumerate(index):
            if isinstance(entry, (np.ndarray, list)):
                feeds[f"k{k}"] = np.asarray(entry)
                entry = Input(np.shape(entry), "int64", name=f"k{k}")
            entries.append(entry)
        same(evaluate(x[tuple(entries)], feeds), C[index], f"{index}")


def test_compiled_reading() -> None:
    check([one(lambda x, index=index: x[index], C) for index in TABLE[::67]], every=1)
    check([one(lambda x, k, index=index: x[index][..., k], C, PAIR % 1) for index in TABLE[7::59] if C[index].ndim])
    check_gradients([one(lambda x, index=index: x[index], C) for index in TABLE[::101]])


def changed(array: np.ndarray, index: Any, value: np.ndarray, how: str) -> np.ndarray:
    """What `x.at[index]` gives, by NumPy's unbuffered ufuncs."""
    result = array.copy()
    match how:
        case "set":
            result[index] = value
        case "multiply":
            result[index] *= value
        case _:
            {"add": np.add, "max": np.maximum, "min": np.minimum}[how].at(result, index, value)
    return result


@pytest.mark.parametrize("how", ["set", "add", "max", "min"])
def test_writing_gives_numpys_values(how: str) -> None:
    x = Input(C.shape, name="x")
    for k, index in enumerate(TABLE[::3]):
        value = RNG.normal(size=C[index].shape) if k % 4 else RNG.normal()
        view = getattr(x.at[index], how)(value)
        same(evaluate(view, {"x": C}), changed(C, index, value, how), f"{index}")


def test_multiplying_where_no_element_is_meant_twice() -> None:
    x, met = Input(C.shape, name="x"), 0
    for index in TABLE[::2]:
        count = np.zeros(C.shape)
        np.add.at(count, index, 1)
        value = RNG.normal(size=C[index].shape)
        if count.max(initial=0) <= 1:
            view = x.at[index].multiply(value)
            same(evaluate(view, {"x": C}), changed(C, index, value, "multiply"), f"{index}")
        else:
            met += 1
            with pytest.raises(DeclarationError, match="known, and none of them twice"):
                x.at[index].multiply(value)
    assert met > 10


def test_compiled_writing() -> None:
    cases = []
    for k, index in enumerate(TABLE[::101]):
        how = ("set", "add", "max", "min")[k % 4]
        shape = C[index].shape
        cases.append((how, index, RNG.normal(size=shape)))
    x = Input(C.shape, name="x")
    values = [Input(value.shape, name=f"v{k}") for k, (_, _, value) in enumerate(cases)]
    views = [getattr(x.at[index], how)(v) for (how, index, _), v in zip(cases, values, strict=True)]
    feeds = {f"v{k}": value for k, (_, _, value) in enumerate(cases)}
    program = graphc.compile(views)
    for got, (how, index, value) in zip(program(x=C, **feeds), cases, strict=True):
        same(got, changed(C, index, value, how), f"{how} {index}")
    weights = [RNG.normal(size=C.shape) for _ in views]
    total = sum(np.sum(w * view) for w, view in zip(weights, views, strict=True))
    graphc.check_grad(total, [x, *values], {"x": C, **feeds})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_reading_any_index(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    array = np.arange(np.prod(shape)).reshape(shape)
    basic = hnp.basic_indices(shape, allow_newaxis=True)
    index = data.draw(st.one_of(basic, hnp.integer_array_indices(shape)))
    x = Input(shape, "int64", name="x")
    same(evaluate(x[index], {"x": array}), np.asarray(array[index]), f"{index}")


# masks and duplicates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["set", "add", "multiply", "max", "min"])
def test_a_mask_chooses_what_is_changed(how: str) -> None:
    x, v, m = Input(C.shape, name="x"), Input((4, 1), name="v"), Input(C.shape, "bool", name="m")
    value, mask = RNG.normal(size=(4, 1)), C > 0.2
    both = {
        "set": np.broadcast_to(value, C.shape), "add": C + value, "multiply": C * value, "max": np.maximum(C, value),
        "min": np.minimum(C, value),
    }[how]  # fmt: skip
    feeds = {"x": C, "v": value, "m": mask}
    same(evaluate(getattr(x.at[m], how)(v), feeds), np.where(mask, both, C), how)
    same(evaluate(getattr(x.at[x > 0.2], how)(v), feeds), np.where(mask, both, C), how)


def test_of_duplicates_all_count_in_max_and_min_and_ties_share_the_gradient() -> None:
    x, v, k = Input((4,), name="x"), Input((5,), name="v"), Input((5,), "int64", name="k")
    feeds = {"x": np.array([1.0, 5, 2, 7]), "v": np.array([3.0, 3, 2, 9, 0]), "k": np.array([0, 0, 2, 1, -4])}
    total = np.sum(np.array([1.0, 10, 100, 1000]) * x.at[k].max(v))
    program = graphc.compile(total, wrt=[x, v])
    value, gradients = program.value_and_grad(**feeds)
    assert value == 3 + 90 + 200 + 7000
    np.testing.assert_array_equal(gradients["x"], [0, 0, 50, 1000])
    np.testing.assert_array_equal(gradients["v"], [0.5, 0.5, 50, 10, 0])
    least = graphc.compile(np.sum(x.at[k].min(v)), wrt=[x, v])
    value, gradients = least.value_and_grad(**feeds)
    assert value == 0 + 5 + 2 + 7
    np.testing.assert_array_equal(gradients["x"], [0, 1, 0.5, 1])
    np.testing.assert_array_equal(gradients["v"], [0, 0, 0.5, 0, 1])


def test_a_nan_wins_and_has_the_gradient() -> None:
    x, v, k = Input((3,), name="x"), Input((2,), name="v"), Input((2,), "int64", name="k")
    feeds = {"x": np.array([np.nan, 1.0, np.nan]), "v": np.array([2.0, np.nan]), "k": np.array([0, 1])}
    program = graphc.compile([x.at[k].max(v)], wrt=[x, v])
    (result,), saved = program.forward(**feeds)
    np.testing.assert_array_equal(result, [np.nan, np.nan, np.nan])
    gradients = program.backward(saved, cotangent=np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(gradients["x"], [1, 0, 4])
    np.testing.assert_array_equal(gradients["v"], [0, 2])


# functions ------------------------------------------------------------------------------------------------------------

K = np.array([[0, 5, -7], [11, -1, 3]])
TAKES = [
    *(one(lambda x, k, m=m, a=a: np.take(x, k, axis=a, mode=m), C, K) for m in ("wrap", "clip") for a in (0, 1, -1)),
    one(lambda x, k: np.take(x, k, mode="wrap"), C, K * 5), one(np.take, C, K),
    one(lambda x: np.take(x, 1, axis=2), C), one(lambda x: np.take(x, [[0, 1]], axis=0), C),
    one(lambda x: x.take(K % 3, axis=0), C), one(lambda x, k: np.take(x, k, axis=1), C, (K % 4).astype("uint8")),
    *(one(lambda k, x, y, m=m: np.choose(k, [x, y, 7.0], mode=m), K, K / 2.0, K[:1] + 0.25) for m in ("wrap", "clip")),
    one(lambda k, x: np.choose(k, [x, -x]), K % 2, K),
    one(lambda k: np.unravel_index(k, (3, 4)), np.abs(K)), one(lambda k: np.unravel_index(k, 12), np.abs(K)),
    one(lambda i, j: np.ravel_multi_index((i, j), (3, 4)), K % 3, K % 4),
    one(lambda i, j: np.ravel_multi_index((i, j), (3, 4), mode="wrap"), K, K),
    one(lambda i, j: np.ravel_multi_index([i, j], (3, 4), mode="clip"), K, K),
    one(np.array_equal, C, C), one(np.array_equal, C, C + 1),
    one(np.array_equal, C, C[0]), one(np.array_equal, K, K * 1.0),
    one(lambda x, y: np.array_equal(x, y[:2]), C, C), one(lambda x: np.empty_like(x).shape[0] + 0 * x, C),
]  # fmt: skip


def test_functions_of_indices() -> None:
    check(TAKES, every=2)
    check(TAKES[:6], symbolic=True, every=2)


def test_equal_nans() -> None:
    x, y = Input((2,), name="x"), Input((2,), name="y")
    feeds = {"x": np.array([1, np.nan]), "y": np.array([1, np.nan])}
    assert not evaluate(np.array_equal(x, y), feeds)
    assert evaluate(np.array_equal(x, y, equal_nan=True), feeds)


def test_choices_and_positions_out_of_range_are_errors_at_the_call() -> None:
    k, x = Input((2,), "int64", name="k"), Input((2,), name="x")
    for view in (np.choose(k, [x, x]), np.unravel_index(k, (2, 1))[0], np.ravel_multi_index((k, k), (2, 2))):
        for wrong in (2, -1):
            with pytest.raises(FeedError, match="index out of range"):
                evaluate(view, {"k": np.array([0, wrong]), "x": np.ones(2)})


x, v, m = Input(("N", 4), name="x"), Input((6,), name="v"), Input((6,), "bool", name="m")
k, b = Input((6,), "int64", name="k"), Input((6,), "bool", name="b")

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: v[True], IndexError, "a mask selects an unknown number of the elements of f64[6]"),
    (lambda: v[m, 0], IndexError, "2 indices for f64[6], which has 1 axes"),
    (lambda: x[[0, 1], [0, 1, 2]], ValueError, "shapes (2,) and (3,) do not broadcast"),
    (lambda: v["a"], IndexError, "'a' is no index"), (lambda: v[(0.5, 1.0),], IndexError, "f64[2] is no index"),
    (lambda: v[[k[0], 1]], IndexError, "is no index: expected ints, slices, None, '...', or arrays of integers"),
    (lambda: v.at[k].multiply(2), ValueError, "x.at[index].multiply wants indices that are known"),
    (lambda: b.at[k].max(True), TypeError, "x.at[indices].max is not for bool[6]\n  cast it: x.astype('int8')"),
    (lambda: v.at[k].max(1j), TypeError, "cannot be part of a view"),
    (lambda: k.at[0].min(0.5), TypeError, "0.5 does not go into i64[6]"),
    (lambda: np.take(v, k, mode="drop"), ValueError, "np.take has no mode 'drop'\n  there are raise, wrap and clip"),
    (lambda: np.choose(v, [v, v]), IndexError, "indices are integers, not f64[6]"),
    (lambda: np.unravel_index(k, (2, 3), order="F"), ValueError, "np.unravel_index in order 'F'"),
    (lambda: np.ravel_multi_index((k, k), (2, 3, 4)), ValueError, "2 indices for the shape (2, 3, 4)"),
    (lambda: np.array_equal(x, graphc.ones((6, 4))), ValueError, "whether f64[N,4] and f64[6,4] have one shape"),
    (lambda: np.put_along_axis(x, k[:1, None], 0, 1), TypeError, "write x.at[rows, indices].set(values)"),
    (lambda: np.fill_diagonal(x, 0), TypeError, "write x.at[k, k].set(value) with k = graphc.arange(n)"),
    (lambda: np.compress([True], x), TypeError, "np.compress of a view has a shape that depends on its values\n"),
    (lambda: np.extract(m, v), TypeError, "has a shape that depends on its values"),
    (lambda: np.trim_zeros(v), TypeError, "has a shape that depends on its values"),
    (lambda: np.putmask(v, m, 0), TypeError, "write x.at[mask].set(value), or np.where(mask, value, x)"),
    (lambda: np.place(v, m, 0), TypeError, "write x.at[mask].set(value)"),
    (lambda: np.copyto(v, 0), TypeError, "write x.at[index].set(value): a new view"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals_say_what_was_given_and_what_to_do(case: int) -> None:
    declare, kind, message = REFUSED[case]
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert isinstance(caught.value, kind)
    assert message in str(caught.value)
