"""What a value is: an element dtype and a shape of extents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.dims import Dim, Extent, product
from graphc.ir.errors import DeclarationTypeError

# The one table of dtypes: NumPy's name to the IR's short name.
DTYPES: dict[str, str] = {
    "bool": "bool",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64",
}  # fmt: skip
# The floats of 16 bits: arrays are stored in them, and computed with in float32 (see `graphc.ir.half`).
HALVES = ("float16", "bfloat16")
DTYPE_NAMES: dict[str, str] = {short: name for name, short in DTYPES.items()}

Shape: TypeAlias = "tuple[Extent, ...]"


def named_dtype(name: str) -> np.dtype[Any]:
    """The dtype of a name in `DTYPES`; bfloat16 is another package's, imported here."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise DeclarationTypeError(
            "the dtype bfloat16 needs the package ml_dtypes, which is not installed",
            hint="pip install 'graphc[half]', or use 'float16'",
        ) from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def kind_of(dtype: np.dtype[Any]) -> str:
    """NumPy's letter for the kind of a dtype of graphs; bfloat16, to NumPy a kind of its own, is a float."""
    kind: str = dtype.kind
    return "f" if kind == "V" else kind


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is a float of 16 bits."""
    return dtype.itemsize == 2 and kind_of(dtype) == "f"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense array: `dtype` is one of `DTYPES`, `shape` a tuple of ints and `Dim` objects; prints as ``f32[N,64]``."""

    dtype: np.dtype
    shape: Shape = ()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Extent:
        """The number of elements."""
        return product(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers, which alone have derivatives."""
        return kind_of(self.dtype) == "f"

    def with_shape(self, shape: Shape) -> TensorType:
        """The same dtype with another shape."""
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: str | np.dtype) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(np.dtype(dtype), self.shape)

    def __str__(self) -> str:
        return f"{DTYPES[self.dtype.name]}[{','.join(str(extent).replace(' ', '') for extent in self.shape)}]"


def is_static(shape: Shape) -> bool:
    """Whether every extent of a shape is an int."""
    return not any(isinstance(extent, Dim) for extent in shape)
