"""Graphs print, read back to the same text and the same values, and say where a text is wrong."""

import numpy as np
import op_samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Literal, Op, PiecewiseConstant, constant, full, leaf
from graphc.ir.dims import Dim, dim, dim_max, dim_min
from graphc.ir.errors import CompileValueError, DeclarationError
from graphc.ir.graph import Graph, naming
from graphc.ir.interpret import interpret
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import DTYPES, TensorType, named_dtype

N, M = dim("N"), dim("M")

DIGITS = """\
graph @Digits.loss(
  %x: f32[N,64],                                            // digits.py:7
  %y: i64[N]
) params(
  %hidden.dense.weight: f32[64,128]
) wrt(%hidden.dense.weight, %hidden) {
  %product = matmul(%x, %hidden.dense.weight) : f32[N,128]  // digits.py:9, layers.py:30
  %hidden = anchor(%product) : f32[N,128]
  %halves = multiply(%hidden, 0.5) : f32[N,128]             // digits.py:10
  %positive = less(0.0, %halves) : bool[N,128]
  %kept = where(%positive, %halves, -inf) : f32[N,128]
  %loss = sum(%kept, axes=[0, 1]) : f32[]
  %next = subtract(%hidden.dense.weight, 0.1) : f32[64,128]
  update %hidden.dense.weight = %next
  return %loss, %y, %loss
}
"""


def tensor(dtype, *shape):
    return TensorType(np.dtype(dtype), shape)


def bits(value, dtype):
    return np.array(value, f"u{np.dtype(dtype).itemsize}").view(dtype)[()]


def reprinted(graph):
    text = print_graph(graph)
    parsed = parse_graph(text)
    assert print_graph(parsed) == text
    return parsed


def test_a_text_reads_back_to_itself():
    graph = parse_graph(DIGITS)
    assert print_graph(graph) == DIGITS
    assert [graph.names[node] for node in graph.wrt] == ["hidden.dense.weight", "hidden"]
    assert graph.origins[graph.inputs[0]] == ("digits.py:7",)
    assert graph.origins[graph.wrt[1].operands[0]] == ("digits.py:9", "layers.py:30")
    assert graph.outputs[0] is graph.outputs[2]
    assert graph.updates == ((graph.params[0], graph.params[0] - 0.1),)


def test_a_short_header_is_one_line():
    text = "graph @f(%x: f64[], %unused: f64[2]) params(%w: f64[]) {\n  %y = add(%x, %w) : f64[]\n  return %y\n}\n"
    assert print_graph(parse_graph(text)) == text


def test_generated_names_stay_generated():
    x = leaf(INPUT, tensor("float64"))
    y = ops.exp(ops.tan(x) * 2.0)
    graph = Graph("f", (x,), (), (ops.sin(y),), names={x: "x", y: "layer_7"})
    parsed = reprinted(graph)
    assert sorted(parsed.names.values()) == ["layer_7", "x"]
    assert sorted(naming(parsed).values()) == sorted(naming(graph).values())


@pytest.mark.parametrize("name", ops.OPS)
def test_every_op_reads_back_and_computes_the_same(name):
    for sample in op_samples.samples(name):
        parsed = reprinted(sample.graph)
        assert parsed.outputs[0].attrs == sample.node.attrs
        assert parsed.outputs[0].type == sample.node.type
    expected, got = (interpret(graph, sample.feeds) for graph in (sample.graph, parsed))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("float64", 0.1, "0.1"), ("float64", -0.0, "-0.0"), ("float64", np.inf, "inf"), ("float64", -np.inf, "-inf"),
        ("float64", np.nan, "nan"), ("float64", 1e22, "1e+22"), ("float64", 5e-324, "5e-324"),
        ("float64", bits(0xFFF8000000000000, "float64"), "nan(0xfff8000000000000)"),
        ("float32", 0.1, "0.1"), ("float32", 3.4028235e38, "3.4028235e+38"), ("float32", 1e-45, "1e-45"),
        ("float32", bits(0x7FC00001, "float32"), "nan(0x7fc00001)"),
        ("int8", -128, "-128"), ("uint64", 2**64 - 1, "18446744073709551615"),
    ],
)  # fmt: skip
def test_numbers_are_exact(dtype, value, text):
    x = leaf(INPUT, tensor(dtype, 3))
    y = ops.maximum(x, full(value, x.type))
    graph = Graph("f", (x,), (), (y,), names={x: "x", y: "y"})
    assert f"%y = maximum(%x, {text}) : " in print_graph(graph)
    number = reprinted(graph).outputs[0].operands[1]
    assert number is y.operands[1]  # interned by its bits


@given(st.floats(width=32, allow_nan=False) | st.floats(allow_nan=False), st.sampled_from(["float32", "float64"]))
@settings(max_examples=200, deadline=None)
def test_floats_are_exact(value, dtype):
    with np.errstate(over="ignore"):
        number = full(np.dtype(dtype).type(value), tensor(dtype))
    assert reprinted(Graph("f", (), (), (number,))).outputs[0] is number


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (64,), (65,), (0, 3), (3, 0), (1, 1, 2)])
def test_constant_arrays_are_exact(dtype, shape):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    array = (np.arange(np.prod(shape)) % 100 / 7).reshape(shape).astype(named_dtype(dtype))
    value = constant(value=Literal(array), shape=shape)
    graph = Graph("f", (), (), (value,))
    assert ('hex"' in print_graph(graph)) == (shape != () and not 0 < array.size <= 64)
    assert reprinted(graph).outputs[0] is value


def test_attributes_of_every_kind():
    def infer(x, **attrs):
        return x

    everything = (
        1, -2, True, False, None, 'a "b"\n', N, 2 * N + 1, dim("nan"), dim("f32") // 2, dim("min"), (), (1, (2, None)),
        np.dtype("int8"), Literal(np.float32(0.5)), Literal(np.ones((1, 2), "bool")),
    )  # fmt: skip
    odd = Op(name="odd", infer=infer, evaluate=np.array, derivative=PiecewiseConstant())
    x = leaf(INPUT, tensor("float64"))
    y = odd(x, **{f"a{k}": value for k, value in enumerate(everything)})
    text = print_graph(Graph("f", (x,), (), (y,)))
    parsed = parse_graph(text, {"odd": odd})
    assert [value for _, value in parsed.outputs[0].attrs] == list(everything)
    assert print_graph(parsed) == text


def test_a_number_that_no_operand_settles_is_a_step():
    one = full(1.0, tensor("float64", N))
    text = print_graph(Graph("f", (), (), (ops.add(one, one),), names={one: "one"}))
    assert "%one = constant(value=f64(1.0), shape=[N]) : f64[N]" in text
    assert "add(%one, %one)" in text


def test_a_number_with_a_name_keeps_it():
    x = leaf(INPUT, tensor("float64"))
    half = full(0.5, x.type)
    graph = Graph("f", (x,), (), (x * half,), names={half: "half"})
    assert "multiply(%input_0, %half)" in print_graph(graph)
    assert "half" in reprinted(graph).names.values()


@pytest.mark.parametrize("name", ["two words", "nan", 'q"uote', "été", "a.b_1.c", "%", "1st"])
def test_any_name_and_place_reads_back(name):
    x = leaf(PARAM, tensor("float64"))
    y = ops.exp(x)
    places = (f"{name}.py:3", "a, b.py:9", '"', " ", "// x")
    parsed = reprinted(Graph(name, (), (x,), (y,), names={x: name, y: f"{name}2"}, origins={y: places}))
    assert parsed.name == name
    assert list(parsed.names.values()) == [name, f"{name}2"]
    assert parsed.origins[parsed.outputs[0]] == places


def extents(names=("N", "M", "min", "f32")):
    def combine(inner):
        def divide(pair):
            return pair[0] if pair[1] == 0 else pair[0] // pair[1]

        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda pair: pair[0] + pair[1]), pairs.map(lambda pair: pair[0] - pair[1]),
            pairs.map(lambda pair: pair[0] * pair[1]), pairs.map(divide),
            pairs.map(lambda pair: dim_min(*pair)), pairs.map(lambda pair: dim_max(*pair)),
        )  # fmt: skip

    return st.recursive(st.sampled_from([dim(name) for name in names]) | st.integers(-9, 9), combine, max_leaves=8)


@given(st.lists(extents(), max_size=3))
@settings(max_examples=300, deadline=None)
def test_dims_read_back(shape):
    graph = Graph("f", (leaf(INPUT, tensor("float64", *shape)),), (), ())
    assert parse_graph(print_graph(graph)).inputs[0].shape == tuple(shape)


@pytest.mark.parametrize(
    ("extent", "text"),
    [
        (2 * N + 1, "2*N + 1"), (dim_min(5, N), "min(N, 5)"), ((6 * N) // 4, "(6*N) // 4"), (N // 2 * M, "M*(N // 2)"),
        (-(N // 2), "-(N // 2)"), ((N + 1) // M, "(N + 1) // M"), (N // 2 // 3, "(N // 2) // 3"),
        (dim_max(N, M) // 2, "max(M, N) // 2"), (N // (2 * M) - 1, "N // (2*M) - 1"), (N // -2, "N // (-2)"),
    ],
)  # fmt: skip
def test_dims_have_few_parentheses(extent, text):
    assert str(extent) == text
    assert str(tensor("float32", extent)) == f"f32[{text.replace(' ', '')}]"


def test_text_is_near_linear_and_without_recursion():
    x = leaf(INPUT, tensor("float64"))
    y = x
    for _ in range(20_000):
        y = ops.sin(y)
    parsed = reprinted(Graph("f", (x,), (), (y,)))
    assert len(parsed.steps) == 20_000


def test_comments_and_unneeded_steps_may_stand_anywhere():
    text = (
        "// a graph\ngraph @f(%x: f64[N]) {\n  // nothing reads this\n  %dead = exp(%x) : f64[N]\n"
        "  %y = multiply(%x, 2) : f64[N]\n  return %y  // done\n}\n"
    )
    (y,) = parse_graph(text).outputs
    assert y is y.operands[0] * 2.0


def test_equal_steps_are_one():
    text = (
        "graph @f(%x: f64[]) {\n  %a = exp(%x) : f64[] // a.py:1\n  %b = exp(%x) : f64[] // b.py:1\n  return %a, %b\n}"
    )
    graph = parse_graph(text)
    (y,) = set(graph.outputs)
    assert graph.names[y] == "a"
    assert graph.origins[y] == ("a.py:1", "b.py:1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("matmul", "matmil", "line 7, column 14: there is no op matmil; did you mean matmul?"),
        ("f32[N,128]", "f32[N,127]", "matmul gives f32[N,128], not f32[N,127]"),
        ("(%x, %hid", "(%z, %hid", "there is no value %z above"),
        ("%halves, -inf", "%halve, -inf", "there is no value %halve above; did you mean %halves?"),
        ("axes=[0, 1]", "axes=[0, 7]", "sum: axis 7 is out of range for 2 axes"),
        ("axes=[0, 1]", "along=0", "sum does not take these operands and attributes: "),
        ("axes=[0, 1]", "axes=[0], axes=[1]", "axes is given twice"),
        ("%halves = ", "%hidden = ", "%hidden is defined twice"),
        ("%x: f32", "%x: f80", "expected a type such as f32[N,64], got f80"),
        ("f32[N,64]", "f32[N.1,64]", "expected a dim, got N.1"),
        ("f32[N,64]", f"f32[{'(' * 200}N", "nested more than 100 deep"),
        ("f32[N,64]", "f32[N//0,64]", "N // 0"),
        ("%hidden, 0.5", "%hidden, 0.5.5", "no token begins with '.'"),
        ("%hidden, 0.5", "%hidden, true", "expected a number of dtype f32, got true"),
        ("%hidden, 0.5", "1.0, 0.5", "no operand of multiply settles the dtype of this number: write a constant step"),
        ("return", "retur", "expected a step, 'update' or 'return', got retur"),
        ("%loss\n}", "%loss\n", "expected '}', got the end"),
        ("graph", "graf", "expected 'graph @name(', got graf"),
        ("%halves = ", "%halves ; ", "no token begins with ';'"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what(old, new, message):
    with pytest.raises(CompileValueError) as caught:
        parse_graph(DIGITS.replace(old, new, 1))
    first, line, caret = str(caught.value).split("\n")
    place, text = first.split(": ", 1)
    assert message in f"{place}: {text}"
    number, column = (int(word) for word in place.replace(",", "").split() if word.isdecimal())
    assert line == "  " + DIGITS.replace(old, new, 1).split("\n")[number - 1]
    assert caret == "  " + " " * (column - 1) + "^"


def test_integers_must_fit():
    with pytest.raises(CompileValueError, match="300 does not fit u8"):
        parse_graph("graph @f(%x: u8[]) {\n  %y = add(%x, 300) : u8[]\n  return %y\n}")


def test_a_dim_is_not_evaluated():
    assert isinstance(N, Dim)
    with pytest.raises((CompileValueError, DeclarationError)):
        parse_graph("graph @f(%x: f64[__import__('os')]) {\n  return %x\n}")
