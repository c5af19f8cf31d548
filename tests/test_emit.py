"""Emitted modules: their text, and that they compute what NumPy does, compiled and as plain Python."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import emit_programs
import numpy as np
import pytest
from emit_programs import AT_I, AT_J, BOOL, CASES, F32, F64, I8, I64, N, number, over_rows

from graphc.codegen import names
from graphc.codegen.emit import emit
from graphc.codegen.expressions import affine, call, extent, fill, template
from graphc.codegen.expressions import number as number_text
from graphc.codegen.training import MinibatchLoop, loop_text, row_offsets
from graphc.ir.dims import dim, dim_min
from graphc.ir.errors import CompileError
from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Affine,
    Buffer,
    Call,
    Comment,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Program,
    Store,
    axis,
)
from graphc.ir.ops import OPS

TESTS = Path(__file__).parent
X, Y = Buffer("x", F32, (N,), "input"), Buffer("y", F32, (N,), "output")


def unparse(tree):
    return ast.unparse(ast.fix_missing_locations(tree))


def lines(*body, name="y", inputs=(X,), outputs=(Y,)):
    """The lines of the body of a row kernel's loop."""
    text = emit(Program("test", ("N",), inputs, (), outputs, (Kernel(name, over_rows(*body)),)))
    function = text[text.index("    for i in range(N):") :]
    return [line[8:] for line in function[: function.index("\n\n\n")].splitlines()[1:]]


# what modules compute -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What the modules compute as plain Python."""
    file = tmp_path_factory.mktemp("emit") / "results.npz"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(TESTS.parent)}
    subprocess.run([sys.executable, TESTS / "emit_programs.py", file], env=environment, check=True, timeout=120)
    with np.load(file) as results:
        return dict(results)


@pytest.mark.parametrize("name", CASES)
def test_compiled_and_plain_python_compute_what_numpy_does(name, interpreted):
    case, results = CASES[name](), emit_programs.run(name)
    expected = (*case.results, *(value for _, value in case.changes))
    assert len(results) == len(expected)
    for k, (result, value) in enumerate(zip(results, expected, strict=True)):
        np.testing.assert_allclose(result, value, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(interpreted[f"{name}_{k}"], result, rtol=1e-6, atol=1e-6)
        if np.ndim(value):
            assert interpreted[f"{name}_{k}"].dtype == result.dtype == value.dtype


@pytest.mark.parametrize("name", [name for name in CASES if name != "training"])
def test_the_interpreter_of_loops_agrees(name):
    case = CASES[name]()
    leaves = (*case.program.inputs, *case.program.params)
    feeds = {leaf.name: value for leaf, value in zip(leaves, case.arguments, strict=True)}
    found = interpret_program(case.program, feeds)
    for buffer, value in zip(case.program.outputs, case.results, strict=True):
        np.testing.assert_allclose(found[buffer.name], value, rtol=1e-6, atol=1e-6)
    for place, value in case.changes:
        np.testing.assert_allclose(found[leaves[place].name], value)


def test_an_index_out_of_range_is_an_error_before_anything_is_read():
    case = CASES["gather"]()
    module = emit_programs.load("test_gather", emit(case.program))
    values, labels = case.arguments
    for wrong in (3, -4):
        labels[4] = wrong
        with pytest.raises(IndexError, match=r"^labels: index out of range for an axis of size 3$"):
            module.loss(values, labels)


# the text of modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    case = CASES[name]()
    text, golden = emit(case.program, case.options), TESTS / "golden" / f"emit_{name}.txt"
    if os.environ.get("GRAPHC_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()
    assert max(map(len, text.splitlines())) <= 120


def test_two_processes_emit_the_same_bytes():
    code = "from emit_programs import *\nfor make in CASES.values(): print(emit(make().program, make().options))"
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    texts = [
        subprocess.run([sys.executable, "-c", code], env={**environment, "PYTHONHASHSEED": seed}, check=True,
                       capture_output=True, timeout=60).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert texts[0] == texts[1]
    assert len(texts[0]) > 1000


def test_equal_kernels_are_one_function():
    text = emit(CASES["layer"]().program)
    assert text.count("def ") == 2
    assert text.count("compute_hidden(") == 3


def test_kernels_that_differ_in_a_number_are_two_functions():
    kernels = []
    for k in (1.0, -0.0, 0.0):
        buffer = Buffer(f"y_{k}", F32, (N,), "output")
        kernels.append(Kernel(f"fill_{k}", over_rows(Store(buffer, (AT_I,), number(k)))))
    outputs = tuple(kernel.writes[0] for kernel in kernels)
    assert emit(Program("fills", ("N",), (X,), (), outputs, tuple(kernels))).count("def ") == 4


def test_user_names_that_mean_something_else():
    shape = (dim("range"),)
    leaves = [Buffer(name, F32, shape, "input") for name in ("exp", "lambda", "f32_1d", "a.b", "a_b", "2nd", "uintp")]
    out = Buffer("memory", F32, shape, "output")
    body = tuple(Load(leaf.name, leaf, (AT_I,)) for leaf in leaves), Let("exp_exp", "exp", ("exp",), F32)
    body = *body[0], body[1], Let("njit", "add", ("exp_exp", "a_b"), F32), Store(out, (AT_I,), "njit")
    kernel = Kernel("empty", over_rows(*body, extent=shape[0]))
    text = emit(Program("class", ("range",), tuple(leaves), (), (out,), (kernel,)))
    assert "def class_(exp_, lambda_, f32_1d_, a_b, a_b_1, _2nd, uintp_):" in text
    assert "range_ = exp_.shape[0]" in text
    assert "for i in range(range_):" in text
    compile(text, "module", "exec")
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            parameters = [argument.arg for argument in function.args.args]
            assert len(set(parameters)) == len(parameters)
            assert not set(parameters) & set(names.IMPORTS)


def test_a_dim_is_bound_by_the_first_argument_that_has_it():
    inputs = (Buffer("a", F32, (2 * N + 1, 3), "input"), Buffer("b", F32, (3, dim("M"), N), "input"))
    program = Program("test", ("M", "N"), inputs, (), (), ())
    assert "    M = b.shape[1]\n    N = b.shape[2]\n" in emit(program)
    assert "    N = (a.shape[0] - 1) // 2\n" in emit(Program("test", ("N",), inputs[:1], (), (), ()))
    with pytest.raises(CompileError, match="no argument of test has the dim N as an axis"):
        emit(Program("test", ("N",), (), (), (), ()))


# the text of kernels --------------------------------------------------------------------------------------------------


def test_a_scalar_with_one_reader_is_written_there():
    read = Load("x", X, (AT_I,))
    added = Let("a", "exp", ("x",), F32), Let("b", "add", ("a", number(1)), F32)
    assert lines(read, *added, Store(Y, (AT_I,), "b")) == ["y[i] = exp(x[i]) + float32(1.0)"]
    assert lines(read, Let("a", "square", ("x",), F32), Store(Y, (AT_I,), "a")) == [
        "x_value = x[i]",
        "y[i] = x_value * x_value",
    ]


def test_a_load_stays_before_the_store_that_may_change_it():
    swap = Load("a", X, (AT_I,)), Load("b", Y, (AT_I,)), Store(X, (AT_I,), "b"), Store(Y, (AT_I,), "a")
    assert lines(*swap) == ["a = x[i]", "x[i] = y[i]", "y[i] = a"]
    added = Load("a", X, (AT_I,)), Accumulate(Y, (AT_I,), "add", number(1)), Store(Y, (AT_I,), "a")
    assert lines(*added) == ["a = x[i]", "y[i] += float32(1.0)", "y[i] = a"]


def test_an_accumulator_is_read_before_it_changes():
    body = (
        Accumulator("s", number(1)),
        Let("before", "exp", ("s",), F32),
        Accumulate("s", (), "multiply", number(2)),
        Let("both", "add", ("before", "s"), F32),
        Store(Y, (AT_I,), "both"),
    )
    assert lines(*body) == [
        "s = float32(1.0)",
        "before = exp(s)",
        "s = rmul(s, float32(2.0))",
        "y[i] = before + s",
    ]


def test_a_scalar_is_not_moved_into_a_loop():
    inner = Loop("j", 3, "serial", (Accumulate(Y, (AT_I,), "add", "a"),))
    assert lines(Load("x", X, (AT_I,)), Let("a", "exp", ("x",), F32), inner) == [
        "a = exp(x[i])",
        "for j in range(3):",
        "    y[i] += a",
    ]


def test_long_lines_are_broken_at_the_longest_operand():
    body = [Load("x", X, (AT_I,))]
    for k in range(30):
        body.append(Let(f"a{k}", "add", (f"a{k - 1}" if k else "x", number(0.125)), F32))
    text = lines(*body, Store(Y, (AT_I,), "a29"))
    assert len(text) > 3
    assert max(map(len, text)) <= 92


@pytest.mark.parametrize(
    ("dtype", "op", "expected"),
    [
        ("f4", "add", "s = radd(s, x[i])"),
        ("f8", "maximum", "s = rmax(s, x[i])"),
        ("i8", "add", "s += x[i]"),
        ("i4", "add", "s = int32(s + x[i])"),
        ("u1", "maximum", "s = maximum(s, x[i])"),
        ("?", "logical_or", "s |= x[i]"),
    ],
)
def test_how_scalars_accumulate(dtype, op, expected):
    x = Buffer("x", np.dtype(dtype), (N,), "input")
    body = Accumulator("s", number(1, x.dtype)), Load("v", x, (AT_I,)), Accumulate("s", (), op, "v")
    assert lines(*body, inputs=(x,))[1] == expected


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (AT_I, "i"),
        (Affine((), 3), "3"),
        (AT_I + (-1), "uintp(i - 1)"),
        (Affine((), N + (-1)), "uintp(N - 1)"),
        (Affine((("i", -1),), N + (-1)), "uintp(N - 1 - i)"),
        (AT_I * 3 + axis("j"), "uintp(3 * i + j)"),
        (Affine((("i", 2 * N + 1),)), "uintp((2 * N + 1) * i)"),
        (axis("k"), "uintp(k[i])"),
        (axis("k") + AT_I, "uintp(int64(k[i]) + i)"),
    ],
)
def test_indices_are_not_tested_for_their_sign(index, expected):
    k = Buffer("k", I8, (N,), "input")
    loads = (Load("k", k, (AT_I,)),) if "k" in index.variables else ()
    loop = Loop("j", 3, "serial", (*loads, Load("v", X, (index,)), Store(Y, (AT_I,), "v")))
    assert lines(loop, inputs=(X, k))[1] == f"    y[i] = x[{expected}]"


def test_a_masked_load_reads_nothing_elsewhere():
    body = IndexValue("at", AT_I + (-1), I64), Let("inside", "greater_equal", ("at", number(0, I64)), BOOL)
    assert lines(*body, Load("v", X, (AT_I + (-1),), "inside"), Store(Y, (AT_I,), "v")) == [
        "y[i] = x[uintp(i - 1)] if i - 1 >= 0 else float32(0.0)"
    ]


def test_loads_are_not_made_conditional():
    body = Load("x", X, (AT_I,)), Let("c", "isnan", ("x",), BOOL), Load("other", X, (AT_I,)), number(0)
    assert lines(*body[:3], Let("v", "where", ("c", body[3], "other"), F32), Store(Y, (AT_I,), "v")) == [
        "x_value = x[i]",
        "other = x[i]",
        "y[i] = float32(0.0) if x_value != x_value else other",
    ]


def test_comments_stand_above_their_statements():
    body = Load("x", X, (AT_I,)), Comment("y = x"), Store(Y, (AT_I,), "x"), Comment("the end")
    assert lines(*body) == ["x_value = x[i]", "# y = x", "y[i] = x_value", "# the end"]
    assert lines(Comment("nothing")) == ["# nothing", "pass"]


# expressions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (0.1, "f4", "float32(0.1)"), (0.1, "f8", "0.1"), (-0.0, "f8", "-0.0"), (-np.inf, "f4", "float32(-inf)"),
        (np.nan, "f8", "nan"), (1e-45, "f4", "float32(1e-45)"), (3, "i8", "3"), (-3, "i4", "int32(-3)"),
        (2**64 - 1, "u8", "uint64(18446744073709551615)"), (True, "?", "True"),
        (N, "i8", "N"), (N * N + 1, "f4", "float32(N * N + 1)"),
    ],
)  # fmt: skip
def test_numbers(value, dtype, expected):
    dtype = np.dtype(dtype)
    value = value if value is N or not np.isscalar(value) else dtype.type(value)
    assert unparse(number_text(value, dtype, {"N": "N"})) == expected


@pytest.mark.parametrize("bits", range(1, 0x7F800000, 2**24 + 12345))
def test_float32_numbers_read_back(bits):
    value = np.array(bits, np.uint32).view(F32)[()]
    assert eval(unparse(number_text(value, F32, {})), {"float32": np.float32, "inf": np.inf, "nan": np.nan}) == value


def test_extents():
    m = dim("M")
    names = {"M": "M_", "N": "N"}
    assert unparse(extent(N * m - 2 * N - 3, names)) == "M_ * N - 2 * N - 3"
    assert unparse(extent((N + 1) // 2 * m, names)) == "M_ * ((N + 1) // 2)"
    assert unparse(extent(dim_min(N, m) - N, names)) in ("-N + min(M_, N)", "min(M_, N) - N")
    axes = {"i": ast.Name("i"), "j": ast.Name("j")}
    assert unparse(affine(AT_I * -2 + AT_J * N + 5, axes, names)) == "N * j + 5 - 2 * i"


@pytest.mark.parametrize("op", [op.name for op in OPS.values() if op.scalar])
@pytest.mark.parametrize("dtype", ["f4", "i4", "?"])
def test_every_function_of_every_template_can_be_imported(op, dtype):
    tree = ast.parse(template(op, np.dtype(dtype), np.dtype(dtype)).text)
    known = {*names.IMPORTS, "abs", "max", "min"}
    assert {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not n.id.startswith("hole_")} <= known


def test_parentheses_where_needed():
    a, b, c = (ast.Name(letter) for letter in "abc")
    minus, times, less = (template(op, F64, F64) for op in ("subtract", "multiply", "less"))
    assert unparse(fill(minus, (fill(minus, (a, b)), c))) == "a - b - c"
    assert unparse(fill(minus, (a, fill(minus, (b, c))))) == "a - (b - c)"
    assert unparse(fill(times, (fill(minus, (a, b)), fill(template("negative", F64, F64), (c,))))) == "(a - b) * -c"
    assert unparse(fill(template("equal", BOOL, BOOL), (fill(less, (a, b)), c))) == "(a < b) == c"
    assert unparse(call("f", fill(template("where", F64, F64), (a, b, c)))) == "f(b if a else c)"


# calls and the minibatch loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "flags", "expected"),
    [
        ((2, 2, 2), (True, False, True), "gemm(a, b, out, transpose_a=True, beta=1.0)"),
        ((3, 3, 3), (False, True, False), "gemm(a, b, out, transpose_b=True)"),
        ((2, 1, 1), (True, False, False), "gemv(a, b, out, transpose_a=True)"),
        ((1, 2, 1), (False, False, True), "gemv(b, a, out, transpose_a=True, beta=1.0)"),
        ((1, 2, 1), (False, True, False), "gemv(b, a, out)"),
        ((1, 1, 0), (False, False, False), "out[()] = dot(a, b)"),
    ],
)
def test_products(ranks, flags, expected):
    a, b, out = (Buffer(name, F32, (3,) * rank, space) for name, rank, space in
                 zip(("a", "b", "out"), ranks, ("input", "input", "output"), strict=True))  # fmt: skip
    step = Call("matmul", (a, b, out), tuple(zip(("transpose_a", "transpose_b", "accumulate"), flags, strict=True)))
    assert f"    {expected}\n" in emit(Program("test", (), (a, b), (), (out,), (step,)))


def test_an_unknown_routine_is_an_error():
    with pytest.raises(CompileError, match="no library routine solve"):
        emit(Program("test", ("N",), (X,), (), (Y,), (Call("solve", (X, Y), (("accumulate", False),)),)))


def test_batches_are_laid_out_wide_elements_first():
    small, wide = Buffer("small", I8, (N, 3), "input"), Buffer("wide", F64, (N, 2), "input")
    whole = Buffer("whole", F64, (2,), "input")
    offsets, size = row_offsets(Program("test", ("N",), (small, whole, wide), (), (), ()), MinibatchLoop("N"))
    assert (offsets, size) == ({wide: 0, small: 16 * N}, 19 * N)


def test_the_minibatch_loop_sums_scalars_only():
    with pytest.raises(CompileError, match=r"the minibatch loop sums the outputs of test, which must have shape \(\)"):
        loop_text(Program("test", ("N",), (X,), (), (Y,), ()), MinibatchLoop("N"), "test_loop")
