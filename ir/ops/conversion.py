"""Ops that keep the value: conversion to another dtype, and the marks that differentiation reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.core import ANY, Custom, Derivative, Discrete, Linear, Node, Op, PiecewiseConstant, Rule, elementwise
from graphc.ir.errors import DeclarationTypeError
from graphc.ir.half import SINGLE, converted
from graphc.ir.types import DTYPES, TensorType, is_half


def _cast_infer(x: TensorType, *, dtype: np.dtype) -> TensorType:
    if np.dtype(dtype).name not in DTYPES:
        raise DeclarationTypeError(f"cast to {dtype}: no such dtype in graphs; there are {', '.join(DTYPES)}")
    return x.with_dtype(dtype)


def _cast_transpose(node: Node, ct: Node) -> tuple[Node | None]:
    source = node.operands[0].type
    if not (source.is_float and node.type.is_float):
        return (None,)
    return (ct if ct.dtype.kind == "b" else cast(ct, dtype=source.dtype),)


cast = Op(
    name="cast",
    infer=_cast_infer,
    evaluate=converted,
    derivative=Linear(_cast_transpose),
    numpy=("astype",),
    note="a float that its integer type cannot hold gives whatever the machine gives; to a float it rounds once",
)


def _same(x: np.ndarray) -> np.ndarray:
    return x


anchor = elementwise(
    "anchor", _same, "{0}", Linear(lambda node, ct: (ct,)), accepts=ANY, numpy=(),
    note="an inner view listed in wrt; no rewrite opens it",
)  # fmt: skip
stop_gradient = elementwise("stop_gradient", _same, "{0}", PiecewiseConstant(), accepts=ANY)


def rules_in_single(jvp: Rule, vjp: Rule) -> Custom:
    """The rules of an op of one dtype; of halves they are computed in float32, where sums neither stop nor overflow.

    They then are rules of the op in float32, which is what computes its value too.
    """

    def wide(node: Node) -> Node:
        return node.op(*(cast(operand, dtype=SINGLE) for operand in node.operands), **dict(node.attrs))

    def wide_jvp(node: Node, tangents: tuple[Node | None, ...]) -> Any:
        if not is_half(node.dtype):
            return jvp(node, tangents)
        moved = tuple(None if tangent is None else cast(tangent, dtype=SINGLE) for tangent in tangents)
        return cast(jvp(wide(node), moved), dtype=node.dtype)

    def wide_vjp(node: Node, ct: Node) -> Any:
        if not is_half(node.dtype):
            return vjp(node, ct)
        return tuple(cast(result, dtype=node.dtype) for result in vjp(wide(node), cast(ct, dtype=SINGLE)))

    return Custom(wide_jvp, wide_vjp)


def derivative_of(node: Node) -> Derivative:
    """The derivative of a node: its op's, but discrete for a cast to (or from) something without one."""
    if node.op is cast and not (node.type.is_float and node.operands[0].type.is_float):
        return Discrete()
    return node.op.derivative

