"""What type rules check: axes, shapes, dtypes, and conditions on symbolic extents that become guards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from graphc.ir.core import Guard, same_type
from graphc.ir.dims import Dim, Extent, is_extent
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.ir.types import Shape, TensorType


def check_axis(name: str, axis: Any, ndim: int) -> None:
    """Check that an axis is in 0 .. ndim - 1."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise DeclarationTypeError(f"{name} wants an integer axis, got {axis!r}")
    if not 0 <= axis < ndim:
        raise DeclarationIndexError(f"{name}: axis {axis} is out of range for {ndim} axes")


def check_axes(name: str, axes: Any, ndim: int) -> None:
    """Check that axes are distinct and in range."""
    if not isinstance(axes, tuple):
        raise DeclarationTypeError(f"{name} wants a tuple of axes, got {axes!r}")
    for axis in axes:
        check_axis(name, axis, ndim)
    if len(set(axes)) < len(axes):
        raise DeclarationValueError(f"{name} wants distinct axes, got {axes}")


def check_shape(name: str, shape: Any) -> None:
    """Check that a shape is a tuple of dims and ints, none negative."""
    if not isinstance(shape, tuple) or not all(is_extent(extent) for extent in shape):
        raise DeclarationTypeError(f"{name} wants a shape of ints and dims, got {shape!r}")
    if any(isinstance(extent, int) and extent < 0 for extent in shape):
        raise DeclarationValueError(f"{name} wants a shape without negative extents, got {shape}")


def check_dtype(name: str, type: TensorType, accepts: str) -> None:
    """Check the dtype kind of one operand."""
    same_type(name, (type,), accepts)


def show(shape: Iterable[Extent]) -> str:
    """A shape as users write it: ``(N, 64)``."""
    texts = [str(extent) for extent in shape]
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def without(shape: Shape, axes: Iterable[int]) -> Shape:
    """A shape that has lost some axes."""
    dropped = set(axes)
    return tuple(extent for axis, extent in enumerate(shape) if axis not in dropped)


def at_least_zero(extent: Extent, what: str) -> Iterator[Guard]:
    """The guard that an extent is not negative; none where that is clear. `what` wants it, says the text."""
    if isinstance(extent, Dim) and not _is_natural(extent):
        yield Guard(extent, ">=", f"{what} wants {condition(extent)}")


def _is_natural(extent: Dim) -> bool:
    """Whether an extent is a sum of products of dims, none of which is ever negative."""
    return all(factor > 0 and all(isinstance(atom, str) for atom in monomial) for monomial, factor in extent.terms)


def condition(extent: Dim) -> str:
    """``extent >= 0`` as a person writes it: ``N >= 5``."""
    constant = dict(extent.terms).get((), 0)
    varying = extent - constant
    return f"{varying} >= {-constant}" if extent.terms[0][1] > 0 else f"{-varying} <= {constant}"
