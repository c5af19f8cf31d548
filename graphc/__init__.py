"""graphc: a static graph compiler from symbolic expressions to readable Numba functions.

Declare a computation as a `Planner` of views, derive its adjoint, fuse both, and call, read or ship the emitted
functions.
"""

from pathlib import Path as _Path

# Installed, graphc.ir, graphc.passes and graphc.codegen lie inside this folder; in a checkout, beside it.
if not (_Path(__file__).parent / "ir").is_dir():
    __path__.append(str(_Path(__file__).parents[1]))

from graphc.functions import (
    arange,
    elu,
    erf,
    eye,
    full,
    gelu,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    logsumexp,
    norm,
    one_hot,
    ones,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    step,
    stop_gradient,
    zeros,
)
from graphc.gradient_check import check_grad
from graphc.ir.dims import Dim, dim_max, dim_min
from graphc.ir.errors import (
    CompileError,
    DeclarationError,
    DifferentiationError,
    FeedError,
    GraphcError,
    GraphcWarning,
)
from graphc.layers import Dense
from graphc.leaves import Input, Param
from graphc.losses import accuracy, binary_cross_entropy, cross_entropy, mse
from graphc.optimizers import SGD, Adam
from graphc.planner import Planner
from graphc.program import Program, compile
from graphc.trainer import Trainer
from graphc.transforms import grad, jvp, vjp
from graphc.views import View

__all__ = [
    "SGD",
    "Adam",
    "CompileError",
    "DeclarationError",
    "Dense",
    "DifferentiationError",
    "Dim",
    "FeedError",
    "GraphcError",
    "GraphcWarning",
    "Input",
    "Param",
    "Planner",
    "Program",
    "Trainer",
    "View",
    "accuracy",
    "arange",
    "binary_cross_entropy",
    "check_grad",
    "compile",
    "cross_entropy",
    "dim_max",
    "dim_min",
    "elu",
    "erf",
    "eye",
    "full",
    "gelu",
    "grad",
    "jvp",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mse",
    "norm",
    "one_hot",
    "ones",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "step",
    "stop_gradient",
    "vjp",
    "zeros",
]
