"""The workloads of the benchmarks compute what hand-written NumPy does, and the command shows what fails. No timing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import Measured, Result, compare
from benchmarks.process import Worker, WorkerError
from benchmarks.report import block, markdown, seconds
from benchmarks.startup import LIMITS, Startup, exceeded
from benchmarks.worker import timed
from benchmarks.workload import REFERENCE, Workload, gradients, training
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.tanh_network import DIGITS

ROOT = Path(__file__).resolve().parents[1]


def first_results(
    workload: Workload, implementation: str, dtype: Any = None, target: str = "cpu"
) -> dict[str, np.ndarray]:
    data = workload.arrays(quick=True)
    if dtype is not None:
        data = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in data.items()}
    run = workload.build(implementation, data, target)
    first = run.step()
    run.wait(first)
    return {name: np.asarray(value) for name, value in run.read(first).items()}


def check(workload: Workload, implementation: str, target: str = "cpu") -> None:
    expected = first_results(workload, REFERENCE, np.float64)
    found = first_results(workload, implementation, target=target)
    _, complaint = compare(found, expected, workload.tolerance)
    assert (complaint, expected.keys() - found.keys()) == ("", set())
    assert any(np.any(array != 0) for array in expected.values())


EACH = [
    pytest.param(workload, name, id=f"{workload.name}-{name}")
    for workload in [*WORKLOADS.values(), DIGITS]
    for name in ("graphc", "graphc.interpret")
    if name in workload.builders
]


@pytest.mark.parametrize(("workload", "implementation"), EACH)
def test_graphc_agrees_with_numpy(workload: Workload, implementation: str) -> None:
    check(workload, implementation)


def test_all_workloads_of_the_table_are_there() -> None:
    assert len(WORKLOADS) == 13
    assert all(name == workload.name for name, workload in WORKLOADS.items())
    assert all("graphc" in workload.builders and workload.target for workload in WORKLOADS.values())


def test_a_maker_becomes_all_implementations_of_its_library() -> None:
    def maker() -> Callable[..., Any]:
        raise AssertionError("libraries are imported in the worker")

    expected = ["torch", "torch.compile", "torch.graphs", "jax", "pytensor", "pytensor.c"]
    assert list(gradients(("x",), torch=maker, jax=maker, pytensor=maker)) == expected
    expected = ["graphc", "graphc.interpret", "graphc.cpu", "numpy"]
    assert list(training(("x",), 0.1, (), graphc=maker, numpy=maker)) == expected


def test_wrong_results_are_found() -> None:
    right = {"loss": np.array(1.0), "w": np.array([1.0, 2.0])}
    assert compare(right, right, 1e-6) == (0.0, "")
    off = compare({**right, "w": np.array([1.0, 2.1])}, right, 1e-3)
    assert off[1] == "wrong: w is off by 5.0e-02 of its largest element"
    assert compare({**right, "w": np.array([1.0, np.nan])}, right, 1e-3)[1].startswith("wrong: w is off by nan")
    assert compare({"w": right["w"][:, None]}, right, 1e-3)[1] == "w has shape (2, 1), expected (2,)"
    assert compare({"loss": right["loss"]}, right, 1e-3)[1] == "w is missing"
    assert compare({}, right, 1e-3) == (0.0, "")  # plain copying computes nothing


def test_ratio_is_to_the_best_peer_that_is_right() -> None:
    workload = WORKLOADS["adam"]
    measured = {
        "graphc": Measured("graphc", 0.002, first_call=1.0, warm_start=0.25, memory=2**30),
        "jax": Measured("jax", 0.006),
        "torch": Measured("torch", 0.004),
        "numpy": Measured("numpy", 0.001, failure="wrong: w is off"),
        "copy": Measured("copy", 0.001),
        "pytensor": Measured("pytensor", failure="pytensor is not installed"),
    }
    result = Result(workload, measured, 0.001, 0.0024)
    lines = block(result).splitlines()
    assert [line.split()[0] for line in lines[2:8]] == ["copy", "graphc", "torch", "jax", "numpy", "pytensor"]
    assert lines[2].endswith("shown beside")
    assert lines[4].split() == ["torch", "4", "ms", "2", "x", "-", "-", "-", "best", "peer"]
    assert lines[7].endswith("failed: pytensor is not installed")
    assert lines[8:] == ["  torch / graphc: 2 x, at least 1 x: met", "  graphc / copy: 2 x, at most 1.3 x: missed"]
    assert markdown([result]).splitlines()[2] == (
        "| Adam update of 10^7 parameters, f32 | 2 ms | torch 4 ms | 2 x | 1 x | 1 s | 250 ms | 1024 MiB | 2.4 x |"
    )


def test_a_table_without_peers_is_still_a_table() -> None:
    result = Result(WORKLOADS["tiny_step"], {"graphc": Measured("graphc", failure="RuntimeError: no\nlong story")})
    assert "failed: RuntimeError: no" in block(result)
    assert "| failed | - | - | 5 x |" in markdown([result])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (2.5, "2.5 s"), (0.0123456, "12.3 ms"), (1e-6, "1 us"), (4.56e-7, "456 ns"), (1234.0, "1234 s")],
)
def test_times_are_readable(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_start_up_limits_are_over_their_base() -> None:
    lines = [Startup("import", "numba", 0.25), Startup("import", "graphc", 0.375)]
    assert exceeded(LIMITS[0], lines) == (0.375, 0.45)
    assert exceeded(LIMITS[1], lines) is None


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def command(*arguments: str, path: Path = ROOT, **variables: str) -> str:
    done = run("benchmarks", *arguments, PYTHONPATH=str(path), **variables)
    done.check_returncode()
    return done.stdout


def test_the_command_lists_every_workload() -> None:
    assert [line.split()[0] for line in command("--list").splitlines()] == [*WORKLOADS, "startup"]


def test_the_command_shows_what_fails_and_times_the_rest(tmp_path: Path) -> None:
    for package, text in {"pytensor": "raise RuntimeError('broken')", "jax": "import os; os._exit(3)"}.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(text)
    path = tmp_path / "results.json"
    only = "numpy,jax,pytensor,nonsense"
    text = command("tiny_step", "--quick", "--only", only, "--json", str(path), path=tmp_path)
    (workload,) = json.loads(path.read_text())["workloads"]
    found = {each["implementation"]: each for each in workload["implementations"]}
    assert found.keys() == {"numpy", "jax", "pytensor"}
    assert found["numpy"]["step"] > 0
    assert found["numpy"]["error"] < 1e-3
    assert found["jax"]["failure"] == "ended with status 3"
    assert found["pytensor"]["failure"] == "RuntimeError: broken"
    assert "failed: RuntimeError: broken" in text
    assert workload["best_peer"] == "numpy"


def test_a_worker_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    worker = Worker("tiny_step", "numpy", quick=True, threads=1, cache=tmp_path)
    with pytest.raises(WorkerError, match="no answer within 0 s"):
        worker.ask("build", 0.0, results=str(tmp_path / "results.npz"))
    worker.close()


def test_batches_are_waited_for_before_and_after() -> None:
    events: list[str] = []
    times, batch = timed(lambda: events.append("step"), 0.0, 3, lambda _: events.append("wait"))
    assert events == ["step", "wait", "step", "step", "step", "wait"]
    assert (len(times), batch) == (1, 3)
