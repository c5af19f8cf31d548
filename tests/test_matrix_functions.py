"""NumPy's functions of matrices, products, grids and einsum on views: values, gradients and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from view_calls import check, check_gradients, one

import graphc
from graphc import DeclarationError, Input

RNG = np.random.default_rng(11)
V, W, A, S, T = (RNG.normal(size=size) for size in (5, 3, (3, 4), (4, 4), (2, 3, 4)))
Q = RNG.normal(size=(2, 3, 3))
K = np.arange(12, dtype="int32").reshape(3, 4) - 5
B = K % 2 == 0

DIAGONALS = [
    *(one(lambda x, k=k: np.diag(x, k), V) for k in (-2, 0, 1)),
    *(one(lambda x, k=k: np.diag(x, k), array) for k in (-4, -3, -1, 0, 1, 3, 4, 9) for array in (A, A.T.copy(), K)),
    *(
        one(lambda x, k=k, i=i, j=j: np.diagonal(x, k, i, j), T)
        for k in (-1, 0, 2) for i, j in ((0, 1), (1, 2), (2, 0), (-1, 0))
    ),
    one(np.diagflat, A), one(lambda x: np.diagflat(x, -1), W), one(np.trace, A), one(np.trace, K),
    one(lambda x: np.trace(x, 1, 1, 2), T), one(lambda x: np.trace(x, dtype="float32"), K), one(np.trace, B),
    one(np.linalg.trace, T), one(np.linalg.diagonal, T), one(lambda x: np.linalg.trace(x, offset=1), A),
    one(lambda x: np.linalg.diagonal(x, offset=-1), T),
    *(
        one(lambda x, k=k, f=f: f(x, k), array)
        for f in (np.tril, np.triu) for k in (-1, 0, 2) for array in (A, T, K, B, V)
    ),
]  # fmt: skip
PRODUCTS = [
    one(np.kron, A, S), one(np.kron, V, W), one(np.kron, V, A), one(np.kron, T, A), one(np.kron, K, K),
    one(np.kron, np.array(2.0), A), one(lambda x, y: np.linalg.multi_dot([x, y]), A, S),
    one(lambda x, y, z: np.linalg.multi_dot([x, y, z, z]), A, S, S),
    one(lambda x, y: np.linalg.multi_dot([x, y, y, x.T]), A, S),
    one(lambda w, x, s, v: np.linalg.multi_dot([w, x, s, v]), W, A, S, S[0]),
    *(one(lambda x, n=n: np.linalg.matrix_power(x, n), S) for n in range(6)),
    one(lambda x: np.linalg.matrix_power(x, 3), Q), one(lambda x: np.linalg.matrix_power(x, 0), Q.astype("float32")),
    one(np.linalg.outer, V, W), one(lambda x, y: np.linalg.tensordot(x, y, axes=1), A, S), one(np.linalg.vecdot, A, A),
    one(lambda x, y: np.linalg.vecdot(x, y, axis=0), A, A), one(np.linalg.matrix_transpose, T), one(np.polyval, V, W),
    one(np.polyval, V, A), one(lambda x: np.polyval([1, 2, 3], x), W), one(np.polyval, K[0], K),
    one(lambda p: np.polyval(p, 2.0), V), one(np.polyval, V[:0], W),
]  # fmt: skip
CROSSES = [
    one(np.cross, W, W[::-1].copy()), one(np.cross, A.T.copy(), W),
    one(lambda x, y: np.cross(x, y, axis=0), A, A[:, ::-1].copy()),
    one(lambda x, y: np.cross(x, y, axisa=1, axisb=0, axisc=0), T, A), one(np.linalg.cross, Q, W),
    one(lambda x, y: np.linalg.cross(x, y, axis=1), T, T[::-1].copy()),
    one(np.cross, K.T[:, :3].copy(), K.T[:, :3].copy() + 1),
]  # fmt: skip
VANDERS = [
    one(np.vander, V), one(lambda x: np.vander(x, 3), V), one(lambda x: np.vander(x, 4, increasing=True), W),
    one(lambda x: np.vander(x, 0), W), one(np.vander, K[0]), one(np.vander, W.astype("float32")),
]  # fmt: skip


INDICES = [
    one(np.diag_indices_from, S), one(lambda x: np.tril_indices_from(x, 1), A),
    one(lambda x: np.triu_indices_from(x, -1), A), one(lambda x: x[np.triu_indices_from(x)], S),
    one(lambda x: x[np.diag_indices_from(x)], Q[0]), one(lambda x: x.trace(1), A),
    one(lambda x: x.diagonal(0, 1, 2), T), one(lambda x: x.repeat(2, axis=0), A), one(np.matmul, B, ~B.T.copy()),
    one(lambda x, y: x @ y, B, B[0]), one(np.dot, B, B[0]),
]  # fmt: skip


def test_indices_methods_and_booleans() -> None:
    check(INDICES)


@pytest.mark.skipif(not hasattr(np, "matvec"), reason="NumPy before 2.2 has no matvec")
def test_matrices_times_vectors() -> None:
    check([one(np.matvec, A, S[0]), one(np.matvec, T, T[:, 0, :].copy()), one(np.vecmat, W, A), one(np.vecmat, W, T)])


def test_diagonals_and_triangles() -> None:
    check(DIAGONALS)
    check(DIAGONALS, symbolic=True)


def test_products() -> None:
    check(PRODUCTS + CROSSES + VANDERS)
    check([case for case in PRODUCTS if len(case[1]) != 1 or case[1][0].ndim > 1][:13], symbolic=True)


def test_the_axis_of_a_vecdot_is_that_of_each_operand() -> None:
    cases = [
        one(lambda x, y: np.linalg.vecdot(x, y, axis=0), RNG.normal(size=(3, 3, 3)), Q[0]), one(np.vecdot, T, A),
        one(lambda x, y: np.linalg.vecdot(x, y, axis=-2), T, A), one(np.vecdot, K, K[0]), one(np.vecdot, B, ~B),
        one(np.linalg.vecdot, K.astype("uint8"), K.astype("int8")), one(np.vecdot, A[:, :0], A[:, :0]),
    ]  # fmt: skip
    check(cases, every=100)
    check([cases[0], cases[1]], symbolic=True, every=100)
    check_gradients(cases[:3])


def test_gradients() -> None:
    cases = [*DIAGONALS[::2], *PRODUCTS[::2], *CROSSES[::2], *VANDERS[:3]]
    check_gradients([case for case in cases if all(array.dtype == "float64" and array.size for array in case[1])])


def test_multi_dot_multiplies_in_the_cheapest_order() -> None:
    a, b, c = (Input(shape, name=name) for shape, name in (((10, 1000), "a"), ((1000, 5), "b"), ((5, 60), "c")))
    assert np.linalg.multi_dot([a, b, c]).node is ((a @ b) @ c).node
    d, n = Input(("N", "N"), name="d"), Input(("N",), name="n")
    matrix, rest = np.linalg.multi_dot([d, d, n]).node.operands[0].operands
    assert (matrix, rest.op.name, rest.shape[1]) == (d.node, "matmul", 1)


# convolutions ---------------------------------------------------------------------------------------------------------

VECTORS = [RNG.normal(size=size) for size in (1, 2, 3, 4, 20)]
CONVOLUTIONS = [
    one(lambda x, y, f=f, m=m: f(x, y, m), a, v)
    for f in (np.convolve, np.correlate) for m in ("full", "same", "valid") for a in VECTORS for v in VECTORS
]  # fmt: skip


def test_convolutions() -> None:
    check(CONVOLUTIONS, every=11)
    others = [one(np.convolve, K[0], K[1]), one(np.correlate, V, W), one(np.convolve, np.array(2.0), V)]
    check([*others, one(np.convolve, B[0], B[1])])
    check_gradients(CONVOLUTIONS[1::7])


@pytest.mark.parametrize("function", [np.convolve, np.correlate])
def test_convolutions_of_symbolic_lengths(function: Callable[..., Any]) -> None:
    n, m, k = Input(("N",), name="n"), Input(("M",), name="m"), Input((4,), name="k")
    modes = ("full", "same", "valid")
    both = graphc.compile([function(n, m, mode) for mode in modes])
    half = graphc.compile([function(*pair, mode) for mode in modes for pair in ((n, k), (k, n))])
    for a in VECTORS:
        for v in VECTORS:
            for got, mode in zip(both(n=a, m=v), modes, strict=True):
                np.testing.assert_allclose(got, function(a, v, mode), atol=1e-12)
        kernel = VECTORS[3]
        expected = [function(*pair, mode) for mode in modes for pair in ((a, kernel), (kernel, a))]
        for got, want in zip(half(n=a, k=kernel), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12)


# einsum ---------------------------------------------------------------------------------------------------------------

SUBSCRIPTS = [
    ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("ii->", [(3, 3)]), ("iij->ij", [(3, 3, 4)]), ("iji->j", [(3, 4, 3)]),
    ("iii->i", [(2, 2, 2)]), ("iijj->ij", [(2, 2, 3, 3)]), ("ijij", [(2, 3, 2, 3)]), ("ii,i->i", [(3, 3), (3,)]),
    ("ii,jj", [(3, 3), (4, 4)]), ("ij,jj->i", [(2, 3), (3, 3)]), ("...", [(2, 3)]), ("...->...", [(2, 3)]),
    ("i...->i...", [(2, 3, 4)]), ("...i->...", [(2, 3, 4)]), ("...i", [(2, 3)]), ("i...", [(2, 3)]),
    ("...ij->...ji", [(5, 2, 3)]), ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)]),
    ("...ij,...jk", [(5, 2, 3), (5, 3, 4)]), ("...ij,jk->...ik", [(6, 5, 2, 3), (3, 4)]),
    ("i...,i...->...", [(3, 2), (3, 2)]), ("...,...", [(2, 3), (3,)]), ("...a,...b->ab...", [(5, 2), (5, 3)]),
    ("...ii->...i", [(4, 3, 3)]), ("...,->...", [(2, 3), ()]), ("i...->", [(3,)]),
    ("b...,...->b...", [(2, 1, 4), (3, 4)]), ("ij,ij", [(1, 3), (2, 3)]), ("ij,jk->ik", [(2, 1), (3, 4)]),
    ("i,i->i", [(1,), (4,)]), ("ba,dc", [(2, 3), (4, 5)]), ("ij,jk,kl", [(2, 3), (3, 4), (4, 5)]),
    ("i,j,k->kji", [(2,), (3,), (4,)]), ("ij,kj,lj->ikl", [(2, 3), (4, 3), (5, 3)]),
    ("a,ab,abc->abc", [(2,), (2, 3), (2, 3, 4)]), ("ijk,il,jm,kn->lmn", [(2, 3, 4), (2, 5), (3, 2), (4, 3)]),
    ("a,a,a,a->a", [(3,)] * 4), ("AB,Bc->cA", [(2, 3), (3, 4)]), (" i j , j k -> i k ", [(2, 3), (3, 4)]),
    (",", [(), ()]), ("->", [()]), ("ij->ij", [(2, 3)]), ("zij,zjk->zik", [(0, 2, 3), (0, 3, 4)]),
    ("i,i", [(0,), (0,)]),
]  # fmt: skip


def test_einsum_over_a_table() -> None:
    cases = [
        one(lambda *xs, s=subscripts: np.einsum(s, *xs), *(RNG.normal(size=shape) for shape in shapes))
        for subscripts, shapes in SUBSCRIPTS
    ]
    check(cases)
    check(cases[:28], symbolic=True)
    check_gradients([case for case in cases[::2] if all(array.size for array in case[1])])
    check([
        one(lambda x, y: np.einsum("ij,ij->i", x, y), K, K),
        one(lambda x, y: np.einsum("ij,ij", x, y), K.astype("int8"), K),
        one(lambda x, y: np.einsum("ij,kj->ik", x, y, optimize=True), K, A),
        one(lambda x, y: np.einsum("ij,kj->ik", x, y), B, ~B), one(lambda x: np.einsum("ij->j", x), B),
        one(lambda x: np.einsum("ij,j->i", x, [1.0, 2, 3, 4]), A),
    ])  # fmt: skip


# grids ----------------------------------------------------------------------------------------------------------------

GRIDS = [
    *(
        one(lambda x, y, i=i, s=s: np.meshgrid(x, y, indexing=i, sparse=s), V, W)
        for i in ("xy", "ij") for s in (False, True)
    ),
    *(one(lambda x, y, i=i: np.meshgrid(x, y, x, indexing=i), V, W) for i in ("xy", "ij")), one(np.meshgrid, V),
    one(lambda x: np.meshgrid(x, 3.0), V), one(np.ix_, np.array([0, 2]), np.array([1, 3, 0])),
    one(lambda x, r, c: x[np.ix_(r, c)], A, np.array([0, 2]), np.array([1, 3, 0])),
]  # fmt: skip
LOW, HIGH = np.array(-1.5), np.array(4.25)
SPACES = [
    *(
        one(lambda a, b, n=n, e=e: np.linspace(a, b, n, endpoint=e), LOW, HIGH)
        for n in (0, 1, 2, 7) for e in (True, False)
    ),
    one(lambda a: np.linspace(a, 2.0, 5), LOW), one(lambda a: np.linspace(0, a, 5), K[0]),
    one(lambda a, b: np.linspace(a, b, 4), A, V[:4]), one(lambda a, b: np.linspace(a, b, 4, axis=-1), A, V[:4]),
    one(lambda a, b: np.linspace(a, b, 6, dtype="int64"), LOW, HIGH),
    one(lambda a: np.linspace(a, 3, 5), np.float32([0.5, 2])), one(lambda a: np.linspace(a, a, 3), HIGH),
    one(lambda a, b: np.logspace(a, b, 5), LOW, HIGH),
    one(lambda a, b: np.logspace(a, b, 5, base=2.0, endpoint=False), LOW, HIGH),
    one(lambda a, b: np.geomspace(a, b, 6), np.array(2.0), np.array(3e5)),
    one(lambda a: np.geomspace(a, -1e-3, 4), LOW),
    one(lambda a, b: np.geomspace(a, b, 5, endpoint=False), HIGH, HIGH + 1),
    one(lambda a: np.geomspace(1, a, 3), np.float32([8, 9])),
]  # fmt: skip
# Integers: NumPy rounds evenly spaced numbers down, others toward 0.
WHOLE = [
    one(lambda a, b: np.geomspace(a, b, 3, dtype="int64"), np.array(-2.5), np.array(-100.0)),
    one(lambda a, b: np.logspace(a, b, 4, base=-1.5, dtype="int64"), np.array(1), np.array(4)),
]


def test_grids_and_spaces() -> None:
    check(GRIDS + SPACES + WHOLE)
    check(GRIDS[:7], symbolic=True)
    check_gradients([case for case in SPACES if all(array.dtype == "float64" for array in case[1])][2:])


def test_spaces_of_symbolic_length() -> None:
    x, b = Input(("N",), name="x"), Input((), name="b")
    n = x.shape[0]
    spaces = [graphc.linspace(-1, b, n), graphc.logspace(0, b, n), graphc.geomspace(1, b, n)]
    identity = graphc.identity(n, "float32") + 0 * x[:, None].astype("float32")
    program = graphc.compile([*spaces, graphc.linspace(0, b, n, False), graphc.tri(n, 4, 1), identity])
    for size in (1, 2, 5):
        found = program(x=np.zeros(size), b=3.5)
        expected = (
            np.linspace(-1, 3.5, size), np.logspace(0, 3.5, size), np.geomspace(1, 3.5, size),
            np.linspace(0, 3.5, size, False), np.tri(size, 4, 1), np.identity(size, "float32"),
        )  # fmt: skip
        for got, want in zip(found, expected, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-14)


# refusals -------------------------------------------------------------------------------------------------------------

x, v, s = Input(("N", 4), name="x"), Input((6,), name="v"), Input((), name="s")
u = Input(("N",), name="u")

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: np.diag(s), ValueError, "np.diag wants a vector or a matrix, got f64[]\n  np.diagonal takes axes"),
    (lambda: np.diag(v, 0.5), TypeError, "np.diag wants k as an int known at the declaration, got 0.5"),
    (lambda: np.diagonal(v), ValueError, "np.diagonal wants an array of at least two axes, got f64[6]"),
    (lambda: np.diagonal(x, 0, 1, -1), ValueError, "np.diagonal wants two different axes, got 1 and -1 of f64[N,4]"),
    (lambda: np.tril(s), ValueError, "np.tril wants an array of at least one axis, got f64[]"),
    (lambda: np.vander(u), ValueError, "np.vander of f64[N] wants its number of columns known at"),
    (lambda: np.diag_indices_from(x), ValueError, "np.diag_indices_from wants equal axes, at least two, got f64[N,4]"),
    (lambda: np.tril_indices_from(x), ValueError, "np.tril_indices_from wants a matrix of known sizes, got f64[N,4]"),
    (lambda: np.vander(x), ValueError, "np.vander wants a vector, got f64[N,4]"),
    (lambda: np.cross(v, v), ValueError, "np.cross wants vectors of 3 elements, got f64[6] and f64[6] along axes"),
    (lambda: np.cross(v[:2], v[:2]), ValueError, "of plane vectors it is x[..., 0] * y[..., 1]"),
    (lambda: np.linalg.multi_dot([x]), ValueError, "np.linalg.multi_dot wants two or more matrices"),
    (lambda: np.linalg.multi_dot([x, x.T, s]), ValueError, "may be vectors; got f64[N,4], f64[4,N], f64[]"),
    (lambda: np.linalg.matrix_power(x, 2), ValueError, "wants a square matrix, or a stack of them, got f64[N,4]"),
    (lambda: np.linalg.outer(x, v), ValueError, "np.linalg.outer wants vectors, got f64[N,4] and f64[6]"),
    (lambda: np.vecdot(x, x[:, :1]), ValueError, "the vectors of f64[N,4] and f64[N,1] along axis -1 differ"),
    (lambda: np.linalg.vecdot(x, x.T, axis=0), ValueError, "along axis 0 differ: N is not 4"),
    (lambda: np.linalg.vecdot(x, 2.0), ValueError, "np.vecdot wants vectors, got f64[N,4] and f64[]"),
    (lambda: np.polyval(u, 1.0), ValueError, "np.polyval wants a vector of known length as coefficients, got f64[N]"),
    (lambda: np.convolve(x, v), ValueError, "np.convolve wants vectors, got f64[N,4] and f64[6]"),
    (lambda: np.convolve(v, v, "half"), ValueError, "np.convolve has no mode 'half'\n  there are full, same, valid"),
    (lambda: np.correlate(v, v[:0]), ValueError, "np.correlate of an empty vector: f64[6] and f64[0]"),
    (lambda: np.meshgrid(v, x), ValueError, "np.meshgrid wants vectors, got f64[N,4]"),
    (lambda: np.meshgrid(v, indexing="yx"), ValueError, "np.meshgrid wants indexing 'xy' or 'ij', got 'yx'"),
    (lambda: np.ix_(v > 0), TypeError, "a mask selects an unknown number of elements"),
    (lambda: graphc.linspace(0, 1, s), TypeError, "linspace makes an int or a dim of numbers"),
    (lambda: np.linspace(s, 1, 5, retstep=True), TypeError, "np.linspace of views takes no retstep="),
    (lambda: graphc.geomspace(0, s), ValueError, "a geometric sequence cannot include 0"),
    # einsum
    (lambda: np.einsum("ij,jk->ik", x), ValueError, "einsum 'ij,jk->ik' is for 2 operands, got 1"),
    (lambda: np.einsum("i1", x), ValueError, "einsum 'i1': 'i1' is no subscript\n  there are letters, '...'"),
    (lambda: np.einsum("ij->i->j", x), ValueError, "'i->j' is no subscript"),
    (lambda: np.einsum("i..->i", x), ValueError, "'i..' is no subscript"),
    (lambda: np.einsum("i......->i", x), ValueError, "'i......' is no subscript"),
    (lambda: np.einsum("ij->ii", x), ValueError, "the result's letters must be distinct, and in an operand"),
    (lambda: np.einsum("ij->ik", x), ValueError, "the result's letters must be distinct, and in an operand"),
    (lambda: np.einsum("ijk", x), ValueError, "einsum 'ijk': 'ijk' does not fit the axes of f64[N,4]"),
    (lambda: np.einsum("i", x), ValueError, "einsum 'i': 'i' does not fit the axes of f64[N,4]"),
    (lambda: np.einsum("ijk...", x), ValueError, "'ijk...' does not fit the axes of f64[N,4]"),
    (lambda: np.einsum("ii", x), ValueError, "the diagonal ii of f64[N,4] wants equal axes, and they are N and 4"),
    (lambda: np.einsum("i...->i", x), ValueError, "the axes of '...' are missing in the result"),
    (lambda: np.einsum("ij,i->j", x, v), ValueError, "einsum 'ij,i->j': i is both N and 6 in f64[N,4], f64[6]"),
    (lambda: np.einsum(x, [0, 1]), TypeError, "einsum wants its subscripts first, as a string"),
    (lambda: np.einsum("ij", x, dtype="float32"), TypeError, "np.einsum of a view takes no dtype="),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals_say_what_was_given_and_what_to_do(case: int) -> None:
    declare, kind, message = REFUSED[case]
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert isinstance(caught.value, kind)
    assert message in str(caught.value)
