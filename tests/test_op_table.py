"""The op table of the documentation is what the registry says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from op_samples import DTYPES, samples

from graphc.ir.errors import DeclarationTypeError
from graphc.ir.op_table import op_table
from graphc.ir.ops import OPS

ROOT = Path(__file__).resolve().parents[1]


def test_the_file_is_current() -> None:
    assert (ROOT / "ir" / "OPS.md").read_text(encoding="utf-8") == f"{op_table()}\n", (
        "out of date: python -m graphc.ir.op_table > ir/OPS.md"
    )


def test_the_module_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphc.ir.op_table"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{op_table()}\n"


def test_every_op_has_its_row() -> None:
    rows = [line.split(" | ") for line in op_table().splitlines() if line.startswith("| ")]
    named = {row[0].removeprefix("| "): row for row in rows}
    assert set(OPS) <= set(named)
    for op in OPS.values():
        assert all(f"`{name}`" in named[op.name][1] for name in op.numpy)
        assert named[op.name][-1].replace("\\*", "*") == f"{op.note} |"


@pytest.mark.parametrize("name", OPS)
def test_elements_are_what_the_type_rules_take(name: str) -> None:
    op, cases = OPS[name], list(samples(name))
    if any(attribute in ("dtype", "value") for attribute, _ in cases[0].node.attrs):
        return  # the dtype is an attribute, and that of no operand
    place = -1 if name == "where" else 0  # not the condition
    case = next((one for one in cases if one.node.operands[place].type.is_float), cases[0])
    types, attrs = [operand.type for operand in case.node.operands], dict(case.node.attrs)
    for dtype in map(np.dtype, DTYPES):
        given = [type.with_dtype(dtype) if type.dtype == types[place].dtype else type for type in types]
        if dtype.kind in op.accepts:
            op.infer(*given, **attrs)
        else:
            with pytest.raises(DeclarationTypeError, match=f"{name} "):
                op.infer(*given, **attrs)


def test_some_rows() -> None:
    table = op_table()
    for row in (
        "| exp | `exp` | floats | partials |",
        "| add | `add` | numbers | partials |",
        "| where | `where` | any | by hand |",
        "| invert | `invert`, `bitwise_not` | integers | none |",
        "| logical_not | `logical_not` | bool | none |",
        "| sign | `sign` | numbers | zero | 0 at 0 |",
        "`einsum` | numbers | bilinear |",
    ):
        assert row in table
