"""Derivatives as views: transforms that can be composed with each other and with everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.ir.core import Node, full
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.operands import Operand, broadcast, cast, lift, number
from graphc.passes.transforms import gradient, tangent
from graphc.views import View, apply, topological


def grad(y: View, wrt: View | Sequence[View]) -> Any:
    """The gradient of a scalar view.

    Parameters
    ----------
    y : View
        A float view of shape ().
    wrt : View or sequence of View
        Float views, leaves or not.

    Returns
    -------
    View or tuple of View
        One view of its shape for each in `wrt`; zeros where y does not depend on it.

    Raises
    ------
    DifferentiationError
        If y is no scalar, or there is no derivative.
    """
    return _pull("grad", y, wrt, None)


def vjp(y: View, wrt: View | Sequence[View], cotangent: Operand) -> Any:
    """The product of a cotangent, of y's shape, with the Jacobian of y: a view for a view, a tuple for a sequence."""
    return _pull("vjp", y, wrt, cotangent)


def jvp(y: View, wrt: View | Sequence[View], tangents: Operand) -> View:
    """The product of the Jacobian of y with tangents, one of its shape for each view in `wrt`: the tangent of y."""
    views = _views("jvp", y, wrt)
    directions = [tangents] if isinstance(wrt, View) else list(tangents)
    if len(views) != len(directions):
        raise DeclarationValueError(f"jvp wants a tangent for each of {len(views)} views, got {len(directions)}")
    names = _names(topological([y, *views]))

    def push(y: Node, wrt: list[Node], tangents: list[Operand]) -> Node:
        moving = [_of_type(one, node, "tangent") for one, node in zip(tangents, wrt, strict=True)]
        (result,) = tangent([y], wrt, moving, names)
        return full(0, y.type) if result is None else result

    return apply("jvp", push, (y, views, directions))  # type: ignore[no-any-return]


def _pull(name: str, y: View, wrt: View | Sequence[View], cotangent: Operand) -> Any:
    views = _views(name, y, wrt)
    names = _names(topological([y, *views]))

    def pull(y: Node, wrt: list[Node], *cotangents: Operand) -> tuple[Node, ...]:
        seed = _of_type(cotangents[0], y, "cotangent") if cotangents else None
        found = gradient(y, wrt, seed, names)
        return tuple(full(0, node.type) if one is None else one for one, node in zip(found, wrt, strict=True))

    results = apply(name, pull, (y, views) if cotangent is None else (y, views, cotangent))
    return results[0] if isinstance(wrt, View) else results


def _views(name: str, y: Any, wrt: Any) -> list[View]:
    views = list(wrt) if isinstance(wrt, (list, tuple)) else [wrt]
    for view in (y, *views):
        if not isinstance(view, View):
            raise DeclarationTypeError(f"{name} is of views with respect to views, got {view!r}")
    return views


def _of_type(value: Operand, node: Node, what: str) -> Node:
    """A cotangent or tangent in the type of the node that it belongs to."""
    value = lift(value)
    if not isinstance(value, Node):
        return number(value, node.type)
    if value.shape not in ((), node.shape):
        raise DeclarationValueError(f"the {what} of a view of type {node.type} has its shape, got {value.type}")
    return broadcast(cast(value, node.dtype), node.shape)


def _names(views: Sequence[View]) -> dict[Node, str]:
    return {view.node: view.name for view in views if view.name is not None}
