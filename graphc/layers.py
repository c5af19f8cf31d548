"""Layers: functions of a view that bring their own parameters, made where the layer is first applied."""

from __future__ import annotations

import operator
from typing import Any

from graphc.arithmetic import add
from graphc.initializers import check_initializer
from graphc.ir.core import Node
from graphc.ir.dims import Dim
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.leaves import Param, Role
from graphc.operands import FLOAT
from graphc.products import matmul
from graphc.views import View, apply, as_view


class Dense:
    """An affine layer, ``x @ weight + bias`` over the last axis of x.

    The parameters are made at the first application, in the dtype of x; applied again, the layer shares them.

    Parameters
    ----------
    units : int
        The extent of the result's last axis.
    bias : bool, optional
        Whether there is a bias, which starts as zeros.
    init : str, optional
        The initialiser of the weight, see `Param`.

    Attributes
    ----------
    weight : Param or None
        Of shape (in, units); None before the first application.
    bias : Param or None
        Of shape (units,).
    """

    def __init__(self, units: int, bias: bool = True, init: str = "glorot_uniform") -> None:
        if isinstance(units, bool) or not hasattr(units, "__index__") or isinstance(units, (Dim, View)):
            raise DeclarationTypeError(f"the units of a Dense layer are an int, not {units!r}")
        self.units = operator.index(units)
        if self.units < 0:
            raise DeclarationValueError(f"the units of a Dense layer are not negative: {self.units}")
        self.init = check_initializer(init)
        self.weight: Param | None = None
        self.bias: Param | None = None
        self._has_bias = bias

    def __repr__(self) -> str:
        return f"Dense({self.units})"

    def __call__(self, x: Any) -> View:
        """Apply the layer to a view."""
        x = as_view(x)
        if self.weight is None:
            self._make_params(x)
        params = (self.weight,) if self.bias is None else (self.weight, self.bias)
        result = apply("Dense", _affine, (x, *params))
        assert isinstance(result, View)
        return result

    def _make_params(self, x: View) -> None:
        size, dtype = apply("Dense", _features, (x,))
        self.weight = Param((size, self.units), self.init, dtype, role=Role(self, "dense", "weight"))
        if self._has_bias:
            self.bias = Param((self.units,), "zeros", dtype, role=Role(self, "dense", "bias"))


def _features(x: Node) -> tuple[int, Any]:
    if not x.shape:
        raise DeclarationValueError(f"a Dense layer wants at least one axis, got {x.type}")
    size = x.shape[-1]
    if isinstance(size, Dim):
        raise DeclarationValueError(
            f"a Dense layer's weight has a row per feature, and the last dim of {x.type} is symbolic: {size}",
            hint="give the input a known last dim: Input(('N', 64))",
        )
    return size, x.dtype if x.type.is_float else FLOAT


def _affine(x: Node, weight: Node, bias: Node | None = None) -> Node:
    product = matmul(x, weight)
    return product if bias is None else add(product, bias)
