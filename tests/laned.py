"""Programs whose loops have lanes on a GPU, and such whose loops cannot: what a block's threads move at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lowered import Case

import graphc
from graphc import Input
from graphc.ir.loops import Loop, Program, walk
from graphc.views import View

RNG = np.random.default_rng(0)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Laned:
    """A program, what it is fed, and the lanes of its loops on threads in the order of the text.

    (As `gridded.on_grid` maps it, to blocks of 4 threads; loops of one iteration are left out.)
    """

    declare: Callable[..., Any]
    feeds: Mapping[str, np.ndarray]
    lanes: tuple[int, ...]
    shapes: Mapping[str, tuple[Any, ...]] | None = None
    dtype: str = ""

    def case(self) -> Case:
        """The graph with its feeds."""
        leaves, feeds = [], {}
        for name, array in self.feeds.items():
            leaf = Input(
                self.shapes[name] if self.shapes else array.shape,
                self.dtype if self.dtype and array.dtype.kind == "f" else array.dtype.name,
                name=name,
            )
            leaves.append(leaf)
            feeds[name] = array.astype(leaf.dtype)
        return Case(graphc.compile(self.declare(*leaves), target="interpret").graph("partition"), feeds)


def lanes_of(program: Program) -> tuple[int, ...]:
    """The lanes of the loops on threads."""
    kernels = (step for step in program.steps if hasattr(step, "body"))
    loops = (each for kernel in kernels for each in walk(kernel.body) if isinstance(each, Loop))
    return tuple(each.lanes for each in loops if each.kind == "threads" and each.extent != 1)


def _normal(x: View, w: View) -> View:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * w


def _of_one_element(v: View, w: View) -> list[View]:
    """Rows that threads keep for themselves, stored and loaded in one iteration."""
    e = np.exp((v * 2)[:, None] * w)
    return [np.sum(e, axis=0), np.sum(e @ w[:, None])]


def _gelu(x: View) -> View:
    return x * 0.5 * (1 + np.tanh(0.79788 * (x + 0.044715 * x**3)))


_N, _M = {"x": ("N",)}, {"x": ("N", "M")}
_ROWS = {"x": _random(16, 128), "w": _random(128)}
PROGRAMS: dict[str, Laned] = {
    "elements": Laned(lambda x: np.tanh(x) * 2 + x, {"x": _random(1024)}, (4,)),
    "of 8 bytes": Laned(lambda x: x * x + 1, {"x": _random(1024)}, (2,), dtype="float64"),
    "of 2 bytes": Laned(lambda x: x * x + 1, {"x": _random(2400)}, (8,), dtype="bfloat16"),
    "of a byte": Laned(lambda x: ~x, {"x": _random(2400) > 0}, (8,)),
    "of several sizes": Laned(lambda x: [x > 0, x.astype("float64") * 2], {"x": _random(1024)}, (2,)),
    "what is left over": Laned(lambda x: np.exp(x) * 3, {"x": _random(1027)}, (4,)),
    "any number": Laned(lambda x: np.exp(x) * 3, {"x": _random(67)}, (4,), _N),
    "fewer than lanes": Laned(lambda x: np.exp(x) * 3, {"x": _random(3)}, (4,), _N),
    "none": Laned(lambda x: np.exp(x) * 3, {"x": _random(0)}, (4,), _N),
    "a matrix of any size": Laned(lambda x: np.exp(x) * 3, {"x": _random(3, 7)}, (4,), _M),
    "too few for all threads": Laned(lambda x: x + 1, {"x": _random(15)}, (1,)),
    "sums": Laned(lambda x: [np.sum(x * x), np.max(x)], {"x": _random(67)}, (4, 1, 1), _N),
    "rows": Laned(lambda x, w: graphc.softmax(x) * w, _ROWS, (4, 4, 4)),
    "rows read three times": Laned(_normal, _ROWS, (4, 4, 4)),
    "rows of any number": Laned(_normal, _ROWS, (4, 4, 4), {"x": ("N", 128), "w": (128,)}),
    "rows of an odd size": Laned(graphc.softmax, {"x": _random(5, 127)}, (1, 1, 1)),
    "rows of any size": Laned(graphc.softmax, {"x": _random(5, 128)}, (1, 1, 1), _M),
    "rows beside a vector": Laned(lambda x, w: x + w, _ROWS, (1, 4)),
    "sums of columns": Laned(
        lambda x: [np.sum(np.sum(x * x, axis=1)), np.sum(x, axis=0)], {"x": _random(9, 128)}, (4, 4, 4, 1, 1)
    ),
    "gathered rows": Laned(
        lambda x, k: x[k] * 2, {"x": _random(7, 128), "k": RNG.integers(-7, 7, 5)}, (4,), {"x": (7, 128), "k": ("N",)}
    ),
    "gathered rows and numbers": Laned(
        lambda x, r, k: np.tanh(x - np.sum(x, axis=0))[k] * r[k][:, None],
        {"x": _random(32, 256), "r": _random(32), "k": RNG.integers(-32, 32, 32)},
        (1, 1, 4, 1, 4),
    ),
    "rows of one element": Laned(
        _of_one_element, {"v": _random(67), "w": _random(1)}, (4, 1, 1), {"v": ("N",), "w": (1,)}
    ),
    "of halves": Laned(_gelu, {"x": _random(67)}, (2,), _N, "float16"),
    "long, of bfloat16": Laned(_gelu, {"x": _random(67)}, (4,), _N, "bfloat16"),
    "aligned in parts": Laned(lambda x, w: x + w, {"x": _random(16, 102), "w": _random(102)}, (1, 2)),
    "from an offset": Laned(lambda x: np.exp(x[6:]), {"x": _random(1030)}, (2,)),
    "from an odd offset": Laned(lambda x: np.exp(x[5:]), {"x": _random(1029)}, (1,)),
    "gathered elements": Laned(lambda x, k: x[k], {"x": _random(7), "k": RNG.integers(-7, 7, 512)}, (2,)),
    "both halves": Laned(lambda x: x[:1024] * x[1024:], {"x": _random(2048)}, (4,)),
    "side by side": Laned(lambda x, w: np.concatenate([x * 2, w]), {"x": _random(1024), "w": _random(1024)}, (4,)),
    "one further": Laned(lambda x: x[:-1] * x[1:], {"x": _random(1025)}, (1,)),
    "backwards": Laned(lambda x: x[::-1] * 2, {"x": _random(1024)}, (1,)),
    "every second": Laned(lambda x: x[::2] * 2, {"x": _random(2048)}, (1,)),
    "transposed": Laned(lambda x: x.T * 2, {"x": _random(64, 64)}, (1, 4)),
    "padded": Laned(lambda x: np.pad(x, (4, 4)) * 2, {"x": _random(1016)}, (1,)),
    "scattered rows": Laned(
        lambda x, k, u: x.at[k].add(u),
        {"x": _random(17, 128), "k": RNG.integers(0, 17, 9), "u": _random(9, 128)},
        (1, 4, 1, 1),
    ),
    "long to compute": Laned(lambda x: sum((np.exp(x / k) for k in range(1, 20)), x), {"x": _random(1024)}, (1,)),
    "positions": Laned(lambda x: x * graphc.arange(x.shape[0]).astype("float32"), {"x": _random(67)}, (4,), _N),
}  # fmt: skip
