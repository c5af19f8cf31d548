"""The positions in a loop that are one thread's, as an iterator that NVIDIA's compiler knows for a plain loop.

A `range` of Numba counts its iterations down, for which it divides when the step is known at run time alone, and the
compiler, which cannot see that its values are not negative, corrects every index. This one goes from a first position
to a last one: its loops unroll, and their addresses are counted up (a sum over a row: 11 instructions an element
become 2).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.cuda.core.imputils import RefType, iternext_impl
from numba.cuda.cudaimpl import lower
from numba.extending import intrinsic, models, register_model

_INT = ir.IntType(64)


class Positions(types.SimpleIteratorType):  # type: ignore[misc]
    """The type of the iterator."""

    def __init__(self) -> None:
        super().__init__("thread_positions", types.int64)


_POSITIONS = Positions()


@register_model(Positions)
class _Model(models.StructModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Positions) -> None:
        members = [("place", types.EphemeralPointer(types.int64)), ("last", types.int64), ("step", types.int64)]
        super().__init__(manager, kind, members)


@lower("iternext", Positions)
@iternext_impl(RefType.UNTRACKED)
def _next(context: Any, builder: ir.IRBuilder, signature: Any, args: Any, result: Any) -> None:
    positions = cgutils.create_struct_proxy(_POSITIONS)(context, builder, args[0])
    place = builder.load(positions.place)
    result.set_valid(builder.icmp_signed("<", place, positions.last))
    builder.assume(builder.icmp_signed(">=", place, ir.Constant(_INT, 0)))
    result.yield_(place)
    builder.store(builder.add(place, positions.step, flags=["nsw"]), positions.place)


@intrinsic
def threads_between(typing: Any, first: Any, last: Any, threads: Any) -> Any:
    """The numbers from `first` to `last` (not included) that are this thread's, one of so many of its block."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        begin, end, step = (
            context.cast(builder, value, kind, types.int64) for value, kind in zip(args, signature.args, strict=True)
        )
        thread = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), ()), "llvm.nvvm.read.ptx.sreg.tid.x"
        )
        start = builder.add(begin, builder.zext(builder.call(thread, ()), _INT), flags=["nsw"])
        positions = cgutils.create_struct_proxy(_POSITIONS)(context, builder)
        positions.place, positions.last = cgutils.alloca_once_value(builder, start), end
        positions.step = step
        return positions._getvalue()

    return _POSITIONS(first, last, threads), generate
