"""Factorisations for compiled code: the LAPACK that SciPy brings, on whole stacks, in memory that the caller lends.

LAPACK counts columns first: a row-major matrix is its transpose to it. Cholesky's factor, LU and triangular systems are
asked for in that transpose, by flags; for eigenvalues, singular values and QR the matrix is turned while it is copied,
so that the library is asked what NumPy and SciPy ask it, and signs of vectors are theirs. `graphc.codegen.lapack_calls`
says how it is found. Each matrix of a stack is factorised by itself, one after the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import cgutils, errors, types
from numba.extending import register_jitable
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from graphc.codegen.intrinsics import contiguous_view, lowers
from graphc.codegen.lapack_calls import KINDS, geqrf, gesdd, getrf, orgqr, pivot, potrf, syevd, trsm
from graphc.ir.factorizations import ROUTINES

_LARGEST_DIM = 2**31 - 1  # SciPy's LAPACK takes 32-bit dimensions
_INTP = cgutils.intp_t

Array = NDArray[Any]


# what generated code calls --------------------------------------------------------------------------------------------
#
# All arrays are C-contiguous and of one float dtype, and what is written overlaps nothing else. That shapes agree is
# the caller's promise. `work` is memory for one matrix, whose content does not matter before and after.


def cholesky(a: Array, out: Array) -> None:
    """Lower triangular L with a = L Lᵀ, of the lower triangle of a; NaN where a is not positive definite."""
    out[...] = ROUTINES["cholesky"].reference(a)


def triangular_solve(
    a: Array, b: Array, out: Array, lower: bool = False, transpose: bool = False, unit_diagonal: bool = False
) -> None:
    """The solution of a x = b (or aᵀ x = b) for a triangular a; NaN where its diagonal has a zero."""
    out[...] = ROUTINES["triangular_solve"].reference(a, b, lower, transpose, unit_diagonal)


def lu(a: Array, out: Array) -> None:
    """The factors of aᵀ, one on top of the other, and below them a row of pivots."""
    out[...] = ROUTINES["lu"].reference(a)


def lu_solve(factors: Array, b: Array, out: Array, transpose: bool = False) -> None:
    """The solution of a x = b (or aᵀ x = b) by `lu` of a; NaN where a pivot is zero."""
    out[...] = ROUTINES["lu_solve"].reference(factors, b, transpose)


def log_abs_det(factors: Array, out: Array) -> None:
    """The logarithm of the magnitude of a determinant, by `lu`."""
    out[...] = ROUTINES["log_abs_det"].reference(factors)


def det_sign(factors: Array, out: Array) -> None:
    """The sign of a determinant, by `lu`."""
    out[...] = ROUTINES["det_sign"].reference(factors)


def eigh(a: Array, out: Array) -> None:
    """Eigenvalues, then the eigenvectors, each a row, of the lower triangle of a."""
    out[...] = ROUTINES["eigh"].reference(a)


def eigvalsh(a: Array, work: Array, out: Array) -> None:
    """Eigenvalues of the lower triangle of a."""
    out[...] = ROUTINES["eigvalsh"].reference(a)


def svd(a: Array, work: Array, out: Array) -> None:
    """Singular values, then the left vectors, each a row, then the right ones, each a column."""
    out[...] = ROUTINES["svd"].reference(a)


def svdvals(a: Array, work: Array, out: Array) -> None:
    """Singular values."""
    out[...] = ROUTINES["svdvals"].reference(a)


def qr(a: Array, work: Array, out: Array) -> None:
    """Of a with at least as many rows as columns: Q, each column a row, then R."""
    out[...] = ROUTINES["qr"].reference(a)


# how it is compiled: loops over flat arrays ---------------------------------------------------------------------------
#
# `count` matrices, of the `rows` and `columns` of the last operand that is read.


@register_jitable
def _cholesky(a: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for start in range(0, count * rows * columns, max(rows * columns, 1)):
        for i in range(rows):
            for j in range(rows):
                out[start + i * rows + j] = a[start + i * rows + j] if j <= i else 0
        failed = potrf(out, start, rows) != 0
        for i in range(rows):
            failed |= np.isnan(out[start + i * rows + i])
        if failed:
            for i in range(rows):
                for j in range(i + 1):
                    out[start + i * rows + j] = np.nan


@register_jitable
def _triangular_solve(
    a: Array, b: Array, out: Array, count: int, rows: int, columns: int, lower: bool, transpose: bool, unit: bool
) -> None:
    for k in range(count):
        matrix, start, size = k * rows * rows, k * rows * columns, rows * columns
        singular = False
        if not unit:
            for i in range(rows):
                singular |= a[matrix + i * rows + i] == 0
        for i in range(start, start + size):
            out[i] = np.nan if singular else b[i]
        if size > 0 and not singular:
            trsm(a, matrix, out, start, rows, columns, lower, transpose, unit)


@register_jitable
def _lu(a: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for k in range(count):
        source, start, size = k * rows * rows, k * (rows + 1) * rows, rows * rows
        for i in range(size):
            out[start + i] = a[source + i]
        if size > 0:
            getrf(out, start, rows)
            for i in range(rows - 1, -1, -1):  # the integers are the narrower ones: the last is moved first
                out[start + size + i] = pivot(out, start + size, i)


@register_jitable
def _lu_solve(
    factors: Array, b: Array, out: Array, count: int, rows: int, columns: int, transpose: bool
) -> None:
    for k in range(count):
        matrix, start, size = k * (rows + 1) * rows, k * rows * columns, rows * columns
        singular = False
        for i in range(rows):
            singular |= factors[matrix + i * rows + i] == 0
        for i in range(start, start + size):
            out[i] = np.nan if singular else b[i]
        if size > 0 and not singular:
            # To LAPACK the matrix is aᵀ = P L U, and the solution x' with x' P L U = b', or with x' Uᵀ Lᵀ Pᵀ = b'.
            if transpose:
                for i in range(rows):
                    _swap_rows(out, start, columns, i, int(factors[matrix + rows * rows + i]))
                trsm(factors, matrix, out, start, rows, columns, False, True, True)
                trsm(factors, matrix, out, start, rows, columns, True, True, False)
            else:
                trsm(factors, matrix, out, start, rows, columns, True, False, False)
                trsm(factors, matrix, out, start, rows, columns, False, False, True)
                for i in range(rows - 1, -1, -1):
                    _swap_rows(out, start, columns, i, int(factors[matrix + rows * rows + i]))


@register_jitable
def _swap_rows(x: Array, start: int, columns: int, i: int, k: int) -> None:
    if i != k:
        for j in range(columns):
            first, second = start + i * columns + j, start + k * columns + j
            x[first], x[second] = x[second], x[first]


@register_jitable
def _log_abs_det(factors: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for k in range(count):
        total = 0.0
        for i in range(columns):
            total += np.log(np.abs(np.float64(factors[k * rows * columns + i * columns + i])))
        out[k] = total


@register_jitable
def _det_sign(factors: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for k in range(count):
        start, sign = k * rows * columns, 1
        for i in range(columns):
            element = factors[start + i * columns + i]
            if (element < 0) != (factors[start + columns * columns + i] != i):
                sign = -sign
            if element == 0:
                sign = 0
        out[k] = sign


@register_jitable
def _eigh(a: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for k in range(count):
        matrix, start = k * rows * rows, k * rows * (rows + 1)
        failed = not _turn_triangle(a, matrix, out, start + rows, rows)
        if rows > 0 and (failed or syevd(out, start + rows, out, start, rows, True) != 0):
            for i in range(start, start + rows * (rows + 1)):
                out[i] = np.nan


@register_jitable
def _eigvalsh(a: Array, work: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for k in range(count):
        failed = not _turn_triangle(a, k * rows * rows, work, 0, rows)
        if rows > 0 and (failed or syevd(work, 0, out, k * rows, rows, False) != 0):
            for i in range(k * rows, (k + 1) * rows):
                out[i] = np.nan


@register_jitable
def _svd(a: Array, work: Array, out: Array, count: int, rows: int, columns: int) -> None:
    least = min(rows, columns)
    for k in range(count):
        start, size = k * least * (1 + rows + columns), least * (1 + rows + columns)
        failed = not _turn(a, k * rows * columns, work, 0, rows, columns)
        if least > 0 and (failed or gesdd(work, out, start, start + least, rows, columns, True) != 0):
            for i in range(start, start + size):
                out[i] = np.nan


@register_jitable
def _svdvals(a: Array, work: Array, out: Array, count: int, rows: int, columns: int) -> None:
    least = min(rows, columns)
    for k in range(count):
        failed = not _turn(a, k * rows * columns, work, 0, rows, columns)
        if least > 0 and (failed or gesdd(work, out, k * least, k * least, rows, columns, False) != 0):
            for i in range(k * least, (k + 1) * least):
                out[i] = np.nan


@register_jitable
def _qr(a: Array, work: Array, out: Array, count: int, rows: int, columns: int) -> None:
    for k in range(count):
        start, size = k * columns * (rows + columns), columns * (rows + columns)
        failed = not _turn(a, k * rows * columns, out, start, rows, columns)
        if failed:
            for i in range(start, start + size):
                out[i] = np.nan
        elif columns > 0:
            geqrf(out, start, work, rows, columns)
            triangle = start + columns * rows
            for i in range(columns):
                for j in range(columns):
                    out[triangle + i * columns + j] = out[start + j * rows + i] if i <= j else 0
            orgqr(out, start, work, rows, columns)


@register_jitable
def _turn(a: Array, source: int, out: Array, start: int, rows: int, columns: int) -> bool:
    """Copy a matrix, its columns first; tell whether it is finite."""
    finite = True
    for i in range(rows):
        for j in range(columns):
            element = a[source + i * columns + j]
            finite &= np.isfinite(element)
            out[start + j * rows + i] = element
    return finite


@register_jitable
def _turn_triangle(a: Array, source: int, out: Array, start: int, n: int) -> bool:
    """Copy a lower triangle, its columns first; tell whether it is finite."""
    finite = True
    for i in range(n):
        for j in range(i + 1):
            element = a[source + i * n + j]
            finite &= np.isfinite(element)
            out[start + j * n + i] = element
    return finite


# the two joined -------------------------------------------------------------------------------------------------------


def _compile(function: Callable[..., None], body: Callable[..., None]) -> None:
    """Make `body`, over flat arrays, what a function means in compiled code."""
    name, signature = function.__name__, inspect.signature(function)
    n_arrays = sum(parameter.default is parameter.empty for parameter in signature.parameters.values())
    flags = (types.boolean,) * (len(signature.parameters) - n_arrays)
    sized = ROUTINES[name].operands - 1

    def definition(_typing: Any, *given: Any, **named: Any) -> Any:
        arrays = tuple(signature.bind(*given, **named).arguments.values())[:n_arrays]
        _check(name, arrays)
        flat = [array.copy(ndim=1) for array in arrays]

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            whole = [make_array(kind)(context, builder, value) for kind, value in zip(arrays, args, strict=False)]
            views = [
                contiguous_view(context, builder, kind, array.data, [array.nitems])
                for kind, array in zip(flat, whole, strict=True)
            ]
            *batch, rows, columns = cgutils.unpack_tuple(builder, whole[sized].shape)
            _check_dims(context, builder, rows, columns)
            count = _INTP(1)
            for extent in batch:
                count = builder.mul(count, extent)
            called = types.void(*flat, *(types.intp,) * 3, *flags)
            _call_compiled(context, builder, body, called, (*views, count, rows, columns, *args[n_arrays:]))
            return context.get_dummy_value()

        return types.void(*arrays, *flags), generate

    first = inspect.Parameter("_typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    definition.__signature__ = signature.replace(parameters=(first, *signature.parameters.values()))  # type: ignore[attr-defined]
    lowers(function)(definition)


def _call_compiled(context: Any, builder: Any, body: Callable[..., None], signature: Any, args: Any) -> None:
    """As `compile_internal`, but the body stays a function: one for all calls, which keeps hosts short."""
    compiled = context.compile_subroutine(builder, body, signature)
    function = context.declare_function(builder.module, compiled.fndesc)
    status, _ = context.call_conv.call_function(
        builder, function, signature.return_type, signature.args, args, attrs=("noinline",)
    )
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)


def _check(name: str, arrays: tuple[Any, ...]) -> None:
    """Refuse arrays whose bytes the library would misread."""
    contiguous = all(isinstance(array, types.Array) and array.layout == "C" for array in arrays)
    if not contiguous or len({array.dtype for array in arrays}) > 1 or arrays[0].dtype not in KINDS:
        listed = ", ".join(map(str, arrays))
        raise errors.TypingError(f"{name} wants C-contiguous arrays of one float dtype, not {listed}")
    if arrays[ROUTINES[name].operands - 1].ndim < 2:
        raise errors.TypingError(f"{name} wants matrices, not {arrays[0]}")


def _check_dims(context: Any, builder: Any, *dims: Any) -> None:
    for dim in dims:
        with builder.if_then(builder.icmp_signed(">", dim, _INTP(_LARGEST_DIM)), likely=False):
            message = "a matrix has a dimension of 2**31 or more, which SciPy's LAPACK cannot count"
            context.call_conv.return_user_exc(builder, OverflowError, (message,))


for _function, _body in (
    (cholesky, _cholesky), (triangular_solve, _triangular_solve), (lu, _lu), (lu_solve, _lu_solve),
    (log_abs_det, _log_abs_det), (det_sign, _det_sign), (eigh, _eigh), (eigvalsh, _eigvalsh), (svd, _svd),
    (svdvals, _svdvals), (qr, _qr),
):  # fmt: skip
    _compile(_function, _body)
