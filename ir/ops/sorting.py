"""Order as positions: where the elements of a sorted array come from, and where values belong in one.

Sorting is gathering by `argsort`, so its derivative is that permutation. Both ops are discrete.
"""

from __future__ import annotations

import numpy as np

from graphc.ir.core import ANY, Discrete, Node, Op, full
from graphc.ir.dims import Extent
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.ops.checks import check_axis, check_dtype
from graphc.ir.ops.comparison import isnan, less, less_equal, logical_and, logical_not, logical_or
from graphc.ir.ops.conversion import cast
from graphc.ir.ops.layout import broadcast_to, in_stack, reshape, sum_
from graphc.ir.types import TensorType

_INDEX = np.dtype("int64")


def _argsort_infer(x: TensorType, *, axis: int) -> TensorType:
    check_dtype("argsort", x, ANY)
    check_axis("argsort", axis, x.ndim)
    return x.with_dtype(_INDEX)


argsort = Op(
    name="argsort", infer=_argsort_infer, evaluate=lambda x, axis: np.argsort(x, axis=axis, kind="stable"),
    derivative=Discrete(), numpy=("argsort", "sort", "median", "quantile", "percentile", "partition", "argpartition"),
    note="stable: equals, 0.0 and -0.0 among them, stay in order; nan comes last",
)  # fmt: skip


def _searchsorted_infer(a: TensorType, v: TensorType, *, right: bool) -> TensorType:
    if a.ndim != 1 or v.ndim == 0 or a.dtype != v.dtype:
        raise DeclarationValueError(
            f"searchsorted wants a vector, and values of its dtype along one axis or more, got {a} and {v}"
        )
    if not isinstance(right, bool):
        raise DeclarationTypeError(f"searchsorted wants right to be True or False, got {right!r}")
    return v.with_dtype(_INDEX)


def _searchsorted_batch(node: Node, operands: tuple[Node, ...], size: Extent) -> Node:
    """Values in one vector are looked for together; in a vector each, by counting what lies before them."""
    (keys, _), (stack, values) = node.operands, operands
    if stack is in_stack(keys, size):
        return searchsorted(keys, values, right=node["right"])
    shape = (*values.shape, keys.shape[0])
    aligned = (size, *(1 for _ in values.shape[1:]), keys.shape[0])
    key = broadcast_to(reshape(stack, shape=aligned), shape=shape)
    value = broadcast_to(reshape(values, shape=(*values.shape, 1)), shape=shape)
    if keys.dtype.kind == "b":
        key, value = (cast(one, dtype=np.dtype("int8")) for one in (key, value))
    before = (less_equal if node["right"] else less)(key, value)
    if keys.type.is_float:  # nan is the largest
        last = full(True, before.type) if node["right"] else logical_not(isnan(key))
        before = logical_or(before, logical_and(isnan(value), last))
    return sum_(cast(before, dtype=_INDEX), axes=(len(shape) - 1,))


searchsorted: Op = Op(
    name="searchsorted", infer=_searchsorted_infer,
    evaluate=lambda a, v, right: np.searchsorted(a, v, "right" if right else "left"),
    batch=_searchsorted_batch, derivative=Discrete(), numpy=("searchsorted", "digitize", "histogram"),
    note="of equals the first place, or (right) the one behind the last; nan is the largest; a must be sorted",
)  # fmt: skip
