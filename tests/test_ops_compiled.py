"""Every op and its adjoint as machine code against the interpreter: one program per family and dtype."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from lowered import Case, assert_same, combined, compiled, expected_values, stages
from op_samples import DTYPES, SAMPLES, N, Sample, draw, samples

from graphc.ir.core import INPUT, Discrete, leaf
from graphc.ir.graph import Graph
from graphc.ir.loop_verify import verify_program
from graphc.ir.ops import OPS, derivative_of
from graphc.passes.simplify import Simplify
from graphc.passes.transforms import gradient

FAMILIES = {
    "reduction": ("sum", "any", "all", "max", "min", "argmax", "argmin", "norm", "logsumexp", "softmax", "log_softmax"),
    "layout": ("broadcast_to", "transpose", "reshape", "slice", "pad", "concatenate", "constant", "extent", "iota"),
    "indexing": ("gather", "scatter_add", "scatter_set", "scatter_max", "scatter_min", "wrap_index"),
    "product": ("matmul",),
    "rule": ("custom_vjp", "cotangent"),
    "linalg": (
        "cholesky", "triangular_solve", "solve", "log_abs_det", "det_sign", "eigh", "eigvalsh", "svd", "svdvals", "qr",
    ),
    "scan": ("prod", "cumsum", "cumprod", "recurrence", "cummax", "cummin"),
    "sorting": ("argsort", "searchsorted"),
}
FAMILIES["elementwise"] = tuple(name for name in OPS if not any(name in names for names in FAMILIES.values()))
# What the quick tests compile: of the others, dtypes of the same kind.
QUICK = {
    "elementwise": ("float32", "float64", "int8", "bool"),
    "reduction": ("float32", "int8", "bool"),
    "layout": ("float32", "bool"),
    "indexing": ("float32", "uint8"),
    "product": ("float32", "int32"),
    "rule": ("float32",),
    "linalg": ("float32",),
    "scan": ("float32",),
    "sorting": ("float64",),
}
# Families of which the quick tests compile every other sample.
HALVED = ("reduction", "indexing", "linalg", "scan", "sorting")
# Of elementwise ops the quick tests compile the special values, but all shapes of these.
ALL_SHAPES = ("add", "where", "cast", "not_equal")
# The shapes whose adjoints are compiled, where that is not all.
ADJOINTS = {"elementwise": ((5,), (4,)), "linalg": ((3, 3), (N, 3, 2))}
# Which zero is the larger one NumPy leaves to the processor.
TIES = ("maximum", "minimum", "max", "min", "scatter_max", "scatter_min")
# Their terms may cancel.
SUMS = ("sum", "matmul", "logsumexp", "log_softmax", "norm", "softmax", "scatter_add", "cumsum", "recurrence")
# So may those of these below 0.
BELOW_ZERO = ("gammaln", "digamma", "polygamma", "logaddexp", "logaddexp2")
ULP = 8
# How much larger than rounding the errors of what is solved may be.
CONDITION = 30


def dtype_of(sample: Sample) -> str:
    """The dtype that a sample is about: of the first operand that is no condition."""
    dtypes = [operand.dtype.name for operand in sample.node.operands]
    return next((name for name in dtypes if name != "bool"), "bool") if dtypes else sample.node.dtype.name


def defined(sample: Sample) -> Sample:
    """The sample without what machines do not agree on: casts of negative floats to unsigned integers."""
    if sample.node.op.name == "cast" and sample.node.dtype.kind == "u" and sample.arrays[0].dtype.kind == "f":
        return replace(sample, arrays=(np.abs(sample.arrays[0]),))
    return sample


@cache
def grouped(full: bool) -> dict[tuple[str, str], list[Sample]]:
    """The samples of each family and dtype."""
    groups = defaultdict(list)
    for family, names in FAMILIES.items():
        for name in names:
            for k, sample in enumerate(map(defined, samples(name))):
                special = family != "elementwise" or name in ALL_SHAPES or not sample.smooth
                if full or (special and (family not in HALVED or k % 2 == 0)):
                    groups[family, dtype_of(sample)].append(sample)
    return groups


Run = Callable[[Case], dict[str, np.ndarray]]


def as_machine_code(case: Case) -> dict[str, np.ndarray]:
    program = stages(case.graph)["memory"]
    verify_program(program)
    return compiled(program, case)


def check(case: Case, about: list[Sample], cancel: bool = False, run: Run = as_machine_code) -> None:
    """Run a program of several samples and compare each of its results with the interpreter's."""
    found, expected = run(case), expected_values(case)
    assert found.keys() == expected.keys()
    for place, sample in enumerate(about):
        name = sample.node.op.name
        magnitude = largest(sample.arrays) if cancel or name in SUMS else int(name in BELOW_ZERO)
        if name in FAMILIES["linalg"]:
            magnitude = CONDITION * largest((*sample.arrays, expected[str(place)]))
        result, want = {str(sample): found[str(place)]}, {str(sample): expected[str(place)]}
        assert_same(result, want, ULP, magnitude, zeros=name not in TIES)


def largest(arrays: tuple[np.ndarray, ...]) -> float:
    """The largest absolute value, at least 1."""
    return max((float(np.max(np.abs(array))) for array in arrays if array.size and array.dtype.kind == "f"), default=1)


def cases() -> Iterator[pytest.ParameterSet]:
    for family in FAMILIES:
        for dtype in DTYPES:
            marks = [] if dtype in QUICK[family] else [pytest.mark.full]
            yield pytest.param(family, dtype, marks=marks)


def test_every_op_is_in_a_family():
    assert sorted(name for names in FAMILIES.values() for name in names) == sorted(SAMPLES)


@pytest.mark.parametrize(("family", "dtype"), [*cases()])
def test_compiled_ops_give_the_interpreters_values(family, dtype):
    if about := grouped(False)[family, dtype]:
        check(combined(f"{family}_{dtype}", about), about)


@pytest.mark.full
@pytest.mark.parametrize("family", ["elementwise", *HALVED])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_ops_in_all_shapes(family, dtype):
    about = grouped(True)[family, dtype]
    if about:
        check(combined(f"all_{family}_{dtype}", about), about)


# adjoints -------------------------------------------------------------------------------------------------------------


def adjoint(name: str, about: list[Sample]) -> tuple[Case, list[Sample]]:
    """One graph with the cotangents of the float operands of every sample, for a random cotangent of the result."""
    rng = np.random.default_rng(0)
    names, feeds, outputs, kept = {}, {}, [], []
    for place, sample in enumerate(about):
        node = sample.node
        wrt = [operand for operand in node.operands if operand.type.is_float]
        if not sample.smooth or not wrt or isinstance(derivative_of(node), Discrete) or not node.type.is_float:
            continue
        seed = leaf(INPUT, node.type)
        found = gradient(node, wrt, seed)
        arrays = (*sample.arrays, draw(rng, seed.type))
        for k, (operand, array) in enumerate(zip((*node.operands, seed), arrays, strict=True)):
            names[operand] = f"x{place}_{k}"
            feeds[names[operand]] = array
        for cotangent in found:
            if cotangent is not None:
                outputs.append(cotangent)
                kept.append(sample)
    graph = Graph(name, tuple(names), (), tuple(outputs), names=names)
    return Case(graph, feeds), kept


def adjoint_cases() -> Iterator[pytest.ParameterSet]:
    for family in FAMILIES:
        for dtype in ("float32", "float64"):
            quick = dtype == ("float64" if family == "elementwise" else "float32")
            yield pytest.param(family, dtype, marks=[] if quick else [pytest.mark.full])


def check_adjoints(family: str, dtype: str, run: Run = as_machine_code) -> None:
    """Run the adjoints of a family and compare each cotangent with the interpreter's."""
    elementwise = family == "elementwise"
    shapes = ADJOINTS.get(family)
    about = [
        each for each in grouped(elementwise)[family, dtype] if shapes is None or each.node.operands[0].shape in shapes
    ]
    case, kept = adjoint(f"adjoint_{family}_{dtype}", about)
    expected = expected_values(case)
    found = run(replace(case, graph=Simplify().run(case.graph)))
    for place, sample in enumerate(kept):
        result, want = {str(sample): found[str(place)]}, {str(sample): expected[str(place)]}
        magnitude = max(1, largest((expected[str(place)],))) * (CONDITION if family == "linalg" else 1)
        assert_same(result, want, 2 * ULP, magnitude=magnitude)


@pytest.mark.parametrize(("family", "dtype"), [*adjoint_cases()])
def test_compiled_adjoints_give_the_interpreters_values(family, dtype):
    check_adjoints(family, dtype)
