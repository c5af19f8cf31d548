"""Transforms of functions of views: the same over a whole axis, and with a derivative of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.core import INPUT, Node, full, leaf
from graphc.ir.dims import Extent
from graphc.ir.errors import DeclarationIndexError, DeclarationTypeError, DeclarationValueError
from graphc.ir.graph import substitute, toposort
from graphc.ir.ops import custom_vjp as with_rule
from graphc.ir.ops import transpose
from graphc.ir.ops.checks import without
from graphc.ir.ops.custom import cotangent, next_level
from graphc.ir.ops.layout import in_stack
from graphc.ir.types import TensorType
from graphc.locations import located, user_place
from graphc.operands import Operand, cast
from graphc.passes.batch import batch
from graphc.views import Call, View, as_view, shown, topological

# vmap -----------------------------------------------------------------------------------------------------------------


def vmap(
    f: Callable[..., Any], in_axes: int | Sequence[int | None] | None = 0, out_axes: int = 0
) -> Callable[..., Any]:
    """Map a function of arrays over an axis of its arguments, without a loop.

    `f` is declared once, for a single element; every op of it then works on the whole axis at once. It may use other
    views (parameters, layers), take derivatives, and map again.

    Parameters
    ----------
    f : callable
        Takes views, and returns a view or a tuple or list of them.
    in_axes : int, None, or a sequence of these
        Which axis of each argument is mapped over; None: the argument is the same for all. One for all, or one each.
    out_axes : int
        Where the mapped axis is in the results.

    Returns
    -------
    callable
        Takes views or arrays with the axes that are mapped over, which have one extent; returns what `f` returns, with
        that axis in each.

    Raises
    ------
    DeclarationError
        Where no axis is mapped over, an axis is out of range, or the extents differ.
    """
    label = f"vmap({getattr(f, '__name__', type(f).__name__)})"

    def mapped(*args: Operand) -> Any:
        with located(_call_text(label, args)):
            axes = _axes(label, in_axes, args)
            views = [arg if axis is None else as_view(arg) for arg, axis in zip(args, axes, strict=True)]
            stacks = [None if axis is None else _front(view.node, axis, label)
                      for view, axis in zip(views, axes, strict=True)]  # fmt: skip
            size = _common_extent(label, stacks)
        inner = [_element(view, stack) for view, stack in zip(views, stacks, strict=True)]
        results = f(*inner)
        several = isinstance(results, (list, tuple))
        elements = {one.node: stack for one, stack in zip(inner, stacks, strict=True) if stack is not None}
        with located(_call_text(label, args)):
            outputs = [_result(label, one) for one in (results if several else [results])]
            found = batch([one.node for one in outputs], elements, size)
            nodes = [
                _back(in_stack(one.node, size) if new is None else new, out_axes, label)
                for one, new in zip(outputs, found, strict=True)
            ]
        places = [one for one, stack in zip(inner, stacks, strict=True) if stack is not None]
        operands = [view for view in views if isinstance(view, View)] + _captured(outputs, places)
        made = _made(label, args, operands, nodes, several)
        if not several:
            return made[0]
        return results._make(made) if hasattr(results, "_make") else type(results)(made)

    return mapped


def _axes(label: str, in_axes: Any, args: Sequence[Any]) -> list[int | None]:
    axes = list(in_axes) if isinstance(in_axes, (list, tuple)) else [in_axes] * len(args)
    if len(axes) != len(args):
        raise DeclarationValueError(f"{label} has {len(axes)} in_axes and is called with {len(args)} arguments")
    for axis in axes:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, (int, np.integer))):
            raise DeclarationTypeError(f"{label}: in_axes are integers or None, not {axis!r}")
    return [None if axis is None else int(axis) for axis in axes]


def _front(node: Node, axis: int, label: str) -> Node:
    """An argument with the axis that is mapped over in front."""
    rank = len(node.shape)
    if not -rank <= axis < rank:
        raise DeclarationIndexError(
            f"{label}: axis {axis} is out of range for {node.type}", hint="in_axes=None: the same for all"
        )
    axis %= rank
    rest = without(tuple(range(rank)), (axis,))
    return transpose(node, axes=(axis, *rest)) if axis else node


def _back(stack: Node, axis: Any, label: str) -> Node:
    """A result with its leading axis moved to where it is wanted."""
    rank = len(stack.shape)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise DeclarationIndexError(f"{label}: out_axes {axis!r} is out of range for a result of {rank} axes")
    axis %= rank
    return transpose(stack, axes=(*range(1, axis + 1), 0, *range(axis + 1, rank))) if axis else stack


def _common_extent(label: str, stacks: Iterable[Node | None]) -> Extent:
    sizes = list(dict.fromkeys(stack.shape[0] for stack in stacks if stack is not None))
    if not sizes:
        raise DeclarationValueError(f"{label} maps over no axis of its arguments", hint="give in_axes, one not None")
    if len(sizes) > 1:
        raise DeclarationValueError(f"{label} maps over axes of different extents: {', '.join(map(str, sizes))}")
    return sizes[0]


def _element(view: Any, stack: Node | None) -> Any:
    """What `f` gets: one element of a stack, or an argument that is the same for all."""
    if stack is None:
        return view
    return View(leaf(INPUT, TensorType(stack.dtype, stack.shape[1:])), (), Call("element", (view,)), user_place())


def _result(label: str, value: Any) -> View:
    if not isinstance(value, View):
        raise DeclarationTypeError(
            f"{label}: the function returned {shown(value)}", hint="return a view, or a tuple of views"
        )
    return value


# custom_vjp -----------------------------------------------------------------------------------------------------------


def custom_vjp(
    f: Callable[..., View], forward: Callable[..., Any], backward: Callable[..., Any]
) -> Callable[..., View]:
    """A function with a reverse derivative of one's own.

    Parameters
    ----------
    f : callable
        Takes views and returns a view: the value.
    forward : callable
        Takes what `f` takes, and returns ``(out, saved)``: the value again, and what `backward` needs, a view or
        nested tuples and lists of them.
    backward : callable
        ``backward(saved, cotangent)`` returns a tuple: for each argument a view (or number) of its shape, or None for
        zero.

    Returns
    -------
    callable
        `f`, which derivatives pass by the rule. Forward mode (`jvp`, `hvp`) transposes it, for which it must be linear
        in the cotangent (that it adds nothing to a linear function is not checked). Derivatives of higher order
        differentiate the rule. No derivative flows to views that the functions use beside their arguments.

    Raises
    ------
    DeclarationError
        Where the functions do not return what is said here.
    """
    label = f"custom_vjp({getattr(f, '__name__', type(f).__name__)})"

    def ruled(*args: Operand) -> View:
        views = [as_view(arg) for arg in args]
        value = f(*views)
        with located(_call_text(label, args)):
            if not isinstance(value, View):
                raise DeclarationTypeError(f"{label}: f returns a view, not {shown(value)}")
        saved = _saved(label, args, value, forward(*views))
        seed = View(leaf(INPUT, value.node.type), (), Call("cotangent"), user_place())
        pulled = backward(saved, seed)
        with located(_call_text(label, args)):
            cotangents = _cotangents(label, views, pulled)
            level = next_level((value.node, *cotangents))
            mark = cotangent(dtype=value.dtype, shape=value.shape, level=level)
            rules = substitute(cotangents, {seed.node: mark})
            node = with_rule(value.node, *(view.node for view in views), *rules, level=level)
        used = [one for one in pulled if isinstance(one, View)]
        return _made(label, args, [*views, value, *_captured(used, [seed])], [node], False)[0]

    return ruled


def _saved(label: str, args: Sequence[Any], value: View, result: Any) -> Any:
    """What `forward` saved."""
    with located(_call_text(label, args)):
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], View):
            raise DeclarationTypeError(f"{label}: forward returns (out, saved), not {shown(result)}")
        out, saved = result
        if out.node.type != value.node.type:
            raise DeclarationValueError(f"{label}: f returns {value.node.type}, and forward {out.node.type}")
        return saved


def _cotangents(label: str, views: Sequence[View], pulled: Any) -> list[Node]:
    """A cotangent for each argument, of its type."""
    if not isinstance(pulled, (list, tuple)) or len(pulled) != len(views):
        given = f"{len(pulled)}" if isinstance(pulled, (list, tuple)) else shown(pulled)
        raise DeclarationTypeError(
            f"{label}: backward returns a tuple with a cotangent for each of {len(views)} arguments, not {given}"
        )
    found: list[Node] = []
    for place, (view, one) in enumerate(zip(views, pulled, strict=True)):
        node = full(0, view.node.type) if one is None else as_view(one).node
        if node.shape != view.shape:
            raise DeclarationValueError(
                f"{label}: the cotangent of argument {place} has its shape, {view.node.type}; backward gave {node.type}"
            )
        found.append(cast(node, view.dtype))
    return found


# both -----------------------------------------------------------------------------------------------------------------


def _captured(results: Sequence[View], inner: Sequence[View]) -> list[View]:
    """The views that results are made of beside some inner ones, which do not outlive the call."""
    inside = {view.node for view in inner}
    for node in toposort(view.node for view in results):
        if any(operand in inside for operand in node.operands):
            inside.add(node)
    order = topological(results, is_known=lambda one: one.node not in inside)
    return [view for view in order if view.node not in inside]


def _call_text(label: str, args: Sequence[Any]) -> str:
    return f"{label}({', '.join(shown(arg) for arg in args)})"


def _made(
    label: str, args: Sequence[Any], operands: Sequence[View], nodes: Sequence[Node], several: bool
) -> list[View]:
    """The resulting views, which show as the call that made them."""
    below, call, place = tuple(dict.fromkeys(operands)), Call(label, tuple(args)), user_place()
    return [
        View(node, below, call._replace(part=part) if several else call, place) for part, node in enumerate(nodes)
    ]
