"""Loop forms: how each op becomes loops. Elementwise ops share one form; the others stand in the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphc.ir import ops
from graphc.ir.core import Node, extent, scalar_value
from graphc.ir.dims import Dim, Extent, product
from graphc.ir.loops import (
    Accumulate,
    Affine,
    Buffer,
    Call,
    Const,
    Index,
    IndexValue,
    Kernel,
    Let,
    Statement,
    Store,
    Straight,
    Value,
    axis,
)
from graphc.ir.types import kind_of
from graphc.passes.factorizations import FACTORIZATIONS
from graphc.passes.products import add_library_product, lower_matmul
from graphc.passes.scans import scan
from graphc.passes.sorting import lower_argsort, lower_searchsorted
from graphc.passes.stages import Axes, axes_of, identity, nested

if TYPE_CHECKING:
    from graphc.passes.lower import Lowering

LoopForm: TypeAlias = "Callable[[Lowering, Node], None]"

INT = np.dtype("int64")
BOOL = np.dtype("bool")
# A float32 sum over more than this many elements (or over a symbolic extent) accumulates in float64, of its elements or
# of tiles of rows: below it the lanes of a vectorised sum keep the error within a few units in the last place.
SHORT_SUM = 4096


def literal(node: Node) -> Const | None:
    """The constant that a node is, where it is the same number everywhere."""
    if node.op is extent:
        return number(node["dim"], node.dtype)
    value = scalar_value(node)
    return None if value is None else Const(value, node.dtype)


def number(size: Extent, dtype: np.dtype = INT) -> Const:
    """An extent as a number in the source."""
    return Const(size if isinstance(size, Dim) else dtype.type(size), dtype)


# the loop forms ---------------------------------------------------------------------------------------------


def pointwise(lowering: Lowering, node: Node) -> None:
    """``out[i] = op(x[i], y[i])`` for every elementwise op."""
    axes = axes_of(node)
    body: list[Straight] = []
    args = [lowering.read(operand, identity(axes), body) for operand in node.operands]
    args += [number(value) for _, value in node.attrs if isinstance(value, int)]
    name = lowering.names[node]
    body.append(Let(name, node.op.name, tuple(args), node.dtype))
    lowering.stage(node, axes, body, name)


def lower_identity(lowering: Lowering, node: Node) -> None:
    """An identity (anchor, stop_gradient): nothing to compute."""
    relayout(lowering, node, identity(axes_of(node)))


def lower_zeros(lowering: Lowering, node: Node) -> None:
    """What stands for a cotangent where nothing is differentiated."""
    lowering.stage(node, axes_of(node), [], Const(node.dtype.type(0), node.dtype))


def relayout(lowering: Lowering, node: Node, index: Index) -> None:
    """``out[i] = x[index(i)]``."""
    body: list[Straight] = []
    value = lowering.read(node.operands[0], index, body)
    lowering.stage(node, axes_of(node), body, value)


def lower_broadcast(lowering: Lowering, node: Node) -> None:
    """A missing or size-1 dim is read at 0."""
    operand = node.operands[0]
    axes = axes_of(node)[len(node.shape) - len(operand.shape) :]
    relayout(
        lowering, node,
        tuple(
            Affine() if size == 1 and extent != 1 else axis(name)
            for (name, extent), size in zip(axes, operand.shape, strict=True)
        ),
    )  # fmt: skip


def lower_transpose(lowering: Lowering, node: Node) -> None:
    """Axis k of the result is axis ``axes[k]`` of the operand."""
    relayout(lowering, node, tuple(axis(f"a{node['axes'].index(k)}") for k in range(len(node.shape))))


def lower_slice(lowering: Lowering, node: Node) -> None:
    """Element k is element ``start + k * step``; whole rows of a leaf are a part of it."""
    operand = node.operands[0]
    rows = node.shape[1:] == operand.shape[1:] and node["step"] == (1,) * len(node.shape)
    if rows and node not in lowering.homes and lowering.is_in_memory(operand):
        buffer, offset = lowering.buffers[operand], node["start"][0] * product(node.shape[1:])
        lowering.buffers[node] = Buffer(lowering.names[node], node.dtype, node.shape, "alias", buffer, offset)
        return
    relayout(
        lowering, node,
        tuple(axis(name) * step + start
              for (name, _), start, step in zip(axes_of(node), node["start"], node["step"], strict=True)),
    )  # fmt: skip


def lower_reshape(lowering: Lowering, node: Node) -> None:
    """Splitting axes only changes the index; anything else is another view of contiguous memory."""
    operand = node.operands[0]
    index = split_index(operand.shape, node.shape)
    home = lowering.homes.get(node)
    if index is not None and (home is None or literal(operand) is not None) and not lowering.is_in_memory(operand):
        relayout(lowering, node, index)
        return
    buffer = lowering.materialised(operand)
    if home is not None and buffer.root != home.root:  # the operand could not be computed in place
        lowering.copy(operand, home if home.shape == operand.shape else lowering.part(home, operand.shape))
        lowering.buffers[node] = home
        return
    alias = Buffer(lowering.names[node], node.dtype, node.shape, "alias", buffer, 0)
    lowering.buffers[node] = home or alias


def split_index(old: tuple[Extent, ...], new: tuple[Extent, ...]) -> Index | None:
    """The index into `old` for an element of `new`, where every old dim is a product of consecutive new dims."""
    result: list[Affine] = []
    position = 0
    for size in old:
        index, covered = Affine(), 1
        while covered != size and position < len(new):
            index = index * new[position] + axis(f"a{position}")
            covered = covered * new[position]
            position += 1
        if covered != size:
            return None
        result.append(index)
    return tuple(result) if all(size == 1 for size in new[position:]) else None


def lower_pad(lowering: Lowering, node: Node) -> None:
    """Zeros, with the operand at ``start + k * step``: a masked read for unit steps, else a fill and strided stores."""
    if any(step not in (1, -1) for step in node["step"]):
        scatter_pad(lowering, node)
        return
    body: list[Straight] = []
    index = tuple(
        (axis(name) + -1 * start) * step
        for (name, _), start, step in zip(axes_of(node), node["start"], node["step"], strict=True)
    )
    mask = range_mask(body, index, node.operands[0].shape, node.shape, lowering.names[node])
    value = lowering.read(node.operands[0], index, body, mask=mask)
    lowering.stage(node, axes_of(node), body, value)


def range_mask(
    body: list[Straight], index: Index, extents: tuple[Extent, ...], outer: tuple[Extent, ...], name: str
) -> str | None:
    """Add the test that an index into `extents` lies within them, over axes of the extents `outer`; None where it
    always does. The index is the axis, forward or backward, from some place on."""
    tests: list[str] = []
    for k, (position, size, whole) in enumerate(zip(index, extents, outer, strict=True)):
        start: Extent = 0
        first, last = position.offset - whole + 1, position.offset  # of the index
        if all(factor == 1 for _, factor in position.terms):  # forward: i - start, whose tests are those of i
            start, first, last = -position.offset, position.offset, position.offset + whole - 1
            position = position + start
        at, ends = f"{name}_at{k}", []
        if size == 1 and whole != 1:
            ends = [("is", "equal", start)]
        else:
            ends += [("from", "greater_equal", start)] if first != 0 else []
            ends += [("to", "less", start + size)] if last != size - 1 else []
        if ends:
            body.append(IndexValue(at, position, INT))
        body += [Let(f"{name}_{word}{k}", test, (at, number(end)), BOOL) for word, test, end in ends]
        tests += [f"{name}_{word}{k}" for word, _, _ in ends]
    for k, test in enumerate(tests[1:]):
        body.append(Let(f"{name}_in{k}", "logical_and", (tests[0] if k == 0 else f"{name}_in{k - 1}", test), BOOL))
    return None if not tests else tests[0] if len(tests) == 1 else f"{name}_in{len(tests) - 2}"


def scatter_pad(lowering: Lowering, node: Node) -> None:
    """The transpose of a strided slice: fill with zeros, then store every step."""
    lowering.stage(node, axes_of(node), [], Const(node.dtype.type(0), node.dtype))
    operand = node.operands[0]
    axes = axes_of(operand)
    index = tuple(
        axis(name) * step + start for (name, _), start, step in zip(axes, node["start"], node["step"], strict=True)
    )
    body: list[Straight] = []
    value = lowering.read(operand, identity(axes), body)
    statements = [*body, Store(lowering.buffers[node], index, value)]
    lowering.steps.append(nest(f"{lowering.names[node]}_placed", axes, statements, "parallel", lowering.names[node]))


def lower_concatenate(lowering: Lowering, node: Node) -> None:
    """Along the leading axis the pieces are computed, or copied, into place; along others, masked reads."""
    if node["axis"] != 0:
        masked_concatenate(lowering, node)
        return
    whole = lowering.home(node)
    offset: Extent = 0
    for piece in node.operands:
        buffer = lowering.buffers.get(piece)
        if buffer is None or buffer.root != whole.root or buffer.start != whole.start + offset:
            lowering.copy(piece, lowering.part(whole, piece.shape, offset))
        offset = offset + piece.type.size
    lowering.buffers[node] = whole


def masked_concatenate(lowering: Lowering, node: Node) -> None:
    """``out[.., i, ..] = piece[.., i - start, ..]`` for the piece that holds i."""
    axes = axes_of(node)
    body: list[Straight] = []
    value: Value = Const(node.dtype.type(0), node.dtype)
    start: Extent = 0
    name = lowering.names[node]
    for k, piece in enumerate(node.operands):
        index = list(identity(axes))
        index[node["axis"]] = index[node["axis"]] + -1 * start
        mask = range_mask(body, tuple(index), piece.shape, node.shape, f"{name}_{k}")
        part = lowering.read(piece, tuple(index), body, mask=mask)
        if mask is None or k == 0:  # what is masked is 0 elsewhere
            value = part
        else:
            body.append(Let(f"{name}_{k}", "where", (mask, part, value), node.dtype))
            value = f"{name}_{k}"
        start = start + piece.shape[node["axis"]]
    lowering.stage(node, axes, body, value)


def lower_iota(lowering: Lowering, node: Node) -> None:
    """The position along one axis."""
    name = lowering.names[node]
    position = axis(f"a{node['axis']}")
    body: list[Straight] = [IndexValue(name, position, INT)]
    if node.dtype != INT:
        body = [IndexValue(f"{name}_at", position, INT), Let(name, "cast", (f"{name}_at",), node.dtype)]
    lowering.stage(node, axes_of(node), body, name)


def lower_constant(lowering: Lowering, node: Node) -> None:
    """A number is written where it is read; an array becomes a buffer that comes with the program."""
    if literal(node) is None:
        buffer = Buffer(lowering.names[node], node.dtype, node.shape, "constant")
        lowering.constants.append((buffer, node["value"].array))
        lowering.buffers[node] = buffer


# indexing ---------------------------------------------------------------------------------------------------


def lower_wrap_index(lowering: Lowering, node: Node) -> None:
    """Check the whole array once, before anything is read through it; then count negative ones from the end."""
    checked = lowering.materialised(node.operands[0])
    size = node["extent"]
    text = f"{lowering.names[node.operands[0]]}: index out of range for an axis of size {size}"
    lowering.steps.append(Call("check_index", (checked,), (("extent", size), ("text", text))))
    axes = axes_of(node)
    body: list[Straight] = []
    index = lowering.read(node.operands[0], identity(axes), body)
    if node.operands[0].dtype != INT:
        body.append(Let(f"{lowering.names[node]}_at", "cast", (index,), INT))
        index = f"{lowering.names[node]}_at"
    body.append(Let(lowering.names[node], "wrap", (index, number(size)), INT))
    lowering.stage(node, axes, body, lowering.names[node])


def gathered_index(
    lowering: Lowering, indices: tuple[Node, ...], axes: tuple[int, ...], at: Index, rank: int, body: list[Straight]
) -> Index:
    """The index into an array of `rank` dims: gathered along `axes`, at the rest of `at` along the others."""
    depth = len(indices[0].shape)
    rest = iter(at[depth:])
    gathered: dict[int, Affine] = {}
    for k, index in zip(axes, indices, strict=True):
        if index.op is ops.iota and index.dtype == INT:  # the position itself
            gathered[k] = at[index["axis"]]
            continue
        value = lowering.read(index, at[:depth], body)
        gathered[k] = Affine((), int(value.value)) if isinstance(value, Const) else axis(value)
    return tuple(gathered[k] if k in gathered else next(rest) for k in range(rank))


def lower_gather(lowering: Lowering, node: Node) -> None:
    """``out[s, r] = x[index[s], r]``."""
    operand, *indices = node.operands
    body: list[Straight] = []
    at = gathered_index(
        lowering, tuple(indices), node["axes"], identity(axes_of(node)), len(operand.shape), body
    )
    value = lowering.read(operand, at, body)
    lowering.stage(node, axes_of(node), body, value)


# How scatters combine an update with what is there; `scatter_set` stores it.
SCATTERED = {"scatter_add": "add", "scatter_max": "maximum", "scatter_min": "minimum"}


def lower_scatter(lowering: Lowering, node: Node) -> None:
    """Copy the base, then combine every update with what is at its place (or store it there), in order."""
    base, updates, *indices = node.operands
    axes = axes_of(node)
    body: list[Straight] = []
    value = lowering.read(base, identity(axes), body)
    lowering.stage(node, axes, body, value)
    buffer = lowering.buffers[node]
    axes = axes_of(updates)
    body = []
    at = gathered_index(lowering, tuple(indices), node["axes"], identity(axes), len(node.shape), body)
    value = lowering.read(updates, identity(axes), body)
    combine = SCATTERED.get(node.op.name)
    change = Accumulate(buffer, at, combine, value) if combine else Store(buffer, at, value)
    statements = [*body, change]
    lowering.steps.append(nest(f"{lowering.names[node]}_scattered", axes, statements, "serial", lowering.names[node]))


def nest(name: str, axes: Axes, body: Sequence[Statement], kind: str, origin: str) -> Kernel:
    """A kernel of loops around a body."""
    return Kernel(name, nested(axes, body, kind), origin)


# reductions -------------------------------------------------------------------------------------------------


def reduction(combine: str, initial: Callable[[np.dtype], Any]) -> LoopForm:
    """The lowering of a reduction that combines by an elementwise op, starting from its neutral element."""

    def lower_reduction(lowering: Lowering, node: Node) -> None:
        operand = node.operands[0]
        reduced = node["axes"]
        if not reduced:
            lower_identity(lowering, node)
            return
        kept = iter(f"a{k}" for k in range(len(node.shape)))
        names = [f"r{k}" if k in reduced else next(kept) for k in range(len(operand.shape))]
        axes = tuple((name, size) for name, size in zip(names, operand.shape, strict=True) if name[0] == "a")
        reduce = tuple((name, size) for name, size in zip(names, operand.shape, strict=True) if name[0] == "r")
        body: list[Straight] = []
        value = lowering.read(operand, tuple(axis(name) for name in names), body)
        wide = accumulator_dtype(combine, node.dtype, product(size for _, size in reduce))
        if wide != node.dtype:
            body.append(Let(f"{lowering.names[node]}_term", "cast", (value,), wide))
            value = f"{lowering.names[node]}_term"
        lowering.stage(
            node, axes, body, value,
            reduce=reduce, combine=combine, initial=Const(wide.type(initial(wide)), wide),
        )  # fmt: skip

    return lower_reduction


def accumulator_dtype(combine: str, dtype: np.dtype, count: Extent) -> np.dtype:
    """The dtype that a reduction accumulates in: its own, but float64 for long float32 sums, and for float32 products,
    which leave the range of float32 on the way."""
    long = combine == "multiply" or not isinstance(count, int) or count > SHORT_SUM
    return np.dtype("float64") if combine in ("add", "multiply") and dtype == np.float32 and long else dtype


def lowest(dtype: np.dtype) -> Any:
    """The neutral element of max."""
    return -np.inf if kind_of(dtype) == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """The neutral element of min."""
    return np.inf if kind_of(dtype) == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


def lower_add(lowering: Lowering, node: Node) -> None:
    """A sum, element by element; of products it may be the library's."""
    form = add_library_product if node in lowering.addends else pointwise
    form(lowering, node)


LOOP_FORMS: dict[str, LoopForm] = {
    "constant": lower_constant,
    "extent": lower_constant,
    "anchor": lower_identity,
    "stop_gradient": lower_identity,
    "custom_vjp": lower_identity,
    "cotangent": lower_zeros,
    "broadcast_to": lower_broadcast,
    "transpose": lower_transpose,
    "reshape": lower_reshape,
    "slice": lower_slice,
    "pad": lower_pad,
    "concatenate": lower_concatenate,
    "iota": lower_iota,
    "wrap_index": lower_wrap_index,
    "gather": lower_gather,
    "scatter_add": lower_scatter,
    "scatter_set": lower_scatter,
    "scatter_max": lower_scatter,
    "scatter_min": lower_scatter,
    "sum": reduction("add", lambda dtype: 0),
    "max": reduction("maximum", lowest),
    "min": reduction("minimum", highest),
    "any": reduction("logical_or", lambda dtype: False),
    "all": reduction("logical_and", lambda dtype: True),
    "prod": reduction("multiply", lambda dtype: 1),
    "cumsum": scan("add", lambda dtype: 0),
    "cumprod": scan("multiply", lambda dtype: 1),
    "recurrence": scan("add", lambda dtype: 0),
    "cummax": scan("maximum", lowest),
    "cummin": scan("minimum", highest),
    "argsort": lower_argsort,
    "searchsorted": lower_searchsorted,
    "matmul": lower_matmul,
    "add": lower_add,
    **FACTORIZATIONS,
}
