"""Python functions that compiled code lowers straight to LLVM: the compile time of an intrinsic, callable everywhere.

An `@overload` compiles a wrapper for each combination of argument types (some 20 ms each); an `@intrinsic` compiles
none, but means nothing outside compiled code. `lowers` gives a Python function the latter's cost and leaves its body.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import infer_global, make_intrinsic_template
from numba.np.arrayobj import make_array, populate_array

Definition = Callable[..., Any]


def lowers(function: Callable[..., Any], literals: bool = False) -> Callable[[Definition], Definition]:
    """Make the decorated definition what `function` means in compiled code.

    Parameters
    ----------
    function
        A Python function; it keeps its own meaning when Python calls it.
    literals
        Whether the definition sees numbers in the text of the caller as such.

    Returns
    -------
    Callable
        A decorator for a definition as `numba.extending.intrinsic` takes it: called with the typing context and the
        argument types, it returns a signature and a code generator. Its defaults must be those of `function`; the
        signature lists every argument, and the caller casts to it.
    """

    def register(definition: Definition) -> Definition:
        template = make_intrinsic_template(function, definition, function.__name__, prefer_literal=literals)
        infer_global(function, types.Function(template))
        return definition

    return register


def contiguous_view(
    context: Any, builder: Any, array_type: types.Array, data: Any, shape: Sequence[Any], meminfo: Any = None
) -> Any:
    """Build the array struct of a C-contiguous view of `shape` (LLVM integers) that starts at the pointer `data`.

    Without `meminfo` the view owns nothing: it must not outlive the expression that made it.
    """
    element = context.get_data_type(array_type.dtype)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(element))
    strides, stride = [], itemsize
    for extent in reversed(shape):
        strides.append(stride)
        stride = builder.mul(stride, extent)
    view = make_array(array_type)(context, builder)
    populate_array(
        view,
        data=builder.bitcast(data, element.as_pointer()),
        shape=cgutils.pack_array(builder, shape, cgutils.intp_t),
        strides=cgutils.pack_array(builder, strides[::-1], cgutils.intp_t),
        itemsize=itemsize,
        meminfo=meminfo,
    )
    return view._getvalue()


def attribute(function: ir.Function, name: str, value: str) -> None:
    """Give an LLVM function an attribute that llvmlite does not know, ``"name"="value"``."""
    set.add(function.attributes, f'"{name}"="{value}"')
