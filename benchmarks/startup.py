"""Start-up in fresh processes: imports, and a training step from its declaration to the first result, cold and warm."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Settings
from benchmarks.process import ROOT, Worker, WorkerError, environment
from benchmarks.workload import IMPLEMENTATIONS
from benchmarks.workloads.tanh_network import DIGITS

NAME = "startup"
TITLE = "imports, and compile() to the first result of the digits training step, in fresh processes"
IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
# What `import graphc` leaves for later, it is measured with.
WHOLE = {"graphc": "graphc, graphc.program, graphc.trainer"}
LONG = 5.0  # seconds of a cold start that is measured once, and not several times
TRIVIAL = """
import numba, time
began = time.perf_counter()
@numba.njit(cache=True)
def add(a, b): return a + b
add(1.0, 2.0)
print(time.perf_counter() - began)
"""


@dataclass
class Startup:
    """One line: seconds inside the process, and from its start."""

    what: str
    implementation: str
    seconds: float | None = None
    process: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Limit:
    """What graphc is to stay below: its own seconds, or those over another line's."""

    what: str
    at_most: float
    over: tuple[str, str] | None = None


LIMITS = (
    Limit("import", 0.2, over=("import", "numba")),
    Limit("digits, empty cache", 3.0),
    Limit("digits, warm cache", 0.3, over=("cached @njit", "numba")),
)


def measure_startup(names: Collection[str], settings: Settings, say: Callable[[str], None]) -> list[Startup]:
    """All lines."""
    repeats = 1 if settings.quick else 5
    with tempfile.TemporaryDirectory(prefix="graphc-benchmarks-") as scratch:
        folder = Path(scratch)
        lines = _imports(names, settings, folder, repeats, say)
        script = folder / "trivial.py"
        script.write_text(TRIVIAL)
        _script([str(script)], settings, folder)  # fills the cache
        times = [_script([str(script)], settings, folder) for _ in range(repeats)]
        lines.append(_median("cached @njit", "numba", times))
        for name in DIGITS.builders:
            if name in names and importlib.util.find_spec(IMPLEMENTATIONS[name].package) is not None:
                say(f"startup: digits by {name}")
                lines += _digits(name, settings, folder, repeats)
    return lines


def exceeded(limit: Limit, lines: Sequence[Startup]) -> tuple[float, float] | None:
    """What a limit is about, and by how much it may: (found, at most)."""
    seconds = {(line.what, line.implementation): line.seconds for line in lines}
    found = seconds.get((limit.what, "graphc"))
    base = seconds.get(limit.over) if limit.over else 0.0
    return None if found is None or base is None else (found, limit.at_most + base)


def _imports(
    names: Collection[str], settings: Settings, folder: Path, repeats: int, say: Callable[[str], None]
) -> list[Startup]:
    packages = dict.fromkeys(
        ["numpy", "numba", *(IMPLEMENTATIONS[name].package for name in DIGITS.builders if name in names)]
    )
    found: dict[str, list[tuple[float, float]]] = {
        package: [] for package in packages if importlib.util.find_spec(package) is not None
    }
    for count in range(repeats + 1):  # in turns, and once to warm up the disk
        say(f"startup: imports, round {count} of {repeats}")
        for package, times in found.items():
            times.append(_script(["-c", IMPORT.format(WHOLE.get(package, package))], settings, folder))
    return [_median("import", package, times[1:]) for package, times in found.items()]


def _digits(name: str, settings: Settings, folder: Path, repeats: int) -> list[Startup]:
    cold, warm = Startup("digits, empty cache", name), Startup("digits, warm cache", name)
    times: dict[str, list[tuple[float, float]]] = {cold.what: [], warm.what: []}
    try:
        for count in range(repeats):
            for line in (cold, warm):
                worker = Worker(DIGITS.name, name, settings.quick, settings.threads, folder / f"{name}-{count}")
                try:
                    answer = worker.ask("build", settings.time_out, results=str(folder / "digits.npz"))
                    times[line.what].append((answer["first_call"], time.perf_counter() - worker.began))
                finally:
                    worker.close()
            if times[cold.what][0][0] > LONG:
                break
    except WorkerError as error:
        cold.failure = warm.failure = str(error)
        return [cold, warm]
    return [_median(line.what, name, times[line.what]) for line in (cold, warm)]


def _script(arguments: list[str], settings: Settings, folder: Path) -> tuple[float, float]:
    """What a script printed, and how long its process took."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(settings.threads, folder / "scripts"),
        capture_output=True,
        text=True,
        check=True,
        timeout=settings.time_out,
    )
    return float(done.stdout.split()[-1]), time.perf_counter() - began


def _median(what: str, implementation: str, times: list[tuple[float, float]]) -> Startup:
    inside, whole = zip(*times, strict=True)
    return Startup(what, implementation, statistics.median(inside), statistics.median(whole))
