"""In place: a value that one kernel reads for the last time, element by element, gives its memory to the result.

The two buffers become one before memory is planned: ``h[i, j] = tanh(h_0[i, j] + b[j])`` turns into
``h[i, j] = tanh(h[i, j] + b[j])``, and what computed ``h_0`` computes into ``h``. (If two names were one memory, the
loop would not be vectorised.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.ir.loops import (
    Accumulate,
    Buffer,
    Call,
    Index,
    Kernel,
    Load,
    Loop,
    Product,
    Program,
    Statement,
    Step,
    Store,
    axis,
    walk,
)
from graphc.passes.fission import independent
from graphc.passes.stages import on_element, rewritten


def reuse_in_place(program: Program, in_order: bool = True) -> Program:
    """The program with every value that allows it computed where its last operand was.

    Without `in_order` not in loops that run in order, where the threads of a block would wait for the one that stores.
    """
    first, last = _touches(program)
    merged: dict[Buffer, Buffer] = {}
    for position, step in enumerate(program.steps):
        if not isinstance(step, Kernel):
            continue
        for result in step.writes:
            if result.base is not None or result.space not in ("arena", "output") or first[result] != position:
                continue
            if not in_order and _stored_in_order(step, result):
                continue
            for operand in step.reads:
                dies = operand.space == "arena" and last.get(operand) == position and operand not in merged
                if dies and may_replace(step, operand, result):
                    merged[operand] = result
                    break
    return _renamed(program, {buffer: _final(buffer, merged) for buffer in program.buffers}) if merged else program


def _stored_in_order(kernel: Kernel, result: Buffer) -> bool:
    """Whether a kernel stores a result in a loop whose iterations depend on each other."""
    loops = (each for each in walk(kernel.body) if isinstance(each, Loop) and not independent(each))
    return any(isinstance(each, Store) and each.buffer == result for loop in loops for each in walk(loop.body))


def may_replace(kernel: Kernel, operand: Buffer, result: Buffer) -> bool:
    """Whether every element of the operand is read before the same element of the result is stored, and never after."""
    if (operand.dtype, operand.shape) != (result.dtype, result.shape):
        return False
    stored: Index | None = None
    read: set[Index] = set()
    for statement, around in _with_loops(kernel.body):
        match statement:
            case Load(buffer=buffer, index=index) if buffer.root == operand:
                if stored is not None or buffer != operand or not set(_axes(index, buffer)) <= set(around):
                    return False
                read.add(index)
            case Store(buffer=buffer, index=index) if buffer.root == result:
                if stored is not None or buffer != result or set(around) != set(_axes(index, buffer)):
                    return False
                stored = index
            case Accumulate(target=Buffer() as buffer) if buffer.root in (operand, result):
                return False
            case Product(a, b, out):
                # Of its first operand and its result it touches rows of a piece, as a verified kernel does after it.
                touched = [buffer for buffer in (a, out) if buffer.root == operand]
                if result in (a.root, b.root, out.root) or b.root == operand:
                    return False
                if touched and (stored is not None or set(touched) != {operand}):
                    return False
    return stored is not None and read == {stored}


def _axes(index: Index, buffer: Buffer) -> tuple[str, ...]:
    """The axes of an index that is one axis a position (or 0 of 1); of any other, a name that is no axis."""
    positions = [position for position, size in zip(index, buffer.shape, strict=True) if size != 1 or position.terms]
    names = tuple(position.variables[0] if position.terms else "" for position in positions)
    return names if positions == list(map(axis, names)) else ("",)


def _with_loops(body: tuple[Statement, ...]) -> list[tuple[Statement, tuple[str, ...]]]:
    """All statements in order, each with the axes of the loops around it, but for those that count pieces of one."""
    found: list[tuple[Statement, tuple[str, ...]]] = []
    stack: list[tuple[tuple[Statement, ...], tuple[str, ...]]] = [(body, ())]
    while stack:
        statements, around = stack.pop()
        for place, statement in enumerate(statements):
            found.append((statement, around))
            if isinstance(statement, Loop):
                counting = statement.share[0] if statement.share is not None else None
                inside = (*(name for name in around if name != counting), statement.axis)
                stack += [(statements[place + 1 :], around), (statement.body, inside)]
                break
    return found


def _touches(program: Program) -> tuple[dict[Buffer, int], dict[Buffer, int]]:
    """The first and the last step that touches each root; results are touched after the last step."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for position, step in enumerate(program.steps):
        for buffer in step.buffers:
            first.setdefault(buffer.root, position)
            last[buffer.root] = position
    last |= {buffer.root: len(program.steps) for buffer in program.outputs}
    return first, last


def _final(buffer: Buffer, merged: Mapping[Buffer, Buffer]) -> Buffer:
    """What a buffer has become, or is part of."""
    chain = [buffer]
    while (base := chain[-1].base) is not None:
        chain.append(base)
    root = chain.pop()
    while root in merged:
        root = merged[root]
    for part in reversed(chain):
        root = replace(part, base=root)
    return root


def _renamed(program: Program, final: Mapping[Buffer, Buffer]) -> Program:
    steps = tuple(_renamed_step(step, final) for step in program.steps)
    return replace(program, steps=steps, outputs=tuple(final[buffer] for buffer in program.outputs))


def _renamed_step(step: Step, final: Mapping[Buffer, Buffer]) -> Step:
    if isinstance(step, Call):
        return replace(step, operands=tuple(final[buffer] for buffer in step.operands))

    def renamed(statement: Statement) -> tuple[Statement, ...]:
        if isinstance(statement, Product):
            a, b, out = (final[buffer] for buffer in (statement.a, statement.b, statement.out))
            return (replace(statement, a=a, b=b, out=out),)
        return (on_element(statement, lambda buffer, index: (final[buffer], index)),)

    return replace(step, body=rewritten(step.body, renamed))
