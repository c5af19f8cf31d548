"""What parameters start as: a value, or an initialiser by name whose numbers depend on (seed, name) alone."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.core import Literal
from graphc.ir.errors import DeclarationTypeError, DeclarationValueError
from graphc.ir.half import converted

Fill: TypeAlias = "Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]"


@dataclass(frozen=True, slots=True)
class Initial:
    """The start of a parameter: `value` where one was given, else what the initialiser `init` draws."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    init: str = "zeros"
    value: Literal | None = None


def initial_value(initial: Initial, seed: int, name: str) -> np.ndarray:
    """The array that a parameter starts as: writable, C-contiguous, the same for the same seed and name.

    Numbers are drawn in float64 from a Philox generator, keyed by a hash of seed and name, and rounded to the dtype.
    """
    if initial.value is not None:
        return np.array(initial.value.array, initial.dtype, order="C")
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    drawn = INITIALIZERS[initial.init](generator, initial.shape)
    return np.ascontiguousarray(converted(drawn, initial.dtype)).reshape(initial.shape)


def check_initializer(init: Any) -> str:
    """The name of an initialiser that there is."""
    if not isinstance(init, str):
        raise DeclarationTypeError(
            f"init is the name of an initialiser, not {init!r}", hint="give values themselves: Param(array)"
        )
    if init not in INITIALIZERS:
        near = difflib.get_close_matches(init, INITIALIZERS, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise DeclarationValueError(f"no initialiser {init!r}", hint=f"{meant}there are {', '.join(INITIALIZERS)}")
    return init


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many values feed an output, and how many an input feeds: the last axes are (in, out)."""
    if len(shape) < 2:
        return (math.prod(shape),) * 2
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def _uniform(variance: Callable[[int, int], float]) -> Fill:
    def fill(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        bound = math.sqrt(3 * variance(*_fans(shape)))
        return generator.uniform(-bound, bound, shape)

    return fill


def _normal(variance: Callable[[int, int], float]) -> Fill:
    return lambda generator, shape: generator.normal(0.0, math.sqrt(variance(*_fans(shape))), shape)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / max(1, fan_in + fan_out)  # Glorot and Bengio, AISTATS 2010


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / max(1, fan_in)  # He et al., ICCV 2015


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1 / max(1, fan_in)  # LeCun et al., Efficient BackProp, 1998


def _small(fan_in: int, fan_out: int) -> float:
    return 0.05**2


INITIALIZERS: dict[str, Fill] = {
    "zeros": lambda generator, shape: np.zeros(shape),
    "ones": lambda generator, shape: np.ones(shape),
    "glorot_uniform": _uniform(_glorot),
    "glorot_normal": _normal(_glorot),
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "lecun_uniform": _uniform(_lecun),
    "lecun_normal": _normal(_lecun),
    "uniform": _uniform(_small),
    "normal": _normal(_small),
}
