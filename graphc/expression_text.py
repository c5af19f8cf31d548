"""Expressions as text: a planner's views as the user wrote them, in NumPy's notation, in a list or as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphc.build import build
from graphc.dispatch import ACCUMULATES, FUNCTIONS, UFUNCS, numpy_name, written
from graphc.ir.dims import Dim
from graphc.ir.graph import naming
from graphc.leaves import Param
from graphc.planner import Planner, views_of
from graphc.views import View, topological
from graphc.writing import CHANGES

# An inner expression longer than this stands as "..." in the one around it: shared ones would repeat without end.
LONGEST = 100
SMALL_ARRAY = 8


class Text(NamedTuple):
    """Some source text and how tightly it binds, see `_BINDING`."""

    text: str
    binding: int


ATOM = 100
# How tightly Python's operators bind, for the functions that have one.
_BINDING: Mapping[str, tuple[str, int]] = {
    "equal": ("==", 10), "not_equal": ("!=", 10), "less": ("<", 10), "less_equal": ("<=", 10),
    "greater": (">", 10), "greater_equal": (">=", 10),
    "bitwise_or": ("|", 20), "bitwise_xor": ("^", 30), "bitwise_and": ("&", 40),
    "left_shift": ("<<", 50), "right_shift": (">>", 50),
    "add": ("+", 60), "subtract": ("-", 60),
    "multiply": ("*", 70), "divide": ("/", 70), "floor_divide": ("//", 70), "remainder": ("%", 70), "matmul": ("@", 70),
    "power": ("**", 90),
}  # fmt: skip
_SIGN = 80
_SIGNS: Mapping[str, str] = {"negative": "-", "positive": "+", "invert": "~"}

# graphc's own functions have no prefix.
_NUMPY = {
    written(function): numpy_name(function)
    for function in (*UFUNCS, *FUNCTIONS)
    if function.__name__.isidentifier()
} | {f"{ufunc.__name__}.accumulate": f"np.{ufunc.__name__}.accumulate" for ufunc in ACCUMULATES}

Inner = Callable[[View], Text]


# one call -------------------------------------------------------------------------------------------------------------


def call_text(view: View, inner: Inner) -> Text:
    """How a view was written, with `inner` for the views that it is made of."""
    function, args, kwargs, part = view.call
    if part is not None:
        return Text(f"{_function(view, inner)}[{part}]", ATOM)
    if function in _SIGNS and len(args) == 1:
        return Text(f"{_SIGNS[function]}{_within(args[0], inner, _SIGN)}", _SIGN)
    if function in _BINDING and len(args) == 2 and not kwargs:
        return _operator(*_BINDING[function], args, inner)
    special = _SPECIAL.get(function)
    if special is not None and args:
        return Text(special(args, kwargs, inner), ATOM)
    return Text(_function(view, inner), ATOM)


def _operator(sign: str, binding: int, args: Sequence[Any], inner: Inner) -> Text:
    # ** groups from the right, comparisons not at all, all others from the left.
    left = binding + (sign == "**" or binding == 10)
    right = binding + (sign != "**")
    return Text(f"{_within(args[0], inner, left)} {sign} {_within(args[1], inner, right)}", binding)


def _function(view: View, inner: Inner) -> str:
    function, args, kwargs, _ = view.call
    if isinstance(view, Param) and view.initial.value is not None:
        args = args[:1]
    layer = next((repr(arg.role.layer) for arg in args if _is_part_of(arg, function)), None)
    if layer is not None:
        args = tuple(arg for arg in args if not _is_part_of(arg, function))
    texts = [value_text(arg, inner).text for arg in args]
    texts += [f"{key}={value_text(value, inner).text}" for key, value in kwargs.items()]
    return f"{layer or _NUMPY.get(function, function)}({', '.join(texts)})"


def _is_part_of(value: Any, function: str) -> bool:
    """Whether a value is a parameter that a layer of this name brings along: a layer is shown by its own arguments."""
    return isinstance(value, Param) and value.role is not None and type(value.role.layer).__name__ == function


def _getitem(args: Sequence[Any], kwargs: Mapping[str, Any], inner: Inner) -> str:
    return f"{_within(args[0], inner, ATOM)}[{_index_text(args[1], inner)}]"


def _at(method: str) -> Callable[[Sequence[Any], Mapping[str, Any], Inner], str]:
    def text(args: Sequence[Any], kwargs: Mapping[str, Any], inner: Inner) -> str:
        target = f"{_within(args[0], inner, ATOM)}.at[{_index_text(args[1], inner)}]"
        return f"{target}.{method}({value_text(args[2], inner).text})"

    return text


def _astype(args: Sequence[Any], kwargs: Mapping[str, Any], inner: Inner) -> str:
    return f"{_within(args[0], inner, ATOM)}.astype({_dtype_text(args[1])})"


def _array(args: Sequence[Any], kwargs: Mapping[str, Any], inner: Inner) -> str:
    return value_text(args[0], inner).text


def _transpose(args: Sequence[Any], kwargs: Mapping[str, Any], inner: Inner) -> str:
    if len(args) == 1 and not kwargs:
        return f"{_within(args[0], inner, ATOM)}.T"
    texts = [value_text(arg, inner).text for arg in args]
    return f"np.transpose({', '.join([*texts, *(f'{key}={value!r}' for key, value in kwargs.items())])})"


_SPECIAL: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any], Inner], str]] = {
    "getitem": _getitem,
    **{f"at_{how}": _at(how) for how in CHANGES},
    "astype": _astype,
    "array": _array,
    "transpose": _transpose,
}


def _within(value: Any, inner: Inner, binding: int) -> str:
    """A value in parentheses unless it binds at least that tightly."""
    text = value_text(value, inner)
    return text.text if text.binding >= binding else f"({text.text})"


def value_text(value: Any, inner: Inner) -> Text:
    """An argument as it would be written; large arrays by their type."""
    match value:
        case View():
            return inner(value)
        case Dim():
            text = str(value)
            return Text(text, ATOM if text.isidentifier() else 0)
        case np.ndarray():
            return Text(_array_text(value), ATOM)
        case list() | tuple():
            opening, closing = "[]" if isinstance(value, list) else "()"
            items = ", ".join(value_text(item, inner).text for item in value)
            return Text(f"{opening}{items}{',' if len(value) == 1 and closing == ')' else ''}{closing}", ATOM)
        case np.dtype() | type():
            return Text(_dtype_text(value), ATOM)
    text = repr(value)
    if " at 0x" in text:  # an address would differ from run to run
        text = getattr(value, "__name__", type(value).__name__)
    return Text(text, _SIGN if text.startswith("-") else ATOM)


def _array_text(value: np.ndarray) -> str:
    if value.size > SMALL_ARRAY:
        return f"<{value.dtype}[{','.join(map(str, value.shape))}]>"
    return f"np.array({value.tolist()!r}, {_dtype_text(value.dtype)})"


def _dtype_text(value: Any) -> str:
    return repr(np.dtype(value).name)


def _index_text(index: Any, inner: Inner) -> str:
    items = index if isinstance(index, tuple) else (index,)
    texts = [_slice_text(item, inner) if isinstance(item, slice) else _index_item(item, inner) for item in items]
    return ", ".join(texts) + ("," if isinstance(index, tuple) and len(index) == 1 else "")


def _index_item(item: Any, inner: Inner) -> str:
    return "..." if item is Ellipsis else value_text(item, inner).text


def _slice_text(index: slice, inner: Inner) -> str:
    start, stop, step = ("" if part is None else value_text(part, inner).text
                         for part in (index.start, index.stop, index.step))  # fmt: skip
    return f"{start}:{stop}" + (f":{step}" if step else "")


# whole expressions ----------------------------------------------------------------------------------------------------


def expression(view: View) -> str:
    """A view's expression in infix notation: inner views that have a name by their name, the others written out."""
    texts: dict[View, Text] = {}

    def inner(arg: View) -> Text:
        if arg.name is not None:
            return Text(arg.name, ATOM)
        return texts[arg] if len(texts[arg].text) <= LONGEST else Text("...", ATOM)

    for one in topological([view], is_known=lambda known: known.name is not None):
        if one is view or one.name is None:
            texts[one] = call_text(one, inner)
    return texts[view].text


def listed_views(planner: type[Planner]) -> dict[str, View]:
    """A planner's views by name, in attribute order; a layer's parameters stand before the view that applied it."""
    found: dict[str, View] = {}
    for name, view in views_of(planner).items():
        for one in topological([view], is_known=lambda known: known.name is not None):
            if isinstance(one, Param) and one.role is not None and one.name is not None:
                found.setdefault(one.name, one)
        found[name] = view
    return found


def listing(planner: type[Planner]) -> str:
    """Every view of a planner, a line each: name, type, expression; an alias is the name of its view."""
    rows = [
        (name, str(view.node.type), expression(view) if view.name in (name, None) else str(view.name))
        for name, view in listed_views(planner).items()
    ]
    return columns(rows)


def columns(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of text in aligned columns, two spaces apart; those of the numbers in `right` are aligned at their end."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.rjust(width) if k in right else cell.ljust(width)
                  for k, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def tree(view: View) -> str:
    """The expression tree of a view, ``| `` a level: each view once, and then by its name alone."""
    labels = _labels(view)
    shown: set[str] = set()
    lines: list[str] = []
    stack = [(view, 0)]
    while stack:
        one, depth = stack.pop()
        label = labels[one]
        if label in shown:
            lines.append(f"{'| ' * depth}{label}")
            continue
        shown.add(label)
        call = call_text(one, lambda arg: Text(labels[arg], ATOM)).text
        lines.append(f"{'| ' * depth}{label} = {call} : {one.node.type}")
        stack.extend((arg, depth + 1) for arg in reversed(one.args))
    return "".join(f"{line}\n" for line in lines)


def _labels(root: View) -> dict[View, str]:
    """A name for every view below one: the user's, else the one that it has in the IR, else ``<view>_<k>``."""
    in_graph = naming(build([root]).graph)
    order = topological([root])
    taken = {*in_graph.values(), *(view.name for view in order if view.name is not None)}
    labels = {view: view.name for view in order if view.name is not None}
    owner: dict[View, str] = {}
    for view in reversed(order):
        base = labels.get(view) or owner.setdefault(view, view.call.function.rpartition(".")[2])
        for arg in view.args:
            owner[arg] = base
    for view in order:
        if view not in labels:
            labels[view] = in_graph.get(view.node) or _free(owner[view], taken)
    return labels


def _free(base: str, taken: set[str]) -> str:
    k = 0
    while (name := f"{base}_{k}") in taken:
        k += 1
    taken.add(name)
    return name
