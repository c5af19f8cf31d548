"""graphc: a static graph compiler from symbolic expressions to readable Numba functions.

Declare a computation as a `Planner` of views, derive its adjoint, fuse both, and call, read or ship the emitted
functions.

What compiles and trains is imported when it is first asked for: who only declares does not wait for the compiler.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

# Installed, graphc.ir, graphc.passes and graphc.codegen lie inside this folder; in a checkout, beside it.
if not (_Path(__file__).parent / "ir").is_dir():
    __path__.append(str(_Path(__file__).parents[1]))

from graphc.functions import (
    arange,
    betaln,
    cho_solve,
    cummax,
    cummin,
    digamma,
    elu,
    entr,
    erf,
    erfc,
    erfcx,
    erfinv,
    expit,
    eye,
    full,
    gammaln,
    gelu,
    geomspace,
    i0,
    i1,
    identity,
    kl_div,
    leaky_relu,
    linear_recurrence,
    linspace,
    log_ndtr,
    log_sigmoid,
    log_softmax,
    logcumsumexp,
    logit,
    logspace,
    logsumexp,
    ndtr,
    ndtri,
    norm,
    one_hot,
    ones,
    polygamma,
    rel_entr,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    solve_triangular,
    step,
    stop_gradient,
    top_k,
    tri,
    xlog1py,
    xlogy,
    zeros,
)
from graphc.ir.dims import Dim, dim_max, dim_min
from graphc.ir.errors import (
    CompileError,
    DeclarationError,
    DeviceError,
    DifferentiationError,
    FeedError,
    GraphcError,
    GraphcWarning,
)
from graphc.layers import Dense
from graphc.leaves import Input, Param
from graphc.losses import accuracy, binary_cross_entropy, cross_entropy, mse
from graphc.planner import Planner
from graphc.views import View

if _TYPE_CHECKING:
    from graphc.function_transforms import custom_vjp, vmap
    from graphc.gradient_check import check_grad
    from graphc.optimizers import SGD, Adam
    from graphc.program import Program, compile
    from graphc.targets import Cuda
    from graphc.trainer import Trainer
    from graphc.transforms import grad, hessian, hvp, jacobian, jvp, vjp

# Where the names are that are imported later.
_LATER = {
    **dict.fromkeys(("SGD", "Adam"), "graphc.optimizers"),
    **dict.fromkeys(("Program", "compile"), "graphc.program"),
    "Cuda": "graphc.targets",
    **dict.fromkeys(("custom_vjp", "vmap"), "graphc.function_transforms"),
    **dict.fromkeys(("grad", "hessian", "hvp", "jacobian", "jvp", "vjp"), "graphc.transforms"),
    "Trainer": "graphc.trainer",
    "check_grad": "graphc.gradient_check",
}

__all__ = [
    "SGD",
    "Adam",
    "CompileError",
    "Cuda",
    "DeclarationError",
    "Dense",
    "DeviceError",
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
    "betaln",
    "binary_cross_entropy",
    "check_grad",
    "cho_solve",
    "compile",
    "cross_entropy",
    "cummax",
    "cummin",
    "custom_vjp",
    "digamma",
    "dim_max",
    "dim_min",
    "elu",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "expit",
    "eye",
    "full",
    "gammaln",
    "gelu",
    "geomspace",
    "grad",
    "hessian",
    "hvp",
    "i0",
    "i1",
    "identity",
    "jacobian",
    "jvp",
    "kl_div",
    "leaky_relu",
    "linear_recurrence",
    "linspace",
    "log_ndtr",
    "log_sigmoid",
    "log_softmax",
    "logcumsumexp",
    "logit",
    "logspace",
    "logsumexp",
    "mse",
    "ndtr",
    "ndtri",
    "norm",
    "one_hot",
    "ones",
    "polygamma",
    "rel_entr",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "solve_triangular",
    "step",
    "stop_gradient",
    "top_k",
    "tri",
    "vjp",
    "vmap",
    "xlog1py",
    "xlogy",
    "zeros",
]


def __getattr__(name: str) -> object:
    """Import what is asked for the first time."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(_import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
