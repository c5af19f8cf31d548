"""Nodes and ops: interned, immutable values, and the one declaration that says all there is to know about an op.

A `Node` is one value of the computation: an op applied to operands. Nodes are interned through a weak table, so equal
expressions are one object, common subexpressions are shared by construction, and ``is`` is equality. An `Op` declares
its type rule, its NumPy meaning and its `Derivative`; everything else is derived. Derivative rules are written with the
operators of `Node`, so they read like a calculus book; for that the arithmetic they use is declared at the end of this
module.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.dims import Dim, Extent
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.types import DTYPES, Shape, TensorType, kind_of

Rule: TypeAlias = "Callable[..., Any]"


class Literal:
    """A constant array as an attribute: equal by dtype, shape and bit pattern, so that -0.0 and NaN are values."""

    __slots__ = ("array", "key")

    def __init__(self, array: Any) -> None:
        self.array: np.ndarray = np.array(array, order="C", copy=True)
        self.array.setflags(write=False)
        self.key = (self.array.dtype.str, self.array.shape, self.array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Node:
    """One value: `op` applied to `operands` with `attrs`; identity is equality. Make nodes by calling ops.

    ``node["axes"]`` is an attribute. Arithmetic operators build nodes; the other side is a node of the same type, or a
    number or `Dim`, which is spread over the shape in this node's dtype.
    """

    op: Op
    operands: tuple[Node, ...]
    attrs: tuple[tuple[str, Any], ...]
    type: TensorType

    def __getitem__(self, attribute: str) -> Any:
        for name, value in self.attrs:
            if name == attribute:
                return value
        raise KeyError(attribute)

    def __iter__(self) -> Iterator[Any]:  # or Python would iterate by __getitem__
        raise TypeError("a Node is not iterable")

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the elements."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """The shape: ints and `Dim` objects."""
        return self.type.shape

    def __repr__(self) -> str:
        parts = [operand.op.name for operand in self.operands]
        parts += [f"{name}={value!r}" for name, value in self.attrs]
        return f"<{self.op.name}({', '.join(parts)}) : {self.type}>"

    def __neg__(self) -> Node:
        return negative(self)

    def __add__(self, other: Any) -> Node:
        return add(self, spread(other, self))

    def __radd__(self, other: Any) -> Node:
        return add(spread(other, self), self)

    def __sub__(self, other: Any) -> Node:
        return subtract(self, spread(other, self))

    def __rsub__(self, other: Any) -> Node:
        return subtract(spread(other, self), self)

    def __mul__(self, other: Any) -> Node:
        return multiply(self, spread(other, self))

    def __rmul__(self, other: Any) -> Node:
        return multiply(spread(other, self), self)

    def __truediv__(self, other: Any) -> Node:
        return divide(self, spread(other, self))

    def __rtruediv__(self, other: Any) -> Node:
        return divide(spread(other, self), self)


# what an op declares ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Partials:
    """Of an elementwise op: for each operand ``partial(y, *operands)``, the derivative of the result y by it.

    A partial is a node, or a number where it is constant (1 and -1 cost nothing); None where the operand has none.
    """

    rules: tuple[Rule | float | None, ...]


@dataclass(frozen=True, slots=True)
class Linear:
    """Of an op linear in its operands: ``transpose(node, cotangent)`` gives one cotangent (or None) per operand.

    `operands` says how many leading operands it is linear in (None: all); the others are indices and the like. The
    transpose must work on boolean cotangents too (with `any` for a sum), so that it carries the support of a cotangent;
    where it cannot, it returns None for them.
    """

    transpose: Rule
    operands: int | None = None


@dataclass(frozen=True, slots=True)
class Bilinear:
    """Of a product of two operands: ``left(node, ct)`` and ``right(node, ct)``, the cotangent of each."""

    left: Rule
    right: Rule


@dataclass(frozen=True, slots=True)
class Custom:
    """``jvp(node, tangents)`` (a tangent or None per operand) and ``vjp(node, cotangent)`` (a tuple), by hand."""

    jvp: Rule
    vjp: Rule


@dataclass(frozen=True, slots=True)
class UserRule:
    """``vjp(node, cotangent)``, a tuple, as a user says it; derivatives flow to the operands that `flows(node)` marks.

    Forward mode is its transpose.
    """

    vjp: Rule
    flows: Rule


@dataclass(frozen=True, slots=True)
class PiecewiseConstant:
    """Gradient 0, because the op says so."""


@dataclass(frozen=True, slots=True)
class Discrete:
    """No derivative: comparisons, argmax, casts to integers. A wrt reached only through one is an error."""


Derivative: TypeAlias = "Partials | Linear | Bilinear | Custom | UserRule | PiecewiseConstant | Discrete"


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition on dims that a node needs: ``extent >= 0``, or ``extent == 0``; `text` says it to the user."""

    extent: Extent
    relation: str
    text: str


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Op:
    """The declaration of an op. Calling it makes a node: ``op(*operands, **attrs)``.

    Parameters
    ----------
    name : str
        NumPy's (or SciPy's, or the field's) name; unique.
    infer : callable
        ``infer(*operand_types, **attrs) -> TensorType``; raises `DeclarationError` and says what was expected.
    evaluate : callable
        The meaning in NumPy: ``evaluate(*arrays, **attrs)`` with dims in attrs bound to ints.
    derivative : Derivative
        Its kind and rules.
    scalar : str or None
        For elementwise ops the Python expression of one element, ``{0}``, ``{1}`` the operands: what kernels contain.
    expand : callable or None
        ``expand(node) -> Node`` in simpler ops, applied before lowering to loops, for ops that are no primitive loop.
    guards : callable or None
        ``guards(node) -> iterable of Guard``.
    batch : callable or None
        ``batch(node, operands, size) -> Node``: the op on stacks of operands, all with a new leading axis of `size`.
        None: the same op, with its attributes ``axis`` and ``axes`` one further, which is right for elementwise ops,
        for those along axes, and for those of stacks of matrices.
    accepts : str
        The dtype kinds (NumPy's letters) of the arrays it works on, as its type rule has it: for the op table.
    numpy : tuple of str
        The public names that build this op, for the op table and the dispatch.
    domain : tuple of float
        Where tests sample its operands: (low, high).
    note : str
        What it does at its edges, for the documentation's table.
    """

    name: str
    infer: Rule
    evaluate: Rule
    derivative: Derivative
    scalar: str | None = None
    expand: Rule | None = None
    guards: Rule | None = None
    batch: Rule | None = None
    accepts: str = "iufb"
    numpy: tuple[str, ...] = ()
    domain: tuple[float, float] = (-3.0, 3.0)
    note: str = ""

    def __call__(self, *operands: Node, **attrs: Any) -> Node:
        result = self.infer(*(operand.type for operand in operands), **attrs)
        return _intern(Node(self, operands, tuple(attrs.items()), result))

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def is_elementwise(self) -> bool:
        """Whether element i of the result depends on elements i of the operands alone."""
        return self.scalar is not None


_table: weakref.WeakValueDictionary[tuple[Any, ...], Node] = weakref.WeakValueDictionary()
_table_lock = threading.Lock()


def _intern(node: Node) -> Node:
    with _table_lock:
        return _table.setdefault((node.op, node.operands, node.attrs, node.type), node)


def rebuild(node: Node, operands: tuple[Node, ...]) -> Node:
    """The same op and attributes on other operands (the node itself where nothing changed)."""
    if all(new is old for new, old in zip(operands, node.operands, strict=True)):
        return node
    return node.op(*operands, **dict(node.attrs))


# leaves -----------------------------------------------------------------------------------------------------


def _leaf_infer(*, dtype: np.dtype, shape: Shape) -> TensorType:
    return TensorType(dtype, shape)


def _leaf_evaluate(**attrs: Any) -> np.ndarray:
    raise AssertionError("leaves are fed")


INPUT = Op(name="input", infer=_leaf_infer, evaluate=_leaf_evaluate, derivative=Discrete())
PARAM = Op(name="param", infer=_leaf_infer, evaluate=_leaf_evaluate, derivative=Discrete())


def leaf(op: Op, type: TensorType) -> Node:
    """A new input or parameter: nominal, never merged with another."""
    return Node(op, (), (("dtype", type.dtype), ("shape", type.shape)), type)


# the type rule of elementwise ops ---------------------------------------------------------------------------

# Which dtype kinds (NumPy's letters) an operand may have.
FLOAT = "f"
NUMBER = "iuf"
INTEGER = "iu"
BITS = "iub"
ANY = "iufb"


def elementwise(
    name: str,
    evaluate: Callable[..., Any],
    scalar: str,
    derivative: Derivative,
    *,
    accepts: str = FLOAT,
    result: str | None = None,
    numpy: tuple[str, ...] | None = None,
    domain: tuple[float, float] = (-3.0, 3.0),
    note: str = "",
) -> Op:
    """Declare an elementwise op: operands of one type, a result of that type (or of dtype `result`)."""

    def infer(*types: TensorType) -> TensorType:
        same_type(name, types, accepts)
        return types[0].with_dtype(result) if result else types[0]

    return Op(
        name=name, infer=infer, evaluate=evaluate, derivative=derivative, scalar=scalar, accepts=accepts,
        numpy=(name,) if numpy is None else numpy, domain=domain, note=note,
    )  # fmt: skip


def same_type(name: str, types: tuple[TensorType, ...], accepts: str = ANY) -> None:
    """Check that operands have one type, of an accepted dtype kind."""
    if any(type != types[0] for type in types):
        raise DeclarationValueError(f"{name} wants operands of one type, got {' and '.join(map(str, types))}")
    if kind_of(types[0].dtype) not in accepts:
        kinds = " or ".join(text for letter, text in _KINDS.items() if letter in accepts)
        raise DeclarationTypeError(
            f"{name} wants {kinds} elements, got {types[0]}", hint="cast it: x.astype('float64')"
        )


_KINDS = {"f": "float", "i": "integer", "u": "unsigned", "b": "bool"}


# the arithmetic that rules are written in -------------------------------------------------------------------


def _constant_infer(*, value: Literal, shape: Shape) -> TensorType:
    if value.array.dtype.name not in DTYPES:
        raise DeclarationTypeError(f"no dtype {value.array.dtype} in graphs; there are {', '.join(DTYPES)}")
    if value.array.shape not in ((), shape):
        raise DeclarationValueError(f"a constant of shape {value.array.shape} does not fill {shape}")
    return TensorType(value.array.dtype, shape)


constant = Op(
    name="constant",
    infer=_constant_infer,
    evaluate=lambda value, shape: np.broadcast_to(value.array, shape),
    derivative=PiecewiseConstant(),
    numpy=("zeros", "ones", "full"),
    note="one number spread over a shape, or an array",
)

def _extent_guards(node: Node) -> Iterator[Guard]:
    """The guards that a dim fits its dtype, where that is a narrow integer."""
    if node.dtype.kind in "iu" and node.dtype.itemsize < 8:
        bounds = np.iinfo(node.dtype)
        size, least, most = node["dim"], int(bounds.min), int(bounds.max)
        yield Guard(most - size, ">=", f"the size {size} as {node.dtype} wants {size} <= {most}")
        yield Guard(size - least, ">=", f"the size {size} as {node.dtype} wants {size} >= {least}")


extent = Op(
    name="extent",
    infer=lambda dim, dtype, shape: TensorType(dtype, shape),
    evaluate=lambda dim, dtype, shape: np.full(shape, dim, dtype),
    derivative=PiecewiseConstant(),
    guards=_extent_guards,
    numpy=(),
    note="the value of a symbolic dim, as a number spread over a shape; it must fit the dtype",
)


def full(value: Any, type: TensorType) -> Node:
    """A number (or `Dim`) spread over a type's shape, in its dtype."""
    if isinstance(value, Dim):
        return extent(dim=value, dtype=type.dtype, shape=type.shape)
    return constant(value=Literal(np.asarray(value, type.dtype)), shape=type.shape)


def spread(value: Any, like: Node) -> Node:
    """`value` itself if it is a node, else spread over the type of `like`."""
    return value if isinstance(value, Node) else full(value, like.type)


def scalar_value(node: Node) -> Any:
    """The number that a constant holds everywhere, or None."""
    if node.op is constant and node["value"].array.ndim == 0:
        return node["value"].array[()]
    return None


add = elementwise("add", np.add, "{0} + {1}", Partials((1, 1)), accepts=NUMBER)
subtract = elementwise("subtract", np.subtract, "{0} - {1}", Partials((1, -1)), accepts=NUMBER)
multiply = elementwise(
    "multiply", np.multiply, "{0} * {1}",
    Partials((lambda y, a, b: b, lambda y, a, b: a)), accepts=NUMBER,
)  # fmt: skip
divide = elementwise(
    "divide", np.divide, "{0} / {1}",
    Partials((lambda y, a, b: 1 / b, lambda y, a, b: -y * (1 / b))), numpy=("divide", "true_divide"),
    note="x / 0 is inf or nan, and so is its gradient; both gradients are where that of x overflows",
)  # fmt: skip
negative = elementwise("negative", np.negative, "-{0}", Partials((-1,)), accepts=NUMBER)
