"""The command: ``python -m benchmarks [names...]``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.device import NoDeviceError, card
from benchmarks.harness import Settings, measure
from benchmarks.report import as_json, block, libraries, machine, markdown, startup_block
from benchmarks.startup import NAME, TITLE, measure_startup
from benchmarks.workload import IMPLEMENTATIONS, TARGETS
from benchmarks.workloads import BY_TARGET


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for and print it; what a library cannot do is shown, and is no failure of the command."""
    parser = _parser()
    options = parser.parse_args(argv)
    workloads = BY_TARGET[options.target]
    titles = {name: workload.title for name, workload in workloads.items()}
    titles |= {NAME: TITLE} if options.target == "cpu" else {}
    if options.list:
        print("\n".join(f"{name:20}{title}" for name, title in titles.items()))
        return 0
    asked = options.names or list(titles)
    if others := [name for name in asked if name not in titles]:
        parser.error(f"not measured with --target {options.target}: {', '.join(others)}")
    known = [name for name, each in IMPLEMENTATIONS.items() if options.target in each.measured]
    only = [name for name in options.only.split(",") if name in known] if options.only else known
    settings = Settings(options.threads, rounds=options.rounds, target=options.target)
    if options.quick:
        settings = dataclasses.replace(settings, quick=True, rounds=2, seconds=0.02, pause=0.0, time_out=120.0)
    try:
        on = card() if options.target == "cuda" else {}
    except NoDeviceError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 1
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, {options.threads} threads used, Python {facts['python']}")
    if on:
        print(", ".join([on["card"], *(f"{name} {on[name]}" for name in on if name != "card"), facts["date"]]))
    print("trial sizes: these times say nothing\n" if options.quick else "")
    results, startup = [], []
    for name in dict.fromkeys(asked):
        if name == NAME:
            startup = measure_startup(only, settings, _say)
            text = startup_block(startup)
        else:
            results.append(measure(workloads[name], only, settings, _say))
            text = block(results[-1])
        _say("")
        print(text + "\n", flush=True)
        if options.json:  # after every workload: a run takes long
            Path(options.json).write_text(json.dumps(as_json(results, startup, settings, on), indent=1) + "\n")
    if on:
        print(libraries(results) + "\n")
    if results:
        print(markdown(results, options.target))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time graphc and its peers on the same work, results checked first. Without names: everything.",
    )
    every = [*dict.fromkeys(name for workloads in BY_TARGET.values() for name in workloads), NAME]
    parser.add_argument("names", nargs="*", choices=[*every, []], metavar="name", help="see --list")
    parser.add_argument("--target", choices=TARGETS, default="cpu", help="what graphc compiles for (default cpu)")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of every library (default 2)")
    parser.add_argument("--only", metavar="A,B", help=f"these implementations: {', '.join(IMPLEMENTATIONS)}")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="turns of every implementation (default 9)")
    parser.add_argument("--quick", action="store_true", help="tiny data and few rounds: does it run at all?")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    return parser


def _say(text: str) -> None:
    """Progress, on a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
