"""NumPy's matrix and tensor products on nodes, all by way of one batched matrix product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphc.arithmetic import multiply
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Extent, product
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.layout import expand_dims, ravel, reshape, transpose
from graphc.operands import Operand, as_axes, as_axis, as_node, broadcast, broadcast_shapes, cast, lift, result_dtype
from graphc.reductions import sum as sum_over


def _pair(a: Operand, b: Operand) -> tuple[Node, Node]:
    lifted = [lift(a), lift(b)]
    dtype = result_dtype(*lifted)
    left, right = (cast(as_node(value), dtype) for value in lifted)
    return left, right


def matmul(x1: Operand, x2: Operand) -> Node:
    """``x1 @ x2``: matrices are the last two axes, those before broadcast, vectors are rows or columns."""
    a, b = _pair(x1, x2)
    if not a.shape or not b.shape:
        raise DeclarationValueError(f"matmul wants arrays, got {a.type} and {b.type}", hint="use * for scalars")
    left = reshape(a, (1, *a.shape)) if len(a.shape) == 1 else a
    right = reshape(b, (*b.shape, 1)) if len(b.shape) == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise DeclarationValueError(
            f"matmul: the inner dims of {a.type} and {b.type} differ: {left.shape[-1]} is not {right.shape[-2]}"
        )
    batch = broadcast_shapes(left.shape[:-2], right.shape[:-2])
    result = ops.matmul(broadcast(left, batch + left.shape[-2:]), broadcast(right, batch + right.shape[-2:]))
    rows = result.shape[-2:-1] if len(a.shape) > 1 else ()
    columns = result.shape[-1:] if len(b.shape) > 1 else ()
    return reshape(result, batch + rows + columns)


def dot(a: Operand, b: Operand) -> Node:
    """The sum over the last axis of `a` and the last but one of `b`; scalars multiply."""
    left, right = _pair(a, b)
    if not left.shape or not right.shape:
        return multiply(left, right)
    if len(left.shape) <= 2 and len(right.shape) <= 2:
        return matmul(left, right)
    return tensordot(left, right, ((-1,), (-min(2, len(right.shape)),)))


def inner(a: Operand, b: Operand) -> Node:
    """The sum over the last axes of both; scalars multiply."""
    left, right = _pair(a, b)
    return multiply(left, right) if not left.shape or not right.shape else tensordot(left, right, ((-1,), (-1,)))


def vdot(a: Operand, b: Operand) -> Node:
    """The dot product of both, flattened."""
    return matmul(ravel(a), ravel(b))


def vecdot(x1: Operand, x2: Operand, axis: int = -1) -> Node:
    """The sum of the products along an axis."""
    return sum_over(multiply(x1, x2), axis)


def outer(a: Operand, b: Operand) -> Node:
    """The product of every element of `a` with every one of `b`, both flattened."""
    return multiply(expand_dims(ravel(a), 1), expand_dims(ravel(b), 0))


def tensordot(a: Operand, b: Operand, axes: Any = 2) -> Node:
    """The sum of products over some axes of both: their number (the last and the first), or a pair of axes."""
    left, right = _pair(a, b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(len(left.shape), len(right.shape)):
            raise DeclarationValueError(f"tensordot over {axes} axes of {left.type} and {right.type}")
        axes = (range(len(left.shape) - axes, len(left.shape)), range(axes))
    ours, theirs = (
        [as_axis(k, len(node.shape)) for k in (one if isinstance(one, Iterable) else (one,))]
        for one, node in zip(axes, (left, right), strict=True)
    )
    for node, used in ((left, ours), (right, theirs)):
        as_axes(tuple(used), len(node.shape))  # each once
    shared = [left.shape[k] for k in ours]
    if shared != [right.shape[k] for k in theirs]:
        raise DeclarationValueError(f"tensordot: axes {ours} of {left.type} and {theirs} of {right.type} differ")
    rows = [k for k in range(len(left.shape)) if k not in ours]
    columns = [k for k in range(len(right.shape)) if k not in theirs]
    matrix = matmul(
        reshape(transpose(left, rows + ours), (product(left.shape[k] for k in rows), product(shared))),
        reshape(transpose(right, theirs + columns), (product(shared), product(right.shape[k] for k in columns))),
    )
    return reshape(matrix, (*(left.shape[k] for k in rows), *(right.shape[k] for k in columns)))


# einsum ---------------------------------------------------------------------------------------------------------------


def einsum(subscripts: str, *operands: Operand) -> Node:
    """NumPy's einsum with a subscript string, without repeated letters in one operand and without ``...``.

    Operands are contracted from left to right, each pair by one batched matrix product.
    """
    terms, output, nodes = _parse(subscripts, operands)
    sizes: dict[str, Extent] = {}
    for term, node in zip(terms, nodes, strict=True):
        for letter, extent in zip(term, node.shape, strict=True):
            if sizes.setdefault(letter, extent) != extent:
                raise DeclarationValueError(
                    f"einsum {subscripts!r}: {letter} is both {sizes[letter]} and {extent} in "
                    f"{', '.join(str(node.type) for node in nodes)}"
                )
    term, node = terms[0], nodes[0]
    for k in range(1, len(nodes)):
        needed = set("".join((output, *terms[k + 1 :])))
        term, node = _contract(term, node, terms[k], nodes[k], needed)
    term, node = _sum_out(term, node, set(output))
    return transpose(node, [term.index(letter) for letter in output])


def _parse(subscripts: Any, operands: Sequence[Operand]) -> tuple[list[str], str, list[Node]]:
    if not isinstance(subscripts, str):
        raise DeclarationTypeError(f"einsum wants its subscripts as a string, such as 'ij,jk->ik', got {subscripts!r}")
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    letters = "".join(terms)
    if not arrow:
        output = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    if any(not term.isalpha() for term in (*terms, output) if term) or any(len(set(t)) < len(t) for t in terms):
        raise DeclarationValueError(
            f"einsum {subscripts!r}: views take plain letters, none twice in one operand",
            hint="write other cases with np.sum, np.transpose and @",
        )
    if len(set(output)) < len(output) or not set(output) <= set(letters):
        raise DeclarationValueError(f"einsum {subscripts!r}: the result's letters must be distinct, and in an operand")
    lifted = [lift(operand) for operand in operands]
    if len(terms) != len(lifted):
        raise DeclarationValueError(f"einsum {subscripts!r} is for {len(terms)} operands, got {len(lifted)}")
    dtype = result_dtype(*lifted)
    nodes = [cast(as_node(value), dtype) for value in lifted]
    for term, node in zip(terms, nodes, strict=True):
        if len(term) != len(node.shape):
            raise DeclarationValueError(f"einsum {subscripts!r}: {term!r} does not fit the axes of {node.type}")
    return terms, output, nodes


def _sum_out(term: str, node: Node, needed: set[str]) -> tuple[str, Node]:
    """Sum over the letters that nothing needs."""
    axes = tuple(k for k, letter in enumerate(term) if letter not in needed)
    return "".join(letter for letter in term if letter in needed), ops.sum_(node, axes=axes) if axes else node


def _contract(a_term: str, a: Node, b_term: str, b: Node, needed: set[str]) -> tuple[str, Node]:
    """Two operands as one: shared letters are batches where they are needed later, else summed by the product."""
    a_term, a = _sum_out(a_term, a, needed | set(b_term))
    b_term, b = _sum_out(b_term, b, needed | set(a_term))
    batch = [letter for letter in a_term if letter in b_term and letter in needed]
    summed = [letter for letter in a_term if letter in b_term and letter not in needed]
    rows = [letter for letter in a_term if letter not in b_term]
    columns = [letter for letter in b_term if letter not in a_term]
    sizes = dict(zip(a_term + b_term, a.shape + b.shape, strict=True))

    def extents(letters: list[str]) -> tuple[Extent, ...]:
        return tuple(sizes[letter] for letter in letters)

    left = transpose(a, [a_term.index(letter) for letter in batch + rows + summed])
    right = transpose(b, [b_term.index(letter) for letter in batch + summed + columns])
    result_shape = extents(batch + rows + columns)
    if not summed:  # nothing to add up: a product of elements, not of matrices
        left = reshape(left, extents(batch + rows) + (1,) * len(columns))
        right = reshape(right, extents(batch) + (1,) * len(rows) + extents(columns))
        return "".join(batch + rows + columns), multiply(left, right)
    matrix = ops.matmul(
        reshape(left, (*extents(batch), product(extents(rows)), product(extents(summed)))),
        reshape(right, (*extents(batch), product(extents(summed)), product(extents(columns)))),
    )
    return "".join(batch + rows + columns), reshape(matrix, result_shape)
