"""Whole programs that need Jacobians and Hessians, against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.spatial.transform
import scipy.special
import scipy.stats

import graphc
from graphc import Input, Param, View

RNG = np.random.default_rng(0)


def test_newtons_method_on_a_logistic_regression() -> None:
    x, y = Input(("N", 4), name="x"), Input(("N",), name="y")
    w = Input((4,), name="w")
    loss = np.sum(graphc.softplus(x @ w) - y * (x @ w)) + 0.05 * np.sum(w**2)
    gradient, hessian = graphc.grad(loss, w), graphc.hessian(loss, w)
    program = graphc.compile([loss, gradient, hessian], name="newton")
    X = RNG.normal(size=(200, 4))
    Y = (RNG.uniform(size=200) < scipy.special.expit(X @ [1.0, -2.0, 0.5, 0.0])).astype(float)
    weights = np.zeros(4)
    for _ in range(8):
        _, g, h = program(x=X, y=Y, w=weights)
        p = scipy.special.expit(X @ weights)
        np.testing.assert_allclose(h, (X.T * (p * (1 - p))) @ X + 0.1 * np.eye(4), rtol=1e-10, atol=1e-11)
        weights = weights - np.linalg.solve(h, g)
    np.testing.assert_allclose(g, 0, atol=1e-10)
    found = scipy.optimize.minimize(lambda v: program(x=X, y=Y, w=v)[0], np.zeros(4), tol=1e-12)
    np.testing.assert_allclose(weights, found.x, atol=1e-4)


def test_the_hessian_of_rosenbrocks_valley() -> None:
    x = Input(("N",), name="x")
    valley = np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    program = graphc.compile([graphc.hessian(valley, x), graphc.hvp(valley, x, np.cos(x))])
    for n in (2, 7):
        point = RNG.normal(size=n)
        hessian, product = program(x=point)
        np.testing.assert_allclose(hessian, scipy.optimize.rosen_hess(point), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(product, scipy.optimize.rosen_hess_prod(point, np.cos(point)), rtol=1e-10)


def rotated(rotation: View, points: View) -> View:
    """Points turned by a rotation vector, by Rodrigues' formula with series at angle 0."""
    squared = rotation @ rotation
    small = squared < 1e-12
    angle = np.sqrt(np.where(small, 1.0, squared))
    sine = np.where(small, 1 - squared / 6, np.sin(angle) / angle)
    versine = np.where(small, 0.5 - squared / 24, (1 - np.cos(angle)) / np.where(small, 1.0, squared))
    rx, ry, rz = rotation
    px, py, pz = points
    turn = np.stack([ry * pz - rz * py, rz * px - rx * pz, rx * py - ry * px])
    tx, ty, tz = turn
    twice = np.stack([ry * tz - rz * ty, rz * tx - rx * tz, rx * ty - ry * tx])
    return points + sine * turn + versine * twice


def residual(camera: View, point: View, seen: View) -> View:
    """Where a camera (rotation, translation, focal length, two distortions) sees a point, less where it was seen."""
    local = rotated(camera[:3], point) + camera[3:6]
    image = -local[:2] / local[2]
    radius = image @ image
    return camera[6] * (1 + camera[7] * radius + camera[8] * radius**2) * image - seen


def test_bundle_adjustment_residuals_with_their_jacobians() -> None:
    cameras, points = Input(("C", 9), name="cameras"), Input(("P", 3), name="points")
    of_camera, of_point = Input(("N",), "int64", name="of_camera"), Input(("N",), "int64", name="of_point")
    seen = Input(("N", 2), name="seen")

    def observe(camera: View, point: View, at: View) -> tuple[View, View, View]:
        error = residual(camera, point, at)
        return (error, *graphc.jacobian(error, [camera, point]))

    views = graphc.vmap(observe)(cameras[of_camera], points[of_point], seen)
    program = graphc.compile(list(views), name="bundle")
    C = np.column_stack([0.3 * RNG.normal(size=(3, 3)), RNG.normal(size=(3, 2)), RNG.uniform(-9, -7, 3),
                         RNG.uniform(400, 600, 3), 0.01 * RNG.normal(size=(3, 2))])  # fmt: skip
    C[0, :3] = 0  # where the angle is 0
    P, S = RNG.normal(size=(5, 3)), RNG.normal(size=(8, 2))
    c, p = RNG.integers(0, 3, 8), RNG.integers(0, 5, 8)
    c[0] = 0
    feeds = {"cameras": C, "points": P, "of_camera": c, "of_point": p, "seen": S}
    errors, by_camera, by_point = program(**feeds)
    assert (by_camera.shape, by_point.shape) == ((8, 2, 9), (8, 2, 3))
    for name, array, found, index in (("cameras", C, by_camera, c), ("points", P, by_point, p)):
        for k in range(array.shape[1]):
            step = np.zeros_like(array)
            step[:, k] = 1e-6 * max(1, np.abs(array[:, k]).max())
            high, low = (program(**{**feeds, name: array + sign * step})[0] for sign in (1, -1))
            expected = (high - low) / (2 * step[index, k][:, None])
            np.testing.assert_allclose(found[:, :, k], expected, rtol=1e-4, atol=1e-3)
    turned = C[c, :3]
    rotation = scipy.spatial.transform.Rotation.from_rotvec(turned).as_matrix()
    local = np.einsum("nij,nj->ni", rotation, P[p]) + C[c, 3:6]
    image = -local[:, :2] / local[:, 2:]
    radius = np.sum(image**2, axis=1)
    scale = C[c, 6] * (1 + C[c, 7] * radius + C[c, 8] * radius**2)
    np.testing.assert_allclose(errors, scale[:, None] * image - S, rtol=1e-9, atol=1e-9)


def test_the_log_likelihood_of_a_gaussian_mixture() -> None:
    d, k, n = 3, 4, 50
    x = Input(("N", d), name="x")
    means = Param(RNG.normal(size=(k, d)), name="means")
    scales = Param(0.3 * RNG.normal(size=(k, d)), name="scales")
    logits = Param(RNG.normal(size=k), name="logits")
    distance = np.sum(((x[:, None, :] - means) * np.exp(-scales)) ** 2, axis=-1)
    terms = graphc.log_softmax(logits) - 0.5 * distance - np.sum(scales, axis=-1) - 0.5 * d * np.log(2 * np.pi)
    program = graphc.compile(np.sum(graphc.logsumexp(terms, axis=1)), wrt="params", name="mixture")
    X = RNG.normal(size=(n, d))
    value, grads = program.value_and_grad(x=X)
    mu, sigma, weights = (np.array(program.params[name]) for name in ("means", "scales", "logits"))
    density = np.stack([
        scipy.stats.multivariate_normal(mu[j], np.diag(np.exp(2 * sigma[j]))).logpdf(X) for j in range(k)
    ], axis=1) + scipy.special.log_softmax(weights)  # fmt: skip
    total = scipy.special.logsumexp(density, axis=1)
    np.testing.assert_allclose(value, total.sum(), rtol=1e-12)
    share = np.exp(density - total[:, None])
    offset = (X[:, None] - mu) * np.exp(-2 * sigma)
    np.testing.assert_allclose(grads["means"], np.einsum("nk,nkd->kd", share, offset), rtol=1e-9, atol=1e-12)
    spread = offset * (X[:, None] - mu) - 1
    np.testing.assert_allclose(grads["scales"], np.einsum("nk,nkd->kd", share, spread), rtol=1e-9, atol=1e-11)
    expected = share.sum(0) - n * scipy.special.softmax(weights)
    np.testing.assert_allclose(grads["logits"], expected, rtol=1e-9, atol=1e-11)
