"""NumPy's convolution and correlation of vectors on nodes, as sums of products over windows."""

from __future__ import annotations

from functools import reduce

from graphc.arithmetic import add, multiply
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Dim, Extent, dim_max, dim_min, floor_divide
from graphc.ir.errors import DeclarationValueError
from graphc.layout import expand_dims, flip, window
from graphc.operands import INDEX, Operand, as_node, broadcast, cast, lift, result_dtype, told

MODES = ("full", "same", "valid")
# A known vector of at most so many elements is so many shifts of the other, which fuse, and so do their adjoints.
SHORT = 16


def convolve(a: Operand, v: Operand, mode: str = "full") -> Node:
    """``result[k] = sum(a[k - j] * v[j])``; "same" is as long as the longer, "valid" where both overlap wholly."""
    left, right = _vectors("np.convolve", a, v, mode)
    shorter = dim_min(left.shape[0], right.shape[0])
    return _trimmed(_full(left, right), left, right, mode, floor_divide(shorter - 1, 2))


def correlate(a: Operand, v: Operand, mode: str = "valid") -> Node:
    """``result[k] = sum(a[k + j] * v[j])`` for every shift k at which the two overlap, or some, by `mode`."""
    left, right = _vectors("np.correlate", a, v, mode)
    shorter = dim_min(left.shape[0], right.shape[0])
    middle = floor_divide(shorter - 1, 2)
    # NumPy turns the result where `v` is the longer: an even overhang then lies at the other end.
    is_turned = dim_min(dim_max(right.shape[0] - left.shape[0], 0), 1)
    middle = middle + (shorter - 1 - 2 * middle) * is_turned
    return _trimmed(_full(left, flip(right)), left, right, mode, middle)


def _vectors(function: str, a: Operand, v: Operand, mode: str) -> tuple[Node, Node]:
    if mode not in MODES:
        raise DeclarationValueError(f"{function} has no mode {told(mode)}", hint=f"there are {', '.join(MODES)}")
    lifted = lift(a), lift(v)
    dtype = result_dtype(*lifted)
    nodes = [cast(as_node(value), dtype) for value in lifted]
    nodes = [node if node.shape else expand_dims(node, 0) for node in nodes]
    if any(len(node.shape) != 1 for node in nodes):
        raise DeclarationValueError(f"{function} wants vectors, got {nodes[0].type} and {nodes[1].type}")
    if any(node.shape == (0,) for node in nodes):
        raise DeclarationValueError(f"{function} of an empty vector: {nodes[0].type} and {nodes[1].type}")
    return nodes[0], nodes[1]


def _full(a: Node, v: Node) -> Node:
    """Every overlap: windows of the longer, with zeros around it, times the shorter turned round."""
    n, m = a.shape[0], v.shape[0]
    if not isinstance(n, Dim) and (isinstance(m, Dim) or m > n):
        (a, n), (v, m) = (v, m), (a, n)
    padded = ops.pad(a, start=(m - 1,), step=(1,), shape=(n + 2 * (m - 1),))
    if isinstance(m, int) and m <= SHORT:
        parts = (_scaled(window(padded, 0, k, n + m - 1), window(v, 0, m - 1 - k, 1)) for k in range(m))
        return reduce(add, parts)
    shape = (n + m - 1, m)
    places = add(ops.iota(shape=shape, axis=0, dtype=INDEX), ops.iota(shape=shape, axis=1, dtype=INDEX))
    products = multiply(ops.gather(padded, places, axes=(0,)), broadcast(flip(v), shape))
    return ops.accumulate(products, (1,))


def _scaled(x: Node, one: Node) -> Node:
    """A vector times the one element of another."""
    return multiply(x, broadcast(one, x.shape))


def _trimmed(full: Node, a: Node, v: Node, mode: str, middle: Extent) -> Node:
    if mode == "full":
        return full
    shorter, longer = dim_min(a.shape[0], v.shape[0]), dim_max(a.shape[0], v.shape[0])
    if mode == "same":
        return window(full, 0, middle, longer)
    return window(full, 0, shorter - 1, longer - shorter + 1)
