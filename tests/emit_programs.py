"""Loop programs written by hand, each with arguments for its host function and what NumPy makes of them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.codegen.cache import load
from graphc.codegen.emit import EmitOptions, emit
from graphc.codegen.host_text import host_name
from graphc.codegen.runtime import arena
from graphc.codegen.training import MinibatchLoop, compiled_loop
from graphc.ir.dims import dim
from graphc.ir.loops import (
    Accumulate,
    Accumulator,
    Affine,
    Arena,
    Buffer,
    Call,
    Comment,
    Const,
    IndexValue,
    Kernel,
    Let,
    Load,
    Loop,
    Program,
    Store,
    axis,
)

N = dim("N")
F32, F64, I64, I32, I8, BOOL = (np.dtype(name) for name in ("f4", "f8", "i8", "i4", "i1", "?"))
AT_I, AT_J, AT_K = axis("i"), axis("j"), axis("k")


@dataclass(frozen=True)
class Case:
    """A program, its arguments, and what it should return and leave in its arguments."""

    program: Program
    arguments: tuple[Any, ...]
    results: tuple[Any, ...]
    options: EmitOptions = field(default_factory=EmitOptions)
    changes: tuple[tuple[int, Any], ...] = ()


def number(value, dtype=F32):
    return Const(dtype.type(value), dtype)


def over_rows(*body, extent=N):
    return (Loop("i", extent, "parallel", body),)


def columns(*body, extent=4, kind="parallel"):
    return Loop("j", extent, kind, body)


def product(a, b, out, transpose_a=False, transpose_b=False, accumulate=False):
    flags = ("transpose_a", transpose_a), ("transpose_b", transpose_b), ("accumulate", accumulate)
    return Call("matmul", (a, b, out), flags)


def layer() -> Case:
    """A matrix product, then bias and tanh in one kernel, twice: the second time by the same function."""
    x = Buffer("x", F32, (N, 3), "input")
    packed = Buffer("params.f32", F32, (3 * 4 + 4,), "param")
    weight = Buffer("hidden.dense.weight", F32, (3, 4), "alias", packed)
    bias = Buffer("hidden.dense.bias", F32, (4,), "alias", packed, 12)
    square = Buffer("out.dense.weight", F32, (4, 4), "param")
    buffers = [Buffer(name, F32, (N, 4), "arena") for name in ("hidden_0", "hidden", "out_0")]
    out = Buffer("out", F32, (N, 4), "output")

    def activation(before, after):
        name = after.name
        body = (
            Load(before.name, before, (AT_I, AT_J)),
            Load(f"{name}.dense.bias", bias, (AT_J,)),
            Let(f"{name}_1", "add", (before.name, f"{name}.dense.bias"), F32),
            Let(name, "tanh", (f"{name}_1",), F32),
            Store(after, (AT_I, AT_J), name),
        )
        return Kernel(name, over_rows(columns(*body)), f"{name} = tanh({name}_1)")

    steps = (
        product(x, weight, buffers[0]),
        activation(buffers[0], buffers[1]),
        product(buffers[1], square, buffers[2], transpose_b=True),
        activation(buffers[2], out),
    )
    offsets = tuple((buffer, 64 * k * N) for k, buffer in enumerate(buffers))
    program = Program("Net.out", ("N",), (x,), (packed, square), (out,), steps, Arena(offsets, 192 * N, 0))
    arguments = array(5, 3), array(16), array(4, 4)
    hidden = np.tanh(arguments[0] @ arguments[1][:12].reshape(3, 4) + arguments[1][12:])
    return Case(program, arguments, (np.tanh(hidden @ arguments[2].T + arguments[1][12:]),))


def softmax() -> Case:
    """One row kernel with row scratch, accumulators and a column reduction, and a mean of 0 dims."""
    x = Buffer("x", F64, (N, 4), "input")
    rate = Buffer("rate", F64, (), "input")
    row = Buffer("weights", F64, (4,), "row")
    y, total, mean = (
        Buffer(name, F64, shape, "output") for name, shape in (("y", (N, 4)), ("lambda", (4,)), ("y.mean", ()))
    )
    body = (
        Comment("y = softmax(x)"),
        Accumulator("y_max", number(-np.inf, F64)),
        columns(Load("x", x, (AT_I, AT_J)), Accumulate("y_max", (), "maximum", "x"), kind="reduce"),
        Accumulator("y_sum", number(0, F64)),
        columns(
            Load("x", x, (AT_I, AT_J)),
            Let("shifted", "subtract", ("x", "y_max"), F64),
            Let("weight", "exp", ("shifted",), F64),
            Store(row, (AT_J,), "weight"),
            Accumulate("y_sum", (), "add", "weight"),
            kind="reduce",
        ),
        columns(
            Load("weight", row, (AT_J,)),
            Let("y", "divide", ("weight", "y_sum"), F64),
            Store(y, (AT_I, AT_J), "y"),
            Comment("the sum of its columns"),
            Accumulate(total, (AT_J,), "add", "y"),
            Accumulate("all", (), "add", "y"),
        ),
    )
    kernel = Kernel(
        "y",
        (
            columns(Store(total, (AT_J,), number(0, F64))),
            Accumulator("all", number(0, F64)),
            *over_rows(*body),
            Load("rate", rate, ()),
            Let("scaled", "multiply", ("rate", "all"), F64),
            Let("mean", "divide", ("scaled", Const(4 * N, F64)), F64),
            Store(mean, (), "mean"),
        ),
        "y, lambda, y.mean",
    )
    program = Program("softmax", ("N",), (x, rate), (), (y, total, mean), (kernel,), Arena(((row, 0),), 32, 32))
    values = array(6, 4).astype(F64)
    values[2, 1] = np.nan
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    expected = weights / weights.sum(axis=1, keepdims=True)
    return Case(program, (values, 2.0), (expected, expected.sum(axis=0), 2 * expected.mean()))


def gather() -> Case:
    """Labels that may count from the end pick entries, which a loss of 0 dims sums; then they are scattered back."""
    logits = Buffer("logits", F32, (N, 3), "input")
    labels = Buffer("labels", I8, (N,), "input")
    loss, back = Buffer("loss", F32, (), "output"), Buffer("back", F32, (N, 3), "output")
    text = "labels: index out of range for an axis of size 3"
    check = Call("check_index", (labels,), (("extent", 3), ("text", text)))
    pick = (Load("label", labels, (AT_I,)), Let("k", "wrap", ("label", number(3, I64)), I8))
    total = Kernel(
        "loss",
        (
            Accumulator("loss", number(0)),
            Loop("i", N, "reduce", (*pick, Load("l", logits, (AT_I, AT_K)), Accumulate("loss", (), "add", "l"))),
            Let("negated", "negative", ("loss",), F32),
            Store(loss, (), "negated"),
        ),
        "loss",
    )
    scatter = Kernel(
        "back",
        (
            *over_rows(columns(Store(back, (AT_I, AT_J), number(0)), extent=3)),
            Loop("i", N, "serial", (*pick, Accumulate(back, (AT_I, AT_K), "add", number(1.5)))),
        ),
        "back",
    )
    program = Program("loss", ("N",), (logits, labels), (), (loss, back), (check, total, scatter))
    values, picks = array(7, 3), np.array([0, -1, 2, 1, -3, 1, 0], I8)
    picked = np.zeros((7, 3), F32)
    picked[np.arange(7), picks] = 1.5
    return Case(program, (values, picks), (-values[np.arange(7), picks].sum(), picked))


def shift() -> Case:
    """Masked loads, an index that runs backwards, `where`, and narrow integers that wrap around."""
    x = Buffer("x", F32, (N,), "input")
    small = Buffer("small", I32, (2 * N + 1,), "input")
    shifted, reverse, wrapped = (
        Buffer(name, dtype, (N,), "output") for name, dtype in (("shifted", F32), ("reverse", F32), ("wrapped", I32))
    )
    body = (
        IndexValue("at", AT_I + (-1), I64),
        Let("inside", "greater_equal", ("at", number(0, I64)), BOOL),
        Load("before", x, (AT_I + (-1),), "inside"),
        Load("x", x, (AT_I,)),
        Let("difference", "subtract", ("x", "before"), F32),
        Store(shifted, (AT_I,), "difference"),
        Load("last", x, (Affine((("i", -1),), N + (-1)),)),
        Let("positive", "greater", ("last", number(0)), BOOL),
        Let("reverse", "where", ("positive", "last", number(0.1)), F32),
        Store(reverse, (AT_I,), "reverse"),
        Load("small", small, (AT_I * 2 + 1,)),
        Let("wrapped", "multiply", ("small", number(2**30 + 1, I32)), I32),
        Store(wrapped, (AT_I,), "wrapped"),
    )
    kernel = Kernel("shift", over_rows(*body))
    program = Program("shift", ("N",), (x, small), (), (shifted, reverse, wrapped), (kernel,))
    values, integers = array(5), np.arange(11, dtype=I32)
    mirrored = values[::-1]
    expected = (
        values - np.concatenate([np.zeros(1, F32), values[:-1]]),
        np.where(mirrored > 0, mirrored, F32.type(0.1)),
        integers[1::2] * I32.type(2**30 + 1),
    )
    return Case(program, (values, integers), expected)


def pieces() -> Case:
    """Aliases: of an input, of a number, of two halves of an output, of an arena buffer; booleans and updates."""
    x, scale = Buffer("x", F64, (N, 6), "input"), Buffer("scale", F64, (), "input")
    count = Buffer("count", I64, (), "param")
    whole = Buffer("whole", F64, (2 * N, 2, 3), "output")
    halves = [Buffer(f"half_{k}", F64, (N, 3, 2), "alias", whole, 6 * N * k) for k in range(2)]
    seen, spare = Buffer("seen", BOOL, (N,), "output"), Buffer("spare", F64, (2, 2), "arena")
    given = Buffer("given", F64, (N, 3, 2), "alias", x), Buffer("scale_0", F64, (1,), "alias", scale)
    part = Buffer("part", F64, (2,), "alias", spare, 2)
    at = (AT_I, AT_J, AT_K)
    copy = [
        Kernel(
            f"copy_{k}",
            over_rows(
                columns(
                    Loop(
                        "k", 2, "parallel",
                        (Load("x", given[0], at), Load("s", given[1], (Affine(),)),
                         Let("half", op, ("x", "s"), F64), Store(half, at, "half")),
                    ),
                    extent=3,
                )
            ),
        )
        for k, (half, op) in enumerate(zip(halves, ("multiply", "maximum"), strict=True))
    ]  # fmt: skip
    rest = Kernel(
        "rest",
        (
            *over_rows(
                Load("x", x, (AT_I, Affine((), 5))),
                Let("low", "less", ("x", number(0, F64)), BOOL),
                Let("high", "greater", ("x", number(0.5, F64)), BOOL),
                Let("either", "logical_or", ("low", "high"), BOOL),
                Let("seen", "logical_not", ("either",), BOOL),
                Store(seen, (AT_I,), "seen"),
            ),
            Loop("j", 2, "serial", (Store(part, (AT_J,), number(0.25, F64)), Load("p", part, (AT_J,)),
                                    Let("n", "cast", ("p",), I64), Accumulate(count, (), "add", "n"))),
            Accumulate(count, (), "add", Const(N, I64)),
        ),
        "seen, count",
    )  # fmt: skip
    program = Program(
        "pieces", ("N",), (x, scale), (count,), (whole, seen), (*copy, rest), Arena(((spare, 64),), 96, 0)
    )
    values = array(4, 6).astype(F64)
    both = np.concatenate([values * 0.5, np.maximum(values, 0.5)]).reshape(8, 2, 3)
    last = values[:, 5]
    arguments = values, 0.5, np.array(3)
    return Case(program, arguments, (both, ~((last < 0) | (last > 0.5))), changes=((2, np.array(7)),))


def training() -> Case:
    """A step of least squares that updates its parameter, in a loop over minibatches."""
    batch, features = N, 2
    x, y = Buffer("x", F32, (batch, features), "input"), Buffer("y", F32, (batch,), "input")
    lr = Buffer("lr", F32, (), "input")
    w = Buffer("w", F32, (features,), "param")
    error, d_w = Buffer("error", F32, (batch,), "arena"), Buffer("d_w", F32, (features,), "arena")
    loss = Buffer("loss", F32, (), "output")
    residual = Kernel(
        "error",
        (
            Accumulator("loss", number(0)),
            Loop(
                "i", batch, "parallel",
                (
                    Load("prediction", error, (AT_I,)),
                    Load("y", y, (AT_I,)),
                    Let("difference", "subtract", ("prediction", "y"), F32),
                    Store(error, (AT_I,), "difference"),
                    Let("squared", "square", ("difference",), F32),
                    Accumulate("loss", (), "add", "squared"),
                ),
            ),
            Let("mean", "divide", ("loss", Const(batch, F32)), F32),
            Store(loss, (), "mean"),
        ),
        "loss",
    )  # fmt: skip
    update = Kernel(
        "w",
        (
            Loop(
                "j", features, "parallel",
                (
                    Load("lr", lr, ()),
                    Load("d_w", d_w, (AT_J,)),
                    Let("step", "multiply", ("lr", "d_w"), F32),
                    Load("w", w, (AT_J,)),
                    Let("w_next", "subtract", ("w", "step"), F32),
                    Store(w, (AT_J,), "w_next"),
                ),
            ),
        ),
        "w",
    )  # fmt: skip
    steps = product(x, w, error), residual, product(x, error, d_w, transpose_a=True), update
    offsets = ((error, 0), (d_w, 4 * batch + 8))
    program = Program("step", ("N",), (x, y, lr), (w,), (loss,), steps, Arena(offsets, 4 * batch + 16, 0))
    loop = MinibatchLoop("N", ("lr",))
    data, target, rates = array(7, 2), array(7), np.linspace(0.1, 0.2, 3).astype(F32)
    order, start = np.array([6, 0, 3, 1, 5, 2, 4]), array(2)
    weights, total = start.copy(), 0.0
    for k in range(1, 3):
        rows = order[3 * k : 3 * k + 3]
        difference = data[rows] @ weights - target[rows]
        total += float((difference**2).sum())
        weights = weights - rates[k] * (data[rows].T @ difference)
    rows, totals, memory = arena(128), np.zeros((1, 1)), arena(128)
    arguments = (1, 3, 3, 6, order[None], data, target, rates[None], start.copy(), rows, totals, memory)
    changes = ((8, weights), (10, np.array([[total]])))
    return Case(program, arguments, (), EmitOptions(workspace=True, loop=loop), changes)


def array(*shape):
    """Numbers between -1 and 1, the same every time."""
    return np.sin(np.arange(1, np.prod(shape) + 1) ** 2).reshape(shape).astype(F32)


CASES: dict[str, Callable[[], Case]] = {
    each.__name__: each for each in (layer, softmax, gather, shift, pieces, training)
}


def run(name: str) -> list[Any]:
    """Emit, load and call; return the results and the changed arguments."""
    case = CASES[name]()
    module = load(f"test_{name}", emit(case.program, case.options))
    loop = case.options.loop
    function = compiled_loop(module, case.program) if loop else getattr(module, host_name(case.program))
    results = function(*case.arguments)
    results = results if isinstance(results, tuple) else () if results is None else (results,)
    return [*results, *(case.arguments[place] for place, _ in case.changes)]


def main() -> None:
    """Run everything and write it to the file that is named."""
    with np.errstate(all="ignore"):
        np.savez(sys.argv[1], **{f"{name}_{k}": value for name in CASES for k, value in enumerate(run(name))})


if __name__ == "__main__":
    main()
