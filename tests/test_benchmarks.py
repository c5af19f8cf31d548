"""The workloads of the benchmarks compute what hand-written NumPy does, and the command shows what fails. No timing."""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import Measured, Result, compare
from benchmarks.process import Worker, WorkerError, environment
from benchmarks.report import block, libraries, markdown, seconds
from benchmarks.startup import LIMITS, Startup, exceeded
from benchmarks.worker import timed
from benchmarks.workload import IMPLEMENTATIONS, REFERENCE, Workload, gradients, training
from benchmarks.workloads import BY_TARGET, WORKLOADS
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


# on a GPU -------------------------------------------------------------------------------------------------------------

ON_GPU = BY_TARGET["cuda"]


def needs_gpu() -> None:
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("needs an NVIDIA GPU, or NUMBA_ENABLE_CUDASIM=1")


@pytest.mark.parametrize("name", ON_GPU)
def test_graphc_on_a_gpu_agrees_with_numpy(name: str) -> None:
    needs_gpu()
    check(ON_GPU[name], "graphc", "cuda")


def test_graphc_on_a_gpu_has_its_data_there_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_gpu()
    from numba import cuda

    def upload(array: np.ndarray) -> Any:
        raise AssertionError(f"{array.shape} was still on the host")

    runs = [
        ON_GPU[name].build("graphc", ON_GPU[name].arrays(quick=True), "cuda")
        for name in ("expression_f32", "tiny_step", "adam", "product_1024")
    ]
    for each in runs:
        each.step()  # parameters and constants follow
    waited: list[int] = []
    monkeypatch.setattr(cuda, "to_device", upload)
    monkeypatch.setattr(cuda, "synchronize", lambda: waited.append(1))
    for each in runs:
        each.wait(each.step())
    assert waited == [1] * len(runs)


def test_floors_of_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    needs_gpu()
    from benchmarks import floors

    def missing(data: Any, target: str) -> Any:
        raise ImportError(f"no library for {sorted(data)} on {target}")

    for name, value in {"COPIED_ON_GPU": 64, "SECONDS": 0.0, "by_cublas": missing, "by_torch_on": missing}.items():
        monkeypatch.setattr(floors, name, value)
    floors.on_gpu()
    first, *products = capsys.readouterr().out.splitlines()
    assert first.startswith("copy: ") and first.endswith(" GB/s read and written")
    assert "4096 x 4096 x 4096, large matrices" in products[-1]
    assert "cuBLAS is missing (no library for ['a', 'b'] on cuda)" in products[-1]


def test_gpu_workloads_in_the_simulator() -> None:
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    options = ["-q", "-x", "-p", "no:cacheprovider", "-k", "test_graphc_on_a_gpu or test_floors_of_a_gpu", __file__]
    done = run("pytest", *options, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stdout[-5000:]
    assert " skipped" not in done.stdout.splitlines()[-1]


def test_the_command_measures_a_gpu(tmp_path: Path) -> None:
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    path = tmp_path / "results.json"
    only = "graphc,graphc.cpu,copy,pytensor"
    text = command("adam", "--target", "cuda", "--quick", "--only", only, "--json", str(path), NUMBA_ENABLE_CUDASIM="1")
    facts = json.loads(path.read_text())
    (workload,) = facts["workloads"]
    found = {each["implementation"]: each for each in workload["implementations"]}
    assert found.keys() == {"graphc", "graphc.cpu", "copy"}  # PyTensor has no GPU
    assert [each["failure"] for each in found.values()] == [""] * 3
    assert found["copy"]["traffic"] == 7 * 4 * 50  # f32, at trial size
    assert facts["settings"]["target"] == "cuda"
    assert facts["machine"]["card"] == "numba-cuda's simulator"
    assert f"driver {facts['machine']['driver']}, CUDA -1.-1, {facts['machine']['date']}" in text
    assert "% of copy bandwidth, which is" in text
    assert "| workload | graphc | best peer | ratio | at least | of the floor | over the CPU |" in text


def test_without_a_gpu_the_command_says_so_in_a_line() -> None:
    for program in ("benchmarks", "benchmarks.floors"):
        done = run(program, "--target", "cuda", NUMBA_ENABLE_CUDASIM="0", CUDA_VISIBLE_DEVICES="")
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"python -m {program}: the target 'cuda' ")


def test_what_is_for_a_cpu_alone_is_refused() -> None:
    for name in ("startup", "logistic_epoch"):
        done = run("benchmarks", name, "--target", "cuda")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith(f"not measured with --target cuda: {name}")
    assert [line.split()[0] for line in command("--list", "--target", "cuda").splitlines()] == [*ON_GPU]


def test_what_differs_on_a_gpu() -> None:
    assert ON_GPU.keys() == WORKLOADS.keys() - {"logistic_epoch"} | {"product_1024", "product_4096"}
    workload, on_cpu = ON_GPU["layer_norm"], WORKLOADS["layer_norm"]
    assert workload.builders.keys() - on_cpu.builders.keys() == {"copy"}
    assert workload.at_most == {"copy": pytest.approx(1 / 0.85)}
    assert workload.sizes["rows"] > on_cpu.sizes["rows"]
    assert workload.traffic is not None
    assert workload.traffic(on_cpu.arrays(quick=True)) == 2 * 4 * (6 * 9 + 9 + 9)
    assert not workload.is_peer("copy")
    for name, each in ON_GPU.items():  # every limit is on what is measured there
        limited = [*each.at_most, *each.at_least]
        assert all(other in each.builders and "cuda" in IMPLEMENTATIONS[other].measured for other in limited), name


def test_peers_on_a_gpu_multiply_in_full_precision(tmp_path: Path) -> None:
    variables = environment(2, tmp_path, "cuda")
    assert (variables["JAX_PLATFORMS"], variables["JAX_DEFAULT_MATMUL_PRECISION"]) == ("cuda", "highest")
    assert variables["NVIDIA_TF32_OVERRIDE"] == "0"
    assert variables.get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")
    assert environment(2, tmp_path)["CUDA_VISIBLE_DEVICES"] == ""


def test_batches_are_waited_for_before_and_after() -> None:
    events: list[str] = []
    times, batch = timed(lambda: events.append("step"), 0.0, 3, lambda _: events.append("wait"))
    assert events == ["step", "wait", "step", "step", "step", "wait"]
    assert (len(times), batch) == (1, 3)


@pytest.mark.parametrize("implementation", ["torch", "jax", "jax.scan"])
@pytest.mark.parametrize("name", ON_GPU)
def test_peers_as_on_a_gpu(name: str, implementation: str) -> None:
    """JAX's steps are not waited for one by one, on whichever device it finds; PyTorch's code names the device."""
    pytest.importorskip(IMPLEMENTATIONS[implementation].package)
    if implementation not in ON_GPU[name].builders:
        pytest.skip("not written")
    check(ON_GPU[name], implementation, "cpu" if implementation == "torch" else "cuda")


def test_torch_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    waited: list[str] = []

    def module(target: str) -> Any:
        return SimpleNamespace(synchronize=lambda: waited.append(target))

    monkeypatch.setattr(torch, "get_device_module", module)
    for count, workload in enumerate(ON_GPU.values(), 1):
        run = workload.build("torch", workload.arrays(quick=True))
        run.wait(run.step())
        assert waited == ["cpu"] * count, workload.name


@pytest.mark.parametrize("name", ["expression_f32", "tiny_step", "adam", "product_1024"])
def test_jax_waits_for_every_step_on_a_cpu_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    waited: list[Any] = []
    monkeypatch.setattr(jax, "block_until_ready", lambda value: waited.append(value) or value)
    for target, in_steps in (("cpu", 3), ("cuda", 0)):
        waited.clear()
        run = ON_GPU[name].build("jax", ON_GPU[name].arrays(quick=True), target)
        last = [run.step() for _ in range(3)][-1]
        assert len(waited) == in_steps
        run.wait(last)
        assert waited[in_steps:] == [last]


class HostArray(np.ndarray):
    """An array that says where it lies as those of a GPU do."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"data": (self.ctypes.data, False)}


def matrix(address: int, rows: int, columns: int) -> np.ndarray:
    """Columns one after the other, as cuBLAS has them."""
    numbers = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(numbers, (columns, rows)).T


def test_the_librarys_own_product_is_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba import cuda

    def sgemm(
        handle: int, turn_a: int, turn_b: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int, ldb: int,
        beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        assert (handle, turn_a, turn_b) == (7, 0, 0)
        assert [matrix(address, 1, 1).item() for address in (alpha, beta)] == [1, 0]
        matrix(c, ldc, n)[:m] = matrix(a, lda, k)[:m] @ matrix(b, ldb, n)[:k]

    bindings = ModuleType("nvmath.bindings")
    bindings.cublas = SimpleNamespace(create=lambda: 7, sgemm=sgemm)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvmath", ModuleType("nvmath"))
    monkeypatch.setitem(sys.modules, "nvmath.bindings", bindings)
    monkeypatch.setattr(cuda, "to_device", lambda array: array.view(HostArray))
    monkeypatch.setattr(cuda, "device_array", lambda shape, dtype: np.zeros(shape, dtype).view(HostArray))
    rng = np.random.default_rng(0)
    data = {"a": rng.normal(size=(2, 3)).astype(np.float32), "b": rng.normal(size=(3, 5)).astype(np.float32)}
    run = ON_GPU["product_1024"].builders["cublas"](data)
    np.testing.assert_allclose(run.read(run.step())["product"], data["a"] @ data["b"], rtol=1e-6)


def test_what_is_said_of_a_gpu() -> None:
    measured = {
        "graphc": Measured("graphc", 0.002, first_call=1.0, warm_start=0.25, versions={"numba-cuda": "1.0"}),
        "graphc.cpu": Measured("graphc.cpu", 0.05),
        "torch": Measured("torch", 0.001, versions={"torch": "2.0", "allow_tf32": "False"}),
        "copy": Measured("copy", 0.0015, traffic=3 * 10**9),
    }
    result = Result(ON_GPU["expression_f32"], measured)
    assert block(result).splitlines()[-2:] == [
        "  graphc / copy: 1.33 x, at most 1.18 x: missed (75 % of copy bandwidth, which is 2000 GB/s)",
        "  graphc.cpu / graphc: 25 x, at least 20 x: met",
    ]
    assert markdown([result], "cuda").splitlines()[2].endswith(
        "5 x 10^7, f32 | 2 ms | torch 1 ms | 0.5 x | - | 75 % of copy | 25 x | 1 s | 250 ms |"
    )
    assert libraries([result]) == "graphc: numba-cuda 1.0\ntorch: torch 2.0, allow_tf32 False"
    tiny = Result(ON_GPU["tiny_step"], {"graphc": Measured("graphc", 20e-6)})
    assert block(tiny).splitlines()[-1] == "  graphc: 20 us, below 15 us: missed"
