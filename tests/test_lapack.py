"""Factorisations as compiled code calls them, against their reference; and the programs and texts that call them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numba import float32, float64, int32, njit, types, void
from numba.core.errors import TypingError

import graphc
from graphc import Input
from graphc.codegen import lapack
from graphc.ir.factorizations import ROUTINES
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loops import Call
from graphc.ir.program_verify import program_problems
from graphc.task_text import tasks_text

DTYPES = {"float32": float32, "float64": float64}


def buffers(name):
    """How many arrays a routine takes."""
    routine = ROUTINES[name]
    return routine.operands + (routine.work is not None) + 1


def compiled(name, element, ndims, options=""):
    """A compiled function that calls a routine, with the rank of each of its arrays."""
    arguments = ", ".join(f"x{k}" for k in range(buffers(name)))
    flags = "".join(f", {flag}" for flag in ROUTINES[name].flags)
    scope = {"routine": getattr(lapack, name)}
    exec(f"def call({arguments}{flags}):\n    routine({arguments}{flags}{options})\n", scope)
    arrays = [types.Array(element, ndim, "C", readonly=k < ROUTINES[name].operands) for k, ndim in enumerate(ndims)]
    return njit(void(*arrays, *[types.boolean] * len(ROUTINES[name].flags)))(scope["call"])


def called(function, name, *operands, **flags):
    """The result of a routine in memory that was NaN before."""
    routine = ROUTINES[name]
    shapes = [routine.work(operands[0].shape)] if routine.work else []
    shapes.append(routine.result(*(operand.shape for operand in operands)))
    written = [np.full(shape, np.nan, operands[0].dtype) for shape in shapes]
    function(*operands, *written, *flags.values())
    return written[-1]


def matrices(shape, dtype):
    """Positive definite matrices but for the upper triangle, where something else stands."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=shape)
    a = a @ a.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])
    return (a + np.triu(rng.normal(size=shape), 1)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cholesky", "lu", "eigh", "eigvalsh", "svd", "svdvals", "qr"])
def test_factorisations(name, dtype):
    rank = {"cholesky": 3, "lu": 3}.get(name, 2)
    work = [2 - (name == "qr")] if ROUTINES[name].work else []
    function = compiled(name, DTYPES[dtype], (3, *work, rank))
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for n in (0, 1, 2, 5, 40):
        a = matrices((3, n, n), dtype)
        found = called(function, name, a)
        np.testing.assert_allclose(found, ROUTINES[name].reference(a), rtol=tolerance, atol=tolerance * (n + 1))
        # Under NUMBA_DISABLE_JIT the function itself runs.
        np.testing.assert_array_equal(called(getattr(lapack, name), name, a), ROUTINES[name].reference(a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["svd", "svdvals", "qr"])
def test_factorisations_that_are_not_square(name, dtype):
    function = compiled(name, DTYPES[dtype], (2, 2 - (name == "qr"), 1))
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for rows, columns in ((3, 0), (0, 3), (1, 4), (4, 1), (30, 7), (7, 30)):
        if name != "qr" or rows >= columns:
            a = np.random.default_rng(1).normal(size=(rows, columns)).astype(dtype)
            expected = ROUTINES[name].reference(a)
            np.testing.assert_allclose(called(function, name, a), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_systems_and_determinants(dtype):
    triangular, general = (compiled(name, DTYPES[dtype], (3, 3, 3)) for name in ("triangular_solve", "lu_solve"))
    logarithm, sign = (compiled(name, DTYPES[dtype], (3, 1)) for name in ("log_abs_det", "det_sign"))
    tolerance = 1e-3 if dtype == "float32" else 1e-10
    for n, columns in ((0, 2), (3, 0), (1, 1), (3, 2), (50, 1), (30, 40)):
        a, b = matrices((2, n, n), dtype), np.random.default_rng(2).normal(size=(2, n, columns)).astype(dtype)
        for bits in range(8):
            chosen = map(bool, (bits & 1, bits & 2, bits & 4))
            flags = dict(zip(ROUTINES["triangular_solve"].flags, chosen, strict=True))
            scaled = a / n if flags["unit_diagonal"] and n else a
            for function in (triangular, lapack.triangular_solve):
                found = called(function, "triangular_solve", scaled, b, **flags)
                expected = ROUTINES["triangular_solve"].reference(scaled, b, **flags)
                np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
        shuffled = a[:, np.roll(np.arange(n), 1)]  # so that rows are swapped, and in which order matters
        factors = ROUTINES["lu"].reference(shuffled)
        for transpose in (False, True):
            for function in (general, lapack.lu_solve):
                found = called(function, "lu_solve", factors, b, transpose=transpose)
                matrix = shuffled.swapaxes(-1, -2) if transpose else shuffled
                np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=tolerance, atol=tolerance)
        expected = np.linalg.slogdet(shuffled)
        for function in (logarithm, lapack.log_abs_det):
            np.testing.assert_allclose(called(function, "log_abs_det", factors), expected.logabsdet, rtol=1e-4)
        for function in (sign, lapack.det_sign):
            np.testing.assert_array_equal(called(function, "det_sign", factors), expected.sign)


BAD = np.stack([np.eye(2), [[1.0, 5.0], [5.0, 1.0]], [[1.0, 2.0], [2.0, 4.0]], [[np.nan, 0.0], [0.0, 1.0]],
                [[1.0, 0.0], [np.inf, 1.0]], [[np.nan, np.nan], [np.nan, np.nan]]])  # fmt: skip


@pytest.mark.parametrize("name", ["cholesky", "eigh", "eigvalsh", "svd", "svdvals", "qr"])
def test_what_cannot_be_factorised_is_nan_where_the_reference_says_so(name):
    rank = 3 if name == "cholesky" else 2
    work = [2 - (name == "qr")] if ROUTINES[name].work else []
    found, expected = called(compiled(name, float64, (3, *work, rank)), name, BAD), ROUTINES[name].reference(BAD)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(found[3:]).any(axis=tuple(range(1, rank))).all()


def test_singular_systems_are_nan():
    solve, triangular = (compiled(name, float64, (3, 3, 3)) for name in ("lu_solve", "triangular_solve"))
    lu, b = compiled("lu", float64, (3, 3)), np.ones((2, 2, 1))
    stack = np.stack([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]])
    factors = called(lu, "lu", stack)
    np.testing.assert_array_equal(called(solve, "lu_solve", factors, b, transpose=False), [[[np.nan]] * 2, [[1]] * 2])
    flags = {"lower": True, "transpose": False, "unit_diagonal": False}
    assert np.isnan(called(triangular, "triangular_solve", stack[1:], b[1:], **flags)).all()


def test_a_side_that_lapack_cannot_count():
    function = compiled("svdvals", float64, (2, 2, 1))
    a = np.empty((2**31, 0))
    with pytest.raises(OverflowError, match=r"dimension of 2\*\*31 or more"):
        function(a, a, np.empty(0))


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("cholesky", (float64[:, ::1], float32[:, ::1]), "cholesky wants C-contiguous arrays of one float dtype"),
        ("cholesky", (float64[:, :], float64[:, ::1]), "C-contiguous"),
        ("lu", (int32[:, ::1], int32[:, ::1]), "one float dtype, not array"),
        ("eigh", (float64[::1], float64[::1]), "eigh wants matrices"),
    ],
)
def test_operands_that_cannot_be_read(name, arrays, message):
    routine = getattr(lapack, name)

    def call(a, out):
        routine(a, out)

    with pytest.raises(TypingError, match=message):
        njit(void(*arrays))(call)


# programs -------------------------------------------------------------------------------------------------------------

A, B = Input((3, 3), name="a"), Input((3, 2), name="b")


def calls(program, stage="memory"):
    """The names of the library calls of a program."""
    return [step.routine for step in program.graph(stage).steps if isinstance(step, Call)]


def test_one_factorisation_serves_a_system_its_adjoint_and_the_determinant():
    loss = np.sum(np.linalg.solve(A, B)) + np.linalg.slogdet(A).logabsdet + np.sum(np.linalg.solve(A.T, B))
    found = calls(graphc.compile(loss, wrt=[A, B]))
    assert found.count("lu") == 1 and found.count("lu_solve") >= 4


def test_eigenvalues_are_a_part_of_the_vectors_where_both_are_wanted():
    assert calls(graphc.compile(np.sum(np.linalg.eigvalsh(A)))) == ["eigvalsh"]
    assert calls(graphc.compile(np.sum(np.linalg.eigvalsh(A)), wrt=A)) == ["eigh"]
    assert calls(graphc.compile(np.sum(np.linalg.svdvals(A)), wrt=A)) == ["svd"]


def test_transposes_are_flags():
    program = graphc.compile(graphc.solve_triangular(A.T, B, lower=True))
    assert "triangular_solve(a, b, " in program.source and "transpose=True" in program.source
    assert "lower=True" not in program.source


def test_transposed_systems_are_solved_by_the_same_factors():
    outputs = [np.linalg.solve(A.T, B), np.linalg.solve(A, B), np.linalg.inv(A.T), np.linalg.det(A.T)]
    a, b = np.random.default_rng(3).normal(size=(3, 3)), np.random.default_rng(4).normal(size=(3, 2))
    expected = np.linalg.solve(a.T, b), np.linalg.solve(a, b), np.linalg.inv(a.T), np.linalg.det(a)
    program = graphc.compile(outputs)
    assert calls(program).count("lu") == 1
    for found, wanted in zip(program(a=a, b=b), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_the_emitted_text_calls_routines_by_name():
    source = graphc.compile([np.linalg.cholesky(A), np.linalg.solve(A, B)]).source
    assert "from graphc.codegen.lapack import cholesky, lu, lu_solve" in source
    assert "    cholesky(a, cholesky_0)" in source or "    cholesky(a, " in source
    assert "    lu(a, a_lu)" in source
    assert "    lu_solve(a_lu, b, " in source


def test_programs_read_back_and_explain_themselves():
    outputs = [np.linalg.svd(A, compute_uv=False), *np.linalg.qr(A)]
    program = graphc.compile(outputs)
    text = program.ir("memory")
    assert print_program(parse_program(text)) == text
    assert "call qr(a) -> " in text and "_work" in text
    tasks = tasks_text(program.graph("memory"))
    assert "svdvals of a, by the library" in tasks and "works in svdvals_0_work: f64[3,3]" in tasks


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda call: replace(call, operands=call.operands[:-1]), "wants 2 buffers of one dtype"),
        (lambda call: replace(call, operands=(call.operands[0],) * 2), "does not make a: f64"),
        (lambda call: replace(call, flags=(("lower", True),)), "lu wants the flags"),
        (lambda call: replace(call, flags=(("parts", 2),)), "does not run in 2 parts"),
    ],
)
def test_wrong_calls_are_found(change, problem):
    program = graphc.compile(np.linalg.inv(A)).graph("memory")
    assert not list(program_problems(program))
    steps = tuple(change(step) if isinstance(step, Call) and step.routine == "lu" else step for step in program.steps)
    assert any(problem in text for text in program_problems(replace(program, steps=steps)))


ANOTHER_PROCESS = """
import numpy as np, graphc
a = graphc.Input(("N", "N"), name="a")
program = graphc.compile(np.sum(graphc.solve_triangular(np.linalg.cholesky(a), np.linalg.inv(a), lower=True)), wrt=a)
value, grads = program.value_and_grad(a=np.eye(3) * 4)
print(value, grads["a"][1, 1])
"""


def test_machine_code_from_disk_finds_the_library(tmp_path):
    results = []
    for _ in range(2):
        command = [sys.executable, "-c", ANOTHER_PROCESS]
        environment = {"GRAPHC_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        results.append(done.stdout.split())
    assert results[0] == results[1]
    # sum over the diagonal of 4**-1.5, and its slope -1.5 * 4**-2.5
    np.testing.assert_allclose([float(text) for text in results[0]], [3 / 8, -1.5 / 32])
