"""Every derivative rule of every op, made a little wrong: the checks of `op_checks` must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from op_checks import check_adjoint, check_differences, smooth_samples
from op_samples import Sample

from graphc.ir.core import Bilinear, Custom, Derivative, Linear, Node, Op, Partials, PiecewiseConstant
from graphc.ir.ops import OPS

WRONG = 1.01  # one percent


def spoilt(value: Any) -> Any:
    """A derivative, or those in a tuple, one percent too large; a support stays as it is."""
    if isinstance(value, tuple):
        return tuple(spoilt(one) for one in value)
    if isinstance(value, Node) and not value.type.is_float:
        return value
    return None if value is None else value * WRONG


def spoilt_rule(rule: Any) -> Any:
    """A rule whose result is spoilt."""
    return (lambda *args: spoilt(rule(*args))) if callable(rule) else spoilt(rule)


def mutants(derivative: Derivative) -> Iterator[tuple[str, Derivative]]:
    """The derivative with one of its rules spoilt, for each of them."""
    match derivative:
        case Partials(rules):
            for k, rule in enumerate(rules):
                if rule is not None and not (isinstance(rule, float | int) and rule == 0):
                    yield f"partial {k}", Partials((*rules[:k], spoilt_rule(rule), *rules[k + 1 :]))
        case Linear():
            yield "transpose", replace(derivative, transpose=spoilt_rule(derivative.transpose))
        case Bilinear(left, right):
            yield "left", Bilinear(spoilt_rule(left), right)
            yield "right", Bilinear(left, spoilt_rule(right))
        case Custom(jvp, vjp):
            yield "jvp", Custom(spoilt_rule(jvp), vjp)
            yield "vjp", Custom(jvp, spoilt_rule(vjp))


def moved(case: Sample, op: Op) -> Sample:
    """The sample with another op in its place."""
    return replace(case, node=op(*case.node.operands, **dict(case.node.attrs)))


def is_noticed(case: Sample, checks: tuple[Callable[[Sample], None], ...]) -> bool:
    """Whether some check fails."""
    for check in checks:
        try:
            check(case)
        except AssertionError:
            return True
    return False


SAMPLED = {name: smooth_samples(name, ("float64",)) for name in OPS}
MUTANTS = [
    pytest.param(name, wrong, id=f"{name}-{rule}")
    for name, op in OPS.items()
    if SAMPLED[name]
    for rule, wrong in mutants(op.derivative)
]


@pytest.mark.parametrize(("name", "wrong"), MUTANTS)
def test_a_spoilt_rule_is_noticed(name: str, wrong: Derivative) -> None:
    mutant = replace(OPS[name], derivative=wrong)
    assert any(is_noticed(moved(case, mutant), (check_adjoint, check_differences)) for case in SAMPLED[name])


def test_every_op_with_rules_has_mutants() -> None:
    covered = {parameters.values[0] for parameters in MUTANTS}
    smooth = {name for name in OPS if SAMPLED[name]}
    assert {name for name in smooth if not isinstance(OPS[name].derivative, PiecewiseConstant)} == covered
