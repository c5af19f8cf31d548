"""Matrix products for compiled code: the BLAS that SciPy brings, without copies and without `np.dot`'s compile time.

BLAS counts columns first. A row-major matrix is its transpose to BLAS, so out = A B is asked for as out' = B' A', and a
transposed operand costs a flag. Numba registers its wrappers (`numba_xxgemm` and kin) by name in every process and they
find SciPy's BLAS at their first call, so compiled callers can be cached on disk. Types that BLAS lacks get plain loops.
"""

from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.extending import register_jitable
from numba.np.arrayobj import make_array
from numba.np.linalg import check_blas_return, ensure_blas
from numpy.typing import NDArray

from graphc.codegen.intrinsics import contiguous_view, lowers
from graphc.codegen.threads import has_blas_control, in_parts, limits, one_blas_thread
from graphc.ir.costs import PRODUCT, REGION

_KINDS = {types.float32: "s", types.float64: "d"}
_LARGEST_DIM = 2**31 - 1  # SciPy's BLAS takes 32-bit dimensions
_CHAR, _POINTER, _INTP = cgutils.int8_t, cgutils.voidptr_t, cgutils.intp_t


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The LLVM values of a row-major matrix; `stride` elements lie between its rows."""

    data: Any
    rows: Any
    columns: Any
    stride: Any


@dataclass(frozen=True, slots=True)
class _Stack:
    """The first matrix of a stack, and whether others follow it."""

    matrix: _Matrix
    stacked: bool

    def at(self, builder: Any, index: Any) -> _Matrix:
        """The matrix at `index`, or the one there is."""
        if not self.stacked:
            return self.matrix
        start = builder.mul(index, builder.mul(self.matrix.rows, self.matrix.columns))
        return replace(self.matrix, data=builder.gep(self.matrix.data, [start]))


def gemm(
    a: NDArray[Any],
    b: NDArray[Any],
    out: NDArray[Any],
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    parts: int = 1,
) -> None:
    """Matrix product: out = alpha op(a) @ op(b) + beta out, where op transposes the last two axes if asked to.

    All arrays are C-contiguous and of one dtype, and `out` overlaps neither operand. That the shapes agree is the
    caller's promise: compiled code does not check it.

    Parameters
    ----------
    a, b
        Matrices, or stacks of them with the leading axes of `out`; one matrix serves a whole stack.
    out
        The result, (..., m, n). With beta = 0 it is only written: NaN in it does not matter.
    transpose_a, transpose_b
        Whether the product reads the operand transposed; nothing is copied.
    alpha, beta
        Factors, converted to the arrays' dtype.
    parts
        On how many threads: each computes some of the matrices of a stack, or of a single one some rows (columns, if
        there are more), while BLAS itself keeps to one thread. With 1, where the product is small, or the stack has
        fewer matrices, BLAS does as it likes. The caller must not hold Python's lock (`nogil`): Numba's wrappers take
        it in the thread that first needs BLAS, to find it.

    Raises
    ------
    OverflowError
        In compiled code, where m, n or k is 2**31 or more.
    """
    left = a.swapaxes(-1, -2) if transpose_a else a
    right = b.swapaxes(-1, -2) if transpose_b else b
    _blend(left @ right, out, alpha, beta)


def gemv(
    a: NDArray[Any],
    x: NDArray[Any],
    out: NDArray[Any],
    transpose_a: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> None:
    """Matrix-vector product: out = alpha op(a) @ x + beta out, on the terms of `gemm`; x @ a is op(a) @ x, transposed.

    Parameters
    ----------
    a, x, out
        A matrix and two vectors.
    transpose_a, alpha, beta
        As for `gemm`.
    """
    _blend((a.T if transpose_a else a) @ x, out, alpha, beta)


def dot(a: NDArray[Any], b: NDArray[Any]) -> Any:
    """Inner product of two vectors of one dtype, a scalar of that dtype.

    Parameters
    ----------
    a, b
        Contiguous vectors of equal length; 0 for empty ones.
    """
    return a @ b


def _blend(product: NDArray[Any], out: NDArray[Any], alpha: float, beta: float) -> None:
    scaled = out.dtype.type(alpha) * product
    out[...] = scaled + out.dtype.type(beta) * out if beta else scaled


@lowers(gemm)
def _gemm(
    _typing: Any, a: Any, b: Any, out: Any, transpose_a: Any = False, transpose_b: Any = False, alpha: Any = 1.0,
    beta: Any = 0.0, parts: Any = 1,
) -> Any:  # fmt: skip
    _check("gemm", a, b, out)
    if out.ndim < 2 or a.ndim not in (2, out.ndim) or b.ndim not in (2, out.ndim):
        raise errors.TypingError(f"gemm: cannot multiply {a.ndim}-d and {b.ndim}-d arrays into a {out.ndim}-d one")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stacks = [make_array(kind)(context, builder, value) for kind, value in zip((a, b, out), args[:3], strict=True)]
        count = _INTP(1)
        for extent in cgutils.unpack_tuple(builder, stacks[2].shape)[:-2]:
            count = builder.mul(count, extent)
        products = _Products(out.dtype, tuple(_stack(builder, stack) for stack in stacks), count, *args[3:7])
        if out.dtype in _KINDS:
            _check_dims(context, builder, *products.dims(builder))
        if isinstance(parts, int) or out.dtype not in _KINDS:
            products.emit(context, builder, _INTP(0), count)
        else:
            products.emit_in_parts(context, builder, args[7])
        return context.get_dummy_value()

    # Numba keeps one generator for a signature. That of whole products needs no table of threads, which a process that
    # never launched them lacks; so its signature is another one.
    flags_and_factors = types.boolean, types.boolean, types.float64, types.float64
    count = types.int8 if isinstance(parts, int) else types.intp
    return types.void(a, b, out, *flags_and_factors, count), generate


@dataclass(frozen=True, slots=True)
class _Products:
    """The LLVM values of a stack of matrix products."""

    dtype: Any
    operands: tuple[_Stack, ...]
    count: Any
    transpose_a: Any
    transpose_b: Any
    alpha: Any
    beta: Any

    @property
    def options(self) -> tuple[Any, ...]:
        """What `_multiply` takes after the matrices."""
        return self.transpose_a, self.transpose_b, self.alpha, self.beta

    def dims(self, builder: Any) -> tuple[Any, Any, Any]:
        """How many rows and columns the results have, and how many terms are summed."""
        a, _, out = (stack.matrix for stack in self.operands)
        return out.rows, out.columns, builder.select(self.transpose_a, a.rows, a.columns)

    def emit(self, context: Any, builder: Any, first: Any, last: Any) -> None:
        """Multiply the matrices from `first` to `last` (not included)."""
        with cgutils.for_range_slice(builder, first, last, _INTP(1)) as (index, _):
            a, b, out = (stack.at(builder, index) for stack in self.operands)
            _multiply(context, builder, self.dtype, a, b, out, *self.options)

    def emit_part(self, context: Any, builder: Any, part: Any, parts: Any) -> None:
        """Multiply a single matrix, for a part's piece of the rows or columns of the result.

        Each part reads the operand that is not cut as a whole, so it is the larger one that is.
        """
        a, b, out = (stack.matrix for stack in self.operands)
        tall = builder.icmp_signed(">=", out.rows, out.columns)
        zero = _INTP(0)
        row, column = (limits(builder, part, parts, size) for size in (out.rows, out.columns))
        row = tuple(map(builder.select, (tall, tall), row, (zero, out.rows)))
        column = tuple(map(builder.select, (tall, tall), (zero, out.columns), column))
        starts = (
            builder.select(self.transpose_a, row[0], builder.mul(row[0], a.stride)),
            builder.select(self.transpose_b, builder.mul(column[0], b.stride), column[0]),
            builder.add(builder.mul(row[0], out.stride), column[0]),
        )
        a, b, out = (
            replace(each, data=builder.gep(each.data, [start])) for each, start in zip((a, b, out), starts, strict=True)
        )
        out = replace(out, rows=builder.sub(row[1], row[0]), columns=builder.sub(column[1], column[0]))
        _multiply(context, builder, self.dtype, a, b, out, *self.options)

    def emit_in_parts(self, context: Any, builder: Any, parts: Any) -> None:
        """Multiply on threads where it pays."""
        a, b, out = (stack.matrix for stack in self.operands)
        work = _INTP(PRODUCT)
        for extent in (self.count, *self.dims(builder)):
            work = builder.mul(work, extent)
        stacked = self.operands[2].stacked
        matrices = [value for each in (a, b, out) for value in (each.data, each.rows, each.columns)]
        values = [*matrices, self.count, parts, *self.options]

        def run_part(inside: Any, part: Any, given: list[Any]) -> None:
            matrices = [_Matrix(given[k], given[k + 1], given[k + 2], given[k + 2]) for k in (0, 3, 6)]
            stacks = tuple(
                _Stack(matrix, each.stacked) for matrix, each in zip(matrices, self.operands, strict=True)
            )
            products = _Products(self.dtype, stacks, given[9], *given[11:])
            if stacked:
                products.emit(context, inside, *limits(inside, part, given[10], given[9]))
            else:
                products.emit_part(context, inside, part, given[10])

        pays = builder.and_(builder.icmp_signed(">=", work, _INTP(REGION)), has_blas_control(builder))
        if stacked:
            pays = builder.and_(pays, builder.icmp_signed(">=", self.count, parts))
        with builder.if_else(pays) as (threads, whole):
            with threads:
                in_parts(builder, parts, cgutils.true_bit, values, run_part, one_blas_thread)
            with whole:
                self.emit(context, builder, _INTP(0), self.count)


@lowers(gemv)
def _gemv(_typing: Any, a: Any, x: Any, out: Any, transpose_a: Any = False, alpha: Any = 1.0, beta: Any = 0.0) -> Any:
    _check("gemv", a, x, out)
    if (a.ndim, x.ndim, out.ndim) != (2, 1, 1):
        raise errors.TypingError(f"gemv: cannot multiply {a.ndim}-d and {x.ndim}-d arrays into a {out.ndim}-d one")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        transpose, alpha, beta = args[3:]
        matrix = _stack(builder, make_array(a)(context, builder, args[0])).matrix
        vector = _column(builder, make_array(x)(context, builder, args[1]))
        result = _column(builder, make_array(out)(context, builder, args[2]))
        as_matrices = matrix, vector, result, transpose, cgutils.false_bit, alpha, beta
        if out.dtype not in _KINDS:
            _multiply(context, builder, out.dtype, *as_matrices)
            return context.get_dummy_value()
        # With nothing to sum BLAS's gemv leaves `out` as it is; its gemm writes beta out.
        with builder.if_else(builder.icmp_signed("==", vector.rows, _INTP(0))) as (empty, full):
            with empty:
                _multiply(context, builder, out.dtype, *as_matrices)
            with full:
                _check_dims(context, builder, matrix.rows, matrix.columns)
                flag = builder.select(transpose, _CHAR(ord("n")), _CHAR(ord("t")))  # columns first: the other way round
                alpha, beta = (_slot(context, builder, value, out.dtype) for value in (alpha, beta))
                shape = matrix.columns, matrix.rows
                stride = _at_least_one(builder, matrix.columns)
                _call(context, builder, "numba_xxgemv", out.dtype, flag, *shape, alpha, matrix.data,
                      stride, vector.data, beta, result.data)  # fmt: skip
        return context.get_dummy_value()

    return types.void(a, x, out, types.boolean, types.float64, types.float64), generate


@lowers(dot)
def _dot(_typing: Any, a: Any, b: Any) -> Any:
    _check("dot", a, b, b)
    if (a.ndim, b.ndim) != (1, 1):
        raise errors.TypingError(f"dot: cannot multiply {a.ndim}-d and {b.ndim}-d arrays into a scalar")
    dtype = a.dtype

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = _column(builder, make_array(a)(context, builder, args[0]))
        right = _column(builder, make_array(b)(context, builder, args[1]))
        result = _Matrix(cgutils.alloca_once(builder, context.get_data_type(dtype)), _INTP(1), _INTP(1), _INTP(1))
        if dtype in _KINDS:
            _check_dims(context, builder, left.rows)
            conjugate = _CHAR(0)
            _call(context, builder, "numba_xxdot", dtype, conjugate, left.rows, left.data, right.data, result.data)
        else:
            flags = cgutils.true_bit, cgutils.false_bit
            one, zero = (context.get_constant(types.float64, value) for value in (1.0, 0.0))
            _multiply(context, builder, dtype, left, right, result, *flags, one, zero)
        return context.unpack_value(builder, dtype, result.data)

    return dtype(a, b), generate


def _check(name: str, *arrays: Any) -> None:
    """Refuse operands whose bytes the product would misread."""
    contiguous = all(isinstance(array, types.Array) and array.layout == "C" for array in arrays)
    if not contiguous or len({array.dtype for array in arrays}) > 1:
        listed = ", ".join(str(array) for array in arrays)
        raise errors.TypingError(f"{name} wants C-contiguous arrays of one dtype, not {listed}")


def _stack(builder: Any, array: Any) -> _Stack:
    """Return the stack that an array is; a matrix is the only one of its stack."""
    *stacked, rows, columns = cgutils.unpack_tuple(builder, array.shape)
    return _Stack(_Matrix(array.data, rows, columns, columns), bool(stacked))


def _column(builder: Any, vector: Any) -> _Matrix:
    """Return the vector as a matrix of one column."""
    (rows,) = cgutils.unpack_tuple(builder, vector.shape)
    return _Matrix(vector.data, rows, _INTP(1), _INTP(1))


def _multiply(
    context: Any, builder: Any, dtype: Any, a: _Matrix, b: _Matrix, out: _Matrix, transpose_a: Any, transpose_b: Any,
    alpha: Any, beta: Any,
) -> None:  # fmt: skip
    """Emit one matrix product, by BLAS where it has the dtype."""
    if dtype not in _KINDS:
        matrix = types.Array(dtype, 2, "C")
        views = [contiguous_view(context, builder, matrix, m.data, [m.rows, m.columns]) for m in (a, b, out)]
        factors = [context.cast(builder, value, types.float64, dtype) for value in (alpha, beta)]
        signature = types.void(*[matrix] * 3, types.boolean, types.boolean, dtype, dtype)
        context.compile_internal(builder, _multiply_loops, signature, (*views, transpose_a, transpose_b, *factors))
        return
    inner = builder.select(transpose_a, a.rows, a.columns)
    flag_a, flag_b = (builder.select(flag, _CHAR(ord("t")), _CHAR(ord("n"))) for flag in (transpose_a, transpose_b))
    alpha, beta = (_slot(context, builder, value, dtype) for value in (alpha, beta))
    row_a, row_b, row_out = (_at_least_one(builder, matrix.stride) for matrix in (a, b, out))
    shape = out.columns, out.rows, inner
    _call(context, builder, "numba_xxgemm", dtype, flag_b, flag_a, *shape, alpha, b.data, row_b, a.data, row_a,
          beta, out.data, row_out)  # fmt: skip


@register_jitable
def _multiply_loops(
    a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], transpose_a: bool, transpose_b: bool, alpha: Any, beta: Any
) -> None:
    inner = a.shape[0] if transpose_a else a.shape[1]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = beta * out[i, j]
        for p in range(inner):
            factor = alpha * (a[p, i] if transpose_a else a[i, p])
            for j in range(out.shape[1]):
                out[i, j] += factor * (b[j, p] if transpose_b else b[p, j])


def _call(context: Any, builder: Any, name: str, dtype: Any, *arguments: Any) -> None:
    """Call one of Numba's wrappers; like `np.dot`, end the process where SciPy has no such routine."""
    ensure_blas()
    pointers = [builder.bitcast(value, _POINTER) if value.type.is_pointer else value for value in arguments]
    arguments = _CHAR(ord(_KINDS[dtype])), *pointers
    function_type = ir.FunctionType(cgutils.int32_t, [value.type for value in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    check_blas_return(context, builder, builder.call(function, arguments))


def _check_dims(context: Any, builder: Any, *dims: Any) -> None:
    for dim in dims:
        with builder.if_then(builder.icmp_signed(">", dim, _INTP(_LARGEST_DIM)), likely=False):
            message = "a matrix product has a dimension of 2**31 or more, which SciPy's BLAS cannot count"
            context.call_conv.return_user_exc(builder, OverflowError, (message,))


def _slot(context: Any, builder: Any, value: Any, dtype: Any) -> Any:
    """Return the address of a float64 `value` converted to `dtype`."""
    return cgutils.alloca_once_value(builder, context.cast(builder, value, types.float64, dtype))


def _at_least_one(builder: Any, extent: Any) -> Any:
    """The BLAS standard wants leading dimensions of at least 1, also of empty matrices (OpenBLAS lets it pass)."""
    return builder.select(builder.icmp_signed(">", extent, _INTP(1)), extent, _INTP(1))
