"""The process of one implementation of one workload: builds it, then runs it whenever the harness says so.

Requests and answers are lines of JSON on standard input and output. What libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import IMPLEMENTATIONS, REFERENCE, Run, at_once, driver
from benchmarks.workloads import BY_TARGET
from benchmarks.workloads.tanh_network import DIGITS

BATCH_SECONDS = 0.02  # steps are timed in batches of about this length, so that the clock costs nothing


class Session:
    """What a worker does, one method a request."""

    def __init__(self, workload: str, implementation: str, quick: bool, target: str) -> None:
        self._workload = {**BY_TARGET[target], DIGITS.name: DIGITS}[workload]
        self._implementation, self._target = implementation, target
        self._quick = quick
        self._run: Run | None = None
        self._batch = 1

    def build(self, results: str) -> dict[str, Any]:
        """Import, make the data, build and take the first step; write what it returned to a file."""
        began = time.perf_counter()
        driver(self._implementation)
        imported = time.perf_counter() - began
        data = self._workload.arrays(self._quick)
        before = peak_memory()
        began = time.perf_counter()
        self._run = self._workload.build(self._implementation, data, self._target)
        first = self._run.step()
        self._run.wait(first)
        first_call = time.perf_counter() - began
        save(results, self._run.read(first))
        return {
            "import": imported,
            "first_call": first_call,
            "memory_before": before,
            "memory": peak_memory(),
            "traffic": self._run.traffic,
        }

    def reference(self, results: str) -> dict[str, Any]:
        """The same by NumPy in float64, written to a file."""
        data = self._workload.arrays(self._quick)
        wide = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in data.items()}
        run = self._workload.build(REFERENCE, wide)
        save(results, run.read(run.step()))
        return {}

    def time(self, seconds: float) -> dict[str, Any]:
        """Seconds per step, batch by batch, for about so long."""
        assert self._run is not None
        times, self._batch = timed(self._run.step, seconds, self._batch, self._run.wait)
        return {"times": [each / self._run.steps for each in times], "memory": peak_memory()}

    def cost(self, rounds: int, seconds: float) -> dict[str, Any]:
        """Medians of seconds for forward alone and for forward with adjoint, in turns."""
        assert self._run is not None and self._run.cost is not None
        steps = self._run.cost()
        for step in steps:
            step()
        batches = [1, 1]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for k, step in enumerate(steps):
                found, batches[k] = timed(step, seconds, batches[k])
                times[k].append(float(np.median(found)))
        return {"forward": float(np.median(times[0])), "joint": float(np.median(times[1]))}

    def versions(self) -> dict[str, Any]:
        """Of the library and of what it stands on, and what it was told."""
        package = IMPLEMENTATIONS[self._implementation].package
        below = ("numpy", "numba", "numba-cuda", "nvidia-cublas")
        names = {"sklearn": "scikit-learn", "nvmath": "nvmath-python"}.get(package, package), *below
        state = getattr(driver(self._implementation), "state", dict)
        return {**{name: _version(name) for name in names}, **state()}


def save(path: str, results: Mapping[str, Any]) -> None:
    """Write arrays by name."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in results.items()}
    np.savez(path, **arrays)


def timed(
    step: Callable[[], Any], seconds: float, batch: int, wait: Callable[[Any], Any] = at_once
) -> tuple[list[float], int]:
    """Seconds per call, batch by batch, and how many calls a batch should have; batches are waited for."""
    gc.collect()
    wait(step())  # untimed: brings data and threads back
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(batch):
            result = step()
        wait(result)
        each = (time.perf_counter() - began) / batch
        if batch * each < BATCH_SECONDS / 2 and seconds >= BATCH_SECONDS:
            batch = min(4 * batch, max(batch + 1, int(BATCH_SECONDS / each)))  # too short to be counted
        else:
            times.append(each)
    return times, batch


def peak_memory() -> int:
    """The most bytes that this process ever held; 0 where the system does not tell."""
    # ru_maxrss would do but for what it inherits: on Linux, that of the process that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(found[0]) if found else 0
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return ""


def main(workload: str, implementation: str, quick: str, target: str) -> None:
    """Serve requests until the harness closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session(workload, implementation, quick == "quick", target)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Exception as error:  # whatever a library raises is an answer too
            text = str(error).strip() or "no message"
            answer = {"error": f"{type(error).__name__}: {text}", "traceback": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
