"""Programs of the loop IR print and read back, are verified rule by rule, and run in plain Python."""

from dataclasses import replace

import numpy as np
import pytest

from graphc.ir.dims import dim
from graphc.ir.errors import CompileValueError, FeedIndexError, FeedTypeError, FeedValueError
from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loop_text import parse_program, print_kernel, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Affine, Arena, Buffer, Comment, Const, IndexValue, Kernel, Let, Loop, Program, axis

F64, I64 = np.dtype("float64"), np.dtype("int64")
N = dim("N")

# A softmax layer with a gather, a column sum, and an update: every kind of statement, buffer and step.
LAYER = """\
program @layer(x, k) params(w, b) dims(N) {
  input x: f64[N,3]
  input k: i64[N]
  param w: f64[4,3]
  param b: f64[4]
  constant scale: f64[4] = [1.0, -0.0, 0.5, inf]
  output p: f64[N,4]
  output total: f64[]
  output counts: i64[4]
  output picked: f64[N]
  arena h: f64[N,4]
  row e: f64[4]
  alias column: f64[2] of b at 2

  call check_index(k, extent=4, text="k: index out of range")

  call matmul(x, w, transpose_a=false, transpose_b=true, accumulate=false) -> h

  kernel p {  // p, total
    var sum: f64 = 0.0
    for i in N parallel {
      var m: f64 = -inf
      for j in 4 reduce {
        u = h[i, j]
        m max= u
      }
      // the row's exponentials
      var s: f64 = 0.0
      for j in 4 serial {
        u = h[i, j]
        d = subtract(u, m) : f64
        v = exp(d) : f64
        store e[j] = v
        s += v
      }
      for j in 4 parallel {
        v = e[j]
        q = divide(v, s) : f64
        store p[i, j] = q
        first = index(4*i+j) : i64
        origin = less_equal(first, i64(0)) : bool
        c = where(origin, 0.0, q) : f64
        sum += c
      }
    }
    store total[] = sum
  }

  kernel counts {  // counts
    for j in 4 parallel {
      store counts[j] = 0
    }
    for i in N serial {
      raw = k[i]
      at = wrap(raw, 4) : i64
      counts[at] += 1
    }
  }

  kernel picked {  // picked
    for i in N parallel {
      position = index(-i+N-1) : i64
      raw = k[-i+N-1]
      at = wrap(raw, 4) : i64
      even = bitwise_and(position, 1) : i64
      odd = equal(even, i64(1)) : bool
      v = p[-i+N-1, at] if odd
      y = integer_power(v, i64(2)) : f64
      z = multiply(y, extent(2*N, f64)) : f64
      store picked[i] = z
    }
  }

  kernel b {  // b
    for j in 2 parallel {
      v = scale[j+2]
      store column[j] = v
    }
  }

  memory 32*N+32 bytes, at least 32800 {
    h at 0
    e at 32*N
  }

  return p, counts, total, picked
}
"""
FEEDS = {
    "x": np.arange(9.0).reshape(3, 3) / 7, "k": [1, -1, 1], "w": np.arange(12.0).reshape(4, 3) % 5, "b": np.ones(4),
}  # fmt: skip


def expected():
    h = FEEDS["x"] @ FEEDS["w"].T
    p = np.exp(h - h.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    picked = np.array([0.0, 6 * p[1, -1] ** 2, 0.0])
    return {"p": p, "counts": [0, 2, 0, 1], "total": p.sum() - p[0, 0], "picked": picked, "b": [1, 1, 0.5, np.inf]}


def test_a_program_reads_back_to_itself():
    program = parse_program(LAYER)
    assert print_program(program) == LAYER
    again = parse_program(print_program(program))
    assert again == program
    np.testing.assert_array_equal(again.constants[0][1], [1.0, -0.0, 0.5, np.inf])


def test_a_program_is_verified_and_runs():
    program = parse_program(LAYER)
    verify_program(program)
    for planned in (program, replace(program, arena=None)):
        results = interpret_program(planned, FEEDS)
        assert list(results) == ["p", "counts", "total", "picked", "b"]
        for name, value in expected().items():
            np.testing.assert_allclose(results[name], value, rtol=1e-14, err_msg=name)


def test_feeds_are_not_changed():
    interpret_program(parse_program(LAYER), FEEDS)
    assert FEEDS["b"].tolist() == [1, 1, 1, 1]


def test_a_bad_plan_gives_bad_results():
    wrong = replace(parse_program(LAYER), arena=parse_program(LAYER.replace("e at 32*N", "e at 32")).arena)
    assert not np.allclose(interpret_program(wrong, FEEDS)["p"], expected()["p"])


def test_memory_is_poisoned_until_written():
    text = LAYER.replace("        store e[j] = v\n", "")
    assert np.isnan(interpret_program(parse_program(text), FEEDS)["p"]).all()


@pytest.mark.parametrize(
    ("feeds", "error", "message"),
    [
        ({"k": [0, 0, 4]}, FeedIndexError, "k: index out of range"),
        ({"k": [0, 0, -5]}, FeedIndexError, "k: index out of range"),
        ({"k": [0, 0]}, FeedValueError, "x has N = 3, k has N = 2"),
        ({"x": None}, FeedTypeError, "x is not fed"),
    ],
)
def test_bad_feeds_are_refused(feeds, error, message):
    feeds = {name: value for name, value in {**FEEDS, **feeds}.items() if value is not None}
    with pytest.raises(error, match=message):
        interpret_program(parse_program(LAYER), feeds)


def test_an_index_out_of_range_is_an_error_also_below_zero():
    text = LAYER.replace("p[-i+N-1, at] if odd", "p[-i+N-2, at] if odd").replace(
        "equal(even, i64(1))", "equal(even, i64(0))"
    )
    with pytest.raises(FeedIndexError, match=r"p: no element \(-1, 1\) in shape \(3, 4\)"):
        interpret_program(parse_program(text), FEEDS)


def test_accumulating_products_and_transposes():
    text = (
        "program @f(a, b) params(c) {\n  input a: f64[3,2]\n  input b: f64[3,4]\n  param c: f64[2,4]\n\n"
        "  call matmul(a, b, transpose_a=true, transpose_b=false, accumulate=true) -> c\n\n  return c\n}\n"
    )
    program = parse_program(text)
    verify_program(program)
    a, b, c = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(3, 4), np.ones((2, 4))
    np.testing.assert_array_equal(interpret_program(program, {"a": a, "b": b, "c": c})["c"], a.T @ b + 1)


# text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (Affine(), "0"), (axis("i"), "i"), (axis("i") * -1 + 3, "-i+3"), (axis("i") * 2 + axis("j") + -1, "2*i+j-1"),
        (axis("i") * N + axis("j"), "N*i+j"), (axis("i") * (N + 1) + N * -2, "(N+1)*i-2*N"),
        (axis("i") * (N // 2) + N // 2, "(N//2)*i+N//2"), (axis("N") + N, '"N"+N'), (axis("nan") * -3, '-3*"nan"'),
        (axis("hidden.k_0") + 1, "hidden.k_0+1"), (axis("i") * (-1 * N), "(-N)*i"),
    ],
)  # fmt: skip
def test_indices_read_back(index, text):
    kernel = Kernel("f", (IndexValue("v", index, I64),))
    program = Program("f", ("N",), (), (), (), (kernel,))
    assert f"v = index({text}) : i64" in print_program(program)
    assert parse_program(print_program(program)) == program


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Const(np.float64(0.1), F64), "0.1"), (Const(np.float32(0.1), np.dtype("float32")), "f32(0.1)"),
        (Const(np.float64(-0.0), F64), "-0.0"), (Const(np.float64(np.nan), F64), "nan"),
        (Const(2 * N, I64), "extent(2*N, i64)"),
        (Const(np.bool_(True), np.dtype("bool")), "bool(true)"), ("x", "x"), ("true", '"true"'), ("f64", '"f64"'),
        ("extent", '"extent"'), ("out.dense", "out.dense"),
    ],
)  # fmt: skip
def test_values_read_back(value, text):
    program = Program("f", ("N",), (), (), (), (Kernel("f", (Let("y", "add", (value, value), F64),), "origin"),))
    assert f"y = add({text}, {text}) : f64" in print_program(program)
    assert parse_program(print_program(program)) == program


def test_odd_names_and_comments_read_back():
    buffer = Buffer("store", F64, (2, 0), "arena")
    body = (Comment(""), Comment("a // b"), Loop("for", N, "serial", (Comment("inner"),)))
    program = Program(
        "two words", ("N",), (), (), (), (Kernel("var", body),), Arena(((buffer, N // 2),), N + 1, 0),
        constants=((Buffer("inf", F64, (0,), "constant"), np.zeros(0)),),
    )  # fmt: skip
    text = print_program(program)
    parsed = parse_program(text)
    assert print_program(parsed) == text
    assert parsed == program


def test_a_kernel_prints_by_itself():
    kernel = parse_program(LAYER).steps[-1]
    assert print_kernel(kernel, ("N",)) == (
        "kernel b {  // b\n  for j in 2 parallel {\n    v = scale[j+2]\n    store column[j] = v\n  }\n}\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("program", "graph", "line 1, column 1: expected 'program @name(', got graph"),
        ("x: f64", "x: f63", "expected a type such as f32[N,64], got f63"),
        ("input k", "input x", "the buffer x is declared twice"),
        ("(x, w, transpose_a", "(x, v, transpose_a", "there is no buffer v"),
        ("h[i, j]", "h[i*j, j]", "* of variables is not affine"),
        ("in N parallel", "in i parallel", "expected a dim, got a variable"),
        ("reduce", "reduced", "expected parallel or serial or reduce or threads or blocks, got reduced"),
        ("sum += c", "sum -= c", "expected = or one of +=, *=, max=, min=, &=, |="),
        ("sum += c", "sum += 1.0", "this number must say its dtype: f32(1.0)"),
        ("divide(v, s) : f64", "divide(v, s)", "expected ':', got store"),
        ("  return p", "  retur p", "expected a buffer's space, 'kernel', 'call', 'memory' or 'return', got retur"),
        ("= 0.0", "= s", "expected a number to start from"),
    ],
)
def test_errors_say_where_and_what(old, new, message):
    text = LAYER.replace(old, new, 1)
    with pytest.raises(CompileValueError) as caught:
        parse_program(text)
    first, line, caret = str(caught.value).split("\n")
    assert message in first
    assert line.strip() in text
    assert caret.strip() == "^"


# the verifier ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        # buffers
        ("column: f64[2] of b at 2", "column: f64[3] of b at 2", "the alias column: f64[3] at 2 reaches out of b"),
        ("alias column: f64[2] of b", "alias column: i64[2] of b", "the alias column: i64[2] has another dtype than b"),
        ("alias column: f64[2] of b", "arena column: f64[2] of b", "the buffer column in space arena has a base"),
        ("input k: ", "row k: ", "the input k is in space row"),
        ("params(w, b)", "params(w)", "the param b is used and not declared"),
        ("arena h: f64[N,4]", "constant h: f64[N,4]", "the constant h is used and not declared"),
        # calls
        ("call matmul", "call gemm", "there is no routine gemm; there are matmul, check_index"),
        ("transpose_a=false, ", "", "matmul wants the flags transpose_a, transpose_b, accumulate"),
        ("transpose_b=true", "transpose_b=false", "the product of x: f64[N,3] and w: f64[4,3] does not exist"),
        ("check_index(k", "check_index(x", "check_index wants one integer buffer"),
        ("-> h", "-> x", "the product of x: f64[N,3] and w: f64[4,3] is not x: f64[N,3]"),
        ("accumulate=false", "accumulate=true", "matmul reads h before it is written"),
        # scopes
        ("subtract(u, m)", "subtract(t, m)", "in kernel p uses t before it is defined\n  d = subtract(t, m) : f64"),
        ("d = subtract", "u = subtract", "in kernel p defines u twice"),
        ("divide(v, s)", "divide(d, s)", "in kernel p uses d before it is defined"),
        ("for j in 4 reduce", "for i in 4 reduce", "in kernel p shadows i by an axis"),
        ("m max= u", "u max= u", "in kernel p accumulates into u, which is no accumulator"),
        ("dims(N)", "dims(N, M)", None),
        # indices
        ("v = e[j]", "v = e[j, i]", "in kernel p indexes e: f64[4] by 2 positions"),
        ("v = e[j]", "v = e[l]", "in kernel p indexes by l before it is defined"),
        ("p[-i+N-1, at] if odd", "p[-i+N-1, odd] if odd", "in kernel picked indexes by odd, a bool"),
        ("if odd", "if at", "in kernel picked is masked by at, which is no boolean scalar"),
        # dtypes
        ("exp(d) : f64", "exp(d) : f32", "in kernel p makes exp a float32, not float64"),
        ("exp(d)", "sum(d)", "in kernel p uses sum, which is no scalar operation"),
        ("exp(d)", "exp(d, d)", "in kernel p gives exp 2 arguments, not 1"),
        ("where(origin, 0.0, q)", "where(q, 0.0, q)", "in kernel p does what where does not: where wants a bool"),
        ("wrap(raw, 4)", "wrap(raw, bool(true))", "in kernel counts wraps other than an index of its own integer"),
        ("store e[j] = v", "store e[j] = f32(0.5)", "in kernel p stores a float32 to e: f64[4]"),
        ("counts[at] += 1", "counts[at] += i8(1)", "in kernel counts stores a int8 to counts: i64[4]"),
        ("integer_power(v, i64(2))", "integer_power(v)", "in kernel picked gives integer_power 1 arguments, not 2"),
        # what is written, and where
        ("store e[j] = v", "store x[i, j] = v", "in kernel p stores to the input x"),
        ("store e[j] = v", "store scale[j] = v", "in kernel p stores to the constant scale"),
        ("        store e[j] = v\n", "", "in kernel p reads e before it is written"),
        ("      store counts[j] = 0\n", "", "in kernel counts accumulates into counts before it is written"),
        ("    store total[] = sum\n", "", "the output total is never written"),
        ("v = scale[j+2]", "v = e[j+2]", "the kernels p and b share the row scratch e"),
        # races
        ("store p[i, j] = q", "store p[0, j] = q",
         "in kernel p races: iterations of the parallel loop over i store to the same places of p"),
        ("store picked[i] = z", "store picked[at] = z",
         "in kernel picked races: iterations of the parallel loop over i store to the same places of picked"),
        ("first = index", "f = p[-i+N-1, j]\n        first = index",
         "in kernel p races: iterations of the parallel loop over i read what others write\n  f = p[-i+N-1, j]"),
        ("s += v", "s += s", None),
        ("d = subtract(u, m)", "d = subtract(u, s)", None),
        ("m max= u", "w = add(u, m) : f64\n        m max= w",
         "in kernel p reads the accumulator m inside of a loop that fills it"),
        # the arena
        ("    e at 32*N\n", "", "the row buffer e has no place in the arena"),
        ("e at 32*N\n", "e at 24*N\n", "e and h live at once and overlap in the arena"),
        ("memory 32*N+32", "memory 32*N+31", "e has the bytes 32 to 64 of an arena of 63"),
        ("e at 32*N\n", "e at 32*N+4\n", "e has the bytes 36 to 68 of an arena of 64"),
    ],
)  # fmt: skip
def test_a_malformed_program_is_refused(old, new, problem):
    assert old in LAYER
    program = parse_program(LAYER.replace(old, new, 1))
    if problem is None:
        verify_program(program)
        return
    with pytest.raises(CompileValueError) as caught:
        verify_program(program)
    assert str(caught.value).startswith(f"the program layer is malformed: {problem}")


def test_a_name_for_two_buffers_is_refused():
    program = Program("f", (), (Buffer("x", F64, (), "input"), Buffer("x", F64, (2,), "input")), (), (), ())
    with pytest.raises(CompileValueError, match="2 buffers are named x"):
        verify_program(program)


def test_an_undeclared_dim_is_refused():
    program = Program("f", (), (Buffer("x", F64, (N,), "input"),), (), (), ())
    with pytest.raises(CompileValueError, match="the buffer x needs the dim N, which the program does not declare"):
        verify_program(program)
