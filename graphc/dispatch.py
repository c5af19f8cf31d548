"""Which NumPy functions work on views, and what each builds: the tables behind NumPy's two protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import (
    arithmetic,
    convolution,
    einsum,
    layout,
    linear_algebra,
    picking,
    pieces,
    pointwise,
    products,
    ranges,
    reductions,
    scans,
    sorting,
    statistics,
    tiling,
    triangles,
)


def _where_there(**functions: Callable[..., Any]) -> dict[Any, Callable[..., Any]]:
    """The functions that this version of NumPy has, and others have not."""
    return {getattr(np, name): function for name, function in functions.items() if hasattr(np, name)}


# The calls that go through `__array_ufunc__`.
UFUNCS: dict[Any, Callable[..., Any]] = {
    **arithmetic.UFUNCS,
    **pointwise.UFUNCS,
    np.matmul: products.matmul,
    np.vecdot: products.vecdot,
    **_where_there(matvec=products.matvec, vecmat=products.vecmat),
}

# The calls that go through `__array_function__`.
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: arithmetic.where,
    np.clip: arithmetic.clip,
    **pointwise.FUNCTIONS,
    np.sum: reductions.sum,
    np.mean: reductions.mean,
    np.average: statistics.average,
    np.var: reductions.var,
    np.std: reductions.std,
    np.max: reductions.max,
    np.amax: reductions.max,
    np.min: reductions.min,
    np.amin: reductions.min,
    np.ptp: reductions.ptp,
    np.any: reductions.any,
    np.all: reductions.all,
    np.argmax: reductions.argmax,
    np.argmin: reductions.argmin,
    np.count_nonzero: reductions.count_nonzero,
    np.prod: reductions.prod,
    np.cumsum: scans.cumsum,
    np.cumprod: scans.cumprod,
    np.diff: scans.diff,
    np.ediff1d: scans.ediff1d,
    np.trapezoid: scans.trapezoid,
    np.gradient: scans.gradient,
    np.sort: sorting.sort,
    np.argsort: sorting.argsort,
    np.partition: sorting.partition,
    np.argpartition: sorting.argpartition,
    np.median: sorting.median,
    np.quantile: sorting.quantile,
    np.percentile: sorting.percentile,
    np.searchsorted: sorting.searchsorted,
    np.digitize: sorting.digitize,
    np.bincount: sorting.bincount,
    np.histogram: sorting.histogram,
    np.cov: statistics.cov,
    np.corrcoef: statistics.corrcoef,
    np.nansum: statistics.nansum,
    np.nanprod: statistics.nanprod,
    np.nancumsum: statistics.nancumsum,
    np.nancumprod: statistics.nancumprod,
    np.nanmean: statistics.nanmean,
    np.nanvar: statistics.nanvar,
    np.nanstd: statistics.nanstd,
    np.nanmax: statistics.nanmax,
    np.nanmin: statistics.nanmin,
    np.nanargmax: statistics.nanargmax,
    np.nanargmin: statistics.nanargmin,
    np.linalg.norm: reductions.linalg_norm,
    np.linalg.vector_norm: lambda x, *, axis=None, keepdims=False, ord=2: reductions.norm(
        x, ord, axis, keepdims=keepdims
    ),
    np.dot: products.dot,
    np.inner: products.inner,
    np.vdot: products.vdot,
    np.outer: products.outer,
    np.tensordot: products.tensordot,
    np.einsum: einsum.einsum,
    np.kron: products.kron,
    np.cross: products.cross,
    np.polyval: products.polyval,
    np.convolve: convolution.convolve,
    np.correlate: convolution.correlate,
    np.linalg.cross: products.linalg_cross,
    np.linalg.outer: products.linalg_outer,
    np.linalg.tensordot: products.tensordot,
    np.linalg.vecdot: products.linalg_vecdot,
    np.linalg.matmul: products.matmul,
    **linear_algebra.FUNCTIONS,
    np.reshape: layout.reshape,
    np.ravel: layout.ravel,
    np.transpose: layout.transpose,
    np.permute_dims: layout.transpose,
    np.matrix_transpose: layout.matrix_transpose,
    np.linalg.matrix_transpose: layout.matrix_transpose,
    np.swapaxes: layout.swapaxes,
    np.moveaxis: layout.moveaxis,
    np.expand_dims: layout.expand_dims,
    np.squeeze: layout.squeeze,
    np.broadcast_to: layout.broadcast_to,
    np.atleast_1d: layout.atleast_1d,
    np.atleast_2d: layout.atleast_2d,
    np.atleast_3d: layout.atleast_3d,
    np.broadcast_arrays: layout.broadcast_arrays,
    np.rollaxis: layout.rollaxis,
    np.rot90: layout.rot90,
    np.flip: layout.flip,
    np.fliplr: lambda m: layout.flip(m, 1),
    np.flipud: lambda m: layout.flip(m, 0),
    np.concatenate: layout.concatenate,
    np.concat: layout.concatenate,
    np.stack: layout.stack,
    np.hstack: layout.hstack,
    np.vstack: layout.vstack,
    np.dstack: pieces.dstack,
    np.column_stack: pieces.column_stack,
    np.block: pieces.block,
    np.append: pieces.append,
    np.insert: pieces.insert,
    np.delete: pieces.delete,
    np.split: pieces.split,
    np.array_split: pieces.array_split,
    np.hsplit: pieces.hsplit,
    np.vsplit: pieces.vsplit,
    np.dsplit: pieces.dsplit,
    np.tile: tiling.tile,
    np.repeat: tiling.repeat,
    np.roll: tiling.roll,
    np.pad: tiling.pad,
    np.resize: tiling.resize,
    np.diag: triangles.diag,
    np.diagflat: triangles.diagflat,
    np.diagonal: triangles.diagonal,
    np.trace: triangles.trace,
    np.linalg.diagonal: triangles.linalg_diagonal,
    np.linalg.trace: triangles.linalg_trace,
    np.tril: triangles.tril,
    np.triu: triangles.triu,
    np.diag_indices_from: triangles.diag_indices_from,
    np.tril_indices_from: triangles.tril_indices_from,
    np.triu_indices_from: triangles.triu_indices_from,
    np.vander: triangles.vander,
    np.linspace: ranges.linspace,
    np.logspace: ranges.logspace,
    np.geomspace: ranges.geomspace,
    np.meshgrid: ranges.meshgrid,
    np.ix_: ranges.ix_,
    np.empty_like: layout.zeros_like,
    np.zeros_like: layout.zeros_like,
    np.ones_like: layout.ones_like,
    np.full_like: layout.full_like,
    np.copy: layout.copy,
    np.array_equal: reductions.array_equal,
    np.choose: picking.choose,
    np.unravel_index: picking.unravel_index,
    np.ravel_multi_index: picking.ravel_multi_index,
    np.take: picking.take,
    np.take_along_axis: picking.take_along_axis,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: len(a.shape),
    np.size: layout.size,
    **_where_there(
        unstack=pieces.unstack, astype=arithmetic.astype, cumulative_sum=scans.cumulative_sum,
        cumulative_prod=scans.cumulative_prod, trapz=scans.trapezoid,
    ),
}

# What to write instead of functions whose result has a shape that depends on values.
SHAPELESS: dict[str, str] = {
    **dict.fromkeys(
        ("nonzero", "flatnonzero", "argwhere"),
        "keep the mask: np.where(mask, x, 0); np.argsort(~mask) has the positions first",
    ),
    **dict.fromkeys(
        ("unique", "unique_values", "unique_counts", "unique_inverse", "unique_all"),
        "np.sort(x) and np.diff(np.sort(x)) != 0 have fixed shapes; np.bincount counts small integers",
    ),
    **dict.fromkeys(("union1d", "intersect1d", "setdiff1d", "setxor1d"), "np.searchsorted finds members"),
    **dict.fromkeys(("extract", "compress", "trim_zeros"), "keep the mask: np.where(mask, x, 0)"),
}

# The calls of a ufunc's method ``accumulate``.
ACCUMULATES: dict[Any, Callable[..., Any]] = {
    np.add: scans.add_accumulate,
    np.multiply: scans.multiply_accumulate,
    np.maximum: scans.cummax,
    np.minimum: scans.cummin,
    np.logaddexp: scans.logcumsumexp,
}

_AT = "write x.at[index].set(value): a new view"

# What to write instead of functions that views will not have.
HINTS: dict[str, str] = {
    **dict.fromkeys(("copyto", "put"), _AT),
    "frexp": "write np.floor(np.log2(np.abs(x))) + 1 for the exponent",
    "ldexp": "write x1 * np.exp2(x2)",
    "piecewise": "write np.select([condition, ...], [value, ...], default)",
    "fill_diagonal": "write x.at[k, k].set(value) with k = graphc.arange(n)",
    "place": "write x.at[mask].set(value), or np.where(mask, value, x)",
    "putmask": "write x.at[mask].set(value), or np.where(mask, value, x)",
    "put_along_axis": "write x.at[rows, indices].set(values) with rows = graphc.arange(n)[:, None]",
}  # fmt: skip


# graphc has functions of these names too.
NAMESAKES = ("norm", "i0", "linspace", "logspace", "geomspace")


def written(function: Any) -> str:
    """The name of a NumPy function; with that of its module where there are two functions of that name."""
    name: str = function.__name__
    if getattr(function, "__module__", "") == "numpy.linalg":
        return f"linalg.{name}" if hasattr(np, name) or name in NAMESAKES else name
    return f"np.{name}" if name in NAMESAKES else name


def numpy_name(function: Any) -> str:
    """How a function of NumPy is written: ``np.linalg.norm``."""
    return f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}".replace("numpy", "np", 1)
