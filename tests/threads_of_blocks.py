"""Kernels on a grid run thread by thread, with a total of its own for each, and races between threads reported.

The interpreter of loops takes one thread for all: it sees neither a total that is not combined nor a missing barrier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from lowered import Case

from graphc.ir.barriers import nest
from graphc.ir.loop_interpret import _evaluate, _Machine
from graphc.ir.loop_text import statement_text
from graphc.ir.loops import (
    Accumulate,
    Barrier,
    Buffer,
    Combine,
    Kernel,
    Load,
    Loop,
    Program,
    Statement,
    Store,
)  # fmt: skip
from graphc.passes.lanes import Element, moved_at_once


class RaceError(Exception):
    """Two threads touch an element at once, or wait in different places."""


def run(program: Program, case: Case) -> dict[str, np.ndarray]:
    """The outputs and updated params of a program, as `lowered.interpreted` gives them."""
    values = _Threads(program, case.feeds, {}).run()
    found = {f"{k}": values[buffer.name] for k, buffer in enumerate(program.outputs)}
    return found | {buffer.name: values[buffer.name] for buffer in program.updated}


class _Threads(_Machine):
    """A machine whose blocks run one after the other, in some order, and their threads between barriers too."""

    def __init__(self, program: Program, feeds: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        super().__init__(program, feeds, sizes)
        self.random = np.random.default_rng(0)

    def kernel(self, kernel: Kernel) -> None:
        assert kernel.grid is not None
        self.by_block: dict[int, set[tuple[int, str]]] = {}  # what touched an element, by its address
        for block in self.random.permutation(self.size(kernel.grid.extent)).tolist():
            for buffer in kernel.buffers:
                if buffer.root.space == "shared":  # as the block before left it
                    self.memory[buffer.root].view(np.uint8)[...] = 0xC3
            self.run_block(kernel, kernel.grid, block)

    def run_block(self, kernel: Kernel, grid: Loop, block: int) -> None:
        self.threads = grid.threads
        local = [buffer.root for buffer in kernel.buffers if buffer.root.space == "local"]
        copies = [{buffer: self.memory[buffer].copy() for buffer in local} for _ in range(grid.threads)]
        own: list[dict[str, Any]] = [{grid.axis: block} for _ in range(grid.threads)]
        threads = [self.body(grid.body, thread) for thread in range(grid.threads)]
        waiting: Statement | None = Barrier()
        while waiting is not None:
            self.by_thread: dict[int, set[tuple[int, str]]] = {}
            self.block, self.name = block, kernel.name
            reached: list[Statement | None] = [None] * grid.threads
            for thread in self.random.permutation(grid.threads).tolist():
                self.values = own[thread]
                self.memory |= copies[thread]
                reached[thread] = next(threads[thread], None)
            waiting = reached[0]
            if any(each is not waiting for each in reached):
                raise RaceError(f"{kernel.name}: threads wait in different places: {reached}")
            if isinstance(waiting, Combine):
                total = own[0][waiting.target]
                for values in own[1:]:
                    total = _evaluate(waiting.op, (total, values[waiting.target]))
                for values in own:
                    values[waiting.target] = total

    def body(self, body: tuple[Statement, ...], thread: int, dealt: bool = False) -> Iterator[Statement]:
        """Run statements, up to where the threads meet."""
        for statement in body:
            if isinstance(statement, Loop):
                is_dealt = statement.kind == "threads"
                loops, inner = nest(statement) if is_dealt else ((statement,), statement.body)
                groups, rest = self.groups(loops[-1])
                ranges = [*map(self.positions, loops[:-1]), groups]
                for place, positions in enumerate(product(*ranges)):
                    if not is_dealt or place % self.threads == thread:
                        self.values |= zip((loop.axis for loop in loops), positions, strict=True)
                        if loops[-1].lanes > 1:
                            self.group(loops[-1], positions[-1], thread)
                        else:
                            yield from self.body(inner, thread, dealt or is_dealt)
                for place, position in enumerate(rest):
                    if place % self.threads == thread:
                        self.values[loops[-1].axis] = position
                        yield from self.body(inner, thread, dealt=True)
            elif isinstance(statement, Barrier | Combine):
                assert not dealt, "threads of a loop that is dealt out never meet"
                yield statement
            else:
                self.note(statement, thread)
                self.statement(statement)

    def group(self, loop: Loop, first: int, thread: int) -> None:
        """Run a group of lanes: what they have in common, all they load at once, each lane, all they store at once."""
        moves, registers = moved_at_once(loop), dict[tuple[Element, int], Any]()
        del self.values[loop.axis]
        for statement in moves.common:
            self.note(statement, thread)
            self.statement(statement)
        lanes = range(first, first + loop.lanes)
        for element, position in product(moves.loaded, lanes):
            load = Load("loaded", *element)
            self.values[loop.axis] = position
            self.note(load, thread)
            self.statement(load)
            registers[element, position] = self.values["loaded"]
        moved = {*moves.loaded, *moves.stored}
        for position in lanes:
            self.values[loop.axis] = position
            for statement in moves.own:
                match statement:
                    case Load(name, buffer, index) if (buffer, index) in moved:
                        self.values[name] = registers[(buffer, index), position]
                    case Store(buffer, index, value) if (buffer, index) in moved:
                        registers[(buffer, index), position] = self.value(value)
                    case Accumulate(Buffer() as buffer, index, op, value) if (buffer, index) in moved:
                        old = registers[(buffer, index), position]
                        registers[(buffer, index), position] = _evaluate(op, (old, self.value(value)))
                    case _:
                        self.note(statement, thread)
                        self.statement(statement)
        for (buffer, index), position in product(moves.stored, lanes):
            self.values |= {loop.axis: position, "stored": registers[(buffer, index), position]}
            store = Store(buffer, index, "stored")
            self.note(store, thread)
            self.statement(store)

    def note(self, statement: Statement, thread: int) -> None:
        """Remember what a statement touches, and compare it with what others have touched."""
        match statement:
            case Load(buffer=buffer, index=index, mask=mask) if mask is None or self.values[mask]:
                how = "loads"
            case Store(buffer=buffer, index=index):
                how = "stores"
            case Accumulate(target=Buffer() as buffer, index=index):
                how = "adds in turns" if statement.atomic else "stores"
            case _:
                return
        if buffer.root.space == "local":
            return
        array = self.memory[buffer]
        at = self.index(buffer, index)
        steps = (k * stride for k, stride in zip(at, array.strides, strict=True))
        address = array.__array_interface__["data"][0] + sum(steps)
        self.compare(self.by_thread.setdefault(address, set()), (thread, how), f"threads: {statement_text(statement)}")
        if buffer.root.space != "shared":
            seen = self.by_block.setdefault(address, set())
            self.compare(seen, (self.block, how), f"blocks: {statement_text(statement)}")

    def compare(self, seen: set[tuple[int, str]], new: tuple[int, str], what: str) -> None:
        for one, how in seen:
            if one != new[0] and (how != new[1] or how == "stores"):
                raise RaceError(f"{self.name}: {how} and {new[1]} by two {what}")
        seen.add(new)

