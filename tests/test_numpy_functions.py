"""Every public function of NumPy that a view can reach works, or says by name that it does not; nothing fails raw."""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import DeclarationError, Input, View, dispatch
from graphc.dispatch import FUNCTIONS, HINTS, SHAPELESS, UFUNCS


def public() -> dict[Any, str]:
    """NumPy's functions and those of np.linalg, by the name a user writes."""
    found: dict[Any, str] = {}
    for prefix, module in (("np", np), ("np.linalg", np.linalg)):
        for name in dir(module):
            value = getattr(module, name)
            if not name.startswith("_") and callable(value) and not isinstance(value, type):
                found.setdefault(value, f"{prefix}.{name}")
    return found


NAMES = public()
x = Input((3, 3), name="x")
DISPATCHED = [f for f in NAMES if hasattr(f, "_implementation") and f not in FUNCTIONS]
REFUSED_UFUNCS = [f for f in NAMES if isinstance(f, np.ufunc) and f not in UFUNCS]


@pytest.mark.parametrize("function", DISPATCHED, ids=NAMES.get)
def test_a_function_that_is_not_there_says_so_by_name(function: Callable[..., Any]) -> None:
    for count in (2, 1, 3, 4, 5):
        try:
            function(*[x] * count)
        except DeclarationError as error:
            name = f"np.linalg.{function.__name__}" if NAMES[function].startswith("np.linalg") else NAMES[function]
            shapeless = function.__name__ in SHAPELESS
            message = "of a view has a shape that depends on its values" if shapeless else "does not work on views yet"
            assert f"{name} {message}" in str(error)
            hint = str(error).partition(f"{message}\n  ")[2]
            assert hint == {**HINTS, **SHAPELESS}.get(function.__name__, hint)
            return
        except TypeError as error:  # of the number of arguments
            assert "argument" in str(error), error
    pytest.fail(f"{NAMES[function]} never asked the view")


@pytest.mark.parametrize("function", REFUSED_UFUNCS, ids=NAMES.get)
def test_a_ufunc_that_is_not_there_says_so_by_name(function: np.ufunc) -> None:
    with pytest.raises(DeclarationError, match=f"np.{function.__name__} does not work on views yet"):
        function(*[x] * function.nin)


def test_what_works_is_found_by_numpys_own_names() -> None:
    names = {name for function, name in NAMES.items() if function in FUNCTIONS or function in UFUNCS}
    assert {"np.tile", "np.linalg.trace", "np.trace", "np.exp", "np.einsum"} <= names
    assert len([*FUNCTIONS]) == len([function for function in FUNCTIONS if function in NAMES])


def test_no_function_is_dispatched_twice() -> None:
    """The tables are literals of keys and of other tables: a later entry would silently replace an earlier one."""
    tree = ast.parse(inspect.getsource(dispatch))
    literals = [
        node.value for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in ("UFUNCS", "FUNCTIONS")
    ]  # fmt: skip
    found: dict[Any, Any] = {}
    for literal in literals:
        assert isinstance(literal, ast.Dict)
        for key, value in zip(literal.keys, literal.values, strict=True):
            given = eval(compile(ast.Expression(value), "dispatch.py", "eval"), vars(dispatch))
            name = key and eval(compile(ast.Expression(key), "dispatch.py", "eval"), vars(dispatch))
            for function, ours in given.items() if key is None else [(name, given)]:
                # np.permute_dims is np.transpose: one function under two names
                assert found.setdefault(function, ours) is ours, function
    assert found.keys() == {*UFUNCS, *FUNCTIONS}


# What NumPy takes by name only is taken by place too.
BY_PLACE_TOO = {"np.linalg.tensordot": ["axes"], "np.unstack": ["axis"]}


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f in NAMES], ids=NAMES.get)
def test_parameters_have_numpys_names_and_order(function: Callable[..., Any]) -> None:
    """What NumPy passes by name or place is what the function takes for it."""
    try:
        theirs = inspect.signature(function).parameters
    except ValueError:  # written in C, without a signature
        return
    ours = inspect.signature(FUNCTIONS[function]).parameters
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(one.kind in variable for one in (*ours.values(), *theirs.values())):
        return
    by_place = [one.kind is inspect.Parameter.POSITIONAL_ONLY for one in theirs.values()]
    assert [name for k, name in enumerate(ours) if name not in theirs and not by_place[k]] == []
    in_order, in_their_order = (
        [name for name, one in parameters.items() if one.kind is not inspect.Parameter.KEYWORD_ONLY]
        for parameters in (ours, theirs)
    )
    assert in_order[len(in_their_order) :] == BY_PLACE_TOO.get(NAMES[function], [])
    for k, (name, their_name) in enumerate(zip(in_order, in_their_order, strict=False)):
        assert name == their_name or by_place[k], f"{name} stands where NumPy has {their_name}"


n, k, s = Input(("N",), name="n"), Input((3,), "int64", name="k"), Input((), name="s")
HERE = str(Path(graphc.__file__).parent)
JUNK = (x, n, k, s, "?!", 1.5, None, 7, -1, (0, 1), [x, n], (x,), [], ((1, 2), (3, 4)), {}, True)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_whatever_it_is_given_it_works_or_is_refused(function: Callable[..., Any]) -> None:
    """What a function that works on views cannot make sense of is graphc's error, not one from its inside."""
    firsts = (x, n, s, [x, x], [n])
    some = itertools.product(firsts), itertools.product(firsts, JUNK), itertools.product((x,), JUNK, JUNK)
    for args in itertools.chain(*some):
        try:
            function(*args)
        except DeclarationError:
            pass
        except Exception as error:
            # NumPy's own complaint about the call is fine: it never came to the view.
            frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            assert not any(frame.startswith(HERE) for frame in frames), (args, error)


def test_hints_are_for_functions_that_numpy_has_and_views_have_not() -> None:
    for name in HINTS:
        assert hasattr(np, name), difflib.get_close_matches(name, dir(np))
        assert getattr(np, name) not in FUNCTIONS
    assert isinstance(x, View)
