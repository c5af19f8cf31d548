"""Targets: what a program is compiled for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.cuda.emit import PRECISIONS, CudaOptions, Grid
from graphc.feeds import unknown_name
from graphc.ir.errors import CompileTypeError, CompileValueError


@dataclass(frozen=True)
class Target:
    """What a program is compiled for: "cpu" or "interpret", and "cuda" as a `Cuda`."""

    name: str

    @property
    def cuda(self) -> CudaOptions | None:
        """How it is compiled for a GPU; None where it is not."""
        return None


@dataclass(frozen=True, kw_only=True)
class Cuda(Target):
    """An NVIDIA GPU, as a target with options: ``compile(loss, target=Cuda(matmul_precision="tensorfloat32"))``.

    Parameters
    ----------
    matmul_precision : {"float32", "tensorfloat32", "bfloat16"}
        In what products of float32 matrices are computed. "float32" is in full; the others let tensor cores multiply
        operands that are rounded to 10 or 7 bits behind the leading one, and add in float32.
    deterministic : bool
        Add what is scattered to one place in the order of its indices, so that every run gives the same bits. Without
        it, threads add as they come, which is faster.

    Raises
    ------
    CompileError
        For another precision.
    """

    name: str = field(default="cuda", init=False)
    matmul_precision: str = "float32"
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.matmul_precision not in PRECISIONS:
            raise CompileValueError(unknown_name(str(self.matmul_precision), PRECISIONS, "matmul_precision"))
        if not isinstance(self.deterministic, bool):
            raise CompileTypeError(f"deterministic is True or False, got {self.deterministic!r}")

    @property
    def cuda(self) -> CudaOptions:
        """The options, for the grid at hand."""
        return CudaOptions(Grid.at_hand(), self.matmul_precision, self.deterministic)


TARGETS: dict[str, Target] = {"cpu": Target("cpu"), "cuda": Cuda(), "interpret": Target("interpret")}


def as_target(target: Any) -> Target:
    """A target, also by name.

    Raises
    ------
    CompileError
        For one that there is not.
    """
    if isinstance(target, Target):
        return target
    if not isinstance(target, str) or target not in TARGETS:
        raise CompileValueError(unknown_name(str(target), TARGETS, "target"))
    return TARGETS[target]
