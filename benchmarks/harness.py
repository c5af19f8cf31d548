"""Measures a workload: every implementation is built in a process of its own, checked, and timed in turns."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import Worker, WorkerError
from benchmarks.workload import IMPLEMENTATIONS, REFERENCE, Workload


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Parameters
    ----------
    threads : int
        Of every implementation.
    quick : bool
        Trial sizes.
    rounds : int
        How often every implementation gets its turn.
    seconds : float
        How long a turn is.
    pause : float
        Seconds before a turn in which the threads of the one before fall asleep.
    time_out : float
        Seconds for a build, or a turn.
    target : str
        What is measured: "cpu" or "cuda".
    """

    threads: int = 2
    quick: bool = False
    rounds: int = 9
    seconds: float = 0.4
    pause: float = 0.25
    time_out: float = 300.0
    target: str = "cpu"


@dataclass
class Measured:
    """What was found out about one implementation; times in seconds, memory in bytes."""

    implementation: str
    step: float | None = None  # the median of the rounds
    rounds: list[float] = field(default_factory=list)
    first_call: float | None = None
    warm_start: float | None = None  # the first call in a new process, with what the library cached
    import_time: float | None = None
    process_cold: float | None = None  # from the start of the process to the first result
    process_warm: float | None = None
    memory: int | None = None
    memory_before: int | None = None
    traffic: int | None = None  # bytes read and written in a step, of what does nothing else
    error: float | None = None  # the largest difference from the reference
    failure: str = ""
    details: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether it was timed, and is right."""
        return self.step is not None and not self.failure


@dataclass
class Result:
    """A row of the table."""

    workload: Workload
    measured: dict[str, Measured]
    forward: float | None = None  # seconds of graphc's forward program, and with the adjoint
    joint: float | None = None

    @property
    def best(self) -> Measured | None:
        """The fastest peer."""
        peers = [each for each in self.measured.values() if each.usable and self.workload.is_peer(each.implementation)]
        return min(peers, key=lambda each: each.step or 0.0, default=None)

    def ratio(self, other: Measured | None) -> float | None:
        """The time of another implementation over graphc's."""
        own = self.measured.get("graphc")
        if own is None or other is None or not own.usable or own.step is None or other.step is None:
            return None
        return other.step / own.step


def measure(workload: Workload, names: Iterable[str], settings: Settings, say: Callable[[str], None]) -> Result:
    """Build, check and time a workload's implementations."""
    measured = {name: Measured(name) for name in workload.builders if name in names}
    result = Result(workload, measured)
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory(prefix="graphc-benchmarks-") as scratch:
        folder = Path(scratch)
        try:
            reference = _reference(workload, settings, folder)
            for name, each in measured.items():
                say(f"{workload.name}: building {name}")
                with _recording(each):
                    workers[name] = _built(workload, each, reference, settings, folder)
                    _warm_start(workload, each, settings, folder)
            _take_turns(result, workers, settings, say)
            _gradient_cost(result, workers, settings)
        finally:
            for worker in workers.values():
                worker.close()
    return result


class _recording:
    """What fails is noted, and does not stop the others."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if not isinstance(error, WorkerError):
            return False
        self._measured.failure = self._measured.failure or str(error)
        self._measured.details = error.details
        return True


def _reference(workload: Workload, settings: Settings, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "reference.npz"
    worker = Worker(workload.name, REFERENCE, settings.quick, settings.threads, folder, settings.target)
    try:
        worker.ask("reference", settings.time_out, results=str(path))
    finally:
        worker.close()
    return _load(path)


def _built(
    workload: Workload, each: Measured, reference: dict[str, np.ndarray], settings: Settings, folder: Path
) -> Worker:
    name = each.implementation
    package = IMPLEMENTATIONS[name].package
    if importlib.util.find_spec(package) is None:
        raise WorkerError(f"{package} is not installed")
    path = folder / f"{name}.npz"
    worker = Worker(workload.name, name, settings.quick, settings.threads, folder / name, settings.target)
    answer = worker.ask("build", settings.time_out, results=str(path))
    each.process_cold = time.perf_counter() - worker.began
    each.import_time, each.first_call = answer["import"], answer["first_call"]
    each.memory, each.memory_before = answer["memory"], answer["memory_before"]
    each.traffic = answer["traffic"] or None
    each.versions = {key: value for key, value in worker.ask("versions", settings.time_out).items() if value}
    each.error, each.failure = compare(_load(path), reference, workload.tolerance)
    return worker


def _warm_start(workload: Workload, each: Measured, settings: Settings, folder: Path) -> None:
    name = each.implementation
    worker = Worker(workload.name, name, settings.quick, settings.threads, folder / name, settings.target)
    try:
        answer = worker.ask("build", settings.time_out, results=str(folder / "warm.npz"))
        each.process_warm = time.perf_counter() - worker.began
        each.warm_start = answer["first_call"]
    finally:
        worker.close()


def _take_turns(
    result: Result, workers: dict[str, Worker], settings: Settings, say: Callable[[str], None]
) -> None:
    measured, title = result.measured, result.workload.name
    for count in range(settings.rounds):
        say(f"{title}: round {count + 1} of {settings.rounds}")
        # Every other round runs backwards, so that nobody always follows the same neighbour.
        for name in list(workers)[:: 1 if count % 2 == 0 else -1]:
            each = measured[name]
            if each.failure:
                continue
            time.sleep(settings.pause)
            with _recording(each):
                answer = workers[name].ask("time", settings.time_out, seconds=settings.seconds)
                each.rounds.append(statistics.median(answer["times"]))
                each.memory = answer["memory"]
    for each in measured.values():
        if each.rounds:
            each.step = statistics.median(each.rounds)


def _gradient_cost(result: Result, workers: dict[str, Worker], settings: Settings) -> None:
    own = result.measured.get("graphc")
    if own is None or own.failure or result.workload.cost_limit is None:
        return
    with _recording(own):
        answer = workers["graphc"].ask("cost", settings.time_out, rounds=settings.rounds, seconds=settings.seconds / 2)
        result.forward, result.joint = answer["forward"], answer["joint"]


def compare(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], tolerance: float) -> tuple[float, str]:
    """The largest error, and a complaint where it is too large; an implementation without results is not checked."""
    worst, at = 0.0, ""
    for name, array in found.items():
        expected = reference.get(name, np.empty(0))
        if np.shape(expected) != np.shape(array):
            return np.inf, f"{name} has shape {np.shape(array)}, expected {np.shape(expected)}"
        scale = np.max(np.abs(expected), initial=np.finfo(float).tiny)
        error = float(np.max(np.abs(array - expected), initial=0.0) / scale)
        if not error <= worst:  # NaN too
            worst, at = error, name
    missing = [name for name in reference if found and name not in found and name != "loss"]
    if missing:
        return np.inf, f"{', '.join(missing)} is missing"
    return worst, "" if worst <= tolerance else f"wrong: {at} is off by {worst:.1e} of its largest element"


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)
