"""Leaves of a computation: inputs, which every call feeds, and parameters, which a program keeps."""

from __future__ import annotations

import keyword
import operator
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from graphc.initializers import Initial, check_initializer
from graphc.ir.core import INPUT, PARAM, Literal, Op, leaf
from graphc.ir.dims import Dim
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.half import converted
from graphc.ir.types import TensorType, kind_of
from graphc.locations import located, user_place
from graphc.operands import as_shape, dtype_of
from graphc.views import Call, View, shown


class _Leaf(View):
    """A view that is not computed from others."""

    __slots__ = ()

    def _declare(self, op: Op, type: TensorType, call: Call, name: str | None) -> None:
        View.__init__(self, leaf(op, type), (), call, user_place(), _checked_name(name))


class Input(_Leaf):
    """An array that every call of a program is given.

    Parameters
    ----------
    shape : tuple of int, str or Dim
        A name is a symbolic dim: ``Input(("N", 64))``. Equal names are equal extents, bound at the call.
    dtype : dtype, optional
        NumPy's; float64 unless said. float16 and bfloat16 (of the package ml_dtypes) are computed with in float32, and
        every result is rounded.
    name : str, optional
        What calls feed it by. In a planner, the attribute it is bound to.
    """

    __slots__ = ()

    def __init__(self, shape: Any, dtype: Any = "float64", name: str | None = None) -> None:
        with located(f"Input({shown(shape)})"):
            type = TensorType(dtype_of(dtype), as_shape(shape))
            self._declare(INPUT, type, Call("Input", (shape, dtype)), name)


class Role(NamedTuple):
    """What a parameter is to a layer: the layer itself, its kind (``dense``), and the parameter's own name."""

    layer: object
    kind: str
    param: str


class Param(_Leaf):
    """An array that a program keeps, and training changes.

    Parameters
    ----------
    shape_or_value : int, tuple of int, array, list or float
        An int or a tuple of ints is a shape; anything else a value, which gives shape, dtype and start.
    init : str, optional
        For a shape, the initialiser: ``zeros ones glorot_uniform glorot_normal he_uniform he_normal lecun_uniform
        lecun_normal uniform normal``.
    dtype : dtype, optional
        float64 unless an array or NumPy number says otherwise.
    name : str, optional
        Its name in programs; outside planners and layers it must have one.
    """

    __slots__ = ("initial", "role")

    initial: Initial
    role: Role | None

    def __init__(
        self, shape_or_value: Any, init: str = "zeros", dtype: Any = None, name: str | None = None,
        *, role: Role | None = None,
    ) -> None:  # fmt: skip
        with located(f"Param({shown(shape_or_value)})"):
            initial = _initial(shape_or_value, check_initializer(init), dtype)
            type = TensorType(initial.dtype, initial.shape)
            self._declare(PARAM, type, Call("Param", (shape_or_value, init)), name)
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "role", role)


def layer_names(params: Iterable[Param]) -> Iterator[tuple[Param, str]]:
    """``dense.weight``, ``dense_1.weight``, ...: the names of layers' parameters, in the order they appear."""
    labels: dict[object, str] = {}
    counts: dict[str, int] = {}
    for param in params:
        if param.role is None:
            continue
        layer, kind, name = param.role
        if layer not in labels:
            counts[kind] = counts.get(kind, -1) + 1
            labels[layer] = f"{kind}_{counts[kind]}" if counts[kind] else kind
        yield param, f"{labels[layer]}.{name}"


def _initial(given: Any, init: str, dtype: Any) -> Initial:
    chosen = None if dtype is None else dtype_of(dtype)
    shape = _static_shape(given)
    if shape is not None:
        return Initial(shape, chosen or np.dtype("float64"), init)
    if init != "zeros":
        raise DeclarationTypeError(f"a Param with a value takes no init={init!r}", hint="give a shape, or no init")
    if not isinstance(given, (list, tuple, float, np.ndarray, np.generic)):
        raise DeclarationTypeError(
            f"a Param is declared by a shape (ints) or a value (an array, list or float), not {shown(given)}"
        )
    try:
        value = np.asarray(given)
    except ValueError as error:
        raise DeclarationValueError(f"{shown(given)} is not an array: {error}") from None
    if chosen is None:
        # Python's integers say nothing about the dtype; NumPy's do.
        is_plain = not isinstance(given, (np.ndarray, np.generic)) and value.dtype.kind in "iu"
        chosen = np.dtype("float64") if is_plain else dtype_of(value.dtype)
    if kind_of(value.dtype) not in "biuf":
        raise DeclarationTypeError(f"a Param of {value.dtype} elements: expected numbers")
    return Initial(value.shape, chosen, init, Literal(converted(value, chosen)))


def _static_shape(given: Any) -> tuple[int, ...] | None:
    """The shape that an int or a tuple of ints is, or None for a value."""
    extents = given if isinstance(given, tuple) else (given,)
    if any(isinstance(extent, (str, Dim)) for extent in extents):
        raise DeclarationValueError(
            f"the shape of a Param is known: {shown(given)} is symbolic", hint="an Input may have symbolic dims"
        )
    if any(isinstance(extent, (bool, np.bool_, np.ndarray)) or not hasattr(extent, "__index__") for extent in extents):
        return None
    if any(isinstance(extent, View) for extent in extents):
        return None
    sizes = tuple(operator.index(extent) for extent in extents)
    if any(size < 0 for size in sizes):
        raise DeclarationValueError(f"a dim is not negative: {shown(given)}")
    return sizes


def _checked_name(name: Any) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise DeclarationTypeError(f"a name is a string, not {name!r}")
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split(".")):
        raise DeclarationValueError(f"{name!r} is no name: expected an identifier, or several joined by dots")
    return name
