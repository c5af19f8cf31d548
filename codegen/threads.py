"""Parts of a kernel on several threads: the parallel region, the gate before it, and BLAS kept out of its way.

A kernel that is split takes the number of its part first. `in_threads` calls it once for each part, on Numba's
threading layer where the work pays for it, else one after the other: the parts of kernels are the same, and so are
their results (BLAS may round a product otherwise when it has threads of its own). One region runs at a time; a second
one (nested, from another Python thread, in a forked child, whose threads are gone) runs its parts in turn.

Compiled callers find the threading layer, BLAS's thread count and the flag that a region runs in a table of addresses,
by the name of one symbol, so that they can be cached on disk.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import numba
from llvmlite import binding, ir
from numba.core import cgutils, config, errors, types
from numba.np.arrayobj import make_array
from numba.np.ufunc import parallel
from numpy.typing import NDArray

from graphc.codegen.intrinsics import contiguous_view, lowers
from graphc.ir.costs import REGION
from graphc.ir.errors import CompileValueError

_SYMBOL = "graphc_threads"
_BLAS_PREFIXES = ("scipy_openblas", "openblas")
_INTP, _POINTER = cgutils.intp_t, cgutils.voidptr_t


# The order of the table's fields, each as wide as a pointer.
_NAMES = "busy", "workers", "run", "set_blas", "get_blas", "watches_forks"
_FIELDS = {name: place for place, name in enumerate(_NAMES)}


class _Table(ctypes.Structure):
    """What compiled code reads at `_SYMBOL`."""

    _fields_ = tuple((name, ctypes.c_ssize_t) for name in _FIELDS)


_TABLE = _Table()


def thread_count(asked: int | None) -> int:
    """How many threads a program may use: as many as asked for, ``GRAPHC_NUM_THREADS``, or all that Numba has.

    Raises
    ------
    CompileValueError
        Where ``GRAPHC_NUM_THREADS`` is no positive integer.
    """
    if not _TABLE.watches_forks and hasattr(os, "register_at_fork"):
        _TABLE.watches_forks = 1
        os.register_at_fork(after_in_child=_stay_serial)
    if asked:
        return asked
    text = os.environ.get("GRAPHC_NUM_THREADS", "")
    if not text:
        return int(config.NUMBA_NUM_THREADS)
    if not text.isdecimal() or int(text) < 1:
        raise CompileValueError(
            f"GRAPHC_NUM_THREADS is {text!r}", hint="set it to a number of threads, 1 or more, or not at all"
        )
    return int(text)


def launch() -> None:
    """Start the threads and fill the table: before a module with `in_threads` or `gemm` in parts is loaded."""
    if _TABLE.run:
        return
    numba.get_num_threads()  # starts the threading layer
    if numba.threading_layer() == "workqueue":
        _TABLE.busy = 1  # it ends the process where two Python threads use it, or one in the other: parts run in turn
    binding.add_symbol(_SYMBOL, ctypes.addressof(_TABLE))
    _TABLE.workers = int(config.NUMBA_NUM_THREADS)
    _TABLE.set_blas, _TABLE.get_blas = _blas_controls()
    _TABLE.run = binding.address_of_symbol("numba_parallel_for")


def _stay_serial() -> None:
    """In a forked child: where Numba's threads were started before they are gone, so a region seems to run for ever."""
    if parallel._is_initialized:
        _TABLE.busy = 1


def _blas_controls() -> tuple[int, int]:
    """The addresses of the functions that set and get the number of threads of SciPy's BLAS; 0 where it has none."""
    from scipy.linalg import cython_blas

    library = ctypes.CDLL(cython_blas.__file__)
    for prefix in _BLAS_PREFIXES:
        found = [getattr(library, f"{prefix}_{verb}_num_threads", None) for verb in ("set", "get")]
        addresses = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in found if function is not None]
        if len(addresses) == 2:
            return addresses[0], addresses[1]
    return 0, 0


def in_threads(
    kernel: Callable[..., None], parts: int, work: int, arguments: tuple[Any, ...], serial_blas: bool = False
) -> None:
    """Call ``kernel(part, *arguments)`` for every part.

    Parameters
    ----------
    kernel
        A compiled function of one signature; what its parts write does not overlap.
    parts
        How many.
    work
        How long all parts together take, in picoseconds of one core; below `REGION` they run one after the other.
    arguments
        What all parts get.
    serial_blas
        Whether the kernel multiplies matrices: BLAS then keeps to one thread while parts run at once, and where it
        cannot be told to, the parts run one after the other. Errors that a part raises are lost, so a product in one
        must have fewer than 2**31 rows, columns and terms (see `gemm`).
    """
    for part in range(parts):
        kernel(part, *arguments)


@lowers(in_threads)
def _in_threads(typing: Any, kernel: Any, parts: Any, work: Any, arguments: Any, serial_blas: Any = False) -> Any:
    if not isinstance(kernel, types.Dispatcher) or not isinstance(arguments, types.BaseTuple):
        raise errors.TypingError(f"in_threads wants a compiled function and a tuple, not {kernel} and {arguments}")
    called = kernel.get_call_type(typing, (types.uintp, *arguments), {})

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        compiled = kernel.dispatcher.overloads[called.args]
        context.active_code_library.add_linking_library(compiled.library)
        values = [
            context.cast(builder, value, source, target)
            for value, source, target in zip(
                cgutils.unpack_tuple(builder, args[3]), arguments, called.args[1:], strict=True
            )
        ]

        def run_part(inside: Any, part: Any, given: list[Any]) -> None:
            context.call_internal_no_propagate(inside, compiled.fndesc, called, (part, *given))

        pays = builder.icmp_signed(">=", args[2], _INTP(REGION))
        around: Around = nullcontext
        if not isinstance(serial_blas, bool):  # it is given
            pays = builder.and_(pays, builder.or_(builder.not_(args[4]), has_blas_control(builder)))
            around = partial(one_blas_thread, wanted=args[4])
        in_parts(builder, args[1], pays, values, run_part, around)
        return context.get_dummy_value()

    return types.void(kernel, types.intp, types.intp, arguments, types.boolean), generate


def piece(part: int, parts: int, size: int) -> tuple[int, int]:
    """Return where a part's piece of `size` begins and ends, as unsigned integers.

    (Numba would test every index from a signed start for its sign, and the loop would not vectorise.)
    """
    return part * size // parts, (part + 1) * size // parts


@lowers(piece)
def _piece(_typing: Any, part: Any, parts: Any, size: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cgutils.pack_array(builder, limits(builder, *args))

    return types.UniTuple(types.uintp, 2)(types.uintp, types.intp, types.intp), generate


def part_of(array: NDArray[Any], part: int) -> NDArray[Any]:
    """Return what a part has for itself: ``array[part]``, of a contiguous array with more axes."""
    found: NDArray[Any] = array[part]
    return found


@lowers(part_of)
def _part_of(_typing: Any, array: Any, part: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = make_array(array)(context, builder, args[0])
        _, *shape = cgutils.unpack_tuple(builder, whole.shape)
        start = args[1]
        for extent in shape:
            start = builder.mul(start, extent)
        return contiguous_view(context, builder, signature.return_type, builder.gep(whole.data, [start]), shape)

    return array.copy(ndim=array.ndim - 1)(array, types.uintp), generate


def rows_of(array: NDArray[Any], first: int, last: int) -> NDArray[Any]:
    """Return some rows of a contiguous array, ``array[first:last]``; that it has them is the caller's promise."""
    return array[first:last]


@lowers(rows_of)
def _rows_of(_typing: Any, array: Any, first: Any, last: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = make_array(array)(context, builder, args[0])
        _, *shape = cgutils.unpack_tuple(builder, whole.shape)
        start = args[1]
        for extent in shape:
            start = builder.mul(start, extent)
        data, rows = builder.gep(whole.data, [start]), builder.sub(args[2], args[1])
        return contiguous_view(context, builder, signature.return_type, data, [rows, *shape])

    return array(array, types.uintp, types.uintp), generate


# emitting regions -----------------------------------------------------------------------------------------------------

Part: TypeAlias = "Callable[[Any, Any, list[Any]], None]"
Around: TypeAlias = "Callable[[Any], AbstractContextManager[None]]"


@contextmanager
def one_blas_thread(builder: Any, wanted: Any = cgutils.true_bit) -> Iterator[None]:
    """Emit code between what keeps BLAS to one thread (where that is wanted) and what gives it back its own."""
    table = _table(builder)
    set_threads = _function(builder, table, "set_blas", ir.FunctionType(ir.VoidType(), [cgutils.int32_t]))
    get_threads = _function(builder, table, "get_blas", ir.FunctionType(cgutils.int32_t, []))
    before = cgutils.alloca_once(builder, cgutils.int32_t)
    with builder.if_then(wanted):
        builder.store(builder.call(get_threads, []), before)
        builder.call(set_threads, [cgutils.int32_t(1)])
    yield
    with builder.if_then(wanted):
        builder.call(set_threads, [builder.load(before)])


def has_blas_control(builder: Any) -> Any:
    """Emit whether `one_blas_thread` works here."""
    return builder.icmp_signed("!=", builder.load(_field(builder, _table(builder), "set_blas")), _INTP(0))


def limits(builder: Any, part: Any, parts: Any, size: Any) -> tuple[Any, Any]:
    """Emit `piece`."""
    first, last = (
        builder.sdiv(builder.mul(limit, size), parts) for limit in (part, builder.add(part, _INTP(1)))
    )
    return first, last


def in_parts(
    builder: Any, parts: Any, pays: Any, values: list[Any], run_part: Part, around: Around = nullcontext
) -> None:
    """Emit a region.

    Parameters
    ----------
    builder
        Where.
    parts, pays
        LLVM values: the number of parts, and whether they are worth threads.
    values
        LLVM values that all parts need.
    run_part
        Called as ``run_part(builder, part, values)`` to emit one part, inside of a function of its own.
    around
        A context manager that emits what stands before and after the threads' work.
    """
    context = cgutils.alloca_once_value(builder, cgutils.pack_struct(builder, values))
    worker = _worker(builder, [value.type for value in values], run_part)
    first, count = (cgutils.alloca_once_value(builder, value) for value in (_INTP(0), parts))
    # The layer hands each part its own address: the first one's, and a step of one byte.
    base = cgutils.alloca_once_value(builder, builder.inttoptr(_INTP(0), _POINTER))
    data = builder.bitcast(context, _POINTER)
    with builder.if_else(_enter(builder, pays), likely=True) as (threads, serial):
        with threads:
            table = _table(builder)
            workers = builder.load(_field(builder, table, "workers"))
            fewer = builder.icmp_signed("<", parts, workers)
            step = cgutils.alloca_once_value(builder, _INTP(1))
            arguments = (
                builder.bitcast(worker, _POINTER), base, count, step, data, _INTP(0), _INTP(1),
                builder.trunc(builder.select(fewer, parts, workers), cgutils.int32_t),
            )  # fmt: skip
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in arguments])
            with around(builder):
                builder.call(_function(builder, table, "run", kind), arguments)
            _leave(builder)
        with serial:
            builder.call(worker, (base, count, first, data))


def _worker(builder: Any, kinds: list[Any], run_part: Part) -> Any:
    """The function that the threading layer calls: it runs ``dims[0]`` parts, from the one that ``args[0]`` is."""
    intp_pointer = _INTP.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [_POINTER.as_pointer(), intp_pointer, intp_pointer, _POINTER])
    function = ir.Function(builder.module, kind, builder.module.get_unique_name(f"{builder.function.name}_parts"))
    function.linkage = "internal"
    args, dims, _, data = function.args
    inside = ir.IRBuilder(function.append_basic_block("entry"))
    packed = inside.load(inside.bitcast(data, ir.LiteralStructType(kinds).as_pointer()))
    values = [inside.extract_value(packed, place) for place in range(len(kinds))]
    start = inside.ptrtoint(inside.load(args), _INTP)
    with cgutils.for_range(inside, inside.load(dims)) as loop:
        run_part(inside, inside.add(start, loop.index), values)
    inside.ret_void()
    return function


def _enter(builder: Any, pays: Any) -> Any:
    """Emit the decision for threads: it pays, and no other region runs."""
    entered = cgutils.alloca_once_value(builder, cgutils.false_bit)
    with builder.if_then(pays):
        busy = _field(builder, _table(builder), "busy")
        swapped = builder.cmpxchg(busy, _INTP(0), _INTP(1), "acquire", "monotonic")
        builder.store(builder.extract_value(swapped, 1), entered)
    return builder.load(entered)


def _leave(builder: Any) -> None:
    busy = _field(builder, _table(builder), "busy")
    builder.store_atomic(_INTP(0), busy, "release", 8)


def _table(builder: Any) -> Any:
    module = builder.module
    if _SYMBOL in module.globals:
        return module.globals[_SYMBOL]
    kind = ir.ArrayType(_INTP, len(_FIELDS))
    table = ir.GlobalVariable(module, kind, _SYMBOL)
    table.linkage = "external"
    return table


def _field(builder: Any, table: Any, name: str) -> Any:
    return cgutils.gep_inbounds(builder, table, 0, _FIELDS[name])


def _function(builder: Any, table: Any, name: str, kind: Any) -> Any:
    return builder.inttoptr(builder.load(_field(builder, table, name)), kind.as_pointer())
