"""Programs on a device without a GPU: numba-cuda's real path, on the emulated device of the folder `emulator`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulator import why_not

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def emulate(file: str, *arguments: str, memory: int = 1 << 31, devices: int = 1) -> None:
    """Run tests on the emulated device, which must be there before numba is imported."""
    options = ["-q", "-x", "--tb=short", "-o", "cache_dir=.pytest_cache/emulated", *arguments]
    command = [sys.executable, "-m", "emulator", "-m", "pytest", TESTS / file, *options]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "EMULATOR_MEMORY": str(memory)}
    environment["EMULATOR_DEVICES"] = str(devices)
    for name in ("PYTEST_XDIST_WORKER", "NUMBA_ENABLE_CUDASIM"):
        environment.pop(name, None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=TESTS.parent, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout.splitlines()[-1]


def test_the_emulated_driver() -> None:
    emulate("test_emulated_driver.py", memory=64 << 20)


# What takes the emulated device long: tried there by `-m full`.
LONG = " or ".join([
    "test_ops", "test_adjoints", "test_lanes", "sort", "factori", "halves", "integers", "sums_at",
    "shapes_than", "happens",
])  # fmt: skip


def test_programs_on_the_emulated_device() -> None:
    emulate("test_on_device.py", "-k", f"not ({LONG})")


@pytest.mark.full
def test_long_programs_on_the_emulated_device() -> None:
    emulate("test_on_device.py", "-k", f"({LONG}) and not test_ops and not test_adjoints")


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint16", "bool"])
def test_all_ops_on_the_emulated_device(dtype: str) -> None:
    emulate("test_on_device.py", "-k", f"(test_ops or test_adjoints) and {dtype}")


@pytest.mark.full
def test_what_only_a_gpu_knows() -> None:
    emulate("test_on_gpu.py", devices=2)
