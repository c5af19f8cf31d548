"""LAPACK's routines on matrices that are parts of flat arrays: intrinsics for the loops around them.

They are Numba's wrappers, by the names under which it registers them in every process: they find SciPy's LAPACK at
their first call, with Python's lock, and allocate what the library works in. The one that Numba lacks, BLAS's ``trsm``,
gets a name when generated code imports this module, before its machine code is read.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, errors, types
from numba.extending import get_cython_function_address, intrinsic
from numba.np.arrayobj import make_array
from numba.np.linalg import F_INT_nbtype, check_blas_return, ensure_lapack

KINDS = {types.float32: "s", types.float64: "d"}
_CHAR, _POINTER, _INTP = cgutils.int8_t, cgutils.voidptr_t, cgutils.intp_t

for _kind in KINDS.values():
    binding.add_symbol(
        f"graphc_{_kind}trsm", get_cython_function_address("scipy.linalg.cython_blas", f"{_kind}trsm")
    )


@intrinsic
def potrf(_typing: Any, a: Any, at: Any, n: Any) -> Any:
    """Cholesky of an upper triangle, in place; not 0 where the matrix is not positive definite."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix = _pointer(context, builder, a, *args[:2])
        n, triangle = args[2], _CHAR(ord("U"))
        return _call(context, builder, "numba_xxpotrf", a.dtype, triangle, n, matrix, _ld(builder, n))

    return types.int32(a, types.intp, types.intp), generate


@intrinsic
def getrf(_typing: Any, a: Any, at: Any, n: Any) -> Any:
    """LU of a square matrix, in place; the pivots' integers stand behind it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, at, n = args
        matrix = _pointer(context, builder, a, array, at)
        pivots = builder.gep(matrix, [builder.mul(n, n)])
        return _call(context, builder, "numba_xxgetrf", a.dtype, n, n, matrix, _ld(builder, n), pivots)

    return types.int32(a, types.intp, types.intp), generate


@intrinsic
def pivot(_typing: Any, a: Any, at: Any, i: Any) -> Any:
    """The i-th of the integers that `getrf` left at a place, counted from 0."""
    if F_INT_nbtype.bitwidth > a.dtype.bitwidth:
        raise errors.TypingError(f"lu: {a.dtype} has no room for the {F_INT_nbtype} pivots of this LAPACK")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = context.get_value_type(F_INT_nbtype)
        pivots = builder.bitcast(_pointer(context, builder, a, *args[:2]), integer.as_pointer())
        pivot = builder.load(builder.gep(pivots, [args[2]]), align=integer.width // 8)
        return builder.sub(builder.sext(pivot, _INTP) if integer.width < _INTP.width else pivot, _INTP(1))

    return types.intp(a, types.intp, types.intp), generate


@intrinsic
def trsm(
    _typing: Any, a: Any, a_at: Any, x: Any, x_at: Any, n: Any, columns: Any, lower: Any, transpose: Any, unit: Any
) -> Any:
    """Solve a x = b (or aᵀ x = b) in place, for a row-major triangle: columns first, x' a' = b'."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ensure_lapack()
        n, columns, *flags = args[4:]
        matrix, solution = _pointer(context, builder, a, *args[:2]), _pointer(context, builder, x, *args[2:4])
        letters = [
            builder.select(flag, _CHAR(ord(yes)), _CHAR(ord(no)))
            for flag, (yes, no) in zip(flags, (("U", "L"), ("T", "N"), ("U", "N")), strict=True)
        ]
        integer = context.get_value_type(F_INT_nbtype)
        sizes = [builder.trunc(size, integer) if integer.width < _INTP.width else size for size in (columns, n)]
        one = cgutils.alloca_once_value(builder, context.get_constant(a.dtype, 1))
        slots = [cgutils.alloca_once_value(builder, value) for value in (_CHAR(ord("R")), *letters, *sizes)]
        arguments = *slots, one, matrix, slots[5], solution, slots[4]
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        name = f"graphc_{KINDS[a.dtype]}trsm"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
        return context.get_dummy_value()

    numbers = *(a, types.intp, x, types.intp, types.intp, types.intp), *(types.boolean,) * 3
    return types.void(*numbers), generate


@intrinsic
def syevd(_typing: Any, a: Any, a_at: Any, values: Any, values_at: Any, n: Any, vectors: Any) -> Any:
    """Eigenvalues of a lower triangle, and the vectors in its place; not 0 where that fails."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix, found = _pointer(context, builder, a, *args[:2]), _pointer(context, builder, values, *args[2:4])
        n, job = args[4], builder.select(args[5], _CHAR(ord("V")), _CHAR(ord("N")))
        triangle = _CHAR(ord("L"))
        return _call(
            context, builder, "numba_ez_xxxevd", a.dtype, job, triangle, n, matrix, _ld(builder, n), found
        )

    return types.int32(a, types.intp, values, types.intp, types.intp, types.boolean), generate


@intrinsic
def gesdd(
    _typing: Any, a: Any, out: Any, values_at: Any, vectors_at: Any, rows: Any, columns: Any, vectors: Any
) -> Any:
    """Singular values of the matrix at the start of a, which is lost, and the vectors; not 0 where that fails."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, result, values_at, vectors_at, rows, columns, vectors = args
        least = builder.select(builder.icmp_signed("<", rows, columns), rows, columns)
        matrix = _pointer(context, builder, a, array, _INTP(0))
        values, left = (_pointer(context, builder, out, result, at) for at in (values_at, vectors_at))
        right = builder.gep(left, [builder.mul(least, rows)])
        job = builder.select(vectors, _CHAR(ord("S")), _CHAR(ord("N")))
        right = builder.select(vectors, right, left)  # where there are none, no place is read
        return _call(
            context, builder, "numba_ez_gesdd", a.dtype, job, rows, columns, matrix, _ld(builder, rows), values,
            left, _ld(builder, rows), right, _ld(builder, least),
        )  # fmt: skip

    return types.int32(a, out, *(types.intp,) * 4, types.boolean), generate


@intrinsic
def geqrf(_typing: Any, a: Any, at: Any, work: Any, rows: Any, columns: Any) -> Any:
    """Reflectors and R in the place of a matrix; the reflectors' factors at the start of `work`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix, factors = _pointer(context, builder, a, *args[:2]), _pointer(context, builder, work, args[2], _INTP(0))
        rows, columns = args[3:]
        return _call(
            context, builder, "numba_ez_geqrf", a.dtype, rows, columns, matrix, _ld(builder, rows), factors
        )

    return types.int32(a, types.intp, work, types.intp, types.intp), generate


@intrinsic
def orgqr(_typing: Any, a: Any, at: Any, work: Any, rows: Any, columns: Any) -> Any:
    """Q in the place of the reflectors that `geqrf` left."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix, factors = _pointer(context, builder, a, *args[:2]), _pointer(context, builder, work, args[2], _INTP(0))
        rows, columns = args[3:]
        return _call(
            context, builder, "numba_ez_xxgqr", a.dtype, rows, columns, columns, matrix, _ld(builder, rows), factors
        )

    return types.int32(a, types.intp, work, types.intp, types.intp), generate


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """The address of an element of a flat array."""
    return builder.gep(make_array(kind)(context, builder, array).data, [at])


def _ld(builder: Any, extent: Any) -> Any:
    """LAPACK wants leading dimensions of at least 1."""
    return builder.select(builder.icmp_signed(">", extent, _INTP(1)), extent, _INTP(1))


def _call(context: Any, builder: Any, name: str, dtype: Any, *arguments: Any) -> Any:
    """Call one of Numba's wrappers; like `np.linalg`, end the process where SciPy has no such routine, or memory."""
    ensure_lapack()
    pointers = [builder.bitcast(value, _POINTER) if value.type.is_pointer else value for value in arguments]
    arguments = _CHAR(ord(KINDS[dtype])), *pointers
    kind = ir.FunctionType(cgutils.int32_t, [value.type for value in arguments])
    status = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
    broken = builder.icmp_signed("<", status, cgutils.int32_t(0))
    check_blas_return(context, builder, builder.select(broken, status, cgutils.int32_t(0)))
    return status
