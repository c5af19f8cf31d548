"""Whole programs of linear algebra, as machine code, against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import graphc
from graphc import Input


def differences(function, at, h=1e-6):
    """The gradient of a function of a vector by central differences."""
    steps = h * np.eye(len(at))
    return np.array([(function(at + step) - function(at - step)) / (2 * h) for step in steps])


# a Gaussian process ---------------------------------------------------------------------------------------------------


def gaussian_process():
    """The log marginal likelihood of observations, by lengthscale and noise: both as logarithms."""
    x, y = Input(("N",), name="x"), Input(("N",), name="y")
    scale, noise = Input((), name="scale"), Input((), name="noise")
    distance = (x[:, None] - x[None, :]) / np.exp(scale)
    covariance = np.exp(-0.5 * distance**2) + np.exp(noise) * graphc.eye("N")
    factor = np.linalg.cholesky(covariance)
    whitened = graphc.solve_triangular(factor, y, lower=True)
    logarithms = np.sum(np.log(np.sum(factor * graphc.eye("N"), axis=1)))
    return -0.5 * np.sum(whitened**2 + np.log(2 * np.pi)) - logarithms, [scale, noise]


def test_a_gaussian_process_has_the_analytic_gradient():
    """dL/dt = tr((a aᵀ - K⁻¹) dK/dt) / 2, a = K⁻¹ y (C. Rasmussen and C. Williams, Gaussian Processes, 5.9)."""
    rng = np.random.default_rng(0)
    likelihood, wrt = gaussian_process()
    program = graphc.compile(likelihood, wrt=wrt)
    for n in (1, 7, 40):
        x, y = np.sort(rng.uniform(-3, 3, n)), rng.normal(size=n)
        scale, noise = 0.3, -1.0
        value, grads = program.value_and_grad(x=x, y=y, scale=scale, noise=noise)
        distance = (x[:, None] - x[None, :]) / np.exp(scale)
        kernel = np.exp(-0.5 * distance**2)
        covariance = kernel + np.exp(noise) * np.eye(n)
        np.testing.assert_allclose(value, multivariate_normal(np.zeros(n), covariance).logpdf(y), rtol=1e-10)
        inverse = np.linalg.inv(covariance)
        inner = np.outer(inverse @ y, inverse @ y) - inverse
        expected = [0.5 * np.sum(inner * slope) for slope in (kernel * distance**2, np.exp(noise) * np.eye(n))]
        np.testing.assert_allclose([grads["scale"], grads["noise"]], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.full
def test_the_hessian_of_a_gaussian_process():
    rng = np.random.default_rng(1)
    likelihood, (scale, noise) = gaussian_process()
    first = graphc.compile(likelihood, wrt=[scale, noise])
    second = graphc.compile(graphc.grad(likelihood, scale), wrt=[scale, noise])
    feeds = {"x": np.sort(rng.uniform(-3, 3, 9)), "y": rng.normal(size=9)}

    def slope(at):
        return first.value_and_grad(**feeds, scale=at[0], noise=at[1])[1]["scale"]

    _, found = second.value_and_grad(**feeds, scale=0.1, noise=-0.5)
    expected = differences(slope, np.array([0.1, -0.5]))
    np.testing.assert_allclose([found["scale"], found["noise"]], expected, rtol=1e-6)


# a Kalman filter ------------------------------------------------------------------------------------------------------

STEPS = 8
MOVE, SEE = np.array([[1.0, 0.5], [0.0, 0.9]]), np.array([[1.0, 0.2], [-0.3, 1.0]])


def kalman(y, process, observation):
    """The log-likelihood of observations of a hidden walk, innovation by innovation; works on views and on arrays."""
    eye = np.eye(2)
    mean, covariance, total = np.zeros(2), eye, 0.0
    for step in range(STEPS):
        mean, covariance = MOVE @ mean, MOVE @ covariance @ MOVE.T + np.exp(process) * eye
        innovation = y[step] - SEE @ mean
        spread = SEE @ covariance @ SEE.T + np.exp(observation) * eye
        gain = np.linalg.solve(spread, SEE @ covariance).T
        total = total - 0.5 * (
            np.linalg.slogdet(spread)[1] + innovation @ np.linalg.inv(spread) @ innovation + 2 * np.log(2 * np.pi)
        )
        mean, covariance = mean + gain @ innovation, covariance - gain @ SEE @ covariance
    return total


def dense(y, process, observation):
    """The same by the covariance of all observations at once."""
    blocks = np.zeros((STEPS, STEPS, 2, 2))
    covariance = np.eye(2)
    for step in range(STEPS):
        covariance = MOVE @ covariance @ MOVE.T + np.exp(process) * np.eye(2)
        across = covariance
        for later in range(step, STEPS):
            blocks[later, step] = SEE @ across @ SEE.T
            blocks[step, later] = blocks[later, step].T
            across = MOVE @ across
        blocks[step, step] += np.exp(observation) * np.eye(2)
    whole = blocks.transpose(0, 2, 1, 3).reshape(2 * STEPS, 2 * STEPS)
    return multivariate_normal(np.zeros(2 * STEPS), whole).logpdf(y.reshape(-1))


def test_a_kalman_filter_is_a_dense_normal_distribution():
    y = np.random.default_rng(2).normal(size=(STEPS, 2))
    views = Input((STEPS, 2), name="y"), Input((), name="process"), Input((), name="observation")
    program = graphc.compile(kalman(*views), wrt=list(views))
    value, grads = program.value_and_grad(y=y, process=-1.0, observation=-0.5)
    np.testing.assert_allclose(value, dense(y, -1.0, -0.5), rtol=1e-10)
    np.testing.assert_allclose(kalman(y, -1.0, -0.5), value, rtol=1e-10)
    found = np.array([grads["process"], grads["observation"]])
    np.testing.assert_allclose(found, differences(lambda at: dense(y, *at), np.array([-1.0, -0.5])), rtol=1e-6)
    expected = differences(lambda at: dense(at.reshape(y.shape), -1.0, -0.5), y.reshape(-1))
    np.testing.assert_allclose(grads["y"].reshape(-1), expected, rtol=1e-5, atol=1e-7)


# Newton's method ------------------------------------------------------------------------------------------------------


def test_newtons_method_by_solve_reaches_the_minimum_of_a_logistic_regression():
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(50, 3)), rng.integers(0, 2, 50).astype(float)
    x, y, w = Input(("N", 3), name="x"), Input(("N",), name="y"), Input((3,), name="w")
    chance = graphc.sigmoid(x @ w)
    gradient = x.T @ (chance - y) + w
    hessian = (x * (chance * (1 - chance))[:, None]).T @ x + np.eye(3)
    step = graphc.compile([w - np.linalg.solve(hessian, gradient), np.sum(gradient**2)])
    at = np.zeros(3)
    for _ in range(8):
        at, norm = step(x=features, y=labels, w=at)
    assert norm < 1e-20
    # What the step goes back by is the derivative of the step: at the minimum it does not depend on where it began.
    moved = graphc.compile(np.sum(w - np.linalg.solve(hessian, gradient)), wrt=w)
    _, grads = moved.value_and_grad(x=features, y=labels, w=at)
    np.testing.assert_allclose(grads["w"], 0, atol=1e-10)


def test_whitening_a_batch_by_one_factor_and_by_many():
    rng = np.random.default_rng(4)
    points, one = Input(("N", 3, 2), name="points"), Input((3, 3), name="one")
    many = Input(("N", 3, 3), name="many")
    single = np.sum(graphc.solve_triangular(np.linalg.cholesky(one), points, lower=True) ** 2)
    several = np.sum(graphc.solve_triangular(np.linalg.cholesky(many), points, lower=True) ** 2)
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(6, 3, 2))
    a = a @ a.T + np.eye(3)
    value, grads = graphc.compile(single, wrt=[one, points]).value_and_grad(one=a, points=b)
    stack = np.repeat(a[None], 6, axis=0)
    again, apart = graphc.compile(several, wrt=[many, points]).value_and_grad(many=stack, points=b)
    np.testing.assert_allclose([value, again], np.sum(b * np.linalg.solve(a, b)))
    np.testing.assert_allclose(grads["points"], 2 * np.linalg.solve(a, b))
    np.testing.assert_allclose(apart["points"], grads["points"])
    np.testing.assert_allclose(apart["many"].sum(0), grads["one"])


def test_a_trainer_fits_a_covariance():
    """The most likely normal distribution has the covariance of the data; a step allocates nothing."""
    points = np.random.default_rng(5).multivariate_normal(np.zeros(2), [[2.0, 0.5], [0.5, 1.0]], size=200)
    x, root = Input(("N", 2), name="x"), graphc.Param(np.eye(2), name="root")
    covariance = root @ root.T + 0.1 * np.eye(2)
    whitened = graphc.solve_triangular(np.linalg.cholesky(covariance), x.T, lower=True)
    loss = 0.5 * np.mean(np.sum(whitened**2, axis=0)) + 0.5 * np.linalg.slogdet(covariance).logabsdet
    trainer = graphc.Trainer(loss, optimizer=graphc.SGD(0.2))
    trainer.fit({"x": points}, epochs=300)
    fitted = trainer.params["root"] @ trainer.params["root"].T + 0.1 * np.eye(2)
    np.testing.assert_allclose(fitted, points.T @ points / len(points), rtol=1e-6)
