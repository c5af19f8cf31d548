"""Symbolic extents: integer polynomials over dim names, in one canonical form, compared by it.

A shape holds plain ints where the extent is known and `Dim` objects where it is not: `"N"` is bound when a program is
called. ``N + N`` and ``2 * N`` are one `Dim`; a `Dim` that turns out constant is returned as an int. `//`, `min` and
`max` that do not simplify become atoms of the polynomial.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np

from graphc.ir.errors import DeclarationTypeError, DeclarationValueError

Extent: TypeAlias = "int | Dim"

NOMINAL = 1024  # what a symbolic dim counts as where something must be chosen for all its sizes


@dataclass(frozen=True, slots=True)
class Opaque:
    """An atom that no polynomial rule opens: ``a // b``, ``min(a, b)`` or ``max(a, b)``."""

    op: str
    left: Extent
    right: Extent

    def __str__(self) -> str:
        if self.op == "//":
            return f"{_factor(self.left)} // {_factor(self.right)}"
        sides = sorted((self.left, self.right), key=lambda side: isinstance(side, int))  # min(N, 5), not min(5, N)
        return f"{self.op}({sides[0]}, {sides[1]})"


Atom: TypeAlias = "str | Opaque"
Monomial: TypeAlias = "tuple[Atom, ...]"  # sorted, an atom once per power


@dataclass(frozen=True, slots=True, repr=False)
class Dim:
    """A symbolic integer in canonical form: `terms` maps sorted products of atoms to non-zero coefficients.

    Build one with `dim`; combine with ``+ - * //`` and `dim_min`, `dim_max`. It is a non-negative integer once bound,
    and a weak integer in arithmetic with views. ``int()``, ``bool()`` and ``range()`` of one raise `DeclarationError`.
    """

    terms: tuple[tuple[Monomial, int], ...]

    # arithmetic -------------------------------------------------------------------------------------------------

    def __add__(self, other: object) -> Any:
        if not is_extent(other):
            return NotImplemented
        return _from_terms([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Extent:
        return _from_terms([(monomial, -coefficient) for monomial, coefficient in self.terms])

    def __sub__(self, other: Any) -> Any:
        return self + (-other) if is_extent(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return other + (-self) if is_extent(other) else NotImplemented

    def __mul__(self, other: object) -> Any:
        if not is_extent(other):
            return NotImplemented
        return _from_terms([
            (tuple(sorted(left + right, key=_atom_key)), a * b)
            for left, a in self.terms
            for right, b in _terms(other)
        ])

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return floor_divide(self, other) if is_extent(other) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return floor_divide(other, self) if is_extent(other) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        if not isinstance(other, (int, float, Dim)):
            return NotImplemented
        self._refuse("the quotient /")

    def __mod__(self, other: Any) -> Any:
        return self - floor_divide(self, other) * other if is_extent(other) else NotImplemented

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        combine = _UFUNCS.get(ufunc.__name__)
        extents = [value.item() if isinstance(value, np.integer) else value for value in inputs]
        if method != "__call__" or kwargs or combine is None or not all(is_extent(value) for value in extents):
            return NotImplemented
        return combine(*extents)

    # what a symbolic integer cannot be ----------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        raise DeclarationTypeError(
            f"{what} of the symbolic dim {self} has no value before the program is called",
            hint="use the dim itself: in arithmetic with views it is an integer, and zeros/ones/full/arange take it",
        )

    def __int__(self) -> int:
        self._refuse("int()")

    def __index__(self) -> int:
        self._refuse("range() or int()")

    def __float__(self) -> float:
        self._refuse("float()")

    def __bool__(self) -> bool:
        self._refuse("bool()")

    # order is known only where the difference is constant -----------------------------------------------------------

    def _order(self, other: Any, test: Callable[[int], bool]) -> Any:
        if not is_extent(other):
            return NotImplemented
        difference = self - other
        if isinstance(difference, int):
            return test(difference)
        raise DeclarationTypeError(
            f"whether {self} is less than {other} is not known before the program is called",
            hint="use graphc.dim_min and graphc.dim_max to combine dims",
        )

    def __lt__(self, other: object) -> Any:
        return self._order(other, lambda difference: difference < 0)

    def __le__(self, other: object) -> Any:
        return self._order(other, lambda difference: difference <= 0)

    def __gt__(self, other: object) -> Any:
        return self._order(other, lambda difference: difference > 0)

    def __ge__(self, other: object) -> Any:
        return self._order(other, lambda difference: difference >= 0)

    # text and values ----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        pieces: list[str] = []
        for monomial, coefficient in self.terms:
            alone = len(monomial) == 1 and coefficient == 1
            factors = [str(atom) if alone else _factor(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            body = "*".join(factors)
            pieces.append(f" {sign} {body}" if pieces else ("-" + body if sign == "-" else body))
        return "".join(pieces)

    def __repr__(self) -> str:
        return f"Dim({self})"

    @property
    def names(self) -> frozenset[str]:
        """The dim names that this extent depends on."""
        return frozenset().union(*(_atom_names(atom) for monomial, _ in self.terms for atom in monomial))

    def bind(self, sizes: Mapping[str, int]) -> int:
        """The value of this extent for the given sizes of the dim names."""
        return sum(
            coefficient * _product(_atom_value(atom, sizes) for atom in monomial)
            for monomial, coefficient in self.terms
        )


# making extents ---------------------------------------------------------------------------------------------


def dim(value: int | str | Dim) -> Extent:
    """An extent from an int, a dim name, or an extent.

    Raises
    ------
    DeclarationError
        For a negative int, a name that is not an identifier, or anything else (booleans too).
    """
    if isinstance(value, Dim):
        return value
    if isinstance(value, str):
        if not value.isidentifier():
            raise DeclarationValueError(
                f"{value!r} is not a dim name: expected an identifier such as 'N'",
                hint="write expressions with dims: x.shape[0] + 1",
            )
        return Dim((((value,), 1),))
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DeclarationTypeError(f"a dim is an int, a name or a Dim, not {value!r} ({type(value).__name__})")
    size = value.__index__()
    if size < 0:
        raise DeclarationValueError(f"a dim is not negative: {size}")
    return size


def is_extent(value: object) -> bool:
    """Whether `value` is an int (not a bool) or a `Dim`."""
    return isinstance(value, Dim) or (isinstance(value, int) and not isinstance(value, bool))


def floor_divide(left: Any, right: Any) -> Extent:
    """``left // right``, exact where every coefficient divides."""
    if isinstance(right, int):
        if right == 0:
            raise DeclarationValueError(f"{left} // 0")
        if isinstance(left, int):
            return left // right
        if all(coefficient % right == 0 for _, coefficient in left.terms):
            return _from_terms([(monomial, coefficient // right) for monomial, coefficient in left.terms])
    elif (quotient := _exact_quotient(left, right)) is not None:
        return quotient
    return Dim((((Opaque("//", left, right),), 1),))


def dim_min(left: Extent, right: Extent) -> Extent:
    """The smaller of two extents."""
    return _extremum("min", left, right, lambda difference: difference <= 0)


def dim_max(left: Extent, right: Extent) -> Extent:
    """The larger of two extents."""
    return _extremum("max", left, right, lambda difference: difference >= 0)


def product(extents: Iterable[Extent]) -> Extent:
    """The product of extents: the number of elements of a shape."""
    result: Extent = _product(extents)
    return result


def bind(extent: Extent, sizes: Mapping[str, int]) -> int:
    """The int that an extent stands for, for given sizes of the dim names."""
    return extent.bind(sizes) if isinstance(extent, Dim) else extent


def nominal(extent: Extent) -> int:
    """A size with every symbolic dim at its nominal value: what costs are compared by."""
    return extent.bind(dict.fromkeys(extent.names, NOMINAL)) if isinstance(extent, Dim) else extent


def is_exact(extent: Extent, sizes: Mapping[str, int]) -> bool:
    """Whether every quotient in an extent leaves no remainder for the given sizes of the dim names."""
    return all(
        isinstance(atom, str)
        or (is_exact(atom.left, sizes) and is_exact(atom.right, sizes)
            and (atom.op != "//" or bind(atom.left, sizes) % bind(atom.right, sizes) == 0))
        for monomial, _ in _terms(extent) for atom in monomial
    )  # fmt: skip


def extent_names(extents: Iterable[Extent]) -> frozenset[str]:
    """All dim names in some extents."""
    return frozenset().union(*(extent.names for extent in extents if isinstance(extent, Dim)))


def linear_form(extent: Extent) -> tuple[str, int, int] | None:
    """``(name, factor, offset)`` where the extent is ``factor * name + offset``: what the size of an array settles."""
    terms = dict(extent.terms) if isinstance(extent, Dim) else {}
    offset = terms.pop((), 0)
    if len(terms) != 1:
        return None
    ((monomial, factor),) = terms.items()
    return (monomial[0], factor, offset) if len(monomial) == 1 and isinstance(monomial[0], str) else None


# NumPy's functions of extents, so that `np.minimum(x.shape[0], 5)` and `np.int64(2) * x.shape[0]` are extents too.
_UFUNCS: dict[str, Callable[..., Extent]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "negative": operator.neg,
    "floor_divide": floor_divide,
    "minimum": dim_min,
    "maximum": dim_max,
}


# the canonical form -----------------------------------------------------------------------------------------


def _terms(value: Any) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(value, Dim):
        return value.terms
    return (((), value),) if value else ()


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> Extent:
    totals: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        totals[monomial] = totals.get(monomial, 0) + coefficient
    kept = [(monomial, total) for monomial, total in totals.items() if total]
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return Dim(tuple(sorted(kept, key=lambda term: (-len(term[0]), [_atom_key(atom) for atom in term[0]]))))


def _exact_quotient(left: Any, right: Dim) -> Extent | None:
    """``left / right`` where `right` is a single product that divides every term of `left`."""
    if len(right.terms) != 1:
        return 1 if left == right else None
    (divisor, scale), = right.terms
    quotient: list[tuple[Monomial, int]] = []
    for monomial, coefficient in _terms(left):
        rest = list(monomial)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if coefficient % scale:
            return None
        quotient.append((tuple(rest), coefficient // scale))
    return _from_terms(quotient)


def _extremum(op: str, left: Any, right: Any, take_left: Callable[[int], bool]) -> Extent:
    """One of two extents, or of all that they are the extrema of; those that another one outdoes are left out."""
    kept: list[Any] = []
    for one in (*_sides(op, left), *_sides(op, right)):
        signs = [_sign(one - other) for other in kept]
        if not any((sign is not None and not take_left(sign)) or sign == 0 for sign in signs):
            kept = [other for other, sign in zip(kept, signs, strict=True) if sign is None] + [one]
    first, *others = sorted(kept, key=str)
    for other in others:
        first = Dim((((Opaque(op, first, other),), 1),))
    result: Extent = first
    return result


def _sides(op: str, extent: Any) -> list[Any]:
    """What an extent is the extremum of: itself, where it is none."""
    found: list[Any] = []
    waiting = [extent]
    while waiting:
        one = waiting.pop()
        ((monomial, coefficient),) = one.terms if isinstance(one, Dim) and len(one.terms) == 1 else (((), 0),)
        atom = monomial[0] if len(monomial) == 1 and coefficient == 1 else None
        if isinstance(atom, Opaque) and atom.op == op:
            waiting += (atom.right, atom.left)
        else:
            found.append(one)
    return found


def _sign(difference: Extent) -> int | None:
    """The sign of an extent where it is the same for all sizes: dims are not negative, so neither are products."""
    if not all(_is_natural(atom) for monomial, _ in _terms(difference) for atom in monomial):
        return None
    if difference == 0:
        return 0
    above = [term for term in _terms(difference) if term[1] > 0]
    below = [(monomial, -coefficient) for monomial, coefficient in _terms(difference) if coefficient < 0]
    return 1 if _covers(above, below) else -1 if _covers(below, above) else None


def _covers(above: list[tuple[Monomial, int]], below: list[tuple[Monomial, int]]) -> bool:
    """Whether each term of one sum of naturals has a term of another one that is at least as large, to itself: the
    same dims to higher powers (N*N is at least N), as many times."""
    left = list(above)
    for monomial, coefficient in below:
        cover = next(
            (term for term in left
             if term[1] >= coefficient and set(term[0]) == set(monomial)
             and all(term[0].count(atom) >= monomial.count(atom) for atom in monomial)),
            None,
        )  # fmt: skip
        if cover is None:
            return False
        left.remove(cover)
    return True


def _is_natural(atom: Atom) -> bool:
    """Whether an atom is never negative: a dim, and quotients and extrema of such, but not ``min(N - 5, M)``."""
    if isinstance(atom, str):
        return True
    left, right = (_sign(side) in (0, 1) for side in (atom.left, atom.right))
    return left or right if atom.op == "max" else left and right


def _atom_key(atom: Atom) -> tuple[bool, str]:
    return (not isinstance(atom, str), str(atom))


def _factor(value: Extent | Atom) -> str:
    """The text of a value as an operand of ``*`` and ``//``: in parentheses where it is a sum, product or quotient."""
    text = str(value)
    if isinstance(value, Dim) and len(value.terms) == 1:
        ((monomial, coefficient),) = value.terms
        if coefficient == 1 and len(monomial) == 1:
            value = monomial[0]
    opened = isinstance(value, Dim) or (isinstance(value, Opaque) and value.op == "//") or text.startswith("-")
    return f"({text})" if opened else text


def _atom_names(atom: Atom) -> frozenset[str]:
    return frozenset((atom,)) if isinstance(atom, str) else extent_names((atom.left, atom.right))


def _atom_value(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return sizes[atom]
    left, right = bind(atom.left, sizes), bind(atom.right, sizes)
    return left // right if atom.op == "//" else min(left, right) if atom.op == "min" else max(left, right)


def _product(factors: Iterable[Any]) -> Any:
    result: Any = 1
    for factor in factors:
        result = factor * result if isinstance(factor, Dim) else result * factor
    return result
