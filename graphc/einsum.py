"""NumPy's einsum on nodes: each pair of operands becomes one batched matrix product, from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from graphc.arithmetic import multiply, truth
from graphc.ir import ops
from graphc.ir.core import Node
from graphc.ir.dims import Extent, product
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.layout import reshape, transpose
from graphc.operands import BOOL, INDEX, Operand, as_node, cast, lift, result_dtype, told
from graphc.triangles import diagonal


def einsum(subscripts: str, *operands: Operand, optimize: Any = False) -> Node:
    """NumPy's einsum with a subscript string: ``...``, diagonals (``ii``), with or without ``->``, any operands.

    Operands are contracted from left to right whatever `optimize` says, each pair by one batched matrix product.
    Elements of booleans are joined by "and" and "or".
    """
    terms, output, nodes = _parse(subscripts, operands)
    boolean = nodes[0].dtype == BOOL
    if boolean:
        nodes = [cast(node, INDEX) for node in nodes]
    for k, (term, node) in enumerate(zip(terms, nodes, strict=True)):
        terms[k], nodes[k] = _take_diagonals(subscripts, term, node)
    terms, nodes = _without_ones(subscripts, terms, nodes)
    term, node = terms[0], nodes[0]
    for k in range(1, len(nodes)):
        needed = set("".join((output, *terms[k + 1 :])))
        term, node = _contract(term, node, terms[k], nodes[k], needed)
    term, node = _sum_out(term, node, set(output))
    result = transpose(node, [term.index(letter) for letter in output])
    return truth(result) if boolean else result


# subscripts -----------------------------------------------------------------------------------------------------------


def _parse(subscripts: Any, operands: Sequence[Operand]) -> tuple[list[str], str, list[Node]]:
    """A term of letters for each operand, those of the result, and the operands in their common dtype."""
    if not isinstance(subscripts, str):
        raise DeclarationTypeError(
            f"einsum wants its subscripts first, as a string such as 'ij,jk->ik', got {told(subscripts)}",
            hint="lists of axes beside the operands are not understood",
        )
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    for text in (*terms, output):
        left = text.replace("...", "", 1)
        if any(letter not in ascii_letters for letter in left):
            raise DeclarationValueError(
                f"einsum {subscripts!r}: {text!r} is no subscript", hint="there are letters, '...', ',' and one '->'"
            )
    lifted = [lift(operand) for operand in operands]
    if len(terms) != len(lifted):
        raise DeclarationValueError(f"einsum {subscripts!r} is for {len(terms)} operands, got {len(lifted)}")
    dtype = result_dtype(*lifted)
    nodes = [cast(as_node(value), dtype) for value in lifted]
    terms, dots = _spelled(subscripts, terms, nodes)
    letters = "".join(terms)
    if not arrow:
        once = sorted(letter for letter in set(letters) if letters.count(letter) == 1 and letter not in dots)
        output = dots + "".join(once)
    elif "..." in output:
        output = output.replace("...", dots)
    elif dots:
        raise DeclarationValueError(
            f"einsum {subscripts!r}: the axes of '...' are missing in the result", hint="write '...' behind ->, too"
        )
    if len(set(output)) < len(output) or not set(output) <= set(letters):
        raise DeclarationValueError(f"einsum {subscripts!r}: the result's letters must be distinct, and in an operand")
    return terms, output, nodes


def _spelled(subscripts: str, terms: list[str], nodes: list[Node]) -> tuple[list[str], str]:
    """The terms with letters for ``...``, which stands for as many axes as are left, aligned at the last; and those."""
    free = [letter for letter in ascii_letters if letter not in subscripts]
    left = [len(node.shape) - len(term.replace("...", "")) for term, node in zip(terms, nodes, strict=True)]
    for term, node, axes in zip(terms, nodes, left, strict=True):
        if axes < 0 or (axes and "..." not in term):
            raise DeclarationValueError(f"einsum {subscripts!r}: {term!r} does not fit the axes of {node.type}")
    dots = "".join(free[: max(left)])
    if len(dots) < max(left):
        raise DeclarationValueError(f"einsum {subscripts!r}: there are not enough letters for the axes of '...'")
    return [term.replace("...", dots[len(dots) - axes :]) for term, axes in zip(terms, left, strict=True)], dots


def _take_diagonals(subscripts: str, term: str, node: Node) -> tuple[str, Node]:
    """An operand without repeated letters: of each the diagonal is meant."""
    while repeated := next((letter for letter in term if term.count(letter) > 1), None):
        first, second = term.index(repeated), term.rindex(repeated)
        if node.shape[first] != node.shape[second]:
            raise DeclarationValueError(
                f"einsum {subscripts!r}: the diagonal {repeated}{repeated} of {node.type} wants equal axes, "
                f"and they are {node.shape[first]} and {node.shape[second]}"
            )
        node = diagonal(node, 0, first, second)
        term = "".join(letter for k, letter in enumerate(term) if k not in (first, second)) + repeated
    return term, node


def _without_ones(subscripts: str, terms: list[str], nodes: list[Node]) -> tuple[list[str], list[Node]]:
    """Operands without axes of extent 1 whose letter is longer elsewhere: they broadcast."""
    sizes: dict[str, Extent] = {}
    for term, node in zip(terms, nodes, strict=True):
        for letter, extent in zip(term, node.shape, strict=True):
            if sizes.setdefault(letter, extent) == 1:
                sizes[letter] = extent
            elif extent not in (1, sizes[letter]):
                raise DeclarationValueError(
                    f"einsum {subscripts!r}: {letter} is both {sizes[letter]} and {extent} in "
                    f"{', '.join(str(node.type) for node in nodes)}"
                )
    for k, (term, node) in enumerate(zip(terms, nodes, strict=True)):
        kept = [axis for axis, letter in enumerate(term) if node.shape[axis] == sizes[letter]]
        terms[k] = "".join(term[axis] for axis in kept)
        nodes[k] = reshape(node, tuple(node.shape[axis] for axis in kept))
    return terms, nodes


# contractions ---------------------------------------------------------------------------------------------------------


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
