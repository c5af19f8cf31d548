"""Sorting and searching are library calls: along the last axis of what stands in memory, with a row of scratch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.loops import Buffer, Call, Straight
from graphc.passes.stages import axes_of, identity

if TYPE_CHECKING:
    from graphc.passes.lower import Lowering

# Keys that a block of a GPU's threads sorts by itself, a power of two. Of float64 and their positions, each in two
# places, that is 40 KiB: every card has 48 that the threads of a block share.
SORTED_BY_BLOCK = 2048


def lower_argsort(lowering: Lowering, node: Node) -> None:
    """Along the last axis a call; along another one that of the array with its axes swapped."""
    (operand,), axis, name = node.operands, node["axis"], lowering.names[node]
    last = len(node.shape) - 1
    if axis != last:
        order = list(range(last + 1))
        order[axis], order[last] = last, axis
        swapped = ops.transpose(operand, axes=tuple(order))
        places = ops.argsort(swapped, axis=last)
        lowering.lower(swapped, f"{name}_keys")
        lowering.lower(places, f"{name}_places")
        axes = axes_of(node)
        index = identity(axes)
        body: list[Straight] = []
        value = lowering.read(places, tuple(index[k] for k in order), body)
        lowering.stage(node, axes, body, value)
        return
    keys = lowering.materialised(operand)
    scratch = Buffer(lowering.new_name(f"{name}_scratch"), np.dtype("int64"), node.shape[-1:], "arena")
    lowering.call("argsort", (keys, scratch, lowering.settle(node)))


def lower_searchsorted(lowering: Lowering, node: Node) -> None:
    """A binary search for each value."""
    keys, values = (lowering.materialised(operand) for operand in node.operands)
    lowering.call("searchsorted", (keys, values, lowering.settle(node)), (("right", node["right"]),))


def with_scratch(call: Call) -> Call:
    """A call as a GPU runs it: a sort of rows that may be too long for a block has scratch for positions and keys."""
    if call.routine != "argsort":
        return call
    keys, scratch, out = call.operands
    length = out.shape[-1]
    if isinstance(length, int) and length <= SORTED_BY_BLOCK:
        return call
    return replace(call, operands=(keys, replace(scratch, shape=(3, *out.shape)), out))
