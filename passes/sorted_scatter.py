"""Sorted scatters: what happens at gathered indices in their order, by many threads, none of which takes turns.

``out[k[i], j] += x[i, j]`` becomes: where in memory each row of x goes, the stable order of these positions, and a
library routine that adds the rows of equal positions one after the other. So the same bits come out at every run, and
they are those of NumPy's ``add.at``. So are maxima and minima, and elements that are set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.ir.barriers import nest
from graphc.ir.dims import product
from graphc.ir.loops import (
    AT,
    KINDS,
    Accumulate,
    Affine,
    Buffer,
    Call,
    Comment,
    Index,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Statement,
    Step,
    Store,
    Value,
    axis,
)
from graphc.passes.stages import Axes, free_name, identity, nested
from graphc.passes.threads import needed, used

INT = np.dtype("int64")
# Elements up to which one thread is done sooner than a sort.
FEW = 64


def sorted_scatter(step: Step, taken: set[str], added_in_turns: Collection[str]) -> tuple[Step, ...]:
    """The steps that do what a kernel does at gathered indices, in order; the step itself where it is no such one.

    Sums of some dtypes may be `added_in_turns`, in any order. Names of new buffers and kernels are added to those that
    are taken.
    """
    found = _scatter(step) if isinstance(step, Kernel) else None
    if found is None:
        return (step,)
    axes, body, change = found
    count = product(extent for _, extent in axes)
    in_turns = change.routine == "add_at" and change.target.dtype.name in added_in_turns
    if in_turns or (change.routine != "add_at" and isinstance(count, int) and count <= FEW):
        return (step,)
    target = change.target
    rows, position = _rows(axes, body, change)
    if not rows:  # nothing meets in one row
        return (step,)

    def new(word: str) -> str:
        name = free_name(f"{target.name}_{word}", taken)
        taken.add(name)
        return name

    positions = Buffer(new("positions"), INT, tuple(extent for _, extent in rows), "arena")
    at = free_name("position", {*_scalars(body), *(name for name, _ in axes)})
    last: tuple[Statement, ...] = IndexValue(at, position, INT), Store(positions, identity(rows), at)
    located = (*needed(body, last), *last)
    origin = f"{target.name}: where it changes"
    steps: list[Step] = [Kernel(positions.name, nested(rows, located, "parallel"), origin)]

    values = _as_they_stand(axes, body, change)
    if values is None:
        values = Buffer(new("updates"), target.dtype, tuple(extent for _, extent in axes), "arena")
        last = (Store(values, identity(axes), change.value),)
        stored = (*needed(body, last), *last)
        steps.append(Kernel(values.name, nested(axes, stored, "parallel"), f"{target.name}: what goes there"))

    keys, count = positions, product(positions.shape)
    if len(rows) > 1:
        keys = Buffer(new("keys"), INT, (count,), "alias", positions)
    scratch, order = (Buffer(new(word), INT, (count,), "arena") for word in ("scratch", "order"))
    steps.append(Call("argsort", (keys, scratch, order)))
    steps.append(Call(change.routine, (order, positions, values, target)))
    return tuple(steps)


@dataclass(frozen=True, slots=True)
class _Change:
    """What happens to an element of a buffer: one of `AT`."""

    target: Buffer
    index: Index
    value: Value
    routine: str


def _scatter(kernel: Kernel) -> tuple[Axes, tuple[Statement, ...], _Change] | None:
    """The axes of loops around all of a kernel, what these compute, and what they do at gathered indices."""
    first = kernel.body[0] if len(kernel.body) == 1 else None
    if not isinstance(first, Loop):
        return None
    loops, inner = nest(first, KINDS)
    *body, last = (each for each in inner if not isinstance(each, Comment))
    straight = all(isinstance(each, Let | Load | IndexValue) for each in body)
    if not straight or any(loop.share is not None for loop in loops):
        return None
    match last:
        case Accumulate(target=Buffer() as target, index=index, op=op) if f"{op}_at" in AT:
            change = _Change(target, index, last.value, f"{op}_at")
        case Store(buffer=target, index=index):
            change = _Change(target, index, last.value, "set_at")
        case _:
            return None
    gathered = {name for position in index for name in position.variables} & _scalars(body)
    loaded = {each.buffer.root for each in body if isinstance(each, Load)}
    if not gathered or target.root in loaded:
        return None
    return tuple((loop.axis, loop.extent) for loop in loops), tuple(body), change


def _rows(axes: Axes, body: tuple[Statement, ...], change: _Change) -> tuple[Axes, Affine]:
    """The outer axes over what goes somewhere as a whole, side by side; and where in the target it begins.

    These are the axes that gathered indices depend on. Where what the others go over does not stand side by side in the
    target, or rows may overlap there, each element is a row of its own.
    """
    flat = change.target.position(change.index)
    gathered = {name for each in needed(body, (IndexValue("", flat, INT),)) for name in used(each)}
    depth = max((place + 1 for place, (name, _) in enumerate(axes) if name in gathered), default=0)
    inner = axes[depth:]
    beside = Affine()
    for place, (name, _) in enumerate(inner):
        beside += axis(name) * product(extent for _, extent in inner[place + 1 :])
    names = {name for name, _ in inner}
    mixed = any(names & set(position.variables) and not set(position.variables) <= names for position in change.index)
    if mixed or {term for term in flat.terms if term[0] in names} != set(beside.terms):
        return axes, flat
    return axes[:depth], Affine(tuple(term for term in flat.terms if term[0] not in names), flat.offset)


def _as_they_stand(axes: Axes, body: Sequence[Statement], change: _Change) -> Buffer | None:
    """The buffer whose elements go there, in the order in which it holds them; None where there is none."""
    for each in body:
        if isinstance(each, Load) and each.name == change.value and each.mask is None:
            whole = each.buffer.shape == tuple(extent for _, extent in axes)
            return each.buffer if whole and each.index == identity(axes) else None
    return None


def _scalars(body: Sequence[Statement]) -> set[str]:
    """The names that statements of a straight body define."""
    return {each.name for each in body if isinstance(each, Let | Load | IndexValue)}
