"""Derivatives as views: transforms that can be composed with each other and with everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.ir.core import Node, full
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.types import TensorType
from graphc.operands import Operand, broadcast, cast, lift, number
from graphc.passes import transforms
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
    views, directions = _directions("jvp", y, wrt, tangents)
    names = _names(topological([y, *views]))

    def push(y: Node, wrt: list[Node], tangents: list[Operand]) -> Node:
        moving = [_of_type(one, node, "tangent") for one, node in zip(tangents, wrt, strict=True)]
        (result,) = tangent([y], wrt, moving, names)
        return _or_zeros([result], [y.type])[0]

    return apply("jvp", push, (y, views, directions))  # type: ignore[no-any-return]


def jacobian(y: View, x: View | Sequence[View]) -> Any:
    """The derivative of every element of a view by every element of another.

    Parameters
    ----------
    y : View
        A float view of any shape.
    x : View or sequence of View
        Float views, leaves or not, whose dims may be symbolic.

    Returns
    -------
    View or tuple of View
        A view of shape ``y.shape + x.shape`` for each in `x`: at ``[i, j]`` the derivative of ``y[i]`` by ``x[j]``.

    Raises
    ------
    DifferentiationError
        If there is no derivative.
    """
    views = _views("jacobian", y, x)
    names = _names(topological([y, *views]))

    def differentiate(y: Node, wrt: list[Node]) -> tuple[Node, ...]:
        return tuple(_jacobians(y, wrt, names))

    results = apply("jacobian", differentiate, (y, views))
    return results[0] if isinstance(x, View) else results


def hessian(y: View, x: View | Sequence[View]) -> Any:
    """The second derivatives of a scalar view.

    Parameters
    ----------
    y : View
        A float view of shape ().
    x : View or sequence of View
        Float views, leaves or not.

    Returns
    -------
    View or tuple of tuple of View
        A view of shape ``x.shape + x.shape``; for a sequence a row of blocks for each view, of shape
        ``x[k].shape + x[l].shape``.

    Raises
    ------
    DifferentiationError
        If y is no scalar, or there is no derivative.
    """
    views = _views("hessian", y, x)
    names = _names(topological([y, *views]))

    def differentiate(y: Node, wrt: list[Node]) -> tuple[Node, ...]:
        return tuple(block for one in _gradients(y, wrt, None, names) for block in _jacobians(one, wrt, names))

    blocks = apply("hessian", differentiate, (y, views))
    count = len(views)
    return blocks[0] if isinstance(x, View) else tuple(blocks[k : k + count] for k in range(0, len(blocks), count))


def hvp(y: View, x: View | Sequence[View], v: Operand) -> Any:
    """The product of the Hessian of a scalar view with a vector, forward over reverse: no Hessian is made.

    Parameters
    ----------
    y : View
        A float view of shape ().
    x : View or sequence of View
        Float views, leaves or not.
    v : View or array, or a sequence of them
        One of its shape for each view in `x`.

    Returns
    -------
    View or tuple of View
        One view of its shape for each in `x`.

    Raises
    ------
    DifferentiationError
        If y is no scalar, or there is no derivative.
    """
    views, directions = _directions("hvp", y, x, v)
    names = _names(topological([y, *views]))

    def push(y: Node, wrt: list[Node], tangents: list[Operand]) -> tuple[Node, ...]:
        moving = [_of_type(one, node, "vector") for one, node in zip(tangents, wrt, strict=True)]
        return tuple(_or_zeros(tangent(_gradients(y, wrt, None, names), wrt, moving, names), [x.type for x in wrt]))

    results = apply("hvp", push, (y, views, directions))
    return results[0] if isinstance(x, View) else results


def _pull(name: str, y: View, wrt: View | Sequence[View], cotangent: Operand) -> Any:
    views = _views(name, y, wrt)
    names = _names(topological([y, *views]))

    def pull(y: Node, wrt: list[Node], *cotangents: Operand) -> tuple[Node, ...]:
        seed = _of_type(cotangents[0], y, "cotangent") if cotangents else None
        return tuple(_gradients(y, wrt, seed, names))

    results = apply(name, pull, (y, views) if cotangent is None else (y, views, cotangent))
    return results[0] if isinstance(wrt, View) else results


def _views(name: str, y: Any, wrt: Any) -> list[View]:
    views = list(wrt) if isinstance(wrt, (list, tuple)) else [wrt]
    for view in (y, *views):
        if not isinstance(view, View):
            raise DeclarationTypeError(f"{name} is of views with respect to views, got {view!r}")
    return views


def _directions(name: str, y: Any, wrt: Any, tangents: Any) -> tuple[list[View], list[Operand]]:
    """The views of `wrt`, and a tangent for each."""
    views = _views(name, y, wrt)
    directions = [tangents] if isinstance(wrt, View) else list(tangents)
    if len(views) != len(directions):
        raise DeclarationValueError(f"{name} wants a tangent for each of {len(views)} views, got {len(directions)}")
    return views, directions


def _gradients(y: Node, wrt: list[Node], seed: Node | None, names: dict[Node, str]) -> list[Node]:
    return _or_zeros(gradient(y, wrt, seed, names), [node.type for node in wrt])


def _jacobians(y: Node, wrt: list[Node], names: dict[Node, str]) -> list[Node]:
    types = [y.type.with_shape((*y.shape, *node.shape)) for node in wrt]
    return _or_zeros(transforms.jacobian(y, wrt, names), types)


def _or_zeros(found: Sequence[Node | None], types: Sequence[TensorType]) -> list[Node]:
    """Derivatives, zeros of their type where nothing flows."""
    return [full(0, type) if one is None else one for one, type in zip(found, types, strict=True)]


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
