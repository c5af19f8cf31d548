"""Whole programs of scientists: values and gradients against closed forms, SciPy and central differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der
from scipy.stats import norm

import graphc
from graphc import Input, Param, Planner, View

RNG = np.random.default_rng(5)

# Rosenbrock's valley -------------------------------------------------------------------------------------------------


class Valley(Planner):
    x = Input(("N",))
    value = np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    slope = graphc.grad(value, x)


def test_rosenbrocks_valley_in_any_dimension() -> None:
    program = graphc.compile(Valley.value, wrt=[Valley.x])
    slope = graphc.compile(Valley.slope)
    for n in (2, 3, 10, 1000):
        x = RNG.uniform(-2, 2, n)
        value, gradients = program.value_and_grad(x=x)
        np.testing.assert_allclose(value, rosen(x), rtol=1e-12)
        np.testing.assert_allclose(gradients["x"], rosen_der(x), rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(slope(x=x), rosen_der(x), rtol=1e-12, atol=1e-9)
    value, gradients = program.value_and_grad(x=np.ones(5))
    assert (value, gradients["x"].tolist()) == (0, [0] * 5)


# Black and Scholes ----------------------------------------------------------------------------------------------------


def normal_distribution(x: View) -> View:
    """The distribution function of the standard normal distribution."""
    return 0.5 * (1 + graphc.erf(x / np.sqrt(2)))


class Option(Planner):
    """A European call: its price and its greeks, over N strikes (Black and Scholes, 1973)."""

    spot, rate, volatility, maturity = (Input((), name=name) for name in ("spot", "rate", "volatility", "maturity"))
    strike = Input(("N",))
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * maturity) / (volatility * np.sqrt(maturity))
    d2 = d1 - volatility * np.sqrt(maturity)
    call = spot * normal_distribution(d1) - strike * np.exp(-rate * maturity) * normal_distribution(d2)
    put = call - spot + strike * np.exp(-rate * maturity)
    total = np.sum(call)
    delta = graphc.grad(total, spot)
    gamma = graphc.grad(delta, spot)
    vega = graphc.grad(total, volatility)
    theta = -graphc.grad(total, maturity)
    rho = graphc.grad(total, rate)
    vanna = graphc.grad(vega, spot)
    dual_delta = graphc.grad(total, strike)


MARKET = {"spot": 105.0, "rate": 0.03, "volatility": 0.2, "maturity": 1.5}


def test_the_price_of_an_option_and_its_greeks() -> None:
    strikes = np.linspace(60, 160, 7)
    names = ("call", "put", "delta", "gamma", "vega", "theta", "rho", "vanna", "dual_delta")
    program = graphc.compile([getattr(Option, name) for name in names])
    found = dict(zip(names, program(strike=strikes, **MARKET), strict=True))
    s, r, v, t = MARKET.values()
    root, discount = v * np.sqrt(t), strikes * np.exp(-r * t)
    d1 = (np.log(s / strikes) + (r + v**2 / 2) * t) / root
    d2 = d1 - root
    call = s * norm.cdf(d1) - discount * norm.cdf(d2)
    expected = {
        "call": call,
        "put": discount * norm.cdf(-d2) - s * norm.cdf(-d1),
        "delta": np.sum(norm.cdf(d1)),
        "gamma": np.sum(norm.pdf(d1) / (s * root)),
        "vega": np.sum(s * norm.pdf(d1) * np.sqrt(t)),
        "theta": np.sum(-s * norm.pdf(d1) * v / (2 * np.sqrt(t)) - r * discount * norm.cdf(d2)),
        "rho": np.sum(t * discount * norm.cdf(d2)),
        "vanna": np.sum(-norm.pdf(d1) * d2 / v),
        "dual_delta": -np.exp(-r * t) * norm.cdf(d2),
    }
    for name, want in expected.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-10, err_msg=name)


# bundle adjustment ----------------------------------------------------------------------------------------------------


def rotated(points: View, rotation: View) -> View:
    """Points turned by rotation vectors (Rodrigues' formula), row by row; smooth at no rotation, too.

    R p = cos(a) p + sin(a)/a (r x p) + (1 - cos(a))/a^2 (r . p) r with a = |r|. Where a is small both quotients are
    their Taylor series in a^2: no square root of 0 is taken, and its slope meets no zero.
    """
    square = np.sum(rotation**2, axis=-1, keepdims=True)
    is_small = square < 1e-6
    angle = np.sqrt(np.where(is_small, 1.0, square))
    by_sine = np.where(is_small, 1 - square / 6 + square**2 / 120, np.sin(angle) / angle)
    by_cosine = np.where(is_small, 0.5 - square / 24 + square**2 / 720, (1 - np.cos(angle)) / angle**2)
    along = np.vecdot(rotation, points)[..., None] * rotation
    return (1 - square * by_cosine) * points + by_sine * np.cross(rotation, points) + by_cosine * along


class Adjustment(Planner):
    """How far points, seen by cameras, are from where they were seen (Triggs et al., 2000; "BAL" cameras).

    A camera is a rotation vector, a translation, a focal length and two coefficients of radial distortion.
    """

    cameras = Param((4, 9))
    points = Param((6, 3))
    camera = Input(("M",), "int64")
    point = Input(("M",), "int64")
    seen = Input(("M", 2))

    observer = cameras[camera]
    rotation, translation, focal, k1, k2 = np.split(observer, [3, 6, 7, 8], axis=1)
    there = rotated(points[point], rotation) + translation
    plane = -there[:, :2] / there[:, 2:]
    radius = np.sum(plane**2, axis=1, keepdims=True)
    projected = focal * (1 + k1 * radius + k2 * radius**2) * plane
    residual = projected - seen
    loss = 0.5 * np.sum(residual**2)


def scene(count: int = 15) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Observations, and parameters: one camera is not turned at all, one only a little."""
    cameras = np.concatenate([RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2)), np.full((4, 1), -6.0)], axis=1)
    cameras = np.concatenate([cameras, np.tile([2.0, 0.02, -0.003], (4, 1))], axis=1)
    cameras[0, :3], cameras[1, :3] = 0, [1e-5, -2e-5, 1e-5]
    feeds = {"camera": np.arange(count) % 4, "point": np.arange(count) % 6, "seen": RNG.normal(size=(count, 2))}
    return feeds, {"cameras": cameras, "points": RNG.normal(size=(6, 3))}


def reprojected(cameras: np.ndarray, points: np.ndarray, camera: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The same projection, by SciPy's rotations."""
    from scipy.spatial.transform import Rotation

    observer = cameras[camera]
    there = Rotation.from_rotvec(observer[:, :3]).apply(points[point]) + observer[:, 3:6]
    plane = -there[:, :2] / there[:, 2:]
    radius = np.sum(plane**2, axis=1, keepdims=True)
    return observer[:, 6:7] * (1 + observer[:, 7:8] * radius + observer[:, 8:] * radius**2) * plane


def test_bundle_adjustment() -> None:
    feeds, params = scene()
    program = graphc.compile([Adjustment.loss, Adjustment.residual], wrt="params", params=params)
    (loss, residual), gradients = program.value_and_grad(**feeds)
    expected = reprojected(**params, camera=feeds["camera"], point=feeds["point"]) - feeds["seen"]
    np.testing.assert_allclose(residual, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(loss, 0.5 * np.sum(expected**2), rtol=1e-12)
    for name, gradient in gradients.items():
        assert np.all(np.isfinite(gradient))
        slopes = np.zeros_like(gradient)
        for place in np.ndindex(*gradient.shape):
            for sign in (1, -1):
                moved = {key: value.copy() for key, value in params.items()}
                moved[name][place] += sign * 1e-6
                off = reprojected(**moved, camera=feeds["camera"], point=feeds["point"]) - feeds["seen"]
                slopes[place] += sign * 0.5 * np.sum(off**2) / 2e-6
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-6, err_msg=name)


def test_bundle_adjustment_passes_check_grad() -> None:
    feeds, params = scene(8)
    graphc.check_grad(Adjustment.loss, [Adjustment.cameras, Adjustment.points], feeds | params)


@pytest.mark.parametrize("size", [0.0, 1e-12, 9.9e-4, 1.1e-3, 1.0, 3.0])
def test_rotations_are_rotations_of_any_angle(size: float) -> None:
    r, p = Input((3,), name="r"), Input((3,), name="p")
    turned = rotated(p, r)
    axis, point = np.array([2.0, -1.0, 2.0]) / 3, RNG.normal(size=3)
    value = graphc.compile(turned, target="interpret")(r=size * axis, p=point)
    from scipy.spatial.transform import Rotation

    np.testing.assert_allclose(value, Rotation.from_rotvec(size * axis).apply(point), rtol=1e-12, atol=1e-13)
    generator = graphc.compile(graphc.jvp(turned, r, axis), target="interpret")(r=size * axis, p=point)
    np.testing.assert_allclose(generator, np.cross(axis, value), rtol=1e-9, atol=1e-10)
