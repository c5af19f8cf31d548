"""Lanes: which loops have them, what they compute thread by thread, and the instructions that they become."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace

import numpy as np
import pytest
import threads_of_blocks
from gridded import kernels, on_grid
from laned import PROGRAMS, lanes_of
from lowered import Case, expected_values, interpreted
from test_grid import unknown_names

import graphc
from graphc import Input
from graphc.codegen.cuda.emit import emit_cuda
from graphc.ir.barriers import with_barriers
from graphc.ir.errors import CompileValueError
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.ir.loops import Barrier, Kernel, walk
from graphc.passes.lanes import with_lanes


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    about = PROGRAMS[name]
    case = about.case()
    program = on_grid(case.graph)
    verify_program(program)
    assert print_program(parse_program(print_program(program))) == print_program(program)
    assert lanes_of(program) == about.lanes
    assert not unknown_names(emit_cuda(program))
    expected = expected_values(case)
    for found in (interpreted(program, case), threads_of_blocks.run(program, case)):
        for key, want in expected.items():
            np.testing.assert_allclose(found[key].astype(float), want.astype(float), 1e-5, 1e-5)


MOVED = {
    "of 8 bytes": {"ld.global.v2.f64", "st.global.v2.f64"},
    "of 2 bytes": {"ld.global.v4.u32", "st.global.v4.u32"},
    "of a byte": {"ld.global.v2.u32", "st.global.v2.u32"},
    "of several sizes": {"ld.global.v2.f32", "st.global.u16", "st.global.v2.f64"},
    "any number": {"ld.global.v4.f32", "st.global.v4.f32", "ld.global.f32", "st.global.f32"},
    "of halves": {"ld.global.u32", "st.global.u32", "ld.global.u16", "st.global.u16"},
    "long, of bfloat16": {"ld.global.v2.u32", "st.global.v2.u32", "ld.global.u16", "st.global.u16"},
    "rows": {"ld.global.v4.f32", "ld.shared.v4.f32", "st.shared.v4.f32", "st.global.v4.f32"},
}


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
@pytest.mark.parametrize("name", MOVED)
def test_what_lies_side_by_side_is_moved_by_one_instruction(name: str) -> None:
    """And what lanes hold stays in registers."""
    from numba import cuda, types

    (kernel,) = kernels(on_grid(PROGRAMS[name].case().graph, 2, 32)).values()
    ptx, _ = cuda.compile_ptx(kernel.py_func, types.void(*kernel.declared), cc=(8, 0))
    assert set(re.findall(r"\b(?:ld|st)\.(?:global|shared|local)\S*", ptx)) == MOVED[name]


def test_what_is_left_over_is_done_one_by_one() -> None:
    text = emit_cuda(on_grid(PROGRAMS["any number"].case().graph, 1056, 256))
    assert (
        """\
    x_lanes = cuda.local.array(4, float32)
    multiply_0_lanes = cuda.local.array(4, float32)
    part = cuda.blockIdx.x
    first, last = piece(part, 4224, N // 4)
    for group in threads_between(first, last, 256):
        load_4(x, 4 * group, x_lanes)
        for lane in range(4):
            multiply_0_lanes[lane] = exp(x_lanes[lane]) * float32(3.0)
        store_4(multiply_0, 4 * group, multiply_0_lanes)
    first_left, last_left = left_over(4, part, 4224, N)
    for i in threads_between(first_left, last_left, 256):
        multiply_0[i] = exp(x[i]) * float32(3.0)
"""
        in text
    )


def test_lanes_have_common_what_does_not_depend_on_them() -> None:
    x, w = Input(("N", 128), "float32", name="x"), Input(("N",), "float32", name="w")
    graph = graphc.compile(x * w[:, None], target="interpret").graph("partition")
    text = emit_cuda(on_grid(graph, 1056, 256))
    assert (
        """\
        reshape_0_value = reshape_0[i, 0]
        load_4(x, (i, 4 * group), x_lanes)
"""
        in text
    )
    text = emit_cuda(on_grid(PROGRAMS["positions"].case().graph, 1056, 256))
    assert "            i = 4 * group + lane\n" in text


# loops that agree -----------------------------------------------------------------------------------------------------

TWO = """\
program @test(x) {
  input x: f32[66]
  output y: f32[66]
  output z: f32[66]

  kernel y {
    for part in 2 blocks of 4 {
      for i in 66 threads piece part of 2 {
        x = x[i]
        store y[i] = x
      }
      for j in 66 threads piece part of 2 {
        y = y[j]
        twice = multiply(y, 2.0) : f32
        store z[j] = twice
      }
    }
  }

  return y, z
}
"""
LONG = TWO.replace("twice =", "\n        ".join([*(f"e{k} = exp(y) : f32" for k in range(8)), "twice ="]))


def laned(text: str) -> tuple[int, ...]:
    program = parse_program(text)
    (kernel,) = program.steps
    assert isinstance(kernel, Kernel)
    return lanes_of(replace(program, steps=(with_lanes(kernel),)))


def test_loops_through_the_same_pieces_have_the_same_lanes() -> None:
    assert laned(TWO) == (4, 4)
    assert laned(LONG) == (1, 1)


def test_a_block_that_is_alone_has_no_lanes() -> None:
    text = TWO.replace(" piece part of 2", "")
    assert laned(text) == (4, 4)
    assert laned(text.replace("for part in 2", "for part in 1")) == (1, 1)


def test_pieces_of_other_lanes_are_others() -> None:
    """What the rule above is for."""
    case = Case(None, {"x": np.arange(66, dtype=np.float32)})
    text = TWO.replace("      for j", "      barrier\n      for j")
    threads_of_blocks.run(parse_program(text), case)
    torn = parse_program(text.replace("for i in 66 threads piece", "for i in 66 threads by 4 piece"))
    with pytest.raises(threads_of_blocks.RaceError, match="two blocks"):
        threads_of_blocks.run(torn, case)


@pytest.mark.parametrize(("lanes", "barriers"), [("", 0), (" by 4", 1)])
def test_threads_wait_between_loops_of_other_lanes(lanes: str, barriers: int) -> None:
    text = TWO.replace(" piece part of 2", "").replace("for part in 2", "for part in 1").replace("66", "64")
    program = parse_program(text.replace("for i in 64 threads", f"for i in 64 threads{lanes}"))
    (kernel,) = program.steps
    assert isinstance(kernel, Kernel)
    assert [isinstance(each, Barrier) for each in walk(with_barriers(kernel).body)].count(True) == barriers


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("y = y[j]", "y = y[j+1]"),
        ("y = y[j]", "y = y[2*j]"),
        ("y = y[j]", "late = x[j]\n        store z[j] = late\n        y = z[j+4]"),
        ("y = y[j]", "all = x[0]\n        some = isfinite(all) : bool\n        y = y[j] if some"),
    ],
)
def test_what_stands_in_the_way_of_lanes(old: str, new: str) -> None:
    text = TWO.replace("for i in 66 threads piece part of 2", "for i in 66 threads")
    assert laned(text) == (4, 4)
    assert laned(text.replace(old, new))[1] == 1


@pytest.mark.parametrize("kind", ["parallel", "serial"])
def test_lanes_are_of_threads(kind: str) -> None:
    text = TWO.replace(" piece part of 2", "").replace("threads", f"{kind} by 2")
    with pytest.raises(CompileValueError) as caught:
        verify_program(parse_program(text))
    problem = f"has 2 lanes in a loop of kind {kind}: threads run 2, 4, 8 scalar iterations together"
    assert problem in str(caught.value)
    with pytest.raises(CompileValueError, match="has 3 lanes"):
        verify_program(parse_program(TWO.replace("threads piece", "threads by 3 piece")))
