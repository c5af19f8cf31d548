"""Every op from the registry: its meaning against NumPy, its derivative against differences and against itself."""

from __future__ import annotations

import numpy as np
import pytest
from op_calls import gradients, run, x_of
from op_checks import check_adjoint, check_differences, check_second_order, smooth_samples
from op_samples import FLOATS, SAMPLES, elementwise, sample, samples, tensor

from graphc.ir import ops
from graphc.ir.core import INPUT, PARAM, Discrete, Literal, Op, PiecewiseConstant, leaf
from graphc.ir.interpret import interpret
from graphc.ir.ops import OPS, derivative_of

F64 = np.float64


# the registry ---------------------------------------------------------------------------------------------------------


def test_every_op_has_samples_and_the_table_no_others():
    assert set(SAMPLES) == set(OPS)


def test_every_op_is_in_the_table_under_its_name():
    public = {name: op for name, op in vars(ops).items() if isinstance(op, Op)}
    assert {op.name: op for op in public.values()} == OPS
    assert all(name in (op.name, f"{op.name}_") for name, op in public.items())
    assert INPUT not in OPS.values() and PARAM not in OPS.values()


@pytest.mark.parametrize("name", OPS)
def test_the_type_rule_and_the_meaning_agree(name):
    for case in samples(name):
        interpret(case.graph, case.feeds)  # asserts dtype and shape


def _public_numpy(name):
    op = OPS[name]
    functions = {public: getattr(np, public, None) for public in op.numpy}
    names = [public for public, function in functions.items() if isinstance(function, np.ufunc) and function.nout == 1]
    return names if op.is_elementwise else []


@pytest.mark.parametrize("name", [name for name in OPS if _public_numpy(name)])
def test_elementwise_meaning_is_that_of_numpys_functions(name):
    for case in samples(name):
        expected = [getattr(np, public) for public in _public_numpy(name)]
        if name in ("floor", "ceil", "rint", "trunc", "integer_power") and case.node.dtype.kind != "f":
            continue  # NumPy's rint is a float
        with np.errstate(all="ignore"):
            for function in expected:
                extra = (case.node["n"],) if name == "integer_power" else ()
                result = np.asarray(function(*case.arrays, *extra))
                if result.dtype == case.node.dtype:  # float_power is always float64
                    found = interpret(case.graph, case.feeds)[0]
                    np.testing.assert_allclose(found, result, rtol=1e-15 if result.dtype == F64 else 2e-7)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.is_elementwise])
def test_scalar_templates_are_expressions_in_the_operands_and_attributes(name):
    for case in samples(name):
        numbers = [value for _, value in case.node.attrs if isinstance(value, int)]
        text = OPS[name].scalar.format(*(f"x{k}" for k in range(len(case.arrays))), *numbers)
        compile(text, name, "eval")
        assert all(f"x{k}" in text for k in range(len(case.arrays)))


PLAIN = [name for name, op in OPS.items() if op.is_elementwise and not any(c.isalpha() for c in op.scalar)]


@pytest.mark.parametrize("name", PLAIN)
def test_templates_of_operators_keep_the_dtype_and_the_meaning(name):
    for case in samples(name):
        if case.arrays[0].ndim == 1:
            (expected,) = interpret(case.graph, case.feeds)
            with np.errstate(all="ignore"):
                found = [_operator(OPS[name].scalar, elements) for elements in zip(*case.arrays, strict=True)]
            np.testing.assert_array_equal(np.array(found, case.node.dtype), expected)
            assert all(np.asarray(element).dtype == case.node.dtype for element in found)


def _operator(template, elements):
    names = {f"x{k}": element for k, element in enumerate(elements)}
    return eval(template.format(*names), names)


# derivatives ----------------------------------------------------------------------------------------------------------

SMOOTH = [name for name in OPS if smooth_samples(name, FLOATS)]


@pytest.mark.parametrize("name", SMOOTH)
def test_reverse_and_forward_mode_are_adjoint(name):
    for case in smooth_samples(name, FLOATS):
        check_adjoint(case)


@pytest.mark.parametrize("name", sorted({*SMOOTH} - {"stop_gradient"}))
def test_forward_mode_is_the_limit_of_differences(name):
    for case in smooth_samples(name, ("float64",)):
        check_differences(case)


@pytest.mark.parametrize("name", SMOOTH)
def test_second_order_forward_over_reverse_is_the_limit_of_differences_of_the_gradient(name):
    for case in smooth_samples(name, ("float64",)):
        check_second_order(case)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.expand])
def test_expansions_mean_the_same_in_primitive_ops(name):
    for case in samples(name):
        expansion = OPS[name].expand(case.node)
        assert expansion.type == case.node.type
        found, expected = run([expansion, case.node], dict(zip(case.node.operands, case.arrays, strict=True)))
        eps = np.finfo(found.dtype).eps if found.dtype.kind == "f" else 0
        np.testing.assert_allclose(found, expected, rtol=20 * eps, atol=10 * eps)


@pytest.mark.parametrize("name", ["broadcast_to", "transpose", "reshape", "slice", "pad", "concatenate", "anchor"])
def test_linear_ops_carry_a_boolean_support(name):
    for case in samples(name):
        if case.node.dtype == F64:
            support = leaf(INPUT, case.node.type.with_dtype("bool"))
            carried = case.node.op.derivative.transpose(case.node, support)
            assert [node.type for node in carried] == [x.type.with_dtype("bool") for x in case.node.operands]
            ones = np.ones(interpret(case.graph, case.feeds)[0].shape, bool)
            feeds = {support: ones, **dict(zip(case.node.operands, case.arrays, strict=True))}
            counts = gradients(case.node, dict(zip(case.node.operands, case.arrays, strict=True)))
            for mask, count in zip(run(carried, feeds), counts, strict=True):
                np.testing.assert_array_equal(mask, count != 0)


def test_where_sends_its_cotangent_to_the_branch_taken():
    condition, yes, no, ct = x_of((2,), "bool"), x_of((2,)), x_of((2,)), x_of((2,))
    node = ops.where(condition, yes, no)
    nothing, *parts = node.op.derivative.vjp(node, ct)
    taken, other = run(parts, {condition: np.array([True, False]), ct: np.array([np.inf, np.nan])})
    assert nothing is None
    np.testing.assert_array_equal([taken, other], [[np.inf, 0], [0, np.nan]])


def test_a_sum_carries_its_support_and_a_gather_drops_it():
    x, k = x_of((2, 3)), x_of((4,), "int64")
    total, support = ops.sum_(x, axes=(0,)), x_of((3,), "bool")
    (carried,) = total.op.derivative.transpose(total, support)
    np.testing.assert_array_equal(run([carried], {support: np.array([True, False, True])})[0], [[1, 0, 1]] * 2)
    picked = ops.gather(x, k, axes=(1,))
    assert picked.op.derivative.transpose(picked, x_of((4, 2), "bool")) == (None, None)


def test_casts_are_linear_between_floats_and_discrete_else():
    x = x_of((2,), "float32")
    wide = ops.cast(x, dtype=np.dtype("float64"))
    assert not isinstance(derivative_of(wide), Discrete)
    ct, support = x_of((2,)), x_of((2,), "bool")
    assert wide.op.derivative.transpose(wide, ct) == (ops.cast(ct, dtype=np.dtype("float32")),)
    assert wide.op.derivative.transpose(wide, support) == (support,)
    assert isinstance(derivative_of(ops.cast(x, dtype=np.dtype("int32"))), Discrete)
    assert isinstance(derivative_of(ops.cast(x_of((2,), "bool"), dtype=np.dtype("float32"))), Discrete)


def test_piecewise_constant_ops_say_so():
    flat = {name for name, op in OPS.items() if isinstance(op.derivative, PiecewiseConstant)}
    assert flat == {
        "floor", "ceil", "rint", "trunc", "sign", "step", "floor_divide", "stop_gradient", "constant", "extent", "iota",
        "cotangent",
        "det_sign",
    }  # fmt: skip


def test_attributes_and_constants_intern():
    x = x_of((2,))
    assert ops.sum_(x, axes=(0,)) is ops.sum_(x, axes=(0,))
    assert ops.constant(value=Literal(0.0), shape=()) is not ops.constant(value=Literal(-0.0), shape=())


def test_samples_cover_every_float_dtype_of_elementwise_ops():
    rng = np.random.default_rng(0)
    assert {case.node.dtype.name for case in elementwise(1, ops.exp, rng)} == set(FLOATS)
    assert sample(ops.log, rng, tensor((100,))).arrays[0].min() > 0
