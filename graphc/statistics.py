"""NumPy's statistics on nodes: weighted means, covariances, and reductions that leave NaN out.

A NaN that is left out is replaced before it meets anything, so that its gradient is 0 and no other one is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import reductions, scans
from graphc.arithmetic import clip, divide, maximum, multiply, sqrt, square, subtract, where
from graphc.ir import ops
from graphc.ir.core import Node, full
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.half import SINGLE
from graphc.ir.types import is_half
from graphc.layout import concatenate, expand_dims, reshape, squeeze, transpose
from graphc.operands import (
    FLOAT,
    INDEX,
    Operand,
    as_axis,
    as_float,
    as_node,
    cast,
    dtype_of,
    result_dtype,
    shape_text,
    told,
)
from graphc.products import matmul
from graphc.reductions import Axis, all, count_nonzero, extreme, mean, sum

# weighted means and covariances ---------------------------------------------------------------------------------------


def average(a: Operand, axis: Axis = None, weights: Operand = None, *, keepdims: bool = False) -> Node:
    """The mean, weighted if weights are given: of the array's shape, or a vector along one axis.

    Weights whose sum is 0 give nan or inf (NumPy raises there).
    """
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    x, factors = as_node(a), as_node(weights)
    dtype = result_dtype(x, factors) if x.type.is_float else result_dtype(x, factors, np.empty(0, "float64"))
    if factors.shape != x.shape:
        factors = _along(factors, x, axis)
    wide = SINGLE if is_half(dtype) else dtype  # the sums of halves may overflow where the mean does not
    x, factors = cast(x, wide), cast(factors, wide)
    total = sum(multiply(x, factors), axis, keepdims=keepdims)
    return cast(divide(total, sum(_spread(factors, x), axis, keepdims=keepdims)), dtype)


def _along(weights: Node, x: Node, axis: Axis) -> Node:
    """A vector of weights along one axis, over the other axes."""
    if not isinstance(axis, (int, np.integer)):
        raise DeclarationTypeError(
            f"np.average: weights of {shape_text(weights.shape)} for {shape_text(x.shape)} want one axis, "
            f"got {told(axis)}",
            hint="give weights of the array's shape, or axis= and a vector of weights along it",
        )
    place = as_axis(axis, len(x.shape))
    if weights.shape != (x.shape[place],):
        raise DeclarationValueError(
            f"np.average: weights of {shape_text(weights.shape)} do not fit axis {place} of {shape_text(x.shape)}"
        )
    return reshape(weights, (*weights.shape, *(1,) * (len(x.shape) - place - 1)))


def _spread(weights: Node, x: Node) -> Node:
    return weights if weights.shape == x.shape else ops.broadcast_to(weights, shape=x.shape)


def cov(
    m: Operand, y: Operand = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None, *,
    dtype: Any = None,
) -> Node:  # fmt: skip
    """The covariances of variables, which are rows (columns, if not `rowvar`) of one array or two: float64."""
    if dtype is not None and is_half(wanted := dtype_of(dtype)):
        m, y = cast(as_node(m), wanted), None if y is None else cast(as_node(y), wanted)
        return cast(cov(m, y, rowvar, bias, ddof, dtype=SINGLE), wanted)
    variables = _variables(m, rowvar, dtype)
    if y is not None:
        other = _variables(y, rowvar, dtype)
        variables = concatenate([variables, other], 0)
    count = variables.shape[1]
    divisor = (0 if bias else 1) if ddof is None else ddof
    centred = subtract(variables, mean(variables, 1, keepdims=True))
    products = matmul(centred, transpose(centred))
    size = subtract(cast(as_node(count), products.dtype), divisor)
    return squeeze(divide(products, maximum(size, 0)))


def _variables(m: Operand, rowvar: bool, dtype: Any) -> Node:
    x = cast(as_node(m), FLOAT if dtype is None else dtype_of(dtype))
    if len(x.shape) > 2:
        raise DeclarationValueError(f"covariances are of one or two axes, not of {x.type}")
    if len(x.shape) == 2:
        return x if rowvar else transpose(x)
    return reshape(x, (1, *x.shape) if x.shape else (1, 1))


def corrcoef(x: Operand, y: Operand = None, rowvar: bool = True, *, dtype: Any = None) -> Node:
    """The correlations of variables, which are rows (columns, if not `rowvar`) of one array or two: float64."""
    if dtype is not None and is_half(wanted := dtype_of(dtype)):
        x, y = cast(as_node(x), wanted), None if y is None else cast(as_node(y), wanted)
        return cast(corrcoef(x, y, rowvar, dtype=SINGLE), wanted)
    covariances = cov(x, y, rowvar, dtype=dtype)
    if not covariances.shape:
        return divide(covariances, covariances)
    places = ops.iota(shape=covariances.shape[:1], axis=0, dtype=INDEX)
    deviations = sqrt(ops.gather(covariances, places, places, axes=(0, 1)))
    scaled = divide(divide(covariances, expand_dims(deviations, 1)), deviations)
    return clip(scaled, -1, 1)


# without NaN ----------------------------------------------------------------------------------------------------------


def _filled(a: Operand, value: float) -> Node:
    """The array with a number instead of NaN."""
    x = as_node(a)
    return ops.where(ops.isnan(x), full(value, x.type), x) if x.type.is_float else x


def nansum(
    a: Operand, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Operand = None,
    where: Operand = None,
) -> Node:  # fmt: skip
    """The sum of what is not NaN: 0 over nothing."""
    return sum(_filled(a, 0), axis, dtype, keepdims=keepdims, initial=initial, where=where)


def nanprod(
    a: Operand, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Operand = None,
    where: Operand = None,
) -> Node:  # fmt: skip
    """The product of what is not NaN: 1 over nothing."""
    return reductions.prod(_filled(a, 1), axis, dtype, keepdims=keepdims, initial=initial, where=where)


def nancumsum(a: Operand, axis: int | None = None, dtype: Any = None) -> Node:
    """The running sum of what is not NaN."""
    return scans.cumsum(_filled(a, 0), axis, dtype)


def nancumprod(a: Operand, axis: int | None = None, dtype: Any = None) -> Node:
    """The running product of what is not NaN."""
    return scans.cumprod(_filled(a, 1), axis, dtype)


def _count(x: Node, axis: Axis, keepdims: bool) -> Node:
    """How many elements are not NaN, in the dtype of the array."""
    return cast(count_nonzero(ops.logical_not(ops.isnan(x)), axis, keepdims=keepdims), x.dtype)


def nanmean(a: Operand, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Node:
    """The mean of what is not NaN: nan over nothing."""
    x = as_float(a) if dtype is None else cast(as_node(a), dtype_of(dtype))
    if is_half(x.dtype):  # whose sum, or number, may overflow where the mean does not
        return cast(nanmean(cast(x, SINGLE), axis, keepdims=keepdims), x.dtype)
    return divide(sum(_filled(x, 0), axis, keepdims=keepdims), _count(x, axis, keepdims))


def nanvar(
    a: Operand, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
    correction: float | None = None,
) -> Node:  # fmt: skip
    """The mean squared distance from the mean, of what is not NaN: nan, with gradient 0, of no more than `ddof`."""
    x = as_float(a) if dtype is None else cast(as_node(a), dtype_of(dtype))
    if is_half(x.dtype):
        wide = nanvar(cast(x, SINGLE), axis, ddof=ddof, keepdims=keepdims, correction=correction)
        return cast(wide, x.dtype)
    distances = subtract(x, nanmean(x, axis, keepdims=True))
    squares = square(where(ops.isnan(x), 0, distances))
    count = subtract(_count(x, axis, keepdims), ddof if correction is None else correction)
    positive = ops.greater(count, full(0, count.type))
    return where(positive, divide(sum(squares, axis, keepdims=keepdims), where(positive, count, 1)), np.nan)


def nanstd(
    a: Operand, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
    correction: float | None = None,
) -> Node:  # fmt: skip
    """The square root of `nanvar`."""
    x = as_float(a) if dtype is None else cast(as_node(a), dtype_of(dtype))
    wide = cast(x, SINGLE) if is_half(x.dtype) else x  # rounded once
    return cast(sqrt(nanvar(wide, axis, ddof=ddof, keepdims=keepdims, correction=correction)), x.dtype)


def _nan_extremum(reduce: Callable[..., Node], lowest: bool) -> Callable[..., Node]:
    """An extremum of what is not NaN: nan over nothing else, where NumPy warns."""

    def extremum(a: Operand, axis: Axis = None, *, keepdims: bool = False) -> Node:
        x = as_node(a)
        if not x.type.is_float:
            return reduce(x, axis, keepdims=keepdims)
        found = reduce(_filled(x, extreme(x.dtype, lowest)), axis, keepdims=keepdims)
        return where(all(ops.isnan(x), axis, keepdims=keepdims), np.nan, found)

    return extremum


nanmax = _nan_extremum(reductions.max, lowest=True)
nanmin = _nan_extremum(reductions.min, lowest=False)


def _nan_position(locate: Callable[..., Node], lowest: bool) -> Callable[..., Node]:
    """Where an extremum of what is not NaN is; 0 where all is NaN (NumPy raises there)."""

    def position(a: Operand, axis: int | None = None, *, keepdims: bool = False) -> Node:
        x = as_node(a)
        return locate(_filled(x, extreme(x.dtype, lowest)), axis, keepdims=keepdims)

    return position


nanargmax = _nan_position(reductions.argmax, lowest=True)
nanargmin = _nan_position(reductions.argmin, lowest=False)
