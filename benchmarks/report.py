"""Results as text: a block for every workload, a Markdown table of them all, and JSON."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Measured, Result, Settings
from benchmarks.startup import LIMITS, Startup, exceeded

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
    ratio, best = result.ratio(result.best), result.best
    if ratio is not None and best is not None and workload.target is not None:
        lines.append(
            f"  {best.implementation} / graphc: {factor(ratio)}, at least {workload.target:g} x: "
            f"{met(ratio >= workload.target)}"
        )
    for name, limit in workload.at_most.items():
        other = result.ratio(result.measured.get(name))
        if other:
            lines.append(f"  graphc / {name}: {factor(1 / other)}, at most {limit:g} x: {met(1 / other <= limit)}")
    if result.forward and result.joint and workload.cost_limit:
        cost = result.joint / result.forward
        lines.append(
            f"  forward and adjoint / forward: {factor(cost)} ({seconds(result.joint)} / {seconds(result.forward)}), "
            f"at most {workload.cost_limit:g} x: {met(cost <= workload.cost_limit)}"
        )
    return lines


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


def markdown(results: Iterable[Result]) -> str:
    """The table for the README."""
    rows = [
        ["workload", "graphc", "best peer", "ratio", "at least", "first call", "warm start", "peak memory", "adjoint"],
        ["---", *["---:"] * 8],
    ]
    for result in results:
        own = result.measured.get("graphc") or Measured("graphc")
        best, workload = result.best, result.workload
        target = NOTHING if workload.target is None else f"{workload.target:g} x"
        cost = result.joint / result.forward if result.joint and result.forward else None
        rows.append(
            [
                workload.title,
                "failed" if own.failure else seconds(own.step),
                f"{best.implementation} {seconds(best.step)}" if best else NOTHING,
                factor(result.ratio(best)),
                target,
                seconds(own.first_call),
                seconds(own.warm_start),
                mebibytes(own.memory),
                factor(cost),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def as_json(results: Iterable[Result], startup: Sequence[Startup], settings: Settings) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "machine": machine(),
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
