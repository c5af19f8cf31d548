"""Views mean what the same expression means in NumPy: values and dtypes, by the reference evaluator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import Input, Planner, View
from graphc.build import build
from graphc.ir.errors import FeedIndexError, FeedValueError
from graphc.ir.interpret import interpret

RNG = np.random.default_rng(0)


def evaluate(view: View, **feeds: Any) -> np.ndarray:
    graph = build([view]).graph
    (result,) = interpret(graph, {name: value for name, value in feeds.items() if name in graph.names.values()})
    assert result.dtype == view.dtype
    return result


def check(function: Callable[..., Any], *arrays: Any, symbolic: bool = False) -> None:
    """Compare a function of views with the same function of arrays."""
    arrays = tuple(np.asarray(array) for array in arrays)
    views = []
    for k, array in enumerate(arrays):
        shape = tuple(f"N{size}" if symbolic and size > 1 else size for size in array.shape)
        views.append(Input(shape, array.dtype, name=f"x{k}"))
    view = function(*views)
    assert isinstance(view, View)
    with np.errstate(all="ignore"):
        expected = np.asarray(function(*arrays))
    result = evaluate(view, **{f"x{k}": array for k, array in enumerate(arrays)})
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(result, expected, rtol=1e-5 if expected.dtype == np.float32 else 1e-12, atol=1e-12)
    else:
        np.testing.assert_array_equal(result, expected)


def floats(*shape: int, dtype: str = "float64") -> np.ndarray:
    return RNG.uniform(0.1, 0.9, shape).astype(dtype)


A, B = floats(3, 4), floats(3, 4)
S = floats(3, 4, dtype="float32")
K = np.arange(12).reshape(3, 4) - 5
M = K % 2 == 0
T = floats(2, 3, 4)

OPERATORS = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, lambda a, b: a // b,
    lambda a, b: a % b, lambda a, b: a == b, lambda a, b: a != b, lambda a, b: a < b, lambda a, b: a <= b,
    lambda a, b: a > b, lambda a, b: a >= b, np.maximum, np.minimum,
    lambda a, b: np.where(a > b, a, b), lambda a, b: np.where(a, b, 0), np.logical_and,
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(OPERATORS)))
def test_operators_promote_as_numpy_does(k: int) -> None:
    small = K.astype("int8")
    for left, right in ((A, B), (A, S), (S, K), (K, K + 6), (small, S), (K, M), (S, M), (A, B[0]), (M, A[:, :1])):
        check(OPERATORS[k], left, right)
    for number in (2, 2.5, True, np.float64(2), np.float32(2), np.int64(2)):
        for array in (A, S, K):
            check(lambda x, n=number: OPERATORS[k](x, n), array)
            check(lambda x, n=number: OPERATORS[k](n, x), array)


def test_python_numbers_are_weak() -> None:
    x = Input((3,), "float32", name="x")
    k = Input((3,), "int8", name="k")
    assert [(2 * x).dtype, (x + 1.5).dtype, (k + 1).dtype, (k / 2).dtype, (k * 0.5).dtype] == [
        "float32", "float32", "int8", "float64", "float64"
    ]  # fmt: skip
    assert (x * np.float64(2)).dtype == "float64"
    assert (x + np.ones(3)).dtype == "float64"
    assert (x * x.shape[0]).dtype == "float32"


@pytest.mark.parametrize(
    "function",
    [
        np.add, np.multiply, np.maximum, np.minimum, np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or,
        np.bitwise_xor, np.equal, np.less, np.greater_equal,
    ],
)  # fmt: skip
def test_booleans(function: np.ufunc) -> None:
    check(function, M, ~M[::-1])
    check(function, M, True)


@pytest.mark.parametrize(
    "name",
    [
        "negative", "positive", "absolute", "fabs", "sign", "square", "sqrt", "reciprocal", "exp", "expm1", "exp2",
        "log", "log1p", "log2", "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
        "arcsinh", "arctanh", "floor", "ceil", "rint", "trunc", "isnan", "isinf", "isfinite", "logical_not",
        "round",
    ],
)  # fmt: skip
def test_functions_of_one_operand(name: str) -> None:
    function = getattr(np, name)
    for array in (A, S, np.float64(0.5)):
        check(function, array)
    if name not in {"arcsin", "arccos", "arctanh", "log", "sqrt", "log2", "log10", "log1p", "reciprocal"}:
        check(function, K)
    if name in {"absolute", "floor", "ceil", "logical_not"}:
        check(function, M)


@pytest.mark.parametrize("name", ["power", "hypot", "arctan2", "logaddexp", "float_power", "remainder", "floor_divide"])
def test_functions_of_two_operands(name: str) -> None:
    check(getattr(np, name), A, B)
    check(getattr(np, name), S, K[:1] + 7)


def test_powers() -> None:
    for n in (0, 1, 2, 3, -2):
        check(lambda x, n=n: x**n, A - 0.5)
        check(lambda x, n=n: x**n, S)
    for n in (0, 2, 5):
        check(lambda x, n=n: x**n, K)
    check(lambda x: x**0.5, A)
    check(lambda x: 2.0**x, A)
    assert (Input((), name="x") ** 2).node.op.name == "square"
    assert (Input((), name="x") ** 3).node.op.name == "integer_power"


def test_bits() -> None:
    k = K.astype("int16")
    check(lambda x: ~x & 6 | 1 ^ x, k)
    check(lambda x: (x << 2) >> 1, k)
    check(lambda x: ~x, M)
    check(lambda x, y: x | y, M, ~M)
    check(lambda x: 3 | x, K)


def test_numpy_on_the_left() -> None:
    for left in (A, np.float64(3), np.float32(3), np.int64(3), S):
        check(lambda x, v=left: v - x, B)
        check(lambda x, v=left: v / x, B)
        check(lambda x, v=left: v < x, B)
    check(lambda x: A.T @ x, B)
    check(lambda x: M | x, ~M)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "var", "std", "max", "min", "any", "all", "argmax", "argmin", "ptp", "count_nonzero"]
)  # fmt: skip
def test_reductions(name: str) -> None:
    function = getattr(np, name)
    for array in (T, T.astype("float32"), K, M if name not in {"ptp", "var", "std"} else K):
        check(function, array)
        check(function, array, symbolic=True)
        for axis in (0, -1) if name.startswith("arg") else (0, -1, (0, 1), (1, -1) if array.ndim > 2 else (1,)):
            for keepdims in (False, True):
                check(lambda x, a=axis, k=keepdims: function(x, axis=a, keepdims=k), array)
    if hasattr(np.ndarray, name):
        check(lambda x: getattr(x, name)(1), T)


def test_small_integers_are_summed_in_64_bits() -> None:
    check(np.sum, K.astype("int8"))
    check(np.sum, K.astype("uint8"))
    check(lambda x: np.sum(x, dtype="float32"), K)
    check(lambda x: np.var(x, ddof=1), A)


def test_norms() -> None:
    norm = np.linalg.norm
    check(norm, T)
    check(norm, K)
    check(lambda x: norm(x, axis=1), T)
    check(lambda x: norm(x, axis=(0, 2)), T)
    check(lambda x: norm(x, axis=-1, keepdims=True), T)
    for order in (1, 2, 3, 0, np.inf, -np.inf, 0.5):
        check(lambda x, o=order: norm(x, o, axis=0), A)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        check(lambda x, o=order: norm(x, o), A - 0.5)
        check(lambda x, o=order: norm(x, o, keepdims=True), S)
        check(lambda x, o=order: norm(x, o), K)
        check(lambda x, o=order: norm(x, o, axis=(0, 1)), T)
        check(lambda x, o=order: norm(x, o, axis=(1, 2)), T)
        check(lambda x, o=order: norm(x, o, axis=(2, 0), keepdims=True), T)
    np.testing.assert_allclose(evaluate(graphc.norm(Input((3, 4), name="x"), 1), x=A), np.sum(np.abs(A)))


def test_products() -> None:
    vector, row = floats(4), floats(3)
    for left, right in ((A, vector), (row, A), (vector, vector), (A, B.T), (T, A.T), (T, floats(2, 4, 5)), (T, vector)):
        check(lambda x, y: x @ y, left, right)
        check(lambda x, y: x @ y, left, right, symbolic=True)
    check(lambda x, y: x @ y, floats(2, 1, 3, 4), floats(5, 4, 2))
    check(lambda x, y: x @ y, K, K.T)
    check(lambda x, y: x @ y, S, K.T)
    for left, right in ((A, B.T), (vector, vector), (np.float64(2), A), (T, vector), (T, floats(5, 4, 2)), (A, vector)):
        check(np.dot, left, right)
    check(np.inner, A, B)
    check(np.vdot, A, B)
    check(np.outer, vector, row)
    check(lambda x, y: np.tensordot(x, y, axes=([0, 1], [1, 0])), A, B.T)
    check(lambda x, y: np.tensordot(x, y, 1), T, B.T)
    check(np.vecdot, A, B)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]), ("ij,kj", [(3, 4), (5, 4)]), ("ij->ji", [(3, 4)]), ("ij->", [(3, 4)]),
        ("ij->j", [(3, 4)]), ("ba", [(3, 4)]), ("i,i", [(3,), (3,)]), ("i,j->ji", [(3,), (4,)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("ij,ij->i", [(3, 4), (3, 4)]), ("ij,ij", [(3, 4), (3, 4)]),
        ("ij,k->k", [(3, 4), (5,)]), ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]), ("ij,ij,ij->ij", [(2, 3)] * 3),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]), ("i,->i", [(3,), ()]),
    ],
)  # fmt: skip
def test_einsum(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    check(lambda *xs: np.einsum(subscripts, *xs), *(floats(*shape) for shape in shapes))


LAYOUTS = [
    lambda x: x.T, lambda x: x.mT, lambda x: np.transpose(x, (1, 2, 0)), lambda x: x.transpose(2, 0, 1),
    lambda x: x.swapaxes(0, -1), lambda x: np.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, (0, 1), (-1, 0)),
    lambda x: x.reshape(6, 4), lambda x: x.reshape((4, -1)), lambda x: np.reshape(x, -1), lambda x: x.ravel(),
    lambda x: np.expand_dims(x, 1), lambda x: np.expand_dims(x, (0, -1)), lambda x: np.squeeze(x[:1]),
    lambda x: np.squeeze(x[:, None], axis=1), lambda x: np.broadcast_to(x, (5, 2, 3, 4)), np.flip,
    lambda x: np.flip(x, 1), lambda x: np.flip(x, (0, 2)), lambda x: np.concatenate([x, x + 1, np.ones((2, 3, 4))]),
    lambda x: np.concatenate([x, x], axis=-1), lambda x: np.concatenate([x, x], axis=None),
    lambda x: np.stack([x, 2 * x]), lambda x: np.stack([x, x], axis=-1), lambda x: np.hstack([x, x]),
    lambda x: np.vstack([x[0, 0], x[1, 0]]), lambda x: np.clip(x, 0.3, 0.6), lambda x: x.clip(0.3),
    lambda x: np.clip(x, None, x[0]), np.zeros_like, lambda x: np.full_like(x, 3, dtype="int64"),
    lambda x: x.astype("float32"), lambda x: x.astype(bool), np.copy, lambda x: abs(-x),
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(LAYOUTS)))
def test_layout(k: int) -> None:
    check(LAYOUTS[k], T)


INDICES = [
    0, -1, (0, -1), (slice(None), 1), slice(1, 3), slice(None, None, -1), slice(None, -1), slice(-2, None),
    slice(2, None, -2), slice(0, 3, 2), (Ellipsis, 0), (0, Ellipsis, slice(1, None)), None, (None, 1, None),
    (slice(None), None, slice(0, 2)), slice(5, 2), slice(0, 100), (Ellipsis, slice(None, None, 3)), (), Ellipsis,
    np.array([0, 2, 2]), np.array([[0, 1], [-1, 0]]), [1, 0], (np.array([0, 1]), np.array([1, 2])),
    (slice(None), np.array([2, 0])), (slice(None), np.array([0, 1]), np.array([1, 2])),
    (np.array([0, 1]), slice(None), np.array([1, 2])), (0, slice(None), np.array([1, 2])),
    (0, np.array([1, 2])), (np.array([[0], [1]]), np.array([0, 2, 1])), (None, np.array([0, 1]), np.array([1, 2])),
    (np.array([0, 1]), None, np.array([1, 2])), (slice(1, None), np.array([0, 1]), None, np.array([[1], [2]])),
    (slice(1, None), np.array([0, 2]), slice(None, None, 2)),
    (Ellipsis, np.array([3, 0])), (slice(None), np.array([1]), None), np.array(1), (np.array([], dtype="int64"),),
    np.array([1, 2], dtype="uint8"), (np.int64(1), slice(None), np.int32(-1)),
]  # fmt: skip
C = floats(3, 3, 4)


@pytest.mark.parametrize("k", range(len(INDICES)))
def test_indexing(k: int) -> None:
    check(lambda x: x[INDICES[k]], C)


@pytest.mark.parametrize("k", range(len(INDICES)))
def test_scatters(k: int) -> None:
    value = floats(*C[INDICES[k]].shape)
    added, placed = C.copy(), C.copy()
    np.add.at(added, INDICES[k], value)
    placed[INDICES[k]] = value
    x, v = Input(C.shape, name="x"), Input(value.shape, name="v")
    np.testing.assert_allclose(evaluate(x.at[INDICES[k]].add(v), x=C, v=value), added)
    np.testing.assert_array_equal(evaluate(x.at[INDICES[k]].set(v), x=C, v=value), placed)


def test_indices_that_are_views() -> None:
    rows, columns = np.array([2, 0, -1]), np.array([[1], [-4]])
    check(lambda x, r: x[r], C, rows)
    check(lambda x, r: x[r, ..., 1], C, rows)
    check(lambda x, c: x[1:, :, c], C, columns)
    check(lambda x, r, c: x[r, :, c], C, rows, columns)
    check(lambda x, r: x[:, r[0]], C, rows)
    check(lambda x, r: np.take(x, r, axis=1), C, rows)
    check(np.take, C, rows)
    check(lambda x, r: x[r], C, rows, symbolic=True)
    check(lambda x, k: np.take_along_axis(x, k, axis=1), A, np.argsort(A, axis=1)[:, ::-2])
    check(lambda x, k: np.take_along_axis(x, k, -1), C, np.argmax(C, axis=-1, keepdims=True))


def test_an_index_out_of_range_at_run_time() -> None:
    x, k = Input(("N", 3), name="x"), Input((2,), "int64", name="k")
    with pytest.raises(FeedIndexError, match="index out of range: 2 for an axis of 2 elements"):
        evaluate(x[k], x=np.ones((2, 3)), k=np.array([0, 2]))


def test_masks_can_be_written_through() -> None:
    x, m = Input((3, 4), name="x"), Input((3, 4), "bool", name="m")
    expected = A.copy()
    expected[M] = 7
    np.testing.assert_array_equal(evaluate(x.at[m].set(7), x=A, m=M), expected)
    np.testing.assert_array_equal(evaluate(x.at[M].add(1), x=A), np.where(M, A + 1, A))
    np.testing.assert_array_equal(evaluate(x.at[x > 0.5].set(0), x=A), np.where(A > 0.5, 0, A))
    rows = np.array([True, False, True])
    expected = A.copy()
    expected[rows] = B[0]
    np.testing.assert_array_equal(evaluate(x.at[rows].set(B[0]), x=A), expected)


def test_of_duplicate_indices_all_are_added_and_the_last_is_set() -> None:
    x, k = Input((3,), name="x"), Input((4,), "int64", name="k")
    feeds = {"x": np.zeros(3), "k": np.array([0, 1, 0, -1])}
    np.testing.assert_array_equal(evaluate(x.at[k].add(np.arange(4.0)), **feeds), [2, 1, 3])
    np.testing.assert_array_equal(evaluate(x.at[k].set(np.arange(4.0)), **feeds), [2, 1, 3])


def test_symbolic_slices_have_guards() -> None:
    x = Input(("N", 2), name="x")
    n = x.shape[0]
    assert x[:5].shape == (5, 2)
    assert x[1:].shape == (n - 1, 2)
    assert x[:-1].shape == (n - 1, 2)
    assert x[-3:].shape == (3, 2)
    assert x[::2].shape == ((n + 1) // 2, 2)
    assert x[::-1].shape == (n, 2)
    assert x[: n - 2].shape == (n - 2, 2)
    for index in (slice(None, 5), slice(1, None), slice(-3, None), slice(None, None, 2), slice(None, None, -1), -1):
        array = floats(6, 2)
        np.testing.assert_array_equal(evaluate(x[index], x=array), array[index])
    with pytest.raises(FeedValueError, match="N >= 5"):
        evaluate(x[:5], x=floats(4, 2))
    with pytest.raises(FeedValueError, match="N >= 1"):
        evaluate(x[-1], x=floats(0, 2))


def test_shapes_are_dims() -> None:
    x = Input(("N", 4, "M"), name="x")
    n, m = x.shape[0], x.shape[2]
    assert (x.ndim, x.size) == (3, 4 * n * m)
    assert x.reshape(-1, m).shape == (4 * n, m)
    assert x.reshape(2 * n, 2 * m).shape == (2 * n, 2 * m)
    assert np.concatenate([x, x[:1]]).shape == (n + 1, 4, m)
    assert np.sum(x, axis=1).shape == (n, m)
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((n, 4, m), 3, 4 * n * m)


def test_dims_are_numbers_in_arithmetic() -> None:
    x = Input(("N",), "float32", name="x")
    np.testing.assert_allclose(evaluate(np.sum(x) / x.shape[0], x=S[0]), np.mean(S[0]), rtol=1e-6)
    np.testing.assert_array_equal(evaluate(graphc.arange(x.shape[0]) + 0 * x.astype("int64"), x=S[0]), np.arange(4))
    np.testing.assert_array_equal(evaluate(np.maximum(x, 0) * 0 + x.shape[0], x=S[0]), [4] * 4)


def test_new_arrays() -> None:
    x = Input(("N",), name="x")
    n = x.shape[0]
    zero, feed = 0 * x[0], {"x": floats(5)}
    np.testing.assert_array_equal(evaluate(graphc.zeros((n, 2)) + zero, **feed), np.zeros((5, 2)))
    np.testing.assert_array_equal(evaluate(graphc.ones(n) + zero, **feed), np.ones(5))
    np.testing.assert_array_equal(evaluate(graphc.full((2, n), 3.5) + zero, **feed), np.full((2, 5), 3.5))
    np.testing.assert_array_equal(evaluate(graphc.eye(n, k=1) + zero, **feed), np.eye(5, k=1))
    np.testing.assert_array_equal(evaluate(graphc.arange(1, n, 2) + zero, **feed), np.arange(1, 5, 2))
    np.testing.assert_array_equal(evaluate(graphc.arange(n, 0, -1) + zero, **feed), np.arange(5, 0, -1))
    np.testing.assert_array_equal(evaluate(graphc.arange(0.5, 2, 0.5)), np.arange(0.5, 2, 0.5))
    assert graphc.arange(3).dtype == "int64"
    assert graphc.zeros(3, "int32").dtype == "int32"
    assert graphc.full((), np.float32(1)).dtype == "float32"


def test_functions_beyond_numpy() -> None:
    x = Input((6,), name="x")
    v = np.array([-2.0, -0.5, 0.0, 0.3, 1.0, 4.0])
    sigmoid = 1 / (1 + np.exp(-v))
    expected = {
        graphc.sigmoid: sigmoid,
        graphc.relu: np.maximum(v, 0),
        graphc.leaky_relu: np.where(v > 0, v, 0.01 * v),
        graphc.elu: np.where(v > 0, v, np.expm1(v)),
        graphc.silu: v * sigmoid,
        graphc.softplus: np.log1p(np.exp(v)),
        graphc.log_sigmoid: np.log(sigmoid),
        graphc.step: np.where(v >= 0, 1.0, 0.0),
        graphc.softmax: np.exp(v) / np.sum(np.exp(v)),
        graphc.log_softmax: np.log(np.exp(v) / np.sum(np.exp(v))),
        graphc.logsumexp: np.log(np.sum(np.exp(v))),
        graphc.norm: np.sqrt(np.sum(v * v)),
    }
    for function, value in expected.items():
        np.testing.assert_allclose(evaluate(x | function, x=v), value, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(evaluate(function(v)), value, rtol=1e-12, atol=1e-15)
        assert function(x.astype("float32")).dtype == "float32"
        assert function(x.astype("int64")).dtype == "float64"
    from scipy.special import erf

    gelu = 0.5 * v * (1 + erf(v / np.sqrt(2)))
    np.testing.assert_allclose(evaluate(graphc.gelu(x), x=v), gelu)
    np.testing.assert_allclose(evaluate(graphc.gelu(x, approximate=True), x=v), gelu, atol=1e-3)
    np.testing.assert_allclose(evaluate(graphc.leaky_relu(x, 0.2), x=v), np.where(v > 0, v, 0.2 * v))
    np.testing.assert_allclose(evaluate(graphc.elu(x, alpha=2.0), x=v), np.where(v > 0, v, 2 * np.expm1(v)))
    np.testing.assert_array_equal(evaluate(graphc.one_hot(np.array([0, -1]), 3)), [[1, 0, 0], [0, 0, 1]])
    assert graphc.one_hot(np.array([0, -1]), 3, "float32").dtype == "float32"
    assert graphc.logsumexp(x, 0, True).shape == (1,)


def test_losses() -> None:
    logits, labels = Input(("N", 3), "float32", name="z"), Input(("N",), "int64", name="y")
    z, y = RNG.normal(size=(5, 3)).astype("float32"), np.array([0, 2, 1, -1, 0])
    log_p = np.log(np.exp(z) / np.exp(z).sum(1, keepdims=True))
    expected = -np.mean(log_p[np.arange(5), y])
    loss = graphc.cross_entropy(logits, labels)
    assert loss.dtype == "float32"
    np.testing.assert_allclose(evaluate(loss, z=z, y=y), expected, rtol=1e-6)
    for dtype in ("float32", "int64"):
        rows = Input(("N", 3), dtype, name="p")
        loss = graphc.cross_entropy(logits, rows)
        np.testing.assert_allclose(evaluate(loss, z=z, p=np.eye(3, dtype=dtype)[y]), expected, rtol=1e-6)
    with pytest.raises(FeedIndexError, match="index out of range: 3"):
        evaluate(graphc.cross_entropy(logits, labels), z=z, y=y + 1)
    hits = graphc.accuracy(logits, labels)
    assert hits.dtype == "float32"
    np.testing.assert_allclose(evaluate(hits, z=z, y=y), np.mean(np.argmax(z, 1) == y % 3))
    t = (z > 0).astype("float32")
    target = Input(("N", 3), "float32", name="t")
    np.testing.assert_allclose(
        evaluate(graphc.binary_cross_entropy(logits, target), z=z, t=t),
        -np.mean(t * np.log(1 / (1 + np.exp(-z))) + (1 - t) * np.log(1 / (1 + np.exp(z)))), rtol=1e-5,
    )  # fmt: skip
    np.testing.assert_allclose(evaluate(graphc.mse(logits, target), z=z, t=t), np.mean((z - t) ** 2), rtol=1e-6)
    np.testing.assert_allclose(evaluate(graphc.mse(logits, 0.0), z=z), np.mean(z**2), rtol=1e-6)


def test_binary_cross_entropy_is_exact_at_both_ends() -> None:
    pairs = [(40.0, 1), (-40.0, 0), (1e4, 0), (-1e4, 1)]
    each = [evaluate(graphc.binary_cross_entropy(np.array([z]), np.array([y]))) for z, y in pairs]
    np.testing.assert_allclose(each, [np.exp(-40.0), np.exp(-40.0), 1e4, 1e4], rtol=1e-12)


def test_pipes() -> None:
    x = Input((3,), name="x")
    view = x | np.tanh | (lambda h: 2 * h) | graphc.sigmoid
    np.testing.assert_allclose(evaluate(view, x=A[:, 0]), 1 / (1 + np.exp(-2 * np.tanh(A[:, 0]))))


def test_a_view_hashes_by_identity_and_compares_to_a_view() -> None:
    x = Input((3,), name="x")
    assert len({x, x, x + 1, x + 1}) == 3
    assert (x + 1).node is (x + 1).node
    assert isinstance(x == x, View)
    assert repr(x) == "<view x: f64[3]>"
    assert repr(x + 1) == "<view f64[3]>"
    assert x.astype("float64") is x
    assert +x is x


def test_iteration_over_a_known_dim() -> None:
    x = Input((2, 3), name="x")
    assert len(x) == 2
    first, second = x
    np.testing.assert_array_equal(evaluate(first - second, x=A[:2, :3]), A[0, :3] - A[1, :3])


def test_gradients_are_views() -> None:
    class Curve(Planner):
        x = Input(())
        y = x**3 + np.sin(x)
        dy = graphc.grad(y, x)
        d2y = graphc.grad(dy, x)
        d3y = graphc.grad(d2y, x)

    value = 0.7
    for view, expected in (
        (Curve.dy, 3 * value**2 + np.cos(value)), (Curve.d2y, 6 * value - np.sin(value)), (Curve.d3y, 6 - np.cos(value))
    ):  # fmt: skip
        np.testing.assert_allclose(evaluate(view, x=np.float64(value)), expected, rtol=1e-12)


def test_products_with_jacobians() -> None:
    x, w = Input((3,), name="x"), Input((2, 3), name="w")
    y = np.tanh(w @ x)
    by_x, by_w = graphc.vjp(y, [x, w], np.array([1.0, -2.0]))
    assert (by_x.shape, by_w.shape) == (x.shape, w.shape)
    direction = np.array([1.0, 0.0, 2.0])
    forward = evaluate(graphc.jvp(y, x, direction), x=A[:, 0], w=A[:2, :3])
    backward = evaluate(by_x, x=A[:, 0], w=A[:2, :3])
    np.testing.assert_allclose(np.dot([1.0, -2.0], forward), np.dot(backward, direction))
    single = graphc.vjp(y, x, 1.0)
    assert isinstance(single, View)
    assert evaluate(graphc.grad(np.sum(x), w), x=A[:, 0], w=A[:2, :3]).tolist() == [[0.0] * 3] * 2


def test_long_chains_need_no_stack() -> None:
    x = Input((), name="x")
    view: View = x
    for _ in range(50_000):
        view = np.sin(view)
    graph = build([view]).graph
    assert len(graph.steps) == 50_000
    del graph, view
