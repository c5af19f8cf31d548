"""Simplify: what the joint graph no longer needs after differentiation, and shorter ways to the same values.

Beyond the canonical rules: the marks that only differentiation reads go, scatters without collisions become selections
(which fuse), sums of what was spread become products. Values are equal up to the sign of zero and to rounding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from graphc.ir.core import Node, divide, full, rebuild, scalar_value
from graphc.ir.dims import Extent, product
from graphc.ir.graph import Graph
from graphc.ir.half import finfo
from graphc.ir.ops import (
    broadcast_to,
    cast,
    equal,
    iota,
    logical_and,
    matmul,
    negative,
    reshape,
    sum_,
    transpose,
    where,
    wrap_index,
)
from graphc.ir.ops.products import matrix_transpose
from graphc.ir.types import Shape, is_half, is_static
from graphc.passes.canonicalize import CANONICAL
from graphc.passes.differentiate import is_reciprocal
from graphc.passes.loop_forms import accumulator_dtype
from graphc.passes.rewrite import Rules, merge, rewrite
from graphc.passes.rows import WORTH_A_LOOP
from graphc.passes.stabilize import reduced


@dataclass(frozen=True)
class Simplify:
    """Shorten the graph; nothing may be differentiated afterwards."""

    name: str = "simplify"

    def run(self, graph: Graph) -> Graph:
        """An equal graph, without anchors and stopped gradients."""
        simple = rewrite(graph, SIMPLE)
        return rewrite(simple, of_single_use(simple))


def of_single_use(graph: Graph) -> Rules:
    """The rules that hold for values that one other reads: elsewhere they would be computed twice."""
    uses = Counter(operand for step in graph.steps for operand in step.operands) + Counter(graph.roots)

    def multiply_by_reciprocal(node: Node) -> Node | None:
        """a * (1 / b) is a / b: a quotient costs as much as many products."""
        for a, b in (node.operands, node.operands[::-1]):
            if is_reciprocal(b) and uses[b] <= 1:
                return divide(a, b.operands[1])
        return None

    def transpose_of_product(node: Node) -> Node | None:
        """The transpose of a b is b' a': operands are read transposed at no cost."""
        (product,) = node.operands
        if product.op is not matmul or matrix_transpose(product) is not node or uses[product] > 1:
            return None
        left, right = map(matrix_transpose, product.operands)
        return matmul(right, left)

    return merge({"multiply": (multiply_by_reciprocal,), "transpose": (transpose_of_product,)}, SIMPLE)


def unmark(node: Node) -> Node | None:
    """An anchor, a stopped gradient, or the value of a custom rule is its first operand."""
    return node.operands[0]


def select_within(node: Node) -> Node | None:
    """Inside where(c, ...) a choice by c, or by what c implies, is decided, one elementwise op deep."""
    condition, yes, no = node.operands
    if not yes.op.is_elementwise:
        return None
    operands = tuple(
        operand.operands[1] if operand.op is where and implies(condition, operand.operands[0]) else operand
        for operand in yes.operands
    )
    if yes.op is where and implies(condition, yes.operands[0]):
        return where(condition, yes.operands[1], no)
    return None if operands == yes.operands else where(condition, rebuild(yes, operands), no)


def implies(condition: Node, other: Node) -> bool:
    """Whether `other` holds wherever `condition` does: it is the condition, or one of two that it joins."""
    return condition is other or (condition.op is logical_and and other in condition.operands)


def sum_of_spread(node: Node) -> Node | None:
    """The sum of a value along axes that it was spread over is the value times their extents."""
    x, axes = node.operands[0], node["axes"]
    number, count = scalar_value(x), product(x.shape[axis] for axis in axes)
    if number is not None and np.isfinite(number) and _holds(node.dtype, count):
        return full(number, node.type) * full(count, node.type)
    if x.op is not broadcast_to:
        return None
    source = x.operands[0]
    added = len(x.shape) - len(source.shape)
    aligned: Shape = (*(1,) * added, *source.shape)
    # A symbolic extent may be 0, and 0 times inf is not the sum of nothing.
    spread = [axis for axis in axes if aligned[axis] == 1 and is_static((x.shape[axis],)) and x.shape[axis] != 0]
    count = product(x.shape[axis] for axis in spread)
    if not spread or not _holds(node.dtype, count):
        return None
    left = tuple(1 if axis in spread else extent for axis, extent in enumerate(x.shape))
    once = broadcast_to(reshape(source, shape=aligned), shape=left)
    rest = tuple(axis for axis in axes if axis not in spread)
    total = sum_(once, axes=rest) if rest else once
    return reshape(total, shape=node.shape) * full(count, node.type)


def _holds(dtype: np.dtype, count: Extent) -> bool:
    """Whether a count is surely a number of a dtype: 300 elements are none of int8, 70000 none of float16."""
    if is_half(dtype):
        return isinstance(count, int) and bool(count <= 2 << finfo(dtype).nmant)  # (more may be rounded)
    if dtype.kind == "f":
        return True
    return count <= np.iinfo(dtype).max if isinstance(count, int) else dtype.itemsize == 8


def sum_of_row_sums(node: Node) -> Node | None:
    """A long float32 sum that runs along rows is the sum of the rows' sums: a row short enough is summed in float32."""
    x, axes = node.operands[0], node["axes"]
    last, count = len(x.shape) - 1, product(x.shape[axis] for axis in axes)
    if len(axes) < 2 or last not in axes or x.op is sum_:
        return None
    if not isinstance(x.shape[last], int) or x.shape[last] < WORTH_A_LOOP:
        return None
    if accumulator_dtype("add", node.dtype, x.shape[last]) == accumulator_dtype("add", node.dtype, count):
        return None
    return sum_(sum_(x, axes=(last,)), axes=tuple(axis for axis in axes if axis != last))


def sum_of_negative(node: Node) -> Node | None:
    """The sum of -x is that of x, negated once."""
    (x,) = node.operands
    return negative(sum_(x.operands[0], axes=node["axes"])) if x.op is negative else None


def sum_of_product(node: Node) -> Node | None:
    """The sum of the rows of a matrix product is the sum of the left operand's rows, times the right one.

    That is less work if the left rows are no longer than those of the product, even where the product is needed too.
    """
    x, axes = node.operands[0], node["axes"]
    if x.op is not matmul or axes != (len(x.shape) - 2,) or is_half(node.dtype):  # (the rows' sum may overflow)
        return None
    left, right = x.operands
    rows, (depth, columns) = x.shape[-2], right.shape[-2:]
    if not (is_static((depth, columns)) and depth <= columns and (not is_static((rows,)) or depth <= rows)):
        return None
    total = sum_(left, axes=axes)
    return reshape(matmul(reshape(total, shape=(*left.shape[:-2], 1, depth)), right), shape=node.shape)


def sum_of_one(node: Node) -> Node | None:
    """The sum of one element is that element."""
    (x,) = node.operands
    return reshape(x, shape=node.shape) if all(x.shape[axis] == 1 for axis in node["axes"]) else None


def sum_of_selected(node: Node) -> Node | None:
    """The sum over an axis of what is 0 but at one index of it is the value there: the row sum of a one-hot."""
    x, axes = node.operands[0], node["axes"]
    if x.op is not where or x.operands[0].op is not equal or len(axes) != 1:
        return None
    (positions, chosen), values, zero = x.operands[0].operands, x.operands[1], x.operands[2]
    if positions.op is not iota or positions["axis"] != axes[0] or scalar_value(zero) != 0:
        return None
    index, number = reduced(chosen, axes), scalar_value(values)
    if index is None or index.op is not wrap_index or index["extent"] != x.shape[axes[0]]:
        return None
    return reduced(values, axes) if number is None else full(number, node.type)


def product_with_identity(node: Node) -> Node | None:
    """The products of a matrix with all unit vectors are its rows or columns: the Jacobian of a product.

    Where the matrix holds an inf, a sum with its products by 0 would be nan.
    """
    left, right = node.operands
    return right if is_identity(left) else left if is_identity(right) else None


def is_identity(node: Node) -> bool:
    """Whether a node is all unit vectors, as a Jacobian is made of: ``where(row == column, 1, 0)``."""
    if node.op is not where or node.operands[0].op is not equal or len(node.shape) != 2:
        return False
    condition, *numbers = node.operands
    axes = {each["axis"] for each in condition.operands if each.op is iota}
    return axes == {0, 1} and [scalar_value(number) for number in numbers] == [1, 0] and node.shape[0] == node.shape[1]


def products_with_vectors(node: Node) -> Node | None:
    """The products of one matrix with a stack of vectors are one product, with the vectors as rows."""
    left, right = node.operands
    if left.op is not broadcast_to or right.shape[-1] != 1 or left.operands[0].shape != left.shape[-2:]:
        return None
    rows = reshape(right, shape=(product(right.shape[:-2]), right.shape[-2]))
    return reshape(matmul(rows, matrix_transpose(left.operands[0])), shape=node.shape)


def gather_of_iota(node: Node) -> Node | None:
    """The position at a position is that position; indices are in range."""
    positions, *indices = node.operands
    if positions.op is not iota or len(positions.shape) != 1:
        return None
    return cast(indices[0], dtype=node.dtype)


def scatter_of_rows(node: Node) -> Node | None:
    """A scatter into zeros that meets each row once is a selection: where(position == index, updates, 0).

    All indices but one must be the positions along an axis of their own, of its full extent, as in the adjoint of
    ``x[arange(N), labels]``. A selection is elementwise and fuses.
    """
    base, updates, *indices = node.operands
    axes: tuple[int, ...] = node["axes"]
    if scalar_value(base) != 0:
        return None
    block = indices[0].shape
    home: dict[int, int] = {}  # axis of the index block -> axis of the base whose positions it runs over
    free: list[int] = []
    for k, (index, axis) in enumerate(zip(indices, axes, strict=True)):
        if index.op is iota and index["axis"] not in home and index.shape[index["axis"]] == base.shape[axis]:
            home[index["axis"]] = axis
        else:
            free.append(k)
    if len(home) != len(block) or len(free) != 1:
        return None
    index, axis = indices[free[0]], axes[free[0]]
    remaining = [k for k in range(len(base.shape)) if k not in axes]
    from_axes = [home[k] for k in range(len(block))] + remaining
    chosen = _lay_out(index, from_axes[: len(block)], base.shape)
    values = _lay_out(updates, from_axes, base.shape)
    here = equal(iota(shape=base.shape, axis=axis, dtype=index.dtype), chosen)
    return where(here, values, full(0, node.type))


def _lay_out(x: Node, axes: list[int], shape: Shape) -> Node:
    """Spread x over a shape; its axis k lies along ``axes[k]``."""
    order = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    kept = tuple(extent if axis in axes else 1 for axis, extent in enumerate(shape))
    return broadcast_to(reshape(transpose(x, axes=order), shape=kept), shape=shape)


def constant_iota(node: Node) -> Node | None:
    """The positions along an axis of extent 1 are 0."""
    return full(0, node.type) if node.shape[node["axis"]] == 1 else None


SIMPLE: Rules = merge(
    {
        "anchor": (unmark,),
        "matmul": (product_with_identity, products_with_vectors),
        "stop_gradient": (unmark,),
        "custom_vjp": (unmark,),
        "where": (select_within,),
        "sum": (sum_of_one, sum_of_selected, sum_of_spread, sum_of_negative, sum_of_product, sum_of_row_sums),
        "gather": (gather_of_iota,),
        "scatter_add": (scatter_of_rows,),
        "iota": (constant_iota,),
    },
    CANONICAL,
)
