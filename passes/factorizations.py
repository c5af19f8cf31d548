"""Factorisations: library calls, on factors that are computed once for all that solve with them.

``solve(a, b)``, its adjoint ``solve(a, ct, transpose=True)`` and the determinant of a read one LU of a; of a matrix
that is a transpose it is the LU of what was transposed, and the flag turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from graphc.ir import ops
from graphc.ir.core import Node, Op
from graphc.ir.factorizations import ROUTINES
from graphc.ir.loops import Buffer, Straight
from graphc.passes.products import is_transpose
from graphc.passes.stages import axes_of, identity

if TYPE_CHECKING:
    from graphc.passes.lower import Lowering


def lower_factorization(lowering: Lowering, node: Node) -> None:
    """The call of the routine that has the op's name."""
    _call(lowering, node.op.name, node, *(lowering.materialised(operand) for operand in node.operands))


def lower_triangular_solve(lowering: Lowering, node: Node) -> None:
    """The upper triangle of a transpose is the lower one of what was transposed."""
    matrix, turned = _untransposed(node.operands[0])
    flags = dict(node.attrs)
    flags |= {name: node[name] != turned for name in ("lower", "transpose")}
    _call(lowering, "triangular_solve", node, *map(lowering.materialised, (matrix, node.operands[1])), **flags)


def lower_solve(lowering: Lowering, node: Node) -> None:
    """Two triangular systems, by the factors."""
    matrix, turned = _untransposed(node.operands[0])
    operands = _factors(lowering, matrix), lowering.materialised(node.operands[1])
    _call(lowering, "lu_solve", node, *operands, transpose=node["transpose"] != turned)


def lower_determinant(lowering: Lowering, node: Node) -> None:
    """A property of the factors: a transpose has the same determinant."""
    matrix, _ = _untransposed(node.operands[0])
    _call(lowering, node.op.name, node, _factors(lowering, matrix))


def lower_values(whole: Op) -> Callable[[Lowering, Node], None]:
    """The lowering of eigenvalues, or singular values, alone: a part of the vectors' call where that is made anyway."""

    def lower(lowering: Lowering, node: Node) -> None:
        shared = whole(*node.operands)
        if shared not in lowering.graph.steps:
            lower_factorization(lowering, node)
            return
        lowering.lower(shared)
        axes = axes_of(node)
        body: list[Straight] = []
        value = lowering.read(shared, identity(axes), body)  # the values come first
        lowering.stage(node, axes, body, value)

    return lower


def _untransposed(matrix: Node) -> tuple[Node, bool]:
    """What a matrix is the transpose of, and whether it is one."""
    return (matrix.operands[0], True) if is_transpose(matrix) else (matrix, False)


def _factors(lowering: Lowering, matrix: Node) -> Buffer:
    """The LU of a matrix: computed once."""
    if matrix not in lowering.factors:
        given = lowering.materialised(matrix)
        shape = ROUTINES["lu"].result(matrix.shape)
        assert shape is not None
        factors = Buffer(lowering.new_name(f"{given.name}_lu"), matrix.dtype, shape, "arena")
        lowering.call("lu", (given, factors))
        lowering.factors[matrix] = factors
    return lowering.factors[matrix]


def _call(lowering: Lowering, name: str, node: Node, *operands: Buffer, **flags: bool) -> None:
    """Add the call that computes a node, with memory to work in."""
    work, written = ROUTINES[name].work, [lowering.settle(node)]
    if work is not None:
        shape = work(operands[0].shape)
        written.insert(0, Buffer(lowering.new_name(f"{lowering.names[node]}_work"), node.dtype, shape, "arena"))
    lowering.call(name, (*operands, *written), tuple((flag, flags[flag]) for flag in ROUTINES[name].flags))


FACTORIZATIONS = {
    "cholesky": lower_factorization,
    "triangular_solve": lower_triangular_solve,
    "solve": lower_solve,
    "log_abs_det": lower_determinant,
    "det_sign": lower_determinant,
    "eigh": lower_factorization,
    "eigvalsh": lower_values(ops.eigh),
    "svd": lower_factorization,
    "svdvals": lower_values(ops.svd),
    "qr": lower_factorization,
}
