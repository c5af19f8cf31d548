"""Programs on a grid of blocks of threads: what they compute by the interpreter, their text, what is refused."""

from __future__ import annotations

import builtins
import os
import symtable
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import threads_of_blocks
from gridded import on_grid
from lowered import Case, expected_values, interpreted
from op_samples import DTYPES
from test_ops_compiled import FAMILIES, check, check_adjoints, combined, grouped

import graphc
from graphc import Input, Param
from graphc.codegen.cuda.emit import emit_cuda
from graphc.codegen.cuda.totals import Places
from graphc.ir.dims import bind
from graphc.ir.errors import CompileValueError
from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Accumulate, Barrier, Call, Combine, Kernel, Loop, Program, Statement, walk
from graphc.passes.grid import MapToGrid
from graphc.passes.sorting import SORTED_BY_BLOCK
from graphc.passes.stages import rewritten
from graphc.program import declared_program
from graphc.views import View, topological

GOLDEN = Path(__file__).parent / "golden"


def run(case: Case) -> dict[str, np.ndarray]:
    """By the interpreter that knows of no threads, and by the one that runs each, which must agree."""
    program = on_grid(case.graph)
    verify_program(program)
    assert print_program(parse_program(print_program(program))) == print_program(program)
    assert not unknown_names(emit_cuda(program))
    found, by_threads = interpreted(program, case), threads_of_blocks.run(program, case)
    for name, values in found.items():
        assert values.dtype == by_threads[name].dtype
        if values.dtype.kind == "f" and values.size:
            tolerance = 100 * float(np.finfo(values.dtype).eps)
            scale = max(1.0, float(np.nanmax(np.abs(values), initial=0, where=np.isfinite(values))))
            np.testing.assert_allclose(by_threads[name], values, tolerance, tolerance * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(by_threads[name], values)
    return by_threads


def unknown_names(source: str) -> set[str]:
    """What the functions of a module use and nobody defines."""
    table = symtable.symtable(source, "emitted", "exec")
    given = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used = {name for each in table.get_children() if isinstance(each, symtable.Function) for name in each.get_globals()}
    return used - given - {each.get_name() for each in table.get_children()} - set(dir(builtins))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_ops_on_a_grid(family: str, dtype: str) -> None:
    if about := grouped(False)[family, dtype]:
        check(combined(f"{family}_{dtype}", about), about, run=run)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_adjoints_on_a_grid(family: str, dtype: str) -> None:
    check_adjoints(family, dtype, run)


# programs -------------------------------------------------------------------------------------------------------------


def values(views: list[View], wrt: list[View], **feeds: object) -> None:
    """Compare a program on a grid, thread by thread, with the reference: outputs, and the first one's gradients."""
    reference = graphc.compile(views, wrt or None, target="interpret")
    graph = reference.graph("partition")
    blocks = {block.layout.name: block.values for block in reference.params.blocks}
    arrays = {name: np.asarray(value) for name, value in feeds.items()} | blocks
    case = Case(graph, arrays)
    ways = on_grid(graph), on_grid(graph, least=10**18), on_grid(graph, deterministic=True)
    for program in ways:  # on several blocks, on one, and with sums in order
        verify_program(program)
        found, expected = threads_of_blocks.run(program, case), expected_values(case)
        assert found.keys() == expected.keys()
        for name, want in expected.items():
            np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-4, err_msg=name)


RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 5)).astype(np.float32)


@pytest.mark.parametrize("shape", [("N", "M"), ("N", 5), (7, "M"), (7, 5)])
def test_sums_over_rows_of_any_width(shape: tuple[str | int, ...]) -> None:
    x = Input(shape, "float32", name="x")
    loss = np.sum(np.var(x, axis=0)) + np.sum(graphc.logsumexp(x, axis=0)) + np.sum(np.max(x, axis=0))
    values([loss, np.sum(x, axis=0), np.mean(x, axis=1), np.sum(x)], [x], x=X)


@pytest.mark.parametrize("width", [1, 3000])
def test_gradients_of_thin_and_wide_biases(width: int) -> None:
    x, bias = Input(("N", width), "float32", name="x"), Param(np.ones(width, "float32"), name="bias")
    values([np.sum(np.tanh(x + bias) ** 2)], [bias], x=RNG.normal(size=(5, width)).astype(np.float32))


@pytest.mark.parametrize("size", [0, 1])
def test_extents_of_0_and_1(size: int) -> None:
    x = Input(("N", "M"), name="x")
    loss = np.sum(np.exp(x) * np.sum(x, axis=0)) + np.sum(np.sum(x, axis=1) ** 2)
    for shape in ((size, 3), (3, size), (size, size)):
        values([loss, np.sum(x, axis=0), np.sum(x, axis=1)], [x], x=np.ones(shape))


@pytest.mark.parametrize("shape", [(2, 5, 4), (5, 2, 4), ("N", 5, 4), (2, "N", 4), (3, 4, "N")])
def test_stacks_of_rows(shape: tuple[str | int, ...]) -> None:
    """The longer of two outer loops is cut, also where all rows are added up."""
    x, bias = Input(shape, name="x"), Param(np.ones(4), name="bias")
    biased = shape[-1] == 4
    start = x + bias if biased else x
    weights = graphc.softmax(start) * start
    loss = np.sum(weights * weights) + np.max(x)
    sizes = tuple(size if isinstance(size, int) else 3 for size in shape)
    values([loss, weights, np.sum(x, axis=(0, 1))], [x, bias] if biased else [x], x=RNG.normal(size=sizes))


def test_scattering_and_gathering() -> None:
    table, k = Param(X, name="table"), Input(("N",), "int64", name="k")
    rows = table[k]
    summed = np.zeros((7, 5), "float32") + Input((7, 5), "float32", name="start")
    added = summed.at[k].add(rows * 0.5)
    values([np.sum(added * added), np.cumsum(rows, axis=0), added], [table], k=[1, 1, 6, 0, 1], start=X)


N, M = "N", "M"
SCATTERS = {
    "elements": ((40,), (N,), lambda s, k, u: s.at[k].add(u)),
    "rows": ((4, 3), (N, 3), lambda s, k, u: s.at[k].add(u)),
    "rows of any width": ((4, M), (N, M), lambda s, k, u: s.at[k].add(u * 2)),
    "rows of matrices": ((4, 2, 3), (N, 2, 3), lambda s, k, u: s.at[k].add(np.tanh(u))),
    "rows twice": ((4, 2, 3), (N, 3), lambda s, k, u: s.at[k, k % 2].add(u)),
    "columns": ((3, 4), (3, N), lambda s, k, u: s.at[:, k].add(u)),
    "between": ((2, 4, 3), (2, N, 3), lambda s, k, u: s.at[:, k].add(u)),
    "transposed rows": ((4, 3), (3, N), lambda s, k, u: s.at[k].add(u.T)),
    "one row": ((4, 3), (3,), lambda s, k, u: s.at[k].add(u)),
    "a number": ((4, 3), (N,), lambda s, k, u: s.at[k].add(0.1)),
    "a stack of indices": ((4, 3), (N, N, 3), lambda s, k, u: s.at[k[:, None] * k[None, :] % 4].add(u)),
    "along an axis": ((N, 4), (N, 4), lambda s, k, u: np.take_along_axis(s, np.argsort(u, axis=1), axis=1)),
}


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("name", SCATTERS)
def test_sums_at_indices_in_order(name: str, count: int) -> None:
    """The same bits as where one thread adds one after the other."""
    base, shape, declare = SCATTERS[name]
    s, u = Input(base, "float32", name="s"), Input(shape, "float32", name="u")
    view = declare(s, Input((N,), "int64", name="k"), u)
    outputs = [view] if name != "along an axis" else [graphc.grad(np.sum(view * view), s)]
    graph = graphc.compile(outputs, target="interpret").graph("partition")
    sizes = {N: count, M: 5}
    feeds = {
        leaf.name: RNG.lognormal(0, 5, [bind(size, sizes) for size in leaf.shape]).astype(np.float32)
        for leaf in (s, u)
    } | {"k": RNG.integers(-4, 4, count)}
    in_turns = on_grid(graph)
    case = Case(graph, {leaf.name: feeds[leaf.name] for leaf in in_turns.inputs})
    expected = interpreted(in_turns, case)["0"]
    program = on_grid(graph, deterministic=True)
    verify_program(program)
    assert print_program(parse_program(print_program(program))) == print_program(program)
    assert "add_at" in [step.routine for step in program.steps if not isinstance(step, Kernel)]
    assert not [each for each in walked(program) if isinstance(each, Accumulate) and each.atomic]
    for found in (interpreted(program, case), threads_of_blocks.run(program, case)):
        assert found["0"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("how", "dtype"), [("set", "float32"), ("set", "bool"), ("max", "float32"), ("min", "int8"), ("add", "int8")]
)
def test_what_else_happens_at_indices_is_sorted_too(how: str, dtype: str) -> None:
    """Where there is much of it: what threads cannot add up in turns, or at all."""
    s, u = Input((7, 4), dtype, name="s"), Input((N, 4), dtype, name="u")
    k, few = Input((N,), "int64", name="k"), Input((3, 4), dtype, name="few")
    routine = {"set": "set", "max": "maximum", "min": "minimum", "add": "add"}[how] + "_at"
    feeds = {"s": RNG.integers(-3, 3, (7, 4)), "k": RNG.integers(-7, 7, 40), "u": RNG.integers(-3, 3, (40, 4))}
    feeds["few"] = feeds["u"][:3]
    for view, is_sorted in ((getattr(s.at[k], how)(u), True), (getattr(s.at[k[:3]], how)(few), how == "add")):
        graph = graphc.compile(view, target="interpret").graph("partition")
        program = on_grid(graph)
        assert (routine in [step.routine for step in program.steps if isinstance(step, Call)]) == is_sorted
        run(Case(graph, {leaf.name: feeds[leaf.name].astype(leaf.dtype) for leaf in program.inputs}))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("how", ["add", "set", "max", "min"])
def test_what_happens_in_one_row_needs_no_order(how: str, deterministic: bool) -> None:
    s, u = Input((4, M), "float32", name="s"), Input((M,), "float32", name="u")
    view = getattr(s.at[Input((), "int64", name="k")], how)(u)
    graph = graphc.compile(view, target="interpret").graph("partition")
    program = on_grid(graph, deterministic=deterministic)
    assert [step.routine for step in program.steps if isinstance(step, Call)] == ["check_index"]
    case = Case(graph, {"s": RNG.normal(size=(4, 9)).astype("f4"), "u": RNG.normal(size=9).astype("f4"), "k": -1})
    found = threads_of_blocks.run(program, case)
    np.testing.assert_array_equal(found["0"], expected_values(case)["0"])


def test_one_block_at_a_time_sums_columns_too() -> None:
    y = Input((2, "M", "K"), "float32", name="y")
    graph = graphc.compile([np.tanh(y), np.sum(np.tanh(y), axis=0)], target="interpret").graph("partition")
    case = Case(graph, {"y": RNG.normal(size=(2, 9, 5)).astype(np.float32)})
    found = threads_of_blocks.run(on_grid(graph, blocks=1), case)
    np.testing.assert_allclose(found["1"], expected_values(case)["1"], rtol=1e-5)


def test_rows_are_sorted_as_a_whole_where_they_can_be() -> None:
    def sorted_at_once(name: str) -> tuple[object, ...]:
        base, shape, declare = SCATTERS[name]
        leaves = Input(base, "float32", name="s"), Input((N,), "int64", name="k"), Input(shape, "float32", name="u")
        program = on_grid(graphc.compile(declare(*leaves), target="interpret").graph("partition"), deterministic=True)
        (call,) = (step for step in program.steps if isinstance(step, Call) and step.routine == "add_at")
        return call.operands[1].shape

    assert [str(size) for size in sorted_at_once("rows of matrices")] == ["N"]
    assert [str(size) for size in sorted_at_once("a stack of indices")] == ["N", "N"]
    assert [str(size) for size in sorted_at_once("between")] == ["N", "2", "3"]


def test_integers_are_added_in_turns_in_any_case() -> None:
    """Their sums do not depend on the order."""
    s, k = Input((4,), "int32", name="s"), Input((N,), "int64", name="k")
    graph = graphc.compile(s.at[k].add(1), target="interpret").graph("partition")
    assert [each for each in walked(on_grid(graph, deterministic=True)) if isinstance(each, Accumulate) and each.atomic]


SUMS = """\
program @test(k, u) {
  input k: i64[9]
  input u: f32[9]
  output y: f32[4]

  kernel start {
    for i in 4 parallel {
      store y[i] = 0.0
    }
  }

  kernel y {
    for i in 9 serial {
      k = k[i]
      u = u[i]
      y[k] += u
      y[k] += 0.5
    }
  }

  return y
}
"""


def test_what_else_is_added_up_in_order_is_so_on_one_thread() -> None:
    program = parse_program(SUMS)
    kinds = {}
    for deterministic in (False, True):
        mapped = MapToGrid(3, 4, 0, deterministic).run(program)
        verify_program(mapped)
        sums = [each for each in walked(mapped) if isinstance(each, Accumulate)]
        kinds[deterministic] = {each.atomic for each in sums}
    assert kinds == {False: {True}, True: {False}}


def test_rows_that_overlap_are_not_sorted_as_a_whole() -> None:
    text = SUMS
    for old, new in (
        ("      y[k] += 0.5\n", ""), ("f32[9]", "f32[9,2]"), ("u = u[i]", "u = u[i, j]"), ("f32[4]", "f32[5]"),
        ("in 4", "in 5"), ("k = k[i]", "for j in 2 serial {\n      k = k[i]"), ("y[k] += u", "y[k+j] += u\n      }"),
    ):  # fmt: skip
        text = text.replace(old, new)
    feeds = {"k": RNG.integers(0, 4, 9), "u": RNG.lognormal(0, 5, (9, 2)).astype(np.float32)}
    program = MapToGrid(3, 4, 0, deterministic=True).run(parse_program(text))
    verify_program(program)
    assert [step.operands[1].shape for step in program.steps if isinstance(step, Call)][-1] == (9, 2)
    expected = interpret_program(parse_program(text), feeds)["y"]
    np.testing.assert_array_equal(interpret_program(program, feeds)["y"], expected)


def test_what_is_added_in_another_order_is_brought_into_that() -> None:
    text = SUMS.replace("      y[k] += 0.5\n", "").replace("u = u[i]", "u = u[-i+8]")
    feeds = {"k": RNG.integers(0, 4, 9), "u": RNG.lognormal(0, 5, 9).astype(np.float32)}
    program = MapToGrid(3, 4, 0, deterministic=True).run(parse_program(text))
    verify_program(program)
    assert "call add_at" in print_program(program)
    expected = interpret_program(parse_program(text), feeds)["y"]
    np.testing.assert_array_equal(interpret_program(program, feeds)["y"], expected)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda order, positions, values, out: (order, positions, out), "add_at wants four buffers"),
        (lambda order, positions, values, out: (order, order, values, out), "add_at does not bring "),
        (lambda order, positions, values, out: (positions, positions, values, out), "is no order of"),
        (lambda order, positions, values, out: (order, positions, values, values), "add_at stores to the input u"),
    ],
)
def test_malformed_sums_in_order(change, problem: str) -> None:
    s, k = Input((4, 3), "float32", name="s"), Input((2, 2), "int64", name="k")
    u = Input((2, 2, 3), "float32", name="u")
    program = on_grid(graphc.compile(s.at[k].add(u), target="interpret").graph("partition"), deterministic=True)
    call = program.steps[-1]
    assert isinstance(call, Call)
    wrong = replace(call, operands=change(*call.operands))
    with pytest.raises(CompileValueError) as caught:
        verify_program(replace(program, steps=(*program.steps[:-1], wrong), arena=None))
    assert problem in str(caught.value)


@pytest.mark.parametrize(("routine", "is_right"), [("set_at", True), ("add_at", False), ("maximum_at", False)])
def test_nothing_is_computed_on_halves_at_indices(routine: str, is_right: bool) -> None:
    """They are bits there."""
    text = SUMS.replace("f32", "f16").replace("k, u", "k, order, u")
    text = text.replace("  input u", "  input order: i64[9]\n  input u")
    start = text.index("  kernel y {")
    text = text[:start] + f"  call {routine}(order, k, u) -> y\n\n" + text[text.index("  return y") :]
    if is_right:
        verify_program(parse_program(text))
        return
    with pytest.raises(CompileValueError, match=rf"{routine} computes on the halves y: f16\[4\], which are bits there"):
        verify_program(parse_program(text))


def test_long_rows_are_sorted_with_scratch_for_all_of_them() -> None:
    """What a block sorts by itself needs none."""
    x, y = Input(("N", "M"), name="x"), Input((4, SORTED_BY_BLOCK), name="y")
    program = on_grid(graphc.compile([np.argsort(x), np.argsort(y)], target="interpret").graph("partition"))
    verify_program(program)
    scratch = [step.operands[1].shape for step in program.steps if isinstance(step, Call)]
    assert [[str(size) for size in shape] for shape in scratch] == [["3", "N", "M"], [str(SORTED_BY_BLOCK)]]


def test_running_sums_and_their_gradients() -> None:
    x, v = Input(("N", "M"), name="x"), Input(("N",), name="v")
    walk_ = np.cumsum(np.cumsum(x * v[:, None], axis=0), axis=1)
    values([np.sum(walk_ * walk_[::-1]), np.cumsum(v)], [x, v], x=X.astype(float), v=X[:, 0].astype(float))


def _last(scan: Callable[[View], View]) -> Callable[[View], View]:
    return lambda x: scan(x[::-1])[::-1]


SCANS: dict[str, tuple[tuple[str | int, ...], Callable[[View], View], int]] = {
    # what is scanned, how, and how many kernels are in pieces
    "a vector": (("N",), np.cumsum, 2),
    "a long vector": ((130,), np.cumsum, 2),
    "a short vector": ((60,), np.cumsum, 0),
    "from the end": (("N",), _last(np.cumsum), 2),
    "extrema": (("N",), graphc.cummax, 2),
    "of what is computed": (("N",), lambda x: np.cumsum(np.exp(x) * 2), 2),
    "twice": (("N",), lambda x: np.cumsum(np.cumsum(x)), 4),
    "rows": ((5, "N"), lambda x: np.cumsum(x, axis=1), 2),
    "few columns": (("N", 3), lambda x: np.cumsum(x, axis=0), 2),
    "columns": (("N", "M"), lambda x: np.cumsum(x, axis=0), 0),
    "many rows": ((40_000, "N"), lambda x: np.cumsum(x, axis=1), 0),
    "products": (("N",), np.cumprod, 0),
}


@pytest.mark.parametrize("name", SCANS)
def test_few_long_scans_run_in_pieces(name: str) -> None:
    shape, scan, count = SCANS[name]
    x = Input(shape, "float32", name="x")
    graph = graphc.compile([scan(x), graphc.grad(np.sum(scan(x) ** 2), x)], target="interpret").graph("partition")
    forward = on_grid(graphc.compile(scan(x), target="interpret").graph("partition"))
    origins = [step.origin for step in forward.steps if isinstance(step, Kernel)]
    assert sum(", in 4 pieces: " in origin for origin in origins) == count
    if shape[0] == 40_000:
        return
    for size in (0, 1, 3, 17, 50):
        sizes = tuple(each if isinstance(each, int) else size + (each == "M") for each in shape)
        run(Case(graph, {"x": RNG.uniform(-1, 1, sizes).astype(np.float32)}))
        if sizes == shape:
            break


def test_pieces_of_a_scan_are_threads_of_many_blocks() -> None:
    """And nobody waits where they start."""
    source = declared_program(np.cumsum(Input(("N",), "float32", name="x")), None, "cuda").source
    assert "compute_cumsum_0[32, 32, stream](N, cumsum_0_starts, x, cumsum_0)" in source
    start = source.index("def compute_cumsum_0_starts")
    assert "syncthreads" not in source[start : source.index("def compute_cumsum_0(", start)]


@pytest.mark.parametrize("seed", range(24))
def test_random_programs(seed: int) -> None:
    """Sums over both axes, extrema, running sums, gathers and scatters of each other, with gradients."""
    rng = np.random.default_rng(seed)
    shape = ("N", "M") if seed % 2 else (6, 4)
    x, y, v, w = (
        Input(size, "float64", name=name)
        for name, size in (("x", shape), ("y", shape), ("v", shape[:1]), ("w", shape[1:]))
    )
    k = Input(shape[:1], "int64", name="k")
    matrices, rows, columns = [x, y], [v], [w]

    def one_of(views: list[View]) -> View:
        return views[int(rng.integers(len(views)))]

    steps = (
        lambda: matrices.append(one_of(matrices) * one_of(matrices)),
        lambda: matrices.append(np.tanh(one_of(matrices) - one_of(columns) + one_of(rows)[:, None])),
        lambda: rows.append(np.sum(one_of(matrices), axis=1)),
        lambda: columns.append(np.sum(one_of(matrices), axis=0)),
        lambda: columns.append(np.max(one_of(matrices), axis=0)),
        lambda: rows.append(np.max(one_of(matrices), axis=1) * one_of(rows)),
        lambda: matrices.append(one_of(matrices) * np.tanh(np.sum(one_of(matrices)))),
        lambda: matrices.append(0.3 * np.cumsum(one_of(matrices), axis=int(rng.integers(2)))),
        lambda: matrices.append(one_of(matrices)[::-1]),
        lambda: rows.append(one_of(rows).at[k].add(one_of(rows))),
        lambda: matrices.append(one_of(matrices)[k]),
        lambda: matrices.append(one_of(matrices).at[k].add(0.5 * one_of(matrices))),
        lambda: columns.append(0.1 * (one_of(matrices).T @ one_of(rows))),
    )
    for _ in range(int(rng.integers(4, 11))):
        steps[int(rng.integers(len(steps)))]()
    loss = sum(np.sum(np.tanh(view)) for view in (matrices[-1], matrices[-2], rows[-1], columns[-1]))
    feeds = {
        name: rng.normal(size=size)
        for name, size in (("x", (6, 4)), ("y", (6, 4)), ("v", (6,)), ("w", (4,)))
    } | {"k": rng.integers(0, 6, 6)}
    outputs = [loss, matrices[-1], rows[-1], columns[-1]]
    read = {view.name for view in topological(outputs)}
    wrt = [leaf for leaf in (x, y, v, w) if leaf.name in {view.name for view in topological([loss])}]
    values(outputs, wrt, **{name: value for name, value in feeds.items() if name in read})


# what is printed ------------------------------------------------------------------------------------------------------


def softmax_regression() -> graphc.Program:
    x, y = Input(("N", 20), "float32", name="x"), Input(("N",), "int64", name="y")
    weight, bias = Param((20, 3), name="weight", dtype="float32"), Param((3,), name="bias", dtype="float32")
    return declared_program(graphc.cross_entropy(x @ weight + bias, y), "params", "cuda", name="loss")


def layer_norm() -> graphc.Program:
    x = Input(("N", 768), "float32", name="x")
    scale = Param(np.ones(768, "float32"), name="scale")
    centred = x - x.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return declared_program(np.sum(np.tanh(normed * scale)), "params", "cuda", name="layer_norm")


def scatter() -> graphc.Program:
    table, k = Param((9, 4), name="table", dtype="float32"), Input(("N",), "int64", name="k")
    return declared_program(np.sum(table[k] ** 2), "params", "cuda", name="scatter")


@pytest.mark.parametrize("declare", [softmax_regression, layer_norm, scatter])
def test_golden(declare) -> None:
    program = declare()
    text, golden = program.source, GOLDEN / f"cuda_{declare.__name__}.txt"
    if os.environ.get("GRAPHC_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_many_rows_run_on_many_blocks_and_few_on_one() -> None:
    x = Input((1000, 1000), "float32", name="x")
    assert grids(declared_program(np.exp(x) + 1, None, "cuda")) == [3907]
    assert grids(declared_program(np.exp(x[:4, :4]) + 1, None, "cuda")) == [1]


def test_few_long_rows_run_on_many_blocks() -> None:
    x, bias = Input((8, 10**6), "float32", name="x"), Input((10**6,), "float32", name="bias")
    program = declared_program(np.exp(x) + bias, None, "cuda")
    assert "place in threads_over(8 * (last - first), 256)" in program.source


def test_elements_of_matrices_are_those_of_one_vector() -> None:
    x, y = (Input(("N", "M", 3), "float32", name=name) for name in "xy")
    source = declared_program(np.exp(x) + y, None, "cuda").source
    assert "first, last = piece(part, 4224, 3 * (M * N) // 4)" in source
    assert "add_0_flat_lanes[lane] = exp(x_flat_lanes[lane]) + y_flat_lanes[lane]" in source
    assert "add_0_flat[i] = exp(x_flat[i]) + y_flat[i]" in source


def test_rows_of_stacks_are_those_of_one_matrix() -> None:
    x = Input(("T", "T", 64), "float32", name="x")
    assert "piece(part, 16896, T * T)" in declared_program(graphc.softmax(x), None, "cuda").source
    turned = declared_program(graphc.softmax(x) + np.swapaxes(x, 0, 1), None, "cuda").source
    assert "first, last = piece(part, 16896, T)" in turned


def test_stacks_of_rows_keep_many_blocks_busy() -> None:
    x, bias = Input((8, 512, 64), "float32", name="x"), Input((512, 64), "float32", name="bias")
    for view in (graphc.softmax(x + bias), np.sum(graphc.softmax(x + bias) ** 2)):
        assert "piece(part, 512, 512)" in declared_program(view, None, "cuda").source


def test_sums_of_columns_are_combined_by_many_blocks() -> None:
    """Sums of each block's rows, then sums of these, cast to float32."""
    x = Input(("N", 1000), "float32", name="x")
    assert grids(declared_program(np.sum(x, axis=0), None, "cuda")) == [528, 1000]
    assert grids(declared_program([np.sum(x, axis=0), np.sum(x)], None, "cuda")) == [528, 1000]


def test_small_kernels_are_one() -> None:
    x, y = Input((4, 2), name="x"), Input((4, 1), name="y")
    sizes = {"w1": (2, 3), "b1": 3, "w2": (3, 1), "b2": 1}
    w1, b1, w2, b2 = (Param(np.ones(size), name=name) for name, size in sizes.items())
    hidden = graphc.sigmoid(x @ w1 + b1)
    loss = graphc.mse(graphc.sigmoid(hidden @ w2 + b2), y)
    assert grids(declared_program(loss, "params", "cuda")) == [1]
    values([loss], [w1, b1, w2, b2], x=RNG.normal(size=(4, 2)), y=RNG.normal(size=(4, 1)))


def test_small_kernels_move_over_what_they_do_not_touch() -> None:
    """The sums of two kernels with a product between them are put together by one."""
    x, w = Input(("N", 300), "float32", name="x"), Param((300, 200), name="w", dtype="float32")
    first = np.tanh(x)
    views = [np.sum(first, axis=0), np.sum(np.tanh(first @ w), axis=0)]
    steps = declared_program(views, None, "cuda").graph("memory").steps
    assert ["k" if isinstance(step, Kernel) else "c" for step in steps] == ["k", "c", "k", "k"]
    values(views, [], x=RNG.normal(size=(3, 300)).astype(np.float32))


@pytest.mark.parametrize(("width", "columns", "calls"), [(500, 5, 3), (20, 3, 0), (3, 500, 2)])
def test_the_library_multiplies_all_but_the_smallest_matrices(width: int, columns: int, calls: int) -> None:
    """Of three terms an element is written out where it is read."""
    x, w = Input(("N", width), "float32", name="x"), Param((width, columns), name="w", dtype="float32")
    steps = declared_program(np.sum(np.tanh(x @ w)), [x, w], "cuda").graph("memory").steps
    assert sum(isinstance(step, Call) for step in steps) == calls


def test_threads_wait_once_for_each_total() -> None:
    """Totals after each other stand in different places; where a loop has one alone, threads wait before the next."""
    x = Input(("N", 100), "float32", name="x")
    source = declared_program(graphc.softmax(x), None, "cuda").source
    assert "syncthreads" not in source
    assert {"block_max(max_0_total, totals_f32)", "block_sum(sum_0_total, totals_f32_1)"} <= calls(source)
    source = declared_program(np.sum(x, axis=1), None, "cuda").source
    assert source.count("cuda.syncthreads()") == 1
    assert source.index("cuda.syncthreads()") < source.index("= block_sum(")


@pytest.mark.parametrize("count", range(1, 7))
def test_a_place_is_used_again_after_another_total(count: int) -> None:
    totals = [Combine(f"total_{k}", "add") for k in range(count)]
    body = (Loop("i", 5, "serial", tuple(totals)), Combine("last", "add"))
    places = Places.in_body(body)
    order = [places.of[id(each)] for each in (*totals, *totals, body[1])]
    assert bool(places.waiting) == (count == 1)
    assert count == 1 or all(one != other for one, other in pairwise(order))
    assert max(order) <= 2


def calls(source: str) -> set[str]:
    return {line.partition(" = ")[2] for line in source.splitlines()}


def test_rows_shorter_than_a_warp_belong_to_threads() -> None:
    """Each with what it needs, and sums, of its own; wider rows are done by all threads of a block."""
    y, bias = Input(("N",), "int64", name="y"), Param((5,), name="bias", dtype="float32")
    x = Input(("N", 5), "float32", name="x")
    source = declared_program(graphc.cross_entropy(x + bias, y), "params", "cuda").source
    assert "d_params_f32_sums_own = cuda.local.array(5, float64)" in source
    assert "for i in threads_between(first, last, 128):" in source
    wide = declared_program(graphc.softmax(Input(("N", 100), "float32", name="x")), None, "cuda").source
    assert "cuda.local" not in wide


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_sums_of_threads(rows: int) -> None:
    x, y = Input(("N", 3), "float32", name="x"), Input(("N",), "int64", name="y")
    w, bias = Param(X[:3, :4], name="w"), Param(np.zeros(4, "float32"), name="bias")
    logits = np.tanh(x @ w + bias)
    feeds = {"x": RNG.normal(size=(rows, 3)).astype(np.float32), "y": RNG.integers(0, 4, rows)}
    values([graphc.cross_entropy(logits, y), np.max(logits, axis=0), np.prod(x, axis=0)], [w, bias], **feeds)


def test_kernels_whose_blocks_need_each_other_are_two() -> None:
    """Of equally many rows each block finishes its own; cut otherwise, blocks would wait for others."""
    x = Input((400, 300), name="x")
    total = np.sum(x, axis=1)
    assert grids(declared_program([total, np.exp(x) + total[:, None]], None, "cuda")) == [400]
    assert grids(declared_program([total, np.exp(x[:300, :300]) + total[:300]], None, "cuda")) == [400, 300]
    assert grids(declared_program([total, np.exp(x[:300])], None, "cuda")) == [704]


def grids(program: graphc.Program) -> list[int]:
    steps = program.graph("memory").steps
    return [step.grid.extent for step in steps if isinstance(step, Kernel) and step.grid is not None]


def test_what_is_scattered_is_added_in_turns() -> None:
    found = [each for each in statements(scatter()) if isinstance(each, Accumulate) and each.atomic]
    assert found


def test_a_refusal_says_why() -> None:
    x = Input(("N",), name="x")
    refusals = declared_program(np.cumprod(x), None, "cuda").graph("memory").refusals
    reason = "it has no single outermost loop whose iterations are independent"
    assert f"cumprod_0: not on several blocks: {reason}" in refusals


def statements(program: graphc.Program) -> list[Statement]:
    return walked(program.graph("memory"))


def walked(program: Program) -> list[Statement]:
    return [each for step in program.steps if isinstance(step, Kernel) for each in walk(step.body)]


# what is refused ------------------------------------------------------------------------------------------------------


def without(program: Program, kind: type) -> Program:
    """A program without its statements of a kind."""
    steps = [
        replace(step, body=rewritten(step.body, lambda each: () if isinstance(each, kind) else (each,)))
        if isinstance(step, Kernel)
        else step
        for step in program.steps
    ]
    return replace(program, steps=tuple(steps))


def test_a_missing_barrier_is_found() -> None:
    program = softmax_regression().graph("memory")
    assert any(isinstance(each, Barrier) for each in statements(softmax_regression()))
    with pytest.raises(CompileValueError, match="threads of a block do not wait for each other"):
        verify_program(without(program, Barrier))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("for i in 4 threads", "for i in 4 blocks of 4", "has a loop of kind blocks that is not the outermost one"),
        ("store y[i]", "store y[0]", "iterations of the threads loop over i store to the same places of y"),
        ("combine total +=", "combine u +=", "combines u by add: expected an accumulator"),
        ("f32 = 0.0", "f32 = 1.0", "combines the totals total of threads, which do not start from 0"),
    ],
)
def test_what_is_malformed(old: str, new: str, problem: str) -> None:
    text = """\
program @test(x) {
  input x: f32[4]
  output y: f32[4]

  kernel y {
    for block in 1 blocks of 4 {
      var total: f32 = 0.0
      for i in 4 threads {
        v = x[i]
        total += v
      }
      combine total +=
      u = square(total) : f32
      for i in 4 threads {
        store y[i] = u
      }
    }
  }

  return y
}
"""
    verify_program(parse_program(text))
    assert print_program(parse_program(text)) == text
    with pytest.raises(CompileValueError) as caught:
        verify_program(parse_program(text.replace(old, new, 2 if "blocks" in new else 1)))
    assert problem in str(caught.value)


def test_a_missing_total_and_a_missing_barrier_show() -> None:
    """What runs thread by thread sees what the interpreter of loops does not."""
    x = Input(("N", 400), "float32", name="x")
    graph = graphc.compile(np.sum(x, axis=1)[:, None] * x, target="interpret").graph("partition")
    case = Case(graph, {"x": RNG.normal(size=(3, 400)).astype(np.float32)})
    program = on_grid(graph)
    threads_of_blocks.run(program, case)
    broken = threads_of_blocks.run(without(program, Combine), case)
    assert not np.allclose(broken["0"], expected_values(case)["0"])
    text = """\
program @test(x) {
  input x: f32[6]
  arena h: f32[6]
  output y: f32[6]

  kernel y {
    for block in 1 blocks of 4 {
      for i in 6 threads {
        v = x[i]
        store h[i] = v
      }
      for i in 6 threads {
        u = h[-i+5]
        store y[i] = u
      }
    }
  }

  return y
}
"""
    with pytest.raises(threads_of_blocks.RaceError, match=r"(stores and loads|loads and stores) by two threads"):
        threads_of_blocks.run(parse_program(text), Case(graph, {"x": X[0, [0, 1, 2, 3, 4, 0]]}))


def test_a_combined_total_is_one_function_of_the_block() -> None:
    x = Input((64,), "int8", name="x")
    source = emit_cuda(declared_program(np.max(x), None, "cuda").graph("memory"))
    assert "int8(block_max_in_memory(" in source
    assert any(isinstance(each, Combine) for each in statements(declared_program(np.max(x), None, "cuda")))
