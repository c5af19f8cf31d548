"""NumPy's layout functions on views mean what they mean on arrays: values, dtypes, shapes, gradients, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from view_calls import check, check_gradients, one

import graphc
from graphc import DeclarationError, Input

RNG = np.random.default_rng(7)
V, A, T = RNG.normal(size=6), RNG.normal(size=(3, 4)), RNG.normal(size=(2, 3, 4))
K = np.arange(12, dtype="int32").reshape(3, 4) - 5


# repeats, rolls, pads -------------------------------------------------------------------------------------------------

REPEATS = [
    one(lambda x: np.tile(x, 3), V), one(lambda x: np.tile(x, (2, 3)), V), one(lambda x: np.tile(x, (2, 1, 3)), A),
    one(lambda x: np.tile(x, 2), T), one(lambda x: np.tile(x, (0, 2)), A), one(lambda x: np.tile(x, ()), A),
    one(lambda x: np.repeat(x, 3), A), one(lambda x: np.repeat(x, 2, axis=1), A),
    one(lambda x: np.repeat(x, 2, axis=-2), T), one(lambda x: np.repeat(x, 0, axis=0), A),
    one(lambda x: np.repeat(x, [2], axis=0), A), one(lambda x: np.tile(x, 2), K),
    one(lambda x: np.roll(x, 1), A), one(lambda x: np.roll(x, -2), V), one(lambda x: np.roll(x, 7, axis=1), A),
    one(lambda x: np.roll(x, (1, -1), axis=(0, 1)), A), one(lambda x: np.roll(x, 1, axis=(0, 2)), T),
    one(lambda x: np.roll(x, (1, 2), axis=0), A), one(lambda x: np.roll(x, 0), V), one(lambda x: np.roll(x, (1, 2)), V),
    one(np.rot90, A), one(lambda x: np.rot90(x, 2), A), one(lambda x: np.rot90(x, -1, (1, 2)), T),
    one(lambda x: np.rot90(x, 5, (2, 0)), T), one(lambda x: np.rollaxis(x, 2), T),
    one(lambda x: np.rollaxis(x, 0, 3), T), one(lambda x: np.rollaxis(x, 1, 2), T),
    one(lambda x: np.rollaxis(x, -1, 1), T), one(np.atleast_2d, V), one(np.atleast_3d, V), one(np.atleast_3d, A),
    one(np.atleast_2d, A), one(np.atleast_1d, V, A), one(np.atleast_3d, V, A, T),
    one(np.atleast_2d, np.array(2.0)), one(np.atleast_3d, np.array(2.0)),
]  # fmt: skip
KNOWN = [
    one(lambda x: np.repeat(x, [0, 2, 1], axis=0), A), one(lambda x: np.repeat(x, np.arange(4), axis=1), A),
    one(lambda x: np.repeat(x, np.arange(12)), K), one(lambda x: np.resize(x, (4, 5)), A),
    one(lambda x: np.resize(x, 3), A), one(lambda x: np.resize(x, (2, 2)), K[:0]), one(lambda x: np.resize(x, 0), A),
]  # fmt: skip
WIDTHS = [1, (1, 2), ((1, 2), (0, 3)), ((0, 0), (2, 0)), 0, {1: (1, 2)}, {-2: 1}]
PADS = [
    *(one(lambda x, w=w: np.pad(x, w), A) for w in WIDTHS),
    *(one(lambda x, w=w, m=m: np.pad(x, w, m), A) for w in WIDTHS for m in ("edge", "reflect", "symmetric", "wrap")),
    one(lambda x: np.pad(x, 2, constant_values=3.5), A), one(lambda x: np.pad(x, 1, constant_values=(1, 2)), K),
    one(lambda x: np.pad(x, ((1, 2), (3, 1)), constant_values=((1, 2), (3, 4))), A),
    one(lambda x: np.pad(x, [1], "edge"), T),
]  # fmt: skip
# Wider than the array, and from one element.
WIDE = [
    *(one(lambda x, m=m: np.pad(x, (9, 14), m), V) for m in ("edge", "reflect", "symmetric", "wrap")),
    *(one(lambda x, m=m: np.pad(x, 3, m), V[:1]) for m in ("edge", "reflect", "symmetric", "wrap")),
]


def test_repeats_and_rolls() -> None:
    check(REPEATS)
    check(REPEATS, symbolic=True)
    check(KNOWN)


def test_pads() -> None:
    check(PADS + WIDE)
    check(PADS, symbolic=True)


def test_a_roll_of_a_symbolic_axis_is_one_of_any_size() -> None:
    x = Input(("N", 2), name="x")
    program = graphc.compile([np.roll(x, shift, axis=0) for shift in (1, -1, 3, -2, x.shape[0] // 2, 1 - x.shape[0])])
    for n in (0, 1, 2, 3, 4, 7):
        array = RNG.normal(size=(n, 2))
        for got, shift in zip(program(x=array), (1, -1, 3, -2, n // 2, 1 - n), strict=True):
            np.testing.assert_array_equal(got, np.roll(array, shift, axis=0))


def test_pads_with_views_and_dims() -> None:
    x, c = Input(("N",), name="x"), Input((), name="c")
    n = x.shape[0]
    program = graphc.compile([np.pad(x, 1, constant_values=c), np.pad(x, (n, 2)), np.tile(x, n), np.repeat(x, n)])
    found = program(x=V, c=np.float64(3))
    expected = np.pad(V, 1, constant_values=3.0), np.pad(V, (6, 2)), np.tile(V, 6), np.repeat(V, 6)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(graphc.FeedError, match="N >= 4"):
        graphc.compile(np.pad(x, 3, "reflect"), target="interpret")(x=V[:3])


# pieces ---------------------------------------------------------------------------------------------------------------

PIECES = [
    one(lambda x: np.split(x, [1, 2]), A), one(lambda x: np.split(x, [1, 3], axis=-1), A),
    one(lambda x: np.split(x, [2, -1]), V), one(lambda x: np.split(x, []), V), one(lambda x: np.hsplit(x, [1]), A),
    one(lambda x: np.vsplit(x, [2]), A), one(lambda x: np.dsplit(x, [2, 3]), T),
    one(lambda x, y: np.dstack([x, y]), A, A + 1), one(lambda x, y: np.dstack([x, y]), V, V),
    one(lambda x, y: np.column_stack([x, y]), V, V + 1), one(lambda x, y: np.column_stack([x, y, x]), A, A[:, 0]),
    one(np.append, A, V), one(lambda x: np.append(x, x, axis=1), A), one(lambda x: np.append(x, 3), K),
    one(lambda x, y: np.block([[x, x], [y, y]]), A, A * 2), one(lambda x: np.block([x, 1.0, [2.0]][:1]), V),
    one(lambda x: np.block([x, x, 1.0]), V), one(lambda x, y: np.block([[x], [y]]), V, V), one(np.block, A),
    one(lambda x, y: np.block([[x, y[:, None]]]), A, A[:, 0]), one(np.broadcast_arrays, A, A[0]),
    one(lambda x: np.insert(x, 1, 5.0), V), one(lambda x: np.insert(x, -1, 5.0), V),
    one(lambda x: np.insert(x, 2, 7, axis=0), A), one(lambda x, y: np.insert(x, 1, y, axis=1), A, A[:, 0]),
    one(lambda x, y: np.insert(x, [1], y, axis=1), A, A[:, :1]), one(lambda x, y: np.insert(x, 1, y, axis=0), A, A),
    one(lambda x: np.insert(x, [0, 2, 2], [7, 8, 9]), V), one(lambda x: np.insert(x, [2, 0], 1, axis=1), A),
    one(lambda x: np.delete(x, 1), V), one(lambda x: np.delete(x, -1, axis=1), A),
    one(lambda x: np.delete(x, 0, axis=0), A),
]  # fmt: skip
KNOWN_PIECES = [
    one(lambda x: np.split(x, 3), V), one(lambda x: np.split(x, 2, axis=1), A), one(lambda x: np.hsplit(x, 2), V),
    one(lambda x: np.split(x, [2, 9]), V), one(lambda x: np.split(x, [4, 2]), V),
    one(lambda x: np.array_split(x, 4), V), one(lambda x: np.array_split(x, 3, axis=1), A),
    one(lambda x: np.array_split(x, 8), V), one(np.unstack, A), one(lambda x: np.unstack(x, axis=-1), A),
    one(lambda x: np.array_split(x, [1, 2]), V), one(lambda x: np.insert(x, slice(1, 5, 2), 0), V),
    one(lambda x: np.insert(x, [1, -2], [7, 8]), V), one(lambda x: np.delete(x, [0, 2, -1]), V),
    one(lambda x: np.delete(x, slice(None, None, 2), axis=1), A), one(lambda x: np.delete(x, []), V),
    one(lambda x: np.delete(x, [0, 3, 4, 7, 9, 10, 12, 15, 17, 22, 23]), T),
    one(lambda x: np.delete(x, np.array([True, False, True]), axis=0), A), one(lambda x: np.delete(x, range(6)), V),
]  # fmt: skip


def test_pieces() -> None:
    check(PIECES + KNOWN_PIECES)
    check(PIECES, symbolic=True)


def test_several_values_are_inserted_at_a_slice_of_one_position() -> None:
    at = slice(1, 2)
    cases = [one(lambda x: np.insert(x, at, [9, 8]), V), one(lambda x: np.insert(x, at, 7, axis=0), A)]
    check([*cases, one(lambda x: np.insert(x, at, [[9, 8]] * x.shape[0], axis=1), A)], every=100)


def test_what_splits_and_unstacks_give_is_a_tuple_of_views() -> None:
    x = Input(("N", 4), name="x")
    left, right = np.split(x, 2, axis=1)
    assert left.shape == right.shape == (x.shape[0], 2)
    twice = np.concatenate([x, x])
    halves = np.split(twice, 2)
    np.testing.assert_array_equal(graphc.compile(halves[1] - halves[0])(x=A), np.zeros((3, 4)))
    assert np.broadcast_arrays(x, 1.0)[0] is x


def test_gradients_of_layout_functions() -> None:
    picked = [*REPEATS[::3], *KNOWN[:2], *PADS[::3], *WIDE[:3], *PIECES[::2], *KNOWN_PIECES[::2]]
    check_gradients([case for case in picked if all(array.dtype.kind == "f" for array in case[1])])


# refusals -------------------------------------------------------------------------------------------------------------

x, v, m = Input(("N", 4), name="x"), Input((6,), name="v"), Input((6,), "bool", name="m")
n = x.shape[0]
k = Input((), "int64", name="k")

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: np.tile(v, k), TypeError, "np.tile repeats by ints and dims, not by"),
    (lambda: np.tile(v, -1), ValueError, "a dim is not negative: -1"),
    (lambda: np.repeat(v, [1, 2]), ValueError, "np.repeat: 2 repeats for an axis of 6 elements of f64[6]"),
    (lambda: np.repeat(x, [1, 2], axis=0), ValueError, "np.repeat: 2 repeats for an axis of N elements of f64[N,4]"),
    (lambda: np.repeat(v, [-1] * 6), ValueError, "np.repeat wants repeats that are not negative ints"),
    (lambda: np.resize(x, 3), ValueError, "np.resize of f64[N,4] to (3,) is for known sizes\n  np.tile and a slice"),
    (lambda: np.roll(v, k), TypeError, "np.roll moves by ints and dims, not by views\n  x[(np.arange(n) - shift) % n]"),
    (lambda: np.roll(v, 0.5), TypeError, "np.roll wants shift as an int known at the declaration, got 0.5"),
    (lambda: np.roll(v, (1, 2), axis=(0, 0, 0)), ValueError, "the shifts (1, 2) do not fit the axes (0, 0, 0)"),
    (lambda: np.transpose(x, x), TypeError, "transpose of f64[N,4] wants a tuple of its axes, got"),
    (lambda: np.tensordot(x, x, 0.5), TypeError, "tensordot wants a number of axes, or a pair of lists"),
    (lambda: np.rollaxis(x, 0, 0.5), TypeError, "np.rollaxis wants start as an int known at the declaration"),
    (lambda: np.roll(x, 1, axis=2), IndexError, "axis 2 is not there"),
    (lambda: np.rot90(v), IndexError, "axis 1 is not there"),
    (lambda: np.rot90(x, axes=(0, -2)), ValueError, "np.rot90 turns a plane of two different axes"),
    (lambda: np.pad(x, 1, "mean"), ValueError, "np.pad of views has no mode 'mean'\n  there are constant, edge"),
    (lambda: np.pad(x, -1), ValueError, "np.pad wants widths that are not negative ints, or dims, got -1"),
    (lambda: np.pad(x, (1, 2, 3)), ValueError, "np.pad: pad_width=(1, 2, 3) does not fit 2 axes"),
    (lambda: np.pad(x, 1, "edge", constant_values=0), TypeError, "np.pad of mode 'edge' takes no constant_values="),
    (lambda: np.pad(x, 1, "reflect", reflect_type="odd"), ValueError, "np.pad of views reflects evenly"),
    (lambda: np.pad(v[:0], 1, "edge"), ValueError, "np.pad of mode 'edge' cannot extend the empty axis 0 of f64[0]"),
    (lambda: np.split(x, 2), ValueError, "np.split: whether axis 0 of f64[N,4] has 2 equal parts is not known"),
    (lambda: np.split(v, 4), ValueError, "np.split: axis 0 of f64[6] has no 4 equal parts\n  np.array_split"),
    (lambda: np.split(v, 0), ValueError, "np.split wants at least one part, got 0"),
    (lambda: np.split(v, [k]), TypeError, "a split is at ints and dims"),
    (lambda: np.array_split(x, 2), ValueError, "the sizes of the parts of axis 0 of f64[N,4] are not known here"),
    (lambda: np.vsplit(v, 2), ValueError, "np.vsplit wants an array of at least 2 axes, got f64[6]"),
    (lambda: np.unstack(x), ValueError, "how many slices axis 0 of f64[N,4] has is not known"),
    (lambda: np.block([[v], v]), ValueError, "np.block wants lists (not tuples) that are nested equally deep"),
    (lambda: np.block([v, []]), ValueError, "np.block wants lists"),
    (lambda: np.insert(v, 7, 0), IndexError, "np.insert: position 7 is out of range for an axis of 6 elements"),
    (lambda: np.insert(v, k, 0), TypeError, "np.insert wants positions known at the declaration"),
    (lambda: np.delete(v, 6), IndexError, "np.delete: position 6 is out of range for an axis of 6 elements"),
    (lambda: np.delete(x, [0, 1], axis=0), ValueError, "np.delete of several positions wants a known axis"),
    (lambda: np.delete(v, m), TypeError, "np.delete wants positions known at the declaration"),
    (lambda: np.append(x, v, axis=0), ValueError, "np.concatenate wants arrays of one rank"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals_say_what_was_given_and_what_to_do(case: int) -> None:
    declare, kind, message = REFUSED[case]
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert isinstance(caught.value, kind)
    assert message in str(caught.value)
