"""Sample nodes of every op, with arrays for their operands: the one table that tests of ops are generated from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.core import INPUT, Literal, Node, leaf
from graphc.ir.dims import dim
from graphc.ir.errors import DeclarationTypeError
from graphc.ir.graph import Graph
from graphc.ir.ops import OPS
from graphc.ir.types import DTYPES as ALL_DTYPES
from graphc.ir.types import HALVES, TensorType

DTYPES = tuple(name for name in ALL_DTYPES if name not in HALVES)  # those have tests of their own: test_half.py
N = dim("N")
N_SIZE = 3
STATIC_SHAPES = ((), (5,), (1,), (0,), (2, 3), (0, 4))
SHAPES = (*STATIC_SHAPES, (N, 2))
FLOATS = ("float64", "float32")
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-30, -1e-30, 88.0, -88.0, 1e30)


Cases: TypeAlias = "tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]"  # operand shapes and attributes


@dataclass(frozen=True)
class Sample:
    """A node whose operands are leaves, and an array for each; `smooth` where it has a derivative there."""

    node: Node
    arrays: tuple[np.ndarray, ...]
    smooth: bool = True

    def __str__(self) -> str:
        return repr(self.node)

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{k}": array for k, array in enumerate(self.arrays)}

    @property
    def graph(self) -> Graph:
        names = {operand: f"x{k}" for k, operand in enumerate(self.node.operands)}
        return Graph(self.node.op.name, self.node.operands, (), (self.node,), names=names)


def samples(name: str) -> Iterator[Sample]:
    """The samples of an op; the same ones every time."""
    return SAMPLES[name](OPS[name], np.random.default_rng(sum(name.encode())))


def sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape with N bound."""
    return tuple(extent if isinstance(extent, int) else extent.bind({"N": N_SIZE}) for extent in shape)


def draw(rng: np.random.Generator, type: TensorType, domain: tuple[float, float] = (-3.0, 3.0)) -> np.ndarray:
    """A random array of a type."""
    shape, (low, high) = sizes(type.shape), domain
    if type.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if type.dtype.kind == "f":
        return rng.uniform(low, high, shape).astype(type.dtype)
    return rng.integers(max(int(low), 0) if type.dtype.kind == "u" else int(low), int(high), shape, type.dtype, True)


def sample(op: Any, rng: np.random.Generator, *types: TensorType, smooth: bool = True, **attrs: Any) -> Sample:
    """A node on fresh leaves, with random arrays."""
    node = op(*(leaf(INPUT, type) for type in types), **attrs)
    return Sample(node, tuple(draw(rng, type, op.domain) for type in types), smooth)


def tensor(shape: tuple[Any, ...], dtype: str = "float64") -> TensorType:
    return TensorType(np.dtype(dtype), shape)


def elementwise(arity: int, op: Any, rng: np.random.Generator, **attrs: Any) -> Iterator[Sample]:
    for dtype in DTYPES:
        for shape in SHAPES:
            try:
                yield sample(op, rng, *[tensor(shape, dtype)] * arity, **attrs)
            except DeclarationTypeError:  # not for this dtype
                break
        else:
            yield special(arity, op, dtype, **attrs)


def special(arity: int, op: Any, dtype: str, **attrs: Any) -> Sample:
    """Every combination of the special values, or of the extremes of an integer dtype."""
    if np.dtype(dtype).kind == "f":
        values = np.array(SPECIAL, dtype)
    elif dtype == "bool":
        values = np.array([False, True])
    else:
        info = np.iinfo(dtype)
        values = np.array([info.min, info.min + 1, 0, 1, 2, 7, info.max - 1, info.max], dtype)
    grids = np.meshgrid(*[values] * arity, indexing="ij")
    node = op(*(leaf(INPUT, tensor((grids[0].size,), dtype)) for _ in grids), **attrs)
    return Sample(node, tuple(grid.ravel() for grid in grids), smooth=False)


def integer_power(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for n in (0, 1, 2, 3, 5):
        yield from elementwise(1, op, rng, n=n)
    for dtype in FLOATS:
        for n in (-1, -2):
            node = op(leaf(INPUT, tensor((4,), dtype)), n=n)
            yield Sample(node, (np.array([0.5, -2.0, 3.0, -0.25], dtype),))


def polygamma(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for n in (1, 2, 5):
        yield from elementwise(1, op, rng, n=n)


def where(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in DTYPES:
        for shape in SHAPES:
            yield sample(op, rng, tensor(shape, "bool"), tensor(shape, dtype), tensor(shape, dtype))


def cast(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for source in DTYPES:
        for target in DTYPES:
            yield sample(op, rng, tensor((2, 3), source), dtype=np.dtype(target))


def constant(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in DTYPES:
        for shape in STATIC_SHAPES:
            yield Sample(op(value=Literal(np.array(1, dtype)), shape=shape), ())
        yield Sample(op(value=Literal(np.arange(6).reshape(2, 3).astype(dtype)), shape=(2, 3)), ())


def extent(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in ("int64", "float64", "float32"):
        # An operand is what binds N; a node without one has its dims bound by nothing.
        yield Sample(op(dim=dim(4), dtype=np.dtype(dtype), shape=(2,)), ())


def iota(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in ("int64", "int32", "float32", "float64"):
        for shape, axis in (((4,), 0), ((0,), 0), ((2, 3), 0), ((2, 3), 1), ((2, 0, 3), 2)):
            yield Sample(op(shape=shape, axis=axis, dtype=np.dtype(dtype)), ())


def custom_vjp(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    """Values whose rule is not their derivative: it is tested by itself."""
    for dtype in FLOATS:
        for shape in ((), (3,), (N, 2)):
            yield sample(op, rng, *[tensor(shape, dtype)] * 3, smooth=False, level=0)
    yield sample(op, rng, tensor((2,)), tensor((3,)), tensor(()), tensor((3,)), tensor(()), smooth=False, level=1)


def cotangent(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in FLOATS:
        for shape in STATIC_SHAPES:
            yield Sample(op(dtype=np.dtype(dtype), shape=shape, level=0), ())


AXES = (
    ((5,), (0,)), ((2, 3), (0,)), ((2, 3), (1,)), ((2, 3, 4), (0, 2)), ((2, 3), (0, 1)), ((N, 4), (0,)), ((1, 3), (0,)),
)  # fmt: skip


def reduction(op: Any, rng: np.random.Generator, empty: bool = True) -> Iterator[Sample]:
    cases = (*AXES, ((3, 0), (0,)), ((2, 3), ()), *((((0, 3), (0,)), ((0,), (0,))) if empty else ()))
    for dtype in DTYPES:
        for shape, axes in cases:
            try:
                yield sample(op, rng, tensor(shape, dtype), axes=axes)
            except DeclarationTypeError:
                break


def along_axis(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in DTYPES:
        for shape, axis in (((5,), 0), ((2, 3), 0), ((2, 3), 1), ((N, 4), 0), ((0, 3), 1), ((2, 1), 1)):
            try:
                yield sample(op, rng, tensor(shape, dtype), axis=axis)
            except DeclarationTypeError:
                break


def argsort(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    """Along each axis, rows with ties and special values, and rows long enough for several merges."""
    yield from along_axis(op, rng)
    for dtype in DTYPES:
        yield special(1, op, dtype, axis=0)
        for shape, axis in (((3, 100), 1), ((70, 2), 0), ((3, 0), 1)):
            drawn = sample(op, rng, tensor(shape, dtype), axis=axis)
            yield Sample(drawn.node, (np.round(drawn.arrays[0]).astype(dtype),), smooth=False)


def searchsorted(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in DTYPES:
        for count, shape in ((7, (2, 5)), (0, (3,)), (1, (0,)), (N, (2, N))):
            for right in BOTH:
                drawn = sample(op, rng, tensor((count,), dtype), tensor(shape, dtype), right=right)
                keys, values = (np.round(array).astype(dtype) for array in drawn.arrays)
                yield Sample(drawn.node, (np.sort(keys), values), smooth=False)
        values = special(1, OPS["isnan"], "float64").arrays[0]
        if dtype == "float64":
            node = op(*(leaf(INPUT, tensor(values.shape, dtype)) for _ in range(2)), right=True)
            yield Sample(node, (np.sort(values), values), smooth=False)


def scan(op: Any, rng: np.random.Generator, arity: int = 1, **flags: tuple[bool, ...]) -> Iterator[Sample]:
    """A scan along each axis of a few shapes, with its flags in turn: all of them for the first shape."""
    settings = [dict(zip(flags, values, strict=True)) for values in itertools.product(*flags.values())]
    for dtype in DTYPES:
        for k, (shape, axis) in enumerate(SCANS):
            for attrs in settings if k == 0 else settings[k % len(settings) :][:1]:
                try:
                    yield sample(op, rng, *[tensor(shape, dtype)] * arity, axis=axis, **attrs)
                except DeclarationTypeError:
                    break


SCANS = (((5,), 0), ((2, 3), 0), ((2, 3), 1), ((2, 3, 4), 1), ((N, 2), 0), ((2, N), 1), ((0, 3), 0), ((3, 0), 0))
BOTH = (False, True)


def each(cases: Cases, op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    """Cases of operand shapes and attributes, for a float, an integer and a bool dtype."""
    for dtype in ("float64", "float32", "int32", "bool"):
        for shapes, attrs in cases:
            try:
                yield sample(op, rng, *(tensor(shape, dtype) for shape in shapes), **attrs)
            except DeclarationTypeError:
                break


def indexed(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    """Gathers and scatters: one index or two, scalar or not, duplicates and nothing."""
    cases = (
        ((5,), (0,), (3,)), ((5, 2), (0,), (4,)), ((2, 5), (1,), (2, 3)),
        ((3, 4), (0, 1), (6,)), ((3, 2, 4), (2, 0), (2,)),
        ((4, 2), (0,), ()), ((4, 2), (0,), (0,)), ((N, 2), (0,), (4,)),
    )  # fmt: skip
    for dtype in ("float64", "float32", "int64"):
        for shape, axes, index_shape in cases:
            rest = tuple(extent for axis, extent in enumerate(shape) if axis not in axes)
            numbers = [tensor(shape, dtype)]
            if op.name != "gather":
                numbers.append(tensor((*index_shape, *rest), dtype))
            bounds = [sizes(shape)[axis] for axis in axes]
            types = (*numbers, *[tensor(index_shape, "int64")] * len(axes))
            node = op(*(leaf(INPUT, type) for type in types), axes=axes)
            indices = (rng.integers(0, bound, index_shape) for bound in bounds)
            yield Sample(node, (*(draw(rng, type) for type in numbers), *map(np.asarray, indices)))


def wrap_index(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for dtype in ("int64", "int8", "uint8"):
        for shape in ((), (6,), (0,)):
            node = op(leaf(INPUT, tensor(shape, dtype)), extent=5)
            yield Sample(node, (rng.integers(0 if dtype == "uint8" else -5, 5, shape, dtype),))


BROADCAST = (
    (((3,),), {"shape": (2, 3)}),
    (((),), {"shape": (2, 3)}),
    (((2, 1),), {"shape": (2, 3)}),
    (((1,),), {"shape": (0,)}),
    (((1, 3),), {"shape": (4, 2, 3)}),
    (((2, 3),), {"shape": (2, 3)}),
    (((N, 1),), {"shape": (2, N, 3)}),
)
TRANSPOSE = (
    (((2, 3),), {"axes": (1, 0)}),
    (((2, 3, 4),), {"axes": (1, 2, 0)}),
    (((N, 2),), {"axes": (1, 0)}),
    (((),), {"axes": ()}),
)
RESHAPE = (
    (((2, 3),), {"shape": (6,)}),
    (((6,),), {"shape": (3, 1, 2)}),
    (((),), {"shape": (1, 1)}),
    (((0, 3),), {"shape": (0,)}),
    (((N, 4),), {"shape": (2 * N, 2)}),
    (((N, 4),), {"shape": (2, (4 * N) // 2)}),
    (((N, 2),), {"shape": (1, (N * 2 + 1) // 1 - 1)}),
)
SLICE = (
    (((7,),), {"start": (1,), "size": (3,), "step": (2,)}),
    (((7,),), {"start": (6,), "size": (4,), "step": (-2,)}),
    (((3, 4),), {"start": (1, 0), "size": (2, 3), "step": (1, 1)}),
    (((N, 4),), {"start": (1, 3), "size": (N - 1, 4), "step": (1, -1)}),
    (((4,),), {"start": (2,), "size": (0,), "step": (1,)}),
    (((),), {"start": (), "size": (), "step": ()}),
    (((N,),), {"start": (N - 1,), "size": (N,), "step": (-1,)}),
)
PAD = (
    (((3,),), {"start": (1,), "step": (2,), "shape": (7,)}),
    (((3,),), {"start": (6,), "step": (-2,), "shape": (7,)}),
    (((2, 3),), {"start": (0, 1), "step": (1, 1), "shape": (2, 5)}),
    (((N,),), {"start": (2,), "step": (1,), "shape": (N + 3,)}),
    (((0,),), {"start": (0,), "step": (1,), "shape": (3,)}),
)
CONCATENATE = (
    (((2,), (3,)), {"axis": 0}),
    (((2, 3), (2, 1), (2, 0)), {"axis": 1}),
    (((N, 2), (2, 2)), {"axis": 0}),
    (((2, 2),), {"axis": 1}),
)
MATMUL = (
    (((2, 3), (3, 4)), {}),
    (((5, 2, 3), (5, 3, 4)), {}),
    (((N, 3), (3, 2)), {}),
    (((2, 0), (0, 3)), {}),
    (((0, 2), (2, 3)), {}),
    (((1, 1), (1, 1)), {}),
    (((2, N), (N, 2)), {}),
)

SQUARES = (((3, 3),), ((1, 1),), ((0, 0),), ((2, 4, 4),), ((N, 2, 2),), ((N, N),))
SYSTEMS = tuple(((*batch, n, n), (*batch, n, columns)) for (n, *batch), (columns,) in zip(
    ((3,), (1,), (0,), (3,), (4, 2), (2, N), (N,)), ((2,), (1,), (2,), (0,), (3,), (1,), (2,)), strict=True
))  # fmt: skip
TALL = (((3, 3),), ((5, 2),), ((1, 1),), ((3, 0),), ((2, 4, 3),), ((N, 3, 2),), ((N, N),), ((N + 2, N),))
WIDE = (((2, 4),), ((0, 3),), ((2, 3, 4),), ((N, N + 1),))


def matrices(shapes: Sequence[Any], op: Any, rng: np.random.Generator, **attrs: Any) -> Iterator[Sample]:
    """Stacks of matrices with eigenvalues that lie apart: what ops factorise comes first."""
    for dtype in FLOATS:
        for (first, *others) in shapes:
            arrays = [rng.normal(size=sizes(shape)).astype(dtype) for shape in (first, *others)]
            if first[-1] == first[-2]:
                steep = np.diag(np.arange(1.0, 1 + arrays[0].shape[-1])).astype(dtype)
                arrays[0] = arrays[0] @ arrays[0].swapaxes(-1, -2) / 4 + steep
                arrays[0] += rng.normal(size=arrays[0].shape).astype(dtype) / 16  # what is read is one triangle
            types = [tensor(shape, dtype) for shape in (first, *others)]
            yield Sample(op(*(leaf(INPUT, type) for type in types), **attrs), tuple(arrays))


def triangular_systems(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for lower, transpose, unit_diagonal in itertools.product((False, True), repeat=3):
        flags = {"lower": lower, "transpose": transpose, "unit_diagonal": unit_diagonal}
        yield from matrices(SYSTEMS if lower == transpose == unit_diagonal else SYSTEMS[:1], op, rng, **flags)


def general_systems(op: Any, rng: np.random.Generator) -> Iterator[Sample]:
    for transpose in (False, True):
        yield from matrices(SYSTEMS, op, rng, transpose=transpose)


UNARY = [
    "negative", "isnan", "isinf", "isfinite", "logical_not", "invert", "anchor", "stop_gradient", "square", "sqrt",
    "reciprocal", "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "arcsin", "arccos",
    "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "sigmoid", "softplus", "log_sigmoid", "erf",
    "relu", "step", "absolute", "sign", "floor", "ceil", "rint", "trunc", "cbrt", "fraction", "bitwise_count",
    "erfc", "erfcx", "erfinv", "ndtr", "log_ndtr", "ndtri", "gammaln", "digamma", "entr", "logit", "i0", "i1",
]  # fmt: skip
BINARY = [
    "add", "subtract", "multiply", "divide", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift",
    "right_shift", "power", "hypot", "logaddexp", "arctan2", "maximum", "minimum", "floor_divide", "remainder",
    "logaddexp2", "copysign", "fmod", "nextafter", "xlogy", "xlog1py", "rel_entr",
]  # fmt: skip

SAMPLES: dict[str, Callable[[Any, np.random.Generator], Iterator[Sample]]] = {
    **dict.fromkeys(UNARY, partial(elementwise, 1)),
    **dict.fromkeys(BINARY, partial(elementwise, 2)),
    **dict.fromkeys(("sum", "prod", "any", "all", "norm"), reduction),
    **dict.fromkeys(("max", "min", "logsumexp"), partial(reduction, empty=False)),
    **dict.fromkeys(("argmax", "argmin", "softmax", "log_softmax"), along_axis),
    **dict.fromkeys(("gather", "scatter_add", "scatter_set", "scatter_max", "scatter_min"), indexed),
    "custom_vjp": custom_vjp,
    "cotangent": cotangent,
    **dict.fromkeys(("cumsum", "cumprod"), partial(scan, reverse=BOTH, exclusive=BOTH)),
    **dict.fromkeys(("cummax", "cummin"), partial(scan, reverse=BOTH)),
    "recurrence": partial(scan, arity=2, reverse=BOTH, exclusive=BOTH),
    "argsort": argsort,
    "searchsorted": searchsorted,
    "integer_power": integer_power,
    "polygamma": polygamma,
    "where": where,
    "cast": cast,
    "constant": constant,
    "extent": extent,
    "iota": iota,
    "wrap_index": wrap_index,
    "broadcast_to": partial(each, BROADCAST),
    "transpose": partial(each, TRANSPOSE),
    "reshape": partial(each, RESHAPE),
    "slice": partial(each, SLICE),
    "pad": partial(each, PAD),
    "concatenate": partial(each, CONCATENATE),
    "matmul": partial(each, MATMUL),
    **dict.fromkeys(("cholesky", "log_abs_det", "det_sign", "eigh", "eigvalsh"), partial(matrices, SQUARES)),
    **dict.fromkeys(("svd", "svdvals"), partial(matrices, (*TALL, *WIDE))),
    "qr": partial(matrices, TALL),
    "solve": general_systems,
    "triangular_solve": triangular_systems,
}
