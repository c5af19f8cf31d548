"""Vector math: accuracy over the whole range, special values, plain Python, and that loops do vectorise."""

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
from numba import njit, types
from numba.core.errors import TypingError
from test_scalar_functions import FUNCTIONS

import graphc
from graphc.codegen import vector_math
from graphc.codegen.cache import load
from graphc.ir.ops import OPS

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Any]

MOST_ULP = 2.0
MOST_ULP_OF_LIBRARY = 4.0
FLOATS = [np.float32, np.float64]
BITS: dict[type, type] = {np.float32: np.int32, np.float64: np.int64}


def mp_sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x)) if x > 0 else mpmath.exp(x) / (1 + mpmath.exp(x))


def mp_softplus(x: Any) -> Any:
    return max(x, 0) + mpmath.log1p(mpmath.exp(-abs(x)))


def np_sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def np_softplus(x: Array) -> Array:
    return np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x)))


def mp_ndtr(x: Any) -> Any:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def mp_log_ndtr(x: Any) -> Any:
    return mpmath.log(mp_ndtr(x)) if x < 0 else mpmath.log1p(-mp_ndtr(-x))


def mp_erfcx(x: Any) -> Any:
    if x > 1e6:
        return (1 - 1 / (2 * x * x)) / (x * mpmath.sqrt(mpmath.pi))
    return mpmath.exp(x * x) * mpmath.erfc(x)


def mp_ndtri(p: Any) -> Any:
    """By Newton's iteration for the logarithm, from the leading terms of the tail."""
    if 0.1 < p < 0.9:
        return mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)
    q = min(p, 1 - p)
    s = mpmath.sqrt(-2 * mpmath.log(q))
    x = s - mpmath.log(2 * mpmath.pi * s * s) / (2 * s)
    for _ in range(12):
        tail = mp_ndtr(-x)
        x += mpmath.log(tail / q) * tail * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(x * x / 2)
    return -x if p < 0.5 else x


def mp_erfinv(x: Any) -> Any:
    return mp_ndtri((1 + x) / 2) / mpmath.sqrt(2) if abs(x) > 0.5 else mpmath.erfinv(x)


# name -> (exact, NumPy or SciPy), where they are not of the same name
REFERENCES: dict[str, tuple[Function, Function]] = {
    "absolute": (abs, np.abs),
    "arccos": (mpmath.acos, np.arccos),
    "arccosh": (mpmath.acosh, np.arccosh),
    "arcsin": (mpmath.asin, np.arcsin),
    "arcsinh": (mpmath.asinh, np.arcsinh),
    "arctan": (mpmath.atan, np.arctan),
    "arctanh": (mpmath.atanh, np.arctanh),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), np.cbrt),
    "ceil": (mpmath.ceil, np.ceil),
    "cos": (mpmath.cos, np.cos),
    "cosh": (mpmath.cosh, np.cosh),
    "digamma": (mpmath.digamma, scipy.special.digamma),
    "entr": (lambda x: -x * mpmath.log(x), scipy.special.entr),
    "erf": (mpmath.erf, np.vectorize(math.erf, otypes=[np.float64])),
    "erfc": (mpmath.erfc, scipy.special.erfc),
    "erfcx": (mp_erfcx, scipy.special.erfcx),
    "erfinv": (mp_erfinv, lambda x: np.copysign(scipy.special.erfinv(x), x)),
    "exp": (mpmath.exp, np.exp),
    "exp2": (lambda x: mpmath.exp(x * mpmath.log(2)), np.exp2),
    "expm1": (mpmath.expm1, np.expm1),
    "floor": (mpmath.floor, np.floor),
    "gammaln": (lambda x: mpmath.log(abs(mpmath.gamma(x))), OPS["gammaln"].evaluate),
    "i0": (lambda x: mpmath.besseli(0, x), OPS["i0"].evaluate),
    "i1": (lambda x: mpmath.besseli(1, x), OPS["i1"].evaluate),
    "log": (mpmath.log, np.log),
    "log1p": (mpmath.log1p, np.log1p),
    "log2": (lambda x: mpmath.log(x, 2), np.log2),
    "log10": (mpmath.log10, np.log10),
    "log_ndtr": (mp_log_ndtr, scipy.special.log_ndtr),
    "log_sigmoid": (lambda x: -mp_softplus(-x), lambda x: -np_softplus(-x)),
    "logit": (lambda x: mpmath.log(x / (1 - x)), scipy.special.logit),
    "ndtr": (mp_ndtr, scipy.special.ndtr),
    "ndtri": (mp_ndtri, scipy.special.ndtri),
    "rint": (mpmath.nint, np.rint),
    "sigmoid": (mp_sigmoid, np_sigmoid),
    "sign": (mpmath.sign, np.sign),
    "sin": (mpmath.sin, np.sin),
    "sinh": (mpmath.sinh, np.sinh),
    "softplus": (mp_softplus, np_softplus),
    "sqrt": (mpmath.sqrt, np.sqrt),
    "tan": (mpmath.tan, np.tan),
    "tanh": (mpmath.tanh, np.tanh),
    "trunc": (lambda x: mpmath.sign(x) * mpmath.floor(abs(x)), np.trunc),
}
BASIC = {"absolute", "ceil", "floor", "rint", "sign", "sqrt", "trunc"}
SCALAR = {"arccosh", "arcsinh", "arctanh"}
BINARY = ("power", "maximum", "minimum", "xlogy", "xlog1py", "rel_entr", "logaddexp2")
PERIODIC = {"cos", "sin", "tan"}
# Of float32 computed in float64.
WIDE = {"cbrt", "tan", "erfc", "erfcx", "erfinv", "ndtr", "log_ndtr", "ndtri", "gammaln", "digamma", "i0", "i1"}
# Defined on an interval of length 1 or 2.
NARROW = {"erfinv", "ndtri", "logit", "entr"}
# Where they have zeros below 0 their terms cancel.
REFLECTED = {"gammaln", "digamma"}
# Where mpmath is slow, or its numbers leave its range: results are 0, 1 or 2.
FAR = {"erf": 50, "tanh": 50, "erfc": 50, "ndtr": 50, "log_ndtr": 1e4}
MORE_ULP = {"log_ndtr": 3.0, "erfcx": 2.5, "i0": 3.0, "i1": 3.0}


@cache
def compiled(name: str, dtype: type) -> Any:
    """A compiled loop of one function over float arrays."""
    function = getattr(vector_math, name)
    array = types.Array(types.float32 if dtype is np.float32 else types.float64, 1, "C")
    if name in BINARY:

        def loop(x: Array, y: Array, out: Array) -> None:
            for i in range(x.shape[0]):
                out[i] = function(x[i], y[i])

        return njit(types.void(array, array, array), fastmath={"contract"}, error_model="numpy")(loop)

    def unary(x: Array, out: Array) -> None:
        for i in range(x.shape[0]):
            out[i] = function(x[i])

    return njit(types.void(array, array), fastmath={"contract"}, error_model="numpy")(unary)


def evaluate(name: str, *args: Array) -> Array:
    out = np.empty_like(args[0])
    compiled(name, args[0].dtype.type)(*args, out)
    return out


def points(dtype: type, count: int) -> Array:
    """Numbers of all kinds: random bits, moderate ones, dense around the functions' turning points, tiny and huge."""
    random = np.random.default_rng(0)
    limits = np.iinfo(BITS[dtype])
    patterns = random.integers(limits.min, limits.max, count, dtype=BITS[dtype], endpoint=True).view(dtype)
    overflow = float(np.log(np.finfo(dtype).max))
    moderate = [
        random.uniform(-1.1 * overflow, 1.1 * overflow, count),
        random.uniform(-8, 8, 2 * count),
        random.uniform(-1.5, 1.5, 2 * count),
        1 + random.uniform(-1, 1, count) * 10.0 ** random.uniform(-8, 0, count),
        random.choice([-1, 1], count) * np.exp(random.uniform(-0.9 * overflow, 0.9 * overflow, count)),
        # where reduction loses most: multiples of pi/2 and of ln 2
        np.pi / 2 * np.round(2.0 ** random.uniform(0, 26, count)),
        np.log(2) * random.integers(-100, 100, count),
    ]
    return np.concatenate([patterns, *moderate]).astype(dtype)


def special(dtype: type) -> Array:
    info = np.finfo(dtype)
    positive = [0, info.smallest_subnormal, info.tiny / 4, info.tiny, info.eps / 2, 0.25, 0.5, 1, 1.5, 2, 3, 1e5]
    positive += [info.max, np.inf, np.nan]
    return np.array(positive + [-x for x in positive], dtype)


def errors_in_ulp(dtype: type, results: Array, exact: Array) -> Array:
    """|results - exact| in units of exact's last place in `dtype`; exact is float64, or object for mpmath."""
    if exact.dtype == object:
        exponents = np.array([mpmath.frexp(value)[1] for value in exact])
        distance = [abs(mpmath.mpf(float(a)) - b) for a, b in zip(results, exact, strict=True)]
    else:
        exponents = np.frexp(exact)[1]
        distance = np.abs(results.astype(np.float64) - exact)
    info = np.finfo(dtype)
    last_place = np.maximum(exponents - 1, info.minexp) - info.nmant
    pairs = zip(distance, last_place.tolist(), strict=True)
    if exact.dtype == object:
        return np.array([float(mpmath.ldexp(error, -place)) for error, place in pairs])
    return np.ldexp(distance, -last_place)


def test_every_function_has_a_reference() -> None:
    binary = {"power", "maximum", "minimum", "radd", "rmul", "rmax", "rmin"}
    assert set(vector_math.__all__) == set(REFERENCES) | binary | set(FUNCTIONS) | {"integer_power", "polygamma"}


@pytest.mark.parametrize("name", REFERENCES)
def test_float64_is_within_two_ulp(name: str) -> None:
    x = points(np.float64, 60)
    y = evaluate(name, x)
    finite = np.isfinite(x) & np.isfinite(y) & (y != 0)
    finite &= np.abs(x) < FAR.get(name, np.inf)
    if name in REFLECTED:
        finite &= x > 0
    x, y = x[finite], y[finite]
    assert x.size > (60 if name in NARROW else 150)
    with mpmath.workprec(160):
        exact = np.array([REFERENCES[name][0](mpmath.mpf(value)) for value in x.tolist()], object)
        errors = errors_in_ulp(np.float64, y, exact)
    most = MOST_ULP_OF_LIBRARY if name in SCALAR else MORE_ULP.get(name, MOST_ULP)
    assert errors.max() <= most, f"{errors.max():.3f} ULP at {x[errors.argmax()]!r}"


@pytest.mark.parametrize("name", REFERENCES)
@np.errstate(all="ignore")
def test_float32_is_within_two_ulp(name: str) -> None:
    x = points(np.float32, 4_000)
    y = evaluate(name, x)
    exact = REFERENCES[name][1](x.astype(np.float64))
    expected = exact.astype(np.float32)
    if name in REFLECTED:
        x, y, exact, expected = (values[x > 0] for values in (x, y, exact, expected))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(expected))
    x, y, exact = (values[np.isfinite(expected)] for values in (x, y, exact))
    errors = errors_in_ulp(np.float32, y, exact)
    most = MOST_ULP_OF_LIBRARY if name in SCALAR else MOST_ULP
    assert errors.max() <= most, f"{errors.max():.3f} ULP at {x[errors.argmax()]!r}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", REFERENCES)
@np.errstate(all="ignore")
def test_special_values_are_numpys(name: str, dtype: type) -> None:
    x = special(dtype)
    expected = REFERENCES[name][1](x).astype(dtype)
    least = np.finfo(dtype).smallest_subnormal if name == "i1" else 0
    ulp = 8 if name in ("digamma", "ndtr", "log_ndtr") else 3  # SciPy's own errors at -0.25 and -2
    for got in (evaluate(name, x), getattr(vector_math, name)(x)):
        np.testing.assert_allclose(got, expected, rtol=ulp * np.finfo(dtype).eps, atol=least)
        signed = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got)[signed], np.signbit(expected)[signed])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*REFERENCES, "power"])
@np.errstate(all="ignore")
def test_plain_python_gives_the_same_within_rounding(name: str, dtype: type) -> None:
    x = points(dtype, 500)
    args = (np.abs(x), x[::-1].copy()) if name == "power" else (x,)
    plain = getattr(vector_math, name)(*args)
    assert plain.dtype == dtype
    info = np.finfo(dtype)
    atol = 8 * info.eps if name in REFLECTED else info.smallest_subnormal
    np.testing.assert_allclose(plain, evaluate(name, *args), rtol=4 * info.eps, atol=atol)
    one = getattr(vector_math, name)(*(arg[7] for arg in args))
    assert type(one) is dtype
    np.testing.assert_array_equal(one, plain[7])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", REFERENCES)
def test_the_rest_of_a_loop_has_the_bits_of_its_vectors(name: str, dtype: type) -> None:
    x = points(dtype, 30)
    alone = np.concatenate([evaluate(name, x[k : k + 1]) for k in range(x.size)])
    np.testing.assert_array_equal(evaluate(name, x), alone)


@pytest.mark.parametrize("dtype", FLOATS)
def test_power_is_within_two_ulp(dtype: type) -> None:
    random = np.random.default_rng(1)
    largest = 0.999 * float(np.log(np.finfo(dtype).max))
    logs = random.choice([-1, 1], 600) * 10.0 ** random.uniform(-5, np.log10(largest), 600)
    x = np.exp(logs).astype(dtype)
    with np.errstate(divide="ignore", over="ignore"):
        y = (random.uniform(-largest, largest, x.size) / np.log(x.astype(np.float64))).astype(dtype)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    with mpmath.workprec(160):
        exact = np.array([mpmath.mpf(a) ** mpmath.mpf(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)], object)
        errors = errors_in_ulp(dtype, evaluate("power", x, y), exact)
    assert errors.max() <= MOST_ULP, f"{errors.max():.3f} ULP at {x[errors.argmax()]!r}, {y[errors.argmax()]!r}"


@pytest.mark.parametrize("dtype", FLOATS)
@np.errstate(all="ignore")
def test_special_values_of_power_are_numpys(dtype: type) -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(special(dtype), special(dtype)))
    expected = np.power(x, y)
    for got in (evaluate("power", x, y), vector_math.power(x, y)):
        np.testing.assert_allclose(got, expected, rtol=3 * np.finfo(dtype).eps, atol=0)
        signed = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got)[signed], np.signbit(expected)[signed])


@pytest.mark.parametrize("name", sorted(REFLECTED))
def test_the_gamma_family_below_zero_is_within_four_ulp_of_its_terms(name: str) -> None:
    x = -np.concatenate([points(np.float64, 20), np.arange(1, 30) + np.random.default_rng(3).uniform(0, 1, 29)])
    x = x[(x < 0) & (x > -1e4) & (x != np.rint(x))]
    with mpmath.workprec(200):
        exact = [REFERENCES[name][0](mpmath.mpf(value)) for value in x.tolist()]
        right = [abs(REFERENCES[name][0](1 - mpmath.mpf(value))) for value in x.tolist()]
        terms = [abs(a) + b for a, b in zip(exact, right, strict=True)]
        found = evaluate(name, x).tolist()
        errors = [abs(a - b) / max(t, 1) for a, b, t in zip(found, exact, terms, strict=True)]
    assert max(errors) <= 4 * np.finfo(np.float64).eps


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 2, 3, 6, 20])
def test_polygamma(n: int, dtype: type) -> None:
    """Its power takes half an ULP for each factor."""
    function = vector_math.polygamma
    x = np.concatenate([np.geomspace(1e-2, 1e3, 120), -np.linspace(0.01, 7.3, 60)]).astype(dtype)

    @njit(fastmath={"contract"}, error_model="numpy")
    def loop(x: Array, out: Array) -> None:
        for i in range(x.shape[0]):
            out[i] = function(x[i], n)

    found = np.empty_like(x)
    loop(x, found)
    np.testing.assert_allclose(function(x, n), found, rtol=(4 + n) * np.finfo(dtype).eps)
    with mpmath.workprec(200):
        exact = np.array([mpmath.polygamma(n, mpmath.mpf(value)) for value in x.tolist()], object)
        kept = np.array([abs(value) < np.finfo(dtype).max for value in exact])
        errors = errors_in_ulp(dtype, found[kept], exact[kept])[: np.sum(kept & (x > 0))]
        below = [abs(a - b) / abs(b) for a, b in zip(*(a[kept & (x < 0)] for a in (found, exact)), strict=True)]
    assert errors.max() <= (3 + n if dtype is np.float64 else 1), f"{errors.max():.3f} ULP at {x[errors.argmax()]!r}"
    assert max(below) <= 1e-13 * n if dtype is np.float64 else 1e-6
    if dtype is np.float64:
        assert "mulpd" in assembly(loop) or platform.machine() not in ("x86_64", "AMD64")


@pytest.mark.parametrize("name", sorted(PERIODIC))
def test_huge_angles_keep_their_digits(name: str) -> None:
    x = np.array([2.0**24, 2.0**24 + 0.5, 2.0**27, 1e9, 1e22, -1e300, 0.5, -3.0, np.finfo(np.float64).max])
    with mpmath.workprec(2000):
        exact = np.array([REFERENCES[name][0](mpmath.mpf(value)) for value in x.tolist()], object)
        assert errors_in_ulp(np.float64, evaluate(name, x), exact).max() <= MOST_ULP


@pytest.mark.parametrize("dtype", FLOATS)
def test_sine_and_cosine_of_one_angle(dtype: type) -> None:
    """In a loop that has both, huge angles go to the C library, those of float32 by one call for both."""

    @njit
    def both(x: Array, sines: Array, cosines: Array) -> None:
        for i in range(x.shape[0]):
            sines[i] = vector_math.sin(x[i])
            cosines[i] = vector_math.cos(x[i])

    x = np.concatenate([np.linspace(-4, 4, 50), [2.0**27, 3e8, -1e20, 2.0**125], np.linspace(0, 9, 50)]).astype(dtype)
    sines, cosines = np.empty_like(x), np.empty_like(x)
    both(x, sines, cosines)
    np.testing.assert_array_equal(sines, vector_math.sin(x))
    np.testing.assert_array_equal(cosines, vector_math.cos(x))
    if dtype is np.float32:
        assert "graphc.sin_and_cos" in assembly(both)
        assert "graphc.sin.float32" not in assembly(both)


@pytest.mark.parametrize("dtype", FLOATS)
def test_maximum_and_minimum_keep_nan(dtype: type) -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(special(dtype), special(dtype)))
    for name, expected in (("maximum", np.maximum(x, y)), ("minimum", np.minimum(x, y))):
        np.testing.assert_array_equal(evaluate(name, x, y), expected)
        np.testing.assert_array_equal(getattr(vector_math, name)(x, y), expected)


@cache
def reduction(name: str) -> Any:
    step = getattr(vector_math, name)

    def reduce(x: Array) -> Any:
        total = x[0]
        for i in range(1, x.shape[0]):
            total = step(total, x[i])
        return total

    return njit(fastmath={"contract"}, error_model="numpy")(reduce)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "whole"), [("radd", np.sum), ("rmul", np.prod), ("rmax", np.max), ("rmin", np.min)])
def test_reductions(name: str, whole: Function, dtype: type) -> None:
    x = np.random.default_rng(2).uniform(0.9, 1.1, 1001).astype(dtype)
    np.testing.assert_allclose(reduction(name)(x), whole(x.astype(np.float64)), rtol=1000 * np.finfo(dtype).eps)
    assert type(getattr(vector_math, name)(x[0], x[1])) is dtype
    x[500] = np.nan
    assert np.isnan(reduction(name)(x))


x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64 assembly")


def assembly(function: Any) -> str:
    return "\n".join(function.inspect_asm().values())


@x86
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*sorted(set(REFERENCES) - SCALAR - BASIC), *BINARY])
def test_loops_vectorize(name: str, dtype: type) -> None:
    text = assembly(compiled(name, dtype))
    packed = ("maxps", "cmpltps", "cmpleps") if dtype is np.float32 else ("maxpd", "cmpltpd", "cmplepd")
    if name not in ("maximum", "minimum"):
        single = dtype is np.float32 and name not in WIDE
        packed = ("mulps", "213ps", "231ps") if single else ("mulpd", "213pd", "231pd")
    assert any(instruction in text for instruction in packed)
    if dtype is np.float32 and name not in PERIODIC | WIDE:  # these reduce their argument in float64
        assert "cvtss2sd" not in text
        assert "cvtps2pd" not in text


@x86
@pytest.mark.parametrize(("name", "instruction"), [("radd", "addps"), ("rmul", "mulps")])
def test_sums_and_products_vectorize(name: str, instruction: str) -> None:
    function = reduction(name)
    function(np.ones(3, np.float32))
    assert instruction in assembly(function)


def layer_norm() -> Any:
    x, scale = graphc.Input(("N", 96), "float32", "x"), graphc.Input((96,), "float32", "scale")
    centred = x - np.mean(x, axis=-1, keepdims=True)
    normal = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return np.mean(np.tanh(normal * scale) ** 2), [x, scale]


def expression() -> Any:
    x, z = (graphc.Input(("N",), "float64", name) for name in "xz")
    log = np.log(x + 1)
    return np.sum(np.exp(x * z) + x * z / log + np.sin(log) / (x * z)), [x, z]


def label_loss() -> Any:
    logits, labels = graphc.Input(("N", 96), "float32", "logits"), graphc.Input(("N",), "int64", "labels")
    return graphc.cross_entropy(logits, labels), [logits]


@x86
@pytest.mark.parametrize(
    ("declare", "packed", "scalar_libm"),
    [
        (layer_norm, ("subps", "divps", "minps", "cvtps2pd"), ("tanh",)),
        (expression, ("divpd", "maxpd", "addpd"), ("exp", "log1p")),
        (label_loss, ("maxps", "subps"), ("exp", "log")),
    ],
)
def test_fused_kernels_vectorize(
    declare: Function,
    packed: tuple[str, ...],
    scalar_libm: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Value and gradients of whole programs: every kind of step in packed instructions, and no call for one element."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))  # what comes from a cache cannot be inspected
    loss, wrt = declare()
    module = load("packed", graphc.compile(loss, wrt=wrt).source)
    kernel = next(function for function in vars(module).values() if hasattr(function, "inspect_asm"))
    text = assembly(kernel)
    assert [step for step in packed if step not in text] == []
    assert not re.search(rf"\b({'|'.join(scalar_libm)})f?\b", text)


def test_arguments_are_floats_of_one_type() -> None:
    power = vector_math.power

    @njit
    def call(x: Any, y: Any) -> Any:
        return power(x, y)

    assert call(2.0, 3.0) == 8
    for x, y in ((2, 3), (np.float32(2), 3.0)):
        with pytest.raises(TypingError, match=r"\(int64, int64\)|\(float32, float64\)"):
            call(x, y)


SCRIPT = """
import numpy as np
from numba import njit
from graphc.codegen.vector_math import exp, power, radd, sin

@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def kernel(x, out):
    total = np.float32(0)
    for i in range(x.shape[0]):
        out[i] = power(exp(x[i]), np.float32(0.5)) + sin(np.float32(1e10) * x[i])
        total = radd(total, out[i])
    return total

x = np.linspace(0, 1, 5, dtype=np.float32)
out = np.empty_like(x)
total = kernel(x, out)
expected = np.exp(x) ** np.float32(0.5) + np.sin(np.float32(1e10) * x)
np.testing.assert_allclose(out, expected, rtol=1e-6)
np.testing.assert_allclose(total, expected.sum(), rtol=1e-6)
assert type(total) is np.float32 or hasattr(kernel, "stats")
print(sum(kernel.stats.cache_hits.values()) if hasattr(kernel, "stats") else "plain")
"""


def test_kernels_cache_and_run_without_numba(tmp_path: Any) -> None:
    script = tmp_path / "kernels.py"
    script.write_text(SCRIPT)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": path, "NUMBA_DISABLE_JIT": "0"}
    for settings, expected in (({}, "0"), ({}, "1"), ({"NUMBA_DISABLE_JIT": "1"}, "plain")):
        command = [sys.executable, str(script)]
        done = subprocess.run(command, env=environment | settings, capture_output=True, text=True, check=False)
        assert done.stdout.split() == [expected], done.stderr
