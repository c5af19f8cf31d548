"""In-place reuse: whose memory a result may take, and that programs say so."""

import numpy as np
import pytest

from graphc.ir.loop_interpret import interpret_program
from graphc.ir.loop_text import parse_program, print_program
from graphc.ir.loop_verify import verify_program
from graphc.passes.memory import PlanMemory

PROGRAM = """
program @p(x) dims(N) {{
  input x: f64[N,4]
  arena a: f64[N,4]
  output y: f64[N,4]
  output z: f64[N]

  kernel a {{
    for i in N parallel {{
      for j in 4 serial {{
        u = x[i, j]
        v = exp(u) : f64
        store a[i, j] = v
      }}
    }}
  }}

  kernel y {{
    for i in N parallel {{
{body}
    }}
  }}

  return y, z
}}
"""
SAFE = {
    "the same element": "for j in 4 serial { u = a[i, j] v = square(u) : f64 store y[i, j] = v }  store z[i] = 0.0",
    "all of the row before": """
        var t: f64 = 0.0 for j in 4 reduce { u = a[i, j] t += u } store z[i] = t
        for j in 4 serial { u1 = a[i, j] v = divide(u1, t) : f64 store y[i, j] = v }""",
    "in pieces": """
        for t in 2 serial { for j in 4 serial piece t of 2 { u = a[i, j] v = square(u) : f64 store y[i, j] = v } }
        store z[i] = 0.0""",
}
UNSAFE = {
    "the row again": """
        var t: f64 = 0.0 for j in 4 serial { u = a[i, j] v = square(u) : f64 store y[i, j] = v }
        for j in 4 reduce { u1 = a[i, j] t += u1 } store z[i] = t""",
    "another element": "for j in 4 serial { u = a[i, 3-j] v = square(u) : f64 store y[i, j] = v }  store z[i] = 0.0",
    "a row for each element": """
        for j in 4 serial { var t: f64 = 0.0 for k in 4 reduce { u = a[i, k] t += u } store y[i, j] = t }
        store z[i] = 0.0""",
    "another row": "for j in 4 serial { u = a[N-1-i, j] store y[i, j] = u }  store z[i] = 0.0",
    "several times": """
        for k in 3 serial { for j in 4 serial { u = a[i, j] v = square(u) : f64 store y[i, j] = v } }
        store z[i] = 0.0""",
    "beside pieces": """
        for t in 2 serial { for j in 4 serial { u = a[i, j] v = square(u) : f64 store y[i, j] = v }
        for k in 4 serial piece t of 2 { store z[i] = 0.0 } }""",
}


@pytest.mark.parametrize("body", [*SAFE, *UNSAFE])
def test_a_result_takes_the_memory_of_what_is_read_before_it(body):
    program = parse_program(PROGRAM.format(body=(SAFE | UNSAFE)[body]))
    verify_program(program)
    planned = PlanMemory().run(program)
    verify_program(planned)
    assert ("arena a" not in print_program(planned)) == (body in SAFE)
    x = np.random.default_rng(0).normal(size=(5, 4))
    expected, found = (interpret_program(each, {"x": x}) for each in (program, planned))
    for name in ("y", "z"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_read_later_keeps_its_memory():
    text = PROGRAM.format(body=SAFE["the same element"]).replace(
        "  return",
        "  kernel w { for i in N parallel { u = a[i, 0] store z[i] = u } }\n  return",
    )
    assert "arena a" in print_program(PlanMemory().run(parse_program(text)))
