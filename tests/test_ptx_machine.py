"""The machine for PTX that the emulated device runs kernels on, by kernels of a few lines."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulator import why_not
from emulator.build import build
from emulator.machine import ILLEGAL_ADDRESS, LAUNCH_FAILED, MISALIGNED_ADDRESS, KernelFault, Memory, Program
from emulator.ptx import PtxError

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n"
# Where a thread's element of each operand lies: the address of out in %rd0, of the operands in %rd1 to %rd3.
ADDRESSES = """
    mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.s32 %r0, %r0, %r1, %r2;
"""
REGISTERS = """
    .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<19>; .reg .f32 %f<9>; .reg .b64 %rd<19>; .reg .f64 %d<9>;
"""


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    library = ctypes.CDLL(str(build(tmp_path_factory.mktemp("driver"), "driver_of_tests.so")))
    context = ctypes.c_void_p()
    assert library.cuInit(0) == 0
    assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert library.cuCtxSetCurrent(context) == 0
    return Memory(library)


def on_device(memory: Memory, array: np.ndarray) -> tuple[int, np.ndarray]:
    address = memory.allocate(array.nbytes)
    there = memory.array(address, array.size, array.dtype)
    there[:] = array.reshape(-1)
    return address, there


def run(
    memory: Memory, body: str, *arrays: np.ndarray, blocks: int = 1, threads: int | None = None, outside: str = ""
) -> list[np.ndarray]:
    """What a kernel makes of arrays; %r0 is the number of a thread, and %rd0, ... are the addresses of the arrays."""
    params = ", ".join(f".param .u64 p{k}" for k in range(len(arrays)))
    loads = "".join(f"ld.param.u64 %rd{k}, [p{k}];" for k in range(len(arrays)))
    text = f"{HEAD}{outside}\n.visible .entry k({params}) {{ {REGISTERS} {loads} {ADDRESSES} {body} }}"
    placed = [on_device(memory, array) for array in arrays]
    given = struct.pack(f"<{len(arrays)}Q", *(address for address, _ in placed))
    Program(text, memory).launch("k", (blocks, 1, 1), (threads or len(arrays[0]), 1, 1), given)
    return [there.copy() for _, there in placed]


def element(array: int, dtype: Any, register: str, store: bool = False) -> str:
    """Load (or store) a thread's element of an array."""
    size, kind = np.dtype(dtype).itemsize, np.dtype(dtype).kind
    name = {"f": "f", "i": "s", "u": "u"}[kind] + str(8 * size)
    where = f"mul.wide.u32 %rd18, %r0, {size}; add.s64 %rd18, %rd{array}, %rd18;"
    return where + (f"st.global.{name} [%rd18], {register};" if store else f"ld.global.{name} {register}, [%rd18];")


def apply(memory: Memory, operation: str, dtype: Any, *operands: np.ndarray) -> np.ndarray:
    """One instruction on arrays."""

    def names(dtype: Any) -> str:
        dtype = np.dtype(dtype)
        return {"f4": "%f", "f8": "%d"}.get(dtype.str[1:], {1: "%h", 2: "%h", 4: "%r1", 8: "%rd1"}[dtype.itemsize])

    loads = "".join(
        element(k + 1, operand.dtype, f"{names(operand.dtype)}{k + 1}") for k, operand in enumerate(operands)
    )
    given = ", ".join(f"{names(operand.dtype)}{k + 1}" for k, operand in enumerate(operands))
    body = f"{loads} {operation} {names(dtype)}4, {given}; {element(0, dtype, f'{names(dtype)}4', store=True)}"
    return run(memory, body, np.zeros(len(operands[0]), dtype), *operands)[0]


RNG = np.random.default_rng(0)
FLOATS = {
    dtype: np.concatenate([RNG.normal(size=40), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e30, -1e30]]).astype(dtype)
    for dtype in ("f4", "f8")
}


def integers(dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    some = RNG.integers(limits.min, limits.max, 40, dtype, endpoint=True)
    return np.concatenate([some, np.array([limits.min, limits.max, 0, 1, limits.max - 1, 7, 31, 33], dtype)])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("add.rn", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div.rn", np.divide),
        ("copysign", lambda a, b: np.copysign(b, a)), ("max", np.fmax), ("min", np.fmin),
    ],
)  # fmt: skip
def test_floats(memory: Memory, operation: str, function: Callable[..., Any], dtype: str) -> None:
    a, b = FLOATS[dtype], np.roll(FLOATS[dtype], 3)
    found = apply(memory, f"{operation}.f{8 * a.itemsize}", dtype, a, b)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, function(a, b))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fma_rounds_once(memory: Memory, dtype: str) -> None:
    mpmath = pytest.importorskip("mpmath")
    a, b = RNG.normal(size=(2, 200)).astype(dtype)
    c = (-a * b * (1 + RNG.integers(-3, 4, 200) * np.finfo(dtype).eps)).astype(dtype)
    c[::3] = RNG.normal(size=len(c[::3])) * 1e-9
    with mpmath.workprec(400):
        exact = [mpmath.mpf(float(x)) * float(y) + float(z) for x, y, z in zip(a, b, c, strict=True)]
    with mpmath.workprec(np.finfo(dtype).nmant + 1):
        expected = [float(+value) for value in exact]
    assert apply(memory, f"fma.rn.f{8 * a.itemsize}", dtype, a, b, c).tolist() == expected


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8", "i2"])
@pytest.mark.parametrize(
    ("operation", "function"),
    [("add", np.add), ("sub", np.subtract), ("mul.lo", np.multiply), ("min", np.minimum), ("max", np.maximum)],
)
def test_integers(memory: Memory, operation: str, function: Callable[..., Any], dtype: str) -> None:
    a, b = integers(dtype), np.roll(integers(dtype), 5)
    kind = ("s" if dtype[0] == "i" else "u") + str(8 * a.itemsize)
    np.testing.assert_array_equal(apply(memory, f"{operation}.{kind}", dtype, a, b), function(a, b))


@pytest.mark.parametrize("dtype", ["i4", "u4"])
def test_products_of_bytes(memory: Memory, dtype: str) -> None:
    a, b, c = integers(dtype), np.roll(integers(dtype), 5), np.roll(integers(dtype), 9)
    kind = {"i4": "s32", "u4": "u32"}[dtype]
    first, second = (each.view(f"{dtype[0]}1").reshape(-1, 4).astype(dtype) for each in (a, b))
    with np.errstate(over="ignore"):
        expected = c + (first * second).sum(1, dtype=dtype)
    np.testing.assert_array_equal(apply(memory, f"dp4a.{kind}.{kind}", dtype, a, b, c), expected)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_integers_as_in_c(memory: Memory, dtype: str) -> None:
    a, b = integers(dtype), np.roll(integers(dtype), 5)
    b[(b == 0) | (b == -1 if dtype[0] == "i" else False)] = 3
    kind, bits = ("s" if dtype[0] == "i" else "u") + str(8 * a.itemsize), 8 * a.itemsize
    pairs = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    quotients = [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in pairs]
    assert apply(memory, f"div.{kind}", dtype, a, b).tolist() == quotients
    assert apply(memory, f"rem.{kind}", dtype, a, b).tolist() == [
        x - q * y for q, (x, y) in zip(quotients, pairs, strict=True)
    ]
    assert apply(memory, f"mul.hi.{kind}", dtype, a, b).tolist() == [x * y >> bits for x, y in pairs]
    by = (np.arange(len(a)) * 3 % 80).astype("u4")
    signs = [-1 if x < 0 else 0 for x in a.tolist()]
    expected = [x >> int(n) if n < bits else sign for x, n, sign in zip(a.tolist(), by, signs, strict=True)]
    assert apply(memory, f"shr.{kind}", dtype, a, by).tolist() == expected
    left = [
        int(x) << int(n) & ((1 << bits) - 1) if n < bits else 0
        for x, n in zip(a.view(f"u{a.itemsize}"), by, strict=True)
    ]
    assert apply(memory, f"shl.b{bits}", f"u{a.itemsize}", a, by).tolist() == left


def test_words_of_many_bits(memory: Memory) -> None:
    """128 bits by carries, as in libdevice's reduction of angles."""
    a, b = integers("u4"), np.roll(integers("u4"), 2)
    body = (
        element(1, "u4", "%r3") + element(2, "u4", "%r4") + "mul.lo.u32 %r5, %r3, %r4;"
        "{ .reg .u32 low, high; mad.lo.cc.u32 low, %r3, %r4, %r3; madc.hi.u32 high, %r3, %r4, 0; mov.u32 %r6, high; }"
        + element(0, "u4", "%r6", store=True)
    )
    expected = [int(x) * int(y) + int(x) >> 32 for x, y in zip(a, b, strict=True)]
    assert run(memory, body, np.zeros(len(a), "u4"), a, b)[0].tolist() == expected


def test_borrows(memory: Memory) -> None:
    """A difference of 64 bits by words."""
    a, b = integers("u8"), np.roll(integers("u8"), 2)
    body = element(1, "u8", "%rd11") + element(2, "u8", "%rd12") + """
        { .reg .u32 l, h, k, m; mov.b64 {l, h}, %rd11; mov.b64 {k, m}, %rd12; sub.cc.u32 l, l, k; subc.u32 h, h, m;
          mov.b64 %rd13, {l, h}; }
    """  # fmt: skip
    found = run(memory, body + element(0, "u8", "%rd13", store=True), np.zeros(len(a), "u8"), a, b)[0]
    np.testing.assert_array_equal(found, a - b)


@pytest.mark.parametrize(
    ("operation", "values", "to", "expected"),
    [
        ("cvt.rzi.s32.f32", np.float32([1.9, -1.9, 3e9, -3e9, np.nan]), "i4", [1, -1, 2**31 - 1, -(2**31), 0]),
        ("cvt.rni.s64.f64", np.float64([2.5, 3.5, np.nan, 1e30]), "i8", [2, 4, -(2**63), 2**63 - 1]),
        ("cvt.rzi.u32.f32", np.float32([-1, 1e10, 7.5]), "u4", [0, 2**32 - 1, 7]),
        ("cvt.rzi.u64.f64", np.float64([-1, 1e30, 2**60, np.nan]), "u8", [0, 2**64 - 1, 2**60, 2**63]),
        ("cvt.rzi.u16.f64", np.float64([-1, 1e30, 7.5, np.nan]), "u2", [0, 2**16 - 1, 7, 2**15]),
        ("cvt.rmi.f32.f32", np.float32([1.5, -1.5]), "f4", [1, -2]),
        ("cvt.rpi.f64.f64", np.float64([1.5, -1.5]), "f8", [2, -1]),
        ("cvt.rn.f32.s64", np.int64([2**24 + 1, 2**62 + 1]), "f4", [2**24, 2**62]),
        ("cvt.rn.f32.f64", np.float64([1 + 2**-24, 1 + 2**-24 + 2**-50]), "f4", [1, 1 + 2**-23]),
        ("cvt.rz.f32.f64", np.float64([1 + 2**-24 + 2**-50, -1.99999999999]), "f4", [1, -(2 - 2**-23)]),
        ("cvt.s64.s8", np.int16([-1, 127, 128]), "i8", [-1, 127, -128]),
        ("cvt.u64.u16", np.int16([-1, 5]), "u8", [65535, 5]),
    ],
)
def test_conversions(memory: Memory, operation: str, values: np.ndarray, to: str, expected: list[float]) -> None:
    assert apply(memory, operation, to, values).tolist() == expected


def test_halves(memory: Memory) -> None:
    values = np.float32([1.0004883, 65520, 1e-8, np.nan, -0.0])
    body = element(1, "f4", "%f1") + "cvt.rn.f16.f32 %h1, %f1;" + element(0, "u2", "%h1", store=True)
    found = run(memory, body, np.zeros(5, "u2"), values)[0]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found.view("f2"), values.astype("f2"))


def test_lanes_part_and_meet_again(memory: Memory) -> None:
    """Collatz: each thread loops as often as it needs to."""
    body = """
        add.s32 %r3, %r0, 1; mov.u32 %r4, 0;
    again: setp.le.s32 %p1, %r3, 1; @%p1 bra done;
        and.b32 %r5, %r3, 1; setp.eq.s32 %p2, %r5, 0; @%p2 bra even;
        mad.lo.s32 %r3, %r3, 3, 1; bra.uni next;
    even: shr.s32 %r3, %r3, 1;
    next: add.s32 %r4, %r4, 1; bra.uni again;
    done:
    """

    def steps(n: int) -> int:
        count = 0
        while n > 1:
            n, count = n // 2 if n % 2 == 0 else 3 * n + 1, count + 1
        return count

    found = run(memory, body + element(0, "i4", "%r4", store=True), np.zeros(100, "i4"))[0]
    assert found.tolist() == [steps(n + 1) for n in range(100)]


def test_a_guard_of_one_instruction(memory: Memory) -> None:
    body = "setp.lt.u32 %p1, %r0, 3; mov.u32 %r3, 5; @%p1 mov.u32 %r3, 9; @!%p1 add.s32 %r3, %r3, 1;"
    found = run(memory, body + element(0, "i4", "%r3", store=True), np.zeros(5, "i4"))[0]
    assert found.tolist() == [9, 9, 9, 6, 6]


REVERSE = """
    .shared .align 4 .b8 there[256];
    mul.wide.u32 %rd5, %r2, 4; mov.u64 %rd6, there; add.s64 %rd7, %rd6, %rd5; st.shared.u32 [%rd7], %r0;
    BARRIER
    sub.s32 %r4, 63, %r2; mul.wide.u32 %rd5, %r4, 4; add.s64 %rd7, %rd6, %rd5; ld.shared.u32 %r5, [%rd7];
"""


def test_shared_memory_and_barriers(memory: Memory) -> None:
    body = REVERSE.replace("BARRIER", "bar.sync 0;") + element(0, "u4", "%r5", store=True)
    found = run(memory, body, np.zeros(128, "u4"), blocks=2, threads=64)[0]
    assert found.tolist() == [*range(63, -1, -1), *range(127, 63, -1)]


def test_a_missing_barrier_shows(memory: Memory) -> None:
    body = REVERSE.replace("BARRIER", "") + element(0, "u4", "%r5", store=True)
    with pytest.raises(
        KernelFault, match=r"depends on the order of warps or blocks, thread \d+ of block 0, at `st.glob"
    ):
        run(memory, body, np.zeros(64, "u4"), threads=64)


def test_blocks_that_meet_in_memory(memory: Memory) -> None:
    body = "ld.global.u32 %r4, [%rd0]; add.u32 %r4, %r4, 1; st.global.u32 [%rd0], %r0;"
    with pytest.raises(KernelFault, match="depends on the order of warps or blocks"):
        run(memory, body, np.zeros(4, "u4"), blocks=2, threads=2)
    run(memory, body.replace("[%rd0], %r0", "[%rd0], 1"), np.zeros(4, "u4"), blocks=2, threads=2)  # all store the same


def test_shared_memory_is_garbage_at_first(memory: Memory) -> None:
    body = ".shared .align 4 .b8 there[4]; mov.u64 %rd6, there; ld.shared.f32 %f1, [%rd6];"
    assert np.isnan(run(memory, body + element(0, "f4", "%f1", store=True), np.zeros(3, "f4"))[0]).all()


def test_a_barrier_that_some_threads_miss(memory: Memory) -> None:
    body = "setp.lt.u32 %p1, %r2, 10; @%p1 ret; bar.sync 0;"
    with pytest.raises(KernelFault, match="22 of 32 threads of block 0 wait at a barrier for others") as caught:
        run(memory, body, np.zeros(32, "u4"))
    assert caught.value.code == LAUNCH_FAILED


def test_shuffles(memory: Memory) -> None:
    for mode, by, expected in (
        ("down", 4, lambda k: k + 4 if k % 32 < 28 else k),
        ("up", 3, lambda k: k - 3 if k % 32 >= 3 else k),
        ("bfly", 5, lambda k: k ^ 5),
        ("idx", 2, lambda k: k // 32 * 32 + 2),
    ):
        clamp = 0 if mode == "up" else 31
        body = f"shfl.sync.{mode}.b32 %r4|%p1, %r0, {by}, {clamp}, -1;" + element(0, "u4", "%r4", store=True)
        assert run(memory, body, np.zeros(64, "u4"))[0].tolist() == [expected(k) for k in range(64)], mode
    body = "shfl.sync.down.b32 %r4|%p1, %r0, 4, 31, -1; selp.u32 %r4, 1, 0, %p1;" + element(0, "u4", "%r4", store=True)
    assert run(memory, body, np.zeros(32, "u4"))[0].sum() == 28


def test_a_shuffle_that_some_lanes_miss(memory: Memory) -> None:
    body = "setp.eq.u32 %p1, %r2, 40; @%p1 ret; shfl.sync.down.b32 %r4|%p1, %r0, 4, 31, -1;"
    with pytest.raises(KernelFault, match="a lane of the warp is in the mask, but not here, thread 32 of block 0"):
        run(memory, body, np.zeros(64, "u4"))


def test_votes(memory: Memory) -> None:
    body = "setp.lt.u32 %p1, %r0, 3; vote.sync.ballot.b32 %r4, %p1, -1;" + element(0, "u4", "%r4", store=True)
    assert run(memory, body, np.zeros(64, "u4"))[0].tolist() == [7] * 32 + [0] * 32


@pytest.mark.parametrize(("action", "expected"), [("add", 496), ("max", 31), ("min", 0)])
def test_atomics(memory: Memory, action: str, expected: int) -> None:
    body = f"atom.global.{action}.u32 %r4, [%rd0], %r0;"
    start = 1000 if action == "min" else 0
    assert run(memory, body, np.array([start], "u4"), threads=32)[0].tolist() == [expected]


def test_compare_and_swap(memory: Memory) -> None:
    body = "atom.global.cas.b32 %r4, [%rd0], %r0, 40; red.global.add.u32 [%rd0+4], 1;"
    assert run(memory, body, np.array([5, 0], "u4"), threads=32)[0].tolist() == [40, 32]


def test_functions_and_local_memory(memory: Memory) -> None:
    """A function that is called twice keeps something in its own frame."""
    outside = """
        .global .align 4 .u32 table[3] = {10, 20, 30};
        .func (.param .b32 out) pick(.param .b32 k) {
            .local .align 8 .b8 frame[16]; .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .pred %p<2>;
            ld.param.b32 %r1, [k]; mov.u64 %rd1, frame; cvta.local.u64 %rd2, %rd1;
            st.u32 [%rd2+4], %r1; setp.gt.u32 %p1, %r1, 1; @%p1 bra big;
            ld.local.u32 %r2, [%rd1+4]; mul.wide.u32 %rd3, %r2, 4; mov.u64 %rd0, table; add.s64 %rd3, %rd0, %rd3;
            ld.global.u32 %r3, [%rd3]; st.param.b32 [out+0], %r3; ret;
            big: st.param.b32 [out+0], 99; ret; }
    """
    body = (
        "{ .param .b32 param0; st.param.b32 [param0+0], %r0; .param .b32 retval0; call.uni (retval0), pick, (param0);"
        " ld.param.b32 %r5, [retval0+0]; }"
        "{ .param .b32 param0; st.param.b32 [param0+0], 0; .param .b32 retval0; call.uni (retval0), pick, (param0);"
        " ld.param.b32 %r6, [retval0+0]; } add.s32 %r5, %r5, %r6;"
    )
    found = run(memory, body + element(0, "u4", "%r5", store=True), np.zeros(4, "u4"), outside=outside)[0]
    assert found.tolist() == [20, 30, 109, 109]


def test_vectors(memory: Memory) -> None:
    body = "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1]; st.global.v2.f32 [%rd0], {%f4, %f2};"
    assert run(memory, body, np.zeros(2, "f4"), np.arange(4, dtype="f4"), threads=1)[0].tolist() == [3, 1]
    with pytest.raises(KernelFault, match="that is not aligned") as caught:
        run(memory, body.replace("[%rd1]", "[%rd1+4]"), np.zeros(2, "f4"), np.arange(8, dtype="f4"), threads=1)
    assert caught.value.code == MISALIGNED_ADDRESS


@pytest.mark.parametrize("store", [False, True])
def test_an_access_outside_of_allocations(memory: Memory, store: bool) -> None:
    body = element(0, "u4", "%r4", store=store)
    verb = "st" if store else "ld"
    with pytest.raises(
        KernelFault, match=rf"^k: .* outside of all allocations: 0x\w+ \(4 bytes\), thread 7 of block 0, at `{verb}\."
    ) as caught:
        run(memory, body, np.zeros(7, "u4"), threads=10)
    assert caught.value.code == ILLEGAL_ADDRESS


def test_shared_memory_ends(memory: Memory) -> None:
    body = REVERSE.replace("BARRIER", "bar.sync 0;").replace("[256]", "[252]")
    with pytest.raises(KernelFault, match=r"outside of all allocations: .*, thread 63 of block 0"):
        run(memory, body, np.zeros(64, "u4"))


def test_what_is_not_known(memory: Memory) -> None:
    with pytest.raises(PtxError, match=r"does not know: wgmma.fence.sync.aligned"):
        run(memory, "wgmma.fence.sync.aligned;", np.zeros(1, "u4"))
