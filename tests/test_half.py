"""Floats of 16 bits: NumPy's promotion, every op rounded once from float32, bits kept by what only moves elements."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import numpy as np
import pytest
from lowered import Case, expected_values, interpreted, stages
from op_samples import N, tensor

import graphc
from graphc import Dense, Input, Param
from graphc.codegen import half as conversions
from graphc.data_files import array_lines, read_parameters
from graphc.ir import ops
from graphc.ir.core import INPUT, Literal, constant, leaf
from graphc.ir.errors import DeclarationTypeError
from graphc.ir.graph import Graph
from graphc.ir.half import converted
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.ops import OPS
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import DTYPES, HALVES, named_dtype

ALL = np.arange(1 << 16, dtype=np.uint16)
EXACT = np.dtype("float64")
F16 = np.dtype("float16")
RNG = np.random.default_rng(0)


@pytest.fixture(params=HALVES)
def dtype(request):
    """Either dtype, where it is there."""
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return named_dtype(request.param)


@pytest.fixture(params=["cpu", "interpret"])
def target(request):
    return request.param


def every_half(dtype):
    return ALL.view(dtype)


def bits(array):
    return np.asarray(array).view(np.uint16)


def is_nan(array):
    """By the bits: to ask bfloat16 itself warns of NaN."""
    return (bits(array) & 0x7FFF) > (0x7C00 if array.dtype == F16 else 0x7F80)


def assert_same_halves(found, expected, apart=0, zeros=True):
    """Equal bits, or numbers at most some units apart; NaN where NaN is wanted; of `zeros` the sign counts."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(is_nan(found), is_nan(expected))
    left, right = (np.where(is_nan(expected), 0, bits(array)) for array in (found, expected))
    if apart or not zeros:
        order = [np.where(each >> 15, -(each & 0x7FFF).astype(int), each.astype(int)) for each in (left, right)]
        assert np.max(np.abs(order[0] - order[1]), initial=0) <= apart
    else:
        np.testing.assert_array_equal(left, right)


def reference(values, dtype):
    """float64 rounded once."""
    with np.errstate(all="ignore"):
        return converted(np.asarray(values, EXACT), dtype)


# dtypes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [name for name in DTYPES if name != "bfloat16"])
@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.divide, np.maximum, np.power, np.arctan2])
def test_float16_meets_others_as_in_numpy(ufunc, other):
    x, y = Input((2,), "float16", name="x"), Input((2,), other, name="y")
    one, two = np.ones(2, "float16"), np.ones(2, other)
    assert ufunc(x, y).dtype == ufunc(one, two).dtype == ufunc(y, x).dtype
    assert np.where([True, False], x, y).dtype == np.where([True, False], one, two).dtype
    assert np.concatenate([x, y]).dtype == np.concatenate([one, two]).dtype


def test_functions_of_halves_are_halves(dtype):
    x = Input((3, 3), dtype, name="x")
    functions = (
        np.exp, np.sqrt, np.floor, np.sign, np.sum, np.mean, np.std, np.max, np.linalg.norm, graphc.softmax,
        graphc.sigmoid, graphc.relu, graphc.logsumexp, np.transpose, np.abs, np.negative,
    )  # fmt: skip
    for function in functions:
        assert function(x).dtype == dtype, function
    for weak in (x + 1, 2.5 * x, x**2, x**0.5, np.maximum(x, 0), x + True, x / 3, x @ x):
        assert weak.dtype == dtype
    assert (x < 1).dtype == np.bool_ and np.isnan(x).dtype == np.bool_
    assert np.sum(x, dtype="float32").dtype == np.float32
    assert np.float_power(x, 2).dtype == np.float64


def test_extrema_and_places_of_halves(dtype):
    x = Input((4,), dtype, name="x")
    values = np.array([3, np.nan, -1, 2], dtype)
    chosen = {"where": np.array([True, False, True, False])}
    cases = (
        (np.nanmax(x), 3, dtype), (np.nanmin(x), -1, dtype), (np.nanargmax(x), 0, np.int64),
        (np.nanargmin(x), 2, np.int64), (np.max(x, initial=-5, **chosen), 3, dtype),
        (np.min(x, initial=5, **chosen), -1, dtype), (np.quantile(x[2:], 0.5), 0.5, dtype),
        (np.percentile(x[2:], 50), 0.5, dtype),
    )  # fmt: skip
    found = graphc.compile([view for view, _, _ in cases], target="interpret")(x=values)
    for (_, expected, of), got in zip(cases, found, strict=True):
        assert (got.dtype, float(got)) == (of, expected)


def test_what_has_no_dtype_in_common_with_bfloat16_is_refused():
    pytest.importorskip("ml_dtypes")
    x = Input((4,), "bfloat16", name="x")
    for declare in (lambda: np.vander(x, 2), lambda: np.digitize(x, [0, 1]), lambda: np.searchsorted([0, 1], x)):
        with pytest.raises(DeclarationTypeError, match="have no common dtype"):
            declare()
    assert np.vander(x.astype("float32"), 2).dtype == np.float64


def test_bfloat16_meets_others():
    pytest.importorskip("ml_dtypes")
    bfloat16 = named_dtype("bfloat16")
    x = Input((2,), "bfloat16", name="x")
    expected = {
        "bool": bfloat16, "int8": bfloat16, "uint8": bfloat16, "bfloat16": bfloat16,
        "float16": np.float32, "float32": np.float32, "float64": np.float64,
    }  # fmt: skip
    for other in DTYPES:
        y = Input((2,), other, name="y")
        if other in expected:
            for result in (x + y, y * x, np.maximum(x, y), np.where(x < 1, x, y), np.stack([x, y])):
                assert result.dtype == expected[other]
            continue
        with pytest.raises(DeclarationTypeError, match=rf"bfloat16 and {other} have no common dtype") as caught:
            x + y
        assert "cast one of them: x.astype('float32')" in str(caught.value)


def test_bfloat16_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DeclarationTypeError, match="bfloat16 needs the package ml_dtypes") as caught:
        Input((2,), "bfloat16")
    assert "pip install 'graphc[half]'" in str(caught.value)
    assert Input((2,), "float16", name="x").dtype == np.float16


def test_what_is_refused(dtype):
    x = Input((2,), dtype, name="x")
    with pytest.raises(TypeError, match=f"np.bitwise_and is not defined for {dtype.name}"):
        np.bitwise_and(x, x)
    program = graphc.compile(x + 1)
    with pytest.raises(TypeError, match=f"x wants {dtype.name}, got complex128"):
        program(x=np.ones(2, complex))
    with pytest.raises(ValueError, match="x wants"):
        program(x=np.ones(3, dtype))


def test_bits_are_no_halves(dtype):
    program = graphc.compile(Input((2,), dtype, name="x") * 2)
    for _ in range(2):  # the second call is the quick one, where there is one
        assert_same_halves(program(x=np.ones(2, dtype)), np.full(2, 2, dtype))
        assert_same_halves(program(x=np.array([1, 2], np.uint16)), np.array([2, 4], dtype))  # numbers, as any integers


# conversions ----------------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "float16": (conversions.half_to_float, conversions.float_to_half),
    "bfloat16": (conversions.bfloat_to_float, conversions.float_to_bfloat),
}


def hard_numbers(dtype, source):
    """Ties between halves and what lies just beside them, the ends of the range, NaN with payloads, and random bits."""
    with np.errstate(all="ignore"):
        halves = every_half(dtype).astype(EXACT)
    finite = np.unique(halves[np.isfinite(halves)])
    ties = (finite[1:] + finite[:-1]) / 2
    with np.errstate(all="ignore"):
        ends = finite[-1] + (finite[-1] - finite[-2]) / 2  # what rounds to infinity
        about = np.concatenate([finite, ties, [ends, -ends, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 1e-300]])
        about = about.astype(source)
        sides = [np.nextafter(about, source.type(side)) for side in (np.inf, -np.inf)]
    integer = np.dtype(f"u{source.itemsize}")
    random = RNG.integers(0, np.iinfo(integer).max, 100_000, integer, endpoint=True).view(source)
    quiet = np.array([np.nan], source).view(integer) | np.arange(100, dtype=integer) << np.dtype(integer).type(
        np.finfo(source).nmant - 8
    )
    return np.concatenate([about, *sides, random, quiet.view(source), -quiet.view(source)])


def test_every_half_is_a_float(dtype):
    to_float, to_half = FUNCTIONS[dtype.name]
    with np.errstate(all="ignore"):
        found, expected = to_float(ALL), every_half(dtype).astype(np.float32)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(found.view("u4")[number], expected.view("u4")[number])
    assert np.isnan(found[~number]).all()
    again = to_half(found)
    quiet = np.where(number, 0, 0x200 if dtype == F16 else 0x40).astype(np.uint16)
    np.testing.assert_array_equal(again, ALL | quiet)  # a NaN keeps sign and payload, and is quiet


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_floats_round_to_the_nearest_half(dtype, source):
    numbers = hard_numbers(dtype, np.dtype(source))
    found, expected = FUNCTIONS[dtype.name][1](numbers), reference(numbers, dtype)
    assert_same_halves(found.view(dtype), expected)
    if dtype == F16:  # NumPy rounds once; ml_dtypes goes from float64 by way of float32
        with np.errstate(all="ignore"):
            assert_same_halves(expected, numbers.astype(dtype))
    with np.errstate(all="ignore"):
        nearest = np.abs(expected.astype(EXACT) - numbers)
        for step in (-1, 1):
            other = np.abs(every_half(dtype)[(bits(expected) + np.int64(step)) & 0xFFFF].astype(EXACT) - numbers)
            assert np.all((nearest <= other) | ~np.isfinite(nearest) | np.isnan(other))


def test_float64_does_not_round_by_way_of_float32(dtype, target):
    digits = 10 if dtype == F16 else 7
    tie = 1 + 2.0 ** -(digits + 1)  # between 1 and the next
    numbers = np.array([tie, tie + 2.0**-40, tie - 2.0**-40, -tie - 2.0**-50])
    above = 1 + 2.0**-digits
    found = graphc.compile(Input((4,), name="x").astype(dtype), target=target)(x=numbers)
    np.testing.assert_array_equal(found.astype(EXACT), [1, above, 1, -above])


def test_programs_convert_as_numpy_does(dtype, target):
    others = [name for name in DTYPES if name not in HALVES]
    arrays = {name: np.array([0, 1, 2, 3, 100, 127]).astype(name) for name in others}
    arrays["int64"] = np.array([-(2**62), 70001, -70001, 2049, 2051, 257])
    arrays["int32"] = np.array([2**30 + 1, -257, 0, 1, 2, 3], "i4")
    x = Input((6,), dtype, name="x")
    half = np.array([0.0, 1.5, -2.75, 100, -0.0, 0.1], EXACT).astype(dtype)
    inputs = [Input((6,), name, name=f"of_{name}") for name in others]
    outward = [each.astype(dtype) for each in inputs]
    inward = [np.abs(x).astype(name) if name[0] == "u" else x.astype(name) for name in others]
    results = graphc.compile([*outward, *inward], target=target)(
        x=half, **{f"of_{name}": array for name, array in arrays.items()}
    )
    for name, found in zip(others, results, strict=False):
        assert_same_halves(found, reference(arrays[name].astype(EXACT), dtype))
    for name, found in zip(others, results[len(others) :], strict=True):
        np.testing.assert_array_equal(found, (np.abs(half) if name[0] == "u" else half).astype(name))


# ops ------------------------------------------------------------------------------------------------------------------

ELEMENTWISE = [
    op for op in OPS.values()
    if op.is_elementwise and op.name not in ("where", "anchor", "integer_power", "polygamma")
]  # fmt: skip
# Rounded to float32 exactly, and so once to a half. The others are within 2 units of float32.
ROUNDED_ONCE = {
    "add", "subtract", "multiply", "divide", "negative", "square", "sqrt", "reciprocal", "absolute", "sign", "maximum",
    "minimum", "floor", "ceil", "rint", "trunc", "relu", "step", "stop_gradient", "floor_divide", "remainder",
}  # fmt: skip
TIES = ("maximum", "minimum")  # of 0.0 and -0.0 either one


def run(nodes, leaves, feeds, target):
    names = {node: f"x{k}" for k, node in enumerate(leaves)}
    graph = Graph("halves", tuple(leaves), (), tuple(nodes), names=names)
    return graphc.compile(graph, target=target)(**{f"x{k}": feed for k, feed in enumerate(feeds)})


@pytest.mark.parametrize("arity", [1, 2])
def test_elementwise_ops_are_rounded_once_from_float32(dtype, arity):
    if arity == 1:
        feeds = [every_half(dtype)]
    else:
        special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0**-24, 3.5, -2.5, 60000.0, 1e-4, 1e-38, 3e38]
        with np.errstate(all="ignore"):
            values = np.concatenate([special, RNG.normal(size=100)]).astype(np.float32).astype(dtype)
        feeds = [grid.ravel() for grid in np.meshgrid(values, values)]
    leaves = [leaf(INPUT, tensor((N,), "float64").with_dtype(dtype)) for _ in range(arity)]
    found_ops = []
    for op in ELEMENTWISE:
        if ("{1}" in op.scalar) == (arity == 2):
            with suppress(DeclarationTypeError):  # of bits
                found_ops.append((op, op(*leaves)))
    assert len(found_ops) > (30 if arity == 1 else 12)
    nodes = [node for _, node in found_ops]
    compiled, plain = (run(nodes, leaves, feeds, target) for target in ("cpu", "interpret"))
    wide = [feed.astype(np.float32) for feed in feeds]
    for (op, node), machine, oracle in zip(found_ops, compiled, plain, strict=True):
        apart, zeros = int(op.name not in ROUNDED_ONCE), op.name not in TIES
        with np.errstate(all="ignore"):
            expected = np.asarray(op.evaluate(*wide))
            if node.dtype != dtype:
                np.testing.assert_array_equal(oracle, expected, err_msg=op.name)
                np.testing.assert_array_equal(machine, expected, err_msg=op.name)
                continue
            expected = expected.astype(dtype)
            ufunc = getattr(np, op.name, None)
            if dtype == F16 and isinstance(ufunc, np.ufunc):
                assert_same_halves(oracle, ufunc(*feeds), apart, zeros)
        assert_same_halves(oracle, expected)
        assert_same_halves(machine, expected, apart, zeros)


def test_no_rounding_is_left_out(dtype, target):
    x, y = (Input(("N",), dtype, name=name) for name in "xy")
    feeds = {name: RNG.normal(size=1000).astype(np.float32).astype(dtype) for name in "xy"}
    half, other = feeds["x"], feeds["y"]
    wide = Input(("N",), "float32", name="wide")
    views = [x + y - y, x.astype("float32").astype(dtype), (x * y + x) / 3, wide.astype(dtype).astype("float32")]
    numbers = RNG.normal(size=1000).astype(np.float32)
    found = graphc.compile(views, target=target)(wide=numbers, **feeds)
    assert_same_halves(found[0], half + other - other)
    assert np.any(bits(found[0]) != bits(half))
    assert_same_halves(found[1], half)
    assert_same_halves(found[2], (half * other + half) / dtype.type(3))
    np.testing.assert_array_equal(found[3], numbers.astype(dtype).astype(np.float32))


def test_long_reductions_are_rounded_once(dtype, target):
    x = Input(("N",), dtype, name="x")
    values = RNG.uniform(0.5, 1.5, 100_000).astype(np.float32).astype(dtype)
    wide = values.astype(EXACT)
    scaled = x * 0.25
    expected = {
        "sum": (np.sum(x * 0.25), np.sum((values * dtype.type(0.25)).astype(EXACT))),
        "mean": (np.mean(x), np.mean(wide)),
        "var": (np.var(x), np.var(wide)),
        "std": (np.std(x, ddof=1), np.std(wide, ddof=1)),
        "max": (np.max(x), np.max(wide)),
        "norm": (graphc.norm(x), np.sqrt(np.sum(wide**2))),
        "norm3": (graphc.norm(x, 3), np.sum(wide**3) ** (1 / 3)),
        "logsumexp": (graphc.logsumexp(x), np.log(np.sum(np.exp(wide)))),
        "dot": (np.dot(scaled, x) / 1000, None),
    }
    results = graphc.compile([view for view, _ in expected.values()], target=target)(x=values)
    for (name, (_, exact)), found in zip(expected.items(), results, strict=True):
        assert type(found) is dtype.type, name
        if exact is not None:
            assert_same_halves(np.asarray(found), reference(exact, dtype), apart=0 if name in ("max",) else 1)
    assert float(results[0]) == pytest.approx(25_000, rel=2.0**-8)
    softmax = graphc.compile(graphc.softmax(x), target=target)(x=values[:1000])
    weights = np.exp(wide[:1000])
    assert_same_halves(softmax, reference(weights / weights.sum(), dtype), apart=1)


def test_gradients_of_long_reductions_do_not_overflow(dtype, target):
    x = Input(("N",), dtype, name="x")
    ones = np.full(70_000, 2, dtype)
    for loss, slope in ((np.max(x), 1 / 70_000), (graphc.logsumexp(x), 1 / 70_000), (graphc.norm(x), 70_000**-0.5)):
        found = graphc.compile(loss, wrt=[x], target=target).value_and_grad(x=ones)[1]["x"]
        assert_same_halves(found, np.full(70_000, reference(slope, dtype)), apart=1)


def test_statistics_of_halves_do_not_overflow(target):
    x = Input((4,), F16, name="x")
    large = np.array([6e4, 5e4, 5e4, 6e4], F16)
    w = np.array([2, 1, 1, 2], F16)
    views = (
        np.median(x), np.nanmean(x), np.nanstd(x), np.average(x, weights=w), np.nanvar(x / 50),
        np.average(x / 50, weights=x), np.cov(x / 25, dtype=F16), np.corrcoef(x, -x, dtype=F16)[0, 1],
    )  # fmt: skip
    small, variables = ((large / F16.type(by)).astype(float) for by in (50, 25))
    expected = (
        55_000, 55_000, 5_000, 340_000 / 6, small.var(), np.average(small, weights=large.astype(float)),
        np.cov(variables), -1,
    )  # fmt: skip
    for got, want in zip(graphc.compile(views, target=target)(x=large), expected, strict=True):
        assert got.dtype == F16
        assert float(got) == pytest.approx(want, rel=2.0**-9)


def test_gradients_of_products_of_halves_do_not_overflow(target):
    values = np.array([256, 512, 3, 1 / 256, 1 / 512], F16)  # 256 * 512 overflows

    def slopes(dtype, target):
        x = Input((5,), dtype, name="x")
        recurring = graphc.linear_recurrence(x, np.ones(5, dtype), axis=0)
        losses = (np.prod(x), np.cumprod(x)[-1], recurring[-1])
        program = graphc.compile([graphc.grad(loss, x)[2] for loss in losses], target=target)
        return np.array([float(slope) for slope in program(x=values.astype(dtype))])

    np.testing.assert_allclose(slopes("float16", target), slopes("float64", "interpret"), rtol=2.0**-9)


def test_products_accumulate_wide(dtype, target):
    a, b = Input(("M", 300), dtype, name="a"), Input((300, 5), dtype, name="b")
    left, right = (RNG.normal(size=shape).astype(np.float32).astype(dtype) for shape in ((7, 300), (300, 5)))
    found = graphc.compile(a @ b, target=target)(a=left, b=right)
    exact = left.astype(EXACT) @ right.astype(EXACT)
    magnitude = np.abs(left.astype(EXACT)) @ np.abs(right.astype(EXACT))
    ulp = np.abs(exact) * 2.0 ** (-11 if dtype == F16 else -8)
    assert np.all(np.abs(found.astype(EXACT) - exact) <= 1.01 * ulp + 300 * 2.0**-24 * magnitude)


def layout(x, k):
    """Every way to place elements, as views and (of arrays) as NumPy does it."""
    return [
        x.T, x.reshape(-1), x[::-2, 1:], x[k], np.concatenate([x, x[:1]]), np.concatenate([x, x], axis=1),
        np.broadcast_to(x, (2, 8, 4)), np.where(np.arange(8)[:, None] % 2 == 0, x, x[::-1]), np.stack([x[0], x[1]]),
    ]  # fmt: skip


def test_what_moves_elements_keeps_their_bits(dtype, target):
    nan = 0x7E5A if dtype == F16 else 0x7FD5  # a quiet one with a payload
    array = np.array([*RNG.integers(0, 0x7000, 28), nan, nan | 0x8000, 1, 0x8000], np.uint16).view(dtype).reshape(8, 4)
    x, k = Input((8, 4), dtype, name="x"), Input((3,), "int64", name="k")
    feeds = {"x": array, "k": np.array([2, -1, 7])}
    table = RNG.integers(0, 0x7000, 32).astype(np.uint16).view(dtype).reshape(8, 4)
    views = [x.at[k].set(x[:3]), np.where(x[:, :1] == x[:, :1], x, table), *layout(x, k)]
    expected = [array.copy(), np.where((array == array)[:, :1], array, table), *layout(array, feeds["k"])]
    expected[0][feeds["k"]] = array[:3]
    for found, want in zip(graphc.compile(views, target=target)(**feeds), expected, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(bits(found), bits(np.ascontiguousarray(want)))


def test_no_rewrite_of_a_sum_overflows_or_rounds_more(dtype, target):
    s, a, b = Input((), dtype, name="s"), Input(("N", 2), dtype, name="a"), Input((2, 3), dtype, name="b")
    spread, rows = np.sum(np.broadcast_to(s, (70_001,))), np.sum(a @ b, axis=0)
    large, small = np.full((4000, 2), 48, dtype), np.full((2, 3), 2.0**-7, dtype)
    found = graphc.compile([spread, rows], target=target)(s=0.5, a=large, b=small)
    assert_same_halves(np.asarray(found[0]), reference(35_000.5, dtype))
    assert_same_halves(found[1], reference([3000] * 3, dtype))


def test_scattered_halves_are_summed_wide(dtype, target):
    x, k = Input((3,), dtype, name="x"), Input(("N",), "int64", name="k")
    places = np.arange(3000) % 2
    found = graphc.compile(x.at[k].add(1), target=target)(x=np.zeros(3, dtype), k=places)
    assert_same_halves(found, reference([1500, 1500, 0], dtype))  # (bfloat16 itself counts to 256)


# every stage ----------------------------------------------------------------------------------------------------------


def small_graph(dtype):
    """Computation, layout, a reduction, a choice and constants, on few elements."""
    x, y = leaf(INPUT, tensor((N, 3), "float32").with_dtype(dtype)), leaf(INPUT, tensor((N, 3), "float32"))
    number = constant(value=Literal(np.array(0.1).astype(dtype)), shape=x.shape)
    row = constant(value=Literal(np.array([1, 2.5, -3]).astype(dtype)), shape=(3,))
    scaled = x * number + ops.broadcast_to(row, shape=x.shape)
    chosen = ops.where(ops.less(x, number), scaled, ops.cast(y, dtype=dtype))
    outputs = (chosen, ops.sum_(chosen, axes=(1,)), ops.softmax(chosen, axis=1), ops.transpose(chosen, axes=(1, 0)))
    return Graph("small", (x, y), (), outputs, names={x: "x", y: "y"})


def test_every_stage_has_the_same_values(dtype):
    graph = small_graph(dtype)
    case = Case(graph, {"x": RNG.normal(size=(4, 3)).astype(dtype), "y": RNG.normal(size=(4, 3)).astype(np.float32)})
    expected = expected_values(case)
    for name, program in stages(graph).items():
        verify_program(program)
        assert print_program(parse_program(print_program(program))) == print_program(program)
        for place, values in interpreted(program, case).items():
            assert_same_halves(values, expected[place], apart=0 if place in "013" else 1)
        lets = print_program(program)
        short = DTYPES[dtype.name]
        assert all(" cast(" in line or " where(" in line for line in lets.split("\n") if f") : {short}" in line), name


def test_text_reads_back(dtype):
    graph = small_graph(dtype)
    text = print_graph(graph)
    short = DTYPES[dtype.name]
    assert f"%x: {short}[N,3]" in text and f"{short}[3]([1.0, 2.5, -3.0])" in text
    assert print_graph(parse_graph(text)) == text


def test_every_half_prints_as_a_number_that_reads_back(dtype):
    from graphc.ir.tokens import Parser, number_text

    for value in every_half(dtype):
        again = Parser(number_text(value)).number(dtype)
        assert again.dtype == dtype and again.tobytes() == value.tobytes()


# programs -------------------------------------------------------------------------------------------------------------

FEATURES, LABELS = RNG.normal(size=(20, 8)), RNG.integers(0, 3, 20)


def network(inputs, params):
    """A small classifier's loss, for inputs and parameters of some dtypes."""
    x, y = Input(("N", 8), inputs, name="x"), Input(("N",), "int64", name="y")
    first, second = Dense(16), Dense(3)
    hidden = np.tanh(first(x if params == inputs else x.astype(params)))
    return graphc.cross_entropy(second(hidden), y)


@pytest.mark.parametrize("mixed", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_network_learns(dtype, target, mixed):
    params = np.dtype("float32") if mixed else dtype
    x = FEATURES.astype(np.float32).astype(dtype)
    loss, exact = network(dtype, params), network("float64", "float64")
    program = graphc.compile(loss, wrt="params", target=target)
    plain = graphc.compile(exact, wrt="params", target="interpret")
    for name, value in program.params.items():
        assert value.dtype == params
        plain.params[name] = value.astype(EXACT)
    (value, gradients), (want, slopes) = program.value_and_grad(x=x, y=LABELS), plain.value_and_grad(
        x=x.astype(EXACT), y=LABELS
    )
    eps = 2.0**-10 if dtype == F16 else 2.0**-7
    tolerance = 1e-5 if mixed else 4 * eps
    assert value.dtype == params and float(value) == pytest.approx(want, rel=tolerance)
    for name, gradient in gradients.items():
        assert gradient.dtype == params
        scale = np.max(np.abs(slopes[name]))
        np.testing.assert_allclose(gradient.astype(EXACT), slopes[name], rtol=tolerance, atol=tolerance * scale)
    for optimizer in (graphc.SGD(0.5, momentum=0.9), graphc.Adam(0.02)):
        trainer = graphc.Trainer(loss, optimizer=optimizer, target=target)
        before = float(trainer.step(x=x, y=LABELS))
        history = trainer.fit({"x": x, "y": LABELS}, epochs=12, batch_size=6)["loss"]
        assert history[-1] < 0.75 * before
        assert all(param.dtype == params for param in trainer.params.values())


def test_targets_train_alike(dtype):
    loss = network(dtype, dtype)
    x = FEATURES.astype(np.float32).astype(dtype)
    losses = []
    for target in ("cpu", "interpret"):
        trainer = graphc.Trainer(loss, optimizer=graphc.Adam(0.02), target=target)
        losses.append(trainer.fit({"x": x, "y": LABELS}, epochs=3, batch_size=8)["loss"])
    np.testing.assert_allclose(*losses, rtol=2.0**-6)


def test_forward_and_backward_apart(dtype, target):
    x = Input(("N",), dtype, name="x")
    program = graphc.compile(np.exp(x) * x, wrt=[x], target=target)
    values = RNG.normal(size=5).astype(np.float32).astype(dtype)
    result, saved = program.forward(x=values)
    found = program.backward(saved, np.ones(5, dtype))["x"]
    exact = values.astype(EXACT)
    assert result.dtype == found.dtype == dtype
    np.testing.assert_allclose(
        found.astype(EXACT), np.exp(exact) * (1 + exact), rtol=0, atol=20 * 2.0 ** (-11 if dtype == F16 else -8)
    )


def test_scalars_updates_and_constants(dtype, target):
    s = Input((), dtype, name="s")
    w = Param(np.array([1.0, 2.0, 3.0]).astype(dtype), name="w")
    table = np.array([0.5, -1.0, 4.0]).astype(dtype)
    program = graphc.compile([s * 2, np.sum(w * table)], updates={w: w + s}, target=target)
    assert w.dtype == dtype
    for k in range(3):
        twice, total = program(s=dtype.type(1.5))
        assert (float(twice), type(twice)) == (3.0, dtype.type)
        assert float(total) == 0.5 * (1 + 1.5 * k) - (2 + 1.5 * k) + 4 * (3 + 1.5 * k)
    np.testing.assert_array_equal(program.params["w"].astype(float), [5.5, 6.5, 7.5])
    assert float(program(s=1, w=[0, 0, 0])[1]) == 0


def test_jitted_functions_take_bits(dtype):
    x, s = Input(("N",), dtype, name="x"), Input((), dtype, name="s")
    function = graphc.compile(x * s).njit
    found = function(bits(np.array([1, 2.5], dtype)), bits(dtype.type(3))[()])
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found.view(dtype).astype(float), [3, 7.5])


def test_threads_give_the_same(dtype):
    x = Input(("N", 64), dtype, name="x")
    outputs = [np.exp(x) / 2, np.sum(np.tanh(x), axis=0), np.max(x)]
    values = RNG.normal(size=(20_000, 64)).astype(np.float32).astype(dtype)
    one, two = (graphc.compile(outputs, threads=threads)(x=values) for threads in (1, 2))
    for left, right in zip(one, two, strict=True):
        assert_same_halves(np.asarray(left), np.asarray(right))


def test_parameters_are_saved(dtype, tmp_path):
    loss = network(dtype, dtype)
    first, second = (graphc.Trainer(loss, graphc.SGD(0.1), seed=seed, target="interpret") for seed in (0, 1))
    first.save(tmp_path / "w.safetensors")
    second.load(tmp_path / "w.safetensors")
    for name, value in first.params.items():
        np.testing.assert_array_equal(bits(value), bits(second.params[name]))


def test_parameters_start_rounded_once(dtype):
    wide, narrow = (graphc.compile(Param((50, 3), "normal", dtype=each, name="w")) for each in ("float64", dtype))
    assert_same_halves(narrow.params["w"], reference(wide.params["w"], dtype))


def test_values_print_as_numbers(dtype):
    text = array_lines(np.array([[1.5, 0.1], [-2, np.inf]]).astype(dtype))
    assert [float(word) for word in text.split()] == pytest.approx([1.5, 0.1, -2, np.inf], rel=2e-3)
    assert max(map(len, text.split("\n"))) < 20
    assert array_lines(np.zeros((0, 2), dtype)) == ""


def test_dtypes_that_only_look_alike_are_refused(dtype):
    program = graphc.compile(Input((3,), dtype, name="x") * 2)
    for other in ("V2", "U1"):
        with pytest.raises(TypeError, match=f"x wants {dtype.name}, got"):
            program(x=np.zeros(3, other))
    whole = graphc.compile(Input((3,), "int32", name="x") * 2)
    with pytest.raises(TypeError, match=f"x wants int32, got {dtype.name}, which does not cast by 'same_kind'"):
        whole(x=np.ones(3, dtype))


def test_a_file_of_other_floats_is_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(OSError, match="w is F8_E4M3, which is no dtype of graphs"):
        read_parameters(tmp_path / "w.safetensors")


def test_check_grad_of_halves(dtype):
    x = Input((4,), dtype, name="x")
    graphc.check_grad(np.sum(np.tanh(x) * x), x, {"x": np.array([0.5, -1, 2, 0.25])})
