"""Compilers of generated functions: what they ask of LLVM."""

import re

import numpy as np
import pytest
from numba import float32, njit, void

from graphc.codegen import compilers


def doubled(x, y):
    for i in range(x.shape[0]):
        y[i] = x[i] + x[i]


@pytest.mark.parametrize("compiler", [compilers.HostCompiler, compilers.KernelCompiler])
@pytest.mark.parametrize(("processors", "tuned"), [("", True), ("no such processor", False)])
def test_what_functions_are_tuned_for(compiler, processors, tuned, monkeypatch):
    monkeypatch.setattr(compilers, "_BADLY_TUNED", processors)
    function = njit(void(float32[::1], float32[::1]), pipeline_class=compiler)(doubled)
    (text,) = function.inspect_llvm().values()
    assert ('"tune-cpu"="x86-64-v4"' in text) == tuned
    assert bool(re.search(r"ptr noalias[^,]* %arg\.y\.4", text)) == (compiler is compilers.KernelCompiler)
    x, y = np.ones(5, np.float32), np.zeros(5, np.float32)
    function(x, y)
    assert (y == 2).all()
