"""graphc: a static graph compiler from symbolic expressions to readable Numba functions.

Declare a computation as a `Planner` of views, derive its adjoint, fuse both, and call, read or ship the emitted
functions.
"""

from pathlib import Path as _Path

# Installed, graphc.ir, graphc.passes and graphc.codegen lie inside this folder; in a checkout, beside it.
if not (_Path(__file__).parent / "ir").is_dir():
    __path__.append(str(_Path(__file__).parents[1]))
