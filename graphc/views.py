"""Views: the immutable symbolic expressions that users write, one IR node each with its name and its place.

A view knows the call that made it, so that it can be shown as it was written; the mathematics is in the node. All
public functions end in `apply`, which hands nodes to a function of nodes and wraps the result.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, ParamSpec

import numpy as np

from graphc import arithmetic, indexing
from graphc.dispatch import ACCUMULATES, FUNCTIONS, HINTS, SHAPELESS, UFUNCS, numpy_name, written
from graphc.ir.core import Node
from graphc.ir.dims import Dim, Extent
from graphc.ir.errors import DeclarationError, DeclarationTypeError, DifferentiationError
from graphc.ir.ops import OPS
from graphc.ir.types import Shape
from graphc.locations import Place, user_place
from graphc.operands import Operand, as_node
from graphc.writing import CHANGES

if TYPE_CHECKING:
    from graphc.planner import Scope

P = ParamSpec("P")


class Call(NamedTuple):
    """How a view was written: a function's public name and what it was called with, views among it.

    `part` is the view's position where the function returns several.
    """

    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    part: int | None = None


class View:
    """A symbolic array: a dtype, a shape and how it is computed from other views.

    Operators, NumPy's functions and ``view | function`` make new views. A view never changes; it hashes by identity,
    and ``x == y`` is a view.
    """

    __slots__ = ("__weakref__", "_name", "_scope", "args", "call", "node", "place")

    node: Node  # what is computed
    args: tuple[View, ...]  # the views it is computed from
    call: Call
    place: Place
    _name: str | None  # the name, and where attribute names are counted: set by a planner's `Scope` alone
    _scope: Scope | None

    def __init__(self, node: Node, args: tuple[View, ...], call: Call, place: Place, name: str | None = None) -> None:
        fields = {"node": node, "args": args, "call": call, "place": place, "_name": name, "_scope": None}
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise DeclarationTypeError(f"a view is immutable: {name} cannot be set")

    def __repr__(self) -> str:
        return f"<view {self._name}: {self.node.type}>" if self._name else f"<view {self.node.type}>"

    # what it is -------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The name within its planner, or the one a leaf was given; None for an inner view."""
        return self._name

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self.node.dtype

    @property
    def shape(self) -> Shape:
        """The shape: ints, and `Dim` objects where it is known at the call only."""
        return self.node.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.shape)

    @property
    def size(self) -> Extent:
        """The number of elements."""
        return self.node.type.size

    @property
    def T(self) -> View:
        """The view with its axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> View:
        """The view with its last two axes swapped."""
        return _function(np.matrix_transpose, self)

    # NumPy's protocols ------------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = f"np.{ufunc.__name__}"
        if method == "accumulate" and ufunc in ACCUMULATES:
            if unknown := [key for key in kwargs if key not in ("axis", "dtype")]:
                self._refuse_keyword(f"{name}.accumulate", unknown[0], ("axis", "dtype"))
            return apply(f"{ufunc.__name__}.accumulate", ACCUMULATES[ufunc], inputs, kwargs)
        if method != "__call__":
            self._refuse(f"{name}.{method} of a view is not there", _METHOD_HINTS.get(method))
        if kwargs:
            self._refuse_keyword(name, next(iter(kwargs)))
        if ufunc not in UFUNCS:
            self._refuse_function(ufunc)
        return apply(ufunc.__name__, UFUNCS[ufunc], inputs)

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if func not in FUNCTIONS:
            self._refuse_function(func)
        given = {key: value for key, value in kwargs.items() if not (key == "out" and value is None)}
        try:
            inspect.signature(FUNCTIONS[func]).bind(*args, **given)
        except TypeError as error:
            known = inspect.signature(FUNCTIONS[func]).parameters
            unknown = [key for key in given if key not in known]
            if unknown:
                self._refuse_keyword(numpy_name(func), unknown[0], [*known][1:])
            self._refuse(f"{numpy_name(func)} of a view: {error}")
        return apply(written(func), FUNCTIONS[func], args, given)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("a view has no values to make an array of", "compile it and call that: graphc.compile(view)(...)")

    # what would silently leave the graph ------------------------------------------------------------------------------

    def __bool__(self) -> NoReturn:
        self._refuse(
            "the truth of a view is not known before the program runs",
            "write np.where(condition, a, b) for if, & | ~ for and, or, not, and np.all or np.any for a whole array",
        )

    def __float__(self) -> NoReturn:
        self._refuse("a view has no value before the program runs", "use the view itself, or view.astype('float64')")

    def __int__(self) -> NoReturn:
        self._refuse("a view has no value before the program runs", "use the view itself, or view.astype('int64')")

    def __index__(self) -> NoReturn:
        self._refuse("a view has no value before the program runs", "x[view] picks by it; sizes are dims: x.shape[0]")

    def __complex__(self) -> NoReturn:
        self._refuse("a view has no value before the program runs", "there are no complex numbers in graphs")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("whether a view contains a value is not known before the program runs", "write np.any(x == value)")

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        self._refuse("a view is immutable", "write x.at[index].set(value) or x.at[index].add(value): a new view")

    def __len__(self) -> int:
        if not self.shape:
            self._refuse("a scalar view has no length")
        if isinstance(self.shape[0], Dim):
            self._refuse(
                f"the length of the view is the symbolic dim {self.shape[0]}", "use the dim itself: x.shape[0]"
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[View]:
        if not self.shape:
            self._refuse("a scalar view cannot be iterated over")
        if isinstance(self.shape[0], Dim):
            self._refuse(
                f"a view cannot be iterated over its symbolic dim {self.shape[0]}",
                "write the loop as array arithmetic: np.sum(x, axis=0), x[1:] - x[:-1]",
            )
        return (self[k] for k in range(self.shape[0]))

    def _refuse(self, message: str, hint: str | None = None) -> NoReturn:
        raise DeclarationTypeError(message, where=f"{user_place()}, {shown(self)}", hint=hint)

    def _refuse_keyword(self, name: str, keyword: str, known: Iterable[str] = ()) -> NoReturn:
        takes = f"it takes {', '.join(known)}" if known else "write x.astype(...) before or after it"
        hint = _KEYWORD_HINTS.get(f"{name} {keyword}", _KEYWORD_HINTS.get(keyword, takes))
        self._refuse(f"{name} of a view takes no {keyword}=", hint)

    def _refuse_function(self, function: Callable[..., Any]) -> NoReturn:
        name = function.__name__
        if isinstance(function, np.ufunc) and getattr(np, name, None) is not function:
            instead = f"write graphc.{name}(x)" if name in OPS else None
            self._refuse(f"{name}, a ufunc that is not NumPy's, does not work on views", instead)
        if name in SHAPELESS:
            self._refuse(f"{numpy_name(function)} of a view has a shape that depends on its values", SHAPELESS[name])
        names = {one.__name__: numpy_name(one) for one in (*FUNCTIONS, *UFUNCS) if one.__name__.isidentifier()}
        near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.4)
        nearest = f"the nearest that work: {', '.join(names[one] for one in near)}" if near else None
        self._refuse(f"{numpy_name(function)} does not work on views yet", HINTS.get(name, nearest))

    # operators --------------------------------------------------------------------------------------------------------

    __hash__ = object.__hash__

    def __or__(self, other: Any) -> Any:
        """``x | f`` is ``f(x)``; between boolean or integer operands the bitwise or."""
        return other(self) if callable(other) else _ufunc(np.bitwise_or, self, other)

    def __ror__(self, other: Operand) -> View:
        return _ufunc(np.bitwise_or, other, self)

    def __eq__(self, other: Operand) -> View:  # type: ignore[override]
        return _ufunc(np.equal, self, other)

    def __ne__(self, other: Operand) -> View:  # type: ignore[override]
        return _ufunc(np.not_equal, self, other)

    def __lt__(self, other: Operand) -> View:
        return _ufunc(np.less, self, other)

    def __le__(self, other: Operand) -> View:
        return _ufunc(np.less_equal, self, other)

    def __gt__(self, other: Operand) -> View:
        return _ufunc(np.greater, self, other)

    def __ge__(self, other: Operand) -> View:
        return _ufunc(np.greater_equal, self, other)

    def __neg__(self) -> View:
        return _ufunc(np.negative, self)

    def __pos__(self) -> View:
        return _ufunc(np.positive, self)

    def __abs__(self) -> View:
        return _ufunc(np.absolute, self)

    def __invert__(self) -> View:
        return _ufunc(np.invert, self)

    def __add__(self, other: Operand) -> View:
        return _ufunc(np.add, self, other)

    def __radd__(self, other: Operand) -> View:
        return _ufunc(np.add, other, self)

    def __sub__(self, other: Operand) -> View:
        return _ufunc(np.subtract, self, other)

    def __rsub__(self, other: Operand) -> View:
        return _ufunc(np.subtract, other, self)

    def __mul__(self, other: Operand) -> View:
        return _ufunc(np.multiply, self, other)

    def __rmul__(self, other: Operand) -> View:
        return _ufunc(np.multiply, other, self)

    def __truediv__(self, other: Operand) -> View:
        return _ufunc(np.divide, self, other)

    def __rtruediv__(self, other: Operand) -> View:
        return _ufunc(np.divide, other, self)

    def __floordiv__(self, other: Operand) -> View:
        return _ufunc(np.floor_divide, self, other)

    def __rfloordiv__(self, other: Operand) -> View:
        return _ufunc(np.floor_divide, other, self)

    def __mod__(self, other: Operand) -> View:
        return _ufunc(np.remainder, self, other)

    def __rmod__(self, other: Operand) -> View:
        return _ufunc(np.remainder, other, self)

    def __divmod__(self, other: Operand) -> tuple[View, View]:
        return self // other, self % other

    def __pow__(self, other: Operand) -> View:
        return _ufunc(np.power, self, other)

    def __rpow__(self, other: Operand) -> View:
        return _ufunc(np.power, other, self)

    def __matmul__(self, other: Operand) -> View:
        return _ufunc(np.matmul, self, other)

    def __rmatmul__(self, other: Operand) -> View:
        return _ufunc(np.matmul, other, self)

    def __and__(self, other: Operand) -> View:
        return _ufunc(np.bitwise_and, self, other)

    def __rand__(self, other: Operand) -> View:
        return _ufunc(np.bitwise_and, other, self)

    def __xor__(self, other: Operand) -> View:
        return _ufunc(np.bitwise_xor, self, other)

    def __rxor__(self, other: Operand) -> View:
        return _ufunc(np.bitwise_xor, other, self)

    def __lshift__(self, other: Operand) -> View:
        return _ufunc(np.left_shift, self, other)

    def __rlshift__(self, other: Operand) -> View:
        return _ufunc(np.left_shift, other, self)

    def __rshift__(self, other: Operand) -> View:
        return _ufunc(np.right_shift, self, other)

    def __rrshift__(self, other: Operand) -> View:
        return _ufunc(np.right_shift, other, self)

    # elements ---------------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> View:
        return _one(apply("getitem", indexing.getitem, (self, index)))

    @property
    def at(self) -> At:
        """``x.at[index].set(v)``, and so ``add``, ``multiply``, ``max``, ``min``: x with some elements changed."""
        return At(self)

    # ndarray's methods ------------------------------------------------------------------------------------------------

    def astype(self, dtype: Any) -> View:
        """The elements converted to another dtype."""
        return _one(apply("astype", arithmetic.astype, (self, dtype)))

    def reshape(self, *shape: Any) -> View:
        """The elements in C order in another shape, given as a tuple or as extents; one may be -1."""
        return _function(np.reshape, self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> View:
        """The axes in another order, given as a tuple or one by one; reversed if none is given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return _function(np.transpose, self) if order is None else _function(np.transpose, self, order)

    def swapaxes(self, axis1: int, axis2: int) -> View:
        """Two axes in each other's place."""
        return _function(np.swapaxes, self, axis1, axis2)

    def repeat(self, repeats: Any, axis: int | None = None) -> View:
        """Every element so many times in a row, in the flattened view unless an axis is given."""
        return _function(np.repeat, self, repeats, **_given(axis=axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> View:
        """The diagonal of two axes, as the last axis."""
        return _function(np.diagonal, self, offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> View:
        """The sum of the diagonal of two axes."""
        return _function(np.trace, self, offset, axis1, axis2)

    def squeeze(self, axis: Any = None) -> View:
        """The view without its axes of extent 1, or without the given ones of them."""
        return _function(np.squeeze, self, **_given(axis=axis))

    def ravel(self) -> View:
        """All elements along one axis."""
        return _function(np.ravel, self)

    def flatten(self) -> View:
        """All elements along one axis."""
        return _function(np.ravel, self)

    def copy(self) -> View:
        """The view itself: it never changes."""
        return self

    def sum(self, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> View:
        """The sum over axes."""
        return _function(np.sum, self, **_given(axis=axis, dtype=dtype, keepdims=keepdims))

    def mean(self, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> View:
        """The mean over axes."""
        return _function(np.mean, self, **_given(axis=axis, dtype=dtype, keepdims=keepdims))

    def var(self, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False) -> View:
        """The variance over axes, with ``n - ddof`` as divisor."""
        return _function(np.var, self, **_given(axis=axis, dtype=dtype, ddof=ddof or None, keepdims=keepdims))

    def std(self, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False) -> View:
        """The standard deviation over axes, with ``n - ddof`` as divisor."""
        return _function(np.std, self, **_given(axis=axis, dtype=dtype, ddof=ddof or None, keepdims=keepdims))

    def max(self, axis: Any = None, *, keepdims: bool = False) -> View:
        """The maximum over axes."""
        return _function(np.max, self, **_given(axis=axis, keepdims=keepdims))

    def min(self, axis: Any = None, *, keepdims: bool = False) -> View:
        """The minimum over axes."""
        return _function(np.min, self, **_given(axis=axis, keepdims=keepdims))

    def any(self, axis: Any = None, *, keepdims: bool = False) -> View:
        """Whether any element is not zero."""
        return _function(np.any, self, **_given(axis=axis, keepdims=keepdims))

    def all(self, axis: Any = None, *, keepdims: bool = False) -> View:
        """Whether no element is zero."""
        return _function(np.all, self, **_given(axis=axis, keepdims=keepdims))

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> View:
        """The position of the first maximum, in the flattened view unless an axis is given."""
        return _function(np.argmax, self, **_given(axis=axis, keepdims=keepdims))

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> View:
        """The position of the first minimum, in the flattened view unless an axis is given."""
        return _function(np.argmin, self, **_given(axis=axis, keepdims=keepdims))

    def prod(self, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> View:
        """The product over axes."""
        return _function(np.prod, self, **_given(axis=axis, dtype=dtype, keepdims=keepdims))

    def cumsum(self, axis: int | None = None, dtype: Any = None) -> View:
        """The running sum, of the flattened view unless an axis is given."""
        return _function(np.cumsum, self, **_given(axis=axis, dtype=dtype))

    def cumprod(self, axis: int | None = None, dtype: Any = None) -> View:
        """The running product, of the flattened view unless an axis is given."""
        return _function(np.cumprod, self, **_given(axis=axis, dtype=dtype))

    def argsort(self, axis: int | None = -1) -> View:
        """The positions of the elements in sorted order along an axis; of the flattened view if it is None."""
        return _function(np.argsort, self, axis)

    def searchsorted(self, v: Operand, side: str = "left") -> View:
        """Where values belong in this sorted view."""
        return _function(np.searchsorted, self, v, side)

    def clip(self, min: Operand = None, max: Operand = None) -> View:
        """The elements held between bounds."""
        return _function(np.clip, self, min, max)

    def round(self, decimals: int = 0) -> View:
        """The nearest whole numbers, halves to even."""
        return _function(np.round, self, decimals)

    def dot(self, other: Operand) -> View:
        """NumPy's dot product."""
        return _function(np.dot, self, other)

    def take(self, indices: Operand, axis: int | None = None) -> View:
        """The elements at some indices along an axis."""
        return _function(np.take, self, indices, **_given(axis=axis))


class At:
    """A view about to be changed at an index: ``x.at[index].add(v)`` and its kin."""

    __slots__ = ("_view",)

    def __init__(self, view: View) -> None:
        self._view = view

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self._view, index)


class AtIndex:
    """Some elements of a view, to be changed in a new view: those at an index, or where a mask of x's shape holds."""

    __slots__ = ("_index", "_view")

    def __init__(self, view: View, index: Any) -> None:
        self._view, self._index = view, index

    def add(self, value: Operand) -> View:
        """The view with `value` added at the index; of duplicate indices all count."""
        return self._changed("add", value)

    def set(self, value: Operand) -> View:
        """The view with `value` at the index; of duplicate indices the last wins."""
        return self._changed("set", value)

    def multiply(self, value: Operand) -> View:
        """The view multiplied by `value` at the index, which has no duplicates."""
        return self._changed("multiply", value)

    def max(self, value: Operand) -> View:
        """The view with the larger of itself and `value` at the index; of duplicate indices all count."""
        return self._changed("max", value)

    def min(self, value: Operand) -> View:
        """The view with the smaller of itself and `value` at the index; of duplicate indices all count."""
        return self._changed("min", value)

    def _changed(self, how: str, value: Operand) -> View:
        return _one(apply(f"at_{how}", CHANGES[how], (self._view, self._index, value)))


# making views ---------------------------------------------------------------------------------------------------------


def apply(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Call a function of nodes with views, and wrap the nodes that it returns.

    Parameters
    ----------
    name : str
        The public name of the function, for errors and for showing the view.
    function : callable
        Takes nodes where `args` and `kwargs` have views (also in lists and tuples); returns a node, or a tuple of
        them, or anything else, which is returned as it is.
    args, kwargs
        What the user called it with.
    """
    kwargs = kwargs or {}
    views: list[View] = []
    try:
        result = function(*(_unwrap(arg, views) for arg in args), **{k: _unwrap(v, views) for k, v in kwargs.items()})
    except (DeclarationError, DifferentiationError) as error:
        if error.where is None:
            error.where = f"{user_place()}, {name}({', '.join(shown(arg) for arg in (*args, *kwargs.values()))})"
        raise
    if not isinstance(result, (Node, tuple)):
        return result
    operands, call, place = tuple(dict.fromkeys(views)), Call(name, args, kwargs), user_place()
    # x.astype(x.dtype) is x: one view, which keeps its name.
    same = {operand.node: operand for operand in reversed(operands)}
    if isinstance(result, Node):
        return same[result] if result in same else View(result, operands, call, place)
    parts = (
        one if not isinstance(one, Node) else same[one] if one in same
        else View(one, operands, call._replace(part=part), place)
        for part, one in enumerate(result)
    )  # fmt: skip
    make = getattr(type(result), "_make", tuple)  # what NumPy names the parts of stays named
    return make(parts)


def public(function: Callable[P, Node]) -> Callable[P, View]:
    """Make a function of nodes one of views, under its own name; it takes arrays and numbers among them."""

    @functools.wraps(function)
    def declare(*args: P.args, **kwargs: P.kwargs) -> View:
        return _one(apply(function.__name__, function, args, kwargs))

    return declare


def as_view(value: Operand) -> View:
    """A view itself, or a constant as a view."""
    return value if isinstance(value, View) else _one(apply("array", as_node, (value,)))


def topological(roots: Iterable[View], is_known: Callable[[View], bool] = lambda view: False) -> list[View]:
    """All views that the roots are made of, operands first, in order of first appearance; not below known ones."""
    order: list[View] = []
    seen: set[View] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            view, args_done = stack.pop()
            if args_done:
                order.append(view)
            elif view not in seen:
                seen.add(view)
                stack.append((view, True))
                below = () if view is not root and is_known(view) else view.args
                stack.extend((arg, False) for arg in reversed(below) if arg not in seen)
    return order


def shown(value: Any) -> str:
    """A value as it stands in errors: a view by its name or type, an array by its type."""
    if isinstance(value, View):
        return value.name or str(value.node.type)
    if isinstance(value, np.ndarray):
        return f"array {value.dtype}{list(value.shape)}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, View) for item in value):
        return f"[{', '.join(shown(item) for item in value)}]"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _unwrap(value: Any, views: list[View]) -> Any:
    if isinstance(value, View):
        views.append(value)
        return value.node
    if type(value) in (list, tuple):
        return type(value)(_unwrap(item, views) for item in value)
    return value


def _one(result: Any) -> View:
    assert isinstance(result, View)
    return result


def _ufunc(ufunc: np.ufunc, *operands: Operand) -> View:
    return _one(apply(ufunc.__name__, UFUNCS[ufunc], operands))


def _function(function: Callable[..., Any], *args: Any, **kwargs: Any) -> View:
    return _one(apply(function.__name__, FUNCTIONS[function], args, kwargs))


def _given(**kwargs: Any) -> dict[str, Any]:
    """The keywords that were not left at their default, so that a view shows as it was written."""
    return {key: value for key, value in kwargs.items() if value is not None and value is not False}


_METHOD_HINTS = {
    "reduce": "write np.sum, np.max, np.min, np.any or np.all",
    "outer": "add axes: x[:, None] * y[None, :]",
    "at": "write x.at[index].add(value): a new view",
}
_KEYWORD_HINTS = {  # by keyword, or by function and keyword
    "np.vecdot axis": "write np.linalg.vecdot(x1, x2, axis=...)",
    "out": "views are immutable: use the result",
    "where": "write np.where(condition, x, 0), and reduce that",
    "initial": "write np.maximum(initial, result) or initial + result",
}
