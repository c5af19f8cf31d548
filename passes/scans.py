"""Scans as loops: the axis runs in order, and every step of the accumulator is stored.

A scan is lowered like a reduction, with the axis innermost and a scalar accumulator. What it reads is inlined, and then
it becomes a kernel of its own (`scan_steps`): along the last axis as it stands, along any other with a row of
accumulators, so that the loop over the axes behind it is a vector. What takes long to compute is computed before.

On a GPU the scans of many rows are threads beside each other, and long scans of few rows run in pieces: the total of
each, where each starts, and each from there (Blelloch, "Prefix sums and their applications", 1990, section 1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir.core import Node
from graphc.ir.dims import Extent, extent_names, nominal, product
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Buffer,
    Const,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Statement,
    Store,
    Straight,
    Value,
    axis,
)
from graphc.passes.assemble import AXIS_NAMES
from graphc.passes.inline import cost, live
from graphc.passes.stages import (
    Axes,
    Stage,
    accumulator_name,
    at_indices,
    axes_of,
    free_name,
    identity,
    nested,
    new_value,
    peel,
    rewritten,
    substitute_statement,
)

if TYPE_CHECKING:
    from graphc.passes.lower import Lowering

WIDE = np.dtype("float64")
# The arithmetic of an element that pays for a loop of its own, in additions: that of a function. (Of 10^6 elements,
# cumsum(exp(x)) takes 3.3 ms in one loop and 1.5 in two, cumsum(1 / x) 1.4 and 1.1.)
CALL = 10
# What may be put together in another order; a product may overflow on its way, a sum only of float64 near the largest.
IN_PIECES = ("add", "maximum", "minimum")
# How many scans, of rows or of pieces of them, keep a GPU busy; and of how many steps a piece is at least. Where so
# many scans stand beside each other in memory, pieces would be no neighbours.
AT_ONCE, STEPS, BESIDE = 32_768, 32, 32


@dataclass(frozen=True, slots=True)
class Scan(Stage):
    """A stage that runs along `along` (one of `axes`) in order, from the end if `reverse`, and keeps every step.

    Each step multiplies the accumulator by `scale`, where there is one, and combines it with the value; an exclusive
    scan keeps what there was before.
    """

    along: str = ""
    reverse: bool = False
    exclusive: bool = False
    scale: Value | None = None

    @property
    def results(self) -> tuple[Value, ...]:
        """What the body computes."""
        return (self.value,) if self.scale is None else (self.value, self.scale)

    def renamed(self, names: Mapping[str, Value]) -> Scan:
        """The stage with other names for what its body computes."""
        scale = None if self.scale is None else new_value(self.scale, names)
        return replace(self, value=new_value(self.value, names), scale=scale)


def scan(combine: str, initial: Callable[[np.dtype], Any]) -> Callable[[Lowering, Node], None]:
    """The loop form of a scan that combines by an elementwise op; with two operands the first one is its scale.

    float32 runs in float64: the error does not grow with the extent, and a step is bound by latency, not by width.
    """

    def lower_scan(lowering: Lowering, node: Node) -> None:
        axes = axes_of(node)
        dtype = WIDE if node.type.is_float else node.dtype
        body: list[Straight] = []
        values = [lowering.read(operand, identity(axes), body) for operand in node.operands]
        if dtype != node.dtype:
            for k, value in enumerate(values):
                name = f"{lowering.names[node]}_{('term', 'factor')[len(values) - 1 - k]}"
                body.append(Let(name, "cast", (value,), dtype))
                values[k] = name
        attrs = dict(node.attrs)
        stage = Scan(
            lowering.settle(node), axes, tuple(body), values[-1], combine=combine, origin=lowering.names[node],
            initial=Const(dtype.type(initial(node.dtype)), dtype), along=f"a{node['axis']}", reverse=node["reverse"],
            exclusive=attrs.get("exclusive", False), scale=values[0] if len(values) > 1 else None,
        )  # fmt: skip
        lowering.steps.append(scan_kernel(stage))

    return lower_scan


# kernels and stages ---------------------------------------------------------------------------------------------------


def scan_kernel(stage: Scan) -> Kernel:
    """The scan with its axis innermost, and a scalar accumulator."""
    others = tuple(each for each in stage.axes if each[0] != stage.along)
    return Kernel(stage.buffer.name, nested(others, _one_row(stage), "parallel"), stage.origin)


def _one_row(stage: Scan) -> tuple[Statement, ...]:
    """The scan of one row: its accumulator and its loop."""
    assert stage.initial is not None
    taken = {statement.name for statement in stage.body}
    total = free_name(accumulator_name(stage.buffer), taken)
    kept, keep = _kept(stage, total, taken)
    steps = (Accumulate(total, (), op, value) for op, value in _steps(stage))
    keeping: tuple[Statement, ...] = (*keep, Store(stage.buffer, identity(stage.axes), kept))
    return Accumulator(total, stage.initial), _in_order(stage, _one_step(stage, (*steps,), keeping))


def kernel_scan(kernel: Kernel) -> Scan | None:
    """The scan that a kernel of `scan_kernel` computes, or None."""
    axes, body = peel(kernel.body, "parallel")
    if len(body) != 2 or not isinstance(body[0], Accumulator):
        return None
    start, loop = body
    if not isinstance(loop, Loop) or loop.kind != "serial" or not isinstance(start, Accumulator):
        return None
    store = next((each for each in loop.body if isinstance(each, Store)), None)
    steps = [each for each in loop.body if isinstance(each, Accumulate)]
    if store is None or not steps or any(isinstance(each, Loop) for each in loop.body):
        return None
    extents = dict((*axes, (loop.axis, loop.extent)))
    places = [position.variables[0] for position in store.index]
    reverse = store.index[places.index(loop.axis)] != axis(loop.axis)
    inner = _turned(loop.axis, loop.extent, loop.body) if reverse else loop.body
    straight = tuple(
        each for each in inner
        if isinstance(each, Let | IndexValue | Load) and not (isinstance(each, Let) and each.args == (start.name,))
    )  # fmt: skip
    return Scan(
        store.buffer, tuple((name, extents[name]) for name in places), straight, steps[-1].value, combine=steps[-1].op,
        initial=start.initial, origin=kernel.origin, along=loop.axis, reverse=reverse,
        exclusive=loop.body.index(store) < loop.body.index(steps[0]),
        scale=steps[0].value if len(steps) > 1 else None,
    )  # fmt: skip


def prepared_kernel(stage: Scan, taken: set[str]) -> Kernel:
    """The scan along its last axis, of what a loop before it computes: that one is a vector, and a scan is not."""
    assert stage.initial is not None
    along, at = stage.axes[-1:], identity(stage.axes[-1:])
    names = dict.fromkeys(value for value in stage.results if isinstance(value, str))
    # Conversions to the accumulator's dtype stay with the scan: a row of the narrow one is shorter.
    casts = {each.name: each for each in stage.body if isinstance(each, Let) and each.name in names}
    if stage.initial.dtype == stage.buffer.dtype:
        casts = {}
    stored = dict.fromkeys(casts[name].args[0] if name in casts else name for name in names)
    rows = {name: _row(f"{name}_row", stage.buffer.dtype, along, taken) for name in stored if isinstance(name, str)}
    body = (*live(stage.body, tuple(rows)), *(Store(row, at, name) for name, row in rows.items()))
    scanned = replace(stage, body=(*(Load(name, row, at) for name, row in rows.items()), *casts.values()))
    kernel = (*nested(along, body, "serial"), *_one_row(scanned))
    return Kernel(stage.buffer.name, _outside(stage.axes[:-1], kernel), stage.origin)


def row_kernel(stage: Scan, taken: set[str]) -> Kernel:
    """The scan with a row of accumulators, one for each place of the axes behind its own."""
    assert stage.initial is not None
    place = [name for name, _ in stage.axes].index(stage.along)
    outer, inner = stage.axes[:place], stage.axes[place + 1 :]
    row = _row(f"{stage.buffer.name}_row", stage.initial.dtype, inner, taken)
    names = {statement.name for statement in stage.body}
    total = free_name(accumulator_name(stage.buffer), names)
    kept, keep = _kept(stage, total, names)
    at = identity(inner)
    steps = (Accumulate(row, at, op, value) for op, value in _steps(stage))
    keeping: tuple[Statement, ...] = (Load(total, row, at), *keep, Store(stage.buffer, identity(stage.axes), kept))
    step = _one_step(stage, (*steps,), keeping)
    start = nested(inner, (Store(row, at, stage.initial),), "serial")
    body = (*start, _in_order(stage, nested(inner, step, "serial")))
    return Kernel(stage.buffer.name, _outside(outer, body), stage.origin)


def in_pieces(stage: Scan, count: int, taken: set[str]) -> tuple[Kernel, ...]:
    """The scan in so many pieces that run at once: their totals, the scan of these, and the pieces from there."""
    names = {*taken, *(statement.name for statement in stage.body), *(name for name, _ in stage.axes)}
    total, start, piece = (free_name(name, names) for name in (accumulator_name(stage.buffer), "start", "piece"))
    assert stage.initial is not None and stage.combine is not None
    empty = Accumulator(total, stage.initial)
    outside = tuple((piece, count) if each[0] == stage.along else each for each in stage.axes)
    at, along = identity(outside), _in_order(stage, ())
    totals, starts = (_scratch(f"{stage.buffer.name}_{what}", stage.initial.dtype, outside, "arena", taken)
                      for what in ("totals", "starts"))  # fmt: skip

    def kernel(buffer: Buffer, before: tuple[Statement, ...], step: tuple[Statement, ...], after: tuple[Statement, ...],
               what: str) -> Kernel:  # fmt: skip
        loop = replace(along, body=_in_direction(stage, step), share=(piece, count))
        body = (empty, *before, loop, *after)
        return Kernel(buffer.name, nested(outside, body, "parallel"), f"{_words(stage)}, in {count} pieces: {what}")

    add = Accumulate(total, (), stage.combine, stage.value)
    kept, keep = _kept(stage, total, names)
    keeping: tuple[Statement, ...] = (*keep, Store(stage.buffer, identity(stage.axes), kept))
    before = (Load(start, starts, at), Accumulate(total, (), stage.combine, start))
    between = Scan(
        starts, outside, (Load(start, totals, at),), start, combine=stage.combine, initial=stage.initial,
        origin=f"{stage.buffer.name}: where each piece starts", along=piece, exclusive=True,
    )  # fmt: skip
    return (
        kernel(totals, (), (*stage.body, add), (Store(totals, at, total),), "their totals"),
        scan_kernel(between),
        kernel(stage.buffer, before, _one_step(stage, (add,), keeping), (), "each from its start"),
    )


def _pieces(stage: Scan, most: int) -> int:
    """In how many pieces a scan should run: 1 where there are rows enough, or it is short."""
    extents = dict(stage.axes)
    place = list(extents).index(stage.along)
    beside = product(extents[name] for name in list(extents)[place + 1 :])
    if stage.combine not in IN_PIECES or stage.scale is not None or nominal(beside) >= BESIDE:
        return 1
    steps = extents.pop(stage.along)
    rows = max(1, nominal(product(extents.values())))
    return max(1, min(most, AT_ONCE // rows, steps // STEPS if isinstance(steps, int) else most))


def _row(name: str, dtype: np.dtype, axes: Axes, taken: set[str]) -> Buffer:
    return _scratch(name, dtype, axes, "row", taken)


def _scratch(name: str, dtype: np.dtype, axes: Axes, space: str, taken: set[str]) -> Buffer:
    """Scratch under a free name."""
    free = free_name(name, taken)
    taken.add(free)
    return Buffer(free, dtype, tuple(size for _, size in axes), space)


def _outside(axes: Axes, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Loops around row scratch, which belongs to the iterations of the outermost one."""
    return nested(axes[:1], nested(axes[1:], body, "serial"), "parallel")


def _one_step(
    stage: Scan, steps: tuple[Statement, ...], keeping: tuple[Statement, ...]
) -> tuple[Statement, ...]:
    """The statements of one step: an exclusive scan keeps what there was before it."""
    return (*stage.body, *keeping, *steps) if stage.exclusive else (*stage.body, *steps, *keeping)


def _steps(stage: Scan) -> tuple[tuple[str, Value], ...]:
    assert stage.combine is not None
    step = (stage.combine, stage.value)
    return (step,) if stage.scale is None else (("multiply", stage.scale), step)


def _kept(stage: Scan, total: str, taken: set[str]) -> tuple[Value, tuple[Let, ...]]:
    """The scalar that is stored, and the conversion to the dtype of the result."""
    assert stage.initial is not None
    if stage.initial.dtype == stage.buffer.dtype:
        return total, ()
    name = free_name(stage.buffer.name, {*taken, total})
    return name, (Let(name, "cast", (total,), stage.buffer.dtype),)


def _in_order(stage: Scan, body: tuple[Statement, ...]) -> Loop:
    return Loop(stage.along, dict(stage.axes)[stage.along], "serial", _in_direction(stage, body))


def _in_direction(stage: Scan, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return _turned(stage.along, dict(stage.axes)[stage.along], body) if stage.reverse else body


def _turned(name: str, extent: Extent, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Statements with an axis counted from its other end."""
    back = {name: axis(name) * -1 + (extent - 1)}
    return rewritten(body, lambda statement: (at_indices(statement, back),))


# after inlining -------------------------------------------------------------------------------------------------------


def scan_steps(items: Sequence[Any], taken: set[str], refusals: list[str], pieces: int) -> list[Any]:
    """The scans among stages and steps as kernels of their own; for a GPU, which runs up to so many pieces at once."""
    result: list[Any] = []
    for item in items:
        if not isinstance(item, Scan):
            result.append(item)
            continue
        stage = _with_letters(item)
        if pieces and (count := _pieces(stage, pieces)) > 1:
            result += in_pieces(stage, count, taken)
        else:
            kernel = scan_kernel(stage) if pieces else _for_cpu(stage, taken)
            result.append(replace(kernel, origin=_words(stage)))
        refusals.append(f"{item.buffer.name}: not fused: a scan runs along its axis in order, in loops of its own")
    return result


def _for_cpu(stage: Scan, taken: set[str]) -> Kernel:
    if stage.axes[-1][0] != stage.along:
        return row_kernel(stage, taken)
    return prepared_kernel(stage, taken) if cost(stage) >= CALL else scan_kernel(stage)


def _with_letters(stage: Scan) -> Scan:
    """The scan with its axes named as in other kernels: by letters that no value and no dim has."""
    taken = {*extent_names(size for _, size in stage.axes), *(statement.name for statement in stage.body)}
    taken |= {stage.buffer.name, *(load.buffer.name for load in stage.loads)}
    letters = (*(name for name in AXIS_NAMES if name not in taken), *(name for name, _ in stage.axes))
    names = {old: new for (old, _), new in zip(stage.axes, letters, strict=False)}
    variables = {old: axis(new) for old, new in names.items()}
    return replace(
        stage,
        axes=tuple((names[name], size) for name, size in stage.axes),
        along=names[stage.along],
        body=tuple(substitute_statement(statement, variables, {}) for statement in stage.body),
    )


def _words(stage: Scan) -> str:
    extents = dict(stage.axes)
    others = " x ".join(str(size) for name, size in stage.axes if name != stage.along)
    assert stage.combine is not None
    what = "the linear recurrence" if stage.scale is not None else _RUNNING[stage.combine]
    text = f"{what} {stage.origin} along {extents[stage.along]}{', from the end' if stage.reverse else ''}"
    return f"for each of {others}: {text}" if others else text


_RUNNING = {
    "add": "the running sum", "multiply": "the running product",
    "maximum": "the running maximum", "minimum": "the running minimum",
}  # fmt: skip
