"""Neighbours in memory that one instruction moves to or from a thread's registers: together up to 16 bytes.

Numba can neither say what an element is aligned to nor load several at once, so this is written in LLVM's terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from graphc.codegen.cuda.functions import SIMULATED
from graphc.ir.loops import LANES
from graphc.passes.lanes import ACCESS

_WORD = 4  # bytes of what the instruction counts in, where elements are not larger
_INT, _INDEX = ir.IntType(64), ir.IntType(32)


class _Neighbours:
    """Some elements of an array that lie side by side, and where each stands in registers."""

    def __init__(self, count: int, context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> None:
        self.builder = builder
        array, index, _ = signature.args
        alone = isinstance(index, types.Integer)
        positions = [(args[1], index)] if alone else zip(cgutils.unpack_tuple(builder, args[1]), index, strict=True)
        at = [context.cast(builder, value, kind, types.intp) for value, kind in positions]
        source, lanes = (
            context.make_array(kind)(context, builder, value)
            for kind, value in ((array, args[0]), (signature.args[2], args[2]))
        )
        first = cgutils.get_item_pointer(context, builder, array, source, at)
        self.places = [builder.gep(lanes.data, [ir.Constant(_INT, lane)]) for lane in range(count)]
        size = context.get_abi_sizeof(first.type.pointee)
        self.nbytes = count * size
        # Several small elements make a word, by shifts: a vector of them would be moved in parts.
        self.whole = size >= _WORD
        word = size if self.whole else min(_WORD, self.nbytes)
        self.kind = first.type.pointee if self.whole else ir.IntType(8 * word)
        self.bits, self.per_word = 8 * size, word // size
        vector = ir.VectorType(self.kind, count // self.per_word)
        self.words = builder.bitcast(first, vector.as_pointer(first.type.addrspace))

    def load(self) -> None:
        """Into registers."""
        builder = self.builder
        loaded = builder.load(self.words, align=self.nbytes)
        for lane, place in enumerate(self.places):
            element = builder.extract_element(loaded, ir.Constant(_INDEX, lane // self.per_word))
            if not self.whole:
                shift = ir.Constant(self.kind, lane % self.per_word * self.bits)
                element = builder.trunc(builder.lshr(element, shift), place.type.pointee)
            builder.store(element, place)

    def store(self) -> None:
        """From registers."""
        builder = self.builder
        words = [ir.Constant(self.kind, 0)] * (len(self.places) // self.per_word)
        for lane, place in enumerate(self.places):
            element, at = builder.load(place), lane // self.per_word
            if not self.whole:
                shift = ir.Constant(self.kind, lane % self.per_word * self.bits)
                element = builder.or_(words[at], builder.shl(builder.zext(element, self.kind), shift))
            words[at] = element
        stored = ir.Constant(self.words.type.pointee, ir.Undefined)
        for at, word in enumerate(words):
            stored = builder.insert_element(stored, word, ir.Constant(_INDEX, at))
        builder.store(stored, self.words, align=self.nbytes)


def _moving(count: int, move: Callable[[_Neighbours], None]) -> Callable[..., None]:
    """What moves so many elements from an array's index on to or from an array in registers."""

    @intrinsic
    def moving(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            move(_Neighbours(count, context, builder, signature, args))
            return context.get_dummy_value()

        return types.void(array, index, lanes), generate

    return moving  # type: ignore[no-any-return]  # an untyped library's


def _load(array: Any, index: Any, lanes: Any) -> None:
    """Load an element and its neighbours, in the simulator."""
    *rows, first = np.atleast_1d(index)
    lanes[:] = array[(*rows, slice(first, first + len(lanes)))]


def _store(array: Any, index: Any, lanes: Any) -> None:
    """Store an element and its neighbours, in the simulator."""
    *rows, first = np.atleast_1d(index)
    array[(*rows, slice(first, first + len(lanes)))] = lanes


if SIMULATED:  # which knows neither addresses nor LLVM
    load_2 = load_4 = load_8 = _load
    store_2 = store_4 = store_8 = _store
    LANES_ALIGNMENT = None
else:
    load_2, load_4, load_8 = (_moving(count, _Neighbours.load) for count in LANES)
    store_2, store_4, store_8 = (_moving(count, _Neighbours.store) for count in LANES)
    LANES_ALIGNMENT = ACCESS  # of memory that threads share, where several of its elements are moved at once
