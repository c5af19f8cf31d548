"""Which NumPy functions work on views, and what each builds: the tables behind NumPy's two protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import arithmetic, indexing, layout, linear_algebra, pointwise, products, reductions
from graphc.operands import as_node

# The calls that go through `__array_ufunc__`.
UFUNCS: dict[Any, Callable[..., Any]] = {
    **arithmetic.UFUNCS,
    **pointwise.UFUNCS,
    np.matmul: products.matmul,
    np.vecdot: products.vecdot,
}

# The calls that go through `__array_function__`.
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: arithmetic.where,
    np.clip: arithmetic.clip,
    **pointwise.FUNCTIONS,
    np.sum: reductions.sum,
    np.mean: reductions.mean,
    np.average: reductions.average,
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
    np.linalg.norm: reductions.linalg_norm,
    np.linalg.vector_norm: lambda x, *, axis=None, keepdims=False, ord=2: reductions.norm(
        x, ord, axis, keepdims=keepdims
    ),
    np.dot: products.dot,
    np.inner: products.inner,
    np.vdot: products.vdot,
    np.outer: products.outer,
    np.tensordot: products.tensordot,
    np.einsum: products.einsum,
    np.linalg.matmul: products.matmul,
    **linear_algebra.FUNCTIONS,
    np.reshape: layout.reshape,
    np.ravel: layout.ravel,
    np.transpose: layout.transpose,
    np.permute_dims: layout.transpose,
    np.matrix_transpose: layout.matrix_transpose,
    np.swapaxes: layout.swapaxes,
    np.moveaxis: layout.moveaxis,
    np.expand_dims: layout.expand_dims,
    np.squeeze: layout.squeeze,
    np.broadcast_to: layout.broadcast_to,
    np.atleast_1d: layout.atleast_1d,
    np.flip: layout.flip,
    np.fliplr: lambda m: layout.flip(m, 1),
    np.flipud: lambda m: layout.flip(m, 0),
    np.concatenate: layout.concatenate,
    np.concat: layout.concatenate,
    np.stack: layout.stack,
    np.hstack: layout.hstack,
    np.vstack: layout.vstack,
    np.zeros_like: layout.zeros_like,
    np.ones_like: layout.ones_like,
    np.full_like: layout.full_like,
    np.copy: as_node,
    np.take: indexing.take,
    np.take_along_axis: indexing.take_along_axis,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: len(a.shape),
    np.size: lambda a, axis=None: a.type.size if axis is None else a.shape[axis],
}
