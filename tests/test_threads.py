"""Kernels and products on several threads: the same results whoever runs the parts, and none where they do not pay."""

import ctypes
import multiprocessing
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from lowered import Case, assert_same, compiled, expected_values, interpreted
from numba import njit

import graphc
from graphc import SGD, Input, Param, Planner, Trainer
from graphc.codegen import cache, threads
from graphc.codegen.blas import gemm
from graphc.ir.core import INPUT, leaf
from graphc.ir.dims import dim
from graphc.ir.errors import CompileValueError
from graphc.ir.graph import Graph
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.ops import iota, scatter_add
from graphc.ir.types import TensorType
from graphc.passes.fuse import Fuse
from graphc.passes.lower import Lower
from graphc.passes.memory import PlanMemory
from graphc.passes.threads import Split


class Normed(Planner):
    """Rows that are normalised: a loop with row scratch, sums over all rows and columns, a product before it."""

    x = Input(("N", 70), "float32")
    w = Param((70, 70), "glorot_normal", "float32")
    scale = Param((70,), "ones", "float32")
    h = x @ w
    centred = h - h.mean(axis=1, keepdims=True)
    y = np.tanh(centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-5) * scale)
    loss = (y * y * y).mean()
    most = y.max()


F64 = np.dtype("float64")
ROWS = np.random.default_rng(0).normal(size=(3001, 70)).astype(np.float32)


def program(threads):
    return graphc.compile([Normed.loss, Normed.most, Normed.y], wrt=[Normed.x, "w", "scale"], threads=threads)


def test_threads_change_results_by_rounding_only_and_give_the_same_every_time():
    (loss, most, y), expected = program(1).value_and_grad(x=ROWS)
    for count in (2, 3):
        parallel = program(count)
        assert "in_threads(" in parallel.ir("emit", threads=count) and "parts=" in parallel.ir("emit", threads=count)
        (loss_n, most_n, y_n), found = parallel.value_and_grad(x=ROWS)
        assert most_n == most
        np.testing.assert_allclose(loss_n, loss, rtol=1e-6)
        np.testing.assert_allclose(y_n, y, rtol=1e-5, atol=1e-6)
        for name, gradient in expected.items():
            np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-7, err_msg=name)
        (again, _, _), gradients = parallel.value_and_grad(x=ROWS)
        assert again == loss_n
        assert all(np.array_equal(found[name], gradients[name]) for name in found)


def test_parts_run_in_turn_where_another_region_runs():
    """Calls from many Python threads at once: one of them gets the threads, and all get the same results."""
    parallel = program(2)
    (loss, _, _), expected = parallel.value_and_grad(x=ROWS)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: parallel.value_and_grad(x=ROWS), range(16)))
    for (found, _, _), gradients in results:
        np.testing.assert_allclose(found, loss, rtol=1e-6)  # BLAS may use another number of threads
        np.testing.assert_allclose(gradients["scale"], expected["scale"], rtol=1e-4, atol=1e-7)


def in_child(queue):
    queue.put(program(2).value_and_grad(x=ROWS)[0][0])


@pytest.mark.skipif(sys.platform != "linux", reason="fork is the way to start processes on Linux alone")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_no_threads_and_runs_all_the_same():
    expected = program(2).value_and_grad(x=ROWS)[0][0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue,))
    child.start()
    found = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_little_work_is_compiled_for_one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    small_and_large = graphc.compile(Normed.loss * 1.25, threads=2)
    small_and_large(x=ROWS[:3])
    assert len(cache.entries()) == 1
    small_and_large(x=ROWS)
    assert len(cache.entries()) == 2
    serial = graphc.compile(Normed.loss * 1.375, threads=1)
    serial(x=ROWS)
    assert len(cache.entries()) == 3


def test_results_are_the_callers_and_their_memory_is_used_again_when_nobody_holds_it():
    doubled = graphc.compile([Normed.x * 2.0, Normed.x * 3.0], threads=2)

    def call(factor):
        return doubled(x=factor * ROWS)

    first, piece_of_second = call(1.0)[0], call(2.0)[1][7:9, :3]
    call(3.0), call(4.0)
    np.testing.assert_array_equal(first, 2.0 * ROWS)
    np.testing.assert_array_equal(piece_of_second, 6.0 * ROWS[7:9, :3])
    address = call(5.0)[0].ctypes.data
    assert call(6.0)[0].ctypes.data == address
    again = doubled(x=np.concatenate([ROWS, ROWS]))[0]
    np.testing.assert_array_equal(again[len(ROWS) :], 2.0 * ROWS)
    del again
    assert not np.shares_memory(call(1.0)[0], first)


def test_a_trainer_uses_threads_too():
    losses = {}
    for count in (1, 2):
        trainer = Trainer(Normed.loss, SGD(0.1), threads=count)
        losses[count] = [trainer.step(x=ROWS), *trainer.fit({"x": ROWS}, epochs=2, batch_size=1000)["loss"]]
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-5)


# how many ---------------------------------------------------------------------------------------------------------


def test_the_number_of_threads_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("GRAPHC_NUM_THREADS", "5")
    assert threads.thread_count(None) == threads.thread_count(0) == 5
    assert threads.thread_count(3) == 3
    monkeypatch.setenv("GRAPHC_NUM_THREADS", "")
    assert threads.thread_count(None) >= 1
    monkeypatch.setenv("GRAPHC_NUM_THREADS", "many")
    with pytest.raises(CompileValueError, match="GRAPHC_NUM_THREADS is 'many'") as caught:
        graphc.compile(Normed.loss)
    assert "set it to a number of threads" in str(caught.value)


# products -------------------------------------------------------------------------------------------------------------


@njit(nogil=True)
def product(a, b, out, transpose_a, transpose_b, parts):
    gemm(a, b, out, transpose_a, transpose_b, 0.5, 2.0, parts)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stack", [(), (5,), (2, 3)])
def test_products_in_parts(dtype, stack):
    threads.launch()
    rng = np.random.default_rng(1)
    for transpose_a, transpose_b in ((False, False), (True, False), (False, True), (True, True)):
        for m, k, n in ((130, 90, 70), (1, 400, 3000), (300, 0, 300), (3, 2, 1)):
            a = rng.normal(size=(*stack, k, m) if transpose_a else (*stack, m, k)).astype(dtype)
            b = rng.normal(size=(*stack, n, k) if transpose_b else (*stack, k, n)).astype(dtype)
            out = rng.normal(size=(*stack, m, n)).astype(dtype)
            left, right = (x.swapaxes(-1, -2) if flag else x for x, flag in ((a, transpose_a), (b, transpose_b)))
            expected = 0.5 * (left @ right) + 2 * out
            for parts in (2, 3, 7):
                found = out.copy()
                product(a, b, found, transpose_a, transpose_b, parts)
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_whole_product_needs_no_threads_whatever_was_compiled_before():
    """Else a program for one thread, kept on disk, would look for them in a process that has none."""
    a = np.ones((3, 3), np.float32)
    for parts in (False, True, False):

        @njit(nogil=True)
        def multiply(a, out):
            if parts:  # noqa: B023  # compiled in the same turn
                gemm(a, a, out, transpose_a=True, parts=2)
            else:
                gemm(a, a, out, transpose_a=True)

        out = np.empty_like(a)
        threads.launch()
        multiply(a, out)
        np.testing.assert_array_equal(out, 3)
        (text,) = multiply.inspect_llvm().values()
        assert ("graphc_threads" in text) == parts


def test_one_matrix_serves_a_stack():
    matrix, other = Input((40, 50), name="a"), Input((40, 60), name="b")
    stack = Input((3, 40, 60), name="s")
    left = np.swapaxes(np.broadcast_to(matrix, (3, 40, 50)), -1, -2)
    both = graphc.compile([left @ np.broadcast_to(other, (3, 40, 60)), left @ stack])
    rng = np.random.default_rng(0)
    a, b, s = (rng.normal(size=shape) for shape in ((40, 50), (40, 60), (3, 40, 60)))
    for found, right in zip(both(a=a, b=b, s=s), (np.broadcast_to(b, s.shape), s), strict=True):
        np.testing.assert_allclose(found, a.T @ right)
    assert "broadcast" not in graphc.compile(left @ stack).ir("memory")


UNCOMPILED = """
import graphc, numpy as np
x = graphc.Input(("N",), name="x")
doubled = graphc.compile(np.tanh(x) * 2.0, threads=2)
first = doubled(x=np.full(200_000, 0.5))
results = [doubled(x=np.full(200_000, float(k))) for k in range(3)]
assert first[0] == 2 * np.tanh(0.5), first
assert not any(np.shares_memory(a, b) for a, b in zip(results, [first, *results]))
"""


def test_lent_memory_is_not_lent_twice_without_compilation():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", UNCOMPILED], env=environment, check=True, timeout=120)


def test_blas_gets_its_threads_back():
    threads.launch()
    setter, getter = threads._blas_controls()
    if not setter:
        pytest.skip("this BLAS does not say how many threads it uses")
    count = ctypes.CFUNCTYPE(ctypes.c_int)(getter)
    before = count()
    a = np.ones((300, 300), np.float32)
    product(a, a, np.empty_like(a), False, False, 2)
    assert count() == before


# splitting ------------------------------------------------------------------------------------------------------------


def split(graph, parts=3):
    return PlanMemory().run(Split(parts, least=0).run(Fuse().run(Lower().run(graph))))


def test_a_split_program_reads_as_it_prints():
    parallel = program(2).graph("memory", threads=2)
    text = print_program(parallel)
    assert print_program(parse_program(text)) == text
    assert "for part in 2 threads {" in text and "reduce piece part of 2 {" in text


def test_what_cannot_be_split_says_why():
    n = dim("N")
    values, where = leaf(INPUT, TensorType(F64, (n,))), iota(shape=(n,), axis=0, dtype=np.dtype("int64"))
    graph = Graph("s", (values,), (), (scatter_add(values, values, where, axes=(0,)),), names={values: "x"})
    assert any("not split over threads: it has no single outermost loop" in text for text in split(graph).refusals)


def test_few_rows_are_fewer_than_parts():
    """Some parts have nothing to do: their sums are what a sum of nothing is."""
    view = graphc.compile([Normed.loss, Normed.most], wrt=["scale"])
    graph = view.graph("partition")
    for rows in (1, 2):
        feeds = {"x": ROWS[:rows]} | {
            block.name: np.random.default_rng(1).normal(size=tuple(map(int, block.shape))).astype(block.dtype)
            for block in view.graph("memory").params
        }
        case = Case(graph, feeds)
        parallel = split(graph)
        expected = expected_values(case)
        threads.launch()
        for found in (interpreted(parallel, case), compiled(parallel, case)):
            assert_same(found, expected, ulp=2000, magnitude=1.0)


SPLIT = """
program @p(x) dims(N) {
  input x: f64[N]
  arena total_parts: f64[2]
  output y: f64[N]
  row scratch: f64[1]

  kernel y {
    for part in 2 threads {
      var total: f64 = 0.0
      for i in N reduce piece part of 2 {
        u = x[i]
        store y[i] = u
        total += u
      }
      store total_parts[part] = total
    }
  }

  return y
}
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("total_parts[part] =", "total_parts[0] =", "the threads loop over part store to the same places"),
        ("store y[i] = u", "store y[0] = u", "the threads loop over part store to the same places"),
        ("u = x[i]", "u = y[N-1-i]", "reads y before it is written"),
        ("piece part of 2", "piece part of 3", "shares i between other parts than a loop around it has"),
        ("part in 2 threads", "part in N threads", "of no fixed extent"),
        ("total += u", "total += u store scratch[0] = u", "shares the row scratch scratch between threads"),
    ],
)
def test_a_malformed_split_program_is_refused(old, new, problem):
    verify_program(parse_program(SPLIT))
    assert SPLIT.count(old) == 1
    with pytest.raises(CompileValueError, match=re.escape(problem)):
        verify_program(parse_program(SPLIT.replace(old, new)))


TILED = """
program @p(x) dims(N) {
  input x: f64[N]
  output y: f64[N]

  kernel y {
    for part in 2 threads {
      for tile in 2*N reduce piece part of 2 {
        for i in N reduce piece tile of 2*N {
          u = x[i]
          store y[i] = u
        }
      }
    }
  }

  return y
}
"""


def test_pieces_may_be_of_pieces():
    verified = parse_program(TILED)
    verify_program(verified)
    assert print_program(verified) == TILED.lstrip()
    for old, new, problem in (
        ("piece part of 2", "", "the threads loop over part store to the same places"),
        ("piece tile of 2*N", "piece tile of N", "shares i between other parts than a loop around it has"),
    ):
        with pytest.raises(CompileValueError, match=re.escape(problem)):
            verify_program(parse_program(TILED.replace(old, new)))


def test_column_sums_of_tiles_are_those_of_rows():
    program = graphc.compile([np.sum(Normed.x, axis=0), np.sum(Normed.x, axis=1)], name="sums")
    graph = program.graph("partition")
    for rows in (0, 1, 63, 200):
        case = Case(graph, {"x": ROWS[:rows]})
        expected = expected_values(case)
        for parts in (1, 2, 3):
            found = split(graph, parts)
            assert " tile in " in print_program(found)
            for values in (interpreted(found, case), compiled(found, case)):
                assert_same(values, expected, ulp=200, magnitude=1.0)


def test_the_text_is_for_a_number_of_threads():
    with pytest.raises(CompileValueError, match="threads is a number of threads, 1 or more, got 0"):
        program(2).ir("emit", threads=0)
