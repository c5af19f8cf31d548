"""Products by blocks of rows in the kernels that read them: what merges, what does not and why, and equal results."""

import os
import random
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from lowered import Case, assert_same, compiled, expected_values, interpreted
from numba import njit

import graphc
from graphc import SGD, Dense, Input, Param, Planner, Trainer, cross_entropy, softmax
from graphc.codegen import threads
from graphc.codegen.emit import emit
from graphc.ir.errors import CompileValueError
from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Call, Kernel
from graphc.passes import fuse
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower
from graphc.passes.memory import PlanMemory
from graphc.passes.row_blocks import SMALL, in_row_blocks
from graphc.passes.rows import BLOCK, TILE, blocks
from graphc.passes.threads import Split, work


class Network(Planner):
    """Two layers, the loss of a softmax, and their adjoint: sums of columns by tiles too."""

    x = Input(("N", 40), "float32")
    y = Input(("N",), "int64")
    hidden = x | Dense(64) | np.tanh
    logits = hidden | Dense(24)
    loss = cross_entropy(logits, y)


WEIGHTS = "hidden.dense.weight", "hidden.dense.bias", "logits.dense.weight", "logits.dense.bias"


def expressions(dtype):
    """Outputs whose products all have a kernel that reads them row by row."""
    x, z = Input(("N", 40), dtype, "x"), Input(("N", 24), dtype, "z")
    w, v = Param((40, 24), "glorot_normal", dtype, "w"), Param((24, 24), "glorot_normal", dtype, "v")
    product = x @ w
    return [
        np.tanh(x @ w[:, ::-1] + w[0]),
        softmax(z @ v, axis=1),
        np.exp(product), product @ w.T,  # read twice
        np.square(z @ w.T - x),
        np.sum(np.square((z @ v.T) @ w.T + 1.0), axis=0),  # a product of a product
    ]  # fmt: skip


def products(program):
    return [product for step in program.steps if isinstance(step, Kernel) for product in step.products]


def calls(program):
    return [step for step in program.steps if isinstance(step, Call) and step.routine == "matmul"]


def planned(graph, parts):
    fused = Fuse().run(Lower().run(graph))
    return PlanMemory().run(Split(parts, least=0).run(fused) if parts > 1 else fused)


def feeds_of(program, rows):
    rng = np.random.default_rng(rows)
    feeds = {}
    for leaf in (*program.graph("memory").inputs, *program.graph("memory").params):
        shape = tuple(size if isinstance(size, int) else rows for size in leaf.shape)
        values = rng.integers(0, 24, shape) if leaf.dtype.kind == "i" else rng.normal(size=shape) / 3
        feeds[leaf.name] = values.astype(leaf.dtype)
    return feeds


ROWS = 0, 1, 130, 1000


def check(program, case, ulp, magnitude):
    """A program gives the values of a graph: also by the interpreter, where that does not take too long."""
    expected = expected_values(case)
    assert_same(compiled(program, case), expected, ulp, magnitude)
    if len(case.feeds["x"]) <= 130:
        assert_same(interpreted(program, case), expected, ulp, magnitude)


@pytest.mark.parametrize(("dtype", "parts"), [("float32", 1), ("float64", 3)])
def test_forward_programs_give_the_values_of_the_graph(dtype, parts):
    program = graphc.compile(expressions(dtype), name="forward")
    graph = program.graph("partition")
    found = planned(graph, parts)
    verify_program(found)
    assert len(products(found)) == 6 and len(calls(found)) == 1, print_program(found)
    threads.launch()
    for rows in ROWS:
        check(found, Case(graph, feeds_of(program, rows)), ulp=200, magnitude=10.0)


@pytest.mark.parametrize("parts", [1, 3, pytest.param(2, marks=pytest.mark.full)])
def test_joint_programs_give_the_values_of_the_graph(parts):
    program = graphc.compile(Network.loss, wrt=[Network.x, *WEIGHTS])
    graph = program.graph("partition")
    found = planned(graph, parts)
    verify_program(found)
    text = print_program(found)
    assert print_program(parse_program(text)) == text
    assert [product.transpose_b for product in products(found)] == [False, False, True]
    threads.launch()
    for rows in ROWS:
        check(found, Case(graph, feeds_of(program, rows)), ulp=400, magnitude=1.0)


@pytest.mark.full
def test_the_same_every_time_and_by_rounding_the_same_for_every_number_of_threads():
    feeds = feeds_of(graphc.compile(Network.loss), 3000)
    feeds = {name: feeds[name] for name in ("x", "y")}
    (loss, gradients), *others = (
        graphc.compile(Network.loss, wrt="params", threads=count).value_and_grad(**feeds) for count in (1, 2, 3)
    )
    for found, values in others:
        np.testing.assert_allclose(found, loss, rtol=1e-5)
        for name, value in gradients.items():
            np.testing.assert_allclose(values[name], value, rtol=1e-3, atol=1e-6, err_msg=name)
    program = graphc.compile(Network.loss, wrt="params", threads=2)
    (first, one), (second, two) = (program.value_and_grad(**feeds) for _ in range(2))
    assert first == second and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_trainer_steps_in_row_blocks():
    feeds = feeds_of(graphc.compile(Network.loss), 3000)
    losses = []
    for count in (1, 2):
        trainer = Trainer(Network.loss, SGD(0.1), threads=count)
        losses.append([float(trainer.step(x=feeds["x"], y=feeds["y"])) for _ in range(3)])
        losses[-1] += trainer.fit({name: feeds[name] for name in ("x", "y")}, epochs=2, batch_size=500)["loss"]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[0][4] < losses[0][0]


def test_compiled_code_of_users_calls_products_in_kernels():
    program = graphc.compile(Network.loss, wrt=["logits.dense.bias"])
    feeds = feeds_of(program, 300)
    x, y = feeds["x"], feeds["y"]
    weights = [np.asarray(program.params[name]) for name in program.params]

    @njit
    def twice(x, y, a, b, c, d):
        return 2 * function(x, y, a, b, c, d)[0]

    function = program.njit
    np.testing.assert_allclose(twice(x, y, *weights), 2 * program(x=x, y=y), rtol=1e-6)


UNCOMPILED = """
import graphc, numpy as np
x, w = graphc.Input(("N", 64), name="x"), graphc.Param(np.ones((64, 64)), name="w")
feed = np.linspace(-1, 1, 64_000).reshape(1000, 64)
program = graphc.compile(np.cos(x @ w), threads=2)
assert "rows_of" in program.ir("emit", threads=2)
np.testing.assert_allclose(program(x=feed), np.cos(feed @ np.ones((64, 64))))
"""


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "GRAPHC_PARANOID"])
def test_row_blocks_without_compilation_and_with_every_pass_checked(setting):
    subprocess.run([sys.executable, "-c", UNCOMPILED], env={**os.environ, setting: "1"}, check=True, timeout=120)


def test_blas_keeps_to_one_thread_and_without_control_of_it_parts_run_in_turn(monkeypatch):
    program = graphc.compile(Network.loss, wrt="params", threads=2)
    assert "), serial_blas=True)" in program.ir("emit", threads=2)
    assert "serial_blas" not in program.ir("emit")
    feeds = feeds_of(program, 3000)
    feeds = {name: feeds[name] for name in ("x", "y")}
    loss, gradients = program.value_and_grad(**feeds)
    monkeypatch.setattr(threads._TABLE, "set_blas", 0)
    again, others = program.value_and_grad(**feeds)
    np.testing.assert_allclose(again, loss, rtol=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(others[name], gradient, rtol=1e-3, atol=1e-6)


def grown(choose):
    """A random program of products and what may follow them: by rows, over rows, and at other rows."""
    x, z = (Input(("N", 24), "float64", name) for name in "xz")
    weights = [Param((24, 24), "glorot_normal", "float64", f"w{k}") for k in range(3)]
    values = [x, z]
    for _ in range(choose.randint(3, 9)):
        a, c, w, v = choose.choice(values[-4:]), choose.choice(values), choose.choice(weights), choose.choice(weights)
        forms = (
            lambda: a @ w, lambda: a @ w.T, lambda: a @ w + c @ v, lambda: np.tanh(a + w[0]), lambda: a * c,  # noqa: B023
            lambda: a - a.mean(axis=1, keepdims=True), lambda: softmax(a, axis=1), lambda: np.tanh(a)[::-1],  # noqa: B023
            lambda: a + np.sum(c, axis=0) * 0.1,  # noqa: B023
        )  # fmt: skip
        values.append(choose.choice(forms)())
    outputs = [np.sum(np.tanh(values[-1])), *choose.sample(values[2:], 2)]
    return graphc.compile(outputs, wrt=choose.sample([x, z, *weights], 3), name="grown")


@pytest.mark.filterwarnings("ignore::graphc.GraphcWarning")
def test_random_programs_in_small_blocks_keep_their_values(monkeypatch):
    for module in ("rows", "row_blocks"):
        monkeypatch.setattr(f"graphc.passes.{module}.TILE", 2)
        monkeypatch.setattr(f"graphc.passes.{module}.BLOCK", 4)
    several = 0
    for seed in range(12):
        choose = random.Random(seed)
        program = grown(choose)
        graph = program.graph("partition")
        case = Case(graph, feeds_of(program, choose.choice((0, 1, 3, 9, 14))))
        expected = expected_values(case)
        largest = max(float(np.max(np.abs(value), initial=1)) for value in expected.values())
        for parts in (1, 2, 3):
            found = planned(graph, parts)
            verify_program(found)
            assert_same(interpreted(found, case), expected, ulp=2000, magnitude=largest)
        several += any(len(step.products) > 1 for step in found.steps if isinstance(step, Kernel))
    assert several > 1


# what merges ----------------------------------------------------------------------------------------------------------


def test_no_product_needs_more_memory_than_before(monkeypatch):
    for view, wrt in ((Network.loss, "params"), (Network.logits, None), (softmax(Network.logits), None)):
        program = graphc.compile(view, wrt=wrt)
        merged = planned(program.graph("partition"), 1)
        with monkeypatch.context() as patched:
            patched.setattr(fuse, "in_row_blocks", lambda steps, refusals: steps)
            apart = planned(program.graph("partition"), 1)
        assert products(merged) and not products(apart)
        assert merged.arena.size == apart.arena.size
        assert len(merged.buffers) == len(apart.buffers)


IN_PLACE = """
program @p(x) params(w) {{
  input x: f64[5,5]
  param w: f64[5,5]
  arena a: f64[5,5]
  arena h: f64[5,5]
  output y: f64[5,5]

  kernel a {{ for i in 5 parallel {{ for j in 5 parallel {{ u = x[i, j] v = exp(u) : f64 store a[i, j] = v }} }} }}

  kernel y {{
    for block in 3 parallel {{
      matmul({operands}, transpose_b=false, accumulate=false) -> h piece block of 3
      for i in 5 serial piece block of 3 {{
        for j in 5 serial {{ u = h[i, j] v = {other}[i, j] s = add(u, v) : f64 store y[i, j] = s }}
      }}
      {after}
    }}
  }}

  return y
}}
"""
AFTER = "for k in 5 serial piece block of 3 { for l in 5 serial { r = h[k, l] } }"


@pytest.mark.parametrize(
    ("operands", "other", "after", "left"),
    [
        ("a, w", "a", "", {"h"}),  # its rows are multiplied before the result takes their place
        ("x, a", "a", "", {"a"}),  # all of it is a factor of every block
        ("a, w", "x", "", {"a"}),
        ("x, a", "x", AFTER, {"a", "h"}),  # the product is read again behind the result
    ],
)
def test_a_result_takes_the_memory_of_rows_that_are_not_needed_any_more(operands, other, after, left):
    program = parse_program(IN_PLACE.format(operands=operands, other=other, after=after))
    verify_program(program)
    planned_ = PlanMemory().run(program)
    verify_program(planned_)
    assert {buffer.name for buffer in planned_.buffers if buffer.space == "arena"} == left
    feeds = {name: np.random.default_rng(k).normal(size=(5, 5)) for k, name in enumerate("xw")}
    expected, found = (interpret_program(each, feeds)["y"] for each in (program, planned_))
    np.testing.assert_array_equal(found, expected)


def test_the_work_of_a_kernel_counts_its_products():
    program = graphc.compile(Network.hidden)
    (kernel,) = program.graph("fuse").steps
    (product,) = kernel.products
    assert work(kernel).bind({"N": 1000}) > work(product.whole).bind({"N": 1000}) == 1000 * 40 * 64 * 15


@pytest.mark.parametrize(("rows", "parts"), [(0, 1), (1, 2), (127, 1), (128, 1), (1000, 3), (1024, 2)])
def test_blocks_have_few_rows_and_parts_have_equally_many(rows, parts):
    count = blocks(rows, parts)
    limits = [k * rows // count for k in range(count + 1)]
    assert max(np.diff(limits)) <= BLOCK and count % parts == 0
    tiled = count * (BLOCK // TILE)
    ends = [k * rows // tiled for k in range(tiled + 1)]
    assert max(np.diff(ends)) <= TILE and set(limits) <= set(ends)


def refusals(*outputs, **options):
    """Why products stand by themselves."""
    program = graphc.compile(list(outputs), **options).graph("fuse")
    assert calls(program) and not products(program)
    return [text for text in program.refusals if "row blocks" in text]


X, W = Input(("N", 64), "float32", "x"), Param((64, 64), "ones", "float32", "w")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([np.tanh(X @ Param((64, SMALL // 64 + 64), "ones", name="v"))],
         "matmul_0: not multiplied in row blocks of tanh_0: v has 36,864 elements, and from 32,768 on blocks"),
        ([np.tanh(X @ Input((64, "M"), "float32", "m"))], "m may be large"),
        ([np.tanh(Input((500, 64), "float32", "y") @ W)], "500 rows are few: fewer than 4 blocks"),
        ([np.tanh(X.T @ X)], "its rows are columns of x"),
        ([np.tanh(Input(("B", "N", 64), "float32", "s") @ Input(("B", 64, 64), "float32", "t"))],
         "it is not one product of two matrices"),
        ([np.tanh((X @ W)[::-1])], "matmul_0 is read at other rows than the loop's own"),
        ([np.tanh((X @ W).reshape((-1,)))], "it has N rows, and the kernel's loop 64*N"),
        ([Input((7, 64), "float32", "o").at[Input(("N",), "int64", "k")].add(X @ W)],
         "the kernel's loop cannot be cut: it has no single outermost loop whose iterations are independent"),
        ([np.tanh((Input(("N", 64), "int64", "k") @ Param((64, 64), "ones", "int64", name="u")) * 2.0)],
         "the library has no products of int64"),
    ],
)  # fmt: skip
def test_refusals_say_why(outputs, reason):
    assert any(reason in text for text in refusals(*outputs)), refusals(*outputs)


def test_a_product_that_another_step_reads_first_stays():
    program = parse_program(PROGRAM.format(steps=f"""
      call matmul(x, w, {FLAGS}) -> h
      call matmul(h, w, {FLAGS}) -> g
      {KERNEL}"""))
    found = []
    assert in_row_blocks(program.steps, found) == program.steps
    assert found == ["h: not multiplied in row blocks of y: another step reads h before"]


@pytest.mark.parametrize(
    ("between", "kernel", "reason"),
    [
        ("kernel w { for j in 40 parallel { for k in 40 parallel { store w[j, k] = 0.0 } } }", "",
         "w is stored to before"),
        ("", "for j in 40 serial { store w[i, j] = 0.0 }", "w is stored to meanwhile"),
        ("", "for j in 40 serial { store h[i, j] = 0.0 }", "h is stored to meanwhile"),
        ("", "v = h[0, 0] store y[i, 0] = v", "h is read at other rows than the loop's own"),
    ],
)  # fmt: skip
def test_what_changes_meanwhile_keeps_a_product_apart(between, kernel, reason):
    kernel = KERNEL.replace("// more", kernel)
    program = parse_program(PROGRAM.format(steps=f"call matmul(x, w, {FLAGS}) -> h {between} {kernel}"))
    found = []
    assert in_row_blocks(program.steps, found) == program.steps
    assert found == [f"h: not multiplied in row blocks of y: {reason}"]


FLAGS = "transpose_a=false, transpose_b=false, accumulate=false"
KERNEL = "kernel y { for i in N parallel { for j in 40 serial { u = h[i, j] store y[i, j] = u } // more\n } }"
PROGRAM = """
program @p(x) params(w) dims(N) {{
  input x: f64[N,40]
  param w: f64[40,40]
  arena h: f64[N,40]
  arena g: f64[N,40]
  output y: f64[N,40]
  {steps}
  return y
}}
"""


def test_sums_of_products_add_up_in_one_kernel():
    program = parse_program(PROGRAM.format(steps=f"""
      call matmul(x, w, {FLAGS}) -> h
      call matmul(x, w, {FLAGS.replace("te=false", "te=true").replace("b=false", "b=true")}) -> h
      {KERNEL}"""))  # fmt: skip
    (kernel,) = in_row_blocks(program.steps, [])
    assert [product.accumulate for product in kernel.products] == [False, True]
    merged = PlanMemory().run(replace(program, steps=(kernel,)))
    verify_program(merged)
    x, w = np.random.default_rng(0).normal(size=(300, 40)), np.random.default_rng(1).normal(size=(40, 40))
    found = interpret_program(merged, {"x": x, "w": w})["y"]
    np.testing.assert_allclose(found, x @ w + x @ w.T)
    assert "beta=1.0)" in emit(merged)


# the language ---------------------------------------------------------------------------------------------------------

BLOCKS = """program @p(x, v) params(w) dims(N) {
  input x: f64[N,3]
  input v: f64[4,3]
  param w: f64[3,3]
  output y: f64[N,3]
  arena h: f64[N,3]

  kernel y {
    for part in 2 threads {
      for block in 2*N serial piece part of 2 {
        matmul(x, w, transpose_b=true, accumulate=false) -> h piece block of 2*N
        for tile in 6*N serial piece block of 2*N {
          for i in N parallel piece tile of 6*N {
            for j in 3 serial {
              u = h[i, j]
              store y[i, j] = u
            }
          }
        }
      }
    }
  }

  return y
}
"""
PRODUCT = "matmul({}, transpose_b=true, accumulate=false) -> {} piece block of 2*N"


def test_a_product_reads_back_and_runs():
    program = parse_program(BLOCKS)
    assert print_program(program) == BLOCKS
    verify_program(program)
    x, w = np.random.default_rng(0).normal(size=(7, 3)), np.random.default_rng(1).normal(size=(3, 3))
    for planned_ in (program, PlanMemory().run(program)):
        found = interpret_program(planned_, {"x": x, "w": w, "v": np.ones((4, 3))})["y"]
        np.testing.assert_allclose(found, x @ w.T)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("h piece block of 2*N", "h piece block of N", "shares the rows of h between other parts than a loop around"),
        ("h piece block of 2*N", "h piece part of 3", "shares the rows of h between other parts than a loop around"),
        ("matmul(x, w, transpose_b=true", "matmul(x, v, transpose_b=false",
         "the product of x: f64[N,3] and v: f64[4,3] does not exist"),
        ("matmul(x, w", "matmul(x, r", "multiplies in the row scratch r"),
        ("matmul(x, w", "matmul(x, z", "reads z before it is written"),
        ("accumulate=false", "accumulate=true", "reads h before it is written"),
        ("-> h", "-> x", "matmul stores to the input x"),
        ("matmul(x, w", "matmul(h, w", "matmul stores to h while it reads it"),
        ("serial piece part of 2", "serial", "races: iterations of the threads loop over part store to"),
        ("u = h[i, j]", "u = h[j, j]", "touches h at other rows than a product of pieces does"),
        ("6*N", "3*N", "touches h at other rows than a product of pieces does"),
        ("store y[i, j] = u", "store y[i, j] = u store h[0, j] = u", "races: iterations of the threads loop over part"),
        ("        for tile", f"{PRODUCT.format('h, w', 'y')} for tile", None),
        ("        for tile", f"{PRODUCT.format('x, h', 'q')} for tile",
         "touches h at other rows than a product of pieces does"),
        ("store y[i, j] = u", "store y[i, j] = u store w[i, j] = u",
         "touches w at other rows than a product of pieces does"),
    ],
)  # fmt: skip
def test_a_malformed_product_is_refused(old, new, problem):
    text = BLOCKS.replace("\n\n", "\n  arena q: f64[N,N]\n  arena z: f64[3,3]\n  row r: f64[3,3]\n\n", 1)
    verify_program(parse_program(text))
    assert old in text
    program = parse_program(text.replace(old, new))
    if problem is None:
        verify_program(program)
        return
    with pytest.raises(CompileValueError, match=re.escape(problem)):
        verify_program(program)


def test_a_product_that_every_part_computes_is_a_race():
    text = BLOCKS.replace("serial piece part of 2", "serial").replace("store y[i, j]", "store y[part, j]")
    text = text.replace("N parallel", "N serial")
    problem = "races: iterations of the threads loop over part store to the same places of h"
    with pytest.raises(CompileValueError, match=problem):
        verify_program(parse_program(text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("matmul(x", "gemm(x", "there is no statement gemm(...): a kernel calls matmul, and names scalars"),
        ("(x, w, transpose_b", "(x, transpose_b", "a product in a kernel wants two matrices, and true or false for"),
        ("=false) -> h", "=2) -> h", "a product in a kernel wants two matrices, and true or false for"),
        ("-> h piece block of 2*N", "-> h", "expected 'piece', and whose: a product stands for some of its rows"),
    ],
)
def test_errors_in_a_product_say_what(old, new, message):
    with pytest.raises(CompileValueError, match=re.escape(message)):
        parse_program(BLOCKS.replace(old, new))
