"""The op table of the documentation is what the registry says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_elements_are_what_the_type_rules_take() -> None:
    table = op_table()
    for row in (
        "| exp | `exp` | floats | partials |",
        "| add | `add` | numbers | partials |",
        "| where | `where` | any | by hand |",
        "| invert | `invert`, `bitwise_not` | integers | none |",
        "| logical_not | `logical_not` | bool | none |",
        "| sign | `sign` | numbers | zero | 0 at 0 |",
    ):
        assert row in table
