"""One definition of an elementary function for both its readers: NumPy scalars, and LLVM through Numba.

A body is plain Python over numbers of one float type. On NumPy scalars (or arrays) it computes; on `Value`s it emits
the same steps into the calling function. Measured on `exp`: Numba needs 125 ms to compile such a body from Python
and 5 ms to take it in this way, and both give the same machine loop. The bodies do not branch, so loops over them
vectorise; none relies on fused multiply-add or is hurt by one (`fastmath={"contract"}`), but no other fast-math flag
is allowed. The types are weak as NumPy's are: a Python number takes the type of what it meets.

For CUDA the same bodies are lowered: NVIDIA's compiler takes LLVM's instructions, but few of its intrinsics, for which
its own library (libdevice) has functions.

A loop over them computes more than it loads, so it asks for vectors of 512 bits; left to itself LLVM prefers 256 on
most processors that have both (exp, log, sin and divisions: 15 to 30 percent slower).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable

from graphc.codegen.intrinsics import attribute

# A NumPy scalar, an array, or a Value: what a body works on.
Number: TypeAlias = Any


@dataclass(frozen=True)
class Format:
    """The layout of an IEEE 754 binary format.

    `rounder` is 1.5 * 2**mantissa: adding it rounds to an integer, which then stands in the low bits of the sum.
    """

    float_type: np.dtype[Any]
    int_type: np.dtype[Any]
    mantissa: int
    bias: int

    @property
    def sign_bit(self) -> int:
        return 8 * self.float_type.itemsize - 1

    @property
    def rounder(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def rounder_bits(self) -> int:
        return (self.mantissa + self.bias << self.mantissa) + (1 << self.mantissa - 1)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def smallest_subnormal(self) -> float:
        return 2.0 ** (1 - self.bias - self.mantissa)


SINGLE = Format(np.dtype(np.float32), np.dtype(np.int32), 23, 127)
DOUBLE = Format(np.dtype(np.float64), np.dtype(np.int64), 52, 1023)
_BOOL = np.dtype(np.bool_)
_FORMATS = {dtype: form for form in (SINGLE, DOUBLE) for dtype in (form.float_type, form.int_type)}
_LLVM_TYPES = {
    _BOOL: ir.IntType(1),
    **{np.dtype(f"{sign}int{width}"): ir.IntType(width) for sign in ("", "u") for width in (8, 16, 32, 64)},
    SINGLE.float_type: ir.FloatType(),
    DOUBLE.float_type: ir.DoubleType(),
}

_NUMBA_TYPES = {"bool": types.boolean, "uint8": types.uint8}


class Value:
    """An LLVM value with NumPy's operators; each use emits one instruction."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, dtype: np.dtype[Any], operand: ir.Value) -> None:
        self.builder, self.dtype, self.operand = builder, dtype, operand

    def lift(self, other: "Value | float") -> ir.Value:
        """LLVM's operand for `other`, where a Python number takes this value's type."""
        return other.operand if isinstance(other, Value) else ir.Constant(_LLVM_TYPES[self.dtype], other)

    def _emit(self, for_float: str, for_int: str, left: "Value | float", right: "Value | float") -> "Value":
        emit = getattr(self.builder, for_float if self.dtype.kind == "f" else for_int)
        return Value(self.builder, self.dtype, emit(self.lift(left), self.lift(right)))

    def _compare(self, sign: str, other: "Value | float") -> "Value":
        # As in IEEE 754 every comparison with a NaN is false, but `!=` true.
        compare = self.builder.icmp_signed if self.dtype.kind == "i" else self.builder.icmp_unsigned
        if self.dtype.kind == "f":
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return Value(self.builder, _BOOL, compare(sign, self.operand, self.lift(other)))

    def __add__(self, other: "Value | float") -> "Value":
        return self._emit("fadd", "add", self, other)

    def __radd__(self, other: float) -> "Value":
        return self._emit("fadd", "add", other, self)

    def __sub__(self, other: "Value | float") -> "Value":
        return self._emit("fsub", "sub", self, other)

    def __rsub__(self, other: float) -> "Value":
        return self._emit("fsub", "sub", other, self)

    def __mul__(self, other: "Value | float") -> "Value":
        return self._emit("fmul", "mul", self, other)

    def __rmul__(self, other: float) -> "Value":
        return self._emit("fmul", "mul", other, self)

    def __truediv__(self, other: "Value | float") -> "Value":
        return self._emit("fdiv", "", self, other)

    def __rtruediv__(self, other: float) -> "Value":
        return self._emit("fdiv", "", other, self)

    def __and__(self, other: "Value | int") -> "Value":
        return self._emit("", "and_", self, other)

    def __or__(self, other: "Value | int") -> "Value":
        return self._emit("", "or_", self, other)

    def __xor__(self, other: "Value | int") -> "Value":
        return self._emit("", "xor", self, other)

    def __lshift__(self, other: "Value | int") -> "Value":
        return self._emit("", "shl", self, other)

    def __rshift__(self, other: "Value | int") -> "Value":
        return self._emit("", "ashr" if self.dtype.kind == "i" else "lshr", self, other)

    def __neg__(self) -> "Value":
        if on_device(self.builder):  # whose compiler reads an older LLVM's language, without fneg
            return self._emit("fsub", "", -0.0, self)
        return Value(self.builder, self.dtype, self.builder.fneg(self.operand))

    def divided(self, other: "Value") -> "tuple[Value, Value]":
        """See `divided`."""
        if self.dtype.kind == "f" and on_device(self.builder):
            rest = call_library(self.builder, "fmod", self.operand, other.operand)
            return self / other, Value(self.builder, self.dtype, rest)
        divide, rest = {"f": ("fdiv", "frem"), "i": ("sdiv", "srem"), "u": ("udiv", "urem")}[self.dtype.kind]
        return self._emit(divide, divide, self, other), self._emit(rest, rest, self, other)

    def __lt__(self, other: "Value | float") -> "Value":
        return self._compare("<", other)

    def __le__(self, other: "Value | float") -> "Value":
        return self._compare("<=", other)

    def __gt__(self, other: "Value | float") -> "Value":
        return self._compare(">", other)

    def __ge__(self, other: "Value | float") -> "Value":
        return self._compare(">=", other)

    def __eq__(self, other: object) -> "Value":  # type: ignore[override]
        return self._compare("==", other)  # type: ignore[arg-type]

    def __ne__(self, other: object) -> "Value":  # type: ignore[override]
        return self._compare("!=", other)  # type: ignore[arg-type]


def vectorizable(body: Callable[..., Number]) -> Callable[..., Number]:
    """Make a function that computes on NumPy scalars and arrays, and that Numba takes into the code that calls it.

    Arguments are all float32 or all float64, and so is the result.
    """
    return vectorizable_on("f")(body)


def vectorizable_on(kinds: str, result: str | None = None) -> Callable[..., Callable[..., Number]]:
    """Make a decorator as `vectorizable` for arguments of one dtype of some kinds (NumPy's letters i, u and f).

    The result has their dtype, or is of dtype `result`.
    """

    def decorate(body: Callable[..., Number]) -> Callable[..., Number]:
        @wraps(body)
        def function(*args: Number) -> Number:
            with np.errstate(all="ignore"):  # the integer steps overflow on purpose
                return body(*(arg if hasattr(arg, "dtype") else np.asarray(arg)[()] for arg in args))

        @type_callable(function)
        def type_of_call(context: Any) -> Callable[..., Any]:
            @wraps(body)  # for Numba reads the parameters off the signature
            def typed(*args: Any) -> Any:
                same = len(set(args)) == 1 and isinstance(args[0], types.Float | types.Integer)
                if not same or isinstance(args[0], types.Literal) or np.dtype(args[0].name).kind not in kinds:
                    return None
                return args[0] if result is None else _NUMBA_TYPES[result]

            return typed

        def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: tuple[ir.Value, ...]) -> ir.Value:
            dtype = np.dtype(signature.args[0].name)
            if not on_device(builder):
                _use_widest_vectors(builder.function)
            return body(*(Value(builder, dtype, arg) for arg in args)).operand

        for kind in (types.Float, types.Integer):
            lower_builtin(function, *[kind] * body.__code__.co_argcount)(lower)
        return function

    return decorate


def in_double(body: Callable[..., Number], *args: Number) -> Number:
    """``body(form, *args)`` computed in float64, with the digits that the format of the arguments wants."""
    form = format_of(args[0])
    return body(form, *args) if form is DOUBLE else to_single(body(form, *map(to_double, args)))


def format_of(x: Number) -> Format:
    """The format of a float, or the one that an integer holds the bits of."""
    return _FORMATS[x.dtype]


def bits(x: Number) -> Number:
    """The bits of a float as a signed integer."""
    dtype = format_of(x).int_type
    return _cast(x, "bitcast", dtype) if isinstance(x, Value) else x.view(dtype)


def from_bits(i: Number) -> Number:
    """The float of which `i` holds the bits."""
    dtype = format_of(i).float_type
    return _cast(i, "bitcast", dtype) if isinstance(i, Value) else i.view(dtype)


def to_float(i: Number) -> Number:
    """The integer `i` as a float, exact for |i| < 2**(mantissa - 1); unlike conversions vectorised everywhere."""
    form = format_of(i)
    return from_bits(i + form.rounder_bits) - form.rounder


def to_double(x: Number) -> Number:
    """x as float64."""
    return _cast(x, "fpext", DOUBLE.float_type) if isinstance(x, Value) else x.astype(DOUBLE.float_type)


def to_single(x: Number) -> Number:
    """The float32 nearest to x."""
    return _cast(x, "fptrunc", SINGLE.float_type) if isinstance(x, Value) else x.astype(SINGLE.float_type)


def low_bits(i: Number) -> Number:
    """The lower half of the bits of an int64."""
    return _cast(i, "trunc", SINGLE.int_type) if isinstance(i, Value) else i.astype(SINGLE.int_type)


def where(condition: Number, yes: Number, no: Number) -> Number:
    """`yes` where the condition holds, else `no`; both are evaluated."""
    if not isinstance(condition, Value):
        chosen: Number = np.where(condition, yes, no)
        return chosen[()]
    typed = yes if isinstance(yes, Value) else no
    choice = condition.builder.select(condition.operand, typed.lift(yes), typed.lift(no))
    return Value(condition.builder, typed.dtype, choice)


def full_like(x: Number, number: float) -> Number:
    """A number in the type of x."""
    return Value(x.builder, x.dtype, x.lift(number)) if isinstance(x, Value) else np.full_like(x, number)[()]


def intrinsic(name: str, plain: Callable[..., Number], *args: Number) -> Number:
    """LLVM's intrinsic `llvm.<name>`, which NumPy calls `plain`."""
    x = args[0]
    if not isinstance(x, Value):
        return plain(*args)
    if on_device(x.builder) and name != "ctpop":
        if name in ("maximum", "minimum"):
            y = args[1]
            return where((x >= y if name == "maximum" else x <= y) | (x != x), x, y)
        return Value(x.builder, x.dtype, call_library(x.builder, name, *(arg.operand for arg in args)))
    typed = _LLVM_TYPES[x.dtype]
    signature = ir.FunctionType(typed, [typed] * len(args))
    callee = x.builder.module.declare_intrinsic(f"llvm.{name}", [typed], signature)
    return Value(x.builder, x.dtype, x.builder.call(callee, [arg.operand for arg in args]))


def on_device(builder: ir.IRBuilder) -> bool:
    """Whether code is generated for NVIDIA's compiler."""
    return str(builder.module.triple).startswith("nvptx")


def call_library(builder: ir.IRBuilder, name: str, *operands: ir.Value) -> ir.Value:
    """A call of the C library's function of this name, on a device of NVIDIA's (libdevice), for floats of one type."""
    typed, module = operands[0].type, builder.module
    symbol = f"{'__nv_' if on_device(builder) else ''}{name}{'f' if typed == _LLVM_TYPES[SINGLE.float_type] else ''}"
    callee = module.globals.get(symbol)
    if callee is None:
        callee = ir.Function(module, ir.FunctionType(typed, [typed] * len(operands)), symbol)
    return builder.call(callee, operands)


def ones_in(i: Number) -> Number:
    """The number of bits of an integer that are 1, as uint8."""
    if not isinstance(i, Value):
        return np.bitwise_count(i.view(np.dtype(f"uint{8 * i.dtype.itemsize}")))
    count = intrinsic("ctpop", np.bitwise_count, i)
    byte = np.dtype(np.uint8)
    return Value(i.builder, byte, count.operand) if i.dtype.itemsize == 1 else _cast(count, "trunc", byte)


def absolute(x: Number) -> Number:
    """|x|, by clearing the sign bit."""
    return intrinsic("fabs", np.abs, x)


def copy_sign(magnitude: Number, sign: Number) -> Number:
    """|magnitude| with the sign of `sign`."""
    return intrinsic("copysign", np.copysign, magnitude, sign)


def round_down(x: Number) -> Number:
    """The largest integer not above x."""
    return intrinsic("floor", np.floor, x)


def divided(x: Number, y: Number) -> tuple[Number, Number]:
    """x / y and the remainder, exact, both rounded towards zero; the quotient of floats is not rounded."""
    if isinstance(x, Value):
        return x.divided(y)
    rest = np.fmod(x, y)
    return (x - rest) // y if rest.dtype.kind != "f" else x / y, rest


def add_in_any_order(x: Number, y: Number) -> Number:
    """x + y that LLVM may regroup with its like."""
    return _regroupable("fadd", x, y) if isinstance(x, Value) else x + y


def multiply_in_any_order(x: Number, y: Number) -> Number:
    """x * y that LLVM may regroup with its like."""
    return _regroupable("fmul", x, y) if isinstance(x, Value) else x * y


def polynomial(x: Number, coefficients: tuple[float, ...]) -> Number:
    """A polynomial, the constant coefficient first; a long one in two halves that do not wait for each other."""
    if len(coefficients) < 6:
        return _horner(x, coefficients)
    square = x * x
    return _horner(square, coefficients[::2]) + x * _horner(square, coefficients[1::2])


def _horner(x: Number, coefficients: tuple[float, ...]) -> Number:
    total = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        total = total * x + coefficient
    return total


def _use_widest_vectors(function: ir.Function) -> None:
    """See above; what such a loop spills must not cross cache lines, and LLVM finds out too late to align it itself."""
    attribute(function, "prefer-vector-width", "512")
    function.attributes.alignstack = 64


def llvm_type(dtype: np.dtype[Any]) -> ir.Type:
    """LLVM's type for a dtype that a `Value` may have."""
    return _LLVM_TYPES[dtype]


def _cast(x: Value, how: str, dtype: np.dtype[Any]) -> Value:
    return Value(x.builder, dtype, getattr(x.builder, how)(x.operand, _LLVM_TYPES[dtype]))


def _regroupable(how: str, x: Value, y: Value) -> Value:
    flags = ("reassoc", "contract")
    return Value(x.builder, x.dtype, getattr(x.builder, how)(x.operand, y.operand, flags=flags))
