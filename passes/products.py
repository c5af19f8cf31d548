"""Products: small and skinny matrix products become loops, which fuse with their neighbours; BLAS does the others.

BLAS is fast where it can keep a block of each operand in cache and use it many times. A product with a short side gives
it little to reuse: it reads the long operand from memory, and so do the stages around it, each once more. As a loop
over the rows of the long operand, the product shares one pass over memory with everything else that walks these rows.
On a GPU, whose kernels have no vectors of sums to keep in registers, that pays for the smallest matrices alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Extent
from graphc.ir.loops import Affine, Buffer, Const, Index, Let, Load, Straight, Value, axis
from graphc.ir.ops.products import matrix_transpose
from graphc.passes.inline import LONG_ROW
from graphc.passes.stages import Axes, axes_of, free_name, identity

if TYPE_CHECKING:
    from graphc.passes.lower import Lowering

Factor: TypeAlias = "tuple[Node, Index]"

# The longest short side. A loop computes at most this many multiply-adds per element of the long operand; with more,
# BLAS, which keeps its sums in registers, gains more than reading the long operand once less would.
SHORT = 16
# As many terms are written out: their sum is an expression, that dissolves into its reader.
FEW = 3


def lower_matmul(lowering: Lowering, node: Node) -> None:
    """Loops where a side is short, else a library call."""
    if node not in lowering.addends.values():
        form_of(node, lowering.smallest)(lowering, node)


def form_of(node: Node, smallest: int | None) -> Callable[[Lowering, Node], None]:
    """How a product is computed; of floats by the library unless a matrix has at most `smallest` elements."""
    rows, columns, depth = sides(node)
    left, right = node.operands
    if isinstance(depth, int) and 0 < depth <= FEW:
        return product_written_out
    if smallest is not None and node.dtype.kind == "f" and not has_matrix_of(smallest, (rows, columns, depth)):
        return library_product
    if is_turned(left) and (is_short(rows) or is_short(columns)) and not is_turned(right):
        return product_by_terms
    if is_short(depth) or (is_short(columns) and not is_turned(left)):
        return product_by_rows
    return library_product


def sides(node: Node) -> tuple[Extent, Extent, Extent]:
    """The rows and columns of a product, and its depth: how many terms each element is the sum of."""
    return node.shape[-2], node.shape[-1], node.operands[0].shape[-1]


def has_matrix_of(most: int, sides: tuple[Extent, Extent, Extent]) -> bool:
    """Whether an operand or the result of a product is known to have at most so many elements."""
    sizes = (one * other for one, other in combinations(sides, 2))
    return any(isinstance(size, int) and size <= most for size in sizes)


def is_short(side: Extent) -> bool:
    """Whether an extent is known, and short."""
    return isinstance(side, int) and side <= SHORT


def is_longer(rows: Extent, columns: Extent) -> bool:
    """Whether the rows make a better vector than the columns."""
    if not isinstance(rows, int) or not isinstance(columns, int):
        return isinstance(columns, int)
    return rows >= LONG_ROW and rows > columns


def is_turned(operand: Node) -> bool:
    """Whether rows of an operand are columns in memory."""
    return is_transpose(operand) and 1 not in operand.shape[-2:]


def is_transpose(operand: Node) -> bool:
    """Whether an operand is a matrix, or a stack of them, transposed."""
    return operand.op is ops.transpose and matrix_transpose(operand.operands[0]) is operand


# loops ------------------------------------------------------------------------------------------------------

TERM = axis("r0")  # what a product sums over


def product_written_out(lowering: Lowering, node: Node) -> None:
    """``out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + ...``."""
    left, right = node.operands
    axes, name = axes_of(node), lowering.names[node]
    *batch, row, column = identity(axes)
    body: list[Straight] = []
    total: Value | None = None
    for place in range(left.shape[-1]):
        k = Affine((), place)
        term = multiplied(lowering, f"{name}_term", body, (left, (*batch, row, k)), (right, (*batch, k, column)))
        if total is not None:
            body.append(Let(f"{name}_to_{place}", "add", (total, term), node.dtype))
        total = term if total is None else f"{name}_to_{place}"
    assert total is not None
    lowering.stage(node, axes, body, total)


def product_by_rows(lowering: Lowering, node: Node) -> None:
    """``out[i, j] = sum over k of a[i, k] * b[k, j]``, one row of `a` after the other.

    With few terms, their loop unrolls and the columns are a vector: `b` is read by its rows. With many terms and few
    columns, each element is a dot product: `b` is read by its columns, for which it is turned.
    """
    left, right = node.operands
    axes = axes_of(node)
    *batch, row, column = identity(axes)
    if is_short(sides(node)[2]):
        factor = right, (*batch, TERM, column)
    else:
        factor = turned(lowering, right), (*batch, column, TERM)
    add_product(lowering, node, lowering.settle(node), axes, (left, (*batch, row, TERM)), factor)


def product_by_terms(lowering: Lowering, node: Node) -> None:
    """``out[i, j] = sum over k of a[k, i] * b[k, j]``: for each k, the outer product of two rows is added.

    The longer row is the vector: where that is the one of `a`, it is the result's transpose that is computed.
    """
    (left,), right = node.operands[0].operands, node.operands[1]
    axes, name = axes_of(node), lowering.names[node]
    *batch, row, column = identity(axes)
    factors = (left, (*batch, TERM, row)), (right, (*batch, TERM, column))
    if not is_longer(*sides(node)[:2]):
        add_product(lowering, node, lowering.settle(node), axes, *factors)
        return
    swapped = (*axes[:-2], axes[-1], axes[-2])
    shape = tuple(size for _, size in swapped)
    transposed = Buffer(lowering.new_name(f"{name}_T"), node.dtype, shape, "arena")
    add_product(lowering, node, transposed, swapped, *factors)
    lowering.stage(node, axes, [Load(transposed.name, transposed, identity(swapped))], transposed.name)


def add_product(lowering: Lowering, node: Node, buffer: Buffer, axes: Axes, left: Factor, right: Factor) -> None:
    """Add the stage that sums ``left * right`` over `TERM`, in the dtype of the product, as BLAS does."""
    body: list[Straight] = []
    value = multiplied(lowering, f"{lowering.names[node]}_term", body, left, right)
    reduction = {
        "reduce": ((*TERM.variables, node.operands[0].shape[-1]),),
        "combine": "add",
        "initial": Const(node.dtype.type(0), node.dtype),
    }
    lowering.store(node, buffer, axes, body, value, **reduction)


def multiplied(lowering: Lowering, name: str, body: list[Straight], left: Factor, right: Factor) -> Value:
    """Add the product of an element of each operand to a body; its name."""
    args = tuple(lowering.read(operand, index, body) for operand, index in (left, right))
    name = free_name(name, {statement.name for statement in body})
    body.append(Let(name, "multiply", args, left[0].dtype))
    return name


def turned(lowering: Lowering, operand: Node) -> Node:
    """The transpose of an operand, as a node that is lowered: once, where several products want it."""
    if is_transpose(operand):
        return operand.operands[0]
    if 1 in operand.shape[-2:]:
        *batch, rows, columns = operand.shape
        transpose = ops.reshape(operand, shape=(*batch, columns, rows))
    else:
        transpose = matrix_transpose(operand)
    lowering.lower(transpose, f"{lowering.names[operand]}_T")
    return transpose


# library calls ----------------------------------------------------------------------------------------------


def settle_sums(lowering: Lowering) -> None:
    """Decide which sums of products are computed in place: the library adds the second product to the first."""
    graph = lowering.graph
    uses = Counter(operand for step in graph.steps for operand in step.operands) + Counter(graph.roots)
    for node in graph.steps:
        if node.op is not ops.add or any(uses[operand] > 1 for operand in node.operands):
            continue
        for first, last in (node.operands, node.operands[::-1]):
            if is_library(lowering, last) and (is_library(lowering, first) or first in lowering.addends):
                lowering.addends[node] = last
                break
    for node in reversed(graph.steps):
        if node in lowering.addends:
            home = lowering.homes.setdefault(node, lowering.home(node))
            lowering.homes |= dict.fromkeys(node.operands, home)


def is_library(lowering: Lowering, node: Node) -> bool:
    """Whether a node is a product that a library computes."""
    return node.op is ops.matmul and form_of(node, lowering.smallest) is library_product


def add_library_product(lowering: Lowering, node: Node) -> None:
    """A sum of products: the second is added to the first, which stands where the sum will."""
    lowering.settle(node)
    library_product(lowering, lowering.addends[node], accumulate=True)


def is_one_for_all(operand: Node) -> bool:
    """Whether a stack of matrices is one matrix, broadcast."""
    return operand.op is ops.broadcast_to and operand.operands[0].shape == operand.shape[-2:]


def library_product(lowering: Lowering, node: Node, accumulate: bool = False) -> None:
    """A library call, for which transposes are flags, one matrix serves a stack, and a single row is a vector."""
    flags: list[tuple[str, Any]] = []
    operands: list[Buffer] = []
    matrices: list[Node] = []
    for operand, flag in zip(node.operands, ("transpose_a", "transpose_b"), strict=True):
        transposed = is_transpose(operand)
        flags.append((flag, transposed))
        matrices.append(operand.operands[0] if transposed else operand)
    shared = [is_one_for_all(matrix) for matrix in matrices]
    for matrix, is_shared in zip(matrices, shared, strict=True):
        whole = matrix.operands[0] if is_shared and not all(shared) else matrix
        operands.append(lowering.materialised(whole))
    operands.append(lowering.settle(node))
    if node.shape[:-1] == (1,):
        flags[0] = ("transpose_a", False)
        operands[::2] = (lowering.part(row, (row.type.size,)) for row in operands[::2])
    lowering.call("matmul", tuple(operands), (*flags, ("accumulate", accumulate)))
