"""NumPy's linear algebra on views: values against NumPy and SciPy, derivatives of what is special, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from op_calls import apply, gradients, run, slope, value

import graphc
from graphc import DeclarationError, Input
from graphc.ir import ops
from graphc.ir.ops.linalg import diagonal
from graphc.ir.ops.spectra import eigh_parts, qr_parts, svd_parts

NAN = np.nan


def answer(view, **feeds):
    """The value of a view (or of several) by the interpreter."""
    return graphc.compile(view, target="interpret")(**feeds)


def positive(rng, *shape, dtype="float64"):
    """Random positive definite matrices."""
    a = rng.normal(size=shape)
    return (a @ a.swapaxes(-1, -2) + np.eye(shape[-1])).astype(dtype)


def close(found, expected, dtype):
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-4)


# values ---------------------------------------------------------------------------------------------------------------

SQUARES = [(3, 3), (1, 1), (0, 0), (2, 4, 4), (2, 0, 3, 3)]
UNARY = {
    "cholesky": np.linalg.cholesky,
    "upper": lambda a: np.linalg.cholesky(a, upper=True),
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "sign": lambda a: np.linalg.slogdet(a).sign,
    "logabsdet": lambda a: np.linalg.slogdet(a).logabsdet,
    "eigenvalues": lambda a: np.linalg.eigh(a).eigenvalues,
    "eigenvectors": lambda a: np.abs(np.linalg.eigh(a).eigenvectors),
    "eigh of the upper": lambda a: np.linalg.eigh(a, UPLO="U")[0],
    "eigvalsh": np.linalg.eigvalsh,
    "eigvalsh of the upper": lambda a: np.linalg.eigvalsh(a, "u"),
    "power 3": lambda a: np.linalg.matrix_power(a, 3),
    "power 0": lambda a: np.linalg.matrix_power(a, 0),
    "power -2": lambda a: np.linalg.matrix_power(a, -2),
    "full svd": lambda a: np.linalg.svd(a).S,
    "complete qr": lambda a: np.abs(np.linalg.qr(a, "complete").R),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SQUARES)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_square_matrices(name, shape, dtype):
    rng = np.random.default_rng(0)
    a = positive(rng, *shape, dtype=dtype) + rng.normal(size=shape).astype(dtype) / 100  # one triangle is read
    x = Input(shape, dtype, name="a")
    close(answer(UNARY[name](x), a=a), UNARY[name](a), dtype)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3), (3, 0), (0, 3), (2, 5, 3), (2, 3, 5)])
def test_singular_values_and_qr(shape):
    a = np.random.default_rng(1).normal(size=shape)
    x = Input(shape, name="a")
    u, s, vh = answer(list(np.linalg.svd(x, full_matrices=False)), a=a)
    expected = np.linalg.svd(a, full_matrices=False)
    for found, wanted in zip((u, s, vh), expected, strict=True):
        np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-10)
    np.testing.assert_allclose((u * s[..., None, :]) @ vh, a, atol=1e-10)
    np.testing.assert_allclose(answer(np.linalg.svd(x, compute_uv=False), a=a), expected.S, atol=1e-10)
    np.testing.assert_allclose(answer(np.linalg.svdvals(x), a=a), expected.S, atol=1e-10)
    q, triangle = answer(list(np.linalg.qr(x)), a=a)
    for found, wanted in zip((q, triangle), np.linalg.qr(a), strict=True):
        np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-10)
    np.testing.assert_allclose(q @ triangle, a, atol=1e-10)
    np.testing.assert_array_equal(answer(np.linalg.qr(x, mode="r"), a=a), triangle)
    rank = np.linalg.matrix_rank(a) if a.size else 0  # NumPy wants a largest singular value
    np.testing.assert_array_equal(answer(np.linalg.matrix_rank(x), a=a), rank)


SYSTEMS = [
    ((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (2, 3, 1)), ((2, 1, 3, 3), (4, 3, 2)),
    ((3, 3), (5, 3, 2)), ((3, 3), (2, 5, 3, 2)), ((0, 0), (0,)), ((3, 3), (3, 0)), ((1, 1), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), SYSTEMS)
def test_systems(left, right):
    rng = np.random.default_rng(2)
    a, b = positive(rng, *left), rng.normal(size=right)
    x, y = Input(left, name="a"), Input(right, name="b")
    np.testing.assert_allclose(answer(np.linalg.solve(x, y), a=a, b=b), np.linalg.solve(a, b), atol=1e-10)
    for lower in (False, True):
        for trans in (0, 1, "T"):
            triangle = np.tril(a) if lower else np.triu(a)
            expected = np.linalg.solve(triangle.swapaxes(-1, -2) if trans else triangle, b)
            found = answer(graphc.solve_triangular(x, y, trans, lower=lower), a=a, b=b)
            np.testing.assert_allclose(found, expected, atol=1e-8)
    factor = np.linalg.cholesky(x)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(answer(graphc.cho_solve((factor, True), y), a=a, b=b), expected, atol=1e-8)
    upper = np.linalg.cholesky(x, upper=True)
    np.testing.assert_allclose(answer(graphc.cho_solve((upper, False), y), a=a, b=b), expected, atol=1e-8)


def test_solve_triangular_is_scipys():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(4, 4)) + 4 * np.eye(4), rng.normal(size=(4, 2))
    x, y = Input((4, 4), name="a"), Input((4, 2), name="b")
    for trans in (0, 1, 2):
        for lower in (False, True):
            for unit in (False, True):
                found = answer(graphc.solve_triangular(x, y, trans, lower, unit), a=a, b=b)
                np.testing.assert_allclose(found, scipy.linalg.solve_triangular(a, b, trans, lower, unit))


def test_integers_become_float64_and_dtypes_meet_as_in_numpy():
    a, b = np.array([[2, 1], [1, 3]]), np.array([1, 2], "float32")
    x, y = Input((2, 2), "int32", name="a"), Input((2,), "float32", name="b")
    for view, expected in (
        (np.linalg.solve(x, y), np.linalg.solve(a, b)),
        (np.linalg.inv(x), np.linalg.inv(a)),
        (np.linalg.matrix_power(x, -1), np.linalg.matrix_power(a, -1)),
        (np.linalg.matrix_power(x, 5), np.linalg.matrix_power(a.astype("int32"), 5)),
        (np.linalg.solve(a.astype("float32"), y), np.linalg.solve(a.astype("float32"), b)),
    ):
        assert view.dtype == expected.dtype
    np.testing.assert_allclose(answer(np.linalg.det(x), a=a), 5)


def test_a_symbolic_number_of_matrices_and_a_symbolic_side():
    rng = np.random.default_rng(4)
    a, b = positive(rng, 5, 2, 2), rng.normal(size=(5, 2, 1))
    x, y = Input(("N", 2, 2), name="a"), Input(("N", 2, 1), name="b")
    found = answer([np.linalg.solve(x, y), np.linalg.slogdet(x).logabsdet, np.linalg.eigh(x)[0]], a=a, b=b)
    wanted = np.linalg.solve(a, b), np.linalg.slogdet(a)[1], np.linalg.eigh(a)[0]
    for one, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, expected)
    square, tall = Input(("N", "N"), name="a"), Input(("M", "N"), name="b")
    a, b = positive(rng, 4, 4), rng.normal(size=(6, 4))
    found = answer([np.linalg.cholesky(square), *np.linalg.qr(tall), np.linalg.svd(tall, False)[1]], a=a, b=b)
    for one, expected in zip(
        found, (np.linalg.cholesky(a), *np.linalg.qr(b), np.linalg.svd(b, False)[1]), strict=True
    ):
        np.testing.assert_allclose(np.abs(one), np.abs(expected), atol=1e-10)
    with pytest.raises(graphc.FeedError, match=r"qr of M rows and N columns wants"):
        answer(np.linalg.qr(tall)[1], b=b.T)


@pytest.mark.parametrize("p", [None, 2, -2, 1, -1, np.inf, -np.inf, "fro", "nuc"])
def test_condition_numbers(p):
    a = np.random.default_rng(5).normal(size=(2, 3, 3))
    np.testing.assert_allclose(answer(np.linalg.cond(Input((2, 3, 3), name="a"), p), a=a), np.linalg.cond(a, p))


def test_rank():
    a = np.random.default_rng(6).normal(size=(4, 2)) @ np.ones((2, 3))
    x = Input((4, 3), name="a")
    for options in ({}, {"tol": 1e-3}, {"rtol": 1e-3}, {"tol": 100.0}):
        assert answer(np.linalg.matrix_rank(x, **options), a=a) == np.linalg.matrix_rank(a, **options)
    stack = np.stack([a, 0 * a])
    np.testing.assert_array_equal(answer(np.linalg.matrix_rank(Input((2, 4, 3), name="a")), a=stack), [1, 0])
    assert answer(np.linalg.matrix_rank(Input((3,), name="a")), a=np.zeros(3)) == 0


def test_multi_dot_takes_the_cheaper_order():
    rng = np.random.default_rng(7)
    shapes = ((8,), (8, 2), (2, 30), (30, 3), (3,))
    arrays = [rng.normal(size=shape) for shape in shapes]
    views = [Input(shape, name=f"x{k}") for k, shape in enumerate(shapes)]
    for start, stop in ((0, 5), (0, 3), (1, 4), (1, 5), (1, 3)):
        found = answer(np.linalg.multi_dot(views[start:stop]), **{f"x{k}": arrays[k] for k in range(start, stop)})
        np.testing.assert_allclose(found, np.linalg.multi_dot(arrays[start:stop]))
    product = np.linalg.multi_dot([Input(shape, name=f"x{k}") for k, shape in enumerate(((9, 1), (1, 9), (9, 1)))])
    assert product.node.operands[1].shape == (1, 1)  # a @ (b @ c)


# edges ----------------------------------------------------------------------------------------------------------------

INDEFINITE = np.array([[1.0, 5.0], [5.0, 1.0]])
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


def test_what_has_no_cholesky_factor_is_nan_in_the_triangle():
    found = value(ops.cholesky, np.stack([np.eye(2), INDEFINITE, np.full((2, 2), NAN), np.diag([np.inf, 1])]))
    np.testing.assert_array_equal(found[0], np.eye(2))
    np.testing.assert_array_equal(found[1:3], [[[NAN, 0], [NAN, NAN]]] * 2)
    (gradient,) = slope(ops.cholesky, INDEFINITE)
    np.testing.assert_array_equal(np.isnan(gradient), [[True, False], [True, True]])


def test_only_the_lower_triangle_is_read_and_has_a_gradient():
    a = np.array([[2.0, NAN], [1.0, 3.0]])
    for op in (ops.cholesky, ops.eigh, ops.eigvalsh):
        assert np.isfinite(value(op, a)).all()
        (gradient,) = slope(op, a)
        assert gradient[0, 1] == 0 and np.isfinite(gradient).all()


def test_singular_systems_are_nan_and_their_determinant_0():
    flags = {"transpose": False}
    found = value(ops.solve, np.stack([SINGULAR, np.eye(2)]), np.ones((2, 2, 1)), **flags)
    np.testing.assert_array_equal(found, [[[NAN], [NAN]], [[1], [1]]])
    assert value(ops.log_abs_det, SINGULAR) == -np.inf
    assert value(ops.det_sign, SINGULAR) == 0
    x = Input((2, 2), name="a")
    assert answer(np.linalg.det(x), a=SINGULAR) == 0
    assert np.isnan(answer(np.linalg.inv(x), a=SINGULAR)).all()
    assert np.isnan(slope(ops.log_abs_det, SINGULAR)[0]).all()


def test_a_zero_on_the_diagonal_of_a_triangle_is_nan():
    triangle, b = np.array([[1.0, 0.0], [3.0, 0.0]]), np.ones((2, 1))
    flags = {"lower": True, "transpose": False}
    assert np.isnan(value(ops.triangular_solve, triangle, b, unit_diagonal=False, **flags)).all()
    np.testing.assert_array_equal(value(ops.triangular_solve, triangle, b, unit_diagonal=True, **flags), [[1], [-2]])


@pytest.mark.parametrize("op", [ops.eigh, ops.eigvalsh, ops.svd, ops.svdvals, ops.qr])
@pytest.mark.parametrize("bad", [NAN, np.inf])
def test_orthogonal_factors_of_what_is_not_finite_are_nan(op, bad):
    a = np.stack([np.eye(2), [[1.0, 0.0], [bad, 1.0]]])
    found = value(op, a)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_signs_of_determinants():
    stack = np.stack([np.diag([1.0, -2.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), -np.eye(2), np.zeros((2, 2))])
    np.testing.assert_array_equal(value(ops.det_sign, stack), [-1, -1, 1, 0])
    assert slope(ops.det_sign, np.eye(2))[0].any() == 0


# derivatives ----------------------------------------------------------------------------------------------------------


def test_equal_eigenvalues_have_finite_gradients_for_what_does_not_see_the_vectors():
    a = np.diag([2.0, 2.0, 2.0])
    node, feeds = apply(ops.eigh, a)
    values, _ = eigh_parts(node, 3)
    (gradient,) = gradients(values * values, feeds)
    np.testing.assert_allclose(gradient, 4 * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(slope(ops.eigvalsh, a)[0], np.eye(3), atol=1e-12)
    node, feeds = apply(ops.svd, a)
    _, values, _ = svd_parts(node, 3, 3)
    np.testing.assert_allclose(gradients(values, feeds)[0], np.eye(3), atol=1e-12)


def test_gradients_through_the_vectors_of_equal_eigenvalues_are_not_finite():
    node, feeds = apply(ops.eigh, np.eye(3))
    _, vectors = eigh_parts(node, 3)
    weights, _ = apply(ops.negative, np.arange(9.0).reshape(3, 3))
    feeds |= {weights.operands[0]: np.arange(9.0).reshape(3, 3)}
    (gradient, _) = gradients(vectors * weights.operands[0], feeds)
    assert not np.isfinite(gradient).all()


def test_spectral_functions_have_the_gradients_of_the_matrix():
    """sum(log(w)) is the logarithm of the determinant, sum(s**2) the square of the Frobenius norm, R.T R = a.T a."""
    rng = np.random.default_rng(8)
    a = positive(rng, 4, 4)
    node, feeds = apply(ops.eigh, a)
    found = gradients(ops.log(eigh_parts(node, 4)[0]), feeds)[0]
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(found, np.tril(inverse + inverse.T, -1) + np.diag(np.diag(inverse)), atol=1e-10)
    b = rng.normal(size=(5, 3))
    node, feeds = apply(ops.svdvals, b)
    np.testing.assert_allclose(gradients(node * node, feeds)[0], 2 * b, atol=1e-10)
    node, feeds = apply(ops.qr, b)
    _, triangle = qr_parts(node, 5, 3)
    np.testing.assert_allclose(gradients(triangle * triangle, feeds)[0], 2 * b, atol=1e-10)


def test_zero_singular_values_have_finite_gradients_for_what_does_not_see_the_vectors():
    node, feeds = apply(ops.svd, np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    _, values, _ = svd_parts(node, 3, 2)
    assert np.isfinite(gradients(values, feeds)[0]).all()


WEIGHTS = np.cos(np.arange(9.0)).reshape(3, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda a: np.sum(np.linalg.inv(a)),
        np.linalg.det,
        lambda a: np.sum(np.linalg.cholesky(a, upper=True) ** 2 * WEIGHTS),
        lambda a: np.sum(np.linalg.eigh(a, "U").eigenvectors ** 2 * WEIGHTS),
        lambda a: np.sum(np.linalg.svd(a[:2], full_matrices=False).Vh ** 2 * np.arange(3.0)),
        lambda a: np.sum(np.linalg.qr(a[:2]).R * np.arange(3.0)),
        lambda a: np.sum(np.linalg.qr(a[:, :2]).Q * np.arange(2.0)),
        np.linalg.cond,
        lambda a: np.linalg.cond(a, 1),
        lambda a: np.linalg.matrix_power(a, -3)[0, 1],
        lambda a: np.sum(graphc.solve_triangular(a, a[0], 1, unit_diagonal=True) ** 2),
        lambda a: np.sum(np.linalg.solve(a, np.ones((2, 4, 3, 1))) ** 3),
    ],
)
def test_gradients_by_differences(function):
    a = positive(np.random.default_rng(9), 3, 3) + np.array([[0, 0.1, 0.3], [0, 0, -0.2], [0, 0, 0]])
    x = Input((3, 3), name="a")
    graphc.check_grad(function(x), x, {"a": a})
    graphc.check_grad(np.sum(graphc.grad(function(x), x) ** 2), x, {"a": a})  # and of second order


def test_a_diagonal_as_a_vector():
    node, feeds = apply(ops.negative, np.arange(8.0).reshape(2, 2, 2))
    np.testing.assert_array_equal(run([diagonal(node)], feeds)[0], [[0, -3], [-4, -7]])


# refusals -------------------------------------------------------------------------------------------------------------

X, TALL, VECTOR = Input((3, 3), name="x"), Input((4, 3), name="tall"), Input((3,), name="vector")
STACK = Input(("N", "M"), name="stack")


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: np.linalg.cholesky(TALL), r"np.linalg.cholesky wants a square matrix.*f64\[4,3\]: 4 is not 3"),
        (lambda: np.linalg.inv(STACK), r"np.linalg.inv wants a square matrix.*N is not M.*use one name"),
        (lambda: np.linalg.det(VECTOR), r"np.linalg.det wants a matrix, or a stack of them, got f64\[3\]"),
        (lambda: np.linalg.slogdet(TALL), r"np.linalg.slogdet wants a square matrix"),
        (lambda: np.linalg.eigh(TALL), r"np.linalg.eigh wants a square matrix"),
        (lambda: np.linalg.eigh(X, "both"), r"UPLO is 'L' or 'U', not 'both'"),
        (lambda: np.linalg.eigvalsh(TALL), r"np.linalg.eigvalsh wants a square matrix"),
        (lambda: np.linalg.svd(VECTOR), r"np.linalg.svd wants a matrix"),
        (lambda: np.linalg.svd(TALL), r"np.linalg.svd of f64\[4,3\].*write full_matrices=False"),
        (lambda: np.linalg.svd(X, hermitian=True), r"hermitian=True.*np.linalg.eigh"),
        (lambda: np.linalg.qr(TALL, "complete"), r"np.linalg.qr of f64\[4,3\].*write mode='reduced'"),
        (lambda: np.linalg.qr(TALL, "raw"), r"no mode 'raw'.*'reduced', 'r'"),
        (lambda: np.linalg.solve(TALL, VECTOR), r"np.linalg.solve wants a square matrix"),
        (lambda: np.linalg.solve(X, TALL), r"3 unknowns, f64\[4,3\] has 4 rows.*b\[..., None\]"),
        (lambda: np.linalg.solve(X, 1.0), r"np.linalg.solve wants a vector or matrices on the right, got f64"),
        (lambda: graphc.solve_triangular(X, VECTOR, "x"), r"trans is 0 or 1 \('N' or 'T'\), not 'x'"),
        (lambda: graphc.solve_triangular(TALL, VECTOR), r"solve_triangular wants a square matrix"),
        (lambda: graphc.cho_solve(X, VECTOR), r"cho_solve wants a factor and whether it is lower"),
        (lambda: np.linalg.matrix_power(X, 0.5), r"matrix_power wants an integer exponent, got 0.5"),
        (lambda: np.linalg.matrix_power(TALL, 2), r"np.linalg.matrix_power wants a square matrix"),
        (lambda: np.linalg.multi_dot([X]), r"multi_dot wants two or more matrices"),
        (lambda: np.linalg.multi_dot([X, VECTOR, X]), r"multi_dot wants two or more matrices.*f64\[3\]"),
        (lambda: np.linalg.cond(TALL, 1), r"np.linalg.cond wants a square matrix"),
        (lambda: np.linalg.cond(X, "max"), r"no order 'max'"),
        (lambda: np.linalg.matrix_rank(X, hermitian=True), r"no hermitian=True"),
        (lambda: np.linalg.pinv(X), r"pinv"),
    ],
)
def test_refusals(declare, text):
    with pytest.raises(DeclarationError, match=f"(?s){text}"):
        declare()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ops.cholesky(_node((2, 3))), r"cholesky wants a square matrix"),
        (lambda: ops.cholesky(_node((2, 2), "int32")), r"cholesky wants float elements"),
        (lambda: ops.solve(_node((2, 2)), _node((2,)), transpose=False), r"equal batch dims"),
        (lambda: ops.solve(_node((2, 2)), _node((3, 1)), transpose=False), r"2 unknowns, f64\[3,1\] has 3 rows"),
        (lambda: ops.solve(_node((2, 2)), _node((2, 1), "float32"), transpose=False), r"operands of one dtype"),
        (lambda: ops.solve(_node((2, 2)), _node((2, 1)), transpose=1), r"transpose to be True or False, got 1"),
        (lambda: ops.qr(_node((2, 3))), r"qr wants at least as many rows as columns"),
        (lambda: ops.svdvals(_node((3,))), r"svdvals wants a matrix"),
    ],
)
def test_refusals_of_ops(make, text):
    with pytest.raises(DeclarationError, match=text):
        make()


def _node(shape, dtype="float64"):
    return Input(shape, dtype, name="x").node
