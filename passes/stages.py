"""A stage: one value as a loop nest in normal form, ``out[axes] = expression`` or a reduction over further axes.

`lower` makes one kernel per stage; `fuse` reads the stages back out of the kernels, inlines and groups them. The two
functions `stage_kernel` and `kernel_stage` are inverses of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from graphc.ir.core import Node
from graphc.ir.dims import Dim, Extent
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Affine,
    Buffer,
    Const,
    Index,
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

Axes: TypeAlias = "tuple[tuple[str, Extent], ...]"


def axes_of(node: Node) -> Axes:
    """One axis per dimension: a0, a1, ..."""
    return tuple((f"a{k}", size) for k, size in enumerate(node.shape))


@dataclass(frozen=True, slots=True)
class Stage:
    """``buffer[axes] = value``, where `body` (loads and scalar operations, each name set once) computes the value.

    With `combine`, the value is combined over the axes of `reduce`, starting from `initial`, whose dtype is the
    accumulator's.
    """

    buffer: Buffer
    axes: Axes
    body: tuple[Straight, ...]
    value: Value
    reduce: Axes = ()
    combine: str | None = None
    initial: Const | None = None
    origin: str = ""

    @property
    def results(self) -> tuple[Value, ...]:
        """What the body computes."""
        return (self.value,)

    def renamed(self, names: Mapping[str, Value]) -> Stage:
        """The stage with other names for what its body computes."""
        return replace(self, value=new_value(self.value, names))

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads of the body."""
        return tuple(statement for statement in self.body if isinstance(statement, Load))

    @property
    def extents(self) -> dict[str, Extent]:
        """The extent of every axis, those of `reduce` too."""
        return dict((*self.axes, *self.reduce))


def accumulator_name(buffer: Buffer) -> str:
    """The name of the scalar that a reduction into `buffer` accumulates in."""
    return f"{buffer.name}_total"


def free_name(name: str, taken: Collection[str]) -> str:
    """The name itself, or with the first suffix that is not taken."""
    free, k = name, 0
    while free in taken:
        k += 1
        free = f"{name}_{k}"
    return free


def identity(axes: Axes) -> Index:
    """The index that reads or writes at the axes themselves."""
    return tuple(axis(name) for name, _ in axes)


def stage_kernel(stage: Stage) -> Kernel:
    """The stage by itself as a kernel: parallel loops over `axes`, and reduce loops inside."""
    if stage.combine is None:
        body: tuple[Statement, ...] = (*stage.body, Store(stage.buffer, identity(stage.axes), stage.value))
    else:
        assert stage.initial is not None
        total = accumulator_name(stage.buffer)
        inner = (*stage.body, Accumulate(total, (), stage.combine, stage.value))
        body = (
            Accumulator(total, stage.initial),
            *nested(stage.reduce, inner, "reduce"),
            *finish(stage, total),
            Store(stage.buffer, identity(stage.axes), result_name(stage, total)),
        )
    return Kernel(stage.buffer.name, nested(stage.axes, body, "parallel"), stage.origin)


def finish(stage: Stage, total: str) -> tuple[Statement, ...]:
    """The statement that turns an accumulator of a wider dtype into the result."""
    assert stage.initial is not None
    if stage.initial.dtype == stage.buffer.dtype:
        return ()
    return (Let(stage.buffer.name, "cast", (total,), stage.buffer.dtype),)


def result_name(stage: Stage, total: str) -> str:
    """The scalar that holds a finished reduction."""
    assert stage.initial is not None
    return total if stage.initial.dtype == stage.buffer.dtype else stage.buffer.name


def narrowed(stage: Stage) -> Stage:
    """A reduction in a wider dtype than its result's as one of values that are not converted to it."""
    term = next(each for each in stage.body if each.name == stage.value)
    assert isinstance(term, Let) and term.op == "cast"
    return replace(stage, body=tuple(each for each in stage.body if each is not term), value=term.args[0])


def kernel_stage(kernel: Kernel) -> Stage | None:
    """The stage that a kernel computes, or None where it is not in normal form (scatters)."""
    axes, body = peel(kernel.body, "parallel")
    last = body[-1] if body else None
    if not isinstance(last, Store) or last.index != identity(axes):
        return None
    if isinstance(body[0], Accumulator):
        reduce, inner = peel(body[1:2], "reduce")
        accumulate = inner[-1]
        assert isinstance(accumulate, Accumulate)
        return Stage(
            last.buffer, axes, _straight(inner[:-1]), accumulate.value, reduce, accumulate.op, body[0].initial,
            kernel.origin,
        )
    return Stage(last.buffer, axes, _straight(body[:-1]), last.value, origin=kernel.origin)


def _straight(body: tuple[Statement, ...]) -> tuple[Straight, ...]:
    """The scalar computations of a body, which holds nothing else but comments."""
    return tuple(statement for statement in body if isinstance(statement, Let | IndexValue | Load))


def nested(axes: Axes, body: Sequence[Statement], kind: str) -> tuple[Statement, ...]:
    """A body in a perfect nest of loops of one kind."""
    statements = tuple(body)
    for name, extent in reversed(axes):
        statements = (Loop(name, extent, kind, statements),)
    return statements


def peel(body: tuple[Statement, ...], kind: str) -> tuple[Axes, tuple[Statement, ...]]:
    """The perfect nest of loops of one kind around a body."""
    axes: list[tuple[str, Extent]] = []
    while len(body) == 1 and isinstance(loop := body[0], Loop) and loop.kind == kind:
        axes.append((loop.axis, loop.extent))
        body = loop.body
    return tuple(axes), body


# substitution -----------------------------------------------------------------------------------------------


def substitute_index(index: Affine, variables: Mapping[str, Affine]) -> Affine:
    """The index with variables replaced by indices."""
    result = Affine((), index.offset)
    for variable, coefficient in index.terms:
        result = result + variables.get(variable, axis(variable)) * coefficient
    return result


def substitute_statement(
    statement: Straight, variables: Mapping[str, Affine], names: Mapping[str, Value]
) -> Straight:
    """A straight-line statement with index variables and scalar names replaced; its own name is looked up too."""
    match statement:
        case Load(name=name, index=index, mask=mask):
            return replace(
                statement,
                name=_renamed(name, names),
                index=tuple(substitute_index(position, variables) for position in index),
                mask=None if mask is None else _renamed(mask, names),
            )
        case IndexValue(name=name, index=position):
            return replace(statement, name=_renamed(name, names), index=substitute_index(position, variables))
        case Let(name=name, args=args):
            return replace(
                statement,
                name=_renamed(name, names),
                args=tuple(names.get(arg, arg) if isinstance(arg, str) else arg for arg in args),
            )


def new_value(value: Value, names: Mapping[str, Value]) -> Value:
    """A value with a scalar name replaced."""
    return names.get(value, value) if isinstance(value, str) else value


def _renamed(name: str, names: Mapping[str, Value]) -> str:
    new = names.get(name, name)
    assert isinstance(new, str)
    return new


def as_indices(names: Mapping[str, Value], positions: Mapping[str, Affine] = MappingProxyType({})) -> dict[str, Affine]:
    """Renamed scalars as index variables: a gathered index is a name too, a loop position (`positions`) is affine."""
    return {
        old: Affine((), int(new.value)) if isinstance(new, Const) else positions.get(new, axis(new))
        for old, new in names.items()
        if not isinstance(new, Const) or (new.dtype.kind in "iu" and not isinstance(new.value, Dim))
    }


def uses(statement: Let | Load | IndexValue) -> list[str]:
    """The axes and scalars that a statement reads."""
    match statement:
        case Let(args=args):
            return [arg for arg in args if isinstance(arg, str)]
        case Load(index=index, mask=mask):
            return [name for position in index for name in position.variables] + ([mask] if mask else [])
        case IndexValue(index=position):
            return list(position.variables)


# rewriting --------------------------------------------------------------------------------------------------


def on_element(statement: Statement, element: Callable[[Buffer, Index], tuple[Buffer, Index]]) -> Statement:
    """A statement with the element that it touches replaced."""
    match statement:
        case Load(buffer=buffer, index=index) | Store(buffer=buffer, index=index):
            buffer, index = element(buffer, index)
            return replace(statement, buffer=buffer, index=index)
        case Accumulate(target=Buffer() as buffer, index=index):
            buffer, index = element(buffer, index)
            return replace(statement, target=buffer, index=index)
    return statement


def rewritten(
    body: tuple[Statement, ...], rewrite: Callable[[Statement], tuple[Statement, ...]]
) -> tuple[Statement, ...]:
    """A body with every statement but loops replaced by others; without recursion."""
    frames: list[tuple[Loop | None, Iterator[Statement], list[Statement]]] = [(None, iter(body), [])]
    while True:
        loop, statements, done = frames[-1]
        statement = next(statements, None)
        if isinstance(statement, Loop):
            frames.append((statement, iter(statement.body), []))
        elif statement is not None:
            done += rewrite(statement)
        elif loop is None:
            return tuple(done)
        else:
            frames.pop()
            frames[-1][2].append(replace(loop, body=tuple(done)))


def without_unit_loops(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """A body without loops of one iteration, but for the outermost that may run in parallel."""
    frames: list[tuple[Loop | None, Iterator[Statement], list[Statement]]] = [(None, iter(body), [])]
    zeros: dict[str, Affine] = {}  # the axes of the loops that go
    while True:
        loop, statements, done = frames[-1]
        statement = next(statements, None)
        if isinstance(statement, Loop):
            if statement.extent == 1 and (loop is not None or statement.kind == "serial"):
                zeros[statement.axis] = Affine()
            frames.append((statement, iter(statement.body), []))
        elif statement is not None:
            done.append(at_indices(statement, zeros))
        elif loop is None:
            return tuple(done)
        else:
            frames.pop()
            gone = zeros.pop(loop.axis, None) is not None
            frames[-1][2].extend(done if gone else [replace(loop, body=tuple(done))])


def at_indices(statement: Statement, variables: Mapping[str, Affine]) -> Statement:
    """A statement with index variables replaced."""
    if not variables:
        return statement
    match statement:
        case Load() | Let() | IndexValue():
            return substitute_statement(statement, variables, {})
        case Store(index=index) | Accumulate(index=index):
            return replace(statement, index=tuple(substitute_index(position, variables) for position in index))
    return statement
