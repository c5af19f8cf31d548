"""The CUDA target without a GPU: kernels in numba-cuda's simulator and as PTX, and what is said when it cannot run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gridded import kernels, on_grid
from numba.core import config
from test_ops_compiled import FAMILIES, adjoint, combined, grouped

import graphc
from graphc import SGD, Input, Param, Trainer
from graphc.ir.errors import CompileValueError

TESTS = Path(__file__).parent
QUICK = ("indexing", "product", "rule")


def simulate(*arguments: str) -> None:
    """Run tests of programs on a device in the simulator, which must be chosen before numba is imported."""
    options = ["-q", "-x", "-p", "no:cacheprovider", *arguments]
    command = [sys.executable, "-m", "pytest", TESTS / "test_on_device.py", *options]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=TESTS.parent, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout.splitlines()[-1]


@pytest.mark.full
def test_programs_in_the_simulator() -> None:
    """`test_emulated.py` runs them on the emulated device."""
    simulate("-k", "not test_ops and not test_adjoints")


@pytest.mark.parametrize("test", ["test_ops", "test_adjoints"])
def test_ops_in_the_simulator(test: str) -> None:
    """Of float32 here; of all dtypes below."""
    simulate("-k", f"{test} and float32")


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float64", "int8", "int64", "uint16", "bool"])
def test_all_dtypes_in_the_simulator(dtype: str) -> None:
    simulate("-k", dtype)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        pytest.param(family, dtype, marks=[] if family in QUICK and dtype == "float32" else [pytest.mark.full])
        for family in FAMILIES
        for dtype in ("float32", "float64", "int8", "int64", "uint8", "uint32", "uint64", "bool")
    ],
)
def test_kernels_compile_to_ptx(family: str, dtype: str, capability: tuple[int, int]) -> None:
    from numba import cuda, types

    about = grouped(False)[family, dtype]
    cases = [combined(f"{family}_{dtype}", about)] if about else []
    if about and dtype == "float32":
        cases.append(adjoint(f"adjoint_{family}_{dtype}", about)[0])
    for case in cases:
        for name, kernel in kernels(on_grid(case.graph, 1056, 256)).items():
            ptx, _ = cuda.compile_ptx(kernel.py_func, types.void(*kernel.declared), cc=capability)
            assert f".target sm_{capability[0]}{capability[1]}" in ptx, name


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint64"])
def test_what_host_functions_launch_compiles_to_ptx(dtype: str) -> None:
    from numba import cuda, from_dtype, types

    from graphc.codegen.cuda.functions import add_to_total, find_outside, next_step, take_batch

    element = from_dtype(np.dtype(dtype))
    matrix, indices, scalar = element[:, ::1], element[::1], types.Array(types.float64, 0, "C")
    integers, floats, flags = types.int64[::1], types.float64[::1], types.int32[::1]
    for function, arguments in (
        (find_outside, (indices, types.int64, flags, types.int64)),
        (take_batch, (matrix, integers, integers, matrix)),
        (next_step, (integers, floats, floats, integers, integers, scalar, scalar, integers)),
        (add_to_total, (types.Array(element, 0, "C"), types.int64, integers, types.float64[:, ::1], types.int64)),
    ):
        ptx, _ = cuda.compile_ptx(function.py_func, types.void(*arguments), cc=(8, 0))
        assert ".target sm_80" in ptx


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "uint64"])
def test_sorting_compiles_to_ptx(dtype: str, capability: tuple[int, int]) -> None:
    """Within the shared memory that a block has on every card."""
    from numba import cuda, from_dtype, types

    from graphc.codegen.cuda.sorting import combine_runs, find_places, merge_runs, sort_tiles

    keys, order, size = from_dtype(np.dtype(dtype))[::1], types.int64[::1], types.int64
    for function, arguments in (
        (sort_tiles, (keys, size, keys, order)),
        (merge_runs, (keys, order, size, size, keys, order)),
        (find_places, (keys, keys, types.boolean, order)),
        (combine_runs, (types.int64, order, order, keys, keys)),
    ):
        ptx, _ = cuda.compile_ptx(function.py_func, types.void(*arguments), cc=capability)
        assert f".target sm_{capability[0]}{capability[1]}" in ptx
        assert sum(map(int, re.findall(r"\.shared .*\[(\d+)\];", ptx))) <= 48 * 1024


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factorisations_compile_to_ptx(dtype: str, capability: tuple[int, int]) -> None:
    from numba import cuda, from_dtype, types

    from graphc.codegen.cuda import factorizations

    a, size, flag = from_dtype(np.dtype(dtype))[::1], types.int64, types.boolean
    for name, arguments in (
        ("factor_cholesky", (a, size, a)),
        ("factor_lu", (a, size, a)),
        ("solve_triangle", (a, a, size, size, flag, flag, flag, a)),
        ("solve_by_lu", (a, a, size, size, flag, a)),
        ("log_determinants", (a, size, a)),
        ("determinant_signs", (a, size, a)),
    ):
        kernel = getattr(factorizations, name)
        ptx, _ = cuda.compile_ptx(kernel.py_func, types.void(*arguments), cc=capability)
        assert f".target sm_{capability[0]}{capability[1]}" in ptx
        if dtype == "float32" and name != "log_determinants":
            assert not re.search(r"(fma|mul|add|sub|div|sqrt)\.rn\.f64", ptx)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_products_of_integers_compile_to_ptx(dtype: str, capability: tuple[int, int]) -> None:
    from numba import cuda, from_dtype, types

    from graphc.codegen.cuda.products import multiply_tiles

    matrix, sizes = from_dtype(np.dtype(dtype))[::1], types.UniTuple(types.int64, 3)
    arguments = (matrix, matrix, matrix, sizes, sizes, sizes, types.boolean, types.boolean)
    ptx, _ = cuda.compile_ptx(multiply_tiles.py_func, types.void(*arguments), cc=capability)
    assert f".target sm_{capability[0]}{capability[1]}" in ptx


@pytest.mark.skipif(config.ENABLE_CUDASIM, reason="the simulator is a device")
class TestNoDevice:
    """What is said without a GPU."""

    def test_no_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(CompileValueError) as caught:
            graphc.compile(Input((3,), name="x") + 1, target="cuda")
        assert str(caught.value) == (
            "the target 'cuda' needs numba-cuda, which is not installed\n"
            '  pip install "graphc[cuda]", or use target="cpu"'
        )

    def test_no_gpu(self) -> None:
        from numba import cuda

        if cuda.is_available():
            pytest.skip("there is a GPU")
        weight = Param(np.ones(3), name="weight")
        for ask in (
            lambda: graphc.compile(weight * 2, target="cuda"),
            lambda: Trainer(np.sum(weight), SGD(0.1), target="cuda"),
        ):
            with pytest.raises(CompileValueError) as caught:
                ask()
            assert str(caught.value) == (
                "the target 'cuda' found no NVIDIA GPU that works (nvidia-smi lists those that the driver knows)\n"
                '  use target="cpu", or NUMBA_ENABLE_CUDASIM=1 to run kernels slowly in Python'
            )


def test_the_processor_needs_no_cuda() -> None:
    """A program for the CPU imports nothing of CUDA."""
    code = (
        "import sys, numpy, graphc; x = graphc.Input((3,), name='x');"
        "graphc.compile(x + 1)(x=numpy.ones(3));"
        "assert not [name for name in sys.modules if name.startswith(('cuda.', 'numba.cuda.cudadrv', 'nvmath'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TESTS.parent)
