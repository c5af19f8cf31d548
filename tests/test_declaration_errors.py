"""A wrong declaration says what, where, what was expected and what to do; nothing leaves the graph silently."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import graphc
from graphc import DeclarationError, Dense, DifferentiationError, Dim, Input, Planner


class Ground(Planner):
    x = Input(("N", 4))
    y = Input(("M",), "float32")
    k = Input(("N",), "int64")
    m = Input(("N", 4), "bool")
    s = Input(())
    v = Input((3,))


x, y, k, m, s, v = Ground.x, Ground.y, Ground.k, Ground.m, Ground.s, Ground.v

CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # what would leave the graph
    (lambda: bool(x > 0), TypeError, "the truth of a view is not known before the program runs\n  write np.where"),
    (lambda: 1 if s else 0, TypeError, "the truth of a view"),
    (lambda: x > 0 and x < 1, TypeError, "& | ~ for and, or, not"),
    (lambda: 0 < s < 1, TypeError, "the truth of a view"),
    (lambda: np.asarray(x), TypeError, "x: a view has no values to make an array of\n  compile it"),
    (lambda: np.array([s, s]), TypeError, "a view has no values"),
    (lambda: float(s), TypeError, "a view has no value before the program runs"),
    (lambda: int(s), TypeError, "a view has no value before the program runs"),
    (lambda: range(k[0]), TypeError, "sizes are dims: x.shape[0]"),  # type: ignore[arg-type]
    (lambda: [row for row in x], TypeError, "a view cannot be iterated over its symbolic dim N"),  # noqa: C416
    (lambda: list(s), TypeError, "a scalar view cannot be iterated over"),
    (lambda: len(x), TypeError, "the length of the view is the symbolic dim N\n  use the dim itself: x.shape[0]"),
    (lambda: 3 in v, TypeError, "write np.any(x == value)"),
    (lambda: int(x.shape[0]), TypeError, "int() of the symbolic dim N has no value"),
    (lambda: range(x.shape[0]), TypeError, "of the symbolic dim N has no value"),  # type: ignore[arg-type]
    (lambda: np.add(x, 1, out=np.zeros(3)), TypeError, "np.add of a view takes no out=\n  views are immutable"),
    (lambda: np.sum(x, out=np.zeros(3)), TypeError, "np.sum of a view takes no out="),
    (lambda: np.var(x, where=m), TypeError, "np.var of a view takes no where=\n  write np.where(condition, x, 0)"),
    (lambda: np.exp(x, dtype="float32"), TypeError, "np.exp of a view takes no dtype=\n  write x.astype"),
    (lambda: np.average(x, returned=True), TypeError, "np.average of a view takes no returned=\n  it takes axis"),
    (lambda: np.average(x, weights=m[0]), TypeError, "np.average: weights of (4,) for (N, 4) want one axis, got None"),
    (lambda: np.add.reduce(x), TypeError, "np.add.reduce of a view is not there\n  write np.sum"),
    (lambda: np.multiply.outer(v, v), TypeError, "add axes: x[:, None] * y[None, :]"),
    (lambda: np.frexp(x), TypeError, "np.frexp does not work on views yet\n  write np.floor(np.log2(np.abs(x)))"),
    (lambda: np.ldexp(x, k), TypeError, "np.ldexp does not work on views yet\n  write x1 * np.exp2(x2)"),
    (lambda: np.piecewise(x, [x > 0], [1.0]), TypeError, "np.piecewise does not work on views yet\n  write np.select("),
    (lambda: np.isnat(x), TypeError, "np.isnat does not work on views yet\n  the nearest that work: np.isnan"),
    (lambda: np.fft.ifft2(x), TypeError, "np.fft.ifft2 does not work on views yet"),
    (lambda: np.linalg.eigvals(x), TypeError, "np.linalg.eigvals does not work on views yet"),
    (lambda: scipy.special.erfc(x), TypeError, "not NumPy's, does not work on views\n  write graphc.erfc"),
    (lambda: np.unwrap(x), TypeError, "np.unwrap does not work on views yet"),
    (lambda: np.nanmedian(x), TypeError, "np.nanmedian does not work on views yet"),
    (lambda: x[m], IndexError, "a mask selects an unknown number of the elements of f64[N,4]\n  write np.where(mask"),
    (lambda: v[np.array([True, False, True])], IndexError, "a mask selects an unknown number"),
    (lambda: x.__setitem__(0, 1), TypeError, "write x.at[index].set(value)"),
    (lambda: setattr(x, "node", None), TypeError, "a view is immutable: node cannot be set"),
    # dtypes and values
    (lambda: Input((3,), "float128"), TypeError, "no dtype 'float128' in graphs\n  there are bool, int8"),
    (lambda: Input((3,), "flaot32"), TypeError, "no dtype 'flaot32' in graphs"),
    (lambda: x + "a", TypeError, "'a' (str) cannot be part of a view"),
    (lambda: x + None, TypeError, "None (NoneType) cannot be part of a view"),
    (lambda: x * 1j, TypeError, "cannot be part of a view"),
    (lambda: x.__add__([s, s, s, s]), TypeError, "a list of views is no operand\n  stack them: np.stack([a, b])"),
    (lambda: m - m, TypeError, "np.subtract is not defined for bool and bool"),
    (lambda: -m, TypeError, "np.negative is not defined for bool"),
    (lambda: x & x, TypeError, "np.bitwise_and is not defined for float64 and float64"),
    (lambda: x | x, TypeError, "np.bitwise_or is not defined for float64 and float64"),
    (lambda: k.astype("uint8") + 300, ValueError, "300 does not fit uint8"),
    (lambda: k**-1, ValueError, "to the negative power -1 is no integer"),
    (lambda: k**k, TypeError, "needs an exponent known at declaration"),
    (lambda: v.at[0].set(1j), TypeError, "cannot be part of a view"),
    (lambda: k.at[0].set(0.5), TypeError, "0.5 does not go into i64[N]"),
    (lambda: k.at[0].add(s), TypeError, "f64[] does not go into i64[N]"),
    # shapes
    (lambda: x + v, ValueError, "shapes (N, 4) and (3,) do not broadcast: 4 is not 3\n  extents must be equal"),
    (lambda: x + y, ValueError, "shapes (N, 4) and (M,) do not broadcast: 4 is not M\n  a symbolic dim meets itself"),
    (lambda: x @ v, ValueError, "matmul: the inner dims of f64[N,4] and f64[3] differ: 4 is not 3"),
    (lambda: x @ s, ValueError, "matmul wants arrays, got f64[N,4] and f64[]\n  use * for scalars"),
    (lambda: x.reshape(3), ValueError, "reshape: f64[N,4] has 4*N elements, (3,) has 3"),
    (lambda: x.reshape(-1, -1), ValueError, "only one extent can be -1"),
    (lambda: np.sum(x, axis=2), IndexError, "axis 2 is not there: its axes are 0 to 1"),
    (lambda: np.sum(x, axis=2), ValueError, "axis 2 is not there"),
    (lambda: np.sum(x, axis=(0, -2)), ValueError, "axis=(0, -2) names an axis twice"),
    (lambda: np.sum(x, axis="a"), TypeError, "an axis is an int, not 'a'"),  # type: ignore[call-overload]
    (lambda: np.transpose(x, (0, 0)), ValueError, "wants each of its 2 axes once"),
    (lambda: np.squeeze(x, 1), ValueError, "squeeze: axis 1 of (N, 4) is not 1"),
    (lambda: np.broadcast_to(x, (3, 4)), ValueError, "shapes (N, 4) and (3, 4) do not broadcast: N is not 3"),
    (lambda: np.concatenate([x, v]), ValueError, "np.concatenate wants arrays of one rank, at least 1"),
    (lambda: np.stack([v, s]), ValueError, "np.stack wants arrays of one shape, got f64[3], f64[]"),
    (lambda: np.where(x), TypeError, "np.where with a condition alone has a result of unknown shape"),
    (lambda: np.einsum("ij,jk->ik", x, v), ValueError, "'jk' does not fit the axes of f64[3]"),
    (lambda: np.einsum("ii->i", x), ValueError, "the diagonal ii of f64[N,4] wants equal axes"),
    (lambda: np.einsum("ij,i->j", x, v), ValueError, "i is both N and 3"),
    (lambda: Input(("1N",)), ValueError, "'1N' is not a dim name"),
    (lambda: Input((-1,)), ValueError, "a dim is not negative: -1"),
    (lambda: graphc.zeros(s), TypeError, "a shape is made of ints and dims, not of views\n  write x.shape, not x"),
    # indices
    (lambda: v[3], IndexError, "index 3 is out of range for axis 0 with 3 elements"),
    (lambda: v[np.array([0, -4])], IndexError, "index -4 is out of range for axis 0 with 3 elements"),
    (lambda: v[0, 0], IndexError, "2 indices for f64[3], which has 1 axes"),
    (lambda: v[0.5], IndexError, "0.5 is no index"),
    (lambda: v[s], IndexError, "f64[] is no index"),
    (lambda: v[k : k + 1], TypeError, "a slice is bounded by ints and dims"),
    (lambda: v[::0], ValueError, "a slice's step is a known int, and not 0"),
    (lambda: v[..., ...], IndexError, "only one '...'"),
    (lambda: np.take(v, s), IndexError, "indices are integers, not f64[]"),
    (lambda: graphc.one_hot(s, 3), IndexError, "indices are integers"),
    # functions and layers
    (lambda: x.T | Dense(3), ValueError, "the last dim of f64[4,N] is symbolic: N\n  give the input a known last dim"),
    (lambda: s | Dense(3), ValueError, "a Dense layer wants at least one axis, got f64[]"),
    (lambda: Dense(2.5), TypeError, "the units of a Dense layer are an int, not 2.5"),  # type: ignore[arg-type]
    (lambda: graphc.cross_entropy(x, y), ValueError, "labels f32[M] do not fit logits f64[N,4]\n  expected integers"),
    (lambda: graphc.cross_entropy(x, x[:, 0]), TypeError, "class labels are integers, got f64[N]"),
    (lambda: graphc.mse(k, x[:, :1]), ValueError, "a target f64[N,1] does not fit the prediction f64[N]"),
    (lambda: graphc.arange(0.5, x.shape[0]), TypeError, "arange up to a symbolic dim wants integers"),
    (lambda: np.linalg.norm(x, 3), ValueError, "np.linalg.norm of matrices has no order 3\n  there are"),
    (lambda: graphc.softmax(x, 2), IndexError, "axis 2 is not there"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_what_is_wrong_and_what_to_do(case: int) -> None:
    declare, kind, message = CASES[case]
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert isinstance(caught.value, kind)
    assert message in str(caught.value)


def test_errors_say_where() -> None:
    with pytest.raises(DeclarationError) as caught:
        x @ v + 1
    first, _, _ = str(caught.value).partition(": matmul: the inner dims")
    assert first.startswith(f"{__file__}:")
    assert first.endswith(", matmul(x, v)")


def test_errors_in_a_class_body_use_the_names_it_has() -> None:
    with pytest.raises(DeclarationError, match=r"errors.py:\d+, add\(a, f64\[3\]\): shapes \(2,\) and"):

        class Wrong(Planner):
            a = Input((2,))
            b = Input((3,))
            c = a + 2 * b


def test_errors_in_functions_name_the_line_that_calls_them() -> None:
    with pytest.raises(DeclarationError, match=r"test_declaration_errors.py:\d+, cross_entropy\(x, y\): labels"):
        graphc.cross_entropy(x, y)


@pytest.mark.parametrize(
    ("declare", "kind", "message"),
    [
        (lambda: graphc.grad(x, x), ValueError, "the gradient of x wants a scalar, and it is f64[N,4]"),
        (lambda: graphc.grad(s, k), TypeError, "no derivative with respect to k: it is i64[N]"),
        (lambda: graphc.grad(np.sum(np.argmax(x, 1).astype("float64")), x), TypeError, "only through argmax"),
    ],
)
def test_derivatives_that_do_not_exist(declare: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(DifferentiationError) as caught:
        declare()
    assert isinstance(caught.value, kind)
    assert message in str(caught.value)
    assert "test_declaration_errors.py:" in str(caught.value)


def test_dims_stay_dims() -> None:
    assert isinstance(x.shape[0], Dim)
    assert graphc.dim_min(x.shape[0], 5) == graphc.dim_min(5, x.shape[0])


GIVEN_VIEWS: list[tuple[Callable[[], Any], str]] = [
    (lambda: np.tile(v, s), "np.tile repeats by ints and dims, not by f64[]"),
    (lambda: np.repeat(v, s), "np.repeat repeats by ints and dims, not by f64[]"),
    (lambda: np.repeat(v, [1, s, 2], 0), "got [1, f64[], 2]"),
    (lambda: np.pad(v, (1, s)), "np.pad wants widths that are not negative ints, or dims, got (1, f64[])"),
    (lambda: np.round(v, v), "np.round wants decimals known at declaration, not f64[3]"),
    (lambda: np.insert(v, [0, s], 1), "ints or a list of them, got [0, f64[]]"),
    (lambda: np.linspace(s, 1, s), "linspace makes an int or a dim of numbers, not f64[]"),
    (lambda: np.einsum(v, v), "as a string such as 'ij,jk->ik', got f64[3]"),
    (lambda: graphc.cho_solve((v, (v,)), v), "whether it is lower, got (f64[3], (f64[3],))"),
    (lambda: graphc.cho_solve(v, v), "whether it is lower, got f64[3]"),
    (lambda: np.reshape(v, (3, s)), "a shape is made of ints and dims, not of views"),
    (lambda: graphc.one_hot(k, s), "a shape is made of ints and dims, not of views"),
    (lambda: graphc.top_k(v, s), "graphc.top_k wants k as an int known at the declaration, got f64[]"),
    (lambda: np.bincount(k, minlength=s), "np.bincount wants minlength as an int known at the declaration, got f64[]"),
    (lambda: np.quantile(v, [0.5, s]), "as q, got [0.5, f64[]]"),
    (lambda: np.sum(v, axis=s), "an axis is an int, not f64[]"),
    (lambda: np.linalg.norm(np.outer(v, v), s), "np.linalg.norm of matrices has no order f64[]"),
    (lambda: np.vecdot(v, v, axis=0), "np.vecdot of a view takes no axis=\n  write np.linalg.vecdot(x1, x2, axis=...)"),
    (lambda: np.trace(np.outer(v, v), axis1=0, axis2=0), "np.trace wants two different axes, got 0 and 0 of f64[3,3]"),
    (lambda: np.linalg.trace(v), "np.linalg.trace wants an array of at least two axes, got f64[3]"),
]


@pytest.mark.parametrize(("make", "message"), GIVEN_VIEWS, ids=lambda value: value if isinstance(value, str) else "")
def test_views_stand_in_errors_by_their_type(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        make()
    assert message in str(caught.value)
    assert "dtype('" not in str(caught.value)


def test_a_node_shows_what_it_is_made_of() -> None:
    assert repr(v.node) == "<input(dtype=dtype('float64'), shape=(3,)) : f64[3]>"
    assert repr((v + v).node) == "<add(input, input) : f64[3]>"
