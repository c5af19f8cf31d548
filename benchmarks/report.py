"""Results as text: a block for every workload, a Markdown table of them all, and JSON."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Measured, Result, Settings
from benchmarks.startup import LIMITS, Startup, exceeded
from benchmarks.workload import FLOORS

NOTHING = "-"


def block(result: Result) -> str:
    """A workload and all its implementations."""
    workload = result.workload
    head = ["", "step", "/ graphc", "first call", "warm start", "peak memory", ""]
    rows = [
        [
            each.implementation,
            seconds(each.step),
            factor(result.ratio(each)),
            seconds(each.first_call),
            seconds(each.warm_start),
            mebibytes(each.memory),
            note(result, each),
        ]
        for each in sorted(result.measured.values(), key=lambda each: (not each.usable, each.step or math.inf))
    ]
    return "\n".join([f"{workload.name}: {workload.title}", *columns([head, *rows]), *verdicts(result)])


def note(result: Result, each: Measured) -> str:
    """Why an implementation does not count, or how."""
    if each.failure:
        return "failed: " + shorter(each.failure)
    if each is result.best:
        return "best peer"
    counts = each.implementation == "graphc" or result.workload.is_peer(each.implementation)
    return "" if counts else "shown beside"


def verdicts(result: Result) -> list[str]:
    """The target, limits and the gradient's cost, each with what was reached."""
    workload, lines = result.workload, []
    ratio, best, own = result.ratio(result.best), result.best, result.measured.get("graphc")
    if workload.step_limit is not None and own is not None and own.usable and own.step is not None:
        verdict = met(own.step < workload.step_limit)
        lines.append(f"  graphc: {seconds(own.step)}, below {seconds(workload.step_limit)}: {verdict}")
    if ratio is not None and best is not None and workload.target is not None:
        lines.append(
            f"  {best.implementation} / graphc: {factor(ratio)}, at least {workload.target:g} x: "
            f"{met(ratio >= workload.target)}"
        )
    for name, limit in workload.at_most.items():
        other = result.ratio(result.measured.get(name))
        if other:
            verdict = met(1 / other <= limit) + bandwidth(result, name)
            lines.append(f"  graphc / {name}: {factor(1 / other)}, at most {limit:.3g} x: {verdict}")
    for name, least in workload.at_least.items():
        other = result.ratio(result.measured.get(name))
        if other:
            lines.append(f"  {name} / graphc: {factor(other)}, at least {least:g} x: {met(other >= least)}")
    if result.forward and result.joint and workload.cost_limit:
        cost = result.joint / result.forward
        lines.append(
            f"  forward and adjoint / forward: {factor(cost)} ({seconds(result.joint)} / {seconds(result.forward)}), "
            f"at most {workload.cost_limit:g} x: {met(cost <= workload.cost_limit)}"
        )
    return lines


def bandwidth(result: Result, name: str) -> str:
    """What a copy reads and writes in a second, and how much of that graphc reaches; empty for what is no copy."""
    copy = result.measured[name]
    share = result.ratio(copy)
    if not copy.traffic or not copy.step or share is None:
        return ""
    return f" ({100 * share:.3g} % of copy bandwidth, which is {copy.traffic / copy.step / 1e9:.4g} GB/s)"


def startup_block(lines: Sequence[Startup]) -> str:
    """The start-up times."""
    head = ["", "", "seconds", "whole process", ""]
    rows = [
        [line.what, line.implementation, seconds(line.seconds), seconds(line.process), shorter(line.failure)]
        for line in lines
    ]
    found = []
    for limit in LIMITS:
        pair = exceeded(limit, lines)
        if pair:
            over = f" over {limit.over[0]} {limit.over[1]}" if limit.over else ""
            verdict = met(pair[0] <= pair[1])
            found.append(f"  graphc, {limit.what}: {seconds(pair[0])}, at most {limit.at_most:g} s{over}: {verdict}")
    return "\n".join(["startup", *columns([head, *rows]), *found])


def markdown(results: Iterable[Result], target: str = "cpu") -> str:
    """The table for the README."""
    names, cells = zip(*COLUMNS[target], strict=True)
    rows = [["workload", *names], ["---", *["---:"] * len(names)]]
    rows += [[result.workload.title, *(cell(result) for cell in cells)] for result in results]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def libraries(results: Iterable[Result]) -> str:
    """Versions of the libraries, and what they were told."""
    lines = {
        each.implementation: ", ".join(f"{name} {value}" for name, value in each.versions.items())
        for result in results
        for each in result.measured.values()
        if each.versions
    }
    return "\n".join(f"{name}: {line}" for name, line in lines.items())


def _own(result: Result) -> Measured:
    return result.measured.get("graphc") or Measured("graphc")


def _step(result: Result) -> str:
    own = _own(result)
    return "failed" if own.failure else seconds(own.step)


def _best(result: Result) -> str:
    best = result.best
    return f"{best.implementation} {seconds(best.step)}" if best else NOTHING


def _at_least(result: Result) -> str:
    return NOTHING if result.workload.target is None else f"{result.workload.target:g} x"


def _of_floor(result: Result) -> str:
    shares = {name: result.ratio(result.measured.get(name)) for name in FLOORS}
    return ", ".join(f"{100 * share:.3g} % of {name}" for name, share in shares.items() if share is not None) or NOTHING


def _over_cpu(result: Result) -> str:
    return factor(result.ratio(result.measured.get("graphc.cpu")))


def _adjoint(result: Result) -> str:
    return factor(result.joint / result.forward if result.joint and result.forward else None)


PEERS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    ("graphc", _step),
    ("best peer", _best),
    ("ratio", lambda result: factor(result.ratio(result.best))),
    ("at least", _at_least),
)
STARTS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    ("first call", lambda result: seconds(_own(result).first_call)),
    ("warm start", lambda result: seconds(_own(result).warm_start)),
)
COLUMNS = {
    "cpu": (*PEERS, *STARTS, ("peak memory", lambda result: mebibytes(_own(result).memory)), ("adjoint", _adjoint)),
    "cuda": (*PEERS, ("of the floor", _of_floor), ("over the CPU", _over_cpu), *STARTS),
}


def as_json(
    results: Iterable[Result], startup: Sequence[Startup], settings: Settings, card: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that was measured; `card` is the GPU, empty where none was."""
    return {
        "machine": {**machine(), **card},
        "settings": dataclasses.asdict(settings),
        "workloads": [
            {
                "name": result.workload.name,
                "title": result.workload.title,
                "sizes": dict(result.workload.quick if settings.quick else result.workload.sizes),
                "target": result.workload.target,
                "ratio": result.ratio(result.best),
                "best_peer": result.best.implementation if result.best else None,
                "forward": result.forward,
                "joint": result.joint,
                "cost_limit": result.workload.cost_limit,
                "implementations": [dataclasses.asdict(each) for each in result.measured.values()],
            }
            for result in results
        ],
        "startup": [dataclasses.asdict(line) for line in startup],
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first column and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *numbers, last in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, numbers, widths[1:-1]), last]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def seconds(value: float | None) -> str:
    """A time in a unit that leaves one to three digits before the point."""
    if value is None:
        return NOTHING
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 999.5 * size else f"{value / size:.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def mebibytes(value: int | None) -> str:
    """Bytes in MiB."""
    return f"{value / 2**20:.0f} MiB" if value else NOTHING


def factor(value: float | None) -> str:
    """A ratio."""
    return NOTHING if value is None else f"{value:.3g} x" if value < 1000 else f"{value:.0f} x"


def met(holds: bool) -> str:
    """A verdict."""
    return "met" if holds else "missed"


def shorter(text: str) -> str:
    """The first line, of bearable length."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 90 else line[:87] + "..."
