"""One scalar operation becomes a Python expression: templates filled in, numbers typed, parentheses where needed.

Expressions are Python's own syntax trees; `ast.unparse` knows where parentheses go. Numba widens small integers and
takes a bare 0.5 for a float64, so numbers carry their dtype in the text, and results of small integers are wrapped.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np

from graphc.codegen import vector_math
from graphc.ir.dims import Dim, Extent, Opaque
from graphc.ir.half import DOUBLE, SINGLE
from graphc.ir.loops import Affine, Const
from graphc.ir.ops import OPS
from graphc.ir.types import is_half

# What integers and booleans do otherwise than the ops' templates, which are floats'.
_INTEGER_TEMPLATES: dict[str, str] = dict.fromkeys(("floor", "ceil", "rint", "trunc"), "{0}")
_BOOL_TEMPLATES: dict[str, str] = {"maximum": "{0} | {1}", "minimum": "{0} & {1}"}
_WRAP = {"int64": "{0} + {1} if {0} < 0 else {0}", "int": "int64({0}) + {1} if {0} < 0 else {0}", "uint": "{0}"}
_KEEPS_DTYPE = frozenset(("where", "anchor", "stop_gradient", "cast"))
TO_FLOAT = {"float16": "half_to_float", "bfloat16": "bfloat_to_float"}
FROM_FLOAT = {"float16": "float_to_half", "bfloat16": "float_to_bfloat"}
_NATURAL = frozenset(("int64", "float64", "bool"))  # the dtypes of Python's own numbers, in Numba and NumPy alike


@dataclass(frozen=True, slots=True)
class Template:
    """An expression with holes, ``hole_0 + hole_1``.

    `uses` counts each hole, `branches` are those in the arms of a conditional; `bare` is a hole by itself.
    """

    text: str
    uses: tuple[int, ...]
    branches: frozenset[int]
    bare: bool


def template(op: str, dtype: np.dtype, operand: np.dtype) -> Template:
    """The Python expression of an op with a result of `dtype` on operands of dtype `operand`."""
    if op == "wrap":
        return _parse(_WRAP.get(operand.name) or _WRAP["uint" if operand.kind == "u" else "int"])
    if op == "cast":
        return _parse(_cast_text(dtype, operand))
    text = OPS[op].scalar
    assert text is not None, f"{op} is no scalar operation"
    if operand.kind in "iu":
        text = _INTEGER_TEMPLATES.get(op, text)
    elif operand.kind == "b":
        text = _BOOL_TEMPLATES.get(op, text)
    exact = op in _KEEPS_DTYPE or text == "{0}" or text.partition("(")[0] in vector_math.__all__
    if dtype.kind in "iu" and dtype.name != "int64" and not exact:
        text = f"{dtype.name}({text})"
    return _parse(text)


def fill(template: Template, args: Sequence[ast.expr]) -> ast.expr:
    """The expression with its holes filled; the template is left as it is."""
    filled = _Fill(args).visit(ast.parse(template.text, mode="eval").body)
    assert isinstance(filled, ast.expr)
    return filled


def number(value: Any, dtype: np.dtype, dims: Mapping[str, str]) -> ast.expr:
    """A typed number: ``0.5``, ``float32(0.5)``, ``uint8(3)``, ``float32(N)``."""
    if isinstance(value, Dim):
        size = extent(value, dims)
        if is_half(dtype):
            return call(FROM_FLOAT[dtype.name], call("float64", size))
        return size if dtype.name == "int64" else call(dtype.name, size)
    if is_half(dtype):
        return call("uint16", integer(int(np.asarray(value).view(np.uint16))))
    plain = _literal(value, dtype)
    return plain if dtype.name in _NATURAL else call(dtype.name, plain)


def constant(const: Const, dims: Mapping[str, str]) -> ast.expr:
    """The number that a `Const` is."""
    return number(const.value, const.dtype, dims)


def extent(value: Extent, dims: Mapping[str, str]) -> ast.expr:
    """An extent as integer arithmetic over the names of dims."""
    if not isinstance(value, Dim):
        return integer(value)
    terms: list[tuple[ast.expr | None, int]] = []
    for monomial, coefficient in value.terms:
        factors = [ast.Name(dims[atom]) if isinstance(atom, str) else _opaque(atom, dims) for atom in monomial]
        terms.append((_product(factors), coefficient))
    return _sum(terms)


def affine(index: Affine, variables: Mapping[str, ast.expr], dims: Mapping[str, str]) -> ast.expr:
    """An affine index as integer arithmetic."""
    terms: list[tuple[ast.expr | None, int]] = []
    for variable, coefficient in index.terms:
        name = variables[variable]
        if isinstance(coefficient, Dim):
            terms.append((ast.BinOp(extent(coefficient, dims), ast.Mult(), name), 1))
        else:
            terms.append((name, coefficient))
    if isinstance(index.offset, Dim):
        terms.append((extent(index.offset, dims), 1))
    elif index.offset or not terms:
        terms.append((None, index.offset))
    return _sum(terms)


def integer(value: int) -> ast.expr:
    """An integer literal."""
    return ast.UnaryOp(ast.USub(), ast.Constant(-value)) if value < 0 else ast.Constant(value)


def call(function: str, *args: ast.expr) -> ast.expr:
    """``function(*args)``."""
    return ast.Call(ast.Name(function), list(args), [])


def subscript(array: str, index: Sequence[ast.expr]) -> ast.expr:
    """``array[i, j]``, and ``array[()]`` for an array without axes."""
    return ast.Subscript(ast.Name(array), index[0] if len(index) == 1 else ast.Tuple(list(index)))


def is_atom(tree: ast.expr) -> bool:
    """Whether an expression is a name or a number: nothing to compute, and readable anywhere."""
    if isinstance(tree, ast.Call) and len(tree.args) == 1 and isinstance(tree.func, ast.Name):
        return isinstance(tree.args[0], ast.Constant) and tree.func.id in np.sctypeDict
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return isinstance(tree.operand, ast.Constant)
    return isinstance(tree, ast.Name | ast.Constant)


# ----------------------------------------------------------------------------------------------------------------------


def _cast_text(dtype: np.dtype, operand: np.dtype) -> str:
    """The expression of a conversion; of and to halves, whose bits scalars hold, by way of float32 or float64."""
    value = "{0}"
    if is_half(operand):
        value, operand = f"{TO_FLOAT[operand.name]}({value})", SINGLE
    if is_half(dtype):
        wide = operand if operand.kind == "f" else SINGLE if operand.itemsize <= 2 else DOUBLE
        return f"{FROM_FLOAT[dtype.name]}({value if operand == wide else f'{wide.name}({value})'})"
    if dtype.kind == "b":
        return f"{value} != 0"
    return value if dtype == operand and value != "{0}" else f"{dtype.name}({value})"


class _Fill(ast.NodeTransformer):
    def __init__(self, args: Sequence[ast.expr]) -> None:
        self.args = args

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.args[int(node.id[5:])] if node.id.startswith("hole_") else node


def _parse(text: str) -> Template:
    # Operands are {0}, {1}, ...; a named field ({n}) is the attribute that follows them.
    fields = [field for _, field, _, _ in Formatter().parse(text) if field is not None]
    order = sorted(set(fields), key=lambda field: (not field.isdigit(), field))
    holes = {field: f"hole_{place}" for place, field in enumerate(order)}
    filled = "".join(
        part + (holes[field] if field is not None else "") for part, field, _, _ in Formatter().parse(text)
    )
    tree = ast.parse(filled, mode="eval").body
    arms = [arm for choice in ast.walk(tree) if isinstance(choice, ast.IfExp) for arm in (choice.body, choice.orelse)]
    branches = frozenset(hole for arm in arms for hole in _holes(arm))
    return Template(filled, tuple(fields.count(field) for field in order), branches, isinstance(tree, ast.Name))


def _holes(tree: ast.expr) -> list[int]:
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return [int(name[5:]) for name in names if name.startswith("hole_")]


def _literal(value: Any, dtype: np.dtype) -> ast.expr:
    if dtype.kind == "b":
        return ast.Constant(bool(value))
    if dtype.kind in "iu":
        return integer(int(value))
    if np.isnan(value):
        return ast.Name("nan")
    text = str(abs(value))  # the shortest decimals that name it in its own dtype
    digits = float(text) if dtype.type(float(text)) == abs(value) else float(abs(value))
    magnitude: ast.expr = ast.Name("inf") if np.isinf(value) else ast.Constant(digits)
    return ast.UnaryOp(ast.USub(), magnitude) if np.signbit(value) else magnitude


def _opaque(atom: Opaque, dims: Mapping[str, str]) -> ast.expr:
    left, right = extent(atom.left, dims), extent(atom.right, dims)
    return ast.BinOp(left, ast.FloorDiv(), right) if atom.op == "//" else call(atom.op, left, right)


def _product(factors: Sequence[ast.expr]) -> ast.expr | None:
    if not factors:
        return None
    total = factors[0]
    for factor in factors[1:]:
        total = ast.BinOp(total, ast.Mult(), factor)
    return total


def _sum(terms: Sequence[tuple[ast.expr | None, int]]) -> ast.expr:
    """``a + 2 * b - c - 3``: terms with integer coefficients, None for the term 1."""
    total: ast.expr | None = None
    for factor, coefficient in sorted(terms, key=lambda term: term[1] < 0) if terms[0][1] < 0 else terms:
        size = integer(abs(coefficient))
        term = size if factor is None else factor if abs(coefficient) == 1 else ast.BinOp(size, ast.Mult(), factor)
        if total is None:
            total = term if coefficient >= 0 else _negative(factor, coefficient)
        else:
            total = ast.BinOp(total, ast.Sub() if coefficient < 0 else ast.Add(), term)
    assert total is not None
    return total


def _negative(factor: ast.expr | None, coefficient: int) -> ast.expr:
    if factor is None:
        return integer(coefficient)
    if coefficient == -1:
        return ast.UnaryOp(ast.USub(), factor)
    return ast.BinOp(integer(coefficient), ast.Mult(), factor)
