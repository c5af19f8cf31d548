"""The benchmarks of a GPU without one: graphc in the simulator, peers on a CPU, cuBLAS by a stand-in. No timing."""

import ctypes
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_benchmarks import check, command, run

from benchmarks.harness import Measured, Result
from benchmarks.process import environment
from benchmarks.report import block, libraries, markdown
from benchmarks.workload import IMPLEMENTATIONS
from benchmarks.workloads import BY_TARGET, WORKLOADS

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


@pytest.mark.full
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
